"""The two services that look after what is stored: copies of the manifest by the hour, and the scrub of the files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from compactor.bitrot import MANY, Outcome, set_right
from compactor.config import BackupConfig, ScrubConfig
from lake import backup, scrub
from lake.errors import CorruptManifest, LakeError
from lake.manifest_source import one_writer_only
from lake.scrub import Reading, Target, Verdict
from lake.writer import LakeWriter
from market import times
from runtime import caring, metrics
from runtime.clock import Clock, pause
from runtime.service import exit_code_of

OnProgress = Callable[[int, int, str], None]
RECORD_EVERY = 64
"""Files read again before that is written down: a crash forgets so many."""
LOOK_EVERY = 60.0
"""Seconds between two questions for files that are due, or for room on a disk that is low."""
PAUSED = "paused: the disk is low"
ROOM = "room on the disk"
"""What is waited for."""
BEHIND = 1.5
"""Times the wanted interval after which a file that was not read again is worth a warning."""


def never() -> bool:
    return False


class BackupService:
    """A copy of the manifest every hour (runtime.service.Service); the first of a day, and of a run, checked whole."""

    name = "backup"
    phase = 2

    def __init__(self, root: Path, clock: Clock, config: BackupConfig, disk_low: Callable[[], bool] = never) -> None:
        self._disk_low = disk_low
        self._root = root
        self._clock = clock
        self._config = config
        self._day = ""
        self._last: backup.Backup | None = None
        self._seconds = 0.0
        self._integrity: dict[str, str] | None = None
        self._error: str | None = None
        self._waits_for: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Copies until told to stop, the first one as soon as the newest is older than the interval."""
        kept = await asyncio.to_thread(backup.backups, self._root)
        self._last = next(iter(kept), None)
        age = (self._clock.now() - self._last.at) / times.SECOND if self._last is not None else None
        wait = 0.0 if age is None or age < 0 else max(0.0, self._config.interval_seconds - age)
        while not await pause(self._clock, stop, wait):
            if self._disk_low():
                self._waits_for, wait = ROOM, LOOK_EVERY
                continue
            self._waits_for = None
            await self.make()
            wait = self._config.interval_seconds

    async def make(self) -> None:
        """One copy now. A failure is said and tried again after the interval; only one that is fatal is raised."""
        now = self._clock.now()
        day = times.date_of(now).isoformat()
        began = self._clock.monotonic()
        full = day != self._day
        try:
            made, kept = await asyncio.to_thread(self._make, now, full)
        except LakeError as error:
            self._error = error.message
            if isinstance(error, CorruptManifest):
                self._judged(now, error.message)
            elif exit_code_of(error) is not None:
                caring.backup_failed(error=error)
                raise
            caring.backup_failed(error=error)
            return
        self._last, self._error = made, None
        self._seconds = self._clock.monotonic() - began
        metrics.BACKUP_TIME.set(made.at / times.SECOND)
        if full:
            self._day = day
            self._judged(now, "ok")
        caring.backup_made(path=made.path, nbytes=made.bytes, seconds=self._seconds, kept=kept, integrity=full)

    def status(self) -> dict[str, object]:
        """The newest copy, and what the last check of a whole one said, for /status."""
        last = self._last
        return {
            "newest": None if last is None else {"path": last.path, "at": times.text(last.at), "bytes": last.bytes},
            "seconds": round(self._seconds, 3),
            "integrity": self._integrity,
            "error": self._error,
            "waits_for": self._waits_for,
            "sqlite": {"version": backup.sqlite_version(), "wal_reset_fault": one_writer_only()},
        }

    def _make(self, now: int, full: bool) -> tuple[backup.Backup, int]:
        made = backup.make(self._root, now, full=full)
        backup.prune(self._root, self._config.hourly, self._config.daily)
        return made, len(backup.backups(self._root))

    def _judged(self, now: int, said: str) -> None:
        self._integrity = {"at": times.text(now), "said": said}
        metrics.INTEGRITY.set(said == "ok")


class Scrubbed(msgspec.Struct):
    """What a scrub read and found. Paths are relative to the lake's root; `outcome` says what became of each."""

    files: int = 0
    bytes: int = 0
    found: list[dict[str, str]] = []
    unreadable: list[str] = []

    @property
    def ok(self) -> bool:
        return not (self.found or self.unreadable)


def scrub_once(writer: LakeWriter, now: int, on_progress: OnProgress, stopping: Callable[[], bool] = never) -> Scrubbed:
    """Read every file again at full speed and set right what can be. Blocks. Raises StorageFailed, Fenced."""
    made = Scrubbed()
    targets = scrub.due(writer.manifest)
    whole: list[str] = []
    for done, target in enumerate(targets):
        if stopping():
            return made  # whoever asks to stop may close the manifest next
        on_progress(done, len(targets), target.path)
        verdict = _examine(writer.root, target, made)
        if verdict == "whole":
            whole.append(target.path)
        elif verdict is not None:
            settle(writer, target, verdict, now, made)
        if len(whole) >= RECORD_EVERY:
            writer.manifest.record_scrubs(whole, now)
            whole.clear()
    writer.manifest.record_scrubs(whole, now)
    on_progress(len(targets), len(targets), "scrubbed")
    caring.scrubbed(files=made.files, nbytes=made.bytes, found=len(made.found))
    return made


def look_only(root: Path, targets: Sequence[Target], on_progress: OnProgress) -> Scrubbed:
    """As `scrub_once`, for who may not write: what is found stays as it is."""
    made = Scrubbed()
    for done, target in enumerate(targets):
        on_progress(done, len(targets), target.path)
        verdict = _examine(root, target, made)
        if verdict not in ("whole", None):
            made.found.append({"path": target.path, "verdict": str(verdict), "outcome": ""})
    return made


