"""Connections to manifest.db: the one read-write connection, and readers that can write nothing.

A reader opens `mode=ro`. Only where that fails because the folder is not writable and no -wal exists (a lake on
read-only media) it opens `immutable=1`, for one snapshot at a time, whose answer is kept only if afterwards there is
still no -wal and the file's size and mtime are unchanged.
The file is opened by SQLite alone: closing it through any other handle would drop SQLite's locks.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool, StaticPool

from lake.errors import CorruptManifest, ManifestBusy, NotALake, StorageFailed, UnknownVersion
from lake.refused import PERMIT, SHUT

BUSY_MS = 5_000
ATTEMPTS = 5
OLDEST = (3, 35, 0)
"""The first SQLite with everything that the manifest's statements use (RETURNING came last)."""
JSON = "SELECT json_group_object('path', 'sha256') FROM json_each('[1]')"
"""Sets of inputs are read as JSON; SQLite before 3.38 may have been built without it."""
_ANY = text("SELECT one FROM meta")
T = TypeVar("T")


def write_engine(path: Path) -> Engine:
    """The read-write engine: one connection, synchronous=FULL, every transaction BEGIN IMMEDIATE.

    The file is turned to WAL by `keep_wal`, once it is known to be a manifest: WAL stays with the file.
    """

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA foreign_keys = ON")
        return raw

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=StaticPool)
    _waits_when_busy(engine)

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def keep_wal(engine: Engine) -> None:
    """Write-ahead logging, so that readers never wait for the writer nor it for them."""
    _pragma(engine, "journal_mode = WAL")


def without_syncs(engine: Engine) -> None:
    """For a new database that nobody knows yet: killed, it is thrown away, and it is made durable as a whole."""
    _pragma(engine, "journal_mode = MEMORY", "synchronous = OFF")


def _pragma(engine: Engine, *settings: str) -> None:
    with engine.connect() as conn:
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        for setting in settings:
            raw.execute(f"PRAGMA {setting}").fetchone()


def _read_engine(path: Path, *, immutable: bool, pooled: bool = False) -> Engine:
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)

    if pooled:
        engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_size=4, max_overflow=28)
    else:
        engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)
    _waits_when_busy(engine)

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("BEGIN")  # deferred: it touches no file, so that nothing of it can fail and need be explained

    return engine


