"""Copies of manifest.db, made by SQLite while it is in use: backups/manifest-<date>-<time>-<us>.db.

A copy has its name only once it was checked and made durable. It is one file, without a log beside it, and holds the
manifest as it was at one moment. What it is for: `lake.rebuild` begins with one where the ledger has lost lines, and
raw data go only when a copy knows what was made of them.
The manifest itself is opened through SQLite alone, as everywhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from lake import durable, layout
from lake.errors import CorruptManifest, ManifestBusy, NotALake
from lake.manifest_reads import chunks
from lake.manifest_source import BUSY_MS, explain
from lake.migrations import APPLICATION_ID
from market import times
from market.errors import Malformed

RUN = "backup"
_LOGS = ("", "-wal", "-shm", "-journal")


class Backup(msgspec.Struct, frozen=True):
    """One copy: its path in the lake, when it was begun (us), its bytes."""

    path: str
    at: int
    bytes: int


class State(msgspec.Struct, frozen=True):
    """What a copy says of the manifest that it was."""

    lake_id: str
    simulated: bool
    created_at: int
    epoch: int
    version: int


def make(root: Path, now: int, *, full: bool = False) -> Backup:
    """Copy the manifest of the lake at `root`, check the copy (`full`: integrity_check, else quick_check), keep it.

    Never waits for the writer nor holds it up: a read transaction on a log that grows meanwhile. Blocks: call it in a
    thread. Raises CorruptManifest (what was copied is damaged), ManifestBusy, NotALake, StorageFailed.
    """
    if not (root / layout.MANIFEST).is_file():
        raise NotALake(f"{root} has no {layout.MANIFEST}", "check the path")
    at = now
    while (root / layout.backup_path(at)).exists():
        at += 1
    place = root / layout.backup_path(at)
    durable.make_dirs(place.parent)
    temp = durable.temp_path(place, RUN)
    try:
        copy(root / layout.MANIFEST, temp)
        wrong = problem(temp, full=full)
        if wrong:
            hint = "stop the daemon and run: dl rebuild; segments, tables and ledger are untouched"
            raise CorruptManifest(f"a copy of {layout.MANIFEST} is damaged: {wrong}", hint)
        durable.fsync_file(temp)
        durable.rename(temp, place)
    finally:
        for suffix in _LOGS:
            durable.unlink(temp.with_name(temp.name + suffix))
    return Backup(layout.backup_path(at), at, place.stat().st_size)


def copy(source: Path, target: Path) -> None:
    """Make `target` the database that `source` is, by SQLite. Raises ManifestBusy, CorruptManifest, StorageFailed."""
    try:
        with closing(_open(source, "mode=ro")) as here, closing(sqlite3.connect(target, isolation_level=None)) as there:
            there.execute("PRAGMA synchronous = OFF")  # made durable as a whole, or thrown away
            here.backup(there, progress=_not_for_ever)
            there.execute("PRAGMA journal_mode = DELETE")  # it was WAL: one file, that needs no log to be read
    except sqlite3.Error as error:
        raise explain(error) from error


def _not_for_ever(status: int, _remaining: int, _total: int) -> None:
    """Python tries a busy database again without end: SQLite's own patience (the timeout) has to be enough."""
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise ManifestBusy(f"{layout.MANIFEST}: database is locked", "another program holds it; try again")


