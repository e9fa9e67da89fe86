"""The newest segments of a stream, asked for from the end: the thousands that are kept before them are not read."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from lake import schema
from lake.manifest import Manifest
from lake.rows import SegmentRow

_SEGMENTS = schema.segments
_NEWEST = (
    select(*(_SEGMENTS.c[name] for name in SegmentRow.__struct_fields__))
    .where(*(_SEGMENTS.c[name] == bindparam(name) for name in ("state", "exchange", "market_type", "kind")))
    .where(_SEGMENTS.c.rows > 0)
    .order_by(_SEGMENTS.c.period_start.desc(), _SEGMENTS.c.path.desc())
    .limit(bindparam("count"))
)


def newest(manifest: Manifest, exchange: str, market_type: str, kind: str, count: int) -> list[SegmentRow]:
    """Sealed and transformed ones with rows: the last `count` by (period_start, path), in that order."""
    wanted = {"exchange": exchange, "market_type": market_type, "kind": kind, "count": count}

    def read(conn: Connection) -> list[SegmentRow]:
        each = (conn.execute(_NEWEST, wanted | {"state": state}).mappings() for state in ("sealed", "transformed"))
        return [SegmentRow(**row) for rows in each for row in rows]

    return sorted(manifest.run(read), key=lambda row: (row.period_start, row.path))[-count:]
