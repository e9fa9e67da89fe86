"""static.okx.com: trades a day and a month of UTC+8 a file, as zips that no list names.

Dated futures, of which streams and routes tell none, are there as files of days, all expiries of a family in one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from functools import partial

from market.times import HOUR, MS
from simulator.archives import Day, days, fills, months, text, zipped
from simulator.events import Fill
from simulator.hub import Hub
from simulator.market import Book

LISTS, SUMS = "", ""
SHIFT, LATE = 8 * HOUR, 2
QUARTERS = (3, 6, 9, 12)
Lines = Iterator[tuple[str, int, Fill]]
"""(instrument, the trade's id, what was traded)."""
_NAMES = "instrument_name,trade_id,side,price,size,created_time"


def files(hub: Hub) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file there is."""
    now = hub.clock.now()
    for book in hub.market.books:
        for period, made in (("daily", days), ("monthly", months)):
            for one in made(book, now, shift=SHIFT, late=LATE):
                yield _file(period, book.symbol, one, partial(_trades, book, one))
                if book.market != "spot" and period == "daily":
                    yield _file(period, f"{_family(book)}-futureschain", one, partial(dated, book, one))


def _file(period: str, symbol: str, day: Day, told: Callable[[], Lines]) -> tuple[str, Callable[[], bytes]]:
    name = f"{symbol}-trades-{day.date}"
    return f"okex/traderecords/trades/{period}/{day.date.replace('-', '')}/{name}.zip", partial(_packed, name, told)


def dated(book: Book, day: Day) -> Lines:
    """Each trade of a perpetual is one of the next two expiries too, by turns: so the ids of both follow by one."""
    names = [f"{_family(book)}-{one:%y%m%d}" for one in _expiries(dt.date.fromisoformat(day.date))]
    for one in fills(book, day):
        yield names[one.id % 2], one.id // 2, one


def _expiries(after: dt.date) -> list[dt.date]:
    """The last Fridays of two quarters: the next ones."""
    found: list[dt.date] = []
    for year in (after.year, after.year + 1):
        for month in QUARTERS:
            last = dt.date(year + month // 12, month % 12 + 1, 1) - dt.timedelta(days=1)
            found.append(last - dt.timedelta(days=(last.weekday() - 4) % 7))
    return [one for one in found if one > after][:2]


def _family(book: Book) -> str:
    return book.symbol.removesuffix("-SWAP")


def _packed(name: str, told: Callable[[], Lines]) -> bytes:
    """Newest first; some sizes in scientific notation."""
    lines = (
        f"{symbol},{number},{'sell' if one.maker else 'buy'},{one.price},{_size(one.qty)},{one.ts // MS}"
        for symbol, number, one in reversed([*told()])
    )
    return zipped(f"{name}.csv", text([_NAMES, *lines]))


def _trades(book: Book, day: Day) -> Lines:
    return ((book.symbol, one.id, one) for one in fills(book, day))


def _size(qty: str) -> str:
    whole, point, rest = qty.partition(".")
    return f"{int(rest)}E-{len(rest)}" if point and not int(whole) and int(rest) else qty
