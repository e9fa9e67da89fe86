"""Groups that are ranges of rows: what is aggregated over each of them, where the values lie and without hashing.

Pure. A column and the places where its groups end are a column of lists in the same memory, over which an aggregate is
one pass: three to five times as fast as a `group_by` of sorted rows. Nulls count nothing, as there.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Self

import polars as pl
import pyarrow as pa


class Ranges:
    """Consecutive groups of rows, none of them empty: of each its first row, and the row behind its last."""

    def __init__(self, borders: pl.Series) -> None:
        """Groups that end where the next one of these rows is; the first is 0, the last behind all."""
        self.starts, self.ends = borders[:-1], borders[1:]
        self._borders = borders.to_arrow()

    @classmethod
    def of(cls, *keys: pl.Series) -> Self:
        """Rows that follow each other with the same values in all of these columns, which hold no nulls."""
        rows = keys[0].len()
        changed = functools.reduce(operator.or_, (key[1:] != key[:-1] for key in keys))
        last = pl.Series([rows] if rows else [], dtype=pl.Int64)
        return cls(pl.concat([pl.Series([0], dtype=pl.Int64), changed.arg_true().cast(pl.Int64) + 1, last]))

    def __len__(self) -> int:
        return self.starts.len()

    @property
    def longest(self) -> int:
        """The rows of the largest group."""
        return max((self.ends - self.starts).to_list(), default=0)

    def lists(self, columns: Iterable[pl.Series]) -> pl.DataFrame:
        """Of each group the values of these columns, each as a list. Arrow has no 128 bits."""
        made = []
        for column in columns:
            lists = pl.from_arrow(pa.LargeListArray.from_arrays(self._borders, column.to_arrow()))
            assert isinstance(lists, pl.Series)
            made.append(lists.alias(column.name))
        return pl.DataFrame(made)

    def sums(self, column: pl.Series) -> pl.Series:
        """Of integers whose total over all rows fits their type."""
        if column.dtype == pl.Int64:
            return self.lists([column]).to_series().list.sum()
        total = column.fill_null(0).cum_sum().gather(self.ends - 1)
        return total - total.shift(fill_value=0)

    def first(self, column: pl.Series) -> pl.Series:
        """The first row of each group in which the column is not null; null where there is none."""
        return self._there(column).list.min() if column.null_count() else self.starts

    def last(self, column: pl.Series) -> pl.Series:
        """The last row of each group in which the column is not null, likewise."""
        return self._there(column).list.max() if column.null_count() else self.ends - 1

    def _there(self, column: pl.Series) -> pl.Series:
        """The rows of each group in which the column is not null, null in place of the others."""
        rows = pl.when(pl.lit(column).is_not_null()).then(pl.int_range(column.len(), dtype=pl.Int64))
        return self.lists([pl.select(rows).to_series()]).to_series()
