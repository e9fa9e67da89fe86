"""Levels of a book as lists of texts, as readers of files give them, and as the columns of a table. Pure.

Whole columns at once: lists of {price, qty} as texts on one side, floats beside texts where a float is inexact on the
other.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import scaled, tables

FIELDS = ("price", "qty")
TEXTS = pl.List(pl.Struct(dict.fromkeys(FIELDS, pl.String)))
"""The type of such a column."""


def wrong(name: str) -> pl.Expr:
    """The reason where a level of the column is no price and quantity, null where all are."""
    good = [
        pl.element().struct.field(field).str.contains(scaled.STRICT)
        & ~pl.element().struct.field(field).str.starts_with("-")
        for field in FIELDS
    ]
    fine = pl.col(name).list.eval((good[0] & good[1]).fill_null(value=False)).list.all()
    return pl.when(fine).then(None).otherwise(pl.lit(f"{name}: a level that is no price and quantity"))


def columns(texts: pl.Series) -> tuple[pa.Array, pa.Array]:
    """(levels as floats, the same levels as texts where one of a row is inexact and null elsewhere); none is wrong."""
    lists = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    lists = lists.cast(tables.LEVELS_TEXT)
    levels, offsets = lists.flatten(), _offsets(pc.list_value_length(lists))
    floats, spelt = {}, {}
    for field in FIELDS:
        column = pl.from_arrow(pc.struct_field(levels, field))
        assert isinstance(column, pl.Series)
        floats[field], spelt[field] = scaled.split(column.cast(pl.String))
    numbers = pa.ListArray.from_arrays(offsets, _struct(floats, tables.LEVELS), type=tables.LEVELS)
    inexact = spelt["price"].is_not_null() | spelt["qty"].is_not_null()
    if not inexact.any():
        return numbers, pa.nulls(len(lists), tables.LEVELS_TEXT)
    owners = pl.Series(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=pl.Int64)
    some = owners.filter(inexact).unique()
    rows = pl.int_range(len(lists), dtype=pl.Int64, eager=True).is_in(some.implode())
    held = owners.is_in(some.implode())
    counts = pc.if_else(rows.to_arrow(), pc.list_value_length(lists), 0)
    kept = _struct({field: column.filter(held) for field, column in spelt.items()}, tables.LEVELS_TEXT)
    nulls = pc.invert(rows.to_arrow())
    return numbers, pa.ListArray.from_arrays(_offsets(counts), kept, type=tables.LEVELS_TEXT, mask=nulls)


def of_table(table: pa.Table, kind: str, name: str) -> pl.Series:
    """A column of levels of a table as lists of plain texts."""
    flat = {of: (floats, texts) for of, floats, texts in tables.flat_levels(table, kind)}
    spelt = {}
    for field in FIELDS:
        floats, texts = (_series(column) for column in flat[f"{name}.{field}"])
        spelt[field] = scaled.texts_of(floats, texts.cast(pl.String))
    lists = table.column(name).combine_chunks()
    made = pa.ListArray.from_arrays(
        _offsets(pc.list_value_length(lists)), _struct(spelt, tables.LEVELS_TEXT), type=tables.LEVELS_TEXT
    )
    return _series(pa.chunked_array([made])).cast(TEXTS)


def _series(column: pa.ChunkedArray) -> pl.Series:
    made = pl.from_arrow(column)
    assert isinstance(made, pl.Series)
    return made


def _offsets(counts: pa.Array) -> pa.Array:
    ends = pc.cumulative_sum(pc.fill_null(counts, 0).cast(pa.int32()))
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])


def _struct(columns: dict[str, pl.Series], to: pa.ListType) -> pa.StructArray:
    fields = [to.value_type.field(name) for name in FIELDS]
    values = [columns[field.name].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(field.type) for field in fields]
    return pa.StructArray.from_arrays(values, fields=fields)
