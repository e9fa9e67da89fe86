"""All that the simulator sends is read by the collectors, and nothing of it is refused."""

from collections import Counter

from collectors import exchanges
from market.session import Connection, Rejected
from simulator.events import KIND_OF, Hosted, Streamed
from simulator.instruments import listing, names
from simulator.market import Market
from simulator.venues.binance.wire import Wire

START = 1_795_132_785_000_000
"""Fifteen seconds before a full minute."""
MARKETS = ("spot", "linear", "inverse")
SPOT = ("depth@100ms", "depth", "depth20@100ms", "depth5", "kline_1m", "kline_1s")
FUTURES = (
    "depth@100ms",
    "depth",
    "depth@500ms",
    "depth20@100ms",
    "markPrice@1s",
    "markPrice",
    "forceOrder",
    "kline_1m",
)
ALL_MARKET = ("!markPrice@arr@1s", "!forceOrder@arr")
READ = {"Trade", "AggTrade", "Quote", "BookDelta", "BookSnapshot", "Kline"}


def begin(market, wire):
    for book in market.books:
        for channel in SPOT if book.market == "spot" else FUTURES:
            stream = f"{book.symbol.lower()}@{channel}"
            assert market.watch(book.market, stream, wire.wanted(book.market, stream))
    for host in MARKETS[1:]:
        for stream in ALL_MARKET:
            assert market.watch(host, stream, wire.wanted(host, stream))
    futures = next(book for book in market.books if book.market == "linear")
    market.change(futures, "SETTLING", 0, START, [(host, wire.notices(host)) for host in MARKETS[1:]])


def test_every_frame_of_every_market_becomes_its_event():
    wire, venue = Wire(), exchanges.load("binance")
    market = Market(listing(list(MARKETS), names(2), 1), 1, 1000.0, START)
    begin(market, wire)
    sessions = {
        name: venue.session(Connection("binance", name, name, "wss://venue", (), ()), f"test-{START}-1", learn=True)
        for name in MARKETS
    }
    read, refused = {name: Counter() for name in MARKETS}, []
    for now in range(START, START + 20_000_000, 20_000):
        for event in market.advance(now):
            kind = KIND_OF[type(event)]
            stream = event.stream if isinstance(event, Streamed) else wire.stream(event.book.symbol, kind)
            host = event.host if isinstance(event, Hosted) else event.book.market
            frame = wire.wrapped(stream, wire.payload(event, now - now % 1000, micro=False)).encode()
            for output in sessions[host].receive(frame, now):
                read[host][type(output).__name__] += 1
                if isinstance(output, Rejected):
                    refused.append((output, frame))
    assert refused == []
    assert set(read["spot"]) == READ
    assert set(read["linear"]) == READ | {"MarkPrice", "Liquidation", "Contract"}
    assert set(read["inverse"]) == READ | {"MarkPrice", "Liquidation"}
