"""Venues by ccxt without a network: frames to rows, hostile structures, what is watched, asked and refused."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from collectors import venues
from collectors.ccxt import library, tables, texts
from collectors.ccxt.carrier import Carrier
from collectors.ccxt.library import UnknownVenue
from collectors.ccxt.session import LOST, REFUSED, TAKEN, CcxtSession
from collectors.ccxt.texts import Exact
from collectors.ccxt.transport import CcxtTransport
from collectors.config import SourceConfig
from collectors.transports import Closed
from daemon.__main__ import main
from daemon.config import load
from daemon.errors import ConfigError
from lake import layout
from lake.rows import CertificateRow
from market.errors import Malformed
from market.kinds import BookSnapshot, Contract, Event, FundingRate, Kline, OpenInterest, Quote, Trade
from market.session import Acknowledged, Connection, Endpoint, Exchange, Leave, Polled, Refused, Rejected, Send
from market.times import DAY, MINUTE, MS, SECOND
from tests.support.clock import NOON, ManualClock

MILLIS = NOON // MS


def venue() -> Any:
    return venues.load("ccxt:kraken")


def session(market: str = "spot", kinds: tuple[str, ...] = ("trade",), symbol: str = "BTC/USD") -> CcxtSession:
    exchange = venue()
    streams = exchange.streams(market, kinds, [symbol])
    (connection,) = exchange.connections(market, streams, exchange.ENDPOINTS[market])
    made: CcxtSession = exchange.session(connection, "node-1-1")
    later = (NOON + (step + 2) * SECOND for step in range(1, len(streams)))
    asked = [*made.start(NOON), *(out for at in later for out in made.tick(at))]
    assert len(asked) == len(streams)
    for out in asked:
        assert isinstance(out, Send)
        made.sent(out.text, NOON)
    return made


def frame(channel: str, *parsed: object, symbol: str = "BTC/USD", **head: object) -> bytes:
    rows = [one if one is None else {"parsed": one, "info": {"raw": 1}} for one in parsed]
    return json.dumps({"channel": channel, "symbol": symbol, "rows": rows, **head}).encode()


def trade(**fields: object) -> dict[str, object]:
    return {"id": "7", "timestamp": MILLIS + 5, "price": "1.50", "amount": "2", "side": "buy"} | fields


def test_a_trade_is_what_the_venue_said_with_its_digits_and_its_name() -> None:
    (row,) = session().receive(frame(tables.TRADES, trade(price="0.10", id="X-9")), NOON + SECOND)
    assert isinstance(row, Trade)
    assert (row.price, row.qty, row.side, row.condition, row.ts_event) == (
        "0.10",
        "2",
        "buy",
        "market",
        (MILLIS + 5) * MS,
    )
    assert (row.seq, row.trade_id, row.frame_no, row.item) == (None, "X-9", 1, 0)


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"price": None}, "no decimal number"),
        ({"amount": "1e5"}, "no decimal number"),
        ({"price": "-1"}, "no decimal number"),
        ({"price": "NaN"}, "no decimal number"),
        ({"price": 1.5}, "Expected `str | null`"),
        ({"timestamp": None}, "no time"),
        ({"timestamp": -1}, "Expected `int`"),
        ({"timestamp": MILLIS + 3_600_000}, "impossible time"),
        ({"id": {"$": 1}}, "Expected `str | null`"),
    ],
)  # fmt: skip
def test_an_item_that_is_no_trade_is_set_aside_and_the_others_are_taken(wrong: dict[str, Any], reason: str) -> None:
    out = session().receive(frame(tables.TRADES, trade(**wrong), trade(id="8")), NOON + SECOND)
    assert [type(one) for one in out] == [Rejected, Trade]
    assert isinstance(out[0], Rejected)
    assert reason in out[0].reason
    assert isinstance(out[1], Trade)
    assert out[1].item == 1


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[1]", b"{", b"\xff", b'{"channel":1}', b"[" * 5000, b'{"channel":"watchTrades"}']
)
def test_bytes_that_are_no_frame_are_set_aside(data: bytes) -> None:
    (out,) = session().receive(data, NOON)
    assert isinstance(out, Rejected)


def test_rows_of_none_are_what_ccxt_makes_of_a_web_page() -> None:
    live = session()
    (out,) = live.receive(frame(tables.TRADES, None), NOON)
    assert isinstance(out, Rejected)
    candles = session(kinds=("kline",))
    (out,) = candles.receive(frame(f"{tables.CANDLES}:1m", [None] * 6), NOON)
    assert isinstance(out, Rejected)


def test_a_trade_without_a_name_is_its_place_and_without_a_side_has_none() -> None:
    out = session().receive(frame(tables.TRADES, trade(id=None, side="unknown"), trade(id=None)), NOON + SECOND)
    assert [(one.trade_id, one.side, one.item) for one in out if isinstance(one, Trade)] == [
        (None, None, 0),
        (None, "buy", 1),
    ]


def test_what_is_pushed_of_before_the_subscription_is_history_in_the_first_frame_only() -> None:
    live = session()
    before, after = trade(timestamp=MILLIS - 60_000, id="1"), trade(id="2")
    first = live.receive(frame(tables.TRADES, before, after), NOON + SECOND)
    assert [one.condition for one in first if isinstance(one, Trade)] == ["history", "market"]
    (late,) = live.receive(frame(tables.TRADES, trade(timestamp=MILLIS - 10, id="3")), NOON + SECOND)
    assert isinstance(late, Trade)
    assert late.condition == "market"
    assert live.receive(frame(tables.TRADES, trade(timestamp=(NOON - 8 * DAY) // MS)), NOON) == []
    assert live.ignored["older than seven days"] == 1


def test_a_contract_counts_contracts_of_the_size_that_the_frame_says_or_nothing() -> None:
    perpetual = session("linear", symbol="BTC/USD:USD")
    (row,) = perpetual.receive(frame(tables.TRADES, trade(), symbol="BTC/USD:USD", size="0.01"), NOON)
    assert isinstance(row, Trade)
    assert (row.qty_unit, row.multiplier) == ("contract", "0.01")
    (out,) = perpetual.receive(frame(tables.TRADES, trade(), symbol="BTC/USD:USD", size=None), NOON)
    assert isinstance(out, Rejected)
    assert out.reason == "a contract of unknown size"


def test_a_quote_without_a_time_has_the_skew_of_timed_frames() -> None:
    live = session(kinds=("trade", "quote"))
    start = NOON - NOON % MINUTE + MINUTE
    live.receive(frame(tables.TRADES, trade(timestamp=start // MS)), start)
    for second in range(0, 60, 10):
        at = start + second * SECOND
        live.receive(frame(tables.TRADES, trade(timestamp=at // MS - 40)), at)
    told = {"bid": "1", "bidVolume": "2", "ask": "3", "askVolume": "4", "timestamp": None}
    (row,) = live.receive(frame(tables.BIDS_ASKS, told), start + MINUTE)
    assert isinstance(row, Quote)
    assert (row.ts_event, row.skew_us, row.update_id) == (None, 40 * MS, None)
    assert live.receive(frame(tables.BIDS_ASKS, told | {"bidVolume": None}), start + MINUTE) == []
    assert live.ignored["quote without both sides"] == 1


def test_a_book_is_told_as_it_is_and_a_broken_one_not_at_all() -> None:
    live = session(kinds=("book_snapshot",))
    told = {"bids": [["1.10", "2"]], "asks": [["1.20", "1"], ["1.30", "5"]], "timestamp": MILLIS, "nonce": 8}
    (row,) = live.receive(frame(tables.BOOK, told), NOON)
    assert isinstance(row, BookSnapshot)
    assert (bytes(row.asks), row.last_id, row.depth) == (b'[["1.20", "1"], ["1.30", "5"]]', 8, 2)
    for side in ([["1", None]], [["1"]], "x", None, [[1.5, 2]]):
        (out,) = live.receive(frame(tables.BOOK, told | {"bids": side}), NOON)
        assert isinstance(out, Rejected)


def test_a_candle_is_a_row_once_a_later_one_was_told_of() -> None:
    live = session(kinds=("kline",))
    opened = (NOON - NOON % MINUTE) // MS
    name = f"{tables.CANDLES}:1m"

    def candle(minute: int, close: str) -> list[object]:
        return [opened + minute * 60_000, "1", "3", "1", close, "9"]

    assert live.receive(frame(name, candle(0, "2")), NOON) == []
    assert live.receive(frame(name, candle(0, "2.5")), NOON) == []
    (row,) = live.receive(frame(name, candle(0, "3"), candle(1, "1")), NOON + MINUTE)
    assert isinstance(row, Kline)
    assert (row.open_time, row.close, row.frame_no, row.interval) == (opened * MS, "3", 3, "1m")
    assert row.ts_event == (opened + 60_000 - 1) * MS
    (again,) = live.receive(frame(name, candle(0, "2.9")), NOON + MINUTE)
    assert isinstance(again, Kline), "a closed candle that is told differently: the merger makes a revision of it"
    assert again.close == "2.9"


def test_words_of_the_shell_are_acknowledgement_refusal_and_loss() -> None:
    live = session()
    (state,) = live.streams()
    assert state.acknowledged_at == 0
    (taken,) = live.receive(frame(tables.TRADES, event=TAKEN), NOON)
    assert isinstance(taken, Acknowledged)
    assert state.acknowledged_at == NOON
    (refused,) = live.receive(frame(tables.TRADES, event=REFUSED, reason="BadSymbol: no"), NOON)
    assert isinstance(refused, Refused)
    assert refused.reason == "BadSymbol: no"
    (lost,) = live.receive(frame(tables.TRADES, event=LOST, reason="too many"), NOON)
    assert isinstance(lost, Leave)
    assert lost.cause == "messages_missing"


def test_the_first_stream_is_asked_for_alone_and_the_others_when_something_has_come_or_soon() -> None:
    exchange = venue()
    streams = exchange.streams("spot", ["trade"], ["A/B", "C/D", "E/F"])
    (connection,) = exchange.connections("spot", streams, exchange.ENDPOINTS["spot"])
    live = exchange.session(connection, "node-1-1")
    assert len(live.start(NOON)) == 1
    assert live.tick(NOON + SECOND) == ()
    assert live.next_deadline() == NOON + 3 * SECOND
    live.receive(frame(tables.TRADES, trade(), symbol="A/B"), NOON + SECOND)
    assert len(live.tick(NOON + SECOND)) == 1
    assert live.tick(NOON + SECOND) == (), "four a second"
    assert len(live.tick(NOON + 2 * SECOND)) == 1


def test_a_connection_that_says_nothing_is_left() -> None:
    live = session()
    live.receive(frame(tables.TRADES, trade()), NOON + SECOND)
    assert live.tick(NOON + MINUTE) == ()
    deadline = live.next_deadline()
    assert deadline is not None
    (left,) = live.tick(deadline)
    assert isinstance(left, Leave)
    assert left.cause == "silence"


def test_a_replay_learns_the_streams_from_what_was_asked_and_makes_the_same_rows() -> None:
    live = session(kinds=("trade", "kline"))
    frames = [frame(tables.TRADES, trade(timestamp=MILLIS - 50), trade(id="9")), frame(tables.TRADES, trade(id="10"))]
    told = [one for data in frames for one in live.receive(data, NOON + SECOND)]
    learnt = venue().session(Connection("ccxt-kraken", "spot", "c", "", ()), "node-1-1", learn=True)
    learnt.start(NOON)
    for asked in (
        '{"watch":"watchTrades","symbol":"BTC/USD"}',
        '{"watch":"rm -rf"}',
        "]",
        '{"watch":"x","symbol":"y"}',
    ):
        learnt.sent(asked, NOON)
    assert [state.stream.name for state in learnt.streams()] == ["watchTrades:BTC/USD"]
    assert [one for data in frames for one in learnt.receive(data, NOON + SECOND)] == told
    assert all(isinstance(one, Event) for one in told)


# --- what is asked for over REST ---


def poller(kind: str, symbols: tuple[str, ...] = ("BTC/USD:USD",), **fields: Any) -> Any:
    exchange = venue()
    polled = Polled(kind, symbols, every=MINUTE, **fields)
    made = exchange.poller("linear", "node-1-2", polled, exchange.ENDPOINTS["linear"])
    (fetch,) = made.start(NOON)
    return made, fetch


def answer(*parsed: object) -> bytes:
    return json.dumps({"rows": [{"parsed": one, "info": None} for one in parsed]}).encode()


def test_open_interest_and_settled_rates_are_rows_and_what_is_no_number_is_not() -> None:
    asked, fetch = poller("open_interest")
    assert fetch.url == "ccxt://kraken/linear/fetchOpenInterest?symbol=BTC%2FUSD%3AUSD"
    (row,) = asked.respond(fetch.tag, 200, {}, answer({"openInterestAmount": "12.5", "timestamp": None}), NOON)
    assert isinstance(row, OpenInterest)
    assert (row.oi, row.oi_unit, row.sides, row.ts_event) == ("12.5", "contract", 1, NOON)
    for body in (answer({"openInterestAmount": None}), answer(), b"<html>", b'{"rows":[null]}'):
        (out,) = asked.respond(fetch.tag, 200, {}, body, NOON)
        assert isinstance(out, Rejected)
    rates, fetch = poller("funding_rate", since={"BTC/USD:USD": NOON - DAY})
    hour = (NOON - NOON % (60 * MINUTE)) // MS
    told = [{"timestamp": hour - 8 * 3_600_000, "fundingRate": "0.0001"}, {"timestamp": hour, "fundingRate": "-0.02"}]
    found = rates.respond(fetch.tag, 200, {}, answer(*reversed(told), {"timestamp": hour, "fundingRate": None}), NOON)
    assert [(one.rate, one.interval_s) for one in found if isinstance(one, FundingRate)] == [
        ("0.0001", 28_800),
        ("-0.02", 28_800),
    ]
    assert sum(isinstance(one, Rejected) for one in found) == 1


def test_an_error_of_ccxt_is_a_refusal_where_it_is_about_the_request() -> None:
    asked, fetch = poller("open_interest")
    body = json.dumps({"error": "BadSymbol", "message": "kraken does not have it"}).encode()
    (out,) = asked.respond(fetch.tag, 400, {}, body, NOON)
    assert isinstance(out, Refused)
    assert "does not have it" in out.reason
    (out,) = asked.respond(fetch.tag, 429, {"retry-after": "9"}, b'{"error":"DDoSProtection","message":"slow"}', NOON)
    assert isinstance(out, Rejected)
    assert asked.next_deadline() is None or asked.next_deadline() >= NOON + 9 * SECOND


def test_instruments_are_those_of_the_market_by_unified_symbols() -> None:
    asked, fetch = poller("contract", symbols=())
    swap = {
        "id": "PF_XBTUSD", "symbol": "BTC/USD:USD", "type": "swap", "base": "BTC", "quote": "USD", "settle": "USD",
        "active": True, "linear": True, "inverse": False, "contractSize": "0.5", "tick": "0.1", "lot": "x",
    }  # fmt: skip
    spot = {"id": "XBTUSD", "symbol": "BTC/USD", "type": "spot", "active": None}
    unsized = swap | {"symbol": "ETH/USD:USD", "contractSize": None}
    out = asked.respond(fetch.tag, 200, {}, answer(swap, spot, unsized, {"id": 3}), NOON)
    (row,) = (one for one in out if isinstance(one, Contract))
    assert (row.symbol, row.uid, row.unified, row.multiplier) == ("BTC/USD:USD", "PF_XBTUSD", "BTC/USD:USD", "0.5")
    assert (row.tick, row.lot, row.status, row.session) == ("0.1", None, "active", "node-1-2")
    assert sum(isinstance(one, Rejected) for one in out) == 2


# --- digits ---


def test_numbers_keep_the_texts_that_they_came_as() -> None:
    assert texts.text(Exact("0.1000")) == "0.1000"
    assert (Exact("2.50") > 2, sorted([Exact("10"), Exact("9.0")])) == (True, [9.0, 10.0])
    assert [texts.text(one) for one in ("1.10", "1e-7", 1e-7, 5, 0.1, 1e21, None, "x", math.nan, math.inf, True)] == [
        "1.10", "0.0000001", "0.0000001", "5", "0.1", "1" + "0" * 21, None, None, None, None, None,
    ]  # fmt: skip
    assert texts.text("1e999999999") is None, "and takes no memory"
    assert [texts.whole(one) for one in (5, 5.0, 5.5, math.nan, math.inf, True, "5", None)] == [5, 5, *[None] * 6]


def test_anything_that_a_venue_says_can_be_written() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    told = texts.told(tables.TRADES, {"id": 5, "price": Exact("1.0"), "info": {"n": 2**70, "x": Odd(), "s": "\ud800"}})
    again = msgspec.json.decode(texts.encode({"rows": [told]}))
    assert again["rows"][0]["parsed"]["id"] == "5"
    assert again["rows"][0]["parsed"]["price"] == "1.0"
    assert texts.told(tables.TRADES, None) is None
    assert texts.told_candle([1, 2]) is None


# --- the shell, with a venue that is made up ---


class Made:
    """What the transport uses of an instance of ccxt."""

    def __init__(self) -> None:
        self.trades: dict[str, deque[Any]] = {}
        self.turn: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    def market(self, symbol: str) -> dict[str, Any]:
        if symbol == "NO/PE":
            raise library.errors().BadSymbol("made has no NO/PE")
        return {"spot": True, "contractSize": None}

    async def watch_trades(self, symbol: str) -> Any:
        found = await self.turn.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None:
        self.closed = True


async def heard(transport: CcxtTransport) -> list[dict[str, Any]]:
    frames, _ = await asyncio.wait_for(transport.receive(), 60)
    return [json.loads(frame) for frame in frames]


def told(number: int) -> dict[str, Any]:
    return {"id": number, "timestamp": MILLIS, "price": Exact("1.0"), "amount": Exact("2"), "side": "buy", "info": {}}


async def test_trades_that_came_between_two_looks_are_all_told_and_none_twice() -> None:
    clock, made = ManualClock(), Made()
    transport = CcxtTransport(made, "spot", clock, clock.now)
    await transport.send('{"watch":"watchTrades","symbol":"A/B"}')
    kept = made.trades["A/B"] = deque(maxlen=library.TRADES_KEPT)
    kept.extend([told(1), told(2)])
    made.turn.put_nowait([kept[-1]])  # ccxt itself speaks of the last one only
    (first,) = await heard(transport)
    assert [row["parsed"]["id"] for row in first["rows"]] == ["1", "2"]
    kept.extend([told(3), told(4), told(5)])
    made.turn.put_nowait([])
    (second,) = await heard(transport)
    assert [row["parsed"]["id"] for row in second["rows"]] == ["3", "4", "5"]
    kept.extend(told(number) for number in range(6, 6 + library.TRADES_KEPT))
    made.turn.put_nowait([])
    lost, third = await heard(transport)
    assert (lost["event"], len(third["rows"])) == (LOST, library.TRADES_KEPT)
    await transport.close()
    assert made.closed


async def test_an_error_of_a_symbol_refuses_it_and_one_of_the_network_ends_everything() -> None:
    clock, made = ManualClock(), Made()
    transport = CcxtTransport(made, "spot", clock, clock.now)
    await transport.send('{"watch":"watchTrades","symbol":"NO/PE"}')
    (refused,) = await heard(transport)
    assert (refused["event"], refused["symbol"]) == (REFUSED, "NO/PE")
    await transport.send('{"watch":"watchTrades","symbol":"A/B"}')
    made.turn.put_nowait(library.errors().NetworkError("gone"))
    with pytest.raises(Closed, match="NetworkError: gone"):
        await transport.receive()
    with pytest.raises(Closed):
        await transport.send('{"watch":"watchTrades","symbol":"A/B"}')
    await transport.close()


async def test_a_defect_inside_ccxt_is_the_end_of_its_connection_and_of_nothing_else() -> None:
    clock, made = ManualClock(), Made()
    transport = CcxtTransport(made, "spot", clock, clock.now)
    await transport.send('{"watch":"watchTrades","symbol":"A/B"}')
    made.turn.put_nowait(KeyError("boom"))
    with pytest.raises(Closed, match="ccxt failed: KeyError"):
        await transport.receive()
    await transport.close()


async def test_a_message_that_ccxt_fails_at_is_set_aside_with_the_venues_words_and_reading_goes_on() -> None:
    clock, made = ManualClock(), library.make("kraken", "spot", "", "")
    made.ear = transport = CcxtTransport(made, "spot", clock, clock.now)
    made.handle_message(None, {"method": ["what", {"is": "this"}], "channel": 5})
    made.ear.failed("ccxt failed: KeyError: 'x'", {"the": "message"})
    word = (await heard(transport))[-1]
    assert (word["event"], word["info"]) == ("failed", {"the": "message"})
    (out,) = session().receive(json.dumps(word).encode(), NOON)
    assert isinstance(out, Rejected)
    assert out.reason == "ccxt failed: KeyError: 'x'"
    made.on_close(SimpleNamespace(error=None, url="u"), 1006)
    with pytest.raises(Closed, match="closed with code 1006"):
        await transport.receive()
    await transport.close()


def test_a_book_of_texts_is_sorted_as_numbers_and_zero_takes_a_level_away() -> None:
    book = library.make("coinbase", "spot", "", "").order_book({})
    for price, size in (("9.5", "1"), ("10.50", "2.0"), ("10.5", "0.0"), ("8", "3"), ("100", "4")):
        book["bids"].storeArray([price, size])
        book["asks"].store(price, size)
    assert texts.told_book(book, 2)["parsed"]["bids"] == [["100", "4"], ["9.5", "1"]]
    assert texts.told_book(book, 5)["parsed"]["asks"] == [["8", "3"], ["9.5", "1"], ["100", "4"]]
    assert texts.told_book(book.copy(), 1)["parsed"]["asks"] == [["8", "3"]]


def test_it_offers_every_name_that_an_exchange_has_to() -> None:
    assert [name for name in Exchange.__annotations__ if not hasattr(venue(), name)] == []


async def test_a_symbol_that_is_watched_without_an_error_is_taken_on() -> None:
    clock, made = ManualClock(), Made()
    transport = CcxtTransport(made, "spot", clock, clock.now)
    await transport.send('{"watch":"watchTrades","symbol":"A/B"}')
    await asyncio.sleep(0)
    await clock.advance(6)
    (taken,) = await heard(transport)
    assert taken["event"] == TAKEN
    await transport.close()


async def test_requests_are_calls_and_their_errors_are_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = library.errors()
    said: list[Exception | None] = [None, errors.RateLimitExceeded("slow"), errors.BadSymbol("no"), KeyError("x")]

    async def nothing() -> None:
        return None

    async def interest(symbol: str) -> dict[str, Any]:
        if (error := said.pop(0)) is not None:
            raise error
        return {"openInterestAmount": "5.0", "timestamp": 1, "info": {"of": symbol}}

    made = SimpleNamespace(
        load_markets=nothing, fetch_open_interest=interest, close=nothing, last_response_headers={"Retry-After": "3"}
    )
    monkeypatch.setattr(library, "make", lambda *_: made)
    url = "ccxt://kraken/linear/fetchOpenInterest?symbol=BTC%2FUSD%3AUSD"
    async with Carrier("kraken", "linear", ManualClock()) as carrier:
        answers = [await carrier.fetch("GET", url) for _ in range(4)]
    assert [one.status for one in answers] == [200, 429, 400, 500]
    assert answers[1].headers["retry-after"] == "3"
    assert json.loads(answers[0].body)["rows"][0]["info"] == {"of": "BTC/USD:USD"}
    assert json.loads(answers[2].body) == {"error": "BadSymbol", "message": "no"}


# --- configuration ---


def source(**fields: Any) -> SourceConfig:
    return SourceConfig(**{"exchange": "ccxt:kraken", "market_type": "spot", "symbols": ["BTC/USD"]} | fields)


def test_in_columns_and_paths_it_is_ccxt_and_the_id() -> None:
    assert source().exchange == venue().NAME == "ccxt-kraken"
    path = layout.raw_path("ccxt-kraken", "spot", "trade", NOON, "node", 1)
    assert layout.parse_raw(path).exchange == "ccxt-kraken"
    row = {"path": "p", "sha256": "", "market_type": "spot", "kind": "trade", "symbol": "", "date": "", "revision": 1,
           "issued_at": 0, "rows": 1}  # fmt: skip
    assert CertificateRow(exchange="ccxt-kraken", **row).guarantees == "weaker (ccxt)"
    assert CertificateRow(exchange="kraken", **row).guarantees == "full"


def test_what_a_venue_has_not_is_refused_by_name_with_what_else_would_do() -> None:
    venues.check(source(kinds=["trade", "quote", "book_snapshot", "kline"]))
    with pytest.raises(
        Malformed, match=r"has no watchBidsAsks; it has watchTicker: give channels: \{quote: watchTicker\}"
    ):
        venues.check(source(exchange="ccxt:upbit", kinds=["quote"]))
    venues.check(source(exchange="ccxt:upbit", kinds=["quote"], channels={"quote": "watchTicker"}))
    with pytest.raises(Malformed, match="has no watchLiquidations"):
        venues.check(source(market_type="linear", kinds=["liquidation"]))
    with pytest.raises(Malformed, match="interval of the candles of kraken"):
        venues.check(source(kinds=["kline"], channels={"kline": "watchOHLCV:2h"}))
    with pytest.raises(Malformed, match="ccxt keeps the book itself"):
        venue().streams("spot", ["book_delta"], ["BTC/USD"])
    with pytest.raises(UnknownVenue, match="did you mean kraken"):
        venues.load("ccxt:kraaken")
    with pytest.raises(UnknownVenue, match=r"it has \d+, e\.g\. "):
        venues.load("ccxt:../../etc/passwd")


def test_check_says_what_a_start_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yml"
    text = "collectors: {sources: [{exchange: 'ccxt:%s', market_type: spot, symbols: [BTC/USD], kinds: [quote]}]}"
    path.write_text(text % "upbit")
    assert main(["--config", str(path), "--check"]) == 78
    said = capsys.readouterr().err
    assert said.startswith("collectors.sources[0].kinds kind of upbit spot by ccxt (that venue has no watchBidsAsks;")
    path.write_text(text % "kraken")
    assert main(["--config", str(path), "--check"]) == 0


def test_a_configuration_names_the_place_of_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "collectors:\n  sources:\n    - {exchange: 'ccxt:bitstmp', market_type: spot, symbols: [A/B]}\n"
        "    - {exchange: 'ccxt:kraken', market_type: spot, symbols: [A/B], kinds: [book_delta]}\n"
        "    - {exchange: 'ccxt:kraken', market_type: option, symbols: [A/B], kinds: [trade]}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load(path, {})
    said = str(refused.value)
    assert "config.yml:3:18 collectors.sources[0].exchange unknown exchange 'ccxt:bitstmp'" in said
    assert "did you mean bitstamp" in said
    assert "does not offer 'book_delta' (ccxt keeps the book itself" in said
    assert "has no market 'option' here; it has inverse, linear, spot" in said


def test_addresses_of_a_configuration_follow_the_venues_own() -> None:
    exchange = venue()
    endpoint = source(endpoint={"rest": "http://h:1/x", "ws": "ws://h:2/y"}).endpoint.over(exchange.ENDPOINTS["spot"])
    url = "ccxt://kraken/spot?rest=http%3A%2F%2Fh%3A1%2Fx&ws=ws%3A%2F%2Fh%3A2%2Fy"
    assert exchange.address("spot", endpoint) == url
    assert exchange.address("spot", Endpoint(rest=url, ws={})) == url
    made = library.make("kraken", "spot", "http://h:1/x", "ws://h:2/y")
    assert made.urls["api"]["public"] == "http://h:1/x"
    assert all(one.startswith("ws://h:2/y") for one in made.urls["api"]["ws"].values() if isinstance(one, str))
    assert made.parse_number("1.10") == "1.10"
    assert made.parse_order_book_bid_ask(["1.10", "2.0"])[0].text == "1.10"
