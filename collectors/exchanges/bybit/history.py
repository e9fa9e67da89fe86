"""Bybit's history over REST: candles, settled rates and open interest, newest first, as far back as a listing. Pure.

Trades are given by their newest thousand only (spot: 60), without a way to go on: they are the archives'. Bounds, pages
and what no page says: docs/exchanges/bybit.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters import past
from collectors.adapters.answers import Failure
from collectors.adapters.paging import Made, Pages, Probe, Route, Row, TimePages, Unstable
from collectors.exchanges.bybit.asking import failure, opened
from market.history import Absent, Offer
from market.instruments import MARKET_SIZING
from market.kinds import OpenInterest
from market.session import Polled
from market.times import DAY, HOUR, MINUTE, MS, SECOND

CANDLES, RATES, INTERESTS = "kline", "funding/history", "open-interest"
PAGES = {CANDLES: 1000, RATES: 200, INTERESTS: 200}
PERIOD = 5 * MINUTE
BOTH = 2
"""Sides that the venue's open interest counts."""
_NEWEST = Absent("recent-trade gives the newest 1,000 (spot: 60) without a way to go on; the archives have all")
_FILLS = Absent("the venue tells every fill by itself: trade, of the archives")
_CANDLES = Offer(width=7 * DAY, grain=MINUTE)
_SPOT: Mapping[str, Offer | Absent] = {
    "trade": _NEWEST, "agg_trade": _FILLS, "kline": _CANDLES, "funding_rate": past.NO_FUTURES,
    "open_interest": past.NO_FUTURES,
}  # fmt: skip
_FUTURES: Mapping[str, Offer | Absent] = {
    "trade": _NEWEST, "agg_trade": _FILLS, "kline": _CANDLES, "funding_rate": Offer(width=360 * DAY, grain=SECOND),
    "open_interest": Offer(width=30 * DAY, grain=SECOND, same=False), "mark_price": past.MOMENTS,
}  # fmt: skip
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
_NOW_ONLY = "the venue tells it when it happens: no REST route and no archive of its has it afterwards"
_QUOTES = "the venue tells quotes when they happen: its archives have books of other depths, ten times a second at most"
_BOOK = "the venue's REST route has the book of now, its archives what the streams of books say"
_MARKS = "the venue tells marks when they happen: afterwards it has candles of them"
_SPOT_GONE = {"quote": _QUOTES, "book_snapshot": _BOOK}
_FUTURES_GONE = _SPOT_GONE | {"liquidation": _NOW_ONLY, "mark_price": _MARKS}
FLEETING: Mapping[str, Mapping[str, str]] = {"spot": _SPOT_GONE, "linear": _FUTURES_GONE, "inverse": _FUTURES_GONE}
"""Kinds whose past no source of the venue tells, with the reason. Updates of books are in its archives."""


class _Listed(msgspec.Struct):
    rows: list[msgspec.Raw] = msgspec.field(name="list")
    symbol: str | None = None
    category: str | None = None


class _Candle(msgspec.Struct, array_like=True):
    """Start, OHLC, volume, turnover."""

    t: str
    o: str
    h: str
    l: str  # noqa: E741 -- the venue's spelling
    c: str
    v: str
    q: str


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: str  # noqa: N815 -- the venue's spelling
    fundingRateTimestamp: str  # noqa: N815


class _Interest(msgspec.Struct):
    openInterest: str  # noqa: N815
    timestamp: str


_listed = msgspec.json.Decoder(_Listed).decode
_candle = msgspec.json.Decoder(_Candle).decode
_settled = msgspec.json.Decoder(_Settled).decode
_interest = msgspec.json.Decoder(_Interest).decode


def session(market_type: str, session_id: str, polled: Polled, rest: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    symbol, span = past.asked("bybit", OFFERED[market_type], market_type, polled)
    symbol = symbol.upper()
    base, told = f"{rest.rstrip('/')}/v5/market", f"category={market_type}&symbol={quote(symbol, safe='')}"
    monthly = Probe(f"{base}/{CANDLES}?{told}&interval=M&limit={PAGES[CANDLES]}", 1, _first)
    route = _route(polled.kind, market_type, symbol, base, told)
    stream = past.stream_of(route.name, symbol, polled.kind)
    return TimePages(session_id, stream, span, route, monthly)


def _route(kind: str, market: str, symbol: str, base: str, told: str) -> Route:
    if kind == "kline":
        limit = PAGES[CANDLES]
        return Route(
            CANDLES, f"{base}/{CANDLES}?{told}&interval=1", 1, limit, _reader(_candles(symbol, market), symbol),
            _failure, start="start", end="end", newest_first=True, width=MINUTE, window=(limit - 1) * MINUTE,
        )  # fmt: skip
    if kind == "funding_rate":
        # no symbol settles more often than once an hour, and no page says whether bounds are included
        return Route(
            RATES, f"{base}/{RATES}?{told}", 1, PAGES[RATES], _reader(_rates(symbol), symbol), _failure,
            newest_first=True, start_included=False, end_included=False, window=(PAGES[RATES] - 2) * HOUR,
        )  # fmt: skip
    return Route(
        INTERESTS, f"{base}/{INTERESTS}?{told}&intervalTime=5min", 1, PAGES[INTERESTS],
        _reader(_interests(symbol, market), symbol), _failure, newest_first=True, start_included=False,
        end_included=False, window=(PAGES[INTERESTS] - 2) * PERIOD,
    )  # fmt: skip


def _failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    del body
    return failure(status, headers)


def _reader(make: past.Make, symbol: str) -> Callable[[bytes, Made], list[Row]]:
    def rows(body: bytes, made: Made) -> list[Row]:
        found = _listed(opened(body, {}, made.ts_recv).result)
        if found.symbol not in (None, symbol):
            raise Unstable("another symbol than the one that was asked for")
        return past.rows_of(found.rows, make, made)

    return rows


def _first(body: bytes) -> int | None:
    """The first month with a candle: what has none was not traded."""
    times = [_time(_candle(raw).t) for raw in _listed(opened(body, {}, 0).result).rows]
    for time in times:
        past.check(time)
    return min(times, default=None)


def _time(text: str) -> int:
    """us; 0, which is impossible, for what is none."""
    return int(text) * MS if text.isascii() and text.isdigit() and len(text) <= 13 else 0


def _candles(symbol: str, market: str) -> past.Make:
    inverse = market == "inverse"

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _candle(raw)
        volumes = (row.q, row.v) if inverse else (row.v, row.q)
        return past.minute(symbol, CANDLES, _time(row.t), (row.o, row.h, row.l, row.c), volumes, bytes(raw), made, item)

    return make


def _rates(symbol: str) -> past.Make:
    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _settled(raw)
        if row.symbol != symbol:
            raise Unstable("another symbol than the one that was asked for")
        return past.settled(symbol, RATES, _time(row.fundingRateTimestamp), row.fundingRate, bytes(raw), made, item)

    return make


def _interests(symbol: str, market: str) -> past.Make:
    """Base units on linear, USD on inverse; both holders of a contract counted."""
    unit = MARKET_SIZING[market].qty_unit

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _interest(raw)
        at = _time(row.timestamp)
        past.check(at, row.openInterest)
        event = OpenInterest(
            symbol, INTERESTS, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", row.openInterest,
            unit, BOTH, period="5m",
        )  # fmt: skip
        return Row(at, at, bytes(raw), event)

    return make
