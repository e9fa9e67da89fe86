"""Coinbase's REST side: the public routes of Advanced Trade, without a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from market.times import MS, SECOND
from simulator import funding
from simulator.budget import Budget
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues import Settings
from simulator.venues.coinbase.wire import stamp, trade

BUDGET = (10, 1)
"""Requests and seconds, of one address."""
BASE = "/api/v3/brokerage"
LISTED_AT = "2023-01-01T00:00:00Z"
INTERVALS = {
    "ONE_MINUTE": "1m", "FIVE_MINUTE": "5m", "FIFTEEN_MINUTE": "15m", "THIRTY_MINUTE": "30m", "ONE_HOUR": "1h",
    "TWO_HOUR": "2h", "FOUR_HOUR": "4h", "SIX_HOUR": "6h", "ONE_DAY": "1d",
}  # fmt: skip
CANDLES = 350
TYPES = {"spot": "SPOT", "linear": "FUTURE"}
FUNDED_EVERY = f"{funding.INTERVAL // SECOND}s"
EXPIRY = "2030-12-20T16:00:00Z"
_levels = msgspec.json.Decoder(list[tuple[str, str]]).decode


class Refused(Exception):
    """An answer with an error; its status."""

    def __init__(self, status: int, error: str, text: str) -> None:
        super().__init__(text)
        self.status, self.error = status, error


class Rest:
    """One market's routes."""

    def __init__(self, hub: Hub, market: str, budget: Budget) -> None:
        self.hub, self.market, self._budget = hub, market, budget
        self.answers: dict[str, Callable[[web.Request], Any]] = {
            "/time": self._time,
            "/market/products": self._products,
            "/market/products/{product_id}": self._product,
            "/market/products/{product_id}/ticker": self._ticker,
            "/market/products/{product_id}/candles": self._candles,
            "/market/product_book": self._product_book,
        }

    def handler(self, answer: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        """One route: the budget first, then the answer or the venue's error."""

        async def handle(request: web.Request) -> web.Response:
            if self._budget.pay(1) is not None:
                return web.Response(status=429, text="Too many requests")
            status = 200
            try:
                body = answer(request)
            except Refused as refused:
                status = refused.status
                body = {"error": refused.error, "code": 5, "message": str(refused), "details": []}
            return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")

        return handle

    def _books(self) -> dict[str, Book]:
        books = self.hub.market.books
        return {book.symbol: book for book in books if book.market == self.market and book.listed}

    def _book(self, name: str) -> Book:
        book = self._books().get(name)
        if book is None:
            raise Refused(404, "NOT_FOUND", f"product {name} not found")
        return book

    def _told(self, name: str, book: Book) -> dict[str, Any]:
        return _product(name, book) if self.market == "spot" else _future(name, book, self.hub.clock.now())

    def _time(self, request: web.Request) -> Any:
        del request
        now = self.hub.clock.now()
        return {"iso": stamp(now), "epochSeconds": str(now // SECOND), "epochMillis": str(now // MS)}

    def _products(self, request: web.Request) -> Any:
        """All of them, by pages where a limit is given."""
        kind = request.query.get("product_type", TYPES[self.market])
        books = self._books() if kind == TYPES[self.market] else {}
        held = [self._told(name, book) for name, book in books.items()]
        start, limit = _number(request, "offset") or 0, _number(request, "limit") or len(held)
        return {"products": held[start : start + limit], "num_products": len(held), "pagination": None}

    def _product(self, request: web.Request) -> Any:
        name = request.match_info["product_id"]
        return self._told(name, self._book(name))

    def _product_book(self, request: web.Request) -> Any:
        name = request.query.get("product_id", "")
        book = self._book(name)
        limit = _number(request, "limit") or 1000
        ladder, now = book.ladder, self.hub.clock.now()
        self.hub.log.line("depth", book.market, book.symbol, ladder.update_id, limit, now)
        bids, asks = (
            [{"price": price, "size": size} for price, size in _levels(side.best(limit))]
            for side in (ladder.bids, ladder.asks)
        )
        told = {"product_id": name, "bids": bids, "asks": asks, "time": stamp(ladder.ts or now)}
        return {"pricebook": told, "last": book.price(book.bid)}

    def _ticker(self, request: web.Request) -> Any:
        """The newest trades, newest first."""
        book, limit = self._book(request.match_info["product_id"]), _number(request, "limit")
        if limit is None:
            raise Refused(400, "INVALID_ARGUMENT", "limit is required")
        held = list(book.trades)[-limit:] if limit else []
        told = [msgspec.Raw(trade(one).encode()) for one in reversed(held)]
        return {"trades": told, "best_bid": book.price(book.bid), "best_ask": book.price(book.bid + book.spread)}

    def _candles(self, request: web.Request) -> Any:
        """Newest first, the newest may be forming; both bounds are needed."""
        book = self._book(request.match_info["product_id"])
        start, end = _number(request, "start"), _number(request, "end")
        interval = INTERVALS.get(request.query.get("granularity", ""))
        if start is None or end is None or interval is None:
            raise Refused(400, "INVALID_ARGUMENT", "start, end and granularity are required")
        held = [one for one in book.candles.read(interval) if start * SECOND <= one.open_time <= end * SECOND]
        told = [
            {"start": str(one.open_time // SECOND), "low": book.price(one.low), "high": book.price(one.high),
             "open": book.price(one.open), "close": book.price(one.close), "volume": book.qty(one.base)}
            for one in reversed(held[-CANDLES:])
        ]  # fmt: skip
        return {"candles": told}


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Refused(400, "INVALID_ARGUMENT", f"{name} is no number")
    return int(text)


def _product(name: str, book: Book) -> dict[str, Any]:
    held, trading = book.instrument, book.status == "TRADING"
    return {
        "product_id": name, "price": book.price(book.bid), "base_increment": book.qty(1),
        "quote_increment": book.price(1), "price_increment": book.price(1),
        "status": "online" if trading else "delisted",
        "is_disabled": False, "cancel_only": False, "limit_only": False, "post_only": False,
        "trading_disabled": not trading, "auction_mode": False, "view_only": False, "new": False,
        "product_type": "SPOT", "quote_currency_id": held.quote, "base_currency_id": held.base, "alias": "",
        "alias_to": [], "product_venue": "CBE", "new_at": LISTED_AT,
    }  # fmt: skip


def _future(name: str, book: Book, now: int) -> dict[str, Any]:
    """A perpetual of US futures: no word on its status, and what is told of its market in its details."""
    settled = now - now % funding.INTERVAL
    details = {
        "venue": "cde", "contract_root_unit": book.instrument.base, "contract_size": "0.01", "contract_expiry": EXPIRY,
        "open_interest": str(funding.open_interest(book.seed, now)), "funding_interval": FUNDED_EVERY,
        "funding_rate": funding.text(funding.settled(book.seed, settled)), "funding_time": stamp(settled),
    }  # fmt: skip
    said = {"status": "", "product_type": "FUTURE", "base_currency_id": "", "product_venue": "FCM", "new_at": None}
    return _product(name, book) | said | {"base_increment": "1", "future_product_details": details}


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""
    budget = Budget(hub.clock, *BUDGET)
    found: list[web.RouteDef] = []
    for market in settings.markets:
        rest = Rest(hub, market, budget)
        found += [web.get(f"/{market}{BASE}{path}", rest.handler(answer)) for path, answer in rest.answers.items()]
    return found
