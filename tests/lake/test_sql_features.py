"""Feature sets in SQL: `features.<set>`, in this process and in the sandbox, whatever they and columns are called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from features import Put, put
from lake import Lake
from lake.errors import CorruptFile, WrongQuestion
from lake.feature_rows import FeatureRow
from lake.sandbox import Sandbox
from lake.sql_features import Part, Table, catalog, select
from lake.sql_plan import Planner
from market.times import DAY, MINUTE
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

Ask = Callable[[str], pa.Table]
MARKET = {"exchange": "binance", "market_type": "linear"}


def values(
    made: TestLake, name: str, symbol: str = "BTCUSDT", start: int = T0, version: str = "1.0.0", **columns
) -> FeatureRow:
    times = pl.Series("ts_event", [start + n * MINUTE for n in range(3)], pl.Datetime("us", "UTC"))
    frame = pl.DataFrame([times, *(pl.Series(column, held) for column, held in columns.items())])
    asked = Put(**MARKET, symbol=symbol, feature_set=name, version=version, delay=MINUTE)
    return put(made.writer, frame, asked, T0 + 9 * DAY).rows[0]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TestLake]:
    lake = TestLake(tmp_path / "it's a lake")
    rows = [trade(T0 + n * MINUTE, str(100 + n), "1", seq=n + 1) for n in range(4)]
    lake.day("bar_1m", bar_table(rows))
    yield lake
    lake.close()


@pytest.fixture(params=["lake", "sandbox"])
def ask(request: pytest.FixtureRequest, made: TestLake) -> Iterator[Ask]:
    """A query asked of the lake as it is then, here or in a process of its own."""

    if request.param == "lake":
        with Lake(made.root) as lake:
            yield lake.sql
    else:
        with contextlib.ExitStack() as opened:
            # its first process is started for the folders that there are when it is first asked
            sandbox = cache(lambda: opened.enter_context(Sandbox(made.root)))
            yield lambda query: sandbox().ask(query).table


def test_a_set_is_a_view_of_its_current_versions(made: TestLake, ask: Ask) -> None:
    values(made, "momentum", x=[1.0, 2.0, 3.0])
    values(made, "momentum", version="1.0.1", x=[1.5, 2.5, 3.5])
    values(made, "momentum", "ETHUSDT", x=[7.0, 8.0, None])
    rows = ask("FROM features.momentum ORDER BY symbol, ts_event")
    assert rows.column_names == ["exchange", "market_type", "symbol", "version", "ts_event", "known_at", "x"]
    assert rows.column("x").to_pylist() == [1.5, 2.5, 3.5, 7.0, 8.0, None]
    assert set(rows.column("version").to_pylist()[:3]) == {"1.0.1"}
    known = ask("SELECT DISTINCT known_at - ts_event AS late FROM features.momentum").to_pylist()
    assert known == [{"late": "60 s"}]
    with Lake(made.root) as lake:
        held = lake.features.read("momentum", symbol="BTCUSDT")
    mine = ask("SELECT ts_event, known_at, x FROM features.momentum WHERE symbol = 'BTCUSDT' ORDER BY ts_event")
    assert mine.to_pylist() == held.to_pylist()


def test_what_was_known_at_each_bar_is_a_join(made: TestLake, ask: Ask) -> None:
    values(made, "momentum", x=[1.0, 2.0, 3.0])
    rows = ask(
        "SELECT b.close, m.x FROM bar_1m b ASOF LEFT JOIN features.momentum m ON b.exchange = m.exchange "
        "AND b.market_type = m.market_type AND b.symbol = m.symbol AND b.window_start >= m.known_at ORDER BY 1"
    )
    assert rows.column("x").to_pylist() == [None, 1.0, 2.0, 3.0]
    with Lake(made.root) as lake:
        joined = lake.features.join("momentum", "bar_1m", symbol="BTCUSDT")
    assert joined.column("momentum__x").to_pylist() == rows.column("x").to_pylist()


def test_names_and_columns_may_be_anything(made: TestLake, ask: Ask) -> None:
    odd = {
        'say "hi"': [1, 2, 3],
        "Symbol": ["a", "b", "c"],
        "it's; DROP": [True, False, None],
        "Version": [1, 2, 3],
        "date": [4, 5, 6],
    }
    values(made, "on-chain_1h", **odd)
    rows = ask('FROM features."on-chain_1h" ORDER BY ts_event')
    assert rows.column_names[6:] == ['say "hi"', "Symbol_", "it's; DROP", "Version_", "date"]
    assert [rows.column(place).to_pylist() for place in range(6, 11)] == list(odd.values())
    assert rows.column("symbol").to_pylist() == ["BTCUSDT"] * 3


def test_symbols_whose_columns_differ_are_put_together(made: TestLake, ask: Ask) -> None:
    values(made, "mixed", "A", whole=[1, 2, 3], same=[1.0, 2.0, 3.0])
    values(made, "mixed", "B", whole=[0.5, 1.5, 2.5], word=["x", "y", "z"])
    values(made, "mixed", "C", whole=[1, 1, 1], word=[1, 2, 3])
    rows = ask("FROM features.mixed ORDER BY symbol, ts_event")
    assert rows.column("whole").to_pylist() == [1.0, 2.0, 3.0, 0.5, 1.5, 2.5, 1.0, 1.0, 1.0]
    assert rows.column("same").to_pylist() == [1.0, 2.0, 3.0] + [None] * 6
    assert rows.column("word").to_pylist() == [None] * 3 + ["x", "y", "z", "1", "2", "3"]


def test_sets_are_listed_described_and_named_in_a_mistake(made: TestLake, ask: Ask) -> None:
    values(made, "momentum", x=[1.0, 2.0, 3.0])
    listed = ask("SELECT schema_name, view_name FROM duckdb_views() WHERE schema_name = 'features'").to_pylist()
    assert listed == [{"schema_name": "features", "view_name": "momentum"}]
    assert ask("DESCRIBE features.momentum").column("column_name").to_pylist()[-1] == "x"
    with pytest.raises(WrongQuestion) as wrong:
        ask("FROM features.momentun")
    assert "features.momentum" in wrong.value.hint
    values(made, "momentum", version="1.1.0", x=[9.0, 9.0, 9.0], y=[1, 1, 1])
    assert ask("SELECT max(x) AS x, max(y) AS y FROM features.momentum").to_pylist() == [{"x": 9.0, "y": 1}]


def test_only_the_files_of_the_symbol_and_time_are_opened(made: TestLake, ask: Ask) -> None:
    values(made, "momentum", x=[1.0, 2.0, 3.0])
    other = values(made, "momentum", "ETHUSDT", x=[1.0, 2.0, 3.0])
    later = values(made, "momentum", "XRPUSDT", start=T0 + DAY, x=[1.0, 2.0, 3.0])
    for row in (other, later):
        path = made.root / row.path
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    one = "SELECT sum(x) AS x FROM features.momentum WHERE symbol = 'BTCUSDT'"
    assert ask(one).to_pylist() == [{"x": 6.0}]
    soon = "ts_event < TIMESTAMPTZ '2024-07-19 00:01:00+00'"
    early = f"SELECT x FROM features.momentum WHERE symbol IN ('BTCUSDT', 'XRPUSDT') AND {soon}"
    assert ask(early).to_pylist() == [{"x": 1.0}]
    with pytest.raises(CorruptFile):
        ask("FROM features.momentum")


def test_without_sets_there_is_no_schema(made: TestLake, ask: Ask) -> None:
    with pytest.raises(WrongQuestion, match="features"):
        ask("FROM features.momentum")
    assert ask("SELECT 1 AS features").to_pylist() == [{"features": 1}]


REACHING = (
    "FROM read_parquet('{path}')", "FROM '{path}'", "CREATE TABLE features.x AS SELECT 1",
    "DROP SCHEMA features CASCADE", "INSERT INTO features.momentum SELECT 1",
    "FROM glob('{root}/features/**')", "FROM read_text('{path}')",
)  # fmt: skip


def test_nothing_else_is_reached_by_it(made: TestLake, ask: Ask) -> None:
    row = values(made, "momentum", x=[1.0, 2.0, 3.0])
    path, root = (str(one).replace("'", "''") for one in (f"{made.root}/{row.path}", made.root))

    def refused(query: str) -> bool:
        try:
            ask(f"{query.format(path=path, root=root)} -- features")
        except WrongQuestion:
            return True
        return False

    assert [query for query in REACHING if not refused(query)] == []
    assert ask("SELECT count(*) AS n FROM features.momentum").to_pylist() == [{"n": 3}]


def test_a_name_cannot_leave_its_quotes() -> None:
    """Names are checked where sets are put in; a manifest of somebody else's may hold others."""
    name = 'm" AS SELECT 1; CREATE TABLE x(a INT); --'
    part = Part("a'b.parquet", "e'x", "spot", "s'", "1.0.0", ("v",))
    table = Table(name, (('v"w', 'v"w', "DOUBLE"),), (part,))
    assert "'/root''s/a''b.parquet'" in select(table, "/root's/")
    assert (
        Planner()
        .learn((Table(name, (("v", "v", "DOUBLE"),)),))
        .scans('FROM features."m"" AS SELECT 1; CREATE TABLE x(a INT); --"')
    )
    assert catalog([]) == ()
