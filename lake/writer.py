"""The one writer of a lake: holds the lock, the only read-write manifest, and the ledger.

Whatever footers cannot say goes to the ledger first and to the manifest second, so that the manifest can be made
again. Thread-safe: calls follow each other. Workers in other processes publish files up to their durable name and
hand back rows; only `publish` here makes them live.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from lake import durable, links, recovery
from lake.clock_files import ClockFiles
from lake.commits import Commit, Start, Void, commit_of, newest
from lake.errors import CorruptManifest, Fenced, LakeError, LostManifest, NotALake
from lake.feature_rows import FeatureRow
from lake.jobs import JobChange
from lake.layout import FEATURES, HOT, LEDGER, MANIFEST, RAW, TABLES, VERSIONS
from lake.ledger import Ledger
from lake.lock import LakeLock
from lake.manifest import Manifest
from lake.manifest_reads import Meta
from lake.rebuild import rebuild_held
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


class LakeWriter:
    """Open with `LakeWriter.open`, close with `close` or as a context manager. Times are us."""

    def __init__(
        self,
        root: Path,
        lock: LakeLock,
        manifest: Manifest,
        ledger: Ledger,
        now: int,
        on_rebuild: Callable[[str, str], None] | None = None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        held = manifest.meta()
        self.lake_id = held.lake_id
        self.clocks = ClockFiles(root, ledger.node)
        """Of no use to the manifest: what the clocks said, and the latencies of what came in."""
        self._lock = lock
        self._ledger = ledger
        self._guard = threading.RLock()
        self._closed = False
        self._latest = now
        self._floor = ledger.newest_day()
        """A clock that was years ahead once left a ledger of a day to come. What is written later goes on there: the
        last word on a thing is that of the newest day.
        """
        self._void: list[tuple[str, msgspec.Struct]] = []
        self._on_rebuild = on_rebuild
        self._say_start(held, now)

    @classmethod
    def open(
        cls,
        root: Path,
        node: str,
        now: int,
        simulated: bool | None = False,
        create: bool = True,
        on_rebuild: Callable[[str, str], None] | None = None,
    ) -> LakeWriter:
        """Take the lake at `root`, making it where there is none (unless `create` is False).

        `simulated` None takes the lake as it is. With `on_rebuild` a manifest that is damaged, lost, or older than the
        ledger is made anew first, and that is told as (why, what came of it). Raises LakeLocked, LakeMismatch,
        NotALake, UnknownVersion, CorruptFile, ManifestBusy, StorageFailed; the lake is untouched then, and the lock
        free.
        """
        lost = _check_place(root, create)
        if lost is not None and on_rebuild is None:
            raise lost
        durable.make_dirs(root)
        lock = LakeLock.acquire(root)
        manifest: Manifest | None = None
        try:
            try:
                if lost is not None:
                    raise lost
                manifest = _open_manifest(root, now, simulated, create=create)
            except (CorruptManifest, LostManifest) as error:
                if on_rebuild is None:
                    raise
                made = rebuild_held(root, node, now, thorough=False)
                on_rebuild(error.message, made.summary)
                manifest = _open_manifest(root, now, simulated, create=False)
            lock.describe(epoch=manifest.epoch)
            return cls(root, lock, manifest, Ledger(root, node), now, on_rebuild)
        except BaseException:
            if manifest is not None:
                manifest.close()
            lock.release()
            raise

    @property
    def epoch(self) -> int:
        """Number of this writer; the manifest refuses any other."""
        return self.manifest.epoch

    def set_control(self, port: int, token: str) -> None:
        """Say in `.lock` where commands reach this process."""
        self._lock.describe(port=port, token=token)

    def open_segment(self, *rows: SegmentRow) -> None:
        """Segments that are being written: the watermark of their streams stays before them."""
        self.record(segments=rows)

    def record_sessions(self, rows: Sequence[SessionRow]) -> None:
        self.record(sessions=rows)

    def record_gaps(self, gaps: Sequence[Gap]) -> None:
        self.record(gaps=gaps)

    def record_coverage(self, rows: Sequence[Coverage]) -> None:
        self.record(coverage=rows)

    def quarantine(self, rows: Sequence[QuarantineRow]) -> None:
        self.record(quarantine=rows)

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
        now: int | None = None,
    ) -> None:
        """All of these at once: one ledger write, one transaction. `now` None is the newest time seen here."""
        seals = [row for row in segments if row.state != "open"]
        entries: list[tuple[str, msgspec.Struct]] = [
            *(("seal", row) for row in seals),
            *(("session", row) for row in sessions),
            *(("coverage", row) for row in coverage),
            *(("gap", gap) for gap in gaps),
            *(("quarantine", row) for row in quarantine),
            *(("ban", row) for row in bans),
            *(("job", change) for change in jobs),
        ]
        seen = [row.period_end or 0 for row in seals] + [gap.closed_at or gap.detected_at for gap in gaps]
        seen += [row.at for row in bans]
        with self._guard:
            self._latest = max([self._latest, now or 0, *seen])
            for row in seals:
                row.recorded_at = row.recorded_at or self._latest
            self._write_ledger(entries, self._latest)
            self.manifest.record(
                segments=segments, sessions=sessions, coverage=coverage, gaps=gaps, quarantine=quarantine, bans=bans,
                jobs=jobs,
            )  # fmt: skip

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes meanwhile: what is read inside is still so when a `publish` inside changes it."""
        with self._guard:
            yield

    def check_held(self) -> None:
        """Whether the lake is still this writer's: a process that stood still for long asks before it writes on.

        Raises Fenced.
        """
        with self._guard:
            found = self.manifest.meta().epoch
            if found != self.epoch:
                raise Fenced(f"this writer has epoch {self.epoch}, the lake is at {found}", "another took it over")

    def note(self, what: object, now: int) -> None:
        """Something worth knowing later that no table holds: a `note` of the ledger. `what` is what JSON can hold.

        Raises Fenced.
        """
        with self._guard:
            self._check_open()
            self._latest = max(self._latest, now)
            self._ledger.append([*self._void, ("note", what)], max(self._latest, self._floor))
            self._void.clear()

    def publish(
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
        """Commit, then move the links in tables/: the old one away, then the new one there. Returns the version.

        The files of `add` lie durably under their names already. Raises Fenced, CommitConflict (nothing changed:
        plan again), StorageFailed.
        """
        changes: dict[str, Any] = {
            "add": add, "remove": remove, "segments": segments, "cursors": cursors, "certificates": certificates,
            "checks": checks, "quarantine": quarantine, "gaps": gaps, "features": features,
        }  # fmt: skip
        with self._guard, self._announced(commit_of(**changes, now=now)):
            version = self.manifest.commit(**changes, expect=expect, now=now)
            links.replace(self.root, remove, [row.path for row in add])
            return version

    def fail_segment(self, path: str, error: str, now: int) -> int:
        """Write down one more failed attempt at this segment; returns how many there are now. Raises Fenced."""
        with self._guard, self._announced(Commit(failed={path: error}, now=now)):
            return self.manifest.fail_segment(path, error)

    def mark_unlinked(self, paths: Sequence[str], now: int) -> None:
        """The bytes of these retired files are gone. Raises Fenced."""
        with self._guard, self._announced(Commit(unlinked=tuple(paths), now=now)):
            self.manifest.mark_unlinked(paths, now)

    def forget_retired(self, before: int, now: int) -> int:
        """Drop rows of files retired before `before` (us) and unlinked; returns how many. Raises Fenced.

        The ledger hears of it afterwards, and only of what was done: whoever loses that forgets them again.
        """
        with self._guard:
            forgotten = self.manifest.forget_retired(before)
            if forgotten:
                at = Commit(epoch=self.epoch, version=self.manifest.version, forget=before, now=now)
                self._write_ledger([("commit", at)], now)
            return forgotten

    def relink(self) -> int:
        """Make tables/ what the manifest says; returns how many links were made or removed. Raises Fenced."""
        with self._guard:
            self._check_open()
            return links.relink(self.root, self.manifest.files(state=None))

    def recover(self, now: int) -> recovery.Recovery:
        """What a start must do before anything is collected; doing it twice is doing it once.

        Where it meets damage in the manifest that opening it did not show, and `on_rebuild` was given, the manifest is
        made anew, and `self.manifest` is another one from then on. Raises CorruptManifest without it.
        """
        with self._guard:
            try:
                return recovery.recover(self, now)
            except CorruptManifest as error:
                if self._on_rebuild is None:
                    raise
                self._anew(now, error, self._on_rebuild)
                return recovery.recover(self, now)

    def _anew(self, now: int, error: CorruptManifest, on_rebuild: Callable[[str, str], None]) -> None:
        """Make the manifest anew under the lock that is held."""
        self.manifest.close()
        self._ledger.close()
        made = rebuild_held(self.root, self._ledger.node, now, thorough=False)
        on_rebuild(error.message, made.summary)
        self.manifest = _open_manifest(self.root, now, None, create=False)
        self._lock.describe(epoch=self.manifest.epoch)
        self._say_start(self.manifest.meta(), now)

    def close(self) -> None:
        """Release everything; doing it twice is fine. Whoever still writes then, a thread that nobody waits for, is
        refused (Fenced): the lake may be another's.
        """
        with self._guard:
            self._closed = True
            self.manifest.close()
            self._ledger.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Fenced("this writer was closed", "open the lake again")

    def _write_ledger(self, entries: list[tuple[str, msgspec.Struct]], now: int) -> None:
        self._check_open()
        self._latest = max(self._latest, now)
        if entries or self._void:
            self._ledger.append([*self._void, *entries], max(self._latest, self._floor))
            self._void.clear()

    def _say_start(self, held: Meta, now: int) -> None:
        start = Start(
            lake_id=held.lake_id, simulated=held.simulated, created_at=held.created_at, epoch=held.epoch,
            version=held.version,
        )  # fmt: skip
        self._write_ledger([("start", start)], now)

    @contextlib.contextmanager
    def _announced(self, entry: Commit) -> Iterator[None]:
        """The commit inside stands in the ledger before it; where it fails, the next write there takes it back."""
        entry.epoch, entry.version = self.epoch, self.manifest.version + 1
        try:
            self._write_ledger([("commit", entry)], entry.now)
            yield
        except (LakeError, SQLAlchemyError):
            if not self._reached(entry.version):
                self._void.append(("void", Void(entry.epoch, entry.version)))
                with contextlib.suppress(LakeError):
                    self._write_ledger([], entry.now)
            raise

    def _reached(self, version: int) -> bool:
        try:
            return self.manifest.version >= version
        except (LakeError, SQLAlchemyError):
            return False


def _open_manifest(root: Path, now: int, simulated: bool | None, *, create: bool) -> Manifest:
    return Manifest.create_or_open(root, now=now, simulated=simulated, create=create, reached=newest(root))


def _check_place(root: Path, create: bool) -> LostManifest | None:
    """What is wrong where there is data and no manifest. Raises NotALake for what can be no lake."""
    held = root / MANIFEST
    if held.is_dir():
        raise NotALake(f"{held} is a folder", "name another place for the lake")
    # An empty file without a log is what a killed first start leaves; beside data it is a manifest that was lost.
    lost = held.exists() and not held.stat().st_size and not _bytes(held.with_name(f"{MANIFEST}-wal"))
    if held.exists() and not lost:
        return None
    what = f"an empty {MANIFEST}" if lost else f"no {MANIFEST}"
    if root.exists() and not root.is_dir():
        raise NotALake(f"{root} is not a folder", "name another place for the lake")
    data = [name for name in (RAW, HOT, VERSIONS, TABLES, FEATURES, LEDGER) if (root / name).exists()]
    if data:
        return LostManifest(f"{root} has {', '.join(data)} but {what}", "run: dl rebuild, or use another folder")
    if not create and not lost:
        raise NotALake(f"{root} is no lake: it has {what}", "check the path")
    return None


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
