"""Binance's history over REST: which kinds each market gives, how far back, by which route and paging. Pure.

Spot: trades and aggregates by id for ever, candles by time. USD-M and COIN-M: aggregates by id for a day or two,
candles, settled funding, open interest every five minutes for a month. What is not given is refused with the reason.
Bounds, pages and weights are the venue's pages of documentation (see SOURCES.md of the conformance fixtures).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters import past
from collectors.adapters.paging import IdPages, Made, Pages, Probe, Route, Row, Seek, TimePages, Unstable
from collectors.adapters.reading import EARLIEST, LAST, TOO_LONG, Id
from collectors.exchanges.binance import answers, inverse, wire
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import AggTrade, FundingRate, Kline, OpenInterest, Trade
from market.numbers import is_decimal, product
from market.session import Polled, Stream
from market.times import DAY, HOUR, MINUTE, MS, SECOND

NAMES = {"trade": "historicalTrades", "agg_trade": "aggTrades", "kline": "klines", "funding_rate": "fundingRate",
         "open_interest": "openInterestHist"}  # fmt: skip
INTERVAL = "1m"
"""The candles that are asked for: all wider ones fold from them."""
PERIOD = "5m"
PAGE = 1000
"""Rows of a page of trades, aggregates and candles."""
FUNDING_WEIGHT, INTEREST_WEIGHT = 24, 12
"""Routes without a weight have a limit of their own, 500 and 1000 requests in 5 minutes: half of it, as if of 2400
weights a minute (of which half is used).
"""
PREFIX = {"spot": "/api/v3", "linear": "/fapi/v1", "inverse": "/dapi/v1"}
_BY_ID = Offer(prompt=True)
_CANDLES = Offer(width=7 * DAY, grain=MINUTE)
_RATES = Offer(width=360 * DAY, grain=SECOND)
_MONTH = Offer(width=5 * DAY, grain=SECOND, reach=30 * DAY, same=False)  # of five minutes; polls are of a moment
_KEYED = Absent("its historicalTrades need an API key; agg_trade, or the archives, tell the same fills")
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {
    "spot": {
        "trade": _BY_ID, "agg_trade": _BY_ID, "kline": _CANDLES, "funding_rate": past.NO_FUTURES,
        "open_interest": past.NO_FUTURES,
    },
    "linear": {
        "trade": _KEYED, "agg_trade": Offer(reach=2 * DAY, prompt=True), "kline": _CANDLES, "funding_rate": _RATES,
        "open_interest": _MONTH,
    },
    "inverse": {
        "trade": _KEYED, "agg_trade": Offer(reach=DAY, prompt=True, sized=True),
        "kline": Offer(width=7 * DAY, grain=MINUTE, sized=True), "funding_rate": _RATES, "open_interest": _MONTH,
    },
}  # fmt: skip
_NOW_ONLY = "the venue tells it when it happens: no REST route and no archive of its has it afterwards"
_BOOKS = "the venue tells updates of books when they happen: its REST route has the book of now, its archives have none"
_SPOT_QUOTES = "the venue tells quotes when they happen: no REST route has them afterwards, its archives none of spot"
FLEETING: Mapping[str, Mapping[str, str]] = {
    "spot": {"quote": _SPOT_QUOTES, "book_delta": _BOOKS, "book_snapshot": _BOOKS},
    "linear": {"liquidation": _NOW_ONLY, "mark_price": _NOW_ONLY, "book_delta": _BOOKS, "book_snapshot": _BOOKS},
    "inverse": {"mark_price": _NOW_ONLY, "book_delta": _BOOKS, "book_snapshot": _BOOKS},
}
"""Kinds whose past no source of the venue tells, with the reason: what is missing of them stays missing."""


class _Fill(msgspec.Struct):
    id: Id
    price: str
    qty: str
    time: wire.Time
    isBuyerMaker: bool  # noqa: N815 -- the venue's spelling


class _Aggregate(msgspec.Struct):
    a: Id
    p: str
    q: str
    f: Id
    l: Id  # noqa: E741 -- the venue's spelling
    T: wire.Time
    m: bool


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: str  # noqa: N815
    fundingTime: wire.Time  # noqa: N815


class _Interest(msgspec.Struct):
    sumOpenInterest: str  # noqa: N815
    sumOpenInterestValue: str  # noqa: N815
    timestamp: wire.Time | str
    symbol: str | None = None
    pair: str | None = None


class _Candle(msgspec.Struct, array_like=True):
    """Open time, OHLC, volume, close time, the other volume, trades, the taker's share of both volumes."""

    t: wire.Time
    o: str
    h: str
    l: str  # noqa: E741
    c: str
    v: str
    T: wire.Time
    q: str
    n: Id
    V: str
    Q: str


