"""Kraken's REST side: spot in one envelope, futures in another."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from market.times import HOUR, MINUTE, SECOND
from simulator import asking, funding
from simulator.asking import Refused
from simulator.budget import Budget
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues import Settings
from simulator.venues.kraken.wire import bare, forced, iso, uid

BUDGET = (120, 60)
"""Requests and seconds on spot."""
LISTED = "2022-03-22T13:18:45.000000Z"
CANDLES = 2000
"""Of one answer."""
TRADES = 1000
NEWEST = 720
"""Candles of spot that are told at all."""
RATES = 1000
"""Hours of funding that are told."""
FILLS = 100
"""Of an answer of futures' history."""
RESOLUTIONS = ("1m", "5m", "15m", "30m", "1h", "4h", "12h", "1d", "1w")
NS, LEAST_NS = 1000, 10**14
"""ns of one us; what is less is a time in seconds."""
_RENAMED = {"BTC": "XBT", "DOGE": "XDG"}


def _alternative(book: Book) -> str:
    held = book.instrument
    return _RENAMED.get(held.base, held.base) + _RENAMED.get(held.quote, held.quote)


class Asked(asking.Asked):
    """One request to one market."""

    UNKNOWN = ("notFound", "")
    ILLEGAL = ("EGeneral:Invalid arguments", "")

    def book(self) -> Book:
        """The symbol asked for; spot has two names for a pair."""
        if self.market != "spot":
            return super().book()
        asked = self.query.get("pair", "")
        for book in self.books.values():
            if asked in (_alternative(book), f"X{_alternative(book)}"):
                return book
        raise Refused("EQuery:Unknown asset pair")


