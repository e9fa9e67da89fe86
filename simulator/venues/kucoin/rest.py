"""KuCoin's REST side: spot and futures routes in the venue's envelope, and the tokens that connections need."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from market.times import MS, SECOND
from simulator import asking, funding
from simulator.asking import Refused, refusal, respond
from simulator.budget import Budget
from simulator.candles import Candle
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues import Settings
from simulator.venues.kucoin.names import currency
from simulator.venues.kucoin.wire import INTERVALS, TOPICS, levels, plain, trade_id

BUDGET = (2000, 30)
"""Weight and seconds, over all markets."""
CANDLES, SPOT_CANDLES, RATES = 500, 1500, 100
"""Of one answer."""
GRANULARITY = {
    1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 120: "2h", 240: "4h", 480: "8h", 720: "12h", 1440: "1d",
    10080: "1w",
}  # fmt: skip
LAUNCHED = 1585555200000
_LEVELS = re.compile(r"[0-9]+$").search
LOT = "0.001"
"""What a linear lot is worth, in base."""


class Asked(asking.Asked):
    """One request to one market."""

    UNKNOWN = ("200003", "Invalid symbol.")
    ILLEGAL = ("400100", "Parameter Error: {}")

    def number(self, name: str) -> int:
        """An integer parameter, which is needed."""
        value = super().number(name)
        if value is None:
            raise refusal(self.ILLEGAL, name)
        return value


def _time(asked: Asked) -> Any:
    return asked.now // MS


def _symbols(asked: Asked) -> Any:
    return [
        {"symbol": book.symbol, "baseCurrency": book.instrument.base, "quoteCurrency": book.instrument.quote,
         "market": "USDS", "baseIncrement": plain(book.qty(1)), "priceIncrement": plain(book.price(1)),
         "enableTrading": book.status == "TRADING", "st": False, "tradingStartTime": None}
        for book in asked.books.values()
    ]  # fmt: skip


def _contracts(asked: Asked) -> Any:
    return [_contract(asked, book) for book in asked.books.values()]


def _one(asked: Asked) -> Any:
    return _contract(asked, asked.book())


def _contract(asked: Asked, book: Book) -> dict[str, Any]:
    held, inverse = book.instrument, book.market == "inverse"
    mark, index = (_number(funding.text(value)) for value in book.reference(asked.now))
    return {
        "symbol": book.symbol, "rootSymbol": held.quote, "type": "FFWCSX", "firstOpenDate": LAUNCHED,
        "expireDate": book.delivery // MS or None, "baseCurrency": currency(held.base), "quoteCurrency": held.quote,
        "settleCurrency": currency(held.base) if inverse else held.quote, "lotSize": 1,
        "tickSize": _number(book.price(1)), "multiplier": _number("-1.0" if inverse else LOT),
        "isQuanto": not inverse, "isInverse": inverse, "status": "Open" if book.status == "TRADING" else "Closed",
        "fundingRateGranularity": funding.INTERVAL // MS, "markPrice": mark, "indexPrice": index,
        "openInterest": book.qty(funding.open_interest(book.seed, asked.now)),
    }  # fmt: skip


def _number(text: str) -> msgspec.Raw:
    """A JSON number of these digits."""
    return msgspec.Raw(plain(text).encode())


def _depth(asked: Asked) -> Any:
    """20 or 100 levels, by the path; the whole book where it names none."""
    book, ladder = asked.book(), asked.book().ladder
    given = _LEVELS(asked.request.path)
    limit = int(given[0]) if given is not None else 100_000
    bids, asks = levels(ladder.bids.best(limit)), levels(ladder.asks.best(limit))
    if book.market == "spot":
        asked.hub.log.line("depth", book.market, book.symbol, ladder.update_id, limit, asked.now)
        return {"time": asked.now // MS, "sequence": str(ladder.update_id), "bids": bids, "asks": asks}
    told = book.told.get(f"{TOPICS['futures']['book']}:{book.symbol}", book.instrument.first_id)
    asked.hub.log.line("depth", book.market, book.symbol, told, limit, asked.now)
    sides = {
        name: [[_number(price), _number(qty)] for price, qty in side] for name, side in (("bids", bids), ("asks", asks))
    }
    return {"sequence": told, "symbol": book.symbol, "ts": asked.now * 1000, **sides}


def _trades(asked: Asked) -> Any:
    """The newest hundred, newest first."""
    book = asked.book()
    return [
        {"sequence": trade_id(one), "tradeId": trade_id(one), "price": plain(one.price), "size": plain(one.qty),
         "side": "sell" if one.maker else "buy", "time": one.ts * 1000}
        for one in reversed(list(book.trades)[-100:])
    ]  # fmt: skip


def _funding(asked: Asked) -> Any:
    """Settled rates of a time, newest first."""
    book, start, end = asked.book(), asked.number("from"), asked.number("to")
    times = funding.settlements(min(asked.now, end * MS), start * MS - 1)
    return [
        {"symbol": book.symbol, "fundingRate": _number(funding.text(funding.settled(book.seed, at))),
         "timepoint": at // MS}
        for at in times[:RATES]
    ]  # fmt: skip


def _candles(asked: Asked) -> Any:
    """Rows [ms, open, high, low, close, lots] of a time, oldest first, the newest perhaps forming."""
    book, start, end = asked.book(), asked.number("from") * MS, asked.number("to") * MS
    interval = GRANULARITY.get(asked.number("granularity"))
    if interval is None:
        raise refusal(asked.ILLEGAL, "granularity")
    held = [one for one in book.candles.read(interval) if start <= one.open_time <= end][:CANDLES]
    return [
        [one.open_time // MS, *(_number(book.price(ticks)) for ticks in (one.open, one.high, one.low, one.close)),
         _number(book.qty(one.base))]
        for one in held
    ]  # fmt: skip


def _spot_candles(asked: Asked) -> Any:
    """Rows [s, open, close, high, low, volume, turnover], newest first; the end is not included."""
    book, start, end = asked.book(), asked.number("startAt") * SECOND, asked.number("endAt") * SECOND
    interval = INTERVALS.get(asked.query.get("type", ""))
    if interval is None:
        raise refusal(asked.ILLEGAL, "type")
    held = [one for one in book.candles.read(interval) if start <= one.open_time < end]
    return [_spot_candle(book, one) for one in reversed(held[-SPOT_CANDLES:])]


def _spot_candle(book: Book, one: Candle) -> list[str]:
    prices = (plain(book.price(ticks)) for ticks in (one.open, one.close, one.high, one.low))
    return [str(one.open_time // SECOND), *prices, plain(book.qty(one.base)), plain(book.amount(one.quote))]


Answer = Callable[[Asked], Any]
SPOT: dict[str, tuple[int, Answer]] = {
    "/api/v1/timestamp": (3, _time),
    "/api/v2/symbols": (4, _symbols),
    "/api/v1/market/orderbook/level2_20": (2, _depth),
    "/api/v1/market/orderbook/level2_100": (4, _depth),
    "/api/v1/market/histories": (3, _trades),
    "/api/v1/market/candles": (3, _spot_candles),
}
FUTURES: dict[str, tuple[int, Answer]] = {
    "/api/v1/timestamp": (2, _time),
    "/api/v1/contracts/active": (3, _contracts),
    "/api/v1/contracts/{symbol}": (3, _one),
    "/api/v1/level2/snapshot": (3, _depth),
    "/api/v1/level2/depth20": (5, _depth),
    "/api/v1/level2/depth100": (5, _depth),
    "/api/v1/trade/history": (5, _trades),
    "/api/v1/contract/funding-rates": (5, _funding),
    "/api/v1/kline/query": (3, _candles),
}


class Rest:
    """One market's routes."""

    def __init__(self, hub: Hub, market: str, budget: Budget, tokens: set[str]) -> None:
        self.hub, self.market, self._budget, self._tokens = hub, market, budget, tokens

    def handler(self, weight: int, answer: Answer) -> Callable[[web.Request], Any]:
        """What answers one route: the budget first, then the answer or the venue's code."""

        async def handle(request: web.Request) -> web.Response:
            refused = self._budget.pay(weight) is not None
            reset = 30_000 - self.hub.clock.now() // MS % 30_000
            left = max(0, self._budget.limit - self._budget.used)
            headers = {
                "gw-ratelimit-limit": str(self._budget.limit), "gw-ratelimit-remaining": str(left),
                "gw-ratelimit-reset": str(reset),
            }  # fmt: skip
            if refused:
                body: dict[str, Any] = {"code": "429000", "msg": "too many requests"}
                return web.json_response(body, status=429, headers=headers)
            try:
                body = {"code": "200000", "data": answer(Asked(self.hub, self.market, request))}
            except Refused as error:
                body = {"code": error.code, "msg": str(error)}
            return respond(body, headers=headers)

        return handle

    def bullet(self, asked: Asked) -> Any:
        """A token, and where to connect with it."""
        token = f"twin-{len(self._tokens) + 1}-{asked.now // SECOND}"
        self._tokens.add(token)
        server = {
            "endpoint": f"ws://{asked.request.host}/{self.market}/", "encrypt": False, "protocol": "websocket",
            "pingInterval": 18000, "pingTimeout": 10000,
        }  # fmt: skip
        return {"token": token, "instanceServers": [server]}


def routes(hub: Hub, settings: Settings, tokens: set[str]) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    budget = Budget(hub.clock, *BUDGET)
    found: list[web.RouteDef] = []
    for market in settings.markets:
        rest = Rest(hub, market, budget, tokens)
        answers = SPOT if market == "spot" else FUTURES
        found += [web.get(f"/{market}{path}", rest.handler(*one)) for path, one in answers.items()]
        found.append(web.post(f"/{market}/api/v1/bullet-public", rest.handler(10, rest.bullet)))
    return found
