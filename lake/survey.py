"""What lies in a lake's folders, held against what the ledger told: the other half of a rebuild.

A Parquet file that no entry names is taken in by its footer where the ledger has lost lines or where it is all that is
left of its parents; otherwise it is what a killed job left behind, and stays for the next start. A file gives way to
one of its own kind that names it as a parent, and to a later generation of the same day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.sql.elements import ColumnElement

from lake import feature_care, layout, parquet, schema, segment_files, tables
from lake.commits import Added, Commit
from lake.errors import LakeError
from lake.history import History
from lake.manifest_reads import BATCH, Snapshot
from lake.recovery import files_below
from lake.rows import FRAMES, FileRow, SegmentRow, SegmentState
from lake.verify import AGAIN, LOST, Finding
from market.errors import MarketError
from market.kinds import BARS
from market.times import SECOND

Report = Callable[[int, int, str], None]
Slot = tuple[str, str, str, str, str | None, int | None]


class Survey(msgspec.Struct):
    """What was found on the disk. Paths are relative to the lake's root."""

    files: int = 0
    bytes: int = 0
    findings: list[Finding] = []
    adopted: list[str] = []
    """Files that no entry of the ledger names, taken in by what their footers say."""
    left: list[str] = []
    """Files of jobs that did not come to their commit, for the next start to remove or to ask about."""
    sealed: list[SegmentRow] = []
    """Segments that no entry of the ledger names, taken in by the seal beside them."""
    opened: list[SegmentRow] = []
    """Segments that were being written, for the next start to seal."""
    lake_id: str = ""
    """Of the files that were taken in, where the ledger does not name one."""


class Candidate(msgspec.Struct):
    """A file that no entry names."""

    row: FileRow
    lake_id: str


def survey(root: Path, conn: Connection, history: History, now: int, *, thorough: bool, report: Report) -> Survey:
    """Hold the disk against the tables of `conn`, and tell `history` what only the disk knows.

    `thorough` hashes every file; else those that the ledger names are held against their size only. `now` us.
    """
    found = Survey()
    _segments(root, conn, found, now)
    history.record("seal", found.sealed)
    history.flush()
    candidates = _files(root, conn, found, thorough=thorough, report=report)
    known = history.start.lake_id if history.start is not None else ""
    found.lake_id = known or max((c.lake_id for c in candidates), default="")
    for foreign in [c for c in candidates if c.lake_id != found.lake_id]:
        problem = f"is of another lake ({foreign.lake_id or 'unnamed'})"
        found.findings.append(Finding("warning", foreign.row.path, problem, "move it away"))
        candidates.remove(foreign)
    _adopt(root, conn, history, candidates, found, now)
    of_features = list(files_below(root, layout.FEATURES))
    feature_care.survey(root, Snapshot(conn), history, found, of_features, now, thorough=thorough)
    for path, row in _missing(root, conn):
        hint = LOST if row == "day" else AGAIN
        found.findings.append(Finding("error", path, "is missing", hint))
    return found


# --- segments ---


def _segments(root: Path, conn: Connection, found: Survey, now: int) -> None:
    for paths in _some(files_below(root, layout.RAW, layout.FRAMES)):
        known = _known(conn, schema.segments, {path.removesuffix(layout.OPEN) for path in paths})
        for path in paths:
            sealed = path.removesuffix(layout.OPEN)
            if path.endswith(layout.META) or sealed in known or not _named(sealed):
                continue
            if path != sealed:
                found.opened.append(_open_row(conn, sealed))
                continue
            row = _sealed_row(root, path, found)
            if row is not None:
                found.sealed.append(msgspec.structs.replace(row, recorded_at=now))
    if found.opened:
        t = schema.segments
        conn.execute(insert(t), [{n: getattr(row, n) for n in row.__struct_fields__} for row in found.opened])


def _named(path: str) -> bool:
    try:
        _opened(path)
    except MarketError:
        return False
    return True


def _opened(path: str) -> layout.OpenedPath:
    return layout.parse_frames(path) if path.startswith(layout.FRAMES + "/") else layout.parse_raw(path)


def _sealed_row(root: Path, path: str, found: Survey) -> SegmentRow | None:
    try:
        row = segment_files.read_seal(root, path)
    except LakeError as error:
        found.findings.append(Finding("error", path, error.message, "the next start reads it line by line"))
        return None
    if row is not None and (root / path).stat().st_size != row.bytes:
        problem = f"has {(root / path).stat().st_size} bytes, its seal says {row.bytes}"
        found.findings.append(Finding("error", path, problem, "the next start looks at it"))
        return None
    return row


def _open_row(conn: Connection, path: str) -> SegmentRow:
    """The row of a file that was being written: it begins where the one before ends, in the second of its name."""
    named = _opened(path)
    t = schema.segments
    ends = select(t.c.period_end).where(
        t.c.exchange == named.exchange, t.c.market_type == named.market_type, t.c.kind == named.kind,
        t.c.period_end >= named.opened_at, t.c.period_end < named.opened_at + SECOND,
    )  # fmt: skip
    start = max(conn.execute(ends).scalars(), default=named.opened_at)
    kind = FRAMES if path.startswith(layout.FRAMES + "/") else named.kind
    return SegmentRow(
        path=path, exchange=named.exchange, market_type=named.market_type, kind=kind, state="open", period_start=start
    )