def _time(asked: Asked) -> Any:
    return {"unixtime": asked.now // 1_000_000, "rfc1123": "Tue, 11 Nov 25 00:17:04 +0000"}


def _pairs(asked: Asked) -> Any:
    rows = {}
    for book in asked.books.values():
        held = book.instrument
        names = [_RENAMED.get(one, one) for one in (held.base, held.quote)]
        rows[_alternative(book)] = {
            "altname": "".join(names), "wsname": "/".join(names), "pair_decimals": held.price_decimals,
            "lot_decimals": held.qty_decimals, "tick_size": bare(book.price(1)),
            "status": "online" if book.status == "TRADING" else "cancel_only",
        }  # fmt: skip
    return rows


def _depth(asked: Asked) -> Any:
    book = asked.book()
    count, ladder = int(asked.query.get("count", "100")), book.ladder
    asked.hub.log.line("depth", book.market, book.symbol, ladder.update_id, count, asked.now)
    sides = {"bids": ladder.bids.best(count), "asks": ladder.asks.best(count)}
    at = (ladder.ts or asked.now) // 1_000_000
    levels = {name: [[*level, at] for level in msgspec.json.decode(text)] for name, text in sides.items()}
    return {_alternative(book): levels}


def _number(text: str) -> msgspec.Raw:
    return msgspec.Raw(bare(text).encode())


def _instruments(asked: Asked) -> Any:
    rows = []
    for book in asked.hub.market.books:
        if book.market == "spot" or not book.listed:
            continue
        held = book.instrument
        rows.append(
            {
                "symbol": book.symbol, "tickSize": _number(book.price(1)), "contractSize": 1, "openingDate": LISTED,
                "type": "futures_inverse" if book.market == "inverse" else "flexible_futures", "quote": "USD",
                "tradeable": book.status == "TRADING", "contractValueTradePrecision": held.qty_decimals,
                "postOnly": False, "base": held.base,
            }
        )  # fmt: skip
    return {"instruments": rows}


def _orderbook(asked: Asked) -> Any:
    """The bids come worst first, as measured."""
    ladder = asked.book().ladder
    sides = {
        name: msgspec.json.decode(side.best(1 << 20)) for name, side in (("bids", ladder.bids), ("asks", ladder.asks))
    }
    levels = {name: [[_number(one) for one in level] for level in rows] for name, rows in sides.items()}
    return {"orderBook": {"bids": levels["bids"][::-1], "asks": levels["asks"]}}


def _ticker(asked: Asked) -> Any:
    book = asked.book()
    held = book.qty(funding.open_interest(book.seed, asked.now))
    return {"ticker": {"symbol": book.symbol, "openInterest": _number(held), "suspended": False}}


def _rates(asked: Asked) -> Any:
    """Every hour's rate, ascending."""
    book, newest = asked.book(), asked.now - asked.now % HOUR
    rows = []
    for at in range(newest - (RATES - 1) * HOUR, newest + 1, HOUR):
        rate = funding.text(funding.chance(book.seed, "rate", at) % 20_001 - 10_000)
        absolute = str(Decimal(rate) * 100)
        rows.append({"timestamp": iso(at), "relativeFundingRate": _number(rate), "fundingRate": _number(absolute)})
    return {"rates": rows}


def _charts(asked: Asked) -> Any:
    """Candles of a time, oldest first, the newest perhaps forming."""
    book, start, end = asked.book(), *(int(asked.query.get(name, "0")) for name in ("from", "to"))
    resolution = asked.request.match_info["resolution"]
    if resolution not in RESOLUTIONS:
        raise Refused("notFound")
    count = min(asked.number("count") or CANDLES, CANDLES)
    held = [one for one in book.candles.read(resolution) if start <= one.open_time // 1_000_000 <= end]
    told = [
        {"time": one.open_time // 1000, "open": book.price(one.open), "high": book.price(one.high),
         "low": book.price(one.low), "close": book.price(one.close), "volume": _number(book.qty(one.base))}
        for one in held[:count]
    ]  # fmt: skip
    return {"candles": told, "more_candles": len(held) > count}


def _trades(asked: Asked) -> Any:
    """Those of a pair after `since`, or the newest, oldest first, keyed by its other name."""
    book, since = asked.book(), asked.number("since")
    count = min(asked.number("count") or TRADES, TRADES)
    if since is None:
        held = list(book.trades)[-count:]
    else:
        after = since if since >= LEAST_NS else since * SECOND * NS
        held = [one for one in book.trades if one.ts * NS > after][:count]
    rows = [
        [one.price, one.qty, one.ts / SECOND, "s" if one.maker else "b", "m", "", one.id] for one in held
    ]  # fmt: skip
    last = str(held[-1].ts * NS) if held else str(since or asked.now * NS)
    return {f"X{_alternative(book)}": rows, "last": last}


def _ohlc(asked: Asked) -> Any:
    """The newest minutes of a pair, oldest first, the last one forming; those without trades are told too."""
    book, since = asked.book(), (asked.number("since") or 0) * SECOND
    if asked.number("interval") not in (None, 1):
        raise Refused("EGeneral:Invalid arguments")
    held, rows = {one.open_time: one for one in book.candles.read("1m")}, []
    before = next(iter(held.values()), None)
    first = max(min(held, default=asked.now), asked.now - asked.now % MINUTE - (NEWEST - 1) * MINUTE)
    for at in range(first, asked.now + 1, MINUTE):
        one = held.get(at)
        before = one or before
        if before is None or at <= since:
            continue
        ticks = (before.close,) * 4 if one is None else (one.open, one.high, one.low, one.close)
        prices = [book.price(tick) for tick in ticks]
        volume, count = ("0.00000000", 0) if one is None else (book.qty(one.base), one.count)
        rows.append([at // SECOND, *prices, prices[3], volume, count])
    return {f"X{_alternative(book)}": rows, "last": asked.now // SECOND - 60}


def _history(asked: Asked) -> Any:
    """The newest hundred of a contract, or those before `lastTime`, newest first."""
    book, last = asked.book(), asked.query.get("lastTime")
    held = list(book.trades)
    held = held if last is None else held[: bisect_left(held, last, key=lambda one: iso(one.ts))]
    rows = [
        {"time": iso(one.ts), "trade_id": one.id, "price": _number(one.price), "size": _number(one.qty),
         "side": "sell" if one.maker else "buy", "type": "liquidation" if forced(one) else "fill", "uid": uid(one)}
        for one in reversed(held[-FILLS:])
    ]  # fmt: skip
    return {"history": rows}


Answers = dict[str, Callable[[Asked], Any]]
SPOT: Answers = {
    "/0/public/Time": _time, "/0/public/AssetPairs": _pairs, "/0/public/Depth": _depth, "/0/public/Trades": _trades,
    "/0/public/OHLC": _ohlc,
}  # fmt: skip
FUTURES: Answers = {
    "/derivatives/api/v3/instruments": _instruments,
    "/derivatives/api/v3/orderbook": _orderbook,
    "/derivatives/api/v3/tickers/{symbol}": _ticker,
    "/derivatives/api/v3/historical-funding-rates": _rates,
    "/api/charts/v1/trade/{symbol}/{resolution}": _charts,
    "/derivatives/api/v3/history": _history,
}


def _spot(hub: Hub, budget: Budget, answer: Callable[[Asked], Any]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        body: dict[str, Any]
        try:
            if budget.pay(1) is not None:
                raise Refused("EAPI:Rate limit exceeded")  # noqa: TRY301 -- as every other refusal
            body = {"error": [], "result": answer(Asked(hub, "spot", request))}
        except Refused as error:
            body = {"error": [error.code]}
        return asking.respond(body)

    return handle


def _futures(hub: Hub, market: str, answer: Callable[[Asked], Any]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        body: dict[str, Any]
        try:
            body = {"result": "success", **answer(Asked(hub, market, request))}
        except Refused as error:
            body = {"result": "error", "error": error.code}
        body["serverTime"] = iso(hub.clock.now())
        return asking.respond(body)

    return handle


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    budget = Budget(hub.clock, *BUDGET)
    found: list[web.RouteDef] = []
    for market in settings.markets:
        if market == "spot":
            found += [web.get(f"/spot{path}", _spot(hub, budget, answer)) for path, answer in SPOT.items()]
        else:
            found += [web.get(f"/{market}{path}", _futures(hub, market, answer)) for path, answer in FUTURES.items()]
    return found
