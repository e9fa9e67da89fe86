"""Two manifests row by row: what one says and the other does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, inspect, select, text

from lake import schema
from lake.manifest_source import ReadSource, damaged

GROWING = ("epoch", "version")
"""Columns of `meta` that count writers and writes: a manifest made anew is at least as far."""
FORGOTTEN = (schema.scrubs, schema.totals, schema.segment_totals)
"""Tables that the ledger does not tell: what was read again last is read again sooner after a rebuild; totals
follow from the rows, of which a difference is told.
"""
SHOWN = 10_000
"""Differences that are kept."""


class Difference(msgspec.Struct, frozen=True):
    """One row that is not the same. `only` says where it is (present, rebuilt, or empty: in both, with other values).

    `columns` are the values that differ: name -> (present, rebuilt).
    """

    table: str
    key: tuple[Any, ...]
    only: str = ""
    columns: dict[str, tuple[Any, Any]] = {}


def compare(root: Path, present: Path, rebuilt: Path) -> list[Difference]:
    """Every difference between two manifests of the lake at `root`. Raises CorruptManifest, ManifestBusy, NotALake.

    A segment that is open and has no file yet is known to the present one alone, and no difference.
    """
    found: list[Difference] = []
    one, other = ReadSource(present), ReadSource(rebuilt)
    try:
        with one.transaction() as a, other.transaction() as b:
            # a row that is damaged may be whole in an index, and be read there
            said = a.execute(text("PRAGMA integrity_check(1)")).scalar_one()
            if said != "ok":
                raise damaged(str(said))
            for table in (one for one in schema.METADATA.sorted_tables if one not in (*FORGOTTEN, *schema.NUMBERED)):
                for difference in _differences(table, a, b):
                    if len(found) == SHOWN:
                        return found
                    if not _unwritten(root, difference, a):
                        found.append(difference)
    finally:
        one.close()
        other.close()
    return found


def _differences(table: Table, a: Connection, b: Connection) -> Iterator[Difference]:
    names = [column.name for column in table.c if table.name != "meta" or column.name not in GROWING]
    keys = [names.index(column.name) for column in table.primary_key]
    if not inspect(a).has_table(table.name):  # an older present manifest: whatever is in this table is new
        for row in _rows(table, names, b):
            yield Difference(table.name, _key(row, keys), "rebuilt")
        return
    left, right = _rows(table, names, a), _rows(table, names, b)
    mine, theirs = next(left, None), next(right, None)
    while mine is not None or theirs is not None:
        here = None if mine is None else _key(mine, keys)
        there = None if theirs is None else _key(theirs, keys)
        if there is None or (here is not None and here < there):
            assert here is not None
            yield Difference(table.name, here, "present")
            mine = next(left, None)
        elif here is None or there < here:
            yield Difference(table.name, there, "rebuilt")
            theirs = next(right, None)
        else:
            assert mine is not None
            assert theirs is not None
            changed = {n: (x, y) for n, x, y in zip(names, mine, theirs, strict=True) if x != y}
            if changed:
                yield Difference(table.name, here, "", changed)
            mine, theirs = next(left, None), next(right, None)


def _rows(table: Table, names: Sequence[str], conn: Connection) -> Iterator[Row[Any]]:
    statement = select(*(table.c[name] for name in names)).order_by(*table.primary_key)
    yield from conn.execution_options(stream_results=True).execute(statement)


def _key(row: Row[Any], keys: Sequence[int]) -> tuple[Any, ...]:
    return tuple(row[index] for index in keys)


def _unwritten(root: Path, difference: Difference, present: Connection) -> bool:
    if difference.table != "segments" or difference.only != "present":
        return False
    t = schema.segments
    path = difference.key[0]
    # none where the key is damaged: it is read in order, and not found where it should be
    state = present.execute(select(t.c.state).where(t.c.path == path)).scalar_one_or_none()
    return state == "open" and not any((root / name).exists() for name in (path, f"{path}.open"))