# --- files ---


def _files(root: Path, conn: Connection, found: Survey, *, thorough: bool, report: Report) -> list[Candidate]:
    """Every Parquet file, held against its row; those without a row, where they can be read."""
    candidates: list[Candidate] = []
    paths = list(files_below(root, layout.HOT, layout.VERSIONS))
    t = schema.files
    for some in _some(iter(paths)):
        known = {
            row.path: row
            for row in conn.execute(select(t.c.path, t.c.sha256, t.c.bytes, t.c.state).where(t.c.path.in_(some)))
        }
        for path in some:
            report(found.files, len(paths), path)
            found.files += 1
            found.bytes += (root / path).stat().st_size
            row = known.get(path)
            if row is None:
                candidate = _candidate(root, path, found)
                candidates += [candidate] if candidate is not None else []
            elif row.state == "live":
                _check(root, path, row.sha256, row.bytes, found, thorough=thorough)
    report(len(paths), len(paths), "")
    return candidates


def _check(root: Path, path: str, sha256: str, size: int, found: Survey, *, thorough: bool) -> None:
    held = (root / path).stat().st_size
    if held == size and (not thorough or segment_files.sha256_of(root / path) == sha256):
        return
    problem = f"has {held} bytes, {size} were published" if held != size else "is not what was published"
    hint = LOST if path.startswith(layout.VERSIONS + "/") else AGAIN
    found.findings.append(Finding("error", path, problem, hint))


def _candidate(root: Path, path: str, found: Survey) -> Candidate | None:
    try:
        named = layout.parse_parquet(path)
        sha256 = segment_files.sha256_of(root / path)
        footer = parquet.read_footer(root / path) if sha256[:8] == named.sha8 else None
    except (MarketError, LakeError) as error:
        problem = error.message.removeprefix(f"{root / path} ") if isinstance(error, LakeError) else str(error)
        found.findings.append(Finding("warning", path, problem, "no row names it: look at it, then move it away"))
        return None
    told = (named.exchange, named.market_type, named.kind, named.date, named.hour, named.generation)
    if footer is None or told != (
        footer.exchange, footer.market_type, footer.kind, footer.date, footer.hour, footer.revision
    ):  # fmt: skip
        hint = "no row names it: look at it, then move it away"
        found.findings.append(Finding("error", path, "is not what its name says", hint))
        return None
    return Candidate(_row(root, path, footer, sha256), footer.lake_id)


def _row(root: Path, path: str, footer: tables.Footer, sha256: str) -> FileRow:
    return Added(
        path=path, exchange=footer.exchange, market_type=footer.market_type, kind=footer.kind,
        level=footer.level,  # type: ignore[arg-type] # the check of the table refuses any other word
        symbol=footer.symbol, date=footer.date, hour=footer.hour, revision=footer.revision, rows=footer.rows,
        bytes=(root / path).stat().st_size, sha256=sha256, ts_min=footer.ts_min, ts_max=footer.ts_max,
        seq_min=footer.seq_min, seq_max=footer.seq_max, late=footer.late, schema_version=footer.schema_version,
        content_digest=footer.content_digest, parents=tuple(parent.path for parent in footer.parents),
    )  # fmt: skip


def _missing(root: Path, conn: Connection) -> Iterator[tuple[str, str]]:
    t = schema.files
    live = conn.execute(select(t.c.path, t.c.level).where(t.c.state == "live").order_by(t.c.path))
    for path, level in live:
        if not (root / path).is_file():
            yield path, level


# --- lineage ---


def _adopt(
    root: Path, conn: Connection, history: History, candidates: list[Candidate], found: Survey, now: int
) -> None:
    """Tell `history` of two commits: what is superseded already comes in first, then what is live takes its place."""
    rows = {c.row.path: c.row for c in candidates}
    for path, row in list(rows.items()):
        remade = bool(row.parents) and all((root / parent).is_file() for parent in row.parents)
        if (history.whole and remade) or _outrun(conn, row, rows):
            found.left.append(path)
            del rows[path]
    if not rows:
        _settle_loose(history, now, {})
        return
    old = _superseded(conn, rows)
    live = [row for path, row in rows.items() if path not in old]
    states: dict[str, SegmentState] = {
        parent: "transformed"
        for row in rows.values()
        for parent in row.parents
        if parent.startswith(layout.RAW + "/") and _state(conn, parent) in (None, "sealed")
    }
    gone = sorted(_giving_way(conn, live))
    if old:
        superseded = tuple(row for path, row in rows.items() if path in old)
        history.adopt(Commit(now=now, add=superseded))  # type: ignore[arg-type] # rows of candidates are Added
    history.adopt(Commit(now=now, remove=(*sorted(old), *gone), add=tuple(live)))  # type: ignore[arg-type] # as above
    found.adopted += sorted(rows)
    _settle_loose(history, now, states)


