"""Where the rows of one order book are: a closed day in its daily file, what is hot hour by hour; read in pieces.

A day opens with a carried snapshot, so a time of a closed day needs that day's file only. Where a day has none (it is
not closed yet, or the book was not known when it began) the days before it are asked.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import polars as pl
import pyarrow as pa

from lake import books, parquet
from lake.books import KIND, MISSING, Observed, OrderBook, Pieces
from lake.errors import BookUnknown, WrongQuestion
from lake.listings import Listing, resolve
from lake.manifest_reads import Snapshot
from lake.reading import Selection, Wanted, check, lazy
from lake.rows import FileRow
from market import times
from market.chain import Chain
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import DAY, HOUR, Interval

PIECE_ROWS = 16 * 1024
MOST_DAYS = 8
"""Days that are asked for a book to begin from, newest first; closed days that know the book open with it."""
Days: TypeAlias = dict[str, tuple[Pieces, tuple[FileRow, ...]]]
"""Date (YYYY-MM-DD) -> the rows of one book, and the files that they are in."""
_BACK = 2 * DAY
"""How far before the asked time coverage is looked at: silence longer than that proves nothing."""


class Held(msgspec.Struct, frozen=True):
    """What the manifest says of one book at one moment: its live files up to the asked time, and how it was watched."""

    exchange: str
    market_type: str
    symbol: str
    files: tuple[FileRow, ...]
    gaps: tuple[Gap, ...]
    coverage: tuple[Coverage, ...]

    def __str__(self) -> str:
        return f"the book of {self.exchange} {self.market_type} {self.symbol}"


def find(snapshot: Snapshot, wanted: Wanted, known: Iterable[Listing], at: int) -> list[Held]:
    """The books that a symbol may mean, with everything that is asked of the manifest about them."""
    date = times.date_of(at).isoformat()
    found: list[Held] = []
    for one in resolve(wanted, known):
        symbol = one.symbol or ""
        files = snapshot.files(KIND, exchange=one.exchange, market_type=one.market_type, symbol=symbol, date_to=date)
        for market in sorted({(file.exchange, file.market_type) for file in files}):
            gaps = [
                gap
                for gap in snapshot.gaps(*market, KIND, state=MISSING, overlapping=Interval(at, at + 1))
                if gap.symbol in (symbol, EVERY_SYMBOL)
            ]
            coverage = snapshot.coverage(*market, KIND, symbol, overlapping=Interval(at - _BACK, at + 1))
            waiting = [row for state in ("open", "sealed") for row in snapshot.segments(*market, KIND, state)]
            if any(row.period_start <= at for row in waiting):
                coverage = []  # what was received by then is not all transformed: silence proves nothing yet
            mine = tuple(file for file in files if (file.exchange, file.market_type) == market)
            found.append(Held(*market, symbol, mine, tuple(gaps), tuple(coverage)))
    return found


def one(root: Path, found: Sequence[Held], symbol: str, at: int) -> Held:
    """The book that is meant. Raises BookUnknown where there is none, WrongQuestion where there are several."""
    real = [held for held in found if _holds(root, held)] if len(found) > 1 else list(found)
    if not real:
        raise BookUnknown(f"the book of {symbol} is not known at {times.text(at)}: nothing of it is stored up to then")
    if len(real) > 1:
        markets = ", ".join(f"{held.exchange} {held.market_type} {held.symbol}" for held in real)
        raise WrongQuestion(f"{symbol} has several books: {markets}", "name the exchange and the market type")
    return real[0]


def _holds(root: Path, held: Held) -> bool:
    """Whether there are rows of this very symbol: hot files hold all symbols of a market."""
    if any(file.symbol == held.symbol for file in held.files):
        return True
    wanted = frozenset([held.symbol])
    for file in held.files:
        check(root, [file])
        pieces = parquet.iterate(root / file.path, ["symbol"], symbols=wanted)
        if any(held.symbol in piece.column("symbol").unique().to_pylist() for piece in pieces):
            return True
    return False


def daily(root: Path, file: FileRow) -> Pieces:
    """The rows of a daily file of one symbol."""

    def pieces(columns: Sequence[str], start: int, end: int) -> Iterator[pa.Table]:
        return parquet.iterate(root / file.path, columns, PIECE_ROWS, between=(start, end))

    return pieces


def _hot(root: Path, held: Held, files: Sequence[FileRow]) -> Pieces:
    """The rows of one symbol in the hot files of a day, an hour at a time."""
    wanted = (Wanted(held.exchange, held.market_type, held.symbol),)

    def pieces(columns: Sequence[str], start: int, end: int) -> Iterator[pa.Table]:
        for hour in sorted({file.hour or 0 for file in files}):
            some = tuple(file for file in files if (file.hour or 0) == hour)
            low = times.floor_to(some[0].ts_min, DAY) + hour * HOUR
            if low > end or low + HOUR <= start:
                continue
            span = Interval(max(start, low), min(end + 1, low + HOUR))
            frame = lazy(root, Selection(KIND, wanted, span, (), some), some).select(columns).collect()
            if frame.height:
                yield frame.to_arrow(compat_level=pl.CompatLevel.oldest())

    return pieces


def days(root: Path, held: Held) -> Days:
    """The rows of each date (YYYY-MM-DD), and the files that they are in."""
    found: Days = {}
    for date, group in itertools.groupby(sorted(held.files, key=lambda file: file.date), key=lambda file: file.date):
        files = list(group)
        closed = [file for file in files if file.level == "day"]
        if closed:
            found[date] = daily(root, closed[0]), (closed[0],)
        else:
            found[date] = _hot(root, held, files), tuple(files)
    return found


def joined(parts: Sequence[Pieces]) -> Pieces:
    """Days one after the other."""

    def pieces(columns: Sequence[str], start: int, end: int) -> Iterator[pa.Table]:
        for part in parts:
            yield from part(columns, start, end)

    return pieces


def read(root: Path, held: Held, at: int, depth: int | None = None) -> OrderBook:
    """The book at `at` (us). Raises BookUnknown, BookCrossed, CorruptFile."""
    chain, dates = Chain[None](), days(root, held)
    parts: list[Pieces] = []
    after = None
    end = times.floor_to(at, DAY) + DAY - 1
    for date in sorted(dates, reverse=True)[:MOST_DAYS]:
        day, files = dates[date]
        check(root, files)
        parts.insert(0, day)
        chain = Chain[None]()
        after = books.walk(chain, joined(parts)(books.ID_COLUMNS, -(2**62), end), at)
        if chain.base is not None or chain.lost is not None:
            break
    try:
        books.known(str(held), chain, after, at, Observed(held.gaps, held.coverage))
    except BookUnknown as error:
        again = _known_again(held, dates, at)
        raise BookUnknown(error.message, "; ".join(filter(None, (again, error.hint)))) from None
    book = books.rebuild(joined(parts), chain, at)
    books.sound(str(held), book, at)
    return OrderBook(
        exchange=held.exchange,
        market_type=held.market_type,
        symbol=held.symbol,
        at=at,
        ts_event=chain.at,
        last_id=chain.last or 0,
        bids=book.bids[:depth],
        asks=book.asks[:depth],
        valid_low=book.valid_low,
        valid_high=book.valid_high,
        snapshot=book.snapshot,
    )


def _known_again(held: Held, dates: Days, at: int) -> str:
    """Until when a book is unknown, as far as the asked day tells."""
    date = times.date_of(at).isoformat()
    if date not in dates:
        return ""
    gap = Observed(held.gaps).gap(at)
    chain = Chain[None]()
    start = at if gap is None else gap.ts_to
    if start is None:
        return ""
    end = times.day_start(dt.date.fromisoformat(date)) + DAY - 1
    for row in books.rows(dates[date][0](books.ID_COLUMNS, -(2**62), end)):
        books.feed(chain, row)
        if row.at > at and row.at >= start and chain.in_sync:
            return f"known again from {times.text(row.at)} on"
    return "no later row of that day makes it known"
