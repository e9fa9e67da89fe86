"""Questions to the manifest, as groups of methods over one read transaction or many.

`Snapshot` answers all of them from one transaction; `lake.manifest.Manifest` answers each from a transaction of its
own. Filters that are None do not filter; lists come in a stable order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, FromClause, Select, Table, and_, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from lake import layout, manifest_stats, schema, steps
from lake.errors import CorruptManifest
from lake.job_reads import JobReads
from lake.rows import (
    FRAMES,
    BanRow,
    CertificateRow,
    CheckRow,
    FileRow,
    Level,
    QuarantineRow,
    SegmentRow,
    SegmentState,
    SessionRow,
)
from market.kinds import KINDS
from market.session import Coverage, Gap, GapState
from market.times import Interval

S = TypeVar("S")
T = TypeVar("T")
_INDEXED = schema.files.alias("i")
_STREAM = ("exchange", "market_type", "kind")
HOT: tuple[Level, ...] = ("part", "hour")
BATCH = 500  # values in one IN list: SQLite's limit of variables is 999 in old builds


class Meta(msgspec.Struct, frozen=True):
    """What the manifest says of itself; `version` grows with every change, `epoch` with every writer."""

    lake_id: str
    schema_version: int
    simulated: bool
    epoch: int
    version: int
    created_at: int


class Reads(Protocol):
    """Where the groups below get their transaction from."""

    def run(self, read: Callable[[Connection], T]) -> T: ...


def equal(table: FromClause, **wanted: object) -> list[ColumnElement[bool]]:
    """`column = value`, or `column in values`, for each that is not None."""
    held = [(table.c[name], value) for name, value in wanted.items() if value is not None]
    return [column.in_(value) if isinstance(value, list | tuple) else column == value for column, value in held]


def _structs(conn: Connection, kind: type[S], statement: Select[Any]) -> list[S]:
    rows = [kind(**row) for row in conn.execute(statement).mappings()]
    if kind in _PLACED:
        for row in rows:
            check_inside(row.path)  # type: ignore[attr-defined] # of these kinds
    return rows


_PLACED = (SegmentRow, FileRow)
"""What has a path that is opened, moved and removed."""


def check_inside(path: str) -> None:
    """Whoever made this manifest names no place outside of its lake. Raises CorruptManifest."""
    parts = path.split("/")
    if "" in parts or ".." in parts or "\\" in path or ":" in path or "\0" in path:
        raise CorruptManifest(f"manifest.db names {path[:200]!r}, which is no place in a lake", "do not use this lake")


@cache
def _of(table: Table, kind: type[msgspec.Struct]) -> Select[Any]:
    """SELECT of the struct's own columns: a table may hold more, and a struct may have fields kept elsewhere."""
    return select(*(table.c[name] for name in kind.__struct_fields__ if name in table.c))


def chunks(values: Iterable[T]) -> list[list[T]]:
    """The values in lists short enough for one IN."""
    held = list(values)
    return [held[start : start + BATCH] for start in range(0, len(held), BATCH)]


class SegmentReads:
    """Raw segments, frames files, and how far each stream is complete."""

    def segments(
        self: Reads,
        exchange: str | None = None,
        market_type: str | None = None,
        kind: str | None = None,
        state: SegmentState | None = None,
    ) -> list[SegmentRow]:
        """Segments by (exchange, market_type, kind, period_start, path). Frames files have kind `frames`."""
        t = schema.segments
        where = equal(t, exchange=exchange, market_type=market_type, kind=kind, state=state)
        order = (t.c.exchange, t.c.market_type, t.c.kind, t.c.period_start, t.c.path)
        return self.run(lambda conn: _structs(conn, SegmentRow, _of(t, SegmentRow).where(*where).order_by(*order)))

    def segment(self: Reads, path: str) -> SegmentRow | None:
        t = schema.segments
        found = self.run(lambda conn: _structs(conn, SegmentRow, _of(t, SegmentRow).where(t.c.path == path)))
        return found[0] if found else None

    def watermark(self: Reads, exchange: str, market_type: str, kind: str) -> int | None:
        """Receive time (us) up to which this stream is sealed: where the oldest open segment starts, else where the
        last sealed one ends; None before the first segment.
        """
        t = schema.segments
        mine = and_(t.c.exchange == exchange, t.c.market_type == market_type, t.c.kind == kind)
        opened = select(func.min(t.c.period_start)).where(mine, t.c.state == "open")
        ended = select(func.max(t.c.period_end)).where(mine, t.c.state != "open")

        def read(conn: Connection) -> int | None:
            start = conn.execute(opened).scalar_one()
            found = conn.execute(ended).scalar_one() if start is None else start
            return None if found is None else int(found)

        return self.run(read)

    def streams(self: Reads) -> list[tuple[str, str, str]]:
        """Every (exchange, market_type, kind) that has segments or live files; frames are no stream."""

        def read(conn: Connection) -> list[tuple[str, str, str]]:
            sealed = steps.distinct(conn, schema.segments, _STREAM, {})
            live = steps.distinct(conn, schema.files, ("kind", "exchange", "market_type"), {"state": "live"})
            found = {(one, market, kind) for one, market, kind in sealed if kind != FRAMES}
            return sorted(found | {(one, market, kind) for kind, one, market in live})

        return self.run(read)


