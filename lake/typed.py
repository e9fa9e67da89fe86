"""Rows of a file, numbers as texts, on their way to the table of their kind: the rules that they must pass, then types.

The twin of `transformer/columns.py` for rows that never were lines of a segment: the same rules, and the same way from
a number's text to its columns. Pure. A reader that has proven that a column's floats say their texts' numbers (plain
decimals, 0 or more) gives the floats.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from lake import level_texts, scaled, tables
from lake.errors import VerifyFailed
from lake.field_rules import Rule, rules
from market.instruments import MARKET_SIZING
from market.times import DAY

BAD, LINE = "#bad", "#line"
"""Columns of a batch beside those of its kind: why its reader refuses a row (null where it does not), and the text
that is kept of a refused row. Instead of the text a struct may hold the row's cells, each field named by what stands
between them and a number: they are joined where they are needed.
"""
_FILLED = {"item": 0, "condition": "market", "revision": 0}
_SIZING = ("qty_unit", "multiplier")
_GIVEN = ("exchange", "market_type", "session", "date")
"""Columns that no file gives: they follow from what it is."""
_KNOWN = ("source", "ts_recv", "ts_estimated")
"""Columns that only files of ours give; of others they follow from what it is, too."""
_SAMPLE, _FEW = 1024, 4
"""Rows at the head of a batch that say whether it has few different names, and how many that is: to look for each is
quicker than to hash all.
"""
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
    needed, held = _rules(origin.kind, frame)
    levels = [level_texts.wrong(name) for name in tables.level_columns(origin.kind)]
    bad = frame.head(0)
    # to say of each row what is wrong costs several times as much as to look
    if levels or not _sound(frame, needed, held):
        found = [pl.col(BAD), *map(_missing, needed), *(rule.reason() for rule in held), *levels]
        frame = frame.with_columns(pl.coalesce(found).alias(BAD))
        bad, frame = frame.filter(pl.col(BAD).is_not_null()), frame.filter(pl.col(BAD).is_null())
    return Typed(
        _table(origin, frame.drop(BAD, LINE)), bad.select("frame_no", BAD, LINE).with_columns(_line(bad[LINE]))
    )


def sound(kind: str, batch: pl.DataFrame) -> bool:
    """Whether no row of a batch without BAD is going to be refused. Not for kinds with levels."""
    needed, held = _rules(kind, batch)
    return _sound(batch, needed, held)


def _rules(kind: str, frame: pl.DataFrame) -> tuple[list[str], list[Rule]]:
    """(columns that no row may lack, what no row may break)."""
    names = tuple(name for name in frame.columns if not name.startswith("#"))
    proven = {name for name in tables.decimal_columns(kind) if frame.schema.get(name) == pl.Float64}
    return _needed(kind, names), [rule for rule in rules(kind, names, numbers=True) if rule.name not in proven]


def _line(held: pl.Series) -> pl.Series:
    """The texts that are kept of rows."""
    if held.dtype == pl.String:
        return held
    cells = held.struct.unnest()
    joined = pl.concat_str(pl.all(), separator=cells.columns[0].rstrip("0123456789"), ignore_nulls=True)
    return cells.select(joined.alias(LINE)).to_series()


def _sound(frame: pl.DataFrame, needed: Sequence[str], held: Sequence[Rule]) -> bool:
    """Whether no row is refused."""
    told = BAD in frame.columns and frame[BAD].null_count() < frame.height
    if told or any(frame[name].null_count() for name in needed):
        return False
    if not frame.height or not held:
        return True
    return not frame.select_seq(pl.any_horizontal(rule.broken.any() for rule in held)).item()


def _complete(origin: Origin, batch: pl.DataFrame) -> pl.DataFrame:
    """The batch with every column that a rule asks for. Raises VerifyFailed."""
    types = {column.name: column.type for column in tables.columns(origin.kind)}
    for name, dtype in batch.schema.items():
        wanted = pl.String if name in (BAD, LINE) else _TYPES.get(types.get(name, ""))
        if name == LINE and isinstance(dtype, pl.Struct):
            continue
        proven = dtype == pl.Float64 and types.get(name) == "decimal"
        if name in _GIVEN or wanted is None or not (proven or dtype in (wanted, pl.Null)):
            raise VerifyFailed(f"a batch of {origin.kind} has the column {name} of type {dtype}")
    filled = _filled(origin, types)
    made = [
        _cast(name, batch.schema[name], _TYPES[types[name]], filled.get(name))
        for name in batch.columns
        if name in types
    ]
    for name in (BAD, LINE):
        cells = isinstance(batch.schema.get(name), pl.Struct)
        given = pl.col(name) if cells else pl.col(name).cast(pl.String)
        made.append(given if name in batch.columns else pl.lit(None, dtype=pl.String).alias(name))
    return batch.select(made)


def _filled(origin: Origin, types: Container[str]) -> dict[str, Any]:
    """What is said of a row that does not say it: the same of all rows of a file."""
    filled: dict[str, Any] = {name: value for name, value in _FILLED.items() if name in types}
    if "multiplier" in types and origin.kind != "contract":
        sizing = MARKET_SIZING[origin.market_type]
        filled |= {"qty_unit": sizing.qty_unit, "multiplier": sizing.multiplier}
    return filled


def _cast(name: str, given: Any, to: Any, instead: Any) -> pl.Expr:
    column = pl.col(name) if given == pl.Float64 else pl.col(name).cast(to)
    return column if instead is None else column.fill_null(instead)


def _needed(kind: str, names: tuple[str, ...]) -> list[str]:
    """The columns that no row may lack. Raises VerifyFailed where the batch has no such one."""
    needed = [c.name for c in tables.columns(kind) if c.required and c.name not in (*_GIVEN, *_KNOWN)]
    needed += ["frame_no"]
    filled = {*_FILLED, *(() if kind == "contract" else _SIZING)}
    if absent := [name for name in needed if name not in names and name not in filled]:
        raise VerifyFailed(f"a batch of {kind} lacks {', '.join(absent)}")
    return [name for name in needed if name in names]


def _missing(name: str) -> pl.Expr:
    """The reason where a row lacks it."""
    return pl.when(pl.col(name).is_null()).then(pl.lit(f"{name}: missing")).otherwise(None)


def _table(origin: Origin, frame: pl.DataFrame) -> pa.Table:
    made: dict[str, pa.Array] = {}
    numbers: dict[str, pl.Series] = {}
    constants = _constants(origin, frame)
    if "date" not in constants:
        made["date"] = _arrow((frame["ts_event"] // DAY).cast(pl.Int32)).view(pa.date32())
    for name in tables.decimal_columns(origin.kind):
        if name in frame.columns:
            numbers[name], texts = _split(frame[name])
            made[name] = _arrow(numbers[name])
            if texts.null_count() < texts.len():
                made[tables.text_name(name)] = _arrow(texts).cast(pa.string())
    if "condition" in (*frame.columns, *constants) and (numbers["price"].min() == 0 or numbers["qty"].min() == 0):
        said = pl.col("condition") if "condition" in frame.columns else pl.lit(constants["condition"])
        nothing = (numbers["price"] == 0) | (numbers["qty"] == 0)
        frame = frame.with_columns(pl.when(nothing).then(pl.lit("void")).otherwise(said).alias("condition"))
    for name in tables.level_columns(origin.kind):
        made[name], made[tables.text_name(name)] = level_texts.columns(frame[name])
    wanted = tables.schema(origin.kind)
    for name in frame.columns:
        if name not in made:
            to = wanted.field(name).type
            made[name] = _names(frame[name]) if to == tables.DICT else _arrow(frame[name]).cast(to)
    constants = {name: value for name, value in constants.items() if name not in made}
    return tables.conform(pa.table(made), origin.kind, constants)


def _constants(origin: Origin, frame: pl.DataFrame) -> dict[str, Any]:
    """Columns of which the batch says nothing, or the same in every row; each is known to keep its rules."""
    types = {column.name: column.type for column in tables.columns(origin.kind)}
    filled = {name: value for name, value in _filled(origin, types).items() if name not in frame.columns}
    if "multiplier" in filled:
        filled["multiplier"] = float(filled["multiplier"])  # 1 of every market
    made = {
        "exchange": origin.exchange, "market_type": origin.market_type, "source": origin.source,
        "session": origin.session, "ts_recv": origin.recv, "ts_estimated": False, **filled,
    }  # fmt: skip
    first, last = frame["ts_event"].min(), frame["ts_event"].max()
    if isinstance(first, int) and isinstance(last, int) and first // DAY == last // DAY:
        made["date"] = first // DAY
    return made


def _one(values: pl.Series) -> bool:
    """Whether all rows have the same value: names and sizes of a file mostly do, and need to be looked at once."""
    return values.len() > 0 and values.null_count() == 0 and bool((values == values[0]).all())


def _split(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    if texts.dtype == pl.Float64:
        return texts, pl.Series([None], dtype=pl.String).new_from_index(0, texts.len())
    if not _one(texts):
        return scaled.split(texts)
    number, text = scaled.split(texts.head(1))
    return number.new_from_index(0, texts.len()), text.new_from_index(0, texts.len())


def _names(texts: pl.Series) -> pa.Array:
    """A column of texts as the dictionary that a table has of them."""
    if _one(texts):
        return tables.constant(texts[0], texts.len(), tables.DICT).chunk(0)
    few = texts.head(_SAMPLE).drop_nulls().unique(maintain_order=True)
    if 0 < few.len() <= _FEW:
        found = [pl.when(pl.lit(texts) == name).then(place) for place, name in enumerate(few)]
        codes = pl.select(pl.coalesce(found).cast(pl.Int32)).to_series()
        if codes.null_count() == texts.null_count():
            return pa.DictionaryArray.from_arrays(_arrow(codes), _arrow(few).cast(pa.string()))
    return _arrow(texts).dictionary_encode().cast(tables.DICT)


def _arrow(values: pl.Series) -> pa.Array:
    return values.to_arrow(compat_level=pl.CompatLevel.oldest())
