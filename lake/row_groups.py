"""Tables cut and joined to the sizes that are written and read, without a copy of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import tables
from lake.merge import joined


def regroup(batches: Iterable[pa.Table], rows: int, levels: int = tables.ROW_GROUP_LEVELS) -> Iterator[pa.Table]:
    """The same rows as tables of exactly `rows` rows (the last may be shorter), so that bytes follow from rows.

    Where the rows hold book levels, a table ends before the row that would bring it above `levels` of them.
    """
    held: list[pa.Table] = []
    count = weight = 0
    for batch in batches:
        table, ends = batch, _level_ends(batch)
        while table.num_rows:
            fit = rows - count
            if ends is not None:
                before = 0 if table.num_rows == len(ends) else ends[-table.num_rows - 1]
                left = ends.tail(table.num_rows) - before
                fit = min(fit, max(int(left.search_sorted(levels - weight, side="right")), 0 if held else 1))
            taken = min(fit, table.num_rows)
            if taken:
                held.append(table.slice(0, taken))
                count += taken
                weight += int(left[taken - 1]) if ends is not None else 0
                table = table.slice(taken)
            if count == rows or (table.num_rows and taken == fit):
                yield pa.concat_tables(held)
                held, count, weight = [], 0, 0
    if held:
        yield pa.concat_tables(held)


def gathered(pieces: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Small tables joined to tables of up to `rows` rows each. None is cut: what looks at two pieces copies them."""
    held: list[pa.Table] = []
    for piece in pieces:
        if held and sum(map(len, held)) + len(piece) > rows:
            yield joined(held)
            held = []
        held.append(piece)
    if held:
        yield joined(held)


def _level_ends(table: pa.Table) -> pl.Series | None:
    """How many book levels the rows up to each one hold, None where rows of this kind hold none."""
    lists = [column for column in table.columns if column.type == tables.LEVELS]
    if not lists:
        return None
    lengths = [pl.Series(pl.from_arrow(pc.list_value_length(column))).cast(pl.Int64).fill_null(0) for column in lists]
    return pl.select(pl.sum_horizontal(lengths).cum_sum()).to_series()