def _settle_loose(history: History, now: int, states: dict[str, SegmentState]) -> None:
    """States that commits gave to segments whose seal was only found on the disk."""
    wanted = {**states, **history.loose}
    history.loose.clear()
    if wanted:
        history.adopt(Commit(now=now, segments=wanted))
        history.loose.clear()


def _outrun(conn: Connection, row: FileRow, rows: dict[str, FileRow]) -> bool:
    """Whether another hot file was made of this one's parts, and committed: this one is of a job that came too late."""
    if row.level == "day":
        return False
    t, edges = schema.files, schema.lineage
    for some in _some(p for p in row.parents if p.startswith(layout.HOT + "/") and p not in rows):
        others = (
            select(t.c.path)
            .join(edges, edges.c.child == t.c.path)
            .where(edges.c.parent.in_(some), *_of_day(t, row), t.c.level != "day", t.c.path != row.path)
        )
        if conn.execute(others).first() is not None:
            return True
    return False


def _superseded(conn: Connection, rows: dict[str, FileRow]) -> set[str]:
    """Paths of `rows` that something of their own kind has taken the place of."""
    old: set[str] = set()
    t, edges = schema.files, schema.lineage
    newest: dict[Slot, FileRow] = {}
    closed = {(r.exchange, r.market_type, r.kind, r.date) for r in rows.values() if r.level == "day"}
    for row in rows.values():
        old |= {p for p in row.parents if p in rows and _same_day(rows[p], row)}
        held = newest.get(_slot(row))
        if held is None or _generation(held) < _generation(row):
            newest[_slot(row)] = row
    for path, row in rows.items():
        children = select(t.c.path).join(edges, edges.c.child == t.c.path)
        if conn.execute(children.where(edges.c.parent == path, *_of_day(t, row))).first() is not None:
            old.add(path)
        elif row.level == "day":
            later = (t.c.symbol.is_not_distinct_from(row.symbol), t.c.hour.is_not_distinct_from(row.hour))
            live = select(t.c.path).where(*_of_day(t, row), *later, t.c.level == "day", t.c.state == "live")
            if newest[_slot(row)] is not row or conn.execute(live.where(t.c.revision > row.revision)).first():
                old.add(path)
        elif row.kind in BARS and (
            (row.exchange, row.market_type, row.kind, row.date) in closed
            or newest[_slot(row)].level != row.level
            or (row.level == "hour" and newest[_slot(row)] is not row)
            or _bars_taken(conn, row)
        ):
            old.add(path)
    return old


def _bars_taken(conn: Connection, row: FileRow) -> bool:
    """Whether the day, or the hour by another file, is told already: bars name trades as parents, not older bars."""
    t = schema.files
    live = select(t.c.path).where(*_of_day(t, row), t.c.state == "live")
    day = conn.execute(live.where(t.c.level == "day")).first()
    hour = conn.execute(live.where(t.c.level == "hour", t.c.hour == row.hour, t.c.revision >= row.revision)).first()
    return day is not None or hour is not None


def _giving_way(conn: Connection, live: Iterable[FileRow]) -> set[str]:
    """Live files of the ledger that these take the place of."""
    gone: set[str] = set()
    t = schema.files
    for row in live:
        mine = select(t.c.path).where(*_of_day(t, row), t.c.state == "live")
        for some in _some(iter(row.parents)):
            gone |= set(conn.execute(mine.where(t.c.path.in_(some))).scalars())
        if row.level == "day":
            slot = (t.c.symbol.is_not_distinct_from(row.symbol), t.c.hour.is_not_distinct_from(row.hour))
            gone |= set(conn.execute(mine.where(*slot, t.c.level == "day")).scalars())
            if row.kind in BARS:
                gone |= set(conn.execute(mine.where(t.c.level != "day")).scalars())
        elif row.kind in BARS and row.level == "hour":
            gone |= set(conn.execute(mine.where(t.c.hour == row.hour, t.c.level != "day")).scalars())
    return gone


def _of_day(t: Table, row: FileRow) -> list[ColumnElement[bool]]:
    """Files of the same stream and date: a book's day names the day before as a parent, and takes no place of it."""
    return [t.c[name] == getattr(row, name) for name in ("exchange", "market_type", "kind", "date")]


def _same_day(a: FileRow, b: FileRow) -> bool:
    return _slot(a)[:4] == _slot(b)[:4]


def _slot(row: FileRow) -> Slot:
    return row.exchange, row.market_type, row.kind, row.date, row.symbol, row.hour


def _generation(row: FileRow) -> tuple[bool, int, str]:
    return row.level != "part", row.revision, row.path


def _state(conn: Connection, path: str) -> str | None:
    t = schema.segments
    return conn.execute(select(t.c.state).where(t.c.path == path)).scalar_one_or_none()


def _known(conn: Connection, t: Table, paths: Iterable[str]) -> set[str]:
    return set(conn.execute(select(t.c.path).where(t.c.path.in_(list(paths)))).scalars())


def _some(paths: Iterable[str]) -> Iterator[list[str]]:
    held = iter(paths)
    while some := list(islice(held, BATCH)):
        yield some
