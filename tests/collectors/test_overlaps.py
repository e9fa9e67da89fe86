"""What is imported beside what the lake has: one event by its ids, nothing doubled, and the differences said."""

import pytest

from collectors.files.importing import request_of, take_in
from collectors.files.reading import Options
from lake.law_rows import ours, rows_of
from lake.overlaps import covered, of_symbol
from lake.reader import Lake
from lake.rows import SessionRow
from lake.writer import LakeWriter
from market.session import Coverage
from market.times import DAY, MINUTE, parse
from runtime.workers import InlineExecutor
from tests.support.book_rows import delta, whole
from tests.support.book_rows import table as books
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, quote, table, trade

NOW = parse("2026-11-20T12:00:00Z")
MARKET = {"exchange": "binance", "market_type": "linear"}
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
QUOTES = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"


@pytest.fixture
def root(tmp_path):
    """Ten trades without the sixth, ten quotes and a book, all of a covered day but for a gap."""
    held = TestLake(tmp_path / "lake")
    held.day("trade", [trade(T0 + n * 1000, "10", "1", n + 1) for n in range(10) if n != 5])
    held.day("quote", [quote(T0 + n * 1000, "9", "11", n + 1) for n in range(10)])
    held.day("book_delta", books([whole(T0, 10, [("9", "1")], [("11", "1")]), delta(T0 + 5, 11, [("9", "2")])]))
    for kind in ("trade", "quote", "book_delta"):
        held.cover(T0, T0 + DAY, kind=kind)
    held.gap(T0 + 4_000, T0 + 6_000, kind="quote")
    held.close()
    return held.root


def take(root, text, again=False, **options):
    file = root.parent / "a.csv"
    file.write_text(text)
    with LakeWriter.open(root, "node", NOW) as writer:
        request = request_of(file, Options(**MARKET | options), again=again)
        said = take_in(writer, InlineExecutor(), "node", NOW, request, lambda *_: None)
        return said, writer.manifest.checks()


def lines(form, count, start=0):
    return "".join(form.format(at=T0 + n * 1000, n=n + 1) for n in range(start, count))


def test_rows_of_one_id_are_one_and_how_they_differ_is_said(root):
    text = TRADES + lines("bf,BTCUSDT,{at},1,{n},buy,10,1\n", 12, 2).replace(",4,buy,10,", ",4,sell,11,")
    said, checks = take(root, text, kind="trade")
    [found] = said.overlaps
    assert (found.both, found.different, found.only_there, found.only_here) == (7, 1, 3, 0)
    assert found.example == "seq 4: price 10.0 here, 11.0 in the file; side buy here, sell in the file"
    assert [(one.check, one.count, one.detail) for one in checks] == [("differs", 1, found.example)]
    with Lake(root) as lake:
        assert lake.read("trade").num_rows == 9, "the day as it was, until it is merged"


def test_what_only_the_lake_has_is_counted_within_the_time_of_the_file(root):
    said, _ = take(
        root, TRADES + lines("bf,BTCUSDT,{at},1,{n},buy,10,1\n", 9, 7).replace(",8,buy", ",80,buy"), kind="trade"
    )
    [found] = said.overlaps
    assert (found.both, found.only_here, found.only_there) == (1, 1, 1)


def test_candles_are_the_same_by_their_width_and_time(root):
    text = "time,open,high,low,close\n" + "".join(f"{T0 // 10**6 + n * 60},1,2,1,2\n" for n in range(5))
    first, _ = take(root, text, symbol="BTCUSDT")
    assert first.overlaps == []
    second, _ = take(root, text.replace(",1,2\n", ",1,1\n", 1), symbol="BTCUSDT")
    [found] = second.overlaps
    assert (found.both, found.different, found.only_here, found.only_there) == (5, 1, 0, 0)
    assert found.example.startswith("interval 1m open_time 2024-07-19 00:00:00")
    assert found.example.endswith("close 2.0 here, 1.0 in the file")
    wider, _ = take(root, text, symbol="BTCUSDT", interval="5m", again=True)
    assert wider.overlaps == []


def test_without_an_overlap_there_is_nothing_to_say(root):
    said, _ = take(root, TRADES + f"bf,BTCUSDT,{T0 + 3 * DAY},1,900,buy,10,1\n", kind="trade")
    assert said.overlaps == []


