"""Statements that change the manifest, each inside the caller's transaction and idempotent by key.

Writing a row twice is writing it once: what only grows (coverage, counts) keeps its greatest value, what is known
(an end, a closing) is never forgotten, and a row that has moved on is not taken back by an older report.
Every function returns how many rows it touched. Statements are made once: making one costs as much as running it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from lake import input_sets, schema
from lake.errors import CommitConflict
from lake.manifest_reads import chunks
from lake.rows import (
    BanRow,
    CertificateRow,
    CheckRow,
    Expectation,
    FileRow,
    QuarantineRow,
    SegmentRow,
    SegmentState,
    SessionRow,
)
from market.session import Coverage, Gap


def _values(table: Table, rows: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    return [{k: v for k, v in msgspec.structs.asdict(row).items() if k in table.c} for row in rows]


def upsert_segments(conn: Connection, rows: Sequence[SegmentRow]) -> int:
    """A report of an open or sealed segment; one that was transformed, quarantined or deleted stays as it is."""
    if rows:
        conn.execute(_segments(), _values(schema.segments, rows))
    return len(rows)


@cache
def _segments() -> Insert:
    t = schema.segments
    new = insert(t)
    changed: dict[str, Any] = {c.name: new.excluded[c.name] for c in t.c if c.name not in ("path", "failures", "error")}
    changed["error"] = func.coalesce(new.excluded.error, t.c.error)
    forward = or_(t.c.state == "open", and_(t.c.state == "sealed", new.excluded.state != "open"))
    return new.on_conflict_do_update(index_elements=["path"], set_=changed, where=forward)


def upsert_sessions(conn: Connection, rows: Sequence[SessionRow]) -> int:
    if rows:
        conn.execute(_sessions(), _values(schema.sessions, rows))
    return len(rows)


@cache
def _sessions() -> Insert:
    t = schema.sessions
    new = insert(t)
    changed: dict[str, Any] = {
        name: func.max(t.c[name], new.excluded[name]) for name in ("frames", "events", "ignored")
    }
    changed |= {name: func.coalesce(new.excluded[name], t.c[name]) for name in ("closed_at", "close_cause")}
    changed["opened_at"] = func.min(t.c.opened_at, new.excluded.opened_at)
    return new.on_conflict_do_update(index_elements=["session"], set_=changed)


def upsert_coverage(conn: Connection, rows: Sequence[Coverage]) -> int:
    """Coverage of one (stream, session, start) only grows."""
    if rows:
        conn.execute(_coverage(), _values(schema.coverage, rows))
    return len(rows)


@cache
def _coverage() -> Insert:
    t = schema.coverage
    new = insert(t)
    changed = {"ts_to": func.max(t.c.ts_to, new.excluded.ts_to)}
    return new.on_conflict_do_update(index_elements=list(t.primary_key), set_=changed)


def upsert_gaps(conn: Connection, rows: Sequence[Gap]) -> int:
    """A gap found again under its id: one that was closed is not opened again, and the end of an open one is forgotten
    only where it is found anew, and grows: what had ended it was never stored.

    With its end come its ids: none, where what follows is numbered anew. Where a stream is interrupted anew behind the
    same event after its gap was closed (what came proved that nothing was missing so far, and nothing new followed),
    it is another gap, which takes the place of the closed one.
    """
    if rows:
        conn.execute(_gaps(), _values(schema.gaps, rows))
    return len(rows)


@cache
def _gaps() -> Insert:
    t = schema.gaps
    new = insert(t)
    said, held = new.excluded, t.c
    anew = and_(held.state != "open", said.state == "open", said.detected_at > held.closed_at)
    ended = said.ts_to.is_not(None)
    grows = and_(held.state == "open", said.state == "open", said.detected_at > held.detected_at)
    changed: dict[str, Any] = {name: said[name] for name in ("ts_from", "cause", "proof", "state")}
    for name in ("session", "closed_at", "source", "detail"):
        changed[name] = case((anew, said[name]), else_=func.coalesce(said[name], held[name]))
    changed["ts_to"] = case((or_(anew, grows), said.ts_to), else_=func.coalesce(said.ts_to, held.ts_to))
    for name in ("id_from", "id_to"):
        changed[name] = case((or_(anew, grows, ended), said[name]), else_=func.coalesce(said[name], held[name]))
    changed["detected_at"] = case((anew, said.detected_at), else_=func.min(held.detected_at, said.detected_at))
    stale = and_(held.state == "open", said.closed_at < held.detected_at, said.session.is_distinct_from(held.session))
    """The end of the gap before it, told again."""
    forward = and_(or_(held.state == "open", said.state != "open", anew), func.coalesce(stale, 0) == 0)
    return new.on_conflict_do_update(index_elements=["gap_id"], set_=changed, where=forward)


def upsert_quarantine(conn: Connection, rows: Sequence[QuarantineRow]) -> int:
    """Bytes set aside; telling it again keeps the time of the first."""
    if rows:
        conn.execute(_quarantine(), _values(schema.quarantine, rows))
    return len(rows)


@cache
def _quarantine() -> Insert:
    t = schema.quarantine
    new = insert(t)
    changed: dict[str, Any] = {name: new.excluded[name] for name in ("origin", "reason", "count", "bytes")}
    changed["at"] = func.min(t.c.at, new.excluded.at)
    return new.on_conflict_do_update(index_elements=["path"], set_=changed)


def upsert_bans(conn: Connection, rows: Sequence[BanRow]) -> int:
    """What a host asked for last."""
    if rows:
        conn.execute(_overwriting(schema.bans), _values(schema.bans, rows))
    return len(rows)


def upsert_checks(conn: Connection, rows: Sequence[CheckRow]) -> int:
    if rows:
        conn.execute(_overwriting(schema.checks), _values(schema.checks, rows))
    return len(rows)


def upsert_certificates(conn: Connection, rows: Sequence[CertificateRow]) -> int:
    t = schema.certified
    last = {(row.path, row.issued_at): row for row in rows}
    if not last:
        return 0
    replaced: set[int] = set()
    for paths in chunks({row.path for row in rows}):
        found = conn.execute(select(t.c.path, t.c.issued_at, t.c.input_set).where(t.c.path.in_(paths)))
        replaced |= {row[2] for row in found if (row[0], row[1]) in last and row[2] is not None}
    sets = input_sets.add(conn, [row.inputs for row in last.values()])
    told = zip(_values(t, last.values()), sets, strict=True)
    conn.execute(_overwriting(t), [value | {"input_set": number} for value, number in told])
    input_sets.forget(conn, replaced)
    return len(rows)


def set_cursors(conn: Connection, cursors: Mapping[str, int]) -> int:
    if not cursors:
        return 0
    conn.execute(_overwriting(schema.cursors), [{"name": name, "value": value} for name, value in cursors.items()])
    return len(cursors)


@cache
def _overwriting(table: Table) -> Insert:
    new = insert(table)
    keys = list(table.primary_key)
    changed = {c.name: new.excluded[c.name] for c in table.c if not c.primary_key}
    return new.on_conflict_do_update(index_elements=keys, set_=changed)


def check_expectation(conn: Connection, expect: Expectation) -> None:
    """Raises CommitConflict naming the first file or segment that is not as the committer believed."""
    f, s = schema.files, schema.segments
    live: dict[str, str] = {}
    for paths in chunks(expect.files):
        found = conn.execute(select(f.c.path, f.c.sha256).where(f.c.path.in_(paths), f.c.state == "live"))
        live |= {row[0]: row[1] for row in found}
    if len(live) != len(expect.files):
        gone = sorted(expect.files.keys() - live.keys())
        raise CommitConflict(f"expected {len(expect.files)} live files, found {len(live)}; not live: {gone[0]}")
    for path, sha256 in expect.files.items():
        if live[path] != sha256:
            raise CommitConflict(f"expected {path} with SHA-256 {sha256[:12]}, found {live[path][:12]}")
    states: dict[str, str] = {}
    for paths in chunks(expect.segments):
        found = conn.execute(select(s.c.path, s.c.state).where(s.c.path.in_(paths)))
        states |= {row[0]: row[1] for row in found}
    for path, state in expect.segments.items():
        if states.get(path) != state:
            raise CommitConflict(f"expected segment {path} to be {state}, found {states.get(path, 'no such segment')}")


def retire_files(conn: Connection, paths: Sequence[str], now: int) -> int:
    """Live files stop being live; raises CommitConflict where one is not."""
    t = schema.files
    for some in chunks(paths):
        where = (t.c.path.in_(some), t.c.state == "live")
        touched = conn.execute(update(t).where(*where).values(state="retired", retired_at=now)).rowcount
        if touched != len(set(some)):
            raise CommitConflict(f"expected {len(set(some))} live files to retire, found {touched}, among {some[0]}")
    return len(paths)


def add_files(conn: Connection, rows: Sequence[FileRow], now: int) -> int:
    """New live files with their lineage. One that is there with the same hash is done already (or live again);
    another hash under the same path raises CommitConflict.
    """
    t = schema.files
    held: dict[str, tuple[str, str]] = {}
    for paths in chunks(row.path for row in rows):
        found = conn.execute(select(t.c.path, t.c.sha256, t.c.state).where(t.c.path.in_(paths)))
        held |= {row[0]: (row[1], row[2]) for row in found}
    fresh = []
    again = []
    for row in rows:
        sha256, state = held.get(row.path, (None, None))
        if sha256 is None:
            fresh.append(row)
        elif sha256 != row.sha256:
            raise CommitConflict(f"expected no {row.path}, found one with SHA-256 {sha256[:12]}, not {row.sha256[:12]}")
        elif state != "live":
            again.append(row.path)
    if fresh:
        live = {"state": "live", "retired_at": None}
        conn.execute(
            insert(t), [value | live | {"created_at": value["created_at"] or now} for value in _values(t, fresh)]
        )
        input_sets.add_parents(conn, fresh)
    for paths in chunks(again):
        conn.execute(
            update(t).where(t.c.path.in_(paths)).values(state="live", retired_at=None, unlinked_at=None),
        )
    return len(fresh) + len(again)


def set_segment_states(conn: Connection, states: Mapping[str, SegmentState]) -> int:
    """Raises CommitConflict where a segment is not in the manifest."""
    for path, state in states.items():
        if conn.execute(_STATE, {"of": path, "state": state}).rowcount == 0:
            raise CommitConflict(f"expected segment {path}, found no such segment")
    return len(states)


_STATE = update(schema.segments).where(schema.segments.c.path == bindparam("of"))


def fail_segment(conn: Connection, path: str, error: str) -> int:
    """One more failure of this segment; returns how many there are now."""
    t = schema.segments
    statement = update(t).where(t.c.path == path).values(failures=t.c.failures + 1, error=error).returning(t.c.failures)
    failures = conn.execute(statement).scalar_one_or_none()
    if failures is None:
        raise CommitConflict(f"expected segment {path}, found no such segment")
    return int(failures)


def mark_unlinked(conn: Connection, paths: Sequence[str], now: int) -> int:
    """Retired files whose bytes are gone; live ones are left alone."""
    t = schema.files
    touched = 0
    for some in chunks(paths):
        gone = case((t.c.unlinked_at.is_(None), now), else_=t.c.unlinked_at)
        statement = update(t).where(t.c.path.in_(some), t.c.state == "retired").values(unlinked_at=gone)
        touched += conn.execute(statement).rowcount
    return touched


def forget_retired(conn: Connection, before: int) -> int:
    """Rows, lineage and checks of files that were retired and unlinked before `before` (us)."""
    f = schema.files
    old = select(f.c.path).where(f.c.state == "retired", f.c.retired_at < before, f.c.unlinked_at.is_not(None))
    input_sets.forget_parents(conn, old)
    conn.execute(delete(schema.checks).where(schema.checks.c.path.in_(old)))
    return conn.execute(delete(f).where(f.c.path.in_(old))).rowcount


def record_scrubs(conn: Connection, paths: Sequence[str], at: int) -> None:
    """When files were last read again; of what is gone meanwhile nothing is noted."""
    if paths:
        conn.execute(_SCRUBBED, [{"of": path, "to": at} for path in paths])


_SCRUBBED = update(schema.scrubs).where(schema.scrubs.c.path == bindparam("of")).values(at=bindparam("to"))
