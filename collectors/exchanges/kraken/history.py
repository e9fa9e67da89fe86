"""Kraken's history over REST: spot's trades by `since`, its newest candles; of futures candles, rates, trades. Pure.

Spot's trades go back to the first one, a thousand after a moment (ns), their ids following by one. Its `OHLC` tells the
newest 720 candles whatever is asked for. Futures' rates come all at once; their candles page by time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import quote

import msgspec

from collectors.adapters import past
from collectors.adapters.answers import Failure
from collectors.adapters.numbered_pages import BackPages, SincePages, WholePage
from collectors.adapters.paging import Made, Pages, Probe, Route, Row, TimePages, Unstable
from collectors.adapters.reading import LAST, Id, Millis, all_good
from collectors.exchanges.kraken import futures_polls, futures_wire, texts
from collectors.exchanges.kraken.asking import failure, opened
from collectors.exchanges.kraken.futures_parsing import ID_LIMIT
from collectors.exchanges.kraken.instruments import alternative
from market.history import Absent, Offer
from market.kinds import FundingRate, Kline, Trade
from market.session import Polled, Stream
from market.times import DAY, HOUR, MINUTE, MS, SECOND

TRADES, CANDLES, CHARTS, RATES, FILLS = "Trades", "OHLC", "charts", "historical-funding-rates", "history"
INTERVAL = "1m"
PAGE, NEWEST = 1000, 720
"""Trades of a page; candles that spot tells at all."""
FILL_PAGE = 100
CHART_PAGE = 1000
"""Of about 2000 (which no page confirms)."""
MOST_RATES = 2**20
"""There is no page: one answer tells all that there is."""
RATES_REACH = 364 * DAY
"""The documents say all of them; what was counted were rates of 366 to 372 days."""
BEGAN = 1_377_993_600_000_000
"""2013-09-01 (us): the venue has nothing older."""
_FILLS = Absent("the venue tells every fill by itself: ask for trade")
_FUTURES: Mapping[str, Offer | Absent] = {
    "trade": Offer(reach=7 * DAY, width=HOUR, prompt=True),
    "agg_trade": _FILLS,
    "kline": Offer(width=7 * DAY, grain=MINUTE),
    "funding_rate": Offer(reach=RATES_REACH, width=3600 * DAY, grain=SECOND),
    "open_interest": Absent("how a row of its analytics is made up is documented nowhere"),
}
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {
    "spot": {
        "trade": Offer(prompt=True), "agg_trade": _FILLS,
        "kline": Offer(reach=NEWEST * MINUTE, width=DAY, grain=MINUTE),
        "funding_rate": past.NO_FUTURES, "open_interest": past.NO_FUTURES,
    },
    "linear": _FUTURES,
    "inverse": _FUTURES,
}  # fmt: skip
_SECONDS = re.compile(rb"([0-9]{10})(?:\.([0-9]{1,9}))?").fullmatch
SIDES = {"b": "buy", "s": "sell"}


class _Fill(msgspec.Struct, array_like=True):
    """Price, base quantity, time (s), taker's side, market or limit, nothing, id."""

    price: str
    qty: str
    time: msgspec.Raw
    side: str
    order: str
    misc: str
    trade_id: Id


class _Print(msgspec.Struct):
    """A trade of futures; `trade_id` counts those of the contract, `uid` is what the stream calls it."""

    time: str
    trade_id: Id
    price: msgspec.Raw
    size: msgspec.Raw
    side: str
    type: str
    uid: str


class _Prints(msgspec.Struct):
    history: list[msgspec.Raw]


class _Candle(msgspec.Struct, array_like=True):
    """Opening time (s), OHLC, the average, base volume, trades."""

    opened: int
    open: str
    high: str
    low: str
    close: str
    average: str
    volume: str
    trades: Id


class _Bar(msgspec.Struct):
    """Of futures; `volume` is a number in older answers."""

    time: Millis
    open: str
    high: str
    low: str
    close: str
    volume: msgspec.Raw


class _Chart(msgspec.Struct):
    candles: list[msgspec.Raw] | None = None
    more_candles: bool = False


class _Rate(msgspec.Struct):
    timestamp: str
    relativeFundingRate: msgspec.Raw  # noqa: N815 -- the venue's spelling


class _Rates(msgspec.Struct):
    rates: list[msgspec.Raw]


_pairs = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fill = msgspec.json.Decoder(_Fill).decode
_candle = msgspec.json.Decoder(_Candle).decode
_print = msgspec.json.Decoder(_Print).decode
_prints = msgspec.json.Decoder(_Prints).decode
_bar = msgspec.json.Decoder(_Bar).decode
_chart = msgspec.json.Decoder(_Chart).decode
_rate = msgspec.json.Decoder(_Rate).decode
_rates = msgspec.json.Decoder(_Rates).decode
Rows = Callable[[bytes, Made], list[Row]]