def test_quotes_without_ids_fill_gaps_and_double_nothing(root):
    text = QUOTES + lines("bf,BTCUSDT,{at},1,2,11,9,1\n", 10) + f"bf,BTCUSDT,{T0 + DAY},1,2,11,9,1\n"
    said, _ = take(root, text)
    assert (said.rows, said.covered, said.duplicates, said.quarantined) == (2, 9, 0, 0), "a gap begins with a quote"
    again, _ = take(root, text + f"bf,BTCUSDT,{T0 + 2 * DAY},1,2,11,9,1\n")
    assert (again.rows, again.covered) == (1, 11), "what another file brought is covered, in the gap of capture too"


def test_what_is_covered_ends_with_an_event_of_a_stream_and_holds_for_every_symbol(root):
    held = TestLake(root)
    market = ("binance", "linear", "liquidation")
    for number, (source, symbol) in enumerate((("ws", "*"), ("rest", "ETHUSDT"))):
        row = SessionRow(session=f"n-9-{number}", exchange="binance", market_type="linear", source=source, url="",
                         opened_at=T0)  # fmt: skip
        held.writer.record_sessions([row])
        at = T0 + number * MINUTE
        held.writer.record_coverage([Coverage(*market, symbol, row.session, at, at + 10)])
    held.gap(T0 + 3, T0 + 6, symbol="BTCUSDT", kind="liquidation")
    held.gap(T0 + 7, T0 + 8, symbol="BTCUSDT", kind="liquidation", proof="counted", cause="shed")
    held.gap(T0, T0 + 20, symbol="XRPUSDT", kind="liquidation", proof="counted")
    spans = covered(held.writer.manifest, *market, [], files=True)
    held.close()
    told = {symbol: [(a - T0, b - T0) for a, b in of_symbol(spans, symbol)] for symbol in ("BTCUSDT", "XRPUSDT", "X")}
    assert told == {"BTCUSDT": [(0, 4), (6, 7), (8, 11)], "XRPUSDT": [], "X": [(0, 11)]}
    assert [b - a for a, b in of_symbol(spans, "ETHUSDT")] == [11, 10]


def test_a_file_that_is_wanted_again_is_weighed_against_what_was_collected(root):
    text = QUOTES + f"bf,BTCUSDT,{T0 + DAY},1,2,11,9,1\n" + f"bf,BTCUSDT,{T0 + 1000},1,2,11,9,1\n"
    first, _ = take(root, text)
    assert (first.rows, first.covered) == (1, 1)
    second, _ = take(root, text.replace(",9,1", ",9,3"))
    assert (second.rows, second.covered) == (0, 2)
    third, _ = take(root, text.replace(",9,1", ",9,4"), again=True)
    assert (third.rows, third.covered) == (1, 1)


def test_books_without_ids_are_not_mixed_with_others(root):
    text = BOOK + f"bf,BTCUSDT,{T0},{T0},true,bid,9,1\nbf,BTCUSDT,{T0 + 5},{T0 + 5},false,bid,9,2\n"
    said, _ = take(root, text)
    assert (said.rows, said.covered, said.filled.parts) == (0, 2, [])
    with Lake(root) as lake:
        assert lake.read("book_delta").num_rows == 2
    said, _ = take(root, text, exchange="binancetardis")
    assert (said.rows, said.added, said.filled) == (3, 1, None)


def test_best_levels_without_ids_fill_what_is_open(root):
    names = "asks[0].price,asks[0].amount,bids[0].price,bids[0].amount"
    text = f"exchange,symbol,timestamp,local_timestamp,{names}\n"
    text += "".join(f"bf,BTCUSDT,{T0 + n * MINUTE},{T0 + n * MINUTE},11,1,9,1\n" for n in range(10))
    held = TestLake(root)
    held.cover(T0, T0 + 4 * MINUTE, kind="book_snapshot")
    held.cover(T0 + 6 * MINUTE, T0 + 9 * MINUTE, kind="book_snapshot")
    held.close()
    said, _ = take(root, text)
    assert (said.kind, said.rows, said.covered) == ("book_snapshot", 3, 7)


def test_rows_that_a_file_of_ours_brought_are_no_lines_of_raw():
    rows = [trade(T0, "1", "1", 1), trade(T0, "1", "1", 2, session="f-1-1"), trade(T0, "1", "1", 3, source="import")]
    kept = ours(rows_of(table("trade", rows), "trade"), frozenset({"f-1-1"}))
    assert kept["seq"].to_list() == [1]
