"""Answers in Arrow: rows in the types of the files, the columns that were asked for, and how complete they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from lake import tables
from lake.errors import WrongQuestion

_SMALL = 16_384
"""Rows below which a piece of a column is sooner copied than handed over by itself."""


def names_of(held: Sequence[str], columns: Sequence[str] | None, name: str) -> list[str]:
    """The columns of an answer: all that are held, or those asked for. Raises WrongQuestion."""
    if columns is None:
        return list(held)
    if isinstance(columns, str | bytes | Mapping) or not isinstance(columns, Iterable):
        hint = f"use columns=[{columns!r}]" if isinstance(columns, str) else "use columns=['price']"
        raise WrongQuestion(f"columns={columns!r} is no list", hint)
    columns = list(columns)
    if not columns:
        raise WrongQuestion("columns=[] names no column", "leave it out for all of them")
    unknown = [str(column) for column in columns if column not in held]
    if unknown:
        raise WrongQuestion(f"{name} has no column {', '.join(unknown)}", f"it has {', '.join(held)}")
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise WrongQuestion(f"column {', '.join(twice)} is asked for twice", "name each column once")
    return columns


def arrow(frame: pl.DataFrame, name: str) -> pa.Table:
    """In the types of the files: names as dictionary<int32, string>, times as timestamp[us, UTC]."""
    schema = tables.schema(name)
    if frame.height < _SMALL * frame.n_chunks():
        frame = frame.rechunk()
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields: list[pa.Field] = []
    made: list[Any] = []
    for column in table.column_names:
        values = table.column(column)
        if column in schema.names:
            wanted = schema.field(column).type
            if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(values.type):
                values = values.cast(pa.string()).dictionary_encode()
            values = values if values.type == wanted else values.cast(wanted)
        fields.append(pa.field(column, values.type))
        made.append(values)
    return pa.table(made, schema=pa.schema(fields))
