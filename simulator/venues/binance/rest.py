"""Binance's REST side: routes and weights, and the market data that all markets have, with its paging rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from market.times import HOUR
from simulator.asking import Refused
from simulator.budget import Budget
from simulator.candles import INTERVALS, Candle, next_open
from simulator.events import Aggregate, Fill
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues import Settings
from simulator.venues.binance import derivatives, listing
from simulator.venues.binance.asking import Asked
from simulator.venues.binance.payloads import pair

PREFIX = {"spot": "/api/v3", "linear": "/fapi/v1", "inverse": "/dapi/v1"}
BEST = "ticker/bookTicker"
BUDGET = {"spot": 6000, "linear": 2400, "inverse": 2400}
"""A minute; the two futures markets share theirs."""
FUNDING_BUDGET = (500, 300)
"""Requests and seconds of USD-M's own limit for its funding routes, which cost no weight."""
DATA, DATA_BUDGET = ("openInterestHist",), (1000, 300)
"""Routes below /futures/data, and the limit of all that cost no weight."""
_SPOT = {
    "ping": 1,
    "time": 1,
    BEST: 2,
    "exchangeInfo": 20,
    "trades": 25,
    "historicalTrades": 25,
    "aggTrades": 4,
    "klines": 2,
}
_FUTURES = {
    "ping": 1,
    "time": 1,
    BEST: 2,
    "exchangeInfo": 1,
    "trades": 5,
    "historicalTrades": 200,
    "aggTrades": 20,
    "fundingRate": 1,
    "fundingInfo": 0,
    "openInterest": 1,
    "openInterestHist": 1,
}
WEIGHT = {"spot": _SPOT, "linear": _FUTURES | {"fundingRate": 0, "openInterestHist": 0}, "inverse": _FUTURES}
_BY_LIMIT = {
    ("spot", "depth"): ((100, 5), (500, 25), (1000, 50), (5000, 250)),
    ("futures", "depth"): ((50, 2), (100, 5), (500, 10), (1000, 20)),
    ("futures", "klines"): ((99, 1), (499, 2), (1000, 5), (1500, 10)),
}
"""(greatest limit, weight), ascending."""
DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
"""The only limits of the futures' depth."""
MISSING_KEY = (-2014, "API-key format invalid.")
Answer = Callable[[Asked], Any]


