"""Bybit's REST side: one host for all markets, told apart by `category`; every answer in the venue's envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from market.times import MS
from simulator import asking, funding
from simulator.asking import Refused, respond
from simulator.budget import Budget
from simulator.candles import INTERVALS, Candle
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues import Settings
from simulator.venues.bybit.wire import INTERVALS as SPELT
from simulator.venues.bybit.wire import trade_id

BUDGET = (600, 5)
"""Requests and seconds, over all markets."""
FORBIDDEN = 403
LAUNCHED = "1585526400000"
PAGE = {"instruments-info": (500, 1000), "orderbook": (25, 500), "funding/history": (200, 200), "kline": (200, 1000),
        "recent-trade": (500, 1000), "open-interest": (50, 200)}  # fmt: skip
"""Default and greatest page."""


class Asked(asking.Asked):
    """One request to one market."""

    UNKNOWN = (10001, "params error: symbol invalid")
    ILLEGAL = (10001, "params error: {} invalid")

    def limit(self, route: str) -> int:
        """The page size."""
        default, most = PAGE[route]
        return min(self.number("limit") or default, most)


def _time(asked: Asked) -> Any:
    return {"timeSecond": str(asked.now // 1_000_000), "timeNano": f"{asked.now}000"}


def _instruments(asked: Asked) -> Any:
    books = [asked.book()] if "symbol" in asked.query else list(asked.books.values())
    listed = [book for book in books if book.status == "TRADING"]
    start, limit = int(asked.query.get("cursor") or 0), asked.limit("instruments-info")
    page = listed if asked.market == "spot" else listed[start : start + limit]
    more = str(start + limit) if asked.market != "spot" and len(listed) > start + limit else ""
    return {"category": asked.market, "list": [_instrument(book) for book in page], "nextPageCursor": more}


def _instrument(book: Book) -> dict[str, Any]:
    held = book.instrument
    row: dict[str, Any] = {
        "symbol": held.symbol, "status": "Trading", "baseCoin": held.base, "quoteCoin": held.quote,
        "priceFilter": {"tickSize": book.price(1)}, "symbolType": "",
    }  # fmt: skip
    if book.market == "spot":
        return row | {"lotSizeFilter": {"basePrecision": book.qty(1), "minOrderQty": book.qty(1)}}
    inverse = book.market == "inverse"
    return row | {
        "contractType": "InversePerpetual" if inverse else "LinearPerpetual", "launchTime": LAUNCHED,
        "deliveryTime": str(book.delivery // MS), "lotSizeFilter": {"qtyStep": book.qty(1)}, "fundingInterval": 480,
        "settleCoin": held.base if inverse else held.quote,
    }  # fmt: skip


def _orderbook(asked: Asked) -> Any:
    book, limit = asked.book(), asked.limit("orderbook")
    ladder = book.ladder
    asked.hub.log.line("depth", book.market, book.symbol, ladder.update_id, limit, asked.now)
    sides = {"b": ladder.bids.best(limit), "a": ladder.asks.best(limit)}
    ids = {"u": ladder.update_id, "seq": ladder.update_id, "ts": asked.now // MS, "cts": (ladder.ts or asked.now) // MS}
    return {"s": book.symbol} | {name: msgspec.Raw(text.encode()) for name, text in sides.items()} | ids


def _tickers(asked: Asked) -> Any:
    books = [asked.book()] if "symbol" in asked.query else list(asked.books.values())
    return {"category": asked.market, "list": [_ticker(asked, book) for book in books]}


def _ticker(asked: Asked, book: Book) -> dict[str, str]:
    row = {"symbol": book.symbol, "lastPrice": book.last}
    if asked.market == "spot":
        return row
    mark, index = (funding.text(value) for value in book.reference(asked.now))
    return row | {
        "markPrice": mark, "indexPrice": index, "openInterest": book.qty(funding.open_interest(book.seed, asked.now)),
        "openInterestValue": "1000.5", "fundingRate": funding.text(funding.predicted(book.seed, asked.now)),
        "nextFundingTime": str(funding.next_funding(asked.now) // MS),
    }  # fmt: skip


def _funding(asked: Asked) -> Any:
    """Settled rates, newest first; a start without an end is an error."""
    book, limit = asked.book(), asked.limit("funding/history")
    start, end = asked.number("startTime"), asked.number("endTime")
    if start is not None and end is None:
        raise Refused(10001, "params error: endTime is missing")
    oldest = max((start or 0) * MS - 1, asked.now - 400 * funding.INTERVAL)
    times = funding.settlements(asked.now if end is None else min(asked.now, end * MS), oldest)
    rows = [
        {"symbol": book.symbol, "fundingRate": funding.text(funding.settled(book.seed, at)),
         "fundingRateTimestamp": str(at // MS)}
        for at in times[:limit]
    ]  # fmt: skip
    return {"category": asked.market, "list": rows}


PERIODS = {"5min": "5m", "15min": "15m", "30min": "30m", "1h": "1h", "4h": "4h", "1d": "1d"}


def _interests(asked: Asked) -> Any:
    """Open interest of every so many minutes, newest first; both bounds are inclusive."""
    book, limit = asked.book(), asked.limit("open-interest")
    if (spelt := asked.query.get("intervalTime", "")) not in PERIODS:
        raise Refused(10001, "params error: intervalTime invalid")
    period, start, end = INTERVALS[PERIODS[spelt]], asked.number("startTime"), asked.number("endTime")
    last = asked.now if end is None else min(asked.now, end * MS)
    oldest = max(0 if start is None else start * MS, int(LAUNCHED) * MS)
    times = range(last - last % period, oldest - 1, -period)[:limit]
    lots = {at: funding.open_interest(book.seed, at) for at in times}
    rows = [
        {"openInterest": book.qty(lots[at]), "singleOpenInterest": book.qty(lots[at] // 2), "timestamp": str(at // MS)}
        for at in times
    ]
    return {"category": asked.market, "symbol": book.symbol, "list": rows, "nextPageCursor": ""}


def _klines(asked: Asked) -> Any:
    """Newest first, the newest may be open; both bounds are inclusive."""
    book, limit = asked.book(), asked.limit("kline")
    interval = SPELT.get(asked.query.get("interval", ""), "")
    if interval not in INTERVALS:
        raise Refused(10001, "params error: interval invalid")
    start, end = asked.number("start"), asked.number("end")
    held = [
        candle
        for candle in reversed(book.candles.read(interval))
        if (start is None or candle.open_time >= start * MS) and (end is None or candle.open_time <= end * MS)
    ]
    return {"category": asked.market, "symbol": book.symbol, "list": [_kline(book, one) for one in held[:limit]]}


def _kline(book: Book, candle: Candle) -> list[str]:
    prices = (book.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close))
    return [str(candle.open_time // MS), *prices, book.qty(candle.base), book.amount(candle.quote)]


def _trades(asked: Asked) -> Any:
    """The newest trades only, newest first."""
    book = asked.book()
    limit = min(60, asked.limit("recent-trade")) if asked.market == "spot" else asked.limit("recent-trade")
    rows = [
        {"execId": trade_id(one), "symbol": book.symbol, "price": one.price, "size": one.qty,
         "side": "Sell" if one.maker else "Buy", "time": str(one.ts // MS), "isBlockTrade": False,
         "isRPITrade": False, "seq": str(one.id)}
        for one in reversed(list(book.trades)[-limit:])
    ]  # fmt: skip
    return {"category": asked.market, "list": rows}


ANSWERS: dict[str, Callable[[Asked], Any]] = {
    "time": _time,
    "instruments-info": _instruments,
    "orderbook": _orderbook,
    "tickers": _tickers,
    "kline": _klines,
    "recent-trade": _trades,
}
FUTURES: dict[str, Callable[[Asked], Any]] = {"funding/history": _funding, "open-interest": _interests}


class Rest:
    """One market's routes."""

    def __init__(self, hub: Hub, market: str, budget: Budget) -> None:
        self.hub, self.market, self._budget = hub, market, budget
        self.answers = ANSWERS if market == "spot" else ANSWERS | FUTURES

    async def handle(self, request: web.Request) -> web.Response:
        """One request: the budget first, then the answer or the venue's code."""
        if self._budget.pay(1) is not None:
            return web.Response(status=FORBIDDEN, text="access too frequent", content_type="text/html")
        now = self.hub.clock.now() // MS
        name = request.path.rpartition("/v5/market/")[2]
        code: int | str = 0
        message, result = "OK", {}
        try:
            if request.query.get("category", self.market) != self.market:
                raise Refused(10001, "params error: category invalid")  # noqa: TRY301 -- as every other refusal
            result = self.answers[name](Asked(self.hub, self.market, request))
        except Refused as error:
            code, message = error.code, str(error)
        body = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": now}
        return respond(body)


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    budget = Budget(hub.clock, *BUDGET)
    found: list[web.RouteDef] = []
    for market in settings.markets:
        rest = Rest(hub, market, budget)
        found += [web.get(f"/{market}/v5/market/{name}", rest.handle) for name in rest.answers]
    return found
