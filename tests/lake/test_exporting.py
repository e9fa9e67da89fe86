"""Files of a lake for other programs: in order of arrival, whole books where they belong, nothing of it held whole."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from lake import Lake, arrivals, exporting
from lake.arrivals import Arrived, Stream, by_arrival
from lake.errors import WrongQuestion
from market.times import DAY, HOUR, SECOND, Interval
from tests.support.book_rows import delta, whole
from tests.support.book_rows import table as books
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, trade

BIDS, ASKS = [("100.0", "1"), ("99.5", "2")], [("100.5", "1"), ("101.0", "2")]
TRADES = Stream("trade", "binance", "linear", "BTCUSDT")


@pytest.fixture
def lake(tmp_path):
    held = TestLake(tmp_path / "lake")
    yield held
    held.close()


def named(exchange, market_type, symbol):
    return f"{exchange}-{market_type}"


def made(lake, folder, form, what, **asked):
    with Lake(lake.root) as held:
        tasks = exporting.plan(held, form, [what], None, None, asked.get("symbols", []), asked.get("span"), named)
        return [exporting.export(held, task, form, folder) for task in tasks]


def held(one):
    return Path(one.path).read_bytes()


def text(one):
    data = held(one)
    return (gzip.decompress(data) if one.path.endswith(".gz") else data).decode()


@pytest.mark.parametrize("rows", [3, 100_000])
def test_rows_come_as_they_arrived_whatever_the_slices(lake, monkeypatch, rows):
    monkeypatch.setattr(arrivals, "SLICE_ROWS", rows)
    late = {3: 4 * HOUR, 7: 30 * HOUR, 11: 500}
    rows_of = [trade(T0 + n * HOUR, "1", "1", n + 1, ts_recv=T0 + n * HOUR + late.get(n, 1000)) for n in range(24)]
    lake.day("trade", rows_of[:20])
    lake.part("trade", [trade(T0 + DAY + n, "1", "1", 100 + n, ts_recv=T0 + DAY - 5 * HOUR + n) for n in range(3)])
    counts = Arrived()
    with Lake(lake.root) as held:
        found = list(by_arrival(held, TRADES, Interval(T0, T0 + 2 * DAY), counts))
    ids = pl.concat(found)["seq"].to_list()
    wanted = sorted(
        [*rows_of[:20], *(trade(T0 + DAY + n, "1", "1", 100 + n, ts_recv=T0 + DAY - 5 * HOUR + n) for n in range(3))],
        key=lambda row: row["ts_recv"],
    )
    assert ids == [row["seq"] for row in wanted]
    assert (counts.rows, counts.disordered, counts.unheard) == (23, 0, 0)
    assert len(found) > 1 if rows == 3 else len(found) <= 3


def test_memory_has_an_end_and_what_comes_too_late_is_counted(lake, monkeypatch):
    monkeypatch.setattr(arrivals, "MOST_HELD", 4)
    rows = [trade(T0 + n * HOUR, "1", "1", n + 1, ts_recv=T0 + n * HOUR) for n in range(20)]
    rows.append(trade(T0 + 20 * HOUR, "1", "1", 21, ts_recv=T0 - HOUR))
    lake.day("trade", rows)
    counts = Arrived()
    slices = [Interval(T0 + n * HOUR, T0 + (n + 1) * HOUR) for n in range(24)]
    monkeypatch.setattr(arrivals, "slices", lambda *_: slices)
    with Lake(lake.root) as held:
        found = pl.concat(list(by_arrival(held, TRADES, Interval(T0, T0 + DAY), counts)))
    assert (found.height, counts.disordered, found["seq"][-1]) == (21, 1, 21)


def test_what_was_fetched_later_arrives_at_its_own_time(lake, tmp_path):
    came = [("ws", 5), ("rest", 900 * DAY), ("import", 9), ("rest", SECOND), ("ws", 90 * SECOND)]
    rows = [
        trade(T0 + n * SECOND, "1", "1", n + 1, source=source, ts_recv=T0 + n * SECOND + wait)
        for n, (source, wait) in enumerate(came)
    ]
    lake.day("trade", rows)
    (one,) = made(lake, tmp_path / "out", "tardis-csv", "trades")
    local = [int(line.split(",")[3]) - T0 for line in text(one).splitlines()[1:]]
    assert local == [5, SECOND, 2 * SECOND, 4 * SECOND, 94 * SECOND]
    assert (one.rows, one.unheard, one.left_out) == (5, 2, 0)


def test_a_book_begins_whole_and_goes_on_where_its_ids_join(lake, tmp_path):
    lake.day("book_delta", books([
        delta(T0, 9, [("1", "1")]),
        whole(T0 + SECOND, 10, BIDS, ASKS),
        delta(T0 + 2 * SECOND, 11, [("100.0", "0")]),
        delta(T0 + 3 * SECOND, 15, [("99", "7")], prev=14),
        whole(T0 + 4 * SECOND, 20, [("98", "1")], [("99", "2")]),
        whole(T0 + 5 * SECOND, 21, [("98", "1")], [("99.5", "2")]),
        delta(T0 + 6 * SECOND, 22, [], [("99.5", "3")]),
    ]))  # fmt: skip
    (one,) = made(lake, tmp_path / "out", "tardis-csv", "incremental_book_L2")
    told = [line.split(",", 3)[3].split(",", 1)[1] for line in text(one).splitlines()[1:]]
    assert told == [
        "true,bid,100,1", "true,bid,99.5,2", "true,ask,100.5,1", "true,ask,101,2", "false,bid,100,0",
        "true,bid,98,1", "true,ask,99,2", "false,ask,99,0", "false,ask,99.5,2", "false,ask,99.5,3",
    ]  # fmt: skip
    assert (one.rows, one.left_out) == (10, 2), "9 comes before any book, 15 behind missing ones"
    (best,) = made(lake, tmp_path / "out", "tardis-csv", "book_snapshot_1")
    assert [line.split(",", 4)[4] for line in text(best).splitlines()[1:]] == [
        "100.5,1,100,1", "100.5,1,99.5,2", "99,2,98,1", "99.5,2,98,1", "99.5,3,98,1",
    ]  # fmt: skip


@pytest.mark.parametrize("closed", [False, True])
def test_a_second_day_opens_with_the_book_of_the_first(lake, tmp_path, closed):
    lake.day("book_delta", books([whole(T0, 10, BIDS, ASKS)]))
    lake.cover(T0, T0 + 2 * DAY, kind="book_delta")
    carried = whole(T0 + DAY, 10, BIDS, ASKS, flags="carried", source="derived")
    following = delta(T0 + DAY + SECOND, 11, [("99.5", "0")])
    if closed:
        lake.day("book_delta", books([carried, following]))
    else:
        lake.part("book_delta", books([following]))
    found = made(lake, tmp_path / "out", "tardis-csv", "incremental_book_L2")
    told = [line.split(",")[2:] for line in text(found[1]).splitlines()[1:]]
    assert [row[2:] for row in told] == [
        ["true", "bid", "100", "1"], ["true", "bid", "99.5", "2"], ["true", "ask", "100.5", "1"],
        ["true", "ask", "101", "2"], ["false", "bid", "99.5", "0"],
    ]  # fmt: skip
    assert told[0][:2] == [str(T0 + DAY)] * 2


def test_files_are_the_same_bytes_again_and_only_of_what_is_asked_for(lake, tmp_path):
    lake.day("trade", [trade(T0, "1.10", "1", 1)])
    lake.day("trade", [trade(T0 + DAY, "1", "1", 2, symbol="ETHUSDT")], symbol="ETHUSDT")
    first, second = (made(lake, tmp_path / name, "tardis-csv", "trades") for name in ("a", "b"))
    assert [held(a) for a in first] == [held(b) for b in second]
    assert [one.path.rpartition("/")[2] for one in first] == [
        "binance-linear_trades_2024-07-19_BTCUSDT.csv.gz", "binance-linear_trades_2024-07-20_ETHUSDT.csv.gz",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [one.path.rpartition("/")[2] for one in first]
    assert [one.symbol for one in made(lake, tmp_path / "a", "tardis-csv", "trades", symbols=["ETHUSDT"])] == [
        "ETHUSDT"
    ]
    assert made(lake, tmp_path / "a", "tardis-csv", "trades", span=Interval(T0 - DAY, T0)) == []


def test_our_own_tables_in_three_forms(lake, tmp_path):
    lake.day("trade", [trade(T0 + n, "1.10", "1", n + 1) for n in range(3)])
    lake.day("book_delta", books([whole(T0, 10, BIDS, ASKS)]))
    ((csv,), (lines,), (parquet,)) = (made(lake, tmp_path, form, "trade") for form in ("csv", "jsonl", "parquet"))
    assert text(csv).splitlines()[0].startswith("exchange,market_type,symbol,date,ts_event")
    assert [json.loads(line)["seq"] for line in text(lines).splitlines()] == [1, 2, 3]
    assert pl.read_parquet(parquet.path)["price"].to_list() == [1.1] * 3
    assert {csv.rows, lines.rows, parquet.rows} == {3}
    nothing = Interval(T0 + SECOND, T0 + 2 * SECOND)
    empty = [made(lake, tmp_path / "none", form, "trade", span=nothing)[0] for form in ("csv", "parquet")]
    assert (text(empty[0]).count("\n"), pl.read_parquet(empty[1].path).height) == (1, 0)
    (book,) = made(lake, tmp_path, "jsonl", "book_delta")
    assert json.loads(text(book))["bids"][0] == {"price": 100.0, "qty": 1.0}
    with pytest.raises(WrongQuestion, match="use parquet or jsonl"):
        made(lake, tmp_path, "csv", "book_delta")
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_two_symbols_of_one_file_name_are_refused(lake, tmp_path):
    for symbol in ("BTC/USD", "BTC-USD"):
        lake.day("trade", [trade(T0, "1", "1", 1, symbol=symbol)], symbol=symbol)
    with pytest.raises(WrongQuestion, match="would both be"):
        made(lake, tmp_path, "tardis-csv", "trades")


def test_open_interest_is_told_among_the_marks_and_behind_them(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "SLICE_ROWS", 2)
    left = ("price", "qty", "seq", "side", "qty_unit", "multiplier", "condition")
    base = {name: value for name, value in trade(T0, "1", "1", 1).items() if name not in left}
    marks = [base | {"ts_event": T0 + n * HOUR, "ts_recv": T0 + n * HOUR, "mark": f"1{n}"} for n in (1, 9, 17)]
    held = [
        base | {"ts_event": T0 + n * HOUR, "ts_recv": T0 + n * HOUR, "oi": f"{n}", "oi_unit": "base", "sides": 1}
        for n in (4, 5, 20, 23)
    ]
    lake.day("mark_price", marks, symbol=None)
    lake.day("open_interest", [held[0], held[0] | {"period": "5m", "oi": "99", "frame_no": 2}, *held[1:]], symbol=None)
    (one,) = made(lake, tmp_path, "tardis-csv", "derivative_ticker")
    told = [line.split(",") for line in text(one).splitlines()[1:]]
    assert [(row[7], row[10]) for row in told] == [
        ("", "11"), ("4", ""), ("5", ""), ("5", "19"), ("5", "117"), ("20", ""), ("23", ""),
    ]  # fmt: skip
    assert [row[3] for row in told] == sorted(row[3] for row in told)
