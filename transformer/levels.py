"""Book levels on their way from the venue's JSON text to columns: all rows of a column at once.

A segment of books is mostly levels, so they are decoded with one call, checked and split as two flat columns, and cut
into lists again at the end. Where one row is no list of levels, that row is named and the others go on.
"""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from lake import scaled, tables

Pair = tuple[str, str]
NO_TEXT = "a price or quantity that is no text"
NO_NUMBER = "a price or quantity that is no number"
_ALL = msgspec.json.Decoder(list[list[Pair]])
_ONE = msgspec.json.Decoder(list[list[Any]])


class Levels:
    """One column of levels. `wrong` says for each row what is wrong with it, None where nothing is."""

    def __init__(self, texts: pl.Series) -> None:
        self.wrong: list[str | None] = [None] * texts.len()
        self._rows = self._decoded(texts)
        self._flat = self._flattened()
        good = [scaled.valid(column) & ~column.str.starts_with("-") for column in self._flat]
        bad = ~(good[0] & good[1])
        if bad.any():
            owners = [row for row, levels in enumerate(self._rows) for _ in levels]
            for place in bad.arg_true():
                self.wrong[owners[place]] = NO_NUMBER

    def keep(self, wanted: pl.Series) -> None:
        """Go on with these rows only."""
        if wanted.all():
            return
        self._rows = list(itertools.compress(self._rows, wanted))
        self.wrong = list(itertools.compress(self.wrong, wanted))
        self._flat = self._flattened()

    def columns(self) -> tuple[pa.Array, pa.Array]:
        """(levels as floats, the same levels as texts where one of a row is inexact and null elsewhere)."""
        (prices, price_texts), (qtys, qty_texts) = (scaled.split(column) for column in self._flat)
        counts = [len(levels) for levels in self._rows]
        numbers = _lists(counts, tables.LEVELS, prices, qtys)
        if price_texts.null_count() + qty_texts.null_count() == 2 * prices.len():
            return numbers, pa.nulls(len(counts), tables.LEVELS_TEXT)
        owners = pl.Series(values=range(len(counts)), dtype=pl.Int64).gather(
            [row for row, count in enumerate(counts) for _ in range(count)]
        )
        some = price_texts.is_not_null() | qty_texts.is_not_null()
        spelt = set(owners.filter(some))
        held = owners.is_in(list(spelt))
        texts = _lists(
            [count if row in spelt else None for row, count in enumerate(counts)],
            tables.LEVELS_TEXT, price_texts.filter(held), qty_texts.filter(held),
        )  # fmt: skip
        return numbers, texts

    def _decoded(self, texts: pl.Series) -> list[list[Pair]]:
        try:
            # each text is one JSON value, or its line would not have been decoded
            return _ALL.decode("[" + ",".join(texts) + "]")
        except msgspec.DecodeError:
            return [self._one(row, text) for row, text in enumerate(texts)]

    def _one(self, row: int, text: str) -> list[Pair]:
        """The levels of one row; none of them where one of them is no level."""
        try:
            levels = [tuple(level[:2]) for level in _ONE.decode(text)]
        except msgspec.DecodeError as error:
            self.wrong[row] = str(error)
            return []
        if not all(len(level) == 2 and isinstance(level[0], str) and isinstance(level[1], str) for level in levels):
            self.wrong[row] = NO_TEXT
            return []
        return levels

    def _flattened(self) -> tuple[pl.Series, pl.Series]:
        flat = list(itertools.chain.from_iterable(self._rows))
        prices, qtys = [level[0] for level in flat], [level[1] for level in flat]
        return pl.Series(prices, dtype=pl.String), pl.Series(qtys, dtype=pl.String)


def _lists(counts: list[int] | list[int | None], to: pa.ListType, prices: pl.Series, qtys: pl.Series) -> pa.Array:
    """Two flat columns as lists of `counts` levels; a count of None is a null."""
    ends = itertools.accumulate((count or 0 for count in counts), initial=0)
    nulls = pa.array([count is None for count in counts], pa.bool_())
    fields = [to.value_type.field(name) for name in ("price", "qty")]
    values = [
        column.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(field.type)
        for column, field in zip((prices, qtys), fields, strict=True)
    ]
    flat = pa.StructArray.from_arrays(values, fields=fields)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, type=to, mask=nulls)
