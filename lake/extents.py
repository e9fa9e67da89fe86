"""What a Parquet file of the lake holds, told by as little of it as does: its bounds and its symbols."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pyarrow.parquet import Statistics

from lake import parquet, tables
from lake.windows import Extent
from market import kinds


def symbols(path: Path) -> set[str]:
    """The symbols of the file's rows. Raises CorruptFile."""
    found: set[str] = set()
    for piece in parquet.iterate(path, ["symbol"]):
        found.update(piece.column("symbol").unique().to_pylist())
    return found


def extent(path: Path, kind: str, size: int) -> Extent | None:
    """Bounds of the file of `size` bytes from its statistics alone, None where they do not tell or it has no rows.

    Raises CorruptFile.
    """
    seq = kinds.kind(kind).seq
    if seq is None or tables.sort_columns(kind)[:3] != ("symbol", "ts_event", seq):
        return None
    with parquet.open_file(path) as file:
        bounds: list[tuple[Any, Any]] = []
        for name in ("symbol", "ts_event", seq):
            place = _leaf(kind, name)
            told = [file.metadata.row_group(g).column(place).statistics for g in range(file.metadata.num_row_groups)]
            if not told or any(one is None or not one.has_min_max or not _full(one) for one in told):
                return None
            bounds.append((min(one.min_raw for one in told), max(one.max_raw for one in told)))
        names, times, ids = bounds
        if names[0] != names[1]:
            return None
        return Extent(names[0].decode(), file.metadata.num_rows, size, times, ids)


@cache
def _leaf(kind: str, column: str) -> int:
    """The column's number in a file, where every price and quantity of book levels is a column of its own."""
    before = tables.schema(kind).names[: tables.schema(kind).names.index(column)]
    nested = {name for level in tables.level_columns(kind) for name in (level, tables.text_name(level))}
    return sum(2 if name in nested else 1 for name in before)


def _full(statistics: Statistics) -> bool:
    return bool(statistics.has_null_count and statistics.null_count == 0)
