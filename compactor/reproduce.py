"""Every night the newest closed days are made again from their frames and compared with what was certified.

The work is done in a process of its own at the lowest priority, a slice at a time: between two slices it can be
paused, and nothing of it is needed to go on after a stop. What came of it is a new version of each certificate, a check
row where a file differs, an event and a metric; a difference is an alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

import msgspec

from compactor import view
from compactor.config import ReproduceConfig
from compactor.jobs import day_span
from compactor.reproduce_plan import ReproduceJob, due
from lake import durable
from lake.errors import LakeError, StorageFailed
from lake.finding import Finding
from lake.manifest_reads import chunks
from lake.reproduced import DayResult
from lake.rows import CertificateRow, CheckRow
from lake.scratch import Scratch
from lake.writer import LakeWriter
from market.times import DAY, HOUR, date_of
from runtime import reproducing
from runtime.clock import Clock, pause
from runtime.slot import Slot

LOOK_SECONDS = 60.0
SLICE_SECONDS = 2.0
"""How long the other process works before it asks whether it may go on."""
AGAIN_SECONDS = 5.0
"""Between two questions whether other work is done."""
CHECK = "reproduced"
ROOM = 3
"""Bytes of room for the rows of a day, for each byte of its files: hot rows, and lines on their way."""
SPARE = 512 * 1024 * 1024


class Advanced(msgspec.Struct):
    """How far a day is: files of frames read, of how many; at the end what was compared."""

    done: int
    total: int
    days: list[DayResult] = []
    findings: list[Finding] = []
    over: bool = False


class Lost(LakeError):
    """The process in which a day was under way is another one now."""


class TooLarge(LakeError):
    """A day needs more memory than its process may have."""


class Advance(Protocol):
    """Goes on with a job for about so many seconds, in a process that remembers it; `fresh` begins it.

    Arguments: root, job, folder for what is made, now (us), seconds, bytes of memory. Raises Lost where it does not
    remember it, TooLarge where it needs more memory.
    """

    def __call__(
        self, root: str, job: ReproduceJob, folder: str, now: int, seconds: float, memory: int, *, fresh: bool
    ) -> Advanced: ...


def never() -> bool:
    return False


class ReproduceService:
    """The daemon's nightly proof (runtime.service.Service). `workers` makes a pool of one process for one day."""

    name = "reproduce"
    phase = 2

    def __init__(
        self,
        writer: LakeWriter,
        workers: Callable[[], Executor],
        advance: Advance,
        clock: Clock,
        config: ReproduceConfig,
        *,
        waits: Callable[[], bool] = never,
        slot: Slot | None = None,
    ) -> None:
        self._slot = slot if slot is not None else Slot()
        self._writer = writer
        self._workers = workers
        self._advance = advance
        self._clock = clock
        self._config = config
        self._waits = waits
        self._night = ""
        self._under_way: dict[str, object] | None = None
        self._last: dict[str, object] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Nights until told to stop; the first where the hour has come already today."""
        while not await pause(self._clock, stop, LOOK_SECONDS):
            now = self._clock.now()
            night = date_of(now).isoformat()
            if self._config.days and night != self._night and now % DAY >= self._config.from_hour * HOUR:
                self._night = night
                await self.night(stop)

    async def night(self, stop: asyncio.Event) -> None:
        """All that is due, one market and day after the other. Raises StorageFailed, Fenced."""
        for job in await asyncio.to_thread(self._due):
            if stop.is_set():
                return
            try:
                await self._one(job, stop)
            finally:
                self._under_way = None

    def status(self) -> dict[str, object]:
        """What is under way and what was last compared, for /status."""
        return {"under_way": self._under_way, "last": self._last}

    def _due(self) -> list[ReproduceJob]:
        """The newest days, one after the other until there are enough: a lake of years has millions of files."""
        manifest, found = self._writer.manifest, list[ReproduceJob]()
        for date in view.framed_dates(manifest):
            if len({job.date for job in found}) == self._config.days:
                break
            with manifest.snapshot() as now:
                files = view.closed_day(now, date)
                certificates = [row for some in chunks(row.path for row in files) for row in now.certificates(some)]
                frames = view.frames_of(now, date)
            every = due(files, certificates, frames, {}, 1)
            tried = {job.cursor: manifest.cursor(job.cursor) or 0 for job in every}
            found += due(files, certificates, frames, tried, 1)
        return found

    async def _one(self, job: ReproduceJob, stop: asyncio.Event) -> None:
        """One day, given up where it stops, takes too long or has no room."""
        try:
            scratch = await asyncio.to_thread(Scratch, "lake-reproduce-", self._config.folder)
        except StorageFailed as error:
            self._failed(job, error)
            return
        folder = str(scratch.path)
        workers = self._workers()
        try:
            free, wanted = durable.room(scratch.path).free, job.bytes * ROOM + SPARE
            if free < wanted:
                hint = "name another one in compactor.reproduce.folder"
                self._failed(job, f"{folder} has {free:,} bytes free, {wanted:,} are needed: {hint}")
                return
            began = self._clock.monotonic()
            try:
                advanced = await self._work(job, folder, workers, began, stop)
            except Exception as error:  # noqa: BLE001 -- this work is outside the lake: nothing it meets ends a daemon
                self._failed(job, error)
                return
            if advanced is not None:
                seconds = self._clock.monotonic() - began
                await asyncio.to_thread(self._record, job, advanced, seconds)
        finally:
            kill = getattr(workers, "kill", None)
            await asyncio.to_thread(kill if kill is not None else workers.shutdown)
            await asyncio.to_thread(scratch.remove)

    async def _work(
        self, job: ReproduceJob, folder: str, workers: Executor, began: float, stop: asyncio.Event
    ) -> Advanced | None:
        """Slices until it is over; None where it was not brought to an end."""
        fresh = True
        while not stop.is_set():
            if self._clock.monotonic() - began > self._config.max_hours * 3600:
                self._failed(job, f"it takes longer than compactor.reproduce.max_hours = {self._config.max_hours:g}")
                return None
            if self._waits():
                self._tell(job, "paused")
                await pause(self._clock, stop, LOOK_SECONDS)
                continue
            if not self._slot.begin():
                self._tell(job, "waits for other work")
                await pause(self._clock, stop, AGAIN_SECONDS)
                continue
            memory = self._config.max_mb * 1024 * 1024
            arguments = (str(self._writer.root), job, folder, self._clock.now(), SLICE_SECONDS, memory)
            try:
                advanced = await asyncio.wrap_future(workers.submit(self._advance, *arguments, fresh=fresh))
            finally:
                self._slot.end()
            fresh = False
            self._tell(job, "working", advanced)
            if advanced.over:
                return advanced
        return None

    def _tell(self, job: ReproduceJob, state: str, advanced: Advanced | None = None) -> None:
        read = {} if advanced is None else {"files": advanced.done, "of": advanced.total}
        self._under_way = {**(self._under_way or {}), "day": job.text, "state": state, **read}

    def _failed(self, job: ReproduceJob, error: Exception | str) -> None:
        self._last = {"day": job.text, "result": "failed", "why": str(error)}
        reproducing.reproduction_failed(exchange=job.exchange, market_type=job.market_type, date=job.date, error=error)

    def _record(self, job: ReproduceJob, advanced: Advanced, seconds: float) -> None:
        """Certificates that say whether their frames make the same, and check rows of files that differ."""
        results = [day for day in advanced.days if day.date == job.date]
        with self._writer.alone():  # an audit or a gap's end may change the same certificates
            told = self._written(job, results)
        self._say(job, list(told.values()), results, advanced.findings, seconds)

    def _written(self, job: ReproduceJob, results: Sequence[DayResult]) -> dict[str, bool | None]:
        """What is said of each file that is still there, once it is written down."""
        now = self._clock.now()
        said = {path: whether for day in results for path, whether in day.files.items()}
        live = {row.path for row in self._writer.manifest.files(level="day", date_from=job.date, date_to=job.date)}
        valid: dict[str, CertificateRow] = {}
        market = {"exchange": job.exchange, "market_type": job.market_type, "date_from": job.date, "date_to": job.date}
        for row in self._writer.manifest.certificates(**market):
            valid[row.path] = row
        told = {path: whether for path, whether in said.items() if path in live and path in valid}
        certificates = [
            msgspec.structs.replace(valid[path], reproduced=whether, issued_at=max(now, valid[path].issued_at + 1))
            for path, whether in sorted(told.items())
            if whether is not None
        ]
        checks = [_check(valid[path], results) for path, whether in sorted(told.items()) if whether is False]
        self._writer.publish(certificates=certificates, checks=checks, cursors={job.cursor: job.newest}, now=now)
        return told

    def _say(
        self,
        job: ReproduceJob,
        told: Sequence[bool | None],
        results: Sequence[DayResult],
        findings: Sequence[Finding],
        seconds: float,
    ) -> None:
        place = {"exchange": job.exchange, "market_type": job.market_type, "date": job.date}
        same, different, open_ = (sum(one is what for one in told) for what in (True, False, None))
        errors = [finding for finding in findings if finding.severity == "error"]
        self._last = {
            "day": job.text, "same": same, "different": different, "not_provable": open_, "seconds": round(seconds, 1),
            "problems": [f"{finding.path}: {finding.problem}" for finding in errors[:5]],
        }  # fmt: skip
        if same:
            start = day_span(job.date).start
            rows = sum(day.rows for day in results)
            reproducing.day_reproduced(**place, start=start, files=same, rows=rows, seconds=seconds)
        if different or errors:
            reason = f"{errors[0].path}: {errors[0].problem}" if errors else "dl verify --frames says which rows"
            reproducing.day_not_reproduced(**place, files=different, reason=reason[:500])
        if open_:
            reproducing.day_not_provable(**place, files=open_)


def _check(row: CertificateRow, results: Sequence[DayResult]) -> CheckRow:
    """What differs in one file: the rows of its stream, with the first as an example."""
    day = next(day for day in results if row.path in day.files)
    mine = [one for one in day.examples if row.symbol in (None, one.symbol)]
    detail = f"{mine[0].what}: {mine[0].place}" if mine else "its content digest is another"
    return CheckRow(path=row.path, check=CHECK, symbol=row.symbol or "", count=day.different, detail=detail[:500])
