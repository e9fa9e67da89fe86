"""Coinbase's REST side: the public routes of Advanced Trade, without a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from market.times import MS, SECOND
from simulator import asking, funding
from simulator.asking import Refused, respond
from simulator.budget import Budget
from simulator.candles import INTERVALS as WIDTHS
from simulator.events import Fill
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
TRADES = 1000
"""Of a page of Exchange."""
TYPES = {"spot": "SPOT", "linear": "FUTURE"}
FUNDED_EVERY = f"{funding.INTERVAL // SECOND}s"
EXPIRY = "2030-12-20T16:00:00Z"
_levels = msgspec.json.Decoder(list[tuple[str, str]]).decode


STATUS = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400}


class Asked(asking.Asked):
    """One request to one market."""

    SYMBOL = "product_id"
    UNKNOWN = ("NOT_FOUND", "product {} not found")
    ILLEGAL = ("INVALID_ARGUMENT", "{} is no number")

    def told(self, name: str, book: Book) -> dict[str, Any]:
        """A product."""
        return _product(name, book) if self.market == "spot" else _future(name, book, self.now)


def _time(asked: Asked) -> Any:
    return {"iso": stamp(asked.now), "epochSeconds": str(asked.now // SECOND), "epochMillis": str(asked.now // MS)}


def _products(asked: Asked) -> Any:
    """All of them, by pages where a limit is given."""
    kind = asked.query.get("product_type", TYPES[asked.market])
    books = asked.books if kind == TYPES[asked.market] else {}
    held = [asked.told(name, book) for name, book in books.items()]
    start, limit = asked.number("offset") or 0, asked.number("limit") or len(held)
    return {"products": held[start : start + limit], "num_products": len(held), "pagination": None}


def _one(asked: Asked) -> Any:
    return asked.told(asked.name, asked.book())


def _product_book(asked: Asked) -> Any:
    book, limit, ladder = asked.book(), asked.number("limit") or 1000, asked.book().ladder
    asked.hub.log.line("depth", book.market, book.symbol, ladder.update_id, limit, asked.now)
    bids, asks = (
        [{"price": price, "size": size} for price, size in _levels(side.best(limit))]
        for side in (ladder.bids, ladder.asks)
    )
    told = {"product_id": book.symbol, "bids": bids, "asks": asks, "time": stamp(ladder.ts or asked.now)}
    return {"pricebook": told, "last": book.last}


def _ticker(asked: Asked) -> Any:
    """The newest trades, newest first."""
    book, limit = asked.book(), asked.number("limit")
    if limit is None:
        raise Refused("INVALID_ARGUMENT", "limit is required")
    held = list(book.trades)[-limit:] if limit else []
    told = [msgspec.Raw(trade(one).encode()) for one in reversed(held)]
    return {"trades": told, "best_bid": book.price(book.bid), "best_ask": book.price(book.bid + book.spread)}


def _candles(asked: Asked) -> Any:
    """Newest first, the newest may be forming; both bounds are needed, and no more than a page between them."""
    book = asked.book()
    start, end = asked.number("start"), asked.number("end")
    interval = INTERVALS.get(asked.query.get("granularity", ""))
    if start is None or end is None or interval is None:
        raise Refused("INVALID_ARGUMENT", "start, end and granularity are required")
    if (end - start) * SECOND // WIDTHS[interval] >= CANDLES:
        raise Refused("INVALID_ARGUMENT", f"number of candles requested should be less than {CANDLES}")
    held = [one for one in book.candles.read(interval) if start * SECOND <= one.open_time <= end * SECOND]
    told = [
        {"start": str(one.open_time // SECOND), "low": book.price(one.low), "high": book.price(one.high),
         "open": book.price(one.open), "close": book.price(one.close), "volume": book.qty(one.base)}
        for one in reversed(held[-CANDLES:])
    ]  # fmt: skip
    return {"candles": told}


def _product(name: str, book: Book) -> dict[str, Any]:
    held, trading = book.instrument, book.status == "TRADING"
    return {
        "product_id": name, "price": book.last, "base_increment": book.qty(1),
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


Answer = Callable[[Asked], Any]
ANSWERS: dict[str, Answer] = {
    "/time": _time,
    "/market/products": _products,
    "/market/products/{product_id}": _one,
    "/market/products/{product_id}/ticker": _ticker,
    "/market/products/{product_id}/candles": _candles,
    "/market/product_book": _product_book,
}


def _handler(hub: Hub, market: str, budget: Budget, answer: Answer) -> Callable[[web.Request], Any]:
    """One route: the budget first, then the answer or the venue's error."""

    async def handle(request: web.Request) -> web.Response:
        if budget.pay(1) is not None:
            return web.Response(status=429, text="Too many requests")
        try:
            return respond(answer(Asked(hub, market, request)))
        except Refused as refused:
            body: dict[str, Any] = {"error": refused.code, "code": 5, "message": str(refused), "details": []}
            return respond(body, STATUS[str(refused.code)])

    return handle


def _trades(hub: Hub, market: str, budget: Budget) -> Callable[[web.Request], Any]:
    """Exchange's trades: newest first, `after` an id those before it, `before` an id the newest of those behind it; the
    cursors of the pages beside are headers.
    """

    async def handle(request: web.Request) -> web.Response:
        if budget.pay(1) is not None:
            return respond({"message": "Public rate limit exceeded"}, 429)
        asked = Asked(hub, market, request)
        try:
            held = asked.book().trades
            after, before = asked.number("after"), asked.number("before")
            limit = min(asked.number("limit") or TRADES, TRADES)
        except Refused as refused:
            return respond(
                {"message": "NotFound" if refused.code == "NOT_FOUND" else str(refused)}, STATUS[str(refused.code)]
            )
        chosen = [one for one in held if (after is None or one.id < after) and (before is None or one.id > before)]
        page = chosen[-limit:][::-1]
        cursors = {"CB-BEFORE": str(page[0].id), "CB-AFTER": str(page[-1].id)} if page else {}
        return respond([_match(one) for one in page], headers=cursors)

    return handle


def _match(fill: Fill) -> dict[str, Any]:
    """`side` is the maker's."""
    return {
        "time": stamp(fill.ts), "trade_id": fill.id, "price": fill.price, "size": fill.qty,
        "side": "buy" if fill.maker else "sell",
    }  # fmt: skip


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths; Exchange, which is another host at the venue, has spot only."""
    budget, exchange = Budget(hub.clock, *BUDGET), Budget(hub.clock, *BUDGET)
    trades = [
        web.get(f"/{market}/products/{{product_id}}/trades", _trades(hub, market, exchange))
        for market in settings.markets
        if market == "spot"
    ]
    return trades + [
        web.get(f"/{market}{BASE}{path}", _handler(hub, market, budget, answer))
        for market in settings.markets
        for path, answer in ANSWERS.items()
    ]
