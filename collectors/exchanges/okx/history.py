"""OKX's history over REST: trades by id, candles, settled rates, open interest; newest first, bounds excluded. Pure.

Trades and settled rates are kept for three months, open interest for its newest 1,440 points. Bounds, pages and what no
page says: docs/exchanges/okx.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters import past
from collectors.adapters.dense_paging import Before, DensePages
from collectors.adapters.paging import Made, Pages, Probe, Route, Row, TimePages, Unstable
from collectors.adapters.reading import Id
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.asking import failure, opened
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import OpenInterest, Trade
from market.session import Polled
from market.times import DAY, HOUR, MINUTE, SECOND

TRADES, CANDLES, RATES = "history-trades", "history-candles", "funding-rate-history"
INTERESTS = "open-interest-history"
PAGES = {TRADES: 100, CANDLES: 300, RATES: 400, INTERESTS: 100}
WEIGHTS = {TRADES: 2, CANDLES: 2, RATES: 4, INTERESTS: 4}
"""Of 40 in two seconds: what is allowed less often weighs more."""
PERIOD = 5 * MINUTE
MONTHS = 88 * DAY
"""What the venue calls three months is never less."""
CONDITIONS = {"0": "market", "1": "rpi"}
_TRADES = Offer(reach=MONTHS, prompt=True)
_CANDLES = Offer(width=7 * DAY, grain=MINUTE)
_FILLS = Absent("no route puts fills together; trade tells every one of them")
_SPOT: Mapping[str, Offer | Absent] = {
    "trade": _TRADES, "agg_trade": _FILLS, "kline": _CANDLES, "funding_rate": past.NO_FUTURES,
    "open_interest": past.NO_FUTURES,
}  # fmt: skip
_FUTURES: Mapping[str, Offer | Absent] = {
    "trade": Offer(reach=MONTHS, prompt=True, sized=True), "agg_trade": _FILLS, "kline": _CANDLES,
    "funding_rate": Offer(reach=MONTHS, width=90 * DAY, grain=SECOND),
    "open_interest": Offer(reach=1440 * PERIOD, width=5 * DAY, grain=SECOND, same=False), "mark_price": past.MOMENTS,
}  # fmt: skip
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
_QUOTES = "the venue tells quotes when they happen: its archives have books, no best prices of every change"
_BOOK = "the venue's REST route has the book of now, its archives updates"
_MARKS = "the venue tells marks when they happen: afterwards it has candles of them"
_SPOT_GONE = {"quote": _QUOTES, "book_snapshot": _BOOK}
_FUTURES_GONE = _SPOT_GONE | {"mark_price": _MARKS}
FLEETING: Mapping[str, Mapping[str, str]] = {"spot": _SPOT_GONE, "linear": _FUTURES_GONE, "inverse": _FUTURES_GONE}
"""Kinds whose past no source of the venue tells, with the reason. Updates of books are in its archives, forced orders
of some days at a REST route that its documentation does not name.
"""


class _Settled(msgspec.Struct):
    """`fundingRate` was the estimate, `realizedRate` is what was settled."""

    instId: str  # noqa: N815 -- the venue's spelling
    realizedRate: str  # noqa: N815
    fundingTime: str  # noqa: N815


_fill = msgspec.json.Decoder(wire.TradeItem).decode
_fields = msgspec.json.Decoder(list[str]).decode
_settled = msgspec.json.Decoder(_Settled).decode
_number = msgspec.json.Decoder(Id).decode


def session(market_type: str, session_id: str, polled: Polled, rest: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    symbol, span = past.asked("okx", OFFERED[market_type], market_type, polled)
    symbol = symbol.upper()
    base, told = f"{rest.rstrip('/')}/api/v5", f"instId={quote(symbol, safe='')}"
    if polled.kind == "trade":
        size = None if market_type == "spot" else past.worth(polled, symbol)
        url, weight = f"{base}/market/{TRADES}?{told}", WEIGHTS[TRADES]
        fills = _reader(_trades(symbol, size))
        route = Route(TRADES, f"{url}&type=1", weight, PAGES[TRADES], fills, failure, end="after", newest_first=True)
        before = Before(f"{url}&type=2&limit=1", weight, _last(symbol))
        return DensePages(session_id, past.stream_of(TRADES, symbol, "trade"), span, route, before)
    if polled.kind == "funding_rate" and not symbol.endswith(wire.PERPETUAL):
        raise Malformed(f"history of okx {market_type} funding_rate (there is none of dated contracts)", symbol)
    monthly = Probe(f"{base}/market/{CANDLES}?{told}&bar=1Mutc&limit={PAGES[CANDLES]}", WEIGHTS[CANDLES], _first)
    route = _route(polled.kind, market_type, symbol, base, told)
    stream = past.stream_of(route.name, symbol, polled.kind)
    return TimePages(session_id, stream, span, route, monthly if polled.kind == "kline" else None)


def _route(kind: str, market: str, symbol: str, base: str, told: str) -> Route:
    if kind == "kline":
        return Route(
            CANDLES, f"{base}/market/{CANDLES}?{told}&bar=1m", WEIGHTS[CANDLES], PAGES[CANDLES],
            _reader(_candles(symbol, market)), failure, start="before", end="after", newest_first=True,
            start_included=False, end_included=False, width=MINUTE, window=(PAGES[CANDLES] - 1) * MINUTE,
        )  # fmt: skip
    if kind == "funding_rate":
        return Route(
            RATES, f"{base}/public/{RATES}?{told}", WEIGHTS[RATES], PAGES[RATES], _reader(_rates(symbol)), failure,
            start="before", end="after", newest_first=True, start_included=False, end_included=False,
            window=(PAGES[RATES] - 2) * HOUR,
        )  # fmt: skip
    return Route(
        INTERESTS, f"{base}/rubik/stat/contracts/{INTERESTS}?{told}&period=5m", WEIGHTS[INTERESTS], PAGES[INTERESTS],
        _reader(_interests(symbol, market)), failure, start="begin", end="end", newest_first=True,
        start_included=False, end_included=False, window=(PAGES[INTERESTS] - 2) * PERIOD,
    )  # fmt: skip


def _reader(make: past.Make) -> Callable[[bytes, Made], list[Row]]:
    return lambda body, made: past.rows_of(opened(body), make, made)


def _first(body: bytes) -> int | None:
    """The first month with a candle: what has none was not traded."""
    times = [wire.time_of(_row(raw, 9)[0]) for raw in opened(body)]
    for time in times:
        past.check(time)
    return min(times, default=None)


def _row(raw: msgspec.Raw, fields: int) -> list[str]:
    row = _fields(raw)
    if len(row) < fields:
        raise Unstable("a row of too few fields")
    return row


def _last(symbol: str) -> Callable[[bytes], tuple[int, int] | None]:
    """The id and the time of the newest trade of an answer."""
    make = _trades(symbol, None)

    def last(body: bytes) -> tuple[int, int] | None:
        rows = past.rows_of(opened(body), make, Made("", 0, 0))
        return max(((row.key, row.at) for row in rows), default=None)

    return last


def _trades(symbol: str, size: str | None) -> past.Make:
    unit = None if size is None else "contract"

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _fill(raw)
        at = wire.time_of(row.ts)
        past.check(at, row.px, row.sz)
        if row.instId != symbol or row.side not in wire.SIDES or row.source not in CONDITIONS:
            raise Unstable("another symbol, or an unknown side or source")
        number = _number(row.tradeId.encode())
        event = Trade(
            symbol, TRADES, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", row.px, row.sz, row.side,
            number, CONDITIONS[row.source], None, unit, size,
        )  # fmt: skip
        return Row(number, at, bytes(raw), event)

    return make


def _candles(symbol: str, market: str) -> past.Make:
    """On spot `vol` is in base and `volCcy` in quote; elsewhere contracts, base, and `volCcyQuote` in quote."""
    spot = market == "spot"

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        time, first, high, low, close, volume, coins, money, confirm = _row(raw, 9)[:9]
        if confirm != "1":
            raise Unstable("a candle that still forms")
        volumes = (volume, coins) if spot else (coins, money)
        prices = (first, high, low, close)
        return past.minute(symbol, CANDLES, wire.time_of(time), prices, volumes, bytes(raw), made, item)

    return make


def _rates(symbol: str) -> past.Make:
    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _settled(raw)
        if row.instId != symbol:
            raise Unstable("another symbol than the one that was asked for")
        return past.settled(symbol, RATES, wire.time_of(row.fundingTime), row.realizedRate, bytes(raw), made, item)

    return make


def _interests(symbol: str, market: str) -> past.Make:
    """Contracts, each counted once, and what they are worth: USD is the quote of inverse ones only."""
    inverse = market == "inverse"

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        time, interest, coins, money = _row(raw, 4)[:4]
        at = wire.time_of(time)
        past.check(at, interest, coins, money)
        event = OpenInterest(
            symbol, INTERESTS, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", interest, "contract",
            1, coins, money if inverse else None, "5m",
        )  # fmt: skip
        return Row(at, at, bytes(raw), event)

    return make