def session(market_type: str, session_id: str, polled: Polled, rest: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    symbol, span = past.asked("kraken", OFFERED[market_type], market_type, polled)
    name, base = quote(symbol, safe=""), rest.rstrip("/")
    if market_type == "spot":
        return _spot(session_id, polled.kind, symbol, span, f"{base}/0/public")
    if polled.kind == "kline":
        return _charts(session_id, symbol, span, f"{base}/api/charts/v1/trade/{name}", market_type)
    rows: Rows
    if polled.kind == "trade":
        url = f"{base}{futures_polls.BASE}/{FILLS}?symbol={name}"
        rows = partial(_executed, symbol)
        route = Route(FILLS, url, 1, FILL_PAGE, rows, _futures_failure, newest_first=True)
        return BackPages(session_id, _stream(FILLS, symbol, polled.kind), span, route, partial(_before, url))
    url = f"{base}{futures_polls.BASE}/{RATES}?symbol={name}"
    rows = partial(_settled, symbol)
    route = Route(RATES, url, 1, MOST_RATES, rows, _futures_failure)
    return WholePage(session_id, _stream(RATES, symbol, polled.kind), span, route, reach=RATES_REACH)


def _stream(name: str, symbol: str, kind: str) -> Stream:
    return Stream(f"{name} {symbol}", name, symbol, kind, contiguous=False)


def _spot(session_id: str, kind: str, symbol: str, span: tuple[int, int], base: str) -> Pages:
    pair = quote(alternative(symbol), safe="")
    rows: Rows
    if kind == "trade":
        rows = partial(_fills, symbol)
        route = Route(TRADES, f"{base}/{TRADES}?pair={pair}", 1, PAGE, rows, _spot_failure)
        return SincePages(session_id, _stream(TRADES, symbol, kind), span, route)
    rows = partial(_minutes, symbol)
    since = (span[0] - span[0] % MINUTE - 2 * MINUTE) // SECOND
    url = f"{base}/{CANDLES}?pair={pair}&interval=1&since={since}"
    route = Route(CANDLES, url, 1, NEWEST, rows, _spot_failure, width=MINUTE)
    return WholePage(session_id, _stream(CANDLES, symbol, kind), span, route)


def _before(url: str, time: int) -> str:
    return f"{url}&lastTime={quote(texts.written(time), safe='')}"


def _charts(session_id: str, symbol: str, span: tuple[int, int], base: str, market_type: str) -> Pages:
    """Whether `to` is included is documented nowhere: a second more is asked for."""
    start, end = span
    probe = Probe(f"{base}/1d?from={(start - start % DAY) // SECOND}&to={end // SECOND}", 1, _first)
    route = Route(
        CHARTS, f"{base}/{INTERVAL}?count={CHART_PAGE}", 1, CHART_PAGE, partial(_bars, symbol, market_type),
        _futures_failure, start="from", end="to", most="", unit=SECOND, end_included=False, width=MINUTE,
        window=(CHART_PAGE - 1) * MINUTE, more=_more,
    )  # fmt: skip
    return TimePages(session_id, _stream(CHARTS, symbol, "kline"), span, route, probe)


def _spot_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    del body
    return failure(status, headers)


def _futures_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 says; an unknown symbol is 404, 400 with words, or an error with status 200."""
    said = futures_polls.failure(status, headers, body)
    return Failure(said.reason, status, status == 404 or said.refused, said.pause)


def _only(body: bytes, made: Made) -> list[msgspec.Raw]:
    """The rows of the one pair of an answer, whatever it is called there. Raises BAD_FRAME, Failed, Unstable."""
    found = [raw for name, raw in _pairs(opened(body, made.ts_recv)).items() if name != "last"]
    if len(found) != 1:
        raise Unstable("not the one pair that was asked for")
    return _raws(found[0])


def _micros(raw: msgspec.Raw) -> int:
    """A time in seconds with a fraction, as us; what is finer is cut off. Raises Unstable."""
    found = _SECONDS(bytes(raw))
    at = 0 if found is None else int(found[1]) * SECOND + int((found[2] or b"")[:6].ljust(6, b"0"))
    if not BEGAN <= at < LAST:
        raise Unstable("impossible time")
    return at


def _fills(symbol: str, body: bytes, made: Made) -> list[Row]:
    found = []
    for item, raw in enumerate(_only(body, made)):
        data = _fill(raw)
        at = _micros(data.time)
        if not all_good(data.price, data.qty) or data.side not in SIDES:
            raise Unstable("not a decimal number, or an unknown side")
        event = Trade(
            symbol, TRADES, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", data.price, data.qty,
            SIDES[data.side], data.trade_id, "market",
        )  # fmt: skip
        found.append(Row(data.trade_id, at, bytes(raw), event))
    return found


def _executed(symbol: str, body: bytes, made: Made) -> list[Row]:
    """Trades of futures by the names that the stream gives them."""
    futures_polls.opened(body)
    found = []
    for item, raw in enumerate(_prints(body).history):
        data = _print(raw)
        at, price, qty = texts.time(data.time), texts.number(data.price), texts.number(data.size)
        condition = futures_wire.CONDITIONS.get(data.type)
        if at is None or not BEGAN <= at < LAST:
            raise Unstable("impossible time")
        if price is None or qty is None or data.side not in futures_wire.SIDES:
            raise Unstable("not a decimal number, or an unknown side")
        if condition is None or not (0 < len(data.uid) <= ID_LIMIT and data.uid.isascii() and data.uid.isprintable()):
            raise Unstable("an unknown type, or no id")
        event = Trade(
            symbol, FILLS, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", price, qty, data.side,
            None, condition, data.uid,
        )  # fmt: skip
        found.append(Row(data.trade_id, at, bytes(raw), event))
    return found


def _candle_row(
    at: tuple[str, str, Made, int],
    opened: int,
    prices: tuple[str, str, str, str],
    volumes: tuple[str | None, str | None],
    count: int | None,
    raw: msgspec.Raw,
) -> Row:
    """The row of a candle; `at`: symbol, stream, frame, place in it. Raises Unstable."""
    symbol, stream, made, item = at
    if opened % MINUTE or not BEGAN <= opened < LAST:
        raise Unstable("a candle that is not of one minute")
    if not all_good(*prices, *(one for one in volumes if one is not None)):
        raise Unstable("not a decimal number")
    closes = opened + MINUTE - MS
    event = Kline(
        symbol, f"{stream} {INTERVAL}", closes, None, made.ts_recv, made.session, made.frame_no, item, "rest", INTERVAL,
        opened, *prices, *volumes, count, None, None,
    )  # fmt: skip
    return Row(opened, closes, bytes(raw), event)


def _minutes(symbol: str, body: bytes, made: Made) -> list[Row]:
    """Candles of spot; the last one may still form."""
    found = []
    for item, raw in enumerate(_only(body, made)):
        data = _candle(raw)
        prices = (data.open, data.high, data.low, data.close)
        at = (symbol, CANDLES, made, item)
        found.append(_candle_row(at, data.opened * SECOND, prices, (data.volume, None), data.trades, raw))
    return found


def _charted(body: bytes) -> list[msgspec.Raw]:
    """The candles of an answer, which has an envelope only where it has none. Raises BAD_FRAME, Failed, Unstable."""
    held = _chart(body).candles
    if held is None:
        futures_polls.opened(body)
        raise Unstable("an answer without candles")
    return held


def _more(body: bytes) -> bool:
    """Whether the venue has more of the period than an answer holds."""
    return _chart(body).more_candles


def _first(body: bytes) -> int | None:
    """When the first candle of an answer opened (us)."""
    return min((_bar(raw).time * MS for raw in _charted(body)), default=None)


def _bars(symbol: str, market_type: str, body: bytes, made: Made) -> list[Row]:
    """Candles of futures: volumes are base units on linear, contracts of one USD on inverse."""
    found = []
    for item, raw in enumerate(_charted(body)):
        data = _bar(raw)
        volume = texts.number(msgspec.Raw(bytes(data.volume).strip(b'"')))
        if volume is None:
            raise Unstable("not a decimal number")
        volumes = (None, volume) if market_type == "inverse" else (volume, None)
        prices = (data.open, data.high, data.low, data.close)
        found.append(_candle_row((symbol, CHARTS, made, item), data.time * MS, prices, volumes, None, raw))
    return found


def _settled(symbol: str, body: bytes, made: Made) -> list[Row]:
    """All rates in the order of their times, in whatever order they come; each is of the hour that begins with it."""
    futures_polls.opened(body)
    found = []
    for item, raw in enumerate(_rates(body).rates):
        data = _rate(raw)
        at, rate = texts.time(data.timestamp), texts.signed(data.relativeFundingRate)
        if at is None or rate is None or not BEGAN <= at < LAST:
            raise Unstable("no rate, or an impossible time")
        event = FundingRate(
            symbol, RATES, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", rate, "ratio",
            HOUR // SECOND, at,
        )  # fmt: skip
        found.append(Row(at, at, bytes(raw), event))
    return sorted(found, key=lambda row: row.key)
