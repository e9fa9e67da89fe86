"""KuCoin's history over REST: candles and settled rates. Pure.

Trades are given by their newest hundred only, without a way to go on: they are the archives'. Spot writes candles as
texts, newest first, in seconds; futures as numbers, oldest first, in milliseconds, volumes in lots. Bounds, pages and
what no page says: docs/exchanges/kucoin.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters import past
from collectors.adapters.paging import Made, Pages, Probe, Route, Row, TimePages, Unstable
from collectors.adapters.reading import TOO_LONG, Millis
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.asking import failure, opened
from market.history import Absent, Offer
from market.numbers import product
from market.session import Polled
from market.times import DAY, HOUR, MINUTE, MS, SECOND

SPOT_CANDLES, CANDLES, RATES = "market/candles", "kline/query", "contract/funding-rates"
PAGES = {SPOT_CANDLES: 1500, CANDLES: 500, RATES: 100}
"""Of settled rates no page says one: more than a hundred are not asked for."""
WEIGHTS = {SPOT_CANDLES: 3, CANDLES: 3, RATES: 5}
BEGAN = {"spot": 1_500_000_000_000_000, "linear": 1_546_300_800_000_000, "inverse": 1_546_300_800_000_000}
"""Before any of the venue's candles: 2017-07 and 2019."""
_NEWEST = Absent("the route gives the newest 100 without a way to go on; the archives have all")
_FILLS = Absent("the venue tells every fill by itself: trade, of the archives")
_SPOT: Mapping[str, Offer | Absent] = {
    "trade": _NEWEST, "agg_trade": _FILLS, "kline": Offer(width=7 * DAY, grain=MINUTE),
    "funding_rate": past.NO_FUTURES, "open_interest": past.NO_FUTURES,
}  # fmt: skip
_FUTURES: Mapping[str, Offer | Absent] = {
    "trade": _NEWEST, "agg_trade": _FILLS, "kline": Offer(width=7 * DAY, grain=MINUTE, sized=True),
    "funding_rate": Offer(width=360 * DAY, grain=SECOND),
    "open_interest": Absent("an interface that the venue abandons gives it; the present is asked for at an interval"),
    "mark_price": past.MOMENTS,
}  # fmt: skip
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
_QUOTES = "the venue tells quotes when they happen: no REST route and no archive of its has them afterwards"
_BOOKS = "the venue tells updates of books when they happen: its archives have whole books of 50 levels"
_MARKS = "the venue tells marks when they happen: afterwards its archives have candles of them"
_SPOT_GONE = {"quote": _QUOTES, "book_delta": _BOOKS}
_FUTURES_GONE = _SPOT_GONE | {"mark_price": _MARKS}
FLEETING: Mapping[str, Mapping[str, str]] = {"spot": _SPOT_GONE, "linear": _FUTURES_GONE, "inverse": _FUTURES_GONE}
"""Kinds whose past no source of the venue tells, with the reason. Whole books are in its archives."""


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: msgspec.Raw  # noqa: N815 -- the venue's spelling
    timepoint: Millis


_items = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_texts = msgspec.json.Decoder(list[str]).decode
_fields = msgspec.json.Decoder(list[msgspec.Raw]).decode
_millis = msgspec.json.Decoder(Millis).decode
_settled = msgspec.json.Decoder(_Settled).decode


