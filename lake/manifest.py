"""The manifest: what is on disk, what it came from, what was covered and what is missing (SQLite).

One process holds the lake's lock and with it the only read-write connection; everybody reads through `mode=ro`.
`commit` is the one place where files become live: one transaction that checks the writer's epoch and what the
committer believed, retires, adds, moves segments and cursors, or changes nothing at all.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, bindparam, select, text, union, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from lake import feature_table, job_writes, migrations, schema
from lake import manifest_writes as writes
from lake.commits import Newest
from lake.errors import CommitConflict, CorruptManifest, Fenced, LakeError, LakeMismatch, LostManifest, NotALake
from lake.feature_rows import FeatureRow
from lake.job_reads import JobReads
from lake.jobs import JobChange
from lake.layout import MANIFEST
from lake.manifest_reads import FileReads, HoleReads, SegmentReads, Snapshot, StateReads
from lake.manifest_source import ReadSource, check_library, damaged, explain, keep_wal, write_engine
from lake.rows import (
    FRAMES,
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
from market.kinds import KINDS
from market.session import Coverage, Gap

T = TypeVar("T")


class Manifest(SegmentReads, FileReads, HoleReads, StateReads, JobReads):
    """One open manifest. Safe to share between threads: writes follow each other, reads never wait for them."""

    def __init__(self, root: Path, engine: Engine | None, epoch: int) -> None:
        """Use `create_or_open` or `read_only`."""
        self.root = root
        self.epoch = epoch
        self._engine = engine
        self._lock = threading.RLock()
        self._closed = False
        self._source = ReadSource(root / MANIFEST, pooled=engine is not None)

    @classmethod
    def create_or_open(
        cls, root: Path, *, now: int, simulated: bool | None = None, create: bool = True, reached: Newest | None = None
    ) -> Manifest:
        """The read-write manifest with a new epoch, which fences every writer before it. Hold the lake's lock.

        `root` must exist; `simulated` None takes the lake as it is; `now` us; `reached` is how far the ledger says that
        the manifest has come. Raises NotALake (with create=False), LakeMismatch (simulated against real),
        UnknownVersion, CorruptFile (damaged, or older than the ledger), ManifestBusy.
        """
        path = root / MANIFEST
        if not create and not path.exists():
            raise NotALake(f"{root} is no lake: it has no {MANIFEST}", "check the path")
        check_library()
        engine = write_engine(path)
        try:
            with engine.begin() as conn:
                migrations.check_version(migrations.found_version(conn))
                _quick_check(conn)
                if reached is not None:
                    _as_far(conn, reached)
                migrations.migrate(conn, secrets.token_hex(8), bool(simulated), now)
                _known_columns(conn)
                _known_kinds(conn)
                if simulated is not None:
                    _same_world(conn, root, simulated)
                epoch = conn.execute(text("UPDATE meta SET epoch = epoch + 1 RETURNING epoch")).scalar_one()
            keep_wal(engine)
        except UnicodeDecodeError as error:  # what SQLite wanted to say of it is damaged as well
            engine.dispose()
            raise damaged(str(error)) from error
        except DatabaseError as error:
            engine.dispose()
            if "no such" in str(error.orig):  # the application id is ours, and what we made is not there
                raise damaged(str(error.orig)) from error
            raise explain(error, path) from error
        except LakeError:
            engine.dispose()
            raise
        return cls(root, engine, int(epoch))

    @classmethod
    def read_only(cls, root: Path) -> Manifest:
        """A manifest that only answers. Raises NotALake, UnknownVersion, CorruptFile, ManifestBusy."""
        path = root / MANIFEST
        if not os.path.isfile(path):  # noqa: PTH113 # a Path raises where the name is too long
            raise NotALake(f"{root} is no lake: it has no {MANIFEST}", "check the path")
        manifest = cls(root, None, 0)
        try:
            manifest.run(lambda conn: migrations.check_version(migrations.found_version(conn)))
        except LakeError:
            manifest.close()
            raise
        return manifest

    def close(self) -> None:
        """Readers first, so that the writer's close can fold the write-ahead log into the file. Whoever still writes
        then, a thread that nobody waits for, is refused as one that was fenced.
        """
        self._source.close()
        if self._engine is not None:
            with self._lock:
                self._closed = True
                self._engine.dispose()

    def run(self, read: Callable[[Connection], T]) -> T:
        return self._source.run(read)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """All answers from one read transaction. On read-only media ManifestBusy at its end means: ask again."""
        with self._source.transaction() as conn:
            yield Snapshot(conn)

    def commit(
        self,
        *,
        add: Sequence[FileRow] = (),
        remove: Sequence[str] = (),
        expect: Expectation | None = None,
        segments: Mapping[str, SegmentState] | None = None,
        cursors: Mapping[str, int] | None = None,
        certificates: Sequence[CertificateRow] = (),
        checks: Sequence[CheckRow] = (),
        quarantine: Sequence[QuarantineRow] = (),
        gaps: Sequence[Gap] = (),
        features: Sequence[FeatureRow] = (),
        now: int,
    ) -> int:
        """Everything or nothing; returns the manifest's version after it.

        Raises Fenced (another writer took the lake), CommitConflict (what was believed is not so: plan again).
        """
        with self._transaction() as conn:
            if expect is not None:
                writes.check_expectation(conn, expect)
            touched = writes.retire_files(conn, remove, now)
            touched += writes.add_files(conn, add, now)
            touched += writes.set_segment_states(conn, segments or {})
            touched += writes.set_cursors(conn, cursors or {})
            touched += writes.upsert_certificates(conn, certificates)
            touched += writes.upsert_checks(conn, checks)
            touched += writes.upsert_quarantine(conn, quarantine)
            touched += writes.upsert_gaps(conn, gaps)
            feature_table.check(conn, features)
            touched += feature_table.upsert(conn, features)
            return _bump(conn, touched)

    def record(
        self,
        *,
        segments: Sequence[SegmentRow] = (),
        sessions: Sequence[SessionRow] = (),
        coverage: Sequence[Coverage] = (),
        gaps: Sequence[Gap] = (),
        quarantine: Sequence[QuarantineRow] = (),
        bans: Sequence[BanRow] = (),
        jobs: Sequence[JobChange] = (),
    ) -> int:
        """Reports of what happened, in one transaction, idempotent by key. Raises Fenced."""
        with self._transaction() as conn:
            touched = writes.upsert_segments(conn, segments)
            touched += writes.upsert_sessions(conn, sessions)
            touched += writes.upsert_coverage(conn, coverage)
            touched += writes.upsert_gaps(conn, gaps)
            touched += writes.upsert_quarantine(conn, quarantine)
            touched += writes.upsert_bans(conn, bans)
            touched += job_writes.write(conn, jobs)
            return _bump(conn, touched)

    def upsert_segments(self, rows: Sequence[SegmentRow]) -> int:
        return self.record(segments=rows)

    def upsert_sessions(self, rows: Sequence[SessionRow]) -> int:
        return self.record(sessions=rows)

    def upsert_coverage(self, rows: Sequence[Coverage]) -> int:
        return self.record(coverage=rows)

    def upsert_gaps(self, rows: Sequence[Gap]) -> int:
        return self.record(gaps=rows)

    def fail_segment(self, path: str, error: str) -> int:
        """Write down one more failed attempt at this segment; returns how many there are now."""
        with self._transaction() as conn:
            failures = writes.fail_segment(conn, path, error)
            _bump(conn, 1)
            return failures

    def mark_unlinked(self, paths: Sequence[str], now: int) -> None:
        """The bytes of these retired files are gone; `retired` names them no more."""
        with self._transaction() as conn:
            _bump(conn, writes.mark_unlinked(conn, paths, now))

    def forget_retired(self, before: int) -> int:
        """Drop rows of files retired before `before` (us) and unlinked; returns how many."""
        with self._transaction() as conn:
            touched = writes.forget_retired(conn, before)
            _bump(conn, touched)
            return touched

    def record_scrubs(self, paths: Sequence[str], at: int) -> None:
        """These files were read again at `at` (us) and are whole. Changes nothing that anybody plans with, so the
        version stays; the ledger does not tell it either. Raises Fenced.
        """
        with self._transaction() as conn:
            writes.record_scrubs(conn, paths, at)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._engine is None:
            raise LakeError("this manifest is open for reading only", "write through lake.writer.LakeWriter")
        with self._lock:
            if self._closed:
                raise Fenced("this manifest was closed", "open the lake again")
            try:
                with self._engine.begin() as conn:
                    found = conn.execute(_EPOCH).scalar_one()
                    if found != self.epoch:
                        raise Fenced(
                            f"this writer has epoch {self.epoch}, the lake is at {found}",
                            "another took it over",
                        )
                    yield conn
            except IntegrityError as error:
                raise CommitConflict(f"expected one live day file a symbol: {error.orig}") from error
            except DatabaseError as error:
                raise explain(error) from error


_EPOCH = text("SELECT epoch FROM meta")
_BUMP = update(schema.meta).values(version=schema.meta.c.version + bindparam("by")).returning(schema.meta.c.version)


def _bump(conn: Connection, touched: int) -> int:
    return int(conn.execute(_BUMP, {"by": 1 if touched else 0}).scalar_one())


def _quick_check(conn: Connection) -> None:
    said = conn.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if said != "ok":
        raise damaged(str(said))


_COLUMNS = text(
    "SELECT t.name, c.name FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
)
_WANTED = {table.name: {column.name for column in table.columns} for table in schema.METADATA.tables.values()}


def _known_columns(conn: Connection) -> None:
    """One flipped bit makes another name of a column, which is no damage to SQLite."""
    held: dict[str, set[str]] = {}
    for table, column in conn.execute(_COLUMNS):
        held.setdefault(table.lower(), set()).add(column.lower())
    for name, columns in _WANTED.items():
        lost = columns - held.get(name, columns)
        if lost:
            raise damaged(f"no such column: {name}.{min(lost)}")


def _known_kinds(conn: Connection) -> None:
    """One flipped bit makes another word of a kind, which SQLite cannot see and nobody could go by."""
    named = union(select(schema.segments.c.kind), select(schema.files.c.kind))
    unknown = {str(name) for name in conn.execute(named).scalars()} - KINDS.keys() - {FRAMES}
    if unknown:
        raise damaged(f"there is no kind {min(unknown)!r}")


def _as_far(conn: Connection, reached: Newest) -> None:
    """An older copy that was put back does not know what was published since."""
    if migrations.found_version(conn) == 0:
        if reached.epoch:
            raise LostManifest(f"{MANIFEST} is empty, and the ledger is not", "run: dl rebuild")
        return
    epoch, version = conn.execute(text("SELECT epoch, version FROM meta")).one()
    if epoch < reached.epoch or version < reached.version:
        raise CorruptManifest(
            f"manifest.db is older than the ledger: it is at version {version} of writer {epoch}, the ledger at"
            f" {reached.version} of {reached.epoch}",
            "was a copy put back? run: dl rebuild",
        )


def _same_world(conn: Connection, root: Path, simulated: bool) -> None:
    found = bool(conn.execute(text("SELECT simulated FROM meta")).scalar_one())
    if found != simulated:
        said = ("simulated", "real") if found else ("real", "simulated")
        raise LakeMismatch(f"{root} holds {said[0]} data, this run would add {said[1]} data", "use another folder")
