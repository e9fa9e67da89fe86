"""The forms of tardis.dev: a row of ours becomes a line, a line of a spreadsheet's reader that very row again."""

import csv
import io
import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import tardis
from lake.tardis_books import Change, Top, change_lines, difference, top_line
from market.book import Book
from market.times import parse
from tests.support import tardis as samples
from tests.support.market_rows import T0, quote, table, trade

HEADERS = {
    "trades": "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
    "liquidations": "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
    "quotes": "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
    "book_ticker": "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
    "incremental_book_L2": "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
    "derivative_ticker": "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,"
    "predicted_funding_rate,open_interest,last_price,index_price,mark_price",
    "book_snapshot_2": "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,"
    "bids[0].amount,asks[1].price,asks[1].amount,bids[1].price,bids[1].amount",
}
"""As the vendor's page of data types has them."""


def rows(kind, held, local=0):
    return pl.DataFrame(table(kind, held)).with_columns(
        (pl.col("ts_event").cast(pl.Int64) + local).alias(tardis.LOCAL), pl.col("ts_estimated").fill_null(value=False)
    )


def lines(name, frame):
    of = tardis.data_type(name)
    text = tardis.header_line(of) + tardis.csv_lines(tardis.columns(of, "binance-futures", frame))
    return list(csv.DictReader(io.StringIO(text.decode())))


@pytest.mark.parametrize("name", HEADERS)
def test_columns_are_those_of_the_data_sets(name):
    assert tardis.header_line(tardis.data_type(name)).decode() == HEADERS[name] + "\n"


def test_what_is_no_data_type_is_none():
    assert [tardis.data_type(name) for name in ("options_chain", "book_snapshot_0", "book_snapshot_1001", "")] == [
        None
    ] * 4


def test_a_file_is_named_as_the_vendors_clients_name_it():
    made = tardis.file_name("deribit", "trades", "2019-11-01", "BTC-PERPETUAL")
    assert made == "deribit_trades_2019-11-01_BTC-PERPETUAL.csv.gz"
    assert tardis.file_name("kraken", "quotes", "2019-11-01", "BTC/usd").endswith("_BTC-USD.csv.gz")
    assert "/" not in tardis.file_name("x", "trades", "2019-11-01", "../../etc").removeprefix("x_trades_2019-11-01_")


numbers = st.decimals(min_value=0, max_value=10**12, places=8).map(lambda value: format(value, "f"))
ids = st.text("abcXYZ019-_,\"'=+@ ", max_size=12)
trades = st.builds(
    lambda at, price, qty, side, number, name: trade(
        T0 + at, price, qty, number, side=side, trade_id=None if number else name
    ),
    st.integers(0, 10**10), numbers, numbers, st.sampled_from(["buy", "sell", None]),
    st.one_of(st.none(), st.integers(1, 2**62)), ids,
)  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(st.lists(trades, min_size=1, max_size=5))
def test_a_trade_becomes_a_line_and_the_line_that_trade(held):
    for row, line in zip(held, lines("trades", rows("trade", held, local=7)), strict=True):
        name = str(row["seq"]) if row["seq"] else row["trade_id"]
        safe = f"'{name}" if name[:1] in ("=", "+", "-", "@") and name else name
        assert (line["exchange"], line["symbol"], line["id"]) == ("binance-futures", "BTCUSDT", safe)
        assert (int(line["timestamp"]), int(line["local_timestamp"])) == (row["ts_event"], row["ts_event"] + 7)
        assert line["side"] == (row["side"] or "unknown")
        assert (Decimal(line["price"]), Decimal(line["amount"])) == (Decimal(row["price"]), Decimal(row["qty"]))
        assert "e" not in (line["price"] + line["amount"]).lower()


def test_what_was_no_trade_of_the_market_is_left_out():
    held = [trade(T0 + n, "1", "1", n + 1, condition=name) for n, name in enumerate(("market", "adl", "void", "rpi"))]
    assert [line["id"] for line in lines("trades", rows("trade", held))] == ["1", "4"]


