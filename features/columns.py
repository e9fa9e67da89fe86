"""What the columns of a source are: its time, since when a row is known, and values with their types. Pure.

Text of a CSV is looked at whole before anything is taken: a column is of numbers where every cell of it is one, and
one that mixes numbers with other words is refused, since nobody can say what the words mean.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from features.requests import Put
from features.sources import INDEX, Source
from lake.errors import WrongQuestion
from lake.feature_files import TYPES
from lake.feature_rows import KNOWN_AT, OWN_TIME
from lake.layout import MAX_NAME
from market.times import SECOND

TIME_NAMES = (OWN_TIME, "timestamp", "time", "datetime", "ts", "date", "window_start", "open_time", INDEX)
"""Columns that are taken as a row's own time where none is named, the first that is there."""
_NUMBER = r"^-?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"
_WHOLE = r"^-?\d{1,18}$"
_LONG = r"^-?\d{19,}$"
_BOOL = r"^(?i:true|false)$"
_NOTHING = r"^(?i:[-+]?(nan|inf|infinity)|null|none|na|n/a|#n/a)$"


class Plan(msgspec.Struct, frozen=True):
    """How a source becomes rows: column names as they are there, and the types of its values."""

    time: str
    known: str | None
    delay: int
    values: dict[str, str]

    @property
    def said(self) -> str:
        """How `known_at` comes about, in words."""
        if self.known is not None:
            return f"column {self.known}"
        return f"own time + {self.delay / SECOND:g}s" if self.delay else "own time"


def understand(source: Source, asked: Put) -> Plan:
    """Raises WrongQuestion naming the column that is missing, or whose values cannot be kept."""
    names = source.schema.names
    time = _named(source, asked.time, "time") or _time_of(source)
    known = _named(source, asked.known, "known")
    if known is None and not asked.delay and KNOWN_AT in names and time != KNOWN_AT:
        known = KNOWN_AT
    if known is not None and asked.delay:
        raise WrongQuestion("--known and --delay both say since when a row is known", "give one of them")
    if known == time:
        known = None
    values = [name for name in names if name not in (time, known)]
    for name in values:
        _check_name(name)
    if not values:
        raise WrongQuestion(f"{source.name} has no column of values beside its time", "a set holds at least one value")
    words = _looked_at(source, values, asked) if source.texts else {n: _word(n, source.schema.field(n)) for n in values}
    return Plan(time, known, asked.delay, words)


def _named(source: Source, name: str | None, what: str) -> str | None:
    if name is not None and name not in source.schema.names:
        has = ", ".join(source.schema.names[:20])
        raise WrongQuestion(f"{source.name} has no column {name} (--{what})", f"it has {has}")
    return name


def _time_of(source: Source) -> str:
    lower: dict[str, str] = {name.lower(): name for name in reversed(source.schema.names)}
    for name in TIME_NAMES:
        if name in lower:
            return lower[name]
    has = ", ".join(source.schema.names[:20])
    raise WrongQuestion(
        f"{source.name} has no column that is a time by its name", f"say which with --time; it has {has}"
    )


def _check_name(name: str) -> None:
    if name in (OWN_TIME, KNOWN_AT):
        raise WrongQuestion(f"a column of values cannot be named {name}", "rename it, or say --time and --known")
    if not name.strip() or len(name.encode()) > MAX_NAME or not name.isprintable():
        raise WrongQuestion(f"{name[:40]!r} cannot name a column", f"use 1 to {MAX_NAME} printable bytes")


def _word(name: str, field: pa.Field) -> str:
    """The type that a typed column is kept as."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    checks = {
        "float32": pa.types.is_float16(kind) or pa.types.is_float32(kind),
        "float": pa.types.is_float64(kind) or pa.types.is_null(kind),
        "int": pa.types.is_integer(kind),
        "bool": pa.types.is_boolean(kind),
        "text": pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind),
        "time": pa.types.is_timestamp(kind),
        "date": pa.types.is_date(kind),
    }
    for word, is_it in checks.items():
        if is_it:
            return word
    fix = "cast it to float64 or to text" if pa.types.is_decimal(kind) else "flatten it into columns of one value"
    raise WrongQuestion(f"column {name} is {field.type}, which is not kept", f"{fix}; kept are {', '.join(TYPES)}")


class _Look(msgspec.Struct):
    """What the cells of a column of text are, counted; and the first that is no number, with its row."""

    given: int = 0
    numbers: int = 0
    whole: int = 0
    bools: int = 0
    nothing: int = 0
    long: int = 0
    odd: tuple[int, str] | None = None
    said_nothing: tuple[int, str] | None = None

    def add(self, texts: pa.Array, first_row: int) -> None:
        cells = pc.utf8_trim_whitespace(texts)
        numbers, nothing = _matches(cells, _NUMBER), _matches(cells, _NOTHING)
        self.given += len(texts) - texts.null_count
        self.numbers += _count(numbers)
        self.whole += _count(_matches(cells, _WHOLE))
        self.bools += _count(_matches(cells, _BOOL))
        self.long += _count(_matches(cells, _LONG))
        self.nothing += _count(nothing)
        neither = pc.and_(pc.is_valid(texts), pc.invert(pc.or_(numbers, nothing)))
        self.odd = self.odd or _first(neither, texts, first_row)
        self.said_nothing = self.said_nothing or _first(nothing, texts, first_row)


def _matches(cells: pa.Array, pattern: str) -> pa.Array:
    return pc.fill_null(pc.match_substring_regex(cells, pattern), fill_value=False)


def _count(matches: pa.Array) -> int:
    return int(pc.sum(matches).as_py() or 0)


def _first(matches: pa.Array, texts: pa.Array, first_row: int) -> tuple[int, str] | None:
    place = pc.index(matches, value=True).as_py()
    return None if place < 0 else (first_row + place, texts[place].as_py())


def _looked_at(source: Source, values: list[str], asked: Put) -> dict[str, str]:
    """The types of columns of text, once every cell was seen."""
    looks = {name: _Look() for name in values}
    row = 1
    for batch in source.batches():
        for name, look in looks.items():
            look.add(batch.column(name), row)
        row += batch.num_rows
    return {name: _judged(name, look, asked) for name, look in looks.items()}


def _judged(name: str, look: _Look, asked: Put) -> str:
    if look.bools == look.given and look.given:
        return "bool"
    if not look.numbers and look.odd is not None:
        return "text"
    if look.odd is not None:
        raise WrongQuestion(
            f"column {name}, row {look.odd[0]}: {look.odd[1][:60]!r} where {look.numbers:,} other rows have numbers",
            "a column holds numbers or words: put the row right, or leave the cell empty",
        )
    if look.said_nothing is not None and asked.missing == "refuse":
        refuse_nothing(name, look.nothing, *look.said_nothing)
    if look.long:
        raise WrongQuestion(
            f"column {name} has {look.long:,} whole numbers of more than 18 digits",
            "leave it out, or write them as words",
        )
    return "int" if look.whole == look.given - look.nothing and look.whole else "float"


def refuse_nothing(name: str, count: int, row: int, said: Any) -> None:
    """Raises WrongQuestion: a value that is none was not asked to be taken as missing."""
    raise WrongQuestion(
        f"column {name} has {count:,} values that are none, the first in row {row}: {said!s:.40}",
        "leave the cells empty, or take them as missing with --missing null",
    )
