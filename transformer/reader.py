"""A sealed segment as a table of its kind: every line becomes a row or goes to quarantine with its reason.

The fast path cuts the lines into columns at their commas (`transformer.cutting`), some megabytes at a time. Its answer
counts only where the segment's bytes turn out to be those of its seal, every value is of the type that the line's
struct declares, every key is there exactly once and every row passes the rules. On any doubt the segment is read line
by line with msgspec, which tells good lines from bad ones; both ways end in the same `Columns`, so good lines give the
same bytes either way. Law: lines = rows + bad.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
import polars as pl
import pyarrow as pa

from lake import segments, tables
from lake.errors import CorruptSegment
from lake.field_rules import number_pattern
from lake.rows import SegmentRow
from lake.segments import BadLine
from market import kinds
from market.kinds import Event
from transformer import cutting
from transformer.columns import Columns
from transformer.cutting import Field, Texts, Values

_INT64 = 2**63
_ROWS_AT_ONCE = 32 * 1024
_BOOKS_AT_ONCE = 4 * 1024
"""A row of a book is dozens of levels."""


class Read(msgspec.Struct):
    """What a segment holds: `table` in schema order, rows in the order of their lines; `bad` lines with their place.

    `fast` says which way it was read. `altered` says how its bytes differ from its seal, None where they do not.
    """

    table: pa.Table
    bad: list[BadLine]
    lines: int
    fast: bool
    altered: str | None = None


class _Small(NamedTuple):
    """A segment that is read together with others, and its bytes, which are those of its seal."""

    row: SegmentRow
    data: bytes


def read_segments(root: Path, rows: Iterable[SegmentRow]) -> Iterator[tuple[SegmentRow, Read | CorruptSegment]]:
    """Read sealed segments of one stream, in their order; of one in which there is nothing to read, why.

    Small ones are read together, since a call costs as much for ten rows as for a thousand.
    """
    small: list[_Small] = []
    for row in rows:
        found: _Small | Read | CorruptSegment
        try:
            found = _one(root, row)
        except CorruptSegment as error:
            found = error
        if not isinstance(found, _Small) or sum(len(one.data) for one in small) + len(found.data) > cutting.AT_ONCE:
            yield from _together(small)
            small = []
        if isinstance(found, _Small):
            small.append(found)
        else:
            yield row, found
    yield from _together(small)


def _one(root: Path, row: SegmentRow) -> _Small | Read:
    """What is read of a segment; its bytes alone where others may join it."""
    if not row.bytes and not row.sha256:
        return Read(tables.empty(row.kind), [], 0, fast=True)
    simple = row.clean and not tables.level_columns(row.kind)
    if simple and row.bytes > cutting.AT_ONCE:
        table = _streamed(root, row)
        if table is not None:
            return Read(table, [], row.rows, fast=True)
        simple = False
    data = _bytes(root, row)
    found = hashlib.sha256(data).hexdigest()
    if found != row.sha256:
        read = _slow(row, data)
        read.altered = f"sealed {row.rows} lines {row.sha256[:12]}, found {read.lines} lines {found[:12]}"
        return read
    return _Small(row, data) if simple and data.endswith(b"\n") else _slow(row, data)


def _streamed(root: Path, row: SegmentRow) -> pa.Table | None:
    """The table of a segment that is hashed while it is cut, else None."""
    digest, keys, last = hashlib.sha256(), None, b""
    made = [tables.empty(row.kind)]
    try:
        with (root / row.path).open("rb") as file:
            while data := file.read(cutting.AT_ONCE) + file.readline():
                digest.update(data)
                keys = keys or cutting.keys_of(data, _fields(row.kind))
                table = _typed(row, data, keys)
                if table is None:
                    return None
                made.append(table)
                last = data[-1:]
    except OSError as error:
        raise CorruptSegment(f"{row.path} cannot be read: {error}", "run: dl verify") from error
    whole = last == b"\n" and digest.hexdigest() == row.sha256 and sum(map(len, made)) == row.rows
    return _joined(made) if whole else None


def _together(small: Sequence[_Small]) -> Iterator[tuple[SegmentRow, Read]]:
    """Segments that are as sealed; where their lines are fewer or more than said, or doubtful, each by itself."""
    if len(small) > 1:
        table = _fast(small[0].row, b"".join(data for _, data in small), sum(row.rows for row, _ in small))
        if table is not None:
            start = 0
            for row, _ in small:
                yield row, Read(table.slice(start, row.rows), [], row.rows, fast=True)
                start += row.rows
            return
    for row, data in small:
        table = _fast(row, data, row.rows)
        yield row, _slow(row, data) if table is None else Read(table, [], row.rows, fast=True)


def _bytes(root: Path, row: SegmentRow) -> bytes:
    try:
        return (root / row.path).read_bytes()
    except OSError as error:
        raise CorruptSegment(f"{row.path} cannot be read: {error}", "run: dl verify") from error


@cache
def _fields(kind: str) -> tuple[Field, ...]:
    """The keys of the kind's line."""
    struct = kinds.kind(kind).struct
    assert struct is not None, f"{kind} is derived and has no lines"
    names = {column.name for column in tables.columns(kind) if column.type == "dict"} | {"stream"}
    found = []
    for field in msgspec.structs.fields(struct):
        options = get_args(field.type) if get_origin(field.type) in (Union, types.UnionType) else (field.type,)
        bare = next(option for option in options if option is not type(None))
        found.append(
            Field(
                field.name, bare, type(None) in options, not field.required,
                default=None if field.required or not isinstance(field.default, int | str) else field.default,
                pattern=number_pattern(field.name) if field.name in tables.decimal_columns(kind) else cutting.TEXT,
                name=field.name in names,
            )
        )  # fmt: skip
    return tuple(found)


