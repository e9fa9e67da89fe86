"""OKX's REST side: routes told apart by type of instruments or by id; every answer in the venue's envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from market.times import MS
from simulator import asking, funding
from simulator.asking import Refused, respond
from simulator.budget import Budget
from simulator.candles import INTERVALS as SPANS
from simulator.candles import Candle, next_open
from simulator.events import Fill
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues import Settings
from simulator.venues.okx.wire import INTERVALS, interest, levels, seq, size, sums, worths

BUDGETS = {"market/books": 40, "public/time": 10, "public/instruments": 20, "public/funding-rate-history": 10,
           "public/open-interest": 20, "market/history-trades": 20, "market/history-candles": 20,
           "rubik/stat/contracts/open-interest-history": 10, "market/trades": 100}  # fmt: skip
"""Requests in two seconds."""
SECONDS = 2
TOO_MANY = 429
LISTED = "1606468572000"
TYPES = {"spot": ("SPOT",), "linear": ("SWAP", "FUTURES"), "inverse": ("SWAP", "FUTURES")}
MOST_LEVELS, MOST_RATES, MOST_TRADES, MOST_CANDLES, MOST_INTERESTS = 400, 400, 100, 300, 100
POINTS = 1440
"""Of the history of open interest, the newest."""
EVER = 2**52
"""ms after everything."""


class Asked(asking.Asked):
    """One request to one market."""

    SYMBOL = "instId"
    UNKNOWN = ("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
    ILLEGAL = ("51000", "Parameter {} error")

    def number(self, name: str, default: int = 0) -> int:
        """An integer parameter."""
        value = super().number(name)
        return default if value is None else value


def _time(asked: Asked) -> Any:
    return [{"ts": str(asked.now // MS)}]


def _instruments(asked: Asked) -> Any:
    """Linear and inverse contracts are on one list; there are no dated ones here."""
    kind = asked.query.get("instType", "")
    if kind not in ("SPOT", "SWAP", "FUTURES"):
        raise Refused("51000", "Parameter instType error")
    listed = [
        book for book in asked.hub.market.books
        if book.listed and book.status == "TRADING" and TYPES[book.market][0] == kind
    ]  # fmt: skip
    return [_instrument(book) for book in listed]


def _instrument(book: Book) -> dict[str, Any]:
    held, spot = book.instrument, book.market == "spot"
    row = {
        "instId": held.symbol, "instType": TYPES[book.market][0], "baseCcy": held.base, "quoteCcy": held.quote,
        "settleCcy": "", "uly": "", "instFamily": "", "ctVal": "", "ctMult": "", "ctValCcy": "", "ctType": "",
        "listTime": LISTED, "expTime": "", "tickSz": book.price(1), "lotSz": book.qty(1), "minSz": book.qty(1),
        "state": "live", "ruleType": "normal",
    }  # fmt: skip
    if spot:
        return row
    inverse, family = book.market == "inverse", f"{held.base}-{held.quote}"
    coins = {"baseCcy": "", "quoteCcy": "", "settleCcy": held.base if inverse else held.quote}
    worth = {"ctVal": size(book), "ctMult": "1", "ctValCcy": held.quote if inverse else held.base}
    return row | coins | worth | {"uly": family, "instFamily": family, "ctType": book.market}


def _books(asked: Asked) -> Any:
    book, depth = asked.book(), min(max(asked.number("sz", 1), 1), MOST_LEVELS)
    ladder = book.ladder
    asked.hub.log.line("depth", book.market, book.symbol, ladder.update_id, depth, asked.now)
    sides = {"asks": ladder.asks.best(depth), "bids": ladder.bids.best(depth)}
    number = book.told.get(f"books:{book.symbol}", 0)
    return [
        {name: msgspec.Raw(levels(text).encode()) for name, text in sides.items()}
        | {"ts": str(asked.now // MS), "seqId": seq(number)}
    ]


def _rates(asked: Asked) -> Any:
    """Settled rates, newest first: `before` is newer than a time, `after` older."""
    book, limit = asked.book(), min(asked.number("limit", MOST_RATES), MOST_RATES)
    newer, older = asked.number("before", 0) * MS, min(asked.number("after", asked.now // MS + 1) * MS, asked.now + 1)
    times = funding.settlements(older - 1, max(newer, asked.now - 300 * funding.INTERVAL))
    return [
        {"instType": "SWAP", "instId": book.symbol,
         "fundingRate": funding.text(funding.predicted(book.seed, at - 1)),
         "realizedRate": funding.text(funding.settled(book.seed, at)), "fundingTime": str(at // MS)}
        for at in times[:limit]
    ]  # fmt: skip


def _interest(asked: Asked) -> Any:
    books = [asked.book()] if "instId" in asked.query else list(asked.books.values())
    return [msgspec.Raw(interest(book, asked.now).encode()) for book in books]


def _trades(asked: Asked) -> Any:
    """The newest, newest first."""
    return _told(asked, list(asked.book().trades), 500)


def _old_trades(asked: Asked) -> Any:
    """Older than a trade (type 1), or than a time (type 2), newest first."""
    held, after = list(asked.book().trades), asked.number("after", EVER)
    if asked.query.get("type", "1") == "2":
        return _told(asked, [one for one in held if one.ts // MS < after], MOST_TRADES)
    before = asked.number("before", -1)
    return _told(asked, [one for one in held if before < one.id < after], MOST_TRADES)


def _told(asked: Asked, held: list[Fill], most: int) -> Any:
    limit, symbol = min(asked.number("limit", 100), most), asked.book().symbol
    return [
        {"instId": symbol, "side": "sell" if one.maker else "buy", "sz": one.qty, "px": one.price, "source": "0",
         "tradeId": str(one.id), "ts": str(one.ts // MS)}
        for one in reversed(held[-limit:])
    ]  # fmt: skip


def _candles(asked: Asked) -> Any:
    """Older than `after` and newer than `before`, newest first, the newest perhaps forming."""
    book, limit = asked.book(), min(asked.number("limit", 100), MOST_CANDLES)
    interval = INTERVALS.get(asked.query.get("bar", "1m"))
    if interval is None:
        raise Refused("51000", "Parameter bar error")
    after, before = asked.number("after", EVER) * MS, asked.number("before", -1) * MS
    held = [one for one in book.candles.read(interval) if before < one.open_time < after]
    return [_candle(book, one, next_open(one.open_time, interval) <= asked.now) for one in reversed(held[-limit:])]


def _candle(book: Book, one: Candle, closed: bool) -> list[str]:
    prices = (book.price(ticks) for ticks in (one.open, one.high, one.low, one.close))
    volumes = sums(book, book.qty(one.base), book.amount(one.quote))
    return [str(one.open_time // MS), *prices, *volumes, "1" if closed else "0"]


def _interests(asked: Asked) -> Any:
    """Older than `end` and newer than `begin`, newest first, of the newest points."""
    book, limit = asked.book(), min(asked.number("limit", MOST_INTERESTS), MOST_INTERESTS)
    period = SPANS.get(asked.query.get("period", "5m"))
    if period is None:
        raise Refused("51000", "Parameter period error")
    newest = asked.now - asked.now % period
    begin, end = asked.number("begin", -1) * MS, asked.number("end", EVER) * MS
    times = [at for at in range(newest, newest - POINTS * period, -period) if begin < at < end]
    return [[str(at // MS), *worths(book, at)] for at in times[:limit]]


ANSWERS: dict[str, Callable[[Asked], Any]] = {
    "public/time": _time,
    "public/instruments": _instruments,
    "market/books": _books,
    "market/history-trades": _old_trades,
    "market/history-candles": _candles,
    "market/trades": _trades,
}
FUTURES: dict[str, Callable[[Asked], Any]] = {
    "public/funding-rate-history": _rates, "public/open-interest": _interest,
    "rubik/stat/contracts/open-interest-history": _interests,
}  # fmt: skip


class Rest:
    """One market's routes; what is allowed counts over all markets."""

    def __init__(self, hub: Hub, market: str, budgets: dict[str, Budget]) -> None:
        self.hub, self.market, self._budgets = hub, market, budgets
        self.answers = ANSWERS if market == "spot" else ANSWERS | FUTURES

    async def handle(self, request: web.Request) -> web.Response:
        """One request: the route's budget first, then the answer or the venue's code."""
        name = request.path.rpartition("/api/v5/")[2]
        if self._budgets[name].pay(1) is not None:
            return _answer("50011", "Too Many Requests", [], TOO_MANY)
        try:
            return _answer("0", "", self.answers[name](Asked(self.hub, self.market, request)))
        except Refused as error:
            return _answer(error.code, str(error), [])


def _answer(code: int | str, message: str, data: Any, status: int = 200) -> web.Response:
    return respond({"code": code, "msg": message, "data": data}, status)


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    budgets = {name: Budget(hub.clock, limit, SECONDS) for name, limit in BUDGETS.items()}
    found: list[web.RouteDef] = []
    for market in settings.markets:
        rest = Rest(hub, market, budgets)
        found += [web.get(f"/{market}/api/v5/{name}", rest.handle) for name in rest.answers]
    return found
