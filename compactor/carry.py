"""The row that a day of book updates opens with: the book at the end of the day before, where it was known then.

It is derived, and no observation: merges leave it out of what they conserve, certificates out of what they count. It is
made from the daily file of the day before alone, so that the same files give the same row.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import book_files, books, parquet, scaled, tables
from lake.books import KIND, Observed, Row
from lake.errors import BookUnknown
from lake.rows import FileRow
from market import times
from market.chain import Chain
from market.session import Coverage, Gap

_EVER = (-(2**62), 2**62)


class Opening(msgspec.Struct, frozen=True):
    """The row, None where the book was not known; `crossed` says so in words where it was wrong."""

    row: pa.Table | None = None
    crossed: str | None = None


def opening(
    root: Path, before: FileRow, date: str, after: Row | None, gaps: Sequence[Gap], coverage: Sequence[Coverage]
) -> Opening:
    """What the day `date` of a symbol opens with. `before` is its file of the day before,

    `after` the day's first update, `gaps` and `coverage` are the symbol's that touch the day. Raises CorruptFile.
    """
    start = times.day_start(dt.date.fromisoformat(date))
    what = f"the book of {before.exchange} {before.market_type} {before.symbol}"
    chain, pieces = Chain[None](), book_files.daily(root, before)
    books.walk(chain, pieces(books.ID_COLUMNS, *_EVER), start - 1)
    try:
        books.known(what, chain, after, start, Observed(gaps, coverage))
    except BookUnknown:
        return Opening()
    book = books.rebuild(pieces, chain, start - 1)
    if book.left:
        return Opening()
    if book.crossed:
        return Opening(crossed=f"at the end of the day before: bid {book.bids[0][0]} ask {book.asks[0][0]}")
    return Opening(_row(before, start, chain.last or 0, book))


def _row(before: FileRow, start: int, last_id: int, book: books.Rebuilt) -> pa.Table:
    data = {
        "exchange": [before.exchange],
        "market_type": [before.market_type],
        "symbol": [before.symbol],
        "date": [times.date_of(start)],
        "ts_event": [start],
        "ts_estimated": [False],
        "session": [book.newest.session],
        "frame_no": [book.newest.frame_no],
        "item": [book.newest.item],
        "source": ["derived"],
        "last_id": [last_id],
        "flags": ["carried"],
    }
    for name, side in (("bids", book.bids), ("asks", book.asks)):
        data[name], data[tables.text_name(name)] = _levels(side)
    return tables.conform(pa.table(data), KIND)


def _levels(side: Sequence[books.Level]) -> tuple[pa.Array, pa.Array]:
    """One row's levels as floats, and as texts where one of them is not exact."""
    split = [scaled.split(pl.Series([level[place] for level in side], dtype=pl.String)) for place in (0, 1)]
    numbers = [{"price": price, "qty": qty} for price, qty in zip(split[0][0], split[1][0], strict=True)]
    texts = [{"price": price, "qty": qty} for price, qty in zip(split[0][1], split[1][1], strict=True)]
    inexact = any(level["price"] or level["qty"] for level in texts)
    return pa.array([numbers], tables.LEVELS), pa.array([texts if inexact else None], tables.LEVELS_TEXT)


def first_update(pieces: Iterator[pa.Table]) -> tuple[Row | None, Iterator[pa.Table]]:
    """The first update of some pieces, and the pieces as they were."""
    seen: list[pa.Table] = []
    for piece in pieces:
        seen.append(piece)
        for row in books.rows([piece]):
            if row.last is not None and not row.whole:
                return row, itertools.chain(seen, pieces)
    return None, iter(seen)


def opened(pieces: Iterator[pa.Table], row: pa.Table) -> Iterator[pa.Table]:
    """The pieces with the row in its place: nothing of the day is before it but what has its time and a lower id."""
    start, last = row.column("ts_event")[0].value, row.column("last_id")[0].as_py()
    placed = False
    for piece in pieces:
        if placed:
            yield piece
            continue
        ids = pc.coalesce(piece.column("last_id"), -1)
        lower = pc.and_(pc.equal(piece.column("ts_event").cast(pa.int64()), start), pc.less(ids, last))
        count = int(pc.sum(lower).as_py() or 0)
        if count < piece.num_rows:
            placed = True
            yield pa.concat_tables([piece.slice(0, count), row, piece.slice(count)])
        else:
            yield piece
    if not placed:
        yield row


def opening_of(root: Path, file: FileRow) -> pa.Table | None:
    """The row that a daily file opens with, None where it has none."""
    start = times.day_start(dt.date.fromisoformat(file.date))
    for piece in book_files.daily(root, file)(tables.schema(KIND).names, start, start):
        found = piece.filter(books.is_carried(piece))
        if found.num_rows:
            return found
        if piece.column("ts_event")[-1].value > start:
            break
    return None


def observed(path: Path, kind: str, columns: Sequence[str] | None, rows: int = 64 * 1024) -> Iterator[pa.Table]:
    """The rows of a file that were observed, in pieces; all columns or those named."""
    if kind != KIND:
        yield from parquet.iterate(path, columns, rows)
        return
    wanted = None if columns is None else [*columns, *(["flags"] if "flags" not in columns else [])]
    for piece in parquet.iterate(path, wanted, rows):
        kept = without(piece)
        yield kept if columns is None else kept.select(list(columns))


def without(table: pa.Table) -> pa.Table:
    """Rows of book updates less those of our own."""
    ours = books.is_carried(table)
    return table.filter(pc.invert(ours)) if pc.any(ours).as_py() else table


def same(left: pa.Table | None, right: pa.Table | None) -> bool:
    """Whether two openings say the same."""
    if left is None or right is None:
        return left is right
    said: bool = left.to_pylist() == right.to_pylist()
    return said
