"""Files that `dl export` made of our own tables: told by their columns, read back as they were. Pure.

What a row says is taken whole: its condition, unit and ids, when it was received, what it came by, and whether its time
is estimated. Of where it lay only the file remains: session and number of the frame are the file's.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa

from collectors.files import texts as spelling
from collectors.files.reading import Options, Reading, Refused, Sample, check_kind
from lake import level_texts, scaled, tables
from lake.typed import BAD, LINE
from market import kinds
from market.kinds import Column

DIALECT = "lake"
NUMBER = "n"
_MADE = ("exchange", "market_type", "date", "session", "frame_no")
"""Columns of a table that its new place decides."""
_ADDED = {"qty_base", "qty_quote"}
"""Columns that readers add to those of the table."""
_TIME = "%Y-%m-%dT%H:%M:%S%.f%z"
_JSON: dict[str, Any] = {
    "int": pl.Int64, "bool": pl.Boolean, "decimal": pl.Float64, "float": pl.Float64,
    "levels": pl.List(pl.Struct(dict.fromkeys(level_texts.FIELDS, pl.Float64))),
}  # fmt: skip


def kind_of(sample: Sample) -> str | None:
    """The kind of whose table the header is; None where it is of none."""
    if sample.header is None:
        return None
    held = set(sample.header) - _ADDED
    return next((name for name in kinds.KINDS if held == set(tables.schema(name).names)), None)


def reading(sample: Sample, kind: str, options: Options) -> Reading:
    """How such a file is read: there is nothing to ask. Raises Refused."""
    if kind in kinds.BARS:
        raise Refused(
            f"{sample.name} is a table of bars, which are made here, of trades", "export and import the trades"
        )
    check_kind(kind, own=True)
    assert sample.header is not None
    if options.kind not in (None, kind):
        raise Refused(f"{sample.name} is a table of {kind}, and holds no {options.kind}", "leave out --kind")
    for option, said in (("symbol", options.symbol), ("timezone", options.timezone), ("scale", options.scale)):
        if said is not None:
            raise Refused(f"{sample.name} is a table of ours, and says all of it itself", f"leave out --{option}")
    for name, said in (("exchange", options.exchange), ("market_type", options.market_type)):
        found = sorted(set(sample.column(sample.header.index(name))))
        if found != [said]:
            option = name.replace("_", "-")
            raise Refused(
                f"{sample.name} is of {name} {', '.join(found)}", f"say --{option} {found[0] if found else ''}"
            )
    return Reading(
        dialect=DIALECT, kind=kind, format=sample.format, names=sample.header, delimiter=sample.delimiter,
        fields={name: place for place, name in enumerate(sample.header) if name not in (*_MADE, *_ADDED)}, times={},
        skip=sample.skip, encoding=sample.encoding,
    )  # fmt: skip


def of_texts(reading: Reading, cut: pl.DataFrame) -> pl.DataFrame:
    """Rows of texts c0, c1, … and their numbers (a CSV) as a batch."""
    short = cut[f"c{len(reading.names) - 1}"].is_null()  # an empty cell is no missing one
    held = cut.rename({f"c{place}": name for place, name in enumerate(reading.names)})
    held = held.with_columns(pl.col(name).replace("", None) for name in reading.names)
    made = _batch(reading, held, {"time": _time, "bool": _bool})
    if not short.any():
        return made
    why = pl.when(short).then(pl.lit("it has fewer columns than the others")).otherwise(BAD)
    return made.with_columns(why.alias(BAD))


def of_lines(reading: Reading, name: str, data: bytes, first: int) -> pl.DataFrame:
    """Lines of JSON as a batch. Raises Refused."""
    types = {
        text: pl.String if column.type != "levels" else level_texts.TEXTS
        for column in _columns(reading.kind)
        if column.type in ("decimal", "levels")
        for text in (tables.text_name(column.name),)
    }
    types |= {column.name: _JSON.get(column.type, pl.String) for column in _columns(reading.kind)}
    try:
        held = pl.read_ndjson(io.BytesIO(data), schema=types)
    except pl.exceptions.PolarsError as error:
        raise Refused(
            f"{name} is not readable JSON from row {first} on: {str(error)[:200]}", "export it again"
        ) from error
    numbers = pl.int_range(first, first + held.height, dtype=pl.Int64, eager=True).alias(NUMBER)
    return _batch(reading, held.with_columns(numbers), {"time": _time})


def of_table(reading: Reading, table: pa.Table, first: int) -> pl.DataFrame:
    """Rows of a Parquet file as a batch. Raises Refused."""
    wanted = tables.schema(reading.kind)
    try:
        held = pl.DataFrame(table.select(wanted.names).cast(wanted))
    except (pa.ArrowException, KeyError) as error:
        raise Refused(f"its columns are not those of {reading.kind}: {error}", "export it again") from error
    plain = [pl.col(column.name).cast(pl.String) for column in _columns(reading.kind) if column.type == "dict"]
    times = [pl.col(column.name).to_physical() for column in _columns(reading.kind) if column.type == "time"]
    numbers = pl.int_range(first, first + held.height, dtype=pl.Int64, eager=True).alias(NUMBER)
    return _batch(reading, held.with_columns(*plain, *times, numbers), {})


def _columns(kind: str) -> list[Column]:
    return [column for column in tables.columns(kind) if column.name not in _MADE]


def _batch(reading: Reading, held: pl.DataFrame, cast: dict[str, Callable[[str], pl.Expr]]) -> pl.DataFrame:
    kind = reading.kind
    made: dict[str, pl.Series] = {"frame_no": held[NUMBER]}
    wrong: list[pl.Expr] = []
    for column in _columns(kind):
        name = column.name
        if column.type == "decimal":
            made[name] = _decimals(held[name], held[tables.text_name(name)])
        elif column.type == "levels":
            made[name] = _levels(held, kind, name)
        elif column.type in cast:
            made[name] = held.select(cast[column.type](name)).to_series()
            lost = pl.Series(made[name].is_null() & held[name].is_not_null()).alias(f"#{name}")
            if lost.any():
                held = held.with_columns(lost)
                wrong.append(pl.when(lost.name).then(pl.lit(f"{name}: no {column.type}")))
        else:
            made[name] = held[name].cast(pl.Int64, strict=False) if column.type == "int" else held[name]
    frame = pl.DataFrame({name: series.alias(name) for name, series in made.items()})
    reasons = held.select(pl.coalesce([*wrong, pl.lit(None, dtype=pl.String)]).alias(BAD)).to_series()
    shown = held.select(pl.format("{} {}", "symbol", pl.col("ts_event").cast(pl.String)).alias(LINE)).to_series()
    frame = frame.with_columns(reasons.new_from_index(0, frame.height) if reasons.len() != frame.height else reasons,
                               shown)  # fmt: skip
    return _observed(frame) if kind == "book_delta" else frame


def _observed(frame: pl.DataFrame) -> pl.DataFrame:
    """A book that a day opened with is where this file begins: a whole book as of then, whatever its day before was."""
    ours = pl.col("flags").str.contains("carried")
    return frame.with_columns(
        pl.when(ours).then(pl.lit("snapshot")).otherwise("flags").alias("flags"),
        pl.when(ours).then(pl.lit("import")).otherwise("source").alias("source"),
        pl.when(ours & pl.col("ts_recv").is_null()).then("ts_event").otherwise("ts_recv").alias("ts_recv"),
        pl.when(ours).then(pl.lit(0, dtype=pl.Int64)).otherwise("item").alias("item"),
    )


def _decimals(floats: pl.Series, texts: pl.Series) -> pl.Series:
    """The number of each row as text; what is no number stays the text that it was."""
    if floats.dtype != pl.String:
        return scaled.texts_of(floats, texts.cast(pl.String))
    return spelling.numbers(texts.zip_with(texts.is_not_null(), floats))


def _levels(held: pl.DataFrame, kind: str, name: str) -> pl.Series:
    spelt = tables.text_name(name)
    schema = tables.schema(kind)
    arrow = {
        one: held[one].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema.field(one).type)
        for one in (name, spelt)
    }
    others = [one for one in tables.level_columns(kind) if one != name]
    nothing = {one: pa.nulls(held.height, schema.field(one).type) for other in others
               for one in (other, tables.text_name(other))}  # fmt: skip
    return level_texts.of_table(pa.table({**arrow, **nothing}), kind, name)


def _time(name: str) -> pl.Expr:
    zoned = pl.col(name).str.replace(r"Z$", "+0000")
    return zoned.str.to_datetime(_TIME, strict=False, time_unit="us").to_physical()


def _bool(name: str) -> pl.Expr:
    return pl.col(name).replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
