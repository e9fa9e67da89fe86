"""Bars with a row for every window, in pieces of time: few are in memory at once, however many windows there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from lake import bar_pieces
from lake.asking import BarKind
from lake.fills import MARKET, Fill, Filler, Known, SymbolKey, Windows, windows
from lake.plans import Plan, spans
from lake.reading import Wanted, check, lazy
from market.times import DAY, Interval, floor_to

PIECE_WINDOWS = 100_000
"""Windows that are made at once: about 60 MB."""


class Filling:
    """The windows that a plan asks for. Made in one snapshot; what is known about them stays that of the plan."""

    def __init__(self, root: Path, plan: Plan, bar: BarKind, fill: Fill) -> None:
        """Raises MissingFile, CorruptFile, WrongQuestion (there are too many windows)."""
        check(root, plan.selection.files)
        self._plan, self._bar, self._fill = plan, bar, fill
        self._known = Known(bar.width, plan.span, plan.covered(), spans(plan.gaps), bar.origin, plan.until)
        self._windows = windows(self._known, _edges(root, plan, bar))

    def pieces(self, shown: Callable[[Plan], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """All rows, symbol by symbol; `shown` gives the bars that are there of a part of the plan."""
        filler = Filler(self._known, self._fill)
        for piece in _pieces(self._windows, self._bar):
            low, high = min(one.start for one in piece.values()), max(one.end for one in piece.values())
            wanted = tuple(Wanted(*key) for key in piece)
            part = self._plan.narrowed(self._plan.span.clip(Interval(low, high)), wanted)
            yield filler.rows(shown(part), piece)


def _pieces(whole: Windows, bar: BarKind) -> Iterator[dict[SymbolKey, Interval]]:
    """Some symbols whole where they have few windows together, else one in parts that begin with days."""
    most = PIECE_WINDOWS * bar.width
    group: dict[SymbolKey, Interval] = {}
    total = 0
    for key, mine in whole.items():
        length = mine.end - mine.start
        if group and total + length > most:
            yield group
            group, total = {}, 0
        if length <= most:
            group[key] = mine
            total += length
            continue
        step = max(bar.width, (most // DAY * DAY or most) // bar.width * bar.width)
        for at in range(bar.floor(floor_to(mine.start, DAY)), mine.end, step):
            part = mine.clip(Interval(at, at + step))
            if not part.empty:
                yield {key: part}
    if group:
        yield group


def _edges(root: Path, plan: Plan, bar: BarKind) -> Windows:
    """From the first to behind the last window that has a bar, by symbol."""
    width, origin = bar.width, bar.origin
    since = pl.col("window_start").cast(pl.Int64) - origin
    start = since - since % width + origin
    found: dict[SymbolKey, Interval] = {}
    for piece in bar_pieces.pieces(root, plan.selection):
        rows = lazy(root, piece, plan.files, [*MARKET, "window_start"])
        rows = rows.select(pl.col(MARKET).cast(pl.String), start.alias("#start"))
        rows = rows.filter((pl.col("#start") >= plan.span.start) & (pl.col("#start") < plan.span.end))
        ends = rows.group_by(MARKET).agg(pl.col("#start").min().alias("#low"), pl.col("#start").max().alias("#high"))
        for exchange, market_type, symbol, low, high in ends.collect().iter_rows():
            key, new = (exchange, market_type, symbol), Interval(low, high + width)
            old = found.get(key, new)
            found[key] = Interval(min(old.start, new.start), max(old.end, new.end))
    return found
