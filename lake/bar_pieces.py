"""Stored bars of a read in pieces that can be in memory: some days of all symbols, or some symbols of one day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from lake.reading import Selection, Wanted, check
from lake.rows import FileRow
from market.times import DAY, Interval, floor_to

PIECE_ROWS = 200_000
"""Bars that are folded from one piece, more where one symbol has more in a day."""


def pieces(root: Path, selection: Selection) -> Iterator[Selection]:
    """The parts of a selection of bars, one after the other in time; all of it in one where it is small."""
    files, span = selection.files, selection.span

    def symbols_of(file: FileRow) -> Sequence[str]:
        return named(root, [file]).get_column("symbol").to_list()

    if sum(file.rows for file in files) <= PIECE_ROWS:
        yield selection
        return
    for days in _days(files):
        part = selection.narrowed(span.clip(days), selection.wanted)
        if sum(file.rows for file in part.files) <= PIECE_ROWS:
            yield part
            continue
        for wanted in groups(part.files, selection.wanted, PIECE_ROWS, symbols_of):
            yield selection.narrowed(part.span, wanted)


def _days(files: Iterable[FileRow]) -> Iterator[Interval]:
    """Days (UTC) that have files, so many together as have PIECE_ROWS rows, or one."""
    counts: Counter[int] = Counter()
    for file in files:  # none spans a midnight
        counts[floor_to(file.ts_min, DAY)] += file.rows
    start, end, rows = 0, 0, 0
    for day, more in sorted(counts.items()):
        if rows and rows + more > PIECE_ROWS:
            yield Interval(start, end)
            rows = 0
        start, end, rows = (start if rows else day), day + DAY, rows + more
    if rows:
        yield Interval(start, end)


def groups(
    files: Iterable[FileRow], wanted: Sequence[Wanted], most: int, symbols_of: Callable[[FileRow], Sequence[str]]
) -> Iterator[tuple[Wanted, ...]]:
    """The symbols of some files, so many together as have `most` rows, or one; `symbols_of` a file of several."""
    counts: dict[tuple[str, str, str], int] = {}
    for file in files:
        symbols = [file.symbol] if file.symbol is not None else symbols_of(file)
        for symbol in symbols:
            key = (file.exchange, file.market_type, symbol)
            counts[key] = counts.get(key, 0) + max(1, file.rows // len(symbols))
    group: list[Wanted] = []
    total = 0
    for key, rows in sorted(counts.items()):
        one = Wanted(*key)
        if not any(_covers(asked, one) for asked in wanted):
            continue
        if group and total + rows > most:
            yield tuple(group)
            group, total = [], 0
        group.append(one)
        total += rows
    if group:
        yield tuple(group)


def named(root: Path, files: Sequence[FileRow]) -> pl.DataFrame:
    """The symbols of some files. Raises CorruptFile."""
    if not files:
        return pl.DataFrame({"symbol": []}, schema={"symbol": pl.String})
    check(root, files)
    rows = pl.scan_parquet([root / file.path for file in files], hive_partitioning=False, glob=False)
    return rows.select(pl.col("symbol").cast(pl.String).unique()).collect()


def _covers(asked: Wanted, one: Wanted) -> bool:
    return (
        asked.exchange in (None, one.exchange)
        and asked.market_type in (None, one.market_type)
        and asked.symbol in (None, one.symbol)
    )
