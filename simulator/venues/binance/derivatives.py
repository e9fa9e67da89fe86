"""Binance's REST answers that only futures have: mark prices with funding, settled rates, open interest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from market.times import DAY
from simulator import funding
from simulator.asking import Refused
from simulator.candles import INTERVALS
from simulator.market import Book
from simulator.venues.binance.asking import Asked
from simulator.venues.binance.payloads import pair

PERIODS = {name: INTERVALS[name] for name in ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")}
MONTH = 30 * DAY
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


def open_interest_hist(asked: Asked) -> Any:
    """Of every so many minutes of the last month, ascending, the newest page of a period; COIN-M is asked by pair."""
    period, limit = PERIODS.get(asked.query.get("period", "")), asked.limit("openInterestHist")
    if period is None:
        raise Refused(-1130, "Data sent for parameter 'period' is not valid.")
    book = _of_pair(asked) if asked.market == "inverse" else asked.book()
    start, end = asked.time("startTime"), asked.time("endTime")
    if start is not None and start < asked.now - MONTH:
        raise Refused(-1130, "parameter 'startTime' is invalid.")
    last = min(asked.now, asked.now if end is None else end) // period * period
    first = last - (limit - 1) * period if start is None else -(-start // period) * period
    times = range(first, last + 1, period)[-limit:]
    return [_interest(book, at) for at in times]


def _of_pair(asked: Asked) -> Book:
    """The perpetual of the pair asked for."""
    if asked.query.get("contractType") != "PERPETUAL":
        raise Refused(-1130, "Data sent for parameter 'contractType' is not valid.")
    found = [book for book in asked.books.values() if pair(book) == asked.query.get("pair")]
    if not found:
        raise Refused(-1130, "Data sent for parameter 'pair' is not valid.")
    return found[0]


def _interest(book: Book, at: int) -> dict[str, Any]:
    lots = funding.open_interest(book.seed, at)
    worth = book.amount(book.candles.amount(book.instrument.start_ticks, lots))
    row: dict[str, Any] = {"sumOpenInterest": book.qty(lots), "sumOpenInterestValue": worth, "timestamp": at // 1000}
    named = {"pair": pair(book), "contractType": "PERPETUAL"} if book.market == "inverse" else {"symbol": book.symbol}
    return named | row


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
    "openInterestHist": open_interest_hist,
}
