"""`dl rebuild`: manifest.db made anew from the ledger, the footers of the Parquet files and the seals of the segments.

The new one is made beside the old one, which is then moved to quarantine/, never removed. Whatever only the disk knew
is written to the ledger first. Dying in the middle leaves the old manifest, or none: doing it again finishes it.
"""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path

import msgspec
from sqlalchemy import Connection, text

from lake import backup, durable, layout, links, migrations
from lake.commits import Start
from lake.errors import CorruptManifest, LakeError, NotALake, UnknownVersion
from lake.history import History, lines_of
from lake.ledger import Ledger, read_ledger
from lake.lock import LakeLock
from lake.manifest import Manifest
from lake.manifest_compare import Difference, compare
from lake.manifest_reads import Snapshot
from lake.manifest_source import without_syncs, write_engine
from lake.manifest_stats import Stats
from lake.survey import Report, Survey, survey
from lake.verify import Finding
from market import times

RUN = "rebuild"
_LOGS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""


class Rebuilt(msgspec.Struct, kw_only=True):
    """What a rebuild found and made. Paths are relative to the lake's root."""

    lake_id: str
    simulated: bool
    epoch: int
    version: int
    entries: int
    """Entries of the ledger."""
    whole: bool
    """Whether the ledger has every entry since the lake was made, as far as it can tell."""
    damaged_lines: list[str]
    contradictions: list[str]
    """What the ledger says twice and differently, or of things it does not tell: each in words, at most a thousand."""
    parquet_files: int
    parquet_bytes: int
    live: int
    retired: int
    stats: Stats
    adopted: list[str]
    left: list[str]
    sealed: list[str]
    opened: list[str]
    findings: list[Finding]
    taken_back: bool
    """Whether the ledger's last commit had not come to its end, and its files are not there."""
    base: str = ""
    """The copy of the manifest that it began with, because the ledger has lost lines."""
    moved: list[str] = []
    """Where the old manifest is now."""
    differences: list[Difference] | None = None
    """Against the present manifest, for a dry run; None where there is none that can be read."""
    unreadable: str = ""
    """Why the present manifest cannot be compared with."""
    links: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything that the lake should have was found, and is as it should be."""
        return not (self.contradictions or self.differences or self.unreadable) and not any(
            finding.severity == "error" for finding in self.findings
        )

    @property
    def summary(self) -> str:
        """One line for a person."""
        wrong = sum(finding.severity == "error" for finding in self.findings) + len(self.contradictions)
        said = f"{self.live:,} live files from {self.entries:,} entries of the ledger"
        said += f" ({len(self.damaged_lines):,} damaged)" if self.damaged_lines else ""
        said += f", {len(self.adopted):,} files and {len(self.sealed):,} segments from the disk alone"
        said += f"; {wrong:,} problems: dl verify names them" if wrong else ""
        said += f"; the ledger has lost lines, so it began with {self.base}" if self.base else ""
        return said + (f"; the old manifest is {self.moved[0]}" if self.moved else "")


def silent(_done: int, _total: int, _what: str) -> None:
    """Tells nobody."""


def rebuild(
    root: Path, node: str, now: int, *, dry_run: bool = False, thorough: bool = True, report: Report = silent
) -> Rebuilt:
    """Make the manifest of the lake at `root` anew, or with `dry_run` only say what would be different.

    `thorough` hashes every Parquet file; without it those that the ledger names are held against their size. `now` us;
    `report(done, total, what)`. Raises LakeLocked, NotALake, UnknownVersion, StorageFailed; the manifest that was
    there is untouched then.
    """
    _check_place(root)
    with LakeLock.acquire(root):
        return rebuild_held(root, node, now, dry_run=dry_run, thorough=thorough, report=report)


def rebuild_held(
    root: Path, node: str, now: int, *, dry_run: bool = False, thorough: bool = True, report: Report = silent
) -> Rebuilt:
    """`rebuild` for who holds the lake's lock."""
    _check_place(root)
    temp = durable.temp_path(root / layout.MANIFEST, RUN)
    old = _present(root)
    _discard(temp)
    try:
        made, history, found = _made(root, temp, now, old, thorough=thorough, report=report)
        if dry_run:
            _compare(root, temp, made)
            return made
        _tell(root, node, history, found, now)
        durable.fsync_file(temp)
        made.moved = move_aside(root, now)
        durable.rename(temp, root / layout.MANIFEST)
    finally:
        _discard(temp)
    manifest = Manifest.read_only(root)
    try:
        made.links = links.relink(root, manifest.files(state=None))
    finally:
        manifest.close()
    return made


