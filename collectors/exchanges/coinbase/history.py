"""Coinbase's history over REST: trades of spot by the cursor of Exchange, candles of Advanced Trade. Pure.

Exchange's trades are newest first, `after` an id; nothing finds one by its time, so the first is searched for. Advanced
Trade's candles are newest first too, at most 350 of a window, minutes without trades left out; whether its `end` is
included is documented nowhere, so a second more is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import quote

import msgspec

from collectors.adapters import past
from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.numbered_pages import CursorPages
from collectors.adapters.paging import Made, Pages, Probe, Route, Row, TimePages, Unstable
from collectors.adapters.reading import BAD_FRAME, LAST, TOO_LONG, Id, all_good
from collectors.exchanges.coinbase import exchange_wire, wire
from collectors.exchanges.coinbase.markets import ENDPOINTS
from collectors.exchanges.coinbase.polls import failure
from market.history import Absent, Offer
from market.kinds import Kline, Trade
from market.numbers import product
from market.session import Polled, Stream
from market.times import DAY, MINUTE, MS, SECOND

EXCHANGE_REST = "https://api.exchange.coinbase.com"
"""Where Exchange's routes are, unless the configuration gives another address: then they are asked there."""
TRADES, CANDLES = "trades", "candles"
INTERVAL, MINUTES, DAYS = "1m", "ONE_MINUTE", "ONE_DAY"
PAGE, CANDLE_PAGE = 1000, 350
BEGAN = 1_414_800_000_000_000
"""2014-11-01 (us): the venue has nothing older."""
_CURRENT_ONLY = Absent("its product tells the newest only, and there is no history of it")
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {
    "spot": {
        "trade": Offer(prompt=True),
        "agg_trade": Absent("the venue tells every fill by itself: ask for trade"),
        "kline": Offer(width=7 * DAY, grain=MINUTE),
        "funding_rate": past.NO_FUTURES, "open_interest": past.NO_FUTURES,
    },
    "linear": {
        "trade": Absent("no route tells those of futures by id or page by page: they are streamed only"),
        "agg_trade": Absent("the venue tells every fill by itself"),
        "kline": Offer(width=7 * DAY, grain=MINUTE, sized=True),
        "funding_rate": _CURRENT_ONLY, "open_interest": _CURRENT_ONLY,
    },
}  # fmt: skip


class _Fill(msgspec.Struct):
    trade_id: Id
    price: str
    size: str
    time: str
    side: str


class _Candle(msgspec.Struct):
    start: str
    low: str
    high: str
    open: str
    close: str
    volume: str


class _Candles(msgspec.Struct):
    candles: list[msgspec.Raw]


class _Problem(msgspec.Struct):
    message: str


_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fill = msgspec.json.Decoder(_Fill).decode
_candle = msgspec.json.Decoder(_Candle).decode
_candles = msgspec.json.Decoder(_Candles).decode
_problem = msgspec.json.Decoder(_Problem).decode
Rows = Callable[[bytes, Made], list[Row]]


def session(market_type: str, session_id: str, polled: Polled, rest: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    symbol, span = past.asked("coinbase", OFFERED[market_type], market_type, polled)
    name, base = quote(symbol, safe=""), rest.rstrip("/")
    if polled.kind == "trade":
        stream = Stream(f"{TRADES} {symbol}", TRADES, symbol, "trade", contiguous=False)
        host = EXCHANGE_REST if base == ENDPOINTS["spot"].rest else base
        rows: Rows = partial(_fills, symbol)
        return CursorPages(
            session_id, stream, span,
            Route(TRADES, f"{host}/products/{name}/trades", 1, PAGE, rows, _exchange_failure, newest_first=True),
        )  # fmt: skip
    stream = Stream(f"{CANDLES} {symbol}", CANDLES, symbol, "kline", contiguous=False)
    size = None if market_type == "spot" else past.worth(polled, symbol)
    path = f"{base}/api/v3/brokerage/market/products/{name}/candles?granularity="
    start, end = span
    probe = Probe(f"{path}{DAYS}&start={(start - start % DAY) // SECOND}&end={end // SECOND}", 1, _first)
    route = Route(
        CANDLES, f"{path}{MINUTES}", 1, CANDLE_PAGE, partial(_minutes, symbol, size), failure, start="start", end="end",
        unit=SECOND, newest_first=True, end_included=False, width=MINUTE, window=(CANDLE_PAGE - 2) * MINUTE,
    )  # fmt: skip
    return TimePages(session_id, stream, span, route, probe)


def _exchange_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 of Exchange's says: `{"message": …}`."""
    pause = asked_pause(status, headers)
    try:
        said = _problem(body).message
    except BAD_FRAME:
        return Failure(f"status {status}" if status else "no answer", status, pause=pause)
    return Failure(f"status {status}: {said}"[:300], status, status in (400, 404), pause)


def _fills(symbol: str, body: bytes, made: Made) -> list[Row]:
    """Trades; the venue says the side of the maker."""
    found = []
    for item, raw in enumerate(_raws(body)):
        data = _fill(raw)
        at = wire.micros(data.time)
        if at is None or not BEGAN <= at < LAST:
            raise Unstable("impossible time")
        if not all_good(data.price, data.size) or data.side not in exchange_wire.TAKER:
            raise Unstable("not a decimal number, or an unknown side")
        event = Trade(
            symbol, TRADES, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", data.price, data.size,
            exchange_wire.TAKER[data.side], data.trade_id, "market",
        )  # fmt: skip
        found.append(Row(data.trade_id, at, bytes(raw), event))
    return found


def _opened(data: _Candle) -> int:
    """When a candle opened (us). Raises Unstable."""
    if not (data.start.isascii() and data.start.isdigit()) or len(data.start) > 10:
        raise Unstable("impossible time")
    return int(data.start) * SECOND


def _first(body: bytes) -> int | None:
    """When the first candle of an answer opened."""
    return min((_opened(_candle(raw)) for raw in _candles(body).candles), default=None)


def _minutes(symbol: str, size: str | None, body: bytes, made: Made) -> list[Row]:
    """Candles; volumes are base units, of futures contracts of `size` base units."""
    found = []
    for item, raw in enumerate(_candles(body).candles):
        data = _candle(raw)
        opened, prices = _opened(data), (data.open, data.high, data.low, data.close)
        if opened % MINUTE or not BEGAN <= opened < LAST:
            raise Unstable("a candle that is not of one minute")
        if not all_good(*prices, data.volume):
            raise Unstable("not a decimal number")
        volume = data.volume if size is None else product(data.volume, size)
        if volume is None:
            raise Unstable(TOO_LONG)
        closes = opened + MINUTE - MS
        event = Kline(
            symbol, f"{CANDLES} {INTERVAL}", closes, None, made.ts_recv, made.session, made.frame_no, item, "rest",
            INTERVAL, opened, *prices, volume, None, None, None, None,
        )  # fmt: skip
        found.append(Row(opened, closes, bytes(raw), event))
    return found