_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fill = msgspec.json.Decoder(_Fill).decode
_aggregate = msgspec.json.Decoder(_Aggregate).decode
_settled = msgspec.json.Decoder(_Settled).decode
_interest = msgspec.json.Decoder(_Interest).decode
_candle = msgspec.json.Decoder(_Candle).decode
Make = Callable[[msgspec.Raw, Made, int], Row]
"""One row of a body, where it was received, its place there. Raises BAD_FRAME, Unstable."""


def session(market_type: str, session_id: str, polled: Polled, rest: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    symbol, span = past.asked("binance", OFFERED[market_type], market_type, polled)
    symbol = symbol.upper()
    name, base = NAMES[polled.kind], rest.rstrip("/")
    stream = Stream(f"{name} {symbol}", name, symbol, polled.kind, contiguous=False)
    told = f"symbol={quote(symbol, safe='')}"
    path = f"{base}{PREFIX[market_type]}"
    if polled.kind in ("trade", "agg_trade"):
        make, weight = _trades(symbol), 25
        if polled.kind == "agg_trade":
            make, weight = _aggregates(symbol, _size(polled, market_type)), 4 if market_type == "spot" else 20
        route = Route(name, f"{path}/{name}?{told}", weight, PAGE, _reader(make), answers.failure)
        seek = Seek(f"{path}/aggTrades?{told}", 4 if market_type == "spot" else 20, _first(polled.kind))
        return IdPages(session_id, stream, span, route, seek)
    probe = None
    if polled.kind == "kline" and market_type == "inverse":  # whose page is its newest rows: a start alone is no first
        probe = Probe(f"{path}/klines?{told}&interval=1M&limit={PAGE}", 5, _first_month)
    route = _by_time(polled, market_type, base, path, told)
    return TimePages(session_id, stream, span, route, probe)


def _by_time(polled: Polled, market_type: str, base: str, path: str, told: str) -> Route:
    kind, symbol = polled.kind, polled.symbols[0].upper()
    if kind == "kline":
        # COIN-M counts a page back from its end: a window of just so many candles is the same on every market
        return Route(
            NAMES[kind], f"{path}/klines?{told}&interval={INTERVAL}", 2 if market_type == "spot" else 5, PAGE,
            _reader(_candles(symbol, _size(polled, market_type))), answers.failure, width=MINUTE,
            window=(PAGE - 1) * MINUTE, ascends=market_type != "inverse",
        )  # fmt: skip
    if kind == "funding_rate":
        weight = FUNDING_WEIGHT if market_type == "linear" else 1
        return Route(
            NAMES[kind], f"{path}/fundingRate?{told}", weight, 1000, _reader(_rates(symbol)), answers.failure,
            lead=SECOND, window=990 * HOUR, ascends=True,
        )  # fmt: skip
    asked = told if market_type == "linear" else f"pair={quote(_pair(symbol), safe='')}&contractType=PERPETUAL"
    return Route(
        NAMES[kind], f"{base}/futures/data/openInterestHist?{asked}&period={PERIOD}", INTEREST_WEIGHT, 500,
        _reader(_interests(symbol, market_type)), answers.failure, window=490 * 5 * MINUTE,
    )  # fmt: skip


def _pair(symbol: str) -> str:
    """Whose open interest it is: COIN-M is asked by pair and sort, and of dated contracts the name does not say it."""
    pair, _, sort = symbol.partition("_")
    if sort != "PERP":
        raise Malformed("history of binance inverse open_interest (it is given of perpetuals only)", symbol)
    return pair


def _reader(make: Make) -> Callable[[bytes, Made], list[Row]]:
    def rows(body: bytes, made: Made) -> list[Row]:
        return [make(raw, made, item) for item, raw in enumerate(_raws(body))]

    return rows


def _first(kind: str) -> Callable[[bytes], int | None]:
    """The first id of a time: of trades the first one inside the first aggregate."""

    def first(body: bytes) -> int | None:
        found = [_aggregate(raw) for raw in _raws(body)]
        return (found[0].a if kind == "agg_trade" else found[0].f) if found else None

    return first


def _first_month(body: bytes) -> int | None:
    """The first month with a candle: what has none was not traded."""
    times = [wire.to_us(_candle(raw).t) for raw in _raws(body)]
    for time in times:
        _check(time)
    return min(times, default=None)


def _check(at: int, *texts: str) -> None:
    """Raises Unstable for what is no row of this venue."""
    if not wire.all_good(*texts):
        raise Unstable("not a decimal number")
    if not EARLIEST < at < LAST:
        raise Unstable("impossible time")


def _trades(symbol: str) -> Make:
    name = NAMES["trade"]

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _fill(raw)
        at = wire.to_us(row.time)
        _check(at, row.price, row.qty)
        event = Trade(
            symbol, name, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", row.price, row.qty,
            "sell" if row.isBuyerMaker else "buy", row.id, "market",
        )  # fmt: skip
        return Row(row.id, at, bytes(raw), event)

    return make


def _aggregates(symbol: str, size: str | None) -> Make:
    name = NAMES["agg_trade"]

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _aggregate(raw)
        at = wire.to_us(row.T)
        _check(at, row.p, row.q)
        if row.f > row.l:
            raise Unstable("first trade id after the last")
        event = AggTrade(
            symbol, name, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", row.p, row.q,
            "sell" if row.m else "buy", row.a, "market", None, None, size, row.f, row.l,
        )  # fmt: skip
        return Row(row.a, at, bytes(raw), event)

    return make


def _candles(symbol: str, size: str | None) -> Make:
    name = f"{NAMES['kline']} {INTERVAL}"

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _candle(raw)
        opened, closed = wire.to_us(row.t), wire.to_us(row.T)
        _check(opened, row.o, row.h, row.l, row.c, row.v, row.q, row.V, row.Q)
        if opened % MINUTE or closed - closed % MS != opened + MINUTE - MS:
            raise Unstable("a candle that is not of one minute")
        volumes: tuple[str | None, ...] = (row.v, row.q, row.V, row.Q)
        if size is not None:
            volumes = row.q, product(row.v, size), row.Q, product(row.V, size)
        base, quoted, bought, paid = volumes
        if quoted is None or paid is None:
            raise Unstable(TOO_LONG)
        event = Kline(
            symbol, name, closed - closed % MS, None, made.ts_recv, made.session, made.frame_no, item, "rest", INTERVAL,
            opened, row.o, row.h, row.l, row.c, base, quoted, row.n, bought, paid,
        )  # fmt: skip
        return Row(opened, closed - closed % MS, bytes(raw), event)

    return make


def _rates(symbol: str) -> Make:
    name = NAMES["funding_rate"]

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _settled(raw)
        said = wire.to_us(row.fundingTime)
        at = (said + SECOND // 2) // SECOND * SECOND  # some ms off the hour
        _check(at)
        if row.symbol != symbol or not is_decimal(row.fundingRate):
            raise Unstable("another symbol, or no rate")
        event = FundingRate(
            symbol, name, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", row.fundingRate, "ratio",
            None, max(at, said),
        )  # fmt: skip
        return Row(said, at, bytes(raw), event)

    return make


def _interests(symbol: str, market_type: str) -> Make:
    """USD-M says base units and their worth in quote, COIN-M contracts and their worth in base."""
    name, linear = NAMES["open_interest"], market_type == "linear"

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _interest(raw)
        said = row.timestamp
        if isinstance(said, str) and not (said.isascii() and said.isdigit() and len(said) <= 16):
            raise Unstable("impossible time")
        at = wire.to_us(int(said))
        _check(at, row.sumOpenInterest, row.sumOpenInterestValue)
        if (row.symbol if linear else row.pair) != (symbol if linear else _pair(symbol)):
            raise Unstable("another symbol")
        base, quoted = (None, row.sumOpenInterestValue) if linear else (row.sumOpenInterestValue, None)
        event = OpenInterest(
            symbol, name, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", row.sumOpenInterest,
            "base" if linear else "contract", 1, base, quoted, PERIOD,
        )  # fmt: skip
        return Row(at, at, bytes(raw), event)

    return make


def _size(polled: Polled, market_type: str) -> str | None:
    """What one contract is worth in quote, where quantities are contracts: as its listing says, and by the venue's rule
    of one that is over. Raises Malformed.
    """
    symbol = polled.symbols[0].upper()
    if market_type != "inverse":
        return None
    if not polled.known and inverse.NAMED(symbol) is not None:
        return inverse.Sizes()[symbol]
    return past.worth(polled, symbol)