def test_a_time_that_the_venue_did_not_give_is_that_of_the_arrival():
    (line,) = lines("quotes", rows("quote", [quote(T0, "1.5", "2", ts_estimated=True, bid_qty=None)], local=9))
    assert (line["timestamp"], line["local_timestamp"]) == (str(T0 + 9),) * 2
    assert [line[name] for name in ("ask_amount", "ask_price", "bid_price", "bid_amount")] == ["2", "2", "1.5", ""]


@pytest.mark.parametrize(
    "name, kind, held, wanted",
    [
        ("trades", "trade", trade(T0 + 1_000, "61130.980", "0.00000145", 5, side=None),
         {"type": "trade", "id": "5", "side": "unknown", "price": 61130.98, "amount": 0.00000145}),
        ("book_ticker", "quote", quote(T0 + 1_000, "1", "2.50", ask_qty=None),
         {"type": "book_ticker", "bidPrice": 1, "bidAmount": 1, "askPrice": 2.5}),
        ("trades", "trade", trade(T0 + 1_000, "1", "1", None, trade_id='a"\\b'),
         {"type": "trade", "id": 'a"\\b', "side": "buy", "price": 1, "amount": 1}),
    ],
)  # fmt: skip
def test_a_message_says_what_is_known_and_nothing_else(name, kind, held, wanted):
    of = tardis.data_type(name)
    ((at, message),) = tardis.messages(of, tardis.columns(of, "binance", rows(kind, [held], local=1_234)))
    stamps = {"timestamp": "2024-07-19T00:00:00.001Z", "localTimestamp": "2024-07-19T00:00:00.002234Z"}
    assert (at, json.loads(message)) == (T0 + 2_234, {"exchange": "binance", "symbol": "BTCUSDT", **stamps, **wanted})
    assert tardis.iso(T0 + 2_234) == stamps["localTimestamp"]


def test_open_interest_stands_among_the_marks_and_is_told_beside_the_next_ones():
    mark = {"mark": "10", "index": "11", "predicted_rate": "-0.0001", "next_funding": T0 + 5}
    base = {key: value for key, value in trade(T0, "1", "1", 1).items() if key not in
            ("price", "qty", "seq", "side", "qty_unit", "multiplier", "condition")}  # fmt: skip
    marks = rows("mark_price", [base | mark | {"ts_event": T0 + n} for n in (1, 3)])
    held = rows(
        "open_interest", [base | {"oi": "7.5", "oi_unit": "base", "sides": 1, "ts_event": T0 + n} for n in (2, 9)]
    )
    of = tardis.data_type("derivative_ticker")
    both, rest = tardis.joined(tardis.columns(of, "x", marks), tardis.open_interest("x", held), T0 + 3, None)
    told = [[row[3] - T0, *row[4:6], row[7], *row[9:]] for row in both.iter_rows()]
    assert told == [
        [1, T0 + 5, "-0.0001", None, "11", "10"], [2, None, None, "7.5", None, None],
        [3, T0 + 5, "-0.0001", "7.5", "11", "10"],
    ]  # fmt: skip
    assert rest.height == 1
    first = json.loads(tardis.messages(of, both)[0][1])
    assert (first["type"], first["fundingTimestamp"], first["markPrice"], "openInterest" in first) == (
        "derivative_ticker", "2024-07-19T00:00:00.000005Z", 10, False,
    )  # fmt: skip


levels = st.lists(st.tuples(st.integers(1, 30).map(lambda n: f"{n / 4:g}"), st.integers(0, 3).map(str)), max_size=6)


def distinct(side):
    return list(dict(side).items())


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.booleans(), levels, levels), min_size=1, max_size=8))
def test_the_best_levels_are_those_of_the_plain_book(steps):
    plain, top = Book(), Top(3)
    before = ([], [])
    for n, (whole, bids, asks) in enumerate(steps):
        change = Change(n, n, whole, distinct(bids), distinct(asks))
        if whole:
            plain.clear()
        plain.apply(change.bids, change.asks)
        changed = top.take(change)
        assert top.shown == tuple(plain.top(3))
        assert changed == (top.shown != before)
        before = top.shown


