"""Gaps hide bars of what these were made from, and of nothing else, whichever way they are read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from api.app import create
from api.config import ServeConfig
from api.state import Served
from compactor.deleting import Deletion, Planned, delete, plan
from lake import Lake, completeness
from lake.rows import FileRow
from lake.sandbox import Sandbox
from lake.tables import Parent
from market.times import DAY, MINUTE
from tests.support.asgi import Asgi
from tests.support.clock import ManualClock
from tests.support.lakes import STREAM, TestLake, bar_table
from tests.support.market_rows import T0, trade

Bars = list[tuple[str, int, float | None, bool]]
"""(symbol, minute, close, gap)"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TestLake]:
    lake = TestLake(tmp_path / "lake")
    yield lake
    lake.close()


def minutes(symbol: str, count: int = 4, start: int = T0) -> list[dict]:
    return [trade(start + n * MINUTE, str(100 + n), "1", seq=n + 1, symbol=symbol) for n in range(count)]


def bars(made: TestLake, symbol: str, rows: list[dict], source: FileRow, kind: str = "bar_1m") -> FileRow:
    """Bars of a day that say what they were made of."""
    return made.day(kind, bar_table(rows), symbol=symbol, parents=(Parent(source.path, source.sha256),))


def told(table: pa.Table) -> Bars:
    names = ("symbol", "window_start", "close", "gap")
    rows = [tuple(row[name] for name in names) for row in table.select(names).to_pylist()]
    return sorted((s, int((at.timestamp() * 1_000_000 - T0) // MINUTE), close, gap) for s, at, close, gap in rows)


def ways(root: Path) -> Iterator[tuple[str, Callable[[int], pa.Table]]]:
    """Every way of reading bars of a width in minutes; SQL's own view has those of one minute."""
    with Lake(root) as lake:
        yield "read", lambda width: lake.read(f"bar_{width}m")
        yield "a symbol", lambda width: pa.concat_tables(
            [lake.read(f"bar_{width}m", symbol=symbol) for symbol in ("A", "B", "C")], promote_options="permissive"
        )  # fmt: skip
        yield "bars", lambda width: lake.bars(f"{width}m")
        yield "scan", lambda width: lake.scan(f"bar_{width}m").collect().to_arrow()
        yield "batches", lambda width: lake.batches(f"bar_{width}m").read_all()
        macro = " UNION ALL ".join(f"FROM bars('{{0}} minutes', 'binance', '{symbol}')" for symbol in "ABC")
        view = "SELECT symbol, window_start, close, gap FROM bar_1m"
        yield "SQL", lambda width: lake.sql(view if width == 1 else macro.format(width))
        yield "the macro", lambda width: lake.sql(macro.format(width))
        with Sandbox(root) as sandbox:
            yield "the sandbox", lambda width: sandbox.ask(view if width == 1 else macro.format(width)).table


async def rest(root: Path, width: int) -> pa.Table:
    served = Served(root, ServeConfig(), ManualClock(T0 + 9 * DAY))
    try:
        answer = await Asgi(create(served)).get("/api/v1/bars", interval=f"{width}m", format="arrow")
        assert answer.status == 200, answer.body
        return pa.ipc.open_stream(io.BytesIO(answer.body)).read_all()
    finally:
        served.close()


async def everywhere(root: Path, wanted: Bars, width: int = 1) -> None:
    for name, ask in ways(root):
        assert told(ask(width)) == wanted, name
    assert told(await rest(root, width)) == wanted


def shown(symbol: str, *hidden: int, count: int = 4) -> Bars:
    return [(symbol, n, None if n in hidden else 100.0 + n, n in hidden) for n in range(count)]


async def test_a_gap_of_every_symbol_hides_the_bars_that_were_made_from_its_kind(made: TestLake) -> None:
    """A has both kinds, B aggregated trades only, C was traded only."""
    for symbol, kinds in (("A", ("trade", "agg_trade")), ("B", ("agg_trade",)), ("C", ("trade",))):
        for kind in kinds:
            made.cover(T0, T0 + DAY, symbol, kind)
        bars(made, symbol, minutes(symbol), made.day(kinds[0], minutes(symbol), symbol=symbol))
    made.gap(T0 + MINUTE, T0 + MINUTE + 1, symbol="*", kind="agg_trade", gap_id="1")
    made.gap(T0 + 3 * MINUTE, T0 + 3 * MINUTE + 1, symbol="*", gap_id="2")
    await everywhere(made.root, [*shown("A", 3), *shown("B", 1), *shown("C", 3)])
    wide = [("A", 0, 101.0, False), ("A", 2, None, True), ("B", 0, None, True), ("B", 2, 103.0, False),
            ("C", 0, 101.0, False), ("C", 2, None, True)]  # fmt: skip
    await everywhere(made.root, wide, 2)
    with Lake(made.root) as lake:
        for symbol, kind in (("A", "trade"), ("B", "agg_trade")):
            answer = lake.read("bar_1m", symbol=symbol, fill="empty", start=T0, end=T0 + 4 * MINUTE)
            assert [gap.kind for gap in completeness.of(answer).gaps] == [kind]
            assert [gap.kind for gap in lake.gaps(kind="bar_1m", symbol=symbol)] == [kind]
            (one,) = lake.coverage(kind="bar_1m", symbol=symbol)
            assert one.missing == 1
        holes = lake.sql("SELECT symbol, since, until FROM bar_holes ORDER BY ALL").column("symbol").to_pylist()
        assert holes == ["A", "B", "C"]


async def test_trades_that_never_came_hide_no_bars_of_aggregated_ones(made: TestLake) -> None:
    made.cover(T0, T0 + DAY, "B", "agg_trade")
    bars(made, "B", minutes("B"), made.day("agg_trade", minutes("B"), symbol="B"))
    made.gap(T0, None, symbol="B")
    await everywhere(made.root, shown("B"))
    made.cover(T0, T0 + MINUTE, "B")
    await everywhere(made.root, shown("B", 0, 1, 2, 3))


async def test_a_hole_without_a_bar_hides_what_is_folded_over_it(made: TestLake) -> None:
    """Two of four minutes are missing altogether: no stored bar says so."""
    made.cover(T0, T0 + DAY, "A")
    rows = minutes("A")[::3]
    bars(made, "A", rows, made.day("trade", rows, symbol="A"))
    made.gap(T0 + MINUTE, T0 + 2 * MINUTE, symbol="*")
    await everywhere(made.root, [("A", 0, None, True)], 4)


def remove(made: TestLake, kind: str, symbol: str = "A") -> None:
    of = {**STREAM, "kind": kind, "symbol": symbol}
    with made.writer.manifest.snapshot() as now:
        going: Planned = plan(now, *of.values())
    delete(made.writer, Deletion(**of, digest=going.digest), T0 + 9 * DAY)


@pytest.fixture
def two_days(made: TestLake) -> TestLake:
    made.cover(T0, T0 + 2 * DAY, "A")
    for start in (T0, T0 + DAY):
        rows = [one for n, one in enumerate(minutes("A", start=start)) if n != 2]
        source = made.day("trade", rows, symbol="A")
        bars(made, "A", rows, source)
        made.day("bar_1s", bar_table(rows, 1_000_000), symbol="A", parents=(Parent(source.path, source.sha256),))
    return made


DAYS = [("A", start + n, 100.0 + n, False) for start in (0, 1440) for n in (0, 1, 3)]


async def test_bars_stay_when_the_trades_they_were_made_of_are_deleted(two_days: TestLake) -> None:
    await everywhere(two_days.root, DAYS)
    remove(two_days, "trade")
    await everywhere(two_days.root, DAYS)
    await everywhere(two_days.root, [("A", 0, 103.0, False), ("A", 1440, 103.0, False)], 5)
    asked = {"symbol": "A", "start": T0, "end": T0 + 4 * MINUTE}
    with Lake(two_days.root) as lake:
        answer = lake.read("bar_1m", fill="empty", **asked)
        assert answer.column("trade_count").to_pylist() == [1, 1, 0, 1], "nothing was traded in that minute"
        assert [gap.cause for gap in completeness.of(answer).gaps] == ["deleted"], "and that is said"
        assert [one.cause for one in lake.gaps(kind="bar_1m", state="all")] == ["deleted", "deleted"]
        (bar,) = lake.coverage(kind="bar_1m", **asked)
        (of,) = lake.coverage(kind="trade", **asked)
        assert (bar.complete, bar.missing, of.complete, of.deleted > 0) == (True, 0, False, True)
        assert lake.sql("FROM bar_holes").num_rows == 0


async def test_bars_that_were_deleted_as_well_are_missing(two_days: TestLake) -> None:
    remove(two_days, "trade")
    remove(two_days, "bar_1m")
    await everywhere(two_days.root, [])
    with Lake(two_days.root) as lake:
        filled = lake.read("bar_1m", symbol="A", fill="empty", start=T0, end=T0 + 4 * MINUTE).to_pylist()
        assert [(row["trade_count"], row["gap"]) for row in filled] == [(None, True)] * 4, "nothing is invented"
        assert lake.bars("1s", symbol="A").column("close").to_pylist() == [100.0, 101.0, 103.0] * 2, "those are there"
        (told,) = lake.coverage(kind="bar_1m", symbol="A", start=T0, end=T0 + 4 * MINUTE)
        assert (told.complete, told.deleted) == (False, 4 * MINUTE)


async def test_deleted_bars_are_missing_though_their_trades_stay(two_days: TestLake) -> None:
    """That there is no bar of a minute would say that nothing was traded in it."""
    remove(two_days, "bar_1m")
    rows = minutes("A", start=T0 + 2 * DAY)
    two_days.cover(T0 + 2 * DAY, T0 + 3 * DAY, "A")
    bars(two_days, "A", rows, two_days.day("trade", rows, symbol="A"))
    await everywhere(two_days.root, [("A", 2880 + n, 100.0 + n, False) for n in range(4)])
    await everywhere(two_days.root, [("A", 2880, 103.0, False)], 1440)
    asked = {"symbol": "A", "start": T0 + DAY, "end": T0 + DAY + 4 * MINUTE}
    with Lake(two_days.root) as lake:
        for kind in ("bar_1m", "bar_2m"):
            answer = lake.read(kind, fill="empty", **asked)
            assert {(row["trade_count"], row["gap"]) for row in answer.to_pylist()} == {(None, True)}
            assert [(gap.kind, gap.cause) for gap in completeness.of(answer).gaps] == [("bar_1m", "deleted")]
        assert [gap.cause for gap in completeness.of(lake.read("bar_1m", symbol="A")).gaps] == ["deleted"] * 2
        (week,) = lake.bars("1w", symbol="A").to_pylist()
        assert (week["gap"], week["close"]) == (True, None), "one with those two days in it"
        weeks = lake.sql("FROM bars('7 days', 'binance', 'A')").to_pylist()
        assert [(row["gap"], row["close"]) for row in weeks] == [(True, None)]
        there = lake.read("bar_1s", fill="empty", **asked)
        assert (there.column("trade_count").null_count, completeness.of(there).gaps) == (0, ())
        told = {kind: lake.coverage(kind=kind, **asked)[0] for kind in ("bar_1s", "bar_1m", "trade")}
        assert [one.complete for one in told.values()] == [True, False, True]
        assert told["bar_1m"].deleted == 4 * MINUTE
        assert [gap.kind for gap in lake.gaps(kind="bar_1m", state="all")] == ["bar_1m"] * 2
        assert lake.gaps(kind="bar_1s", state="all") == []
        holes = lake.sql("SELECT symbol, ts_from, ts_to FROM bar_holes").to_pylist()
        assert holes == [{"symbol": "A", "ts_from": T0, "ts_to": T0 + 2 * DAY}]


async def test_bars_of_what_is_left_or_came_again_are_told_to_have_a_hole(two_days: TestLake) -> None:
    """They were made after the deletion, of other rows."""
    remove(two_days, "trade")
    old = [row.path for row in two_days.writer.manifest.files("bar_1m")]
    rows = minutes("A")[:1]
    source = two_days.day("trade", rows, symbol="A", revision=1)
    made = bar_table(rows)
    two_days.day("bar_1m", made, "A", old[:1], revision=1, parents=(Parent(source.path, source.sha256),))
    await everywhere(two_days.root, [("A", 0, None, True), *DAYS[3:]])
