"""Typed columns of a Parquet file as the texts that another format would have: from there on all formats are one. Pure.

A float becomes its shortest text, which is the number that was meant; times become texts with their offset, where they
have a zone, and without one where they have none.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from collectors.files.reading import Refused
from lake import scaled

_TEXT = "%Y-%m-%d %H:%M:%S%.6f"
_NO_TEXTS = (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError)
"""Times that no calendar has, zones and types that polars does not know: it panics, which is no Exception."""


def texts_of(table: pa.Table) -> pl.DataFrame:
    """The columns as c0, c1, … of texts; null as "" (an empty cell). Raises Refused."""
    made = []
    for place, column in enumerate(table.columns):
        try:
            plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            series = pl.Series(f"c{place}", pl.from_arrow(plain))
            made.append(_texts(series).fill_null("").alias(f"c{place}"))
        except _NO_TEXTS as error:
            what = f"the values of column {table.column_names[place]} cannot be written as text: {error}"
            raise Refused(what, "a time may be too far away; write the column as text") from error
    return pl.DataFrame(made)


def _texts(series: pl.Series) -> pl.Series:
    if series.dtype == pl.String:
        return series
    if series.dtype == pl.Float64:
        return scaled.float_texts(series.fill_nan(None))
    if series.dtype == pl.Float32:
        return series.fill_nan(None).cast(pl.String)
    if isinstance(series.dtype, pl.Datetime):
        zoned = series.dtype.time_zone is not None
        utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else series
        return utc.dt.strftime(_TEXT) + ("Z" if zoned else "")
    if series.dtype == pl.Date:
        return series.dt.strftime("%Y-%m-%d")
    if series.dtype.is_nested():
        return pl.Series(series.name, [None], dtype=pl.String).new_from_index(0, series.len())
    return series.cast(pl.String)
