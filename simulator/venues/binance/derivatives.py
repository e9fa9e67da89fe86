"""Binance's REST answers that only futures have: mark prices with funding, settled rates, open interest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator import funding
from simulator.asking import Refused
from simulator.market import Book
from simulator.venues.binance.asking import Asked
from simulator.venues.binance.payloads import pair

LATENESS = 5
"""ms by which a settlement's time may be off the hour."""


def premium_index(asked: Asked) -> Any:
    """One symbol or all; COIN-M answers with a list in either case."""
    if "symbol" in asked.query:
        row = _premium(asked.book(), asked.now)
        return [row] if asked.market == "inverse" else row
    return [_premium(book, asked.now) for book in asked.books.values()]


def funding_rate(asked: Asked) -> Any:
    """Settled rates, ascending: the newest ones, or from `startTime` on; both bounds inclusive."""
    limit, start, end = asked.limit("fundingRate"), asked.time("startTime"), asked.time("endTime")
    if start is not None and end is not None and start > end:
        raise Refused(-1023, "Start time is greater than end time.")
    if "symbol" not in asked.query and asked.market == "inverse":
        asked.book()  # COIN-M needs one; this says so
    books = [asked.book()] if "symbol" in asked.query else list(asked.books.values())
    newest = asked.now - asked.now % funding.INTERVAL
    if start is None:
        last = newest if end is None else min(newest, end - end % funding.INTERVAL)
        first = last - limit * funding.INTERVAL
    else:
        first = start - start % funding.INTERVAL
        last = min(newest, first + limit * funding.INTERVAL)
    rows = [_settled(book, at) for at in range(first, last + 1, funding.INTERVAL) for book in books]
    times = range(start or 0, (asked.now if end is None else end) + 1)
    rows = [row for row in rows if row["fundingTime"] * 1000 in times]
    return rows[-limit:] if start is None else rows[:limit]


def funding_info(_asked: Asked) -> Any:
    """Symbols whose interval or bounds were adjusted: none, all settle every eight hours."""
    return []


def open_interest(asked: Asked) -> Any:
    """In base units, on COIN-M in contracts."""
    book = asked.book()
    row = {
        "symbol": book.symbol,
        "openInterest": book.qty(funding.open_interest(book.seed, asked.now)),
        "time": asked.now // 1000,
    }
    return row | ({"pair": pair(book), "contractType": "PERPETUAL"} if asked.market == "inverse" else {})


def _premium(book: Book, now: int) -> dict[str, Any]:
    mark, index = (funding.text(value) for value in book.reference(now))
    last = funding.next_funding(now) - funding.INTERVAL
    row = {
        "symbol": book.symbol,
        "markPrice": mark,
        "indexPrice": index,
        "estimatedSettlePrice": index,
        "lastFundingRate": funding.text(funding.settled(book.seed, last)),
        "interestRate": "0.00010000",
        "nextFundingTime": funding.next_funding(now) // 1000,
        "time": now // 1000,
    }
    return row | ({"pair": pair(book)} if book.market == "inverse" else {})


def _settled(book: Book, at: int) -> dict[str, Any]:
    row = {
        "symbol": book.symbol,
        "fundingTime": at // 1000 + funding.chance(book.seed, "late", at) % LATENESS,
        "fundingRate": funding.text(funding.settled(book.seed, at)),
    }
    if book.market == "inverse":
        return row
    ticks = book.instrument.start_ticks * (900 + funding.chance(book.seed, "then", at) % 200) // 1000
    return row | {"markPrice": book.price(ticks)}


ANSWERS: dict[str, Callable[[Asked], Any]] = {
    "premiumIndex": premium_index,
    "fundingRate": funding_rate,
    "fundingInfo": funding_info,
    "openInterest": open_interest,
}
