"""Coinbase's parsers on frames that the venue really sent; skipped where the recording is missing."""

import gzip
import json
import os
import pathlib
from collections import Counter
from decimal import Decimal

import pytest

from collectors import exchanges
from collectors.redundancy import merger_maker
from market.book import Book, levels
from market.kinds import BookDelta, Contract, Kline, Quote, Trade
from market.session import Connection, Fetch, Polled, Rejected
from market.times import SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
VENUE = exchanges.load("coinbase")


def lines():
    path = SAMPLES / "coinbase" / "cf_advtrade_20260809_first300.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def received():
    return [one for one in lines() if one["t"] == "recv"]


@pytest.fixture(scope="module")
def learned():
    held = lines()
    session = VENUE.session(Connection("coinbase", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    out = []
    for one in held:
        at = round(one.get("ts", 0) * SECOND)
        if one["t"] == "send":
            session.sent(one["data"], at)
        elif one["t"] == "recv":
            out += session.receive(one["data"].encode(), at)
    assert session.frame_no == 292
    assert not [one for one in out if isinstance(one, Rejected)]
    return session, out


def test_every_message_of_the_connection_has_the_next_number_and_every_stream_is_met(learned):
    session, _ = learned
    assert session.losses == 0
    names = {
        f"{channel}:{one}"
        for channel in ("market_trades", "ticker", "level2", "candles")
        for one in ("BTC-USD", "ETH-USD")
    }
    assert {state.stream.name for state in session.streams()} == names
    assert session.ignored["heartbeats"] == 7


def test_books_chain_from_their_whole_on_and_never_cross(learned):
    _, out = learned
    rows = [one for one in out if isinstance(one, BookDelta)]
    books = {}
    for row in rows:
        book = books.setdefault(row.symbol, Book())
        change = levels(row.bids), levels(row.asks)
        book.load(*change) if "snapshot" in row.flags else book.apply(*change)
        assert not book.crossed
    assert [row.flags for row in rows].count(("snapshot",)) == 2
    assert [row.flags for row in rows].count(()) == 211
    assert all(row.last_id == row.ts_event - len(row.flags) for row in rows), "the engine's times rise"
    assert len(books["BTC-USD"].bids) > 1_000
    held = merger_maker(VENUE, "spot")("book_delta")
    assert all(held.merge(row) for row in rows)
    assert held.tick(rows[-1].ts_recv + 60 * SECOND) == []


def test_trades_follow_by_one_and_the_takers_side_moves_the_price(learned):
    _, out = learned
    rows = [one for one in out if isinstance(one, Trade)]
    for symbol in ("BTC-USD", "ETH-USD"):
        mine = [row for row in rows if row.symbol == symbol]
        assert [row.seq for row in mine] == list(range(mine[0].seq, mine[0].seq + len(mine)))
        assert [row.condition for row in mine] == ["history"] * 100 + ["market"] * (len(mine) - 100)
    held = merger_maker(VENUE, "spot")("trade")
    assert all(held.merge(row) for row in rows)
    quotes = [one for one in out if isinstance(one, Quote) and one.symbol == "BTC-USD"]
    best = {quotes[0].bid: "sell", quotes[0].ask: "buy"}
    told = [(best[row.price], row.side) for row in rows if row.symbol == "BTC-USD" and row.price in best]
    assert len(told) > 5
    assert all(wanted == side for wanted, side in told)


def test_candles_of_before_are_rows_and_the_forming_one_is_not(learned):
    _, out = learned
    rows = [one for one in out if isinstance(one, Kline)]
    assert 190 <= len(rows) <= 198
    assert max(row.open_time for row in rows) == 1_786_309_200 * SECOND


def test_each_forming_candle_is_a_prefix_of_its_trades_those_told_on_subscribing_among_them(learned):
    """The channel lags behind the trades: by how many seconds is told by the trade that it ends with."""
    _, out = learned
    trades = sorted((one for one in out if isinstance(one, Trade)), key=lambda one: one.seq)
    first = {symbol: min(one.ts_event for one in trades if one.symbol == symbol) for symbol in ("BTC-USD", "ETH-USD")}
    lags = []
    for one in received():
        message = json.loads(one["data"])
        if message["channel"] != "candles":
            continue
        for candle in (candle for event in message["events"] for candle in event["candles"]):
            symbol, start = candle["product_id"], int(candle["start"]) * SECOND
            if start < first[symbol]:
                continue  # begun before the oldest trade that was told
            total, ends = Decimal(0), []
            for trade in (trade for trade in trades if trade.symbol == symbol and trade.ts_event >= start):
                total += Decimal(trade.qty)
                ends += [trade] if total == Decimal(candle["volume"]) else []
            (last,) = ends
            assert last.price == candle["close"]
            lags.append((round(one["ts"] * SECOND) - last.ts_event) / SECOND)
    assert len(lags) == 3
    assert 5 < min(lags) <= max(lags) < 20


def test_the_recorded_products_become_contracts():
    (answer,) = [one for one in lines() if one["t"] == "http"]
    session = VENUE.poller("spot", "n-1-1", Polled("contract", ()), VENUE.ENDPOINTS["spot"])
    (asked, *_) = [*session.start(0), Fetch("products", "GET", "")]
    rows = session.respond(asked.tag, 200, {}, answer["data"].encode(), round(answer["ts"] * SECOND))
    kinds = Counter(type(one) for one in rows)
    assert kinds[Contract] > 500
    assert {one.reason for one in rows if isinstance(one, Rejected)} <= {"products: a product of another market"}
    assert {"BTC-USD", "ETH-USD"} <= {one.symbol for one in rows if isinstance(one, Contract)}
