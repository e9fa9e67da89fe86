"""Binance's REST side: market data routes with their paging rules, weights, limits and error bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from market.times import HOUR
from simulator.candles import INTERVALS, next_open
from simulator.hub import Hub
from simulator.market import Aggregate, Book, Fill
from simulator.venues import Settings
from simulator.venues.binance import listing

PREFIX = {"spot": "/api/v3", "linear": "/fapi/v1"}
BUDGET = {"spot": 6000, "linear": 2400}
PAGE = {
    "spot": {"trades": (500, 1000), "historicalTrades": (500, 1000), "aggTrades": (500, 1000), "klines": (500, 1000)},
    "linear": {"trades": (500, 1000), "historicalTrades": (100, 500), "aggTrades": (500, 1000), "klines": (500, 1500)},
}
"""Default and greatest page."""
WEIGHT = {
    "spot": {"ping": 1, "time": 1, "exchangeInfo": 20, "trades": 25, "historicalTrades": 25, "aggTrades": 4},
    "linear": {"ping": 1, "time": 1, "exchangeInfo": 1, "trades": 5, "historicalTrades": 200, "aggTrades": 20},
}
BAN_SECONDS = 120
REFUSALS_BEFORE_BAN = 10
Answer = Callable[["Rest", web.Request], Any]


class BadRequest(Exception):
    """An error body of the venue."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


