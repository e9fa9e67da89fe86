"""The lake in numbers, as its manifest has them."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, Table, func, select

from lake import schema
from lake.rows import SegmentState

KEPT: tuple[SegmentState, ...] = ("open", "sealed", "transformed", "quarantined", "deleting")
"""States of segments whose bytes are there: of a lake of years nearly all are deleted, and no index is by that."""


class FileStats(msgspec.Struct, frozen=True):
    """Live files of one kind and level, summed."""

    kind: str
    level: str
    files: int
    rows: int
    bytes: int


class Stats(msgspec.Struct, frozen=True):
    """The lake in numbers: segments by state, live files, gaps by state."""

    segments: dict[str, int]
    raw_bytes: int
    files: tuple[FileStats, ...]
    gaps: dict[str, int]
    sessions: int
    certificates: int
    quarantined: int


def stats(conn: Connection) -> Stats:
    s, f, g = schema.segments, schema.files, schema.gaps

    def count(table: Table) -> int:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())

    def by_state(table: Table) -> dict[str, int]:
        found = conn.execute(select(table.c.state, func.count()).group_by(table.c.state).order_by(table.c.state))
        return {row[0]: int(row[1]) for row in found}

    totals = (
        select(f.c.kind, f.c.level, func.count(), func.sum(f.c.rows), func.sum(f.c.bytes))
        .where(f.c.state == "live")
        .group_by(f.c.kind, f.c.level)
        .order_by(f.c.kind, f.c.level)
    )
    raw = select(func.coalesce(func.sum(s.c.bytes), 0)).where(s.c.state.in_(KEPT))
    return Stats(
        segments=by_state(s),
        raw_bytes=int(conn.execute(raw).scalar_one()),
        files=tuple(FileStats(*row) for row in conn.execute(totals)),
        gaps=by_state(g),
        sessions=count(schema.sessions),
        certificates=count(schema.certificates),
        quarantined=count(schema.quarantine),
    )
