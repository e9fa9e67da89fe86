"""Lake.sql: a view a kind over one snapshot, and nothing that a SELECT should not reach."""

import _thread
import signal
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from lake import Lake, sql_engine
from lake.errors import LakeError, TooMuch
from market.kinds import KINDS
from market.times import DAY
from tests.support.hostile_sql import HOSTILE, fingerprint, spelt
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, trade


def build(root: Path) -> TestLake:
    lake = TestLake(root / "it's a lake")
    lake.day("trade", [trade(T0 + n, "10.5", "2", seq=n) for n in (1, 2)])
    lake.part("trade", [trade(T0 + 5, "9", "1", seq=5), trade(T0 + 5, "9", "1", seq=5, symbol="ETHUSDT")])
    lake.part("trade", [trade(T0 + DAY, "11", "1", seq=n) for n in (3, 4)])
    lake.part("trade", [trade(T0 + DAY, "11", "1", seq=n, session="n-2-1", ts_recv=T0) for n in (4, 6)])
    lake.gap(T0 + 2, T0 + 3, id_from=7, id_to=9)
    lake.cover(T0, T0 + DAY)
    return lake


@pytest.fixture
def made(tmp_path):
    held = build(tmp_path)
    yield held
    held.close()


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    held = build(tmp_path_factory.mktemp("unharmed"))
    before = fingerprint(held.root)
    with Lake(held.root) as opened:
        yield held, opened
    assert fingerprint(held.root) == before
    held.close()


@pytest.fixture
def lake(made):
    with Lake(made.root) as opened:
        yield opened


def test_a_view_holds_what_a_read_gives(made, lake):
    made.day("bar_1m", bar_table([trade(T0, "10", "1", seq=1)]))
    made.part("quote", [quote(T0, "1", "2", update_id=None, frame_no=n) for n in (1, 2)])
    made.part("quote", [quote(T0, "1", "2", update_id=None, frame_no=n) for n in (2, 3)])
    for kind, order in (("trade", "symbol, seq"), ("bar_1m", "window_start"), ("quote", "frame_no")):
        answer = lake.sql(f"SELECT * FROM {kind} ORDER BY {order}")
        read = lake.read(kind)
        assert answer.schema.names == read.schema.names
        assert (
            answer.column("ts_event").cast(pa.int64()).to_pylist()
            == read.column("ts_event").cast(pa.int64()).to_pylist()
        )
        for name in ("session", "ts_estimated", "symbol", "source"):
            assert answer.column(name).to_pylist() == read.column(name).to_pylist(), (kind, name)
    one = lake.sql("SELECT seq, session FROM trade WHERE symbol = 'BTCUSDT' ORDER BY seq")
    assert one.column("seq").to_pylist() == [1, 2, 3, 4, 6]


def test_every_kind_has_a_view_even_without_a_file(lake):
    for kind in KINDS:
        if kind != "trade":
            assert lake.sql(f"SELECT * FROM {kind}").num_rows == 0
    assert lake.sql("SELECT price, side FROM book_delta_levels").num_rows == 0


def test_kinds_join_with_gaps_coverage_and_files(lake):
    assert lake.sql("SELECT id_to - id_from AS missing FROM gaps").to_pylist() == [{"missing": 2}]
    assert lake.sql("SELECT count(*) AS n FROM coverage JOIN trade USING (symbol)").to_pylist()[0]["n"] == 5
    assert lake.sql("SELECT sum(rows)::INT AS n FROM files WHERE level = 'day'").to_pylist() == [{"n": 2}]
    assert lake.sql("SELECT * FROM certificates").num_rows == 0
    assert lake.sql("SELECT sum(qty_quote) AS q FROM trade WHERE seq < 3").to_pylist() == [{"q": 42.0}]


def test_an_answer_can_be_written_in_any_format(lake):
    row = lake.sql(
        "SELECT sum(seq), sum(seq) AS \"sum(seq)\", INTERVAL '1 month 2 days' AS i, 'a'::BLOB AS b, now() AS t, "
        "170141183460469231731687303715884105727 AS wide FROM trade"
    )
    assert [str(field.type) for field in row.schema] == [
        "int64", "int64", "string", "string", "timestamp[us, tz=UTC]", "decimal128(38, 0)"
    ]  # fmt: skip
    assert list(row.to_pylist()[0])[:4] == ["sum(seq)", "sum(seq)_", "i", "b"]
    assert [row[2][0].as_py(), row[3][0].as_py()] == ["1 months 2 days", "61"]
    infinite = lake.sql("SELECT 'infinity'::TIMESTAMPTZ, '-infinity'::TIMESTAMP, 'infinity'::DATE, '2024-07-19'::DATE")
    assert [str(value) for value in infinite.to_pylist()[0].values()] == ["None", "None", "None", "2024-07-19"]


