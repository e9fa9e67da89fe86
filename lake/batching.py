"""Rows of a plan in Arrow record batches, with as much in memory as a few of them need, however many there are.

Days follow each other, market by market; of a day come first the closed symbols, file by file in pieces, then what is
hot in slices of time, then of bars the windows that are asked for. Bars with a row for every window come symbol by
symbol. A piece that is read from the disk is whole before
a row of it is given out, and a daily file stays open until its last row is: what is replaced and deleted meanwhile
does not matter, and what is deleted before its turn is read from a new snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from lake import parquet, tables, wide_bars
from lake.answers import arrow
from lake.asking import FIRST, BarKind
from lake.bar_pieces import groups, named
from lake.errors import MissingFile
from lake.fill_pieces import Filling
from lake.plans import Plan
from lake.reading import AROUND, EVER, Selection, Wanted, check, lazy, time_column
from lake.rows import FileRow
from lake.sizes import SIZED, stored_for, with_sizes
from market import times
from market.times import DAY, HOUR, Interval, floor_to

BATCH_ROWS = 65_536
_SLICE_ROWS = 200_000
"""Hot rows that are put in order at once, or bars that are folded at once."""
_SLICE_BYTES = 24_000_000
"""Bytes of hot files that such a slice may come from: rows of books hold many levels."""
_MOST_SLICES = 720
"""Slices of one hour."""
_MARKET = ("exchange", "market_type", "symbol")
Again = Callable[[Interval, Sequence[Wanted], Callable[[Plan], pl.DataFrame]], pl.DataFrame]
"""The answer to the same question from a new snapshot, for a part of its span and some of its symbols."""


def batches(
    root: Path, plan: Plan, names: Sequence[str], rows: int, again: Again, filling: Filling | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a plan with these columns, at most `rows` in a batch, of bars those of a `filling`.

    Raises CorruptFile.
    """
    bar = plan.question.bar
    if bar is None:
        frames = _rows(root, plan, names, again)
    elif filling is None:
        frames = _bars(root, plan, bar, names, again)
    else:
        every = tables.schema(plan.kind).names
        frames = filling.pieces(lambda part: _folded(root, part, bar, every, again))
    for frame in frames:
        if frame.height:
            yield from arrow(frame.select(names), plan.kind).to_batches(max_chunksize=rows)


def _rows(root: Path, plan: Plan, names: Sequence[str], again: Again) -> Iterator[pl.DataFrame]:
    days = sorted({(file.exchange, file.market_type, file.date) for file in plan.selection.files})
    for day in days:
        mine = [f for f in plan.selection.files if (f.exchange, f.market_type, f.date) == day]
        for file in mine:
            if file.level == "day":
                yield from _file(root, plan, file, names, again)
        hot = tuple(file for file in mine if file.level != "day")
        for span in _slices(hot, plan.span):
            yield _slice(root, plan, hot, span, names, again)


def _file(root: Path, plan: Plan, file: FileRow, names: Sequence[str], again: Again) -> Iterator[pl.DataFrame]:
    """The wanted rows of a daily file, piece by piece."""
    wanted = _in_market(plan.wanted, file)
    columns = stored_for(plan.kind, (*_MARKET, time_column(plan.kind), *names))
    symbols = None if any(w.symbol is None for w in wanted) else frozenset(w.symbol for w in wanted if w.symbol)
    try:
        check(root, [file])
        pieces = parquet.iterate(
            root / file.path, columns, symbols=symbols, between=(plan.span.start, plan.span.end - 1)
        )
        piece = next(pieces, None)
    except (MissingFile, FileNotFoundError):
        start = times.parse(file.date)
        day = plan.span.clip(Interval(start, start + DAY))
        yield again(day, wanted, lambda new: _whole(root, new, names))
        return
    while piece is not None:
        frame = pl.from_arrow(piece)
        assert isinstance(frame, pl.DataFrame)
        yield _shown(plan, _only(frame.lazy(), plan, wanted, plan.span), names)
        piece = next(pieces, None)


