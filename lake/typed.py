"""Rows of a file, numbers as texts, on their way to the table of their kind: the rules that they must pass, then types.

The twin of `transformer/columns.py` for rows that never were lines of a segment: the same rules, and the same way from
a number's text to its columns. Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from lake import level_texts, scaled, tables
from lake.errors import VerifyFailed
from lake.field_rules import rules
from market.instruments import MARKET_SIZING
from market.times import DAY

BAD, LINE = "#bad", "#line"
"""Columns of a batch beside those of its kind: why its reader refuses a row (null where it does not), and the text
that is kept of a refused row.
"""
_FILLED = {"item": 0, "condition": "market", "revision": 0}
_GIVEN = ("exchange", "market_type", "session", "date")
"""Columns that no file gives: they follow from what it is."""
_KNOWN = ("source", "ts_recv", "ts_estimated")
"""Columns that only files of ours give; of others they follow from what it is, too."""
_TYPES: dict[str, Any] = {
    "dict": pl.String, "text": pl.String, "decimal": pl.String, "int": pl.Int64, "time": pl.Int64, "bool": pl.Boolean,
    "levels": level_texts.TEXTS,
}  # fmt: skip


class Origin(NamedTuple):
    """What all rows of a file have in common; `recv` (us) is when it was taken in."""

    exchange: str
    market_type: str
    kind: str
    source: str
    session: str
    recv: int


class Typed(NamedTuple):
    """`table` has the kind's schema, in the order of the file; `bad` the refused rows: frame_no, #bad, #line."""

    table: pa.Table
    bad: pl.DataFrame


def typed(origin: Origin, batch: pl.DataFrame) -> Typed:
    """The rows of `batch` as a table, without those that break a rule of the kind.

    Columns are named as the kind's: decimals and names as texts, times (us) and other integers as Int64, levels as
    lists of texts. Raises VerifyFailed for a column that the kind does not have, or one of another type: a defect of
    the batch's reader.
    """
    frame = _complete(origin, batch)
    names = tuple(name for name in frame.columns if not name.startswith("#"))
    found = [pl.col(BAD), *_missing(origin.kind, names), *(r.reason() for r in rules(origin.kind, names, numbers=True))]
    found += [level_texts.wrong(name) for name in tables.level_columns(origin.kind)]
    frame = frame.with_columns(pl.coalesce(found).alias(BAD))
    bad = frame.filter(pl.col(BAD).is_not_null()).select("frame_no", BAD, LINE)
    good = frame.filter(pl.col(BAD).is_null()) if bad.height else frame
    return Typed(_table(origin, good.drop(BAD, LINE)), bad)


def _complete(origin: Origin, batch: pl.DataFrame) -> pl.DataFrame:
    """The batch with every column that a rule or the table asks for. Raises VerifyFailed."""
    types = {column.name: column.type for column in tables.columns(origin.kind)}
    for name, dtype in batch.schema.items():
        wanted = pl.String if name in (BAD, LINE) else _TYPES.get(types.get(name, ""))
        if name in _GIVEN or wanted is None or dtype not in (wanted, pl.Null):
            raise VerifyFailed(f"a batch of {origin.kind} has the column {name} of type {dtype}")
    filled: dict[str, Any] = {name: value for name, value in _FILLED.items() if name in types}
    if "multiplier" in types and origin.kind != "contract":
        sizing = MARKET_SIZING[origin.market_type]
        filled |= {"qty_unit": sizing.qty_unit, "multiplier": sizing.multiplier}
    made = [_cast(name, _TYPES[types[name]], filled.get(name)) for name in batch.columns if name in types]
    made += [pl.lit(value).alias(name) for name, value in filled.items() if name not in batch.columns]
    made += [
        pl.col(name).cast(pl.String) if name in batch.columns else pl.lit(None, dtype=pl.String).alias(name)
        for name in (BAD, LINE)
    ]
    return batch.select(made)


def _cast(name: str, to: Any, instead: Any) -> pl.Expr:
    column = pl.col(name).cast(to)
    return column if instead is None else column.fill_null(instead)


def _missing(kind: str, names: tuple[str, ...]) -> list[pl.Expr]:
    """For each required column the reason where a row lacks it. Raises VerifyFailed where the batch has no such one."""
    needed = [c.name for c in tables.columns(kind) if c.required and c.name not in (*_GIVEN, *_KNOWN)]
    needed += ["frame_no"]
    if absent := [name for name in needed if name not in names]:
        raise VerifyFailed(f"a batch of {kind} lacks {', '.join(absent)}")
    return [pl.when(pl.col(name).is_null()).then(pl.lit(f"{name}: missing")).otherwise(None) for name in needed]


def _table(origin: Origin, frame: pl.DataFrame) -> pa.Table:
    made: dict[str, pa.Array] = {"date": _arrow((frame["ts_event"] // DAY).cast(pl.Int32)).view(pa.date32())}
    numbers: dict[str, pl.Series] = {}
    for name in tables.decimal_columns(origin.kind):
        if name in frame.columns:
            numbers[name], texts = scaled.split(frame[name])
            made[name] = _arrow(numbers[name])
            if texts.null_count() < texts.len():
                made[tables.text_name(name)] = _arrow(texts).cast(pa.string())
    if "condition" in frame.columns:
        nothing = (numbers["price"] == 0) | (numbers["qty"] == 0)
        if nothing.any():
            frame = frame.with_columns(frame["condition"].set(nothing, "void"))
    for name in tables.level_columns(origin.kind):
        made[name], made[tables.text_name(name)] = level_texts.columns(frame[name])
    wanted = tables.schema(origin.kind)
    for name in frame.columns:
        if name not in made:
            made[name] = _arrow(frame[name]).cast(wanted.field(name).type)
    constants = {
        "exchange": origin.exchange, "market_type": origin.market_type, "source": origin.source,
        "session": origin.session, "ts_recv": origin.recv, "ts_estimated": False,
    }  # fmt: skip
    constants = {name: value for name, value in constants.items() if name not in made}
    return tables.conform(pa.table(made), origin.kind, constants)


def _arrow(values: pl.Series) -> pa.Array:
    return values.to_arrow(compat_level=pl.CompatLevel.oldest())