def problem(place: Path, *, full: bool = False) -> str:
    """What is wrong with a copy; empty where nothing is."""
    try:
        with closing(_open(place, "mode=ro&immutable=1")) as conn:
            if conn.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return "it is no manifest"
            said = str(conn.execute(f"PRAGMA {'integrity' if full else 'quick'}_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if said == "ok" else said


def backups(root: Path) -> list[Backup]:
    """Every copy there is, the newest first; files with other names are left alone."""
    found = []
    for place in (root / layout.BACKUPS).glob("manifest-*.db"):
        path = f"{layout.BACKUPS}/{place.name}"
        try:
            found.append(Backup(path, layout.parse_backup(path), place.stat().st_size))
        except (Malformed, FileNotFoundError):
            continue
    return sorted(found, key=lambda one: one.at, reverse=True)


def state_of(place: Path) -> State | None:
    """What a copy says of itself; None where it is damaged, or of another program."""
    if problem(place):
        return None
    with closing(_open(place, "mode=ro&immutable=1")) as conn:
        row = conn.execute("SELECT lake_id, simulated, created_at, epoch, version FROM meta").fetchone()
    return State(str(row[0]), bool(row[1]), int(row[2]), int(row[3]), int(row[4]))


def best(root: Path) -> tuple[Backup, State] | None:
    """The copy that is whole and knows most: by the manifest's own version, since clocks are set back."""
    found = [(one, state) for one in backups(root) if (state := state_of(root / one.path)) is not None]
    return max(found, key=lambda pair: (pair[1].version, pair[0].at), default=None)


def knows(place: Path, files: Mapping[str, str]) -> bool:
    """Whether a copy is whole and says of every one of these files (path -> SHA-256) that it is live."""
    return live(place, files) == dict(files)


def live(place: Path, paths: Iterable[str]) -> dict[str, str] | None:
    """Those of these files that a copy says are live, with their SHA-256; None where it is not whole."""
    if problem(place):
        return None
    held: dict[str, str] = {}
    with closing(_open(place, "mode=ro&immutable=1")) as conn:
        for some in chunks(paths):
            marks = ",".join("?" * len(some))
            wanted = f"SELECT path, sha256 FROM files WHERE state = 'live' AND path IN ({marks})"  # noqa: S608 - marks
            held.update(conn.execute(wanted, some).fetchall())
    return held


def knows_more(place: Path, other: Path) -> bool:
    """Whether a copy that is whole has a report that the manifest at `other` has not: those are never taken back."""
    reports = {
        "sessions": ("session",),
        "gaps": ("gap_id",),
        "certificates": ("path", "issued_at"),
        "quarantine": ("path",),
        "coverage": ("exchange", "market_type", "kind", "symbol", "session", "ts_from"),
    }
    with closing(_open(other, "mode=ro")) as conn:
        conn.execute("ATTACH DATABASE ? AS copy", (f"{place.absolute().as_uri()}?mode=ro&immutable=1",))
        for table, keys in reports.items():
            key = ", ".join(keys)
            more = f"SELECT 1 FROM copy.{table} WHERE ({key}) NOT IN (SELECT {key} FROM main.{table}) LIMIT 1"  # noqa: S608 - ours
            if conn.execute(more).fetchone() is not None:
                return True
    return False


def expendable(kept: Iterable[int], hourly: int, daily: int) -> list[int]:
    """Times (us) of the copies that need not be kept: all but the newest of each of the `hourly` newest hours, and of
    the `daily` newest days, that have one. The newest of all always stays. Pure.
    """
    newest_first = sorted(set(kept), reverse=True)
    needed = set(newest_first[:1])
    for grain, count in ((times.HOUR, hourly), (times.DAY, daily)):
        last: dict[int, int] = {}
        for at in newest_first:
            last.setdefault(times.floor_to(at, grain), at)
        needed.update(list(last.values())[:count])
    return [at for at in newest_first if at not in needed]


def prune(root: Path, hourly: int, daily: int) -> int:
    """Remove the copies that need not be kept; how many. Raises StorageFailed."""
    held: Sequence[Backup] = backups(root)
    gone = set(expendable((one.at for one in held), hourly, daily))
    removed = sum(durable.unlink(root / one.path) for one in held if one.at in gone)
    if removed:
        durable.fsync_dir(root / layout.BACKUPS)
    return removed


def sqlite_version() -> str:
    """Of the library that this process uses."""
    return sqlite3.sqlite_version


def _open(place: Path, how: str) -> sqlite3.Connection:
    uri = f"{place.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None)