class FileReads:
    """Published files, what they came from, and what was found in them."""

    def files(
        self: Reads,
        kind: str | None = None,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | Sequence[str] | None = None,
        level: Level | None = None,
        date_from: str | None = None,
        date_to: str | None = None,
        state: str | None = "live",
        parents: bool = False,
    ) -> list[FileRow]:
        """Files by (kind, exchange, market_type, date, hour, symbol, path); both dates are included.

        `symbol` also finds the files that hold all symbols. `FileRow.parents` is filled on request only.
        """
        t, i = schema.files, _INDEXED
        named = [] if symbol is None else [or_(*equal(i, symbol=symbol), i.c.symbol.is_(None))]
        named += [i.c.date >= date_from] if date_from is not None else []
        named += [i.c.date <= date_to] if date_to is not None else []
        if level in HOT and kind is None:  # few, and in one folder: of all that is live an index would tell
            named += [i.c.path >= f"{layout.HOT}/", i.c.path < f"{layout.HOT}0"]
            named += [i.c.state.concat("") == state] if state is not None else []
        else:
            named += equal(i, state=state)
        if kind is None and None not in (exchange, market_type, date_from):  # as the index has it
            named.append(i.c.kind.in_(KINDS))
        named += equal(i, kind=kind, exchange=exchange, market_type=market_type)
        # what an index holds is asked of it alone: rows are looked up once they are known to be wanted
        where = [t.c.path.in_(select(i.c.path).where(*named)), *equal(t, level=level)]
        order = (t.c.kind, t.c.exchange, t.c.market_type, t.c.date, t.c.hour, t.c.symbol, t.c.path)

        def read(conn: Connection) -> list[FileRow]:
            rows = _structs(conn, FileRow, _of(t, FileRow).where(*where).order_by(*order))
            return with_parents(conn, rows) if parents else rows

        return self.run(read)

    def file(self: Reads, path: str) -> FileRow | None:
        """The file of that path with its parents, live or retired."""
        t = schema.files

        def read(conn: Connection) -> FileRow | None:
            rows = _structs(conn, FileRow, _of(t, FileRow).where(t.c.path == path))
            return with_parents(conn, rows)[0] if rows else None

        return self.run(read)

    def retired(self: Reads, before: int) -> list[FileRow]:
        """Files retired before `before` (us) that nobody has reported as unlinked."""
        t = schema.files
        where = (t.c.state == "retired", t.c.retired_at < before, t.c.unlinked_at.is_(None))
        return self.run(lambda conn: _structs(conn, FileRow, _of(t, FileRow).where(*where).order_by(t.c.path)))

    def children(self: Reads, path: str) -> list[str]:
        """Paths of the files that were made from this segment or file."""
        t = schema.lineage
        mine = select(t.c.child).where(t.c.parent == path).order_by(t.c.child)
        return self.run(lambda conn: list(conn.execute(mine).scalars()))

    def certificates(
        self: Reads,
        path: str | Sequence[str] | None = None,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        kind: str | None = None,
        symbol: str | None = None,
        date_from: str | None = None,
        date_to: str | None = None,
    ) -> list[CertificateRow]:
        """Certificates by (exchange, market_type, kind, symbol, date, issued_at): the last one of a file is valid."""
        t = schema.certificates
        where = equal(t, path=path, exchange=exchange, market_type=market_type, kind=kind, symbol=symbol)
        if date_from is not None:
            where.append(t.c.date >= date_from)
        if date_to is not None:
            where.append(t.c.date <= date_to)
        order = (t.c.exchange, t.c.market_type, t.c.kind, t.c.symbol, t.c.date, t.c.issued_at)

        def read(conn: Connection) -> list[CertificateRow]:
            found = conn.execute(_of(t, CertificateRow).where(*where).order_by(*order)).mappings()
            return [CertificateRow(**{**row, "inputs": json.loads(row["inputs"])}) for row in found]

        return self.run(read)

    def checks(self: Reads, path: str | None = None) -> list[CheckRow]:
        t = schema.checks
        where = equal(t, path=path)
        order = (t.c.path, t.c.check, t.c.symbol)
        return self.run(lambda conn: _structs(conn, CheckRow, _of(t, CheckRow).where(*where).order_by(*order)))

    def quarantine(self: Reads) -> list[QuarantineRow]:
        t = schema.quarantine
        return self.run(lambda conn: _structs(conn, QuarantineRow, _of(t, QuarantineRow).order_by(t.c.at, t.c.path)))


