"""Bars as a reader shows them: folded to any interval, and null over gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from lake import bar_pieces, bars, fills
from lake.asking import BarKind
from lake.bars import EVERY_SYMBOL
from lake.plans import Plan, spans
from lake.reading import check, collected, lazy, polars_schema
from market.session import Coverage


def shown(root: Path, plan: Plan, bar: BarKind, columns: Sequence[str]) -> pl.DataFrame:
    """The bars of a plan; at least `columns` of them where nothing needs the others. Raises CorruptFile."""
    check(root, plan.selection.files)
    if not bar.folded:
        needed = list(dict.fromkeys((*(fills.NEEDED if plan.gaps else ("gap",)), *columns)))
        held = collected(root, plan.selection, plan.files, needed)
    else:
        held = _folded(root, plan, bar)
        low, high = (pl.lit(edge).cast(pl.Datetime("us", "UTC")) for edge in (plan.span.start, plan.span.end))
        held = held.filter((pl.col("window_start") >= low) & (pl.col("window_start") < high))
    return fills.hide_gaps(held, bar.width, spans(plan.gaps))


def lazily(kind: str, answer: Callable[[Sequence[str]], pl.DataFrame]) -> pl.LazyFrame:
    """A lazy frame of bars that is answered when it is collected, with the columns that are needed then."""
    schema = polars_schema(kind)

    def give(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        names = list(schema) if columns is None else columns
        looked_at = () if predicate is None else predicate.meta.root_names()
        frame = answer(list(dict.fromkeys((*names, *looked_at))))
        frame = frame if predicate is None else frame.filter(predicate)
        yield (frame if rows is None else frame.head(rows)).select(names)

    return register_io_source(give, schema=schema)


def _folded(root: Path, plan: Plan, bar: BarKind) -> pl.DataFrame:
    """Wider bars: of many stored ones a piece after the other, of which what is folded stays in memory."""
    made: list[pl.DataFrame] = []
    for piece in bar_pieces.pieces(root, plan.selection):
        rows = lazy(root, piece, plan.files).collect()
        if piece is plan.selection:
            return _wider(rows, bar, plan.coverage)
        made.append(_wider(rows, bar, ()))
    order = [*(pl.col(name).cast(pl.String) for name in fills.MARKET), pl.col("window_start")]
    # a window that pieces have cut in two has its parts in their order
    return _wider(pl.concat(made).sort(order, maintain_order=True), bar, plan.coverage)


def _wider(rows: pl.DataFrame, bar: BarKind, coverage: Sequence[Coverage]) -> pl.DataFrame:
    """Rows folded, market by market; `partial` where coverage does not contain the wide window."""
    made: list[pl.DataFrame] = []
    for key, part in rows.group_by("exchange", "market_type", maintain_order=True):
        market = tuple(str(name) for name in key)
        mine = [c for c in coverage if (c.exchange, c.market_type) == market and c.symbol != EVERY_SYMBOL]
        covered = bars.by_symbol((c.symbol, c.ts_from, c.ts_to) for c in mine)
        folded = pl.from_arrow(bars.fold(part, bar.width, coverage=covered, origin=bar.origin))
        assert isinstance(folded, pl.DataFrame)
        made.append(folded)
    return pl.concat(made) if made else rows