def _slice(
    root: Path, plan: Plan, hot: Sequence[FileRow], span: Interval, names: Sequence[str], again: Again
) -> pl.DataFrame:
    """The hot rows of a part of a day, in order and without copies."""
    around = Interval(span.start - AROUND, span.end + AROUND)
    wanted = _in_market(plan.wanted, hot[0])
    some = tuple(file for file in hot if file.ts_max >= around.start and file.ts_min < around.end)
    try:
        check(root, some)
        rows = lazy(root, Selection(plan.kind, wanted, around, (), some), plan.files)
        return _shown(plan, _only(rows, plan, wanted, span), names)
    except (MissingFile, FileNotFoundError):
        day = (hot[0].exchange, hot[0].market_type, hot[0].date)
        given = [f.symbol for f in plan.files if f.level == "day" and (f.exchange, f.market_type, f.date) == day]
        asked = dict.fromkeys((*names, "symbol"))
        rest = again(span, wanted, lambda new: _whole(root, new, list(asked)))
        return rest.filter(~pl.col("symbol").cast(pl.String).is_in([name for name in given if name is not None]))


def _whole(root: Path, plan: Plan, names: Sequence[str]) -> pl.DataFrame:
    check(root, plan.selection.files)
    return _shown(plan, lazy(root, plan.selection, plan.files), names)


def _shown(plan: Plan, rows: pl.LazyFrame, names: Sequence[str]) -> pl.DataFrame:
    return (with_sizes(rows) if plan.kind in SIZED else rows).select(names).collect()


def _only(rows: pl.LazyFrame, plan: Plan, wanted: Sequence[Wanted], span: Interval) -> pl.LazyFrame:
    if Wanted() not in wanted:
        rows = rows.filter(pl.any_horizontal([one.rows() for one in wanted]))
    if span == EVER:
        return rows
    time = pl.col(time_column(plan.kind)).cast(pl.Int64)
    return rows.filter((time >= span.start) & (time < span.end))


def _in_market(wanted: Sequence[Wanted], file: FileRow) -> tuple[Wanted, ...]:
    """What is wanted of one market, or of the one symbol that the file holds."""
    if file.symbol is not None:
        return (Wanted(file.exchange, file.market_type, file.symbol),)
    return tuple(Wanted(file.exchange, file.market_type, one.symbol) for one in wanted if one.takes(file))


def _slices(hot: Sequence[FileRow], span: Interval) -> Iterator[Interval]:
    """Hours of the hot files of a day, those that hold much in parts."""
    if not hot:
        return
    first, last = min(file.ts_min for file in hot), max(file.ts_max for file in hot)
    for low in range(floor_to(first, HOUR), last + 1, HOUR):
        mine = [file for file in hot if file.ts_max >= low and file.ts_min < low + HOUR]
        rows, weight = sum(file.rows for file in mine), sum(file.bytes for file in mine)
        width = -(-HOUR // (1 + min(max(rows // _SLICE_ROWS, weight // _SLICE_BYTES), _MOST_SLICES)))
        for at in range(low, low + HOUR, width) if mine else ():
            some = span.clip(Interval(at, min(at + width, low + HOUR)))
            if not some.empty:
                yield some


def _bars(root: Path, plan: Plan, bar: BarKind, names: Sequence[str], again: Again) -> Iterator[pl.DataFrame]:
    """Bars of whole windows, about a day of some symbols at a time."""
    files = plan.selection.files
    if not files:
        return
    held = plan.span.clip(Interval(min(f.ts_min for f in files), max(f.ts_max for f in files) + 1))
    low, step = bar.floor(max(held.start, FIRST)), -(-DAY // bar.width) * bar.width
    for at in range(low, held.end, step):
        span = Interval(at, at + step)
        some = [f for f in files if f.ts_max >= span.start and f.ts_min < span.end]
        for wanted in groups(some, plan.wanted, _SLICE_ROWS, lambda hot: _symbols(root, plan, hot, again)):
            yield _folded(root, plan.narrowed(plan.span.clip(span), wanted), bar, names, again)


def _folded(root: Path, plan: Plan, bar: BarKind, names: Sequence[str], again: Again) -> pl.DataFrame:
    def made(one: Plan) -> pl.DataFrame:
        return wide_bars.shown(root, one, bar, names)

    try:
        return made(plan)
    except (MissingFile, FileNotFoundError):
        return again(plan.span, plan.wanted, made)


def _symbols(root: Path, plan: Plan, file: FileRow, again: Again) -> list[str]:
    """The symbols of a hot file, or of what took its place."""
    try:
        found = named(root, [file])
    except (MissingFile, FileNotFoundError):
        start = times.parse(file.date)
        day = plan.span.clip(Interval(start, start + DAY))
        found = again(day, _in_market(plan.wanted, file), lambda new: named(root, new.selection.files))
    return found.get_column("symbol").to_list()
