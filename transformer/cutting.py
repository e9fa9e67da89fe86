"""Lines as our own writer spells them, cut into columns at their commas: no parser of JSON is as fast.

Our writer gives every line of a kind the same keys in the same order, without spaces, and hardly any text of a venue
holds a comma, a quote or a backslash. So each line is its keys, each in front of one number or one plain text: where
every piece of every line is exactly that, the lines are proven to be JSON objects of these keys, each there once.
Anything else, in any line, is a doubt, and the whole answer is None: then the lines are decoded one by one.

Most pieces repeat (names, sides, prices), so a column is looked at value by value, each different one once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import msgspec
import polars as pl

INTEGER = "0|-?[1-9][0-9]*"
TEXT = r'[^"\\\x00-\x1f]*'
"""A text that JSON spells as it is."""
AT_ONCE = 6 * 1024 * 1024
"""Bytes of lines that are in columns at the same time, as text."""
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PROOF, _DIGITS = "#proof", "#digits "
_SAMPLE = 512
"""Pieces at the head of a column that say whether its texts come again and again."""
_LEAST = pl.Series([0, 0, *(10**digits for digits in range(1, 19))], dtype=pl.Int64)
"""By its number of digits, the least integer that has no zero in front."""


class Field(NamedTuple):
    """One key of a kind's lines; `type` is its Python type, `optional` that the key may be missing, for `default`.

    `pattern` is what its texts must be, and admits nothing that JSON would spell in another way. `name`: few different
    texts, which the table keeps as a dictionary.
    """

    key: str
    type: type
    nullable: bool
    optional: bool
    default: int | str | None = None
    pattern: str = TEXT
    name: bool = False


class Texts(NamedTuple):
    """A column of texts: row n is `values[places[n]]`, or `values[n]` where there are no places.

    With places, each different text is there once, in the order of their first rows.
    """

    values: pl.Series
    places: pl.Series | None = None

    def rows(self, values: pl.Series | None = None) -> pl.Series:
        """Every row's text, or what `values` has in the place of it."""
        held = self.values if values is None else values
        return held if self.places is None else held.gather(self.places)


Values: TypeAlias = pl.Series | Texts
"""A column of lines: integers as Int64, or texts."""


def repeated(value: int | str, rows: int) -> Values:
    """A column of one value."""
    one = pl.Series([value], dtype=pl.Int64 if isinstance(value, int) else pl.String)
    if isinstance(value, int):
        return _repeated(one, rows)
    return Texts(one, _repeated(pl.Series([0], dtype=pl.UInt32), rows))


