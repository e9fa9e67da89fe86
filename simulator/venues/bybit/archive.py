"""public.bybit.com: trades of futures a day a file, of spot a day and a month, packed with gzip, listed as pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from market.times import MS, SECOND
from simulator.archives import Day, days, fills, months, packed, text
from simulator.events import Fill
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues.bybit.wire import trade_id

LISTS, SUMS = "html", ""
_FUTURES = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional,RPI"
)  # fmt: skip
_SPOT = "id,timestamp,price,volume,side,rpi"


def files(hub: Hub) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file there is."""
    for book in hub.market.books:
        symbol = book.symbol
        for day in days(book, hub.clock.now()):
            if book.market == "spot":
                yield f"spot/{symbol}/{symbol}_{day.date}.csv.gz", partial(_spot, book, day)
            else:
                yield f"trading/{symbol}/{symbol}{day.date}.csv.gz", partial(_futures, book, day)
        for month in months(book, hub.clock.now()) if book.market == "spot" else ():
            yield f"spot/{symbol}/{symbol}-{month.date}.csv.gz", partial(_spot, book, month)


def _spot(book: Book, day: Day) -> bytes:
    """Numbered from 1 in each file; times in ms."""
    lines = (
        f"{number},{one.ts // MS},{one.price},{one.qty},{'sell' if one.maker else 'buy'},0"
        for number, one in enumerate(fills(book, day), 1)
    )
    return packed(text([_SPOT, *lines]))


def _futures(book: Book, day: Day) -> bytes:
    return packed(text([_FUTURES, *(_future(one) for one in fills(book, day))]))


def _future(one: Fill) -> str:
    """Times in seconds with a fraction, without zeros at its end."""
    at = f"{one.ts // SECOND}.{one.ts % SECOND:06d}".rstrip("0").rstrip(".")
    value, side = one.ticks * one.lots, "Sell" if one.maker else "Buy"
    more = f"ZeroPlusTick,{trade_id(one)},{value}e+02,{one.qty},{value},0"
    return f"{at},{one.book.symbol},{side},{one.qty},{one.price},{more}"