@settings(deadline=None, max_examples=20)
@given(st.tuples(levels, levels, levels, levels))
def test_a_second_whole_book_is_told_as_what_turns_the_first_into_it(sides):
    bids, asks, new_bids, new_asks = ([(p, q) for p, q in distinct(side) if q != "0"] for side in sides)
    first, second = Change(1, 1, True, bids, asks), Change(2, 2, True, new_bids, new_asks)
    book = Book()
    book.load(first.bids, first.asks)
    told = difference(first, second)
    book.apply(told.bids, told.asks)
    assert (sorted(book.bids.items()), sorted(book.asks.items())) == (sorted(new_bids), sorted(new_asks))
    assert not told.snapshot


def test_beyond_the_last_level_of_a_partial_snapshot_nothing_is_known():
    top = Top(5)
    top.take(Change(1, 1, True, [("10", "1"), ("9", "1")], [("11", "1"), ("12", "1")], (True, True)))
    top.take(Change(2, 2, False, [("8", "5")], [("13", "5"), ("11", "0")]))
    assert top.shown == ([("10", "1"), ("9", "1")], [("12", "1")])
    line = top_line("x", "S", Change(2, 3, False, [], []), top, 2)
    assert line == "x,S,2,3,12,1,10,1,,,9,1\n"
    assert change_lines("x", "S", Change(2, 3, True, [("8", "5")], [("9", "0")])) == (
        "x,S,2,3,true,bid,8,5\nx,S,2,3,true,ask,9,0\n"
    )


SAMPLES = Path(os.environ.get("LAKE_SAMPLES", Path(__file__).parents[2].parent / "shared" / "samples"))
NAMES = {"trade": "trades", "liquidation": "liquidations", "book_ticker": "book_ticker"}
TOLD = (
    "okex messages", "okex-swap messages", "bybit messages", "bybit spot messages", "kucoin messages",
    "kucoin-futures messages", "coinbase messages", "kraken v2 messages", "cryptofacilities messages",
)  # fmt: skip


def stored(told, local):
    """The row of ours that says what a message says."""
    at = parse(told["timestamp"])
    held = trade(at, "1", "1", None, symbol=told["symbol"], ts_recv=local)
    plain = {name: format(Decimal(repr(value)), "f") for name, value in told.items() if isinstance(value, int | float)}
    if told["type"] == "book_ticker":
        for name in ("qty_unit", "multiplier", "price", "qty", "seq", "side", "condition"):
            del held[name]
        sizes = {"bid_qty": plain.get("bidAmount"), "ask_qty": plain.get("askAmount")}
        return held | {"bid": plain["bidPrice"], "ask": plain["askPrice"], **sizes}
    side = None if told["side"] == "unknown" else told["side"]
    held |= {"price": plain["price"], "qty": plain["amount"], "side": side}
    if told["type"] == "liquidation":
        del held["condition"]
        return held | {"seq": int(told["id"]) if "id" in told else None}
    return held | {"trade_id": told.get("id")}


def fields(message):
    """In their order; of times only what they mean, since there the venue decides how many digits are told."""
    return [(name, parse(value) if name.lower().endswith("timestamp") else value) for name, value in message.items()]


def test_messages_are_those_of_the_vendors_own_tests_field_by_field():
    if not (SAMPLES / "multi" / "tardis_mappers.snapshot.gz").is_file():
        pytest.skip(f"no recordings in {SAMPLES}; LAKE_SAMPLES names the folder")
    seen = Counter()
    for held in samples.expected(SAMPLES / "multi", TOLD).values():
        for whole in (one for many in held.values() for one in many):
            wanted = {name: value for name, value in whole.items() if value is not None}
            odd = wanted["type"] == "liquidation" and not wanted.get("id", "1").isdigit()
            if wanted["type"] not in NAMES or odd or ("bidPrice" in wanted) != ("askPrice" in wanted):
                continue
            of = tardis.data_type(NAMES[wanted["type"]])
            local = parse(wanted["localTimestamp"])
            frame = pl.DataFrame(table(of.kind, [stored(wanted, local)])).with_columns(
                pl.lit(local).alias(tardis.LOCAL)
            )
            ((at, message),) = tardis.messages(of, tardis.columns(of, wanted["exchange"], frame))
            assert fields(json.loads(message)) == fields(wanted)
            assert at == local
            seen[wanted["type"]] += 1
    assert set(seen) == set(NAMES), seen