def keys_of(data: bytes, fields: Sequence[Field]) -> tuple[str, ...] | None:
    """The keys of the first line in their order, None where they are not those of the kind."""
    known = {field.key: field for field in fields}
    try:
        found = tuple(_KEYS.decode(data[: data.find(b"\n")]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    needed = (field.key for field in fields if not field.optional)
    return found if all(key in known for key in found) and all(key in found for key in needed) else None


def cut(data: bytes, keys: Sequence[str], fields: Sequence[Field]) -> dict[str, Values] | None:
    """The columns of lines of these keys; a key that may be missing, for null, is not among them then.

    None where there is a doubt.
    """
    if data.startswith(b"\xef\xbb\xbf"):  # a byte order mark, which a reader of CSV would drop
        return None
    try:
        pieces = pl.read_csv(data, has_header=False, quote_char=None, schema=dict.fromkeys(keys, pl.String))
    except pl.exceptions.PolarsError:
        return None
    if any(column.has_nulls() for column in pieces):  # behind a line of fewer pieces, and everywhere in a blank one
        return None
    held = {field.key: field for field in fields}
    slots = [
        _Slot(held[key], f'{"" if place else "{"}"{key}":', "" if place < len(keys) - 1 else "}")
        for place, key in enumerate(keys)
    ]
    columns: dict[str, Values] = {
        field.key: repeated(field.default, pieces.height)
        for field in fields
        if field.key not in keys and field.default is not None
    }
    try:
        _repeating(pieces, slots, columns)
        if moving := tuple(slot for slot in slots if slot.field.key not in columns):
            _moving(pieces, moving, columns)
    except _Doubt:
        return None
    return columns


class _Doubt(Exception):
    """A piece is not its key and a value as our writer spells it."""


class _Slot(NamedTuple):
    """One piece of a line: what stands around the value of a field."""

    field: Field
    before: str
    after: str

    @property
    def null(self) -> str:
        return f"{self.before}null{self.after}"

    @property
    def pattern(self) -> str:
        text = INTEGER if self.field.type is int else f'"(?:{self.field.pattern})"'
        return f"^{re.escape(self.before)}(?:{text}{'|null' if self.field.nullable else ''}){re.escape(self.after)}$"

    def value(self, piece: pl.Expr) -> pl.Expr:
        """The value of a piece that is the slot's pattern: an Int64, or the text without its quotes."""
        quote = 0 if self.field.type is int else 1
        made = piece.str.slice(len(self.before) + quote)
        if len(self.after) + quote:
            made = made.str.head(-len(self.after) - quote)
        if self.field.type is int:
            return made.cast(pl.Int64, strict=False)
        return pl.when(piece != self.null).then(made) if self.field.nullable else made


def _repeating(pieces: pl.DataFrame, slots: Sequence[_Slot], columns: dict[str, Values]) -> None:
    """Adds the columns whose pieces are all the same, and those of texts that come again and again. Raises _Doubt."""
    zeros = _repeated(pl.Series([0], dtype=pl.UInt32), pieces.height)
    for slot in slots:
        field = slot.field
        piece = pieces[field.key]
        if piece[0] == piece[-1] and (piece == piece[0]).all():
            values, places = piece.head(1), zeros
        elif field.type is not int and (field.name or piece.head(_SAMPLE).n_unique() <= _SAMPLE // 2):
            coded = piece.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
            values, places = _series(coded.dictionary).alias(field.key), _series(coded.indices)
        else:
            continue
        made = _proven(values, slot)
        columns[field.key] = _repeated(made, pieces.height) if field.type is int else Texts(made, places)


def _moving(pieces: pl.DataFrame, slots: tuple[_Slot, ...], columns: dict[str, Values]) -> None:
    """Adds the other columns. Raises _Doubt."""
    found = pieces.select_seq(_looks(slots))
    if not found[_PROOF][0]:
        raise _Doubt
    for slot in slots:
        name = slot.field.key
        if slot.field.type is not int:
            columns[name] = Texts(found[name])
            continue
        made, digits = found[name], found[_DIGITS + name]
        columns[name] = made if _canonical(made, digits) else _proven(pieces[name], slot)


def _canonical(integers: pl.Series, digits: pl.Series) -> bool:
    """Whether texts of so many bytes are these integers as one spells them. False also where it takes a closer look.

    One of n digits is at least 10^(n-1): with a sign or a zero in front of it it would be less.
    """
    shortest, longest = _int(digits.min()), _int(digits.max())
    if integers.has_nulls() or longest >= _LEAST.len():
        return False
    if shortest == longest:
        return _int(integers.min()) >= _int(_LEAST[longest])
    return bool((integers >= _LEAST.gather(digits)).all())


@cache
def _looks(slots: tuple[_Slot, ...]) -> list[pl.Expr]:
    """The values of these pieces, of integers how many digits they have, and whether they are what they must be."""
    made: list[pl.Expr] = []
    proofs: list[pl.Expr] = []
    for slot in slots:
        piece = pl.col(slot.field.key)
        made.append(slot.value(piece))
        if slot.field.type is int:
            around = len(slot.before) + len(slot.after)
            made.append((piece.str.len_bytes() - around).alias(_DIGITS + slot.field.key))
            proofs.append(piece.str.starts_with(slot.before).all())
            if slot.after:
                proofs.append(piece.str.ends_with(slot.after).all())
        else:
            proofs.append(piece.str.contains(slot.pattern).all())
    return [*made, pl.all_horizontal(True, *proofs).alias(_PROOF)]


def _proven(pieces: pl.Series, slot: _Slot) -> pl.Series:
    """The values of pieces, each held against its pattern. Raises _Doubt."""
    found = pieces.to_frame().select_seq(_look(slot))
    made = found[slot.field.key]
    # an integer that is spelt well may be too large
    if not found[_PROOF][0] or (made.null_count() and not slot.field.nullable):
        raise _Doubt
    if made.null_count() and slot.field.type is int and (pieces.filter(made.is_null()) != slot.null).any():
        raise _Doubt
    return made


@cache
def _look(slot: _Slot) -> list[pl.Expr]:
    piece = pl.col(slot.field.key)
    return [slot.value(piece), piece.str.contains(slot.pattern).all().alias(_PROOF)]


def _repeated(one: pl.Series, rows: int) -> pl.Series:
    return one.new_from_index(0, rows)


def _int(value: Any) -> int:
    """An aggregate of an integer column; polars types it as any column value."""
    return int(value)


def _series(values: Any) -> pl.Series:
    made = pl.from_arrow(values)
    assert isinstance(made, pl.Series)
    return made
