"""The lake in numbers, as its manifest has them."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, FromClause, Table, func, select

from lake import schema
from lake.rows import SegmentState

SINCE = 6
"""The schema version that began to keep totals."""
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
    def count(table: Table) -> int:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())

    g, s, t = schema.gaps, schema.segments, live_totals(conn)
    gaps = select(g.c.state, func.count()).group_by(g.c.state).order_by(g.c.state)
    totals = select(t.c.kind, t.c.level, *(func.sum(t.c[name]) for name in ("files", "rows", "bytes")))
    totals = totals.group_by(t.c.kind, t.c.level).order_by(t.c.kind, t.c.level)
    raw = select(func.coalesce(func.sum(s.c.bytes), 0)).where(s.c.state.in_(KEPT))
    return Stats(
        segments=_by_state(conn),
        raw_bytes=int(conn.execute(raw).scalar_one()),
        files=tuple(FileStats(*row) for row in conn.execute(totals)),
        gaps={row[0]: int(row[1]) for row in conn.execute(gaps)},
        sessions=count(schema.sessions),
        certificates=count(schema.certified if _counted(conn) else schema.certificates),
        quarantined=count(schema.quarantine),
    )


def live_totals(conn: Connection) -> FromClause:
    """Live files by market, kind and level: kept by the manifest, summed in one of before version 6."""
    f, t = schema.files, schema.totals
    if _counted(conn):
        return t
    place = (f.c.exchange, f.c.market_type, f.c.kind, f.c.level)
    sums = (func.count().label("files"), func.sum(f.c.rows).label("rows"), func.sum(f.c.bytes).label("bytes"))
    return select(*place, *sums).where(f.c.state == "live").group_by(*place).subquery()


def _by_state(conn: Connection) -> dict[str, int]:
    s, t = schema.segments, schema.segment_totals
    counts = select(s.c.state, func.count()).group_by(s.c.state).order_by(s.c.state)
    if _counted(conn):
        counts = select(t.c.state, t.c.segments).order_by(t.c.state)
    return {row[0]: int(row[1]) for row in conn.execute(counts)}


def _counted(conn: Connection) -> bool:
    return int(conn.execute(select(schema.meta.c.schema_version)).scalar_one()) >= SINCE
