"""static.okx.com: trades a day and a month of UTC+8 a file, as zips that no list names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from market.times import HOUR, MS
from simulator.archives import Day, days, fills, months, text, zipped
from simulator.hub import Hub
from simulator.market import Book

LISTS, SUMS = "", ""
SHIFT, LATE = 8 * HOUR, 2
_NAMES = "instrument_name,trade_id,side,price,size,created_time"


def files(hub: Hub) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file there is."""
    now = hub.clock.now()
    for book in hub.market.books:
        for period, made in (("daily", days), ("monthly", months)):
            for one in made(book, now, shift=SHIFT, late=LATE):
                name = f"{book.symbol}-trades-{one.date}"
                path = f"okex/traderecords/trades/{period}/{one.date.replace('-', '')}/{name}.zip"
                yield path, partial(_trades, name, book, one)


def _trades(name: str, book: Book, day: Day) -> bytes:
    """Newest first; some sizes in scientific notation."""
    lines = (
        f"{book.symbol},{one.id},{'sell' if one.maker else 'buy'},{one.price},{_size(one.qty)},{one.ts // MS}"
        for one in reversed(fills(book, day))
    )
    return zipped(f"{name}.csv", text([_NAMES, *lines]))


def _size(qty: str) -> str:
    whole, point, rest = qty.partition(".")
    return f"{int(rest)}E-{len(rest)}" if point and not int(whole) and int(rest) else qty