class Rest:
    """One market's routes."""

    def __init__(self, hub: Hub, market: str, budget: Budget) -> None:
        self.hub = hub
        self.market = market
        self._budget = budget
        self._funding = Budget(hub.clock, *FUNDING_BUDGET)
        self._data = Budget(hub.clock, *DATA_BUDGET)
        self.answers: dict[str, Answer] = ANSWERS | {"depth": self._depth}
        if market != "spot":
            self.answers |= derivatives.ANSWERS

    async def handle(self, request: web.Request) -> web.Response:
        """One request: the budget first, then the answer or the venue's error body."""
        name = request.path.partition(f"{PREFIX[self.market]}/")[2] or request.path.rpartition("/")[2]
        refusal = self._pay(name, request.query)
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._budget.used)}
        if refusal is not None:
            status, seconds = refusal
            headers["Retry-After"] = str(seconds)
            return _json({"code": -1003, "msg": "Too many requests."}, status, headers)
        try:
            return _json(self.answers[name](Asked(self.hub, self.market, request)), 200, headers)
        except Refused as error:
            status = 401 if error.code == MISSING_KEY[0] else 400
            return _json({"code": error.code, "msg": str(error)}, status, headers)

    def _pay(self, name: str, query: Mapping[str, str]) -> tuple[int, int] | None:
        refusal = self._budget.pay(self._weight(name, query))
        if refusal is None and self.market == "linear" and name.startswith("funding"):
            return self._funding.pay(1)
        if refusal is None and self.market == "linear" and name in DATA:
            return self._data.pay(1)
        return refusal

    def _weight(self, name: str, query: Mapping[str, str]) -> int:
        market = "spot" if self.market == "spot" else "futures"
        if name == "premiumIndex":
            return 1 if self.market == "linear" and "symbol" in query else 10
        steps = _BY_LIMIT.get((market, name))
        if steps is None:
            return WEIGHT[self.market][name]
        default = 100 if market == "spot" else 500
        limit = int(query["limit"]) if query.get("limit", "").isdecimal() else default
        return next((weight for most, weight in steps if limit <= most), steps[-1][1])

    def _depth(self, asked: Asked) -> Any:
        """A book as it is now; at equal id its best is the quote's."""
        book, limit = asked.book(), asked.limit("depth")
        if not asked.spot and (asked.number("limit") or limit) not in DEPTHS:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        ladder = book.ladder
        body: dict[str, Any] = {"lastUpdateId": ladder.update_id}
        if not asked.spot:
            body |= {"E": asked.now // 1000, "T": (ladder.ts or asked.now) // 1000}
        if asked.market == "inverse":
            body |= {"symbol": book.symbol, "pair": pair(book)}
        self.hub.log.line("depth", book.market, book.symbol, ladder.update_id, limit, asked.now)
        sides = {"bids": ladder.bids.best(limit), "asks": ladder.asks.best(limit)}
        return body | {name: msgspec.Raw(text.encode()) for name, text in sides.items()}


def _ping(_asked: Asked) -> Any:
    return {}


def _time(asked: Asked) -> Any:
    return {"serverTime": asked.now // asked.unit}


def _best(asked: Asked) -> Any:
    """The best prices of one symbol, which is all that anybody asks for here."""
    book = asked.book()
    sides = [msgspec.json.decode(side.best(1)) for side in (book.ladder.bids, book.ladder.asks)]
    (bid, bid_qty), (ask, ask_qty) = (side[0] if side else ("0", "0") for side in sides)
    said: dict[str, Any] = {
        "symbol": book.symbol, "bidPrice": bid, "bidQty": bid_qty, "askPrice": ask, "askQty": ask_qty,
    }  # fmt: skip
    if not asked.spot:
        said |= {"time": (book.ladder.ts or asked.now) // 1000}
    return [said | {"pair": pair(book)}] if asked.market == "inverse" else said


def _exchange_info(asked: Asked) -> Any:
    listed = list(asked.books.values())
    if asked.spot:
        wanted = asked.query.get("symbols")
        if wanted is not None:
            try:
                chosen = msgspec.json.decode(wanted, type=list[str])
            except msgspec.DecodeError:
                raise Refused(-1100, "Illegal characters found in parameter 'symbols'.") from None
        else:
            chosen = [asked.query["symbol"]] if "symbol" in asked.query else []
        if any(symbol not in asked.books for symbol in chosen):
            raise Refused(-1121, "Invalid symbol.")
        listed = [asked.books[symbol] for symbol in chosen] or listed
    return listing.exchange_info(asked.market, listed, asked.now // 1000, BUDGET[asked.market])


def _trades(asked: Asked) -> Any:
    book, limit = asked.book(), asked.limit("trades")
    return [_trade_row(asked, fill) for fill in list(book.trades)[-limit:]]


def _historical_trades(asked: Asked) -> Any:
    if not asked.spot and not asked.request.headers.get("X-MBX-APIKEY"):
        raise Refused(*MISSING_KEY)
    book, limit = asked.book(), asked.limit("historicalTrades")
    start = asked.number("fromId")
    held = list(book.trades)
    page = held[-limit:] if start is None else [fill for fill in held if fill.id >= start][:limit]
    return [_trade_row(asked, fill) for fill in page]


def _aggregates(asked: Asked) -> Any:
    book, limit = asked.book(), asked.limit("aggTrades")
    from_id, start, end = asked.number("fromId"), asked.time("startTime"), asked.time("endTime")
    if not asked.spot:
        if from_id is not None and (start, end) != (None, None):
            raise Refused(-1128, "Combination of optional parameters invalid.")
        if start is not None and end is not None and end - start >= HOUR:
            raise Refused(-1127, "More than 1 hours between startTime and endTime.")
    held = [
        one
        for one in book.aggregates
        if (from_id is None or one.id >= from_id)
        and (start is None or one.ts >= start)
        and (end is None or one.ts <= end)
    ]
    page = held[-limit:] if from_id is None and start is None else held[:limit]
    return [_aggregate_row(asked, one) for one in page]


def _klines(asked: Asked) -> Any:
    book, limit, interval = asked.book(), asked.limit("klines"), asked.query.get("interval", "")
    if interval not in INTERVALS or (not asked.spot and interval == "1s"):
        raise Refused(-1120, "Invalid interval.")
    start, end = asked.time("startTime"), asked.time("endTime")
    held = [
        candle
        for candle in book.candles.read(interval)
        if (start is None or candle.open_time >= start) and (end is None or candle.open_time <= end)
    ]
    newest = start is None or asked.market == "inverse"  # COIN-M counts back from the end even where a start is given
    page = held[-limit:] if newest else held[:limit]
    return [_kline_row(book, candle, interval, asked.unit) for candle in page]


def _kline_row(book: Book, candle: Candle, interval: str, unit: int) -> list[Any]:
    return [
        candle.open_time // unit,
        *(book.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)),
        book.qty(candle.base),
        next_open(candle.open_time, interval) // unit - 1,
        book.amount(candle.quote),
        candle.count,
        book.qty(candle.taker_base),
        book.amount(candle.taker_quote),
        "0",
    ]


def _trade_row(asked: Asked, fill: Fill) -> dict[str, Any]:
    worth = "baseQty" if asked.market == "inverse" else "quoteQty"
    row = {
        "id": fill.id,
        "price": fill.price,
        "qty": fill.qty,
        worth: fill.book.amount(fill.book.candles.amount(fill.ticks, fill.lots)),
        "time": fill.ts // asked.unit,
        "isBuyerMaker": fill.maker,
    }
    if asked.market == "inverse":
        return row
    return row | ({"isBestMatch": True} if asked.spot else {"isRPITrade": False})


def _aggregate_row(asked: Asked, one: Aggregate) -> dict[str, Any]:
    row = {"a": one.id, "p": one.price, "q": one.qty, "f": one.first_id, "l": one.last_id, "T": one.ts // asked.unit}
    if asked.market == "linear":
        row["nq"] = one.qty
    return row | {"m": one.maker} | ({"M": True} if asked.spot else {})


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
    BEST: _best,
    "exchangeInfo": _exchange_info,
    "trades": _trades,
    "historicalTrades": _historical_trades,
    "aggTrades": _aggregates,
    "klines": _klines,
}


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    found: list[web.RouteDef] = []
    futures = Budget(hub.clock, BUDGET["linear"])
    for market in settings.markets:
        prefix = PREFIX[market]
        rest = Rest(hub, market, Budget(hub.clock, BUDGET["spot"]) if market == "spot" else futures)
        handle: Callable[[web.Request], Awaitable[web.Response]] = rest.handle
        paths = ("/futures/data" if name in DATA else prefix for name in rest.answers)
        found += [web.get(f"/{market}{path}/{name}", handle) for path, name in zip(paths, rest.answers, strict=True)]
    return found
