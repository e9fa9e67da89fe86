"""What a Parquet file of the lake holds, told by as little of it as does: bounds, symbols, what never changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow.parquet import FileMetaData, Statistics

from lake import merge, parquet, tables
from lake.windows import Extent
from market import kinds

_LONG = 64 * 1024
"""Rows of a column that is the same all along, of which shorter ones are pieces."""


def symbols(path: Path) -> set[str]:
    """The symbols of the file's rows. Raises CorruptFile."""
    found: set[str] = set()
    for piece in parquet.iterate(path, ["symbol"]):
        found.update(piece.column("symbol").unique().to_pylist())
    return found


class Look(msgspec.Struct, frozen=True):
    """What the footer of a file tells: its bounds where it tells them, and columns that are the same in every row."""

    extent: Extent | None
    told: Mapping[str, Any]


def extent(path: Path, kind: str, size: int) -> Extent | None:
    """Bounds of the file of `size` bytes from its statistics alone, None where they do not tell or it has no rows.

    Raises CorruptFile.
    """
    return look(path, kind, size).extent


def look(path: Path, kind: str, size: int) -> Look:
    """What the statistics of the file of `size` bytes tell. Raises CorruptFile."""
    with parquet.open_file(path) as file:
        held = file.metadata
    return Look(_extent(held, kind, size), _told(held, kind))


def _extent(held: FileMetaData, kind: str, size: int) -> Extent | None:
    seq = kinds.kind(kind).seq
    if seq is None or tables.sort_columns(kind)[:3] != ("symbol", "ts_event", seq):
        return None
    bounds: list[tuple[Any, Any]] = []
    for name in ("symbol", "ts_event", seq):
        place = _leaf(kind, name)
        told = [held.row_group(g).column(place).statistics for g in range(held.num_row_groups)]
        if not told or any(one is None or not one.has_min_max or not _full(one) for one in told):
            return None
        bounds.append((min(one.min_raw for one in told), max(one.max_raw for one in told)))
    names, times, ids = bounds
    return Extent(names[0].decode(), held.num_rows, size, times, ids) if names[0] == names[1] else None


def _told(held: FileMetaData, kind: str) -> dict[str, Any]:
    """Columns that statistics tell whole, None where all rows are null.

    Never of floats: what is no number is not in their statistics, and both zeros are one there. Never the time either:
    something has to say how many rows there are.
    """
    if held.num_row_groups != 1:
        return {}
    group = held.row_group(0)
    found: dict[str, Any] = {}
    for name, place, exact in _leaves(kind):
        statistics = group.column(place).statistics
        if name == "ts_event" or statistics is None or not statistics.has_null_count:
            continue
        if statistics.null_count == held.num_rows:
            found[name] = None
        elif exact and statistics.null_count == 0 and statistics.has_min_max:
            low = statistics.min_raw
            if low == statistics.max_raw:
                found[name] = low.decode() if isinstance(low, bytes) else low
    return found


def read_together(paths: Sequence[Path], kind: str, looks: Sequence[Look]) -> pa.Table:
    """Small files one after the other as one table. What all of them tell alike is not read. Raises CorruptFile."""
    told = dict(looks[0].told)
    for one in looks[1:]:
        told = told if one.told == told else {n: v for n, v in told.items() if n in one.told and one.told[n] == v}
    return _whole(merge.joined([parquet.read(path, _asked(kind, told)) for path in paths]), kind, told)


def iterate(path: Path, kind: str, look: Look, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The file, all columns or those named, in pieces of at most `rows` rows. What its statistics tell is not read.

    Raises CorruptFile.
    """
    if columns is None:
        for piece in parquet.iterate(path, _asked(kind, look.told), rows):
            yield _whole(piece, kind, look.told)
        return
    told = {name: value for name, value in look.told.items() if name in columns}
    asked = [name for name in columns if name not in told] or ["ts_event"]  # something says how many rows there are
    for piece in parquet.iterate(path, asked, rows):
        yield _with(piece, kind, told).select(list(columns))


def _asked(kind: str, told: Mapping[str, Any]) -> list[str]:
    return [name for name in tables.schema(kind).names if name not in told]


def _whole(found: pa.Table, kind: str, told: Mapping[str, Any]) -> pa.Table:
    return tables.conform(_with(found, kind, told), kind)


def _with(found: pa.Table, kind: str, told: Mapping[str, Any]) -> pa.Table:
    for name, value in told.items():
        field = tables.schema(kind).field(name)
        found = found.append_column(field, _same(value, field.type, found.num_rows))
    return found


def _same(value: Any, to: pa.DataType, rows: int) -> pa.ChunkedArray:
    """The value in so many rows, mostly a piece of what was made before."""
    return _held(value, to).slice(0, rows) if rows <= _LONG else _made(value, to, rows)


@lru_cache(maxsize=64)
def _held(value: Any, to: pa.DataType) -> pa.ChunkedArray:
    return _made(value, to, _LONG)


def _made(value: Any, to: pa.DataType, rows: int) -> pa.ChunkedArray:
    if value is None:
        return pa.chunked_array([pa.nulls(rows, to)], type=to)
    return tables.constant(value, rows, to)


@cache
def _leaves(kind: str) -> tuple[tuple[str, int, bool], ...]:
    """Columns that are one column in a file too: their numbers there, and whether their bounds are values of theirs."""
    nested = {name for level in tables.level_columns(kind) for name in (level, tables.text_name(level))}
    return tuple(
        (field.name, _leaf(kind, field.name), not pa.types.is_floating(field.type))
        for field in tables.schema(kind) if field.name not in nested
    )  # fmt: skip


@cache
def _leaf(kind: str, column: str) -> int:
    """The column's number in a file, where every price and quantity of book levels is a column of its own."""
    before = tables.schema(kind).names[: tables.schema(kind).names.index(column)]
    nested = {name for level in tables.level_columns(kind) for name in (level, tables.text_name(level))}
    return sum(2 if name in nested else 1 for name in before)


def _full(statistics: Statistics) -> bool:
    return bool(statistics.has_null_count and statistics.null_count == 0)