def session(market_type: str, session_id: str, polled: Polled, rest: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    symbol, span = past.asked("kucoin", OFFERED[market_type], market_type, polled)
    symbol = symbol.upper()
    base, told = f"{rest.rstrip('/')}/api/v1", f"symbol={quote(symbol, safe='')}"
    if polled.kind == "funding_rate":
        # no symbol settles more often than once an hour, and no page says whether bounds are included
        route = Route(
            RATES, f"{base}/{RATES}?{told}", WEIGHTS[RATES], PAGES[RATES], _reader(_rates(symbol)), failure,
            start="from", end="to", most="", newest_first=True, start_included=False, end_included=False,
            window=(PAGES[RATES] - 2) * HOUR,
        )  # fmt: skip
    elif market_type == "spot":
        route = _candle_route(SPOT_CANDLES, f"{base}/{SPOT_CANDLES}?{told}&type=1min", _spot_candles(symbol))
    else:
        make = _candles(symbol, past.worth(polled, symbol), inverse=market_type == "inverse")
        route = _candle_route(CANDLES, f"{base}/{CANDLES}?{told}&granularity=1", make)
    stream = past.stream_of(route.name, symbol, polled.kind)
    return TimePages(session_id, stream, span, route, _weekly(market_type, base, told, span[1]))


def _candle_route(name: str, url: str, make: past.Make) -> Route:
    spot = name == SPOT_CANDLES
    return Route(
        name, url, WEIGHTS[name], PAGES[name], _reader(make), failure, start="startAt" if spot else "from",
        end="endAt" if spot else "to", most="", unit=SECOND if spot else MS, newest_first=spot, end_included=False,
        width=MINUTE, window=(PAGES[name] - 1) * MINUTE,
    )  # fmt: skip


def _weekly(market: str, base: str, told: str, end: int) -> Probe:
    """Candles of weeks say when a symbol's trade began."""
    if market == "spot":
        name, url = SPOT_CANDLES, f"&type=1week&startAt={BEGAN[market] // SECOND}&endAt={end // SECOND}"
    else:
        name, url = CANDLES, f"&granularity=10080&from={BEGAN[market] // MS}&to={end // MS}"
    unit, most = SECOND if market == "spot" else MS, PAGES[name]

    def first(body: bytes) -> int | None:
        rows = [_fields(raw) for raw in _items(opened(body)) or ()]
        if len(rows) >= most:
            return 0  # there may be more: nothing is known
        times = [_millis(bytes(row[0]).strip(b'"')) * unit if row else 0 for row in rows]
        for time in times:
            past.check(time)
        return min(times, default=None)

    return Probe(f"{base}/{name}?{told}{url}", WEIGHTS[name], first)


def _reader(make: past.Make) -> Callable[[bytes, Made], list[Row]]:
    return lambda body, made: past.rows_of(_items(opened(body)) or (), make, made)


def _spot_candles(symbol: str) -> past.Make:
    """[start (s), open, close, high, low, volume (base), turnover (quote)]."""

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _texts(raw)
        if len(row) < 7 or not (row[0].isascii() and row[0].isdigit() and len(row[0]) <= 10):
            raise Unstable("no candle")
        start, first, close, high, low, volume, turnover = row[:7]
        prices, volumes = (first, high, low, close), (volume, turnover)
        return past.minute(symbol, SPOT_CANDLES, int(start) * SECOND, prices, volumes, bytes(raw), made, item)

    return make


def _candles(symbol: str, lot: str, *, inverse: bool) -> past.Make:
    """[start (ms), open, high, low, close, lots]; newer answers have more behind them."""

    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _fields(raw)
        if len(row) < 6:
            raise Unstable("no candle")
        texts = [text for text in map(wire.amount, row[1:6]) if text is not None]
        if len(texts) < 5:
            raise Unstable("not a decimal number")
        first, high, low, close, lots = texts
        volume = product(lots, lot)
        if volume is None:
            raise Unstable(TOO_LONG)
        volumes = (None, volume) if inverse else (volume, None)
        prices = (first, high, low, close)
        return past.minute(symbol, CANDLES, _millis(row[0]) * MS, prices, volumes, bytes(raw), made, item)

    return make


def _rates(symbol: str) -> past.Make:
    def make(raw: msgspec.Raw, made: Made, item: int) -> Row:
        row = _settled(raw)
        if row.symbol != symbol:
            raise Unstable("another symbol than the one that was asked for")
        rate = wire.figure(row.fundingRate)
        return past.settled(symbol, RATES, row.timepoint * MS, rate, bytes(raw), made, item)

    return make