class HoleReads:
    """What was asked for, what came, and what is missing."""

    def gaps(
        self: Reads,
        exchange: str | Sequence[str] | None = None,
        market_type: str | Sequence[str] | None = None,
        kind: str | None = None,
        symbol: str | Sequence[str] | None = None,
        *,
        state: GapState | Sequence[GapState] | None = None,
        overlapping: Interval | None = None,
    ) -> list[Gap]:
        """Gaps by (exchange, market_type, kind, symbol, ts_from); one that still grows overlaps all that follows.

        A hole of ids can lie between two events of one microsecond: [t, t) overlaps what holds t.
        """
        t = schema.gaps
        where = equal(t, exchange=exchange, market_type=market_type, kind=kind, symbol=symbol)
        if state is not None:
            where.append(t.c.state.in_([state] if isinstance(state, str) else list(state)))
        if overlapping is not None:
            where.append(t.c.ts_from < overlapping.end)
            where.append(
                or_(
                    t.c.ts_to.is_(None),
                    t.c.ts_to > overlapping.start,
                    and_(t.c.ts_to <= t.c.ts_from, t.c.ts_from >= overlapping.start),
                )
            )
        order = (t.c.exchange, t.c.market_type, t.c.kind, t.c.symbol, t.c.ts_from, t.c.gap_id)
        return self.run(lambda conn: _structs(conn, Gap, _of(t, Gap).where(*where).order_by(*order)))

    def coverage(
        self: Reads,
        exchange: str | Sequence[str] | None = None,
        market_type: str | Sequence[str] | None = None,
        kind: str | None = None,
        symbol: str | Sequence[str] | None = None,
        overlapping: Interval | None = None,
    ) -> list[Coverage]:
        """Coverage rows by (exchange, market_type, kind, symbol, ts_from); they may overlap each other."""
        t = schema.coverage
        where = equal(t, exchange=exchange, market_type=market_type, kind=kind, symbol=symbol)
        if overlapping is not None:
            where += [t.c.ts_from < overlapping.end, t.c.ts_to > overlapping.start]
        order = (t.c.exchange, t.c.market_type, t.c.kind, t.c.symbol, t.c.ts_from, t.c.session)
        return self.run(lambda conn: _structs(conn, Coverage, _of(t, Coverage).where(*where).order_by(*order)))

    def sessions(
        self: Reads,
        exchange: str | None = None,
        market_type: str | None = None,
        session: str | None = None,
        unclosed: bool = False,
    ) -> list[SessionRow]:
        """Sessions by opening time; `unclosed` asks for those whose end nobody wrote down."""
        t = schema.sessions
        where = equal(t, exchange=exchange, market_type=market_type, session=session)
        if unclosed:
            where.append(t.c.closed_at.is_(None))
        order = (t.c.opened_at, t.c.session)
        return self.run(lambda conn: _structs(conn, SessionRow, _of(t, SessionRow).where(*where).order_by(*order)))


class StateReads:
    """The manifest itself, cursors, bans and totals."""

    def meta(self: Reads) -> Meta:
        return self.run(lambda conn: _structs(conn, Meta, _of(schema.meta, Meta))[0])

    @property
    def version(self: Reads) -> int:
        """Grows by one with every transaction that changed something."""
        return self.run(lambda conn: int(conn.execute(select(schema.meta.c.version)).scalar_one()))

    def cursor(self: Reads, name: str) -> int | None:
        """A job's remembered position, None before it has one."""
        t = schema.cursors
        found = self.run(lambda conn: conn.execute(select(t.c.value).where(t.c.name == name)).scalar_one_or_none())
        return None if found is None else int(found)

    def bans(self: Reads, active_at: int | None = None) -> list[BanRow]:
        """What each host that asked for silence asked for last, by (exchange, host); those over at `active_at` not."""
        t = schema.bans
        where = [t.c.until > active_at] if active_at is not None else []
        order = (t.c.exchange, t.c.host)
        return self.run(lambda conn: _structs(conn, BanRow, _of(t, BanRow).where(*where).order_by(*order)))

    def stats(self: Reads) -> manifest_stats.Stats:
        return self.run(manifest_stats.stats)


def with_parents(conn: Connection, rows: list[FileRow]) -> list[FileRow]:
    t = schema.lineage
    parents: dict[str, list[str]] = {}
    for paths in chunks(row.path for row in rows):
        found = conn.execute(select(t.c.child, t.c.parent).where(t.c.child.in_(paths)).order_by(t.c.child, t.c.parent))
        for child, parent in found:
            parents.setdefault(child, []).append(parent)
    for row in rows:
        row.parents = tuple(parents.get(row.path, ()))
    return rows


class Snapshot(SegmentReads, FileReads, HoleReads, StateReads, JobReads):
    """Every question answered from one read transaction: the lake as it was at one moment."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def run(self, read: Callable[[Connection], T]) -> T:
        return read(self._conn)
