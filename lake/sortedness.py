"""Whether the rows of a table come in order: looked at column by column, as far as rows are still equal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa


def unsorted(table: pa.Table, order: Sequence[str]) -> bool:
    """Whether a row sorts before the row above it: by the columns of `order`, nulls first, texts by their bytes."""
    tied: pl.Series | None = None
    level: list[tuple[pl.Series, pl.Series]] = []  # columns that never fall: mostly the next one parts all their rows
    for name in order if table.num_rows > 1 else ():
        column = table.column(name)
        if _one_value(column):
            continue
        values = _series(column)
        above, here = values.slice(0, len(values) - 1), values.slice(1)
        if values.dtype.is_integer() and not values.has_nulls():
            if (here > above).all():
                return False
            if (here >= above).all():
                level.append((above, here))
                continue
        for before, after in level:
            tied = before.eq(after) if tied is None else before.eq(after) & tied
        level.clear()
        same = above.eq_missing(here)
        parted = ~same if tied is None else ~same & tied
        if _falls(above, here, parted):
            return True
        tied = same if tied is None else same & tied
        if not tied.any():
            break
    return False


def _one_value(column: pa.ChunkedArray) -> bool:
    """Whether all rows have the same text, as far as their dictionary tells."""
    if not pa.types.is_dictionary(column.type) or column.num_chunks != 1:
        return False
    return len(column.chunk(0).dictionary) == 1 and not column.null_count


def _falls(above: pl.Series, here: pl.Series, parted: pl.Series) -> bool:
    """Whether one of the `parted` pairs falls. Texts are looked at where they differ only, and those are few."""
    if above.dtype in (pl.Categorical, pl.String):
        above, here = (side.filter(parted).cast(pl.String) for side in (above, here))
        parted = parted.filter(parted)
    falls = (here < above).fill_null(value=False)
    if here.null_count():
        falls = falls | (here.is_null() & above.is_not_null())
    return bool((falls & parted).any())


def _series(column: pa.ChunkedArray) -> pl.Series:
    made = pl.from_arrow(column)
    assert isinstance(made, pl.Series)
    return made.to_physical() if made.dtype.is_temporal() else made