def move_aside(root: Path, now: int) -> list[str]:
    """Move manifest.db and what SQLite keeps beside it to quarantine/, the database first; their new paths.

    Without the database its log says nothing, so that a death between the two never shows an older state as the newest.
    """
    moved = []
    stamp = _stamp(now)
    while any((root / layout.quarantine_path(layout.MANIFEST, stamp + suffix)).exists() for suffix in ("", *_LOGS)):
        now += 1
        stamp = _stamp(now)
    for suffix in ("", *_LOGS):
        held = root / (layout.MANIFEST + suffix)
        if held.exists():
            aside = layout.quarantine_path(layout.MANIFEST, stamp + suffix)
            durable.make_dirs((root / aside).parent)
            durable.rename(held, root / aside)
            moved.append(aside)
    return moved


def _stamp(now: int) -> str:
    clock = dt.datetime.fromtimestamp(now // times.SECOND, dt.UTC).strftime("%Y%m%d-%H%M%S")
    return f"{clock}-{now % times.SECOND:06d}"


def _check_place(root: Path) -> None:
    if not any((root / tree).is_dir() for tree in layout.TREES) and not _is_file(root):
        raise NotALake(f"{root} is no lake: it has neither {layout.MANIFEST} nor data", "check the path")


def _is_file(root: Path) -> bool:
    return (root / layout.MANIFEST).is_file()


class _Present(msgspec.Struct):
    epoch: int = 0
    version: int = 0
    lake_id: str = ""
    simulated: bool | None = None
    created_at: int = 0


def _present(root: Path) -> _Present:
    """What the present manifest says of itself, where it can be read. Raises what forbids to replace it."""
    if not _is_file(root) or not (root / layout.MANIFEST).stat().st_size:
        return _Present()
    try:
        manifest = Manifest.read_only(root)
        try:
            held = manifest.meta()
        finally:
            manifest.close()
    except (NotALake, UnknownVersion):
        raise
    except LakeError:
        return _Present()
    return _Present(held.epoch, held.version, held.lake_id, held.simulated, held.created_at)


def _discard(temp: Path) -> None:
    for suffix in ("", *_LOGS):
        durable.unlink(temp.with_name(temp.name + suffix))


def _made(
    root: Path, temp: Path, now: int, old: _Present, *, thorough: bool, report: Report
) -> tuple[Rebuilt, History, Survey]:
    """From the ledger alone where that is whole: it is the truth. Else from what the best copy of the manifest knows,
    and what the ledger and the disk tell beyond that.
    """
    told = _make(root, temp, now, old, None, thorough=thorough, report=report)
    kept = backup.best(root)
    if kept is None or (told[0].whole and not backup.knows_more(root / kept[0].path, temp)):
        return told
    one, state = kept
    _discard(temp)
    backup.copy(root / one.path, temp)
    base = Start(
        lake_id=state.lake_id, simulated=state.simulated, created_at=state.created_at, epoch=state.epoch,
        version=state.version,
    )  # fmt: skip
    made, history, found = _make(root, temp, now, old, base, thorough=thorough, report=report)
    made.base = one.path
    return made, history, found


def _make(
    root: Path, temp: Path, now: int, old: _Present, base: Start | None, *, thorough: bool, report: Report
) -> tuple[Rebuilt, History, Survey]:
    engine = write_engine(temp)
    try:
        without_syncs(engine)
        with engine.begin() as conn:
            migrations.migrate(conn, "", simulated=False, now=now)
            history = History(conn, base)
            _read(root, history, report)
            history.finish(lambda path: (root / path).is_file())
            found = survey(root, conn, history, now, thorough=thorough, report=report)
            _check_evidence(root, history, found)
            made = _describe(conn, history, found, old, now)
            made.taken_back = history.void is not None
            said = conn.execute(text("PRAGMA quick_check(1)")).scalar_one()
            if said != "ok":
                raise CorruptManifest(f"the new manifest is damaged: {said}", "check the disk")
        return made, history, found
    finally:
        engine.dispose()


def _read(root: Path, history: History, report: Report) -> None:
    for entry in read_ledger(root, history.bad.append):
        history.take(entry)
        if history.entries % 10_000 == 0:
            report(history.entries, 0, "entries of the ledger")


def _check_evidence(root: Path, history: History, found: Survey) -> None:
    """A folder named `raw` alone does not make a lake."""
    told = history.entries or history.start
    if not (told or found.adopted or found.sealed or found.opened or found.left or _is_file(root)):
        raise NotALake(f"{root} is no lake: neither a ledger nor a file of a lake is in it", "check the path")


def _describe(conn: Connection, history: History, found: Survey, old: _Present, now: int) -> Rebuilt:
    """Write the manifest's row about itself: nothing in it goes back."""
    start = history.start
    lake_id = (start.lake_id if start else "") or old.lake_id or found.lake_id or secrets.token_hex(8)
    simulated = start.simulated if start else bool(old.simulated)
    created_at = start.created_at if start else old.created_at or now
    epoch = max(history.epoch, old.epoch)
    version = max(history.version, old.version)
    conn.execute(
        text("UPDATE meta SET lake_id = :lake_id, simulated = :simulated, created_at = :at, epoch = :epoch,"
             " version = :version"),
        {"lake_id": lake_id, "simulated": simulated, "at": created_at, "epoch": epoch, "version": version},
    )  # fmt: skip

    def count(state: str) -> int:
        return int(conn.execute(text("SELECT count(*) FROM files WHERE state = :state"), {"state": state}).scalar_one())

    if start is None and history.entries:
        history.note("the ledger does not say whose lake this is, nor whether it is simulated")
    return Rebuilt(
        lake_id=lake_id, simulated=simulated, epoch=epoch, version=version, entries=history.entries,
        whole=history.whole, damaged_lines=lines_of(history.bad), contradictions=history.notes,
        parquet_files=found.files, parquet_bytes=found.bytes, live=count("live"), retired=count("retired"),
        stats=Snapshot(conn).stats(), adopted=found.adopted, left=found.left, sealed=[row.path for row in found.sealed],
        opened=[row.path for row in found.opened], findings=found.findings, taken_back=False,
    )  # fmt: skip


def _tell(root: Path, node: str, history: History, found: Survey, now: int) -> None:
    """What no entry told is told from now on; a commit that is taken to have failed stays so."""
    entries: list[tuple[str, object]] = [("void", history.void)] if history.void is not None else []
    entries += [("seal", row) for row in found.sealed]
    entries += [("commit", commit) for commit in history.adopted]
    entries.append(("note", {"text": "manifest.db was made anew from the ledger, footers and seals"}))
    with Ledger(root, node) as ledger:
        ledger.append(entries, max(now, history.newest))


def _compare(root: Path, temp: Path, made: Rebuilt) -> None:
    if not _is_file(root):
        made.unreadable = f"there is no {layout.MANIFEST}"
        return
    try:
        made.differences = compare(root, root / layout.MANIFEST, temp)
    except LakeError as error:
        made.unreadable = error.message
