"""Lines as our own writer spells them, cut into columns at their commas: no parser of JSON is as fast.

Our writer gives every line of a kind the same keys in the same order, without spaces, and hardly any text of a venue
holds a comma, a quote or a backslash. So each line is its keys, each in front of one number or one plain text: where
every piece of every line is exactly that, the lines are proven to be JSON objects of these keys, each there once.
Anything else, in any line, is a doubt, and the whole answer is None: then the lines are decoded one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import msgspec
import polars as pl

TEXT = r'"[^"\\\x00-\x1f]*"'
AT_ONCE = 4 * 1024 * 1024
"""Bytes of lines that are in columns at the same time, as text."""
_OK = "#ok"
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Field(NamedTuple):
    """One key of a kind's lines; `type` is its Python type, `optional` that the key may be missing, for `default`.

    `repeats`: a text of few different values. `checked`: a text that the caller holds against a pattern himself, one
    that admits nothing which JSON would spell in another way.
    """

    name: str
    type: type
    nullable: bool
    optional: bool
    default: int | str | None = None
    repeats: bool = False
    checked: bool = False


def cut(data: bytes, fields: Sequence[Field]) -> Iterator[pl.DataFrame | None]:
    """The lines in pieces, a column for each field: integers as Int64, texts as String, missing keys as their default.

    The last piece is None where there is a doubt; then the pieces before it say nothing.
    """
    names = _names(data[: data.find(b"\n")], {field.name: field for field in fields})
    if names is None:
        yield None
        return
    wanted = _expressions(tuple(fields), names)
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + AT_ONCE) + 1 or data.find(b"\n", start) + 1 or len(data)
        made = _piece(data[start:end], names, wanted)
        yield made
        if made is None:
            return
        start = end


def _names(line: bytes, fields: Mapping[str, Field]) -> tuple[str, ...] | None:
    """The keys of the first line in their order, None where they are not those of the kind."""
    try:
        names = tuple(_KEYS.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    known = all(name in fields for name in names)
    return names if known and all(field.optional or field.name in names for field in fields.values()) else None


def _piece(data: bytes, names: tuple[str, ...], wanted: Sequence[pl.Expr]) -> pl.DataFrame | None:
    if data.startswith(b"\xef\xbb\xbf"):  # a byte order mark, which a reader of CSV would drop
        return None
    try:
        texts = pl.read_csv(data, has_header=False, quote_char=None, schema=dict.fromkeys(names, pl.String))
        # a line of fewer pieces has nulls behind them, a blank line has nothing but nulls
        if texts.height != data.count(b"\n") or any(texts[name].has_nulls() for name in names):
            return None
        made = texts.select(wanted)
    except pl.exceptions.PolarsError:
        return None
    return made.drop(_OK) if made[_OK][0] else None


@cache
def _expressions(fields: tuple[Field, ...], names: tuple[str, ...]) -> list[pl.Expr]:
    """The columns of the fields from the pieces of such lines, and whether every piece is what it must be."""
    proofs: list[pl.Expr] = []
    columns: dict[str, pl.Expr] = {}
    held = {field.name: field for field in fields}
    for place, name in enumerate(names):
        last = place == len(names) - 1
        key, end = f'{"{" if place == 0 else ""}"{name}":', "}" if last else ""
        proof, column = (_integer if held[name].type is int else _text)(pl.col(name), key, end, held[name])
        proofs.append(proof)
        columns[name] = column.alias(name)
    for field in fields:
        if field.name not in columns:
            value = pl.lit(field.default, dtype=pl.Int64 if field.type is int else pl.String)
            columns[field.name] = value.alias(field.name)
    return [*columns.values(), pl.all_horizontal(proofs).alias(_OK)]


def _integer(piece: pl.Expr, key: str, end: str, field: Field) -> tuple[pl.Expr, pl.Expr]:
    """(whether every piece is the key and an integer as one spells it, or null where that may be; the integers)."""
    value = piece.str.slice(len(key))
    if end:
        value = value.str.head(-len(end))
    made = value.cast(pl.Int64, strict=False)
    same = (made.cast(pl.String) == value).fill_null(value=False)
    good = same | (value == "null") if field.nullable else same
    proof = piece.str.starts_with(key).all() & good.all()
    return (proof & piece.str.ends_with(end).all() if end else proof), made


def _text(piece: pl.Expr, key: str, end: str, field: Field) -> tuple[pl.Expr, pl.Expr]:
    """(whether every piece is the key and a text without escapes, or null where that may be; the texts)."""
    made = piece.str.slice(len(key) + 1).str.head(-1 - len(end))
    if field.nullable:
        made = pl.when(piece != f"{key}null{end}").then(made)
    elif field.checked:
        return piece.str.starts_with(key + '"').all() & piece.str.ends_with('"' + end).all(), made
    pattern = f"^{re.escape(key)}(?:{TEXT}{'|null' if field.nullable else ''}){re.escape(end)}$"
    return (piece.unique() if field.repeats else piece).str.contains(pattern).all(), made