def _fast(row: SegmentRow, data: bytes, lines: int) -> pa.Table | None:
    """The table of so many lines where nothing at all is doubtful, else None. Of `row` only the stream counts."""
    table = _typed(row, data, cutting.keys_of(data, _fields(row.kind)))
    return table if table is not None and table.num_rows == lines else None


def _typed(row: SegmentRow, data: bytes, keys: Sequence[str] | None) -> pa.Table | None:
    found = None if keys is None else cutting.cut(data, keys, _fields(row.kind))
    if found is None:
        return None
    columns = Columns(row, found)
    return columns.table() if columns.sound() else None


def _joined(made: Sequence[pa.Table]) -> pa.Table:
    """The pieces as one table with one dictionary a column, whose values come in order of their first row."""
    return pa.concat_tables(made).unify_dictionaries()


def _slow(row: SegmentRow, data: bytes) -> Read:
    bad: list[BadLine] = []
    made = [tables.empty(row.kind)]
    events: list[tuple[int, Event]] = []
    count = 0
    at_once = _BOOKS_AT_ONCE if tables.level_columns(row.kind) else _ROWS_AT_ONCE
    for found in segments.read_lines(row.kind, data):
        count += 1
        if isinstance(found, BadLine):
            bad.append(found)
        elif too_big := _too_big(row.kind, found):
            bad.append(BadLine(-1, count, b"", too_big))
        else:
            events.append((count, found))
        if len(events) >= at_once:
            made.append(_sifted(row, events, bad))
            events = []
    made.append(_sifted(row, events, bad))
    bad = _located(data, sorted(bad, key=lambda line: line.number))
    return Read(_joined(made), bad, count, fast=False)


def _sifted(row: SegmentRow, events: Sequence[tuple[int, Event]], bad: list[BadLine]) -> pa.Table:
    """The rows of the good ones among numbered events; the others are added to `bad`."""
    columns = Columns(row, _found(row.kind, [event for _, event in events]))
    faults = columns.faults()
    wrong = faults.is_not_null()
    bad += [BadLine(-1, events[at][0], b"", faults[at]) for at in wrong.arg_true()]
    columns.keep(~wrong)
    return columns.table()


def _located(data: bytes, bad: list[BadLine]) -> list[BadLine]:
    """The same, those without a place (offset -1) now with theirs."""
    if all(line.offset >= 0 for line in bad):
        return bad
    wanted = {line.number: line for line in bad}
    return [
        wanted[number]._replace(offset=offset, line=line) for number, offset, line in _lines(data) if number in wanted
    ]


def _lines(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        yield number, offset, line
        offset += len(line) + 1


@cache
def _integers(kind: str) -> tuple[str, ...]:
    return tuple(field.key for field in _fields(kind) if field.type is int)


def _too_big(kind: str, event: Event) -> str | None:
    for name in _integers(kind):
        value = getattr(event, name)
        if value is not None and not -_INT64 <= value < _INT64:
            return f"{name}: no 64-bit integer: {str(value)[:40]}"
    return None


def _found(kind: str, events: Sequence[Event]) -> dict[str, Values]:
    """The fields of the lines (a flags tuple joined by commas)."""
    columns: dict[str, Values] = {}
    for name, bare, *_ in _fields(kind):
        values: list[Any] = [getattr(event, name) for event in events]
        if bare is msgspec.Raw:
            values = [bytes(value).decode(errors="replace") for value in values]  # what is no UTF-8 is no level either
        elif bare not in (int, str):
            values = [",".join(value) for value in values]
        integers = bare is int
        column = pl.Series(name, values, dtype=pl.Int64 if integers else pl.String)
        columns[name] = column if integers else Texts(column)
    return columns