def test_all_ways_to_write_one_select_are_taken(lake):
    for query in (
        "FROM trade",
        "WITH a AS (SELECT * FROM trade) SELECT count(*) FROM a",
        "SELECT max(seq) FROM trade;",
        "DESCRIBE trade",
        "SHOW TABLES",
    ):
        assert lake.sql(query).num_rows >= 1, query


@pytest.mark.parametrize("query", HOSTILE, ids=lambda query: query[:40])
def test_nothing_but_reading_the_lake_is_possible(unharmed, query):
    made, lake = unharmed
    with pytest.raises(LakeError):
        lake.sql(spelt(query, made.root, made.writer.manifest.files("trade")[0].path))


def test_an_answer_has_at_most_so_many_rows_and_takes_so_long(lake):
    assert lake.sql("FROM range(1000000000000)", limit=5).num_rows == 5
    assert lake.sql("FROM trade", limit=100).num_rows == 6
    with pytest.raises(TooMuch, match=r"longer than 0.05 s"):
        lake.sql("SELECT count(*) FROM range(1000000) a, range(1000000) b", timeout=0.05)
    assert lake.sql("SELECT 1 AS one").num_rows == 1, "the connection is as good as before"


LONG = "SELECT count(*) FROM range(100000000000)"


def test_ctrl_c_ends_a_query_and_is_no_other_error(lake, monkeypatch):
    begun = threading.Event()
    fetched = sql_engine._fetched

    def beginning(*arguments):
        begun.set()
        return fetched(*arguments)

    def press():
        begun.wait()
        _thread.interrupt_main()

    monkeypatch.setattr(sql_engine, "_fetched", beginning)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that waits for nobody ignores it
    presses = threading.Thread(target=press)
    presses.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            lake.sql(LONG, timeout=120)
    finally:
        signal.signal(signal.SIGINT, before)
        presses.join()
    assert lake.sql("SELECT 1 AS a").to_pylist() == [{"a": 1}], "the next one is answered"


def test_ctrl_c_at_the_moment_a_query_begins_leaves_none_that_runs_on(lake, monkeypatch):
    begun, ended = threading.Event(), threading.Event()
    fetched, start = sql_engine._fetched, threading.Thread.start

    def fetching(*arguments):
        begun.set()
        try:
            return fetched(*arguments)
        finally:
            ended.set()

    def pressed(thread):
        start(thread)
        if not isinstance(thread, threading.Timer):
            begun.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr(sql_engine, "_fetched", fetching)
    with monkeypatch.context() as pressing:
        pressing.setattr(threading.Thread, "start", pressed)
        with pytest.raises(KeyboardInterrupt):
            lake.sql(LONG, timeout=120)
    assert ended.is_set()
    assert lake.sql("SELECT 1 AS a").to_pylist() == [{"a": 1}], "the next one is answered"


def test_a_mistake_is_explained_with_the_names_there_are(lake):
    with pytest.raises(LakeError, match="trades does not exist"):
        lake.sql("SELECT * FROM trades")
    with pytest.raises(LakeError, match="views: trade"):
        lake.sql("SELECT * FROM trades")
    with pytest.raises(LakeError, match=r'Candidate bindings: "price".*\n\nLINE 1: SELECT prise FROM trade\n {15}\^$'):
        lake.sql("SELECT prise FROM trade")


def test_only_files_of_the_kinds_that_are_named_are_opened(made, lake):
    gone = made.part("quote", [quote(T0, "1", "2")])
    Path(made.root / gone.path).unlink()
    assert lake.sql("SELECT count(*) AS n FROM trade").to_pylist() == [{"n": 6}]


def test_a_query_whose_files_were_replaced_meanwhile_is_asked_of_a_new_snapshot(made, lake):
    gathered, asked = lake._sql._gathered, []

    def replaced(scans, version, *more):
        held = gathered(scans, version, *more)
        if not asked:
            rows = [trade(T0 + DAY, "11", "1", seq=n) for n in (3, 4)]
            parts = [file for file in held.files if file.level == "part"]
            made.day("trade", rows, remove=[file.path for file in parts])
            for file in parts:
                (made.root / file.path).unlink()
        asked.append(version)
        return held

    lake._sql._gathered = replaced
    assert lake.sql("SELECT seq FROM trade ORDER BY seq")["seq"].to_pylist() == [1, 2, 3, 4]
    assert len(asked) == 2
    gone = made.writer.manifest.files("trade")[0]
    (made.root / gone.path).unlink()
    with pytest.raises(LakeError, match="missing"):
        lake.sql("SELECT seq FROM trade")


def test_what_is_remembered_of_a_question_ends_with_the_next_change(made, lake):
    assert lake.sql("SELECT count(*) AS n FROM trade").to_pylist() == [{"n": 6}]
    made.part("trade", [trade(T0 + 2 * DAY, "11", "1", seq=9)])
    assert lake.sql("SELECT count(*) AS n FROM trade").to_pylist() == [{"n": 7}]
    assert lake.sql("SELECT count(*) AS n FROM trade").to_pylist() == [{"n": 7}]