class Rest:
    """One market's routes and its weight budget (a client is whoever asks: all come from one address)."""

    def __init__(self, hub: Hub, settings: Settings, market: str) -> None:
        self.hub = hub
        self.market = market
        self.settings = settings
        self.books = {book.symbol: book for book in hub.market.books if book.market == market}
        self._minute = -1
        self._used = 0
        self._refused = 0
        self._banned_until = 0.0

    async def handle(self, request: web.Request) -> web.Response:
        """One request: the budget first, then the answer or the venue's error body."""
        name = request.path.rsplit("/", 1)[-1]
        refusal = self._pay(self._weight(name, request.query))
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._used)}
        if refusal is not None:
            status, seconds = refusal
            headers["Retry-After"] = str(seconds)
            return _json({"code": -1003, "msg": "Too many requests."}, status, headers)
        try:
            return _json(ANSWERS[name](self, request), 200, headers)
        except BadRequest as error:
            return _json({"code": error.code, "msg": error.text}, error.status, headers)

    def _weight(self, name: str, query: Mapping[str, str]) -> int:
        if name == "klines":
            limit = int(query["limit"]) if query.get("limit", "").isdigit() else 500
            return 2 if self.market == "spot" else next(w for top, w in _KLINE_WEIGHT if limit < top)
        return WEIGHT[self.market][name]

    def _pay(self, weight: int) -> tuple[int, int] | None:
        """Status and Retry-After where the minute's budget is used up: 429, or 418 for who goes on after many."""
        time = asyncio.get_running_loop().time()
        seconds = self.hub.clock.now() // 1_000_000
        if time < self._banned_until:
            return 418, int(self._banned_until - time) + 1
        if seconds // 60 != self._minute:
            self._minute, self._used, self._refused = seconds // 60, 0, 0
        self._used += weight
        if self._used <= BUDGET[self.market]:
            return None
        self._refused += 1
        if self._refused > REFUSALS_BEFORE_BAN:
            self._banned_until = time + BAN_SECONDS
            return 418, BAN_SECONDS
        return 429, 60 - seconds % 60

    # -- answers -----------------------------------------------------------------------------------------------------

    def book(self, request: web.Request) -> Book:
        """The symbol asked for."""
        symbol = request.query.get("symbol")
        if symbol is None:
            raise BadRequest(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol not in self.books:
            raise BadRequest(-1121, "Invalid symbol.")
        return self.books[symbol]

    def limit(self, request: web.Request, route: str) -> int:
        """The page size."""
        default, most = PAGE[self.market][route]
        limit = number(request, "limit")
        if limit is None:
            return default
        if limit < 1:
            raise BadRequest(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(limit, most)

    def time(self, request: web.Request, name: str) -> int | None:
        """A time parameter as us: ms, or us where its size says so."""
        value = number(request, name)
        return None if value is None else value if value >= 10**14 else value * 1000

    def unit(self, request: web.Request) -> int:
        """Width in us of one unit of the answer's times."""
        micro = self.market == "spot" and request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
        return 1 if micro else 1000


_KLINE_WEIGHT = ((100, 1), (500, 2), (1001, 5), (1 << 31, 10))


def number(request: web.Request, name: str) -> int | None:
    """An integer parameter."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return int(text)


def _ping(_rest: Rest, _request: web.Request) -> Any:
    return {}


def _time(rest: Rest, request: web.Request) -> Any:
    return {"serverTime": rest.hub.clock.now() // rest.unit(request)}


def _exchange_info(rest: Rest, request: web.Request) -> Any:
    listed = list(rest.books.values())
    if rest.market == "spot":
        wanted = request.query.get("symbols")
        if wanted is not None:
            try:
                chosen = msgspec.json.decode(wanted, type=list[str])
            except msgspec.DecodeError:
                raise BadRequest(-1100, "Illegal characters found in parameter 'symbols'.") from None
        else:
            chosen = [request.query["symbol"]] if "symbol" in request.query else []
        if any(symbol not in rest.books for symbol in chosen):
            raise BadRequest(-1121, "Invalid symbol.")
        listed = [rest.books[symbol] for symbol in chosen] or listed
    return listing.exchange_info(rest.market, listed, rest.hub.clock.now() // 1000, BUDGET[rest.market])


def _trades(rest: Rest, request: web.Request) -> Any:
    book, limit = rest.book(request), rest.limit(request, "trades")
    return [_trade_row(rest, fill, rest.unit(request)) for fill in list(book.trades)[-limit:]]


def _historical_trades(rest: Rest, request: web.Request) -> Any:
    if rest.market == "linear" and not request.headers.get("X-MBX-APIKEY"):
        raise BadRequest(-2014, "API-key format invalid.", 401)
    book, limit = rest.book(request), rest.limit(request, "historicalTrades")
    start = number(request, "fromId")
    held = list(book.trades)
    page = held[-limit:] if start is None else [fill for fill in held if fill.id >= start][:limit]
    return [_trade_row(rest, fill, rest.unit(request)) for fill in page]


def _aggregates(rest: Rest, request: web.Request) -> Any:
    book, limit = rest.book(request), rest.limit(request, "aggTrades")
    from_id, start, end = number(request, "fromId"), rest.time(request, "startTime"), rest.time(request, "endTime")
    if rest.market == "linear":
        if from_id is not None and (start, end) != (None, None):
            raise BadRequest(-1128, "Combination of optional parameters invalid.")
        if start is not None and end is not None and end - start >= HOUR:
            raise BadRequest(-1127, "More than 1 hours between startTime and endTime.")
    held = [
        one
        for one in book.aggregates
        if (from_id is None or one.id >= from_id)
        and (start is None or one.ts >= start)
        and (end is None or one.ts <= end)
    ]
    page = held[-limit:] if from_id is None and start is None else held[:limit]
    return [_aggregate_row(rest, one, rest.unit(request)) for one in page]


def _klines(rest: Rest, request: web.Request) -> Any:
    book, limit, interval = rest.book(request), rest.limit(request, "klines"), request.query.get("interval", "")
    if interval not in INTERVALS or (rest.market == "linear" and interval == "1s"):
        raise BadRequest(-1120, "Invalid interval.")
    start, end, unit = rest.time(request, "startTime"), rest.time(request, "endTime"), rest.unit(request)
    held = [
        candle
        for candle in book.candles.read(interval)
        if (start is None or candle.open_time >= start) and (end is None or candle.open_time <= end)
    ]
    both = book.instrument.price_decimals + book.instrument.qty_decimals
    return [
        [
            candle.open_time // unit,
            *(book.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)),
            book.qty(candle.base),
            next_open(candle.open_time, interval) // unit - 1,
            _amount(candle.quote, both),
            candle.count,
            book.qty(candle.taker_base),
            _amount(candle.taker_quote, both),
            "0",
        ]
        for candle in (held[-limit:] if start is None else held[:limit])
    ]


def _trade_row(rest: Rest, fill: Fill, unit: int) -> dict[str, Any]:
    scale = fill.book.instrument.price_decimals + fill.book.instrument.qty_decimals
    row = {
        "id": fill.id,
        "price": fill.price,
        "qty": fill.qty,
        "quoteQty": _amount(fill.ticks * fill.lots, scale),
        "time": fill.ts // unit,
        "isBuyerMaker": fill.maker,
    }
    return row | ({"isBestMatch": True} if rest.market == "spot" else {"isRPITrade": False})


def _aggregate_row(rest: Rest, one: Aggregate, unit: int) -> dict[str, Any]:
    row = {"a": one.id, "p": one.price, "q": one.qty, "f": one.first_id, "l": one.last_id, "T": one.ts // unit}
    if rest.market == "linear":
        row["nq"] = one.qty
    return row | {"m": one.maker} | ({"M": True} if rest.market == "spot" else {})


def _amount(value: int, decimals: int) -> str:
    """The decimal text of value / 10^decimals, with all its decimals, at least eight of them."""
    unit: int = 10**decimals
    if decimals == 0:
        return f"{value}.00000000"
    return f"{value // unit}.{value % unit:0{decimals}d}".ljust(len(str(value // unit)) + 9, "0")


def _json(body: object, status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


ANSWERS: dict[str, Answer] = {
    "ping": _ping,
    "time": _time,
    "exchangeInfo": _exchange_info,
    "trades": _trades,
    "historicalTrades": _historical_trades,
    "aggTrades": _aggregates,
    "klines": _klines,
}


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    found: list[web.RouteDef] = []
    for market in settings.markets:
        prefix = PREFIX[market]
        handle: Callable[[web.Request], Awaitable[web.Response]] = Rest(hub, settings, market).handle
        found += [web.get(f"/{market}{prefix}/{name}", handle) for name in ANSWERS]
    return found