def _examine(root: Path, target: Target, made: Scrubbed) -> Verdict | None:
    """None where the disk does not say."""
    try:
        verdict = scrub.examine(root, target)
    except OSError as error:
        unreadable(target, error, made)
        return None
    count(target, made)
    return verdict


def unreadable(target: Target, error: OSError, made: Scrubbed) -> None:
    made.unreadable.append(target.path)
    caring.scrub_unreadable(path=target.path, error=error)


def count(target: Target, made: Scrubbed) -> None:
    made.files += 1
    made.bytes += target.bytes
    metrics.SCRUBBED.inc(target.bytes)


def settle(writer: LakeWriter, target: Target, verdict: Verdict, now: int, made: Scrubbed) -> None:
    outcome: Outcome = "held"
    if len(made.found) < MANY:
        outcome = set_right(writer, target, verdict, now)
    else:
        caring.bitrot(path=target.path, verdict=verdict, outcome=outcome)
    if outcome != "settled":
        made.found.append({"path": target.path, "verdict": verdict, "outcome": outcome})


class ScrubService:
    """Reads what is due again, slowly (runtime.service.Service); stands still while `disk_low` says so."""

    name = "scrub"
    phase = 2

    def __init__(
        self, writer: LakeWriter, clock: Clock, config: ScrubConfig, disk_low: Callable[[], bool] = never
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._config = config
        self._disk_low = disk_low
        self._total = Scrubbed()
        self._state = "waiting"
        self._summary: scrub.Summary | None = None
        self._warned = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        while not await pause(self._clock, stop, LOOK_EVERY):
            if not self._paused():
                await self.round(stop)

    async def round(self, stop: asyncio.Event) -> Scrubbed:
        """Everything that is due now; what was found. Raises StorageFailed, Fenced."""
        made = Scrubbed()
        interval = round(self._config.interval_days * times.DAY)
        while not stop.is_set() and not self._paused():
            before = self._clock.now() - interval
            targets = await asyncio.to_thread(scrub.overdue, self._writer.manifest, before, RECORD_EVERY)
            self._state = "reading" if targets else "waiting"
            read = await self._some(targets, stop, made)
            if not read:
                break
        if made.files:
            caring.scrubbed(files=made.files, nbytes=made.bytes, found=len(made.found))
        await self._look(interval)
        return made

    async def once(self, on_progress: OnProgress) -> Scrubbed:
        """Every file now, at full speed: what `dl scrub` asks for."""
        left = threading.Event()
        try:
            return await asyncio.to_thread(scrub_once, self._writer, self._clock.now(), on_progress, left.is_set)
        finally:
            left.set()  # a thread cannot be cancelled: it is told

    def status(self) -> dict[str, object]:
        """Where the scrub is, for /status."""
        held = self._summary
        return {
            "state": self._state,
            "waits_for": ROOM if self._state == PAUSED else None,
            "files": self._total.files,
            "bytes": self._total.bytes,
            "found": self._total.found[-20:],
            "of_files": None if held is None else held.files,
            "of_bytes": None if held is None else held.bytes,
            "oldest": None if held is None or held.oldest is None else times.text(held.oldest),
        }

    def _paused(self) -> bool:
        """Whether it stands still for want of room."""
        low = self._disk_low()
        if low or self._state == PAUSED:
            self._state = PAUSED if low else "waiting"
        return low

    async def _some(self, targets: Sequence[Target], stop: asyncio.Event, made: Scrubbed) -> bool:
        """Reads these; whether any could be read, so that asking for more makes sense."""
        whole: list[str] = []
        progress = False
        for target in targets:
            if self._paused():
                break
            try:
                verdict = await self._read(target, stop)
            except OSError as error:
                unreadable(target, error, made)
                continue
            if verdict is None or (verdict != "whole" and self._paused()):
                break  # what is broken is set right by writing: it is found again when there is room
            progress = True
            for counted in (made, self._total):
                counted.files += 1
                counted.bytes += target.bytes
            metrics.SCRUBBED.inc(target.bytes)
            if verdict == "whole":
                whole.append(target.path)
            else:
                seen = len(made.found)
                await asyncio.to_thread(settle, self._writer, target, verdict, self._clock.now(), made)
                self._total.found += made.found[seen:]
                whole += [target.path] if verdict == "misnamed" else []  # said once an interval
        await asyncio.to_thread(self._writer.manifest.record_scrubs, whole, self._clock.now())
        return progress

    async def _read(self, target: Target, stop: asyncio.Event) -> Verdict | None:
        """One file, a piece at a time, at the rate that is allowed; None where it was told to stop."""
        root = self._writer.root
        try:
            reading = await asyncio.to_thread(Reading, root / target.path)
        except FileNotFoundError:
            return "missing"
        with reading:
            while (read := await asyncio.to_thread(reading.read)) > 0:
                if await pause(self._clock, stop, read / self._config.bytes_per_second):
                    return None
            return await asyncio.to_thread(scrub.judge, root, target, reading.sha256)

    async def _look(self, interval: int) -> None:
        self._summary = await asyncio.to_thread(scrub.summary, self._writer.manifest)
        if self._summary.oldest is None:
            return
        metrics.SCRUB_OLDEST.set(self._summary.oldest / times.SECOND)
        now = self._clock.now()
        today = times.date_of(now).isoformat()
        if now - self._summary.oldest > BEHIND * interval and today != self._warned:
            self._warned = today
            caring.scrub_behind(
                oldest_days=(now - self._summary.oldest) / times.DAY, wanted_days=self._config.interval_days
            )