def _waits_when_busy(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(raw: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        raw.execute(f"PRAGMA busy_timeout = {BUSY_MS}")


def check_library(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Raises UnknownVersion where SQLite is too old for a manifest, or was built without JSON."""
    held, needed = (".".join(map(str, one)) for one in (version, OLDEST))
    if version < OLDEST:
        raise UnknownVersion(f"SQLite {held} is too old: the manifest needs {needed}", "update Python, or its SQLite")
    with closing(sqlite3.connect(":memory:")) as conn:
        try:
            conn.execute(JSON)
        except sqlite3.OperationalError as error:
            raise UnknownVersion(f"SQLite {held} was built without JSON", "update Python, or its SQLite") from error


def one_writer_only(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite may damage a WAL database that several connections write (fixed in 3.51.3, 3.50.7, 3.44.6).

    No manifest is written by several: the lake's lock and the pool of one connection see to that, and readers open
    `mode=ro`, which never checkpoints.
    """
    return version < (3, 51, 3) and not (3, 50, 7) <= version < (3, 51) and not (3, 44, 6) <= version < (3, 45)


_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
"""By what SQLite says first: the least byte of its code."""


def explain(error: DatabaseError | sqlite3.Error, path: Path | None = None) -> Exception:
    """What an SQLite error of the manifest at `path` means for whoever asked: busy, damaged, storage, or itself."""
    own = error.orig if isinstance(error, DatabaseError) else error
    said = str(own).replace("Could not", "could not")
    if "locked" in said or "busy" in said:
        return ManifestBusy(f"manifest.db: {said}", "another program holds it; try again")
    if any(word in said for word in ("malformed", "not a database", "could not decode", "no such column")):
        return damaged(said)
    if any(word in said for word in ("disk", "full", "readonly", "I/O", "unable to open")):
        number = _ERRNO.get(getattr(own, "sqlite_errorcode", 0) & 0xFF)
        # too many open files look the same to SQLite
        denied = number in SHUT and path is not None and not os.access(path, os.R_OK | os.W_OK)
        hint = PERMIT if denied else "free space, or check the disk and its permissions"
        failed = StorageFailed(f"{path or 'manifest.db'}: {said}", hint)
        failed.errno = number
        return failed
    if getattr(own, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:  # our statements do not vary: the schema in it does
        return damaged(said)
    return error


def damaged(said: str) -> CorruptManifest:
    """The manifest is not what SQLite wrote."""
    hint = "run: dl rebuild; segments, tables and ledger are untouched"
    return CorruptManifest(f"manifest.db is damaged: {said}", hint)


class ReadSource:
    """Read transactions on a manifest that somebody else may be writing.

    `pooled` keeps connections open between them, for a process that asks all the time and closes at its end.
    """

    def __init__(self, path: Path, *, pooled: bool = False) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._engine = _read_engine(path, immutable=False, pooled=pooled)
        self._frozen: Engine | None = None
        self._proven = False

    def close(self) -> None:
        self._engine.dispose()
        if self._frozen is not None:
            self._frozen.dispose()

    @contextmanager
    def transaction(self, *, pinned: bool = True) -> Iterator[Connection]:
        """One read transaction: of now, or, where it need not be `pinned`, of its first statement. Raises ManifestBusy
        at its end where the answer cannot be trusted.
        """
        try:
            if self._frozen is None:
                with self._engine.connect() as conn:
                    if self._proven or self._usable(conn):
                        with conn.begin():
                            if pinned:  # BEGIN is deferred: the snapshot is taken by the first statement that reads
                                conn.execute(_ANY).first()
                            yield conn
                        return
            with self._immutable() as conn:
                yield conn
        except DatabaseError as error:
            raise explain(error, self._path) from error
        except UnicodeDecodeError as error:  # what SQLite wanted to say of it is damaged as well
            raise damaged(str(error)) from error

    def run(self, read: Callable[[Connection], T]) -> T:
        """`read` in one transaction, again where a writer appeared under an immutable one."""
        for _ in range(ATTEMPTS - 1):
            with suppress(ManifestBusy), self.transaction(pinned=False) as conn:
                return read(conn)
        with self.transaction(pinned=False) as conn:
            return read(conn)

    def _usable(self, conn: Connection) -> bool:
        """Whether the plain read-only connection works here. Raises NotALake, StorageFailed, ManifestBusy."""
        try:
            with conn.begin():
                conn.execute(_ANY).first()
        except OperationalError as error:
            said = str(error.orig)
            if "no such table" in said:
                raise NotALake(f"{self._path} has no manifest in it", "was it made by this program?") from error
            cannot = "unable to open" in said or "readonly" in said
            if not cannot or self._wal.exists() or os.access(self._path.parent, os.W_OK):
                raise explain(error, self._path) from error
            self._frozen = _read_engine(self._path, immutable=True)
            return False
        self._proven = True
        return True

    @contextmanager
    def _immutable(self) -> Iterator[Connection]:
        before = self._mark()
        if before is None:  # a writer came: the ordinary way works again, or says why not
            self._thaw()
            raise ManifestBusy("manifest.db is being written", "try again")
        assert self._frozen is not None
        with self._frozen.connect() as conn, conn.begin():
            yield conn
        if self._mark() != before:
            self._thaw()
            raise ManifestBusy("manifest.db was written while it was read as immutable", "try again")

    def _mark(self) -> tuple[int, int] | None:
        stat = self._path.stat()
        return None if self._wal.exists() else (stat.st_size, stat.st_mtime_ns)

    def _thaw(self) -> None:
        frozen, self._frozen = self._frozen, None
        if frozen is not None:  # another reader may have found it out first
            frozen.dispose()
