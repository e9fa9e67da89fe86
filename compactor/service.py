"""Runs the compactor's plans: jobs go to an executor, their results are committed here, one transaction a job.

`compact_once` does all there is to do now and is what `dl compact` runs; CompactorService does it again and again
inside the daemon. A job that fails on its inputs is counted against them and parked after three times; failing
storage or a lost lake is raised, for no job can help that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait

import msgspec

from compactor import view
from compactor.bars_job import final_bars, hour_bars
from compactor.book_plan import next_day, sampled
from compactor.clock_quality import ClockQuality
from compactor.config import CompactorConfig
from compactor.heal import heal
from compactor.jobs import (
    MAX_FAILURES,
    BookSamples,
    DayClose,
    FinalBars,
    HourBars,
    HourMerge,
    Job,
    Rules,
    View,
    batches,
    day_span,
    describe,
    inputs_of,
)
from compactor.merge_job import Made, Place, close_day, discard, merge_hour
from compactor.plan import plan
from compactor.samples_job import book_samples
from compactor.summary import Summary
from compactor.tell import tell
from compactor.tidy import always, tidy
from lake import sources
from lake.books import KIND as BOOKS
from lake.checks import DUPLICATE
from lake.errors import CommitConflict, CorruptFile, LakeError
from lake.manifest import Manifest
from lake.refused import of_one_place
from lake.rows import CheckRow, Expectation, FileRow
from lake.writer import LakeWriter
from runtime import telemetry
from runtime.clock import Clock, pause
from runtime.service import exit_code_of

OnProgress = Callable[[int, int, str], None]
MAX_ROUNDS = 1_000
_PATIENCE = 0.25


def silent(done: int, total: int, what: str) -> None:
    """Tells nobody."""


def never() -> bool:
    return False


def compact_once(
    writer: LakeWriter,
    executor: Executor,
    now: int,
    config: CompactorConfig,
    on_progress: OnProgress = silent,
    *,
    final: bool = False,
    again: bool = False,
    stopping: Callable[[], bool] = never,
    waits: Callable[[], bool] = never,
    retention: bool = True,
    clock_sane: Callable[[], bool] = always,
) -> Summary:
    """Everything that can be merged, closed, made again or let go of at `now` (us). Blocks; call it in a thread.

    `final` waits for no delay, `again` tries parked jobs too. `stopping` is asked between steps; jobs under way are
    then left to the executor, and what they publish without a commit is swept by the next start. Nothing is let go of
    while `clock_sane` says no.
    While it `waits` (for room on the disk) nothing is merged or made; what may go still goes.
    Raises StorageFailed, Fenced.
    """
    made = _Pass(writer, executor, now, config, on_progress, final=final, again=again, stopping=stopping, waits=waits)
    return made.run(retention, clock_sane)


def parked(manifest: Manifest, now: int, config: CompactorConfig) -> list[str]:
    """What could be compacted at `now` (us) but for its failures: each job in words, oldest first."""
    return [describe(job) for job in _parked(view.read(manifest), now, config.rules())]


def _parked(held: View, now: int, rules: Rules, *, final: bool = False) -> list[Job]:
    if max(held.failures.values(), default=0) < MAX_FAILURES:
        return []
    planned = plan(msgspec.structs.replace(held, failures={}), now, rules, final=final)
    return [job for job in planned if held.failures.get(job.key, 0) >= MAX_FAILURES]


class _Pass:
    def __init__(
        self,
        writer: LakeWriter,
        executor: Executor,
        now: int,
        config: CompactorConfig,
        on_progress: OnProgress,
        *,
        final: bool,
        again: bool,
        stopping: Callable[[], bool],
        waits: Callable[[], bool],
    ) -> None:
        self.writer = writer
        self.manifest = writer.manifest
        self.executor = executor
        self.now = now
        self.config = config
        self.on_progress = on_progress
        self.final = final
        self.again = again
        self.stopping = stopping
        self.waits = waits
        self.place = Place(str(writer.root), writer.lake_id, f"compact-{writer.epoch}", now)
        self.clocks = ClockQuality(writer.root)
        self.summary = Summary()
        self.tried: dict[str, int] = {}
        self.done = 0

    def run(self, retention: bool, clock_sane: Callable[[], bool]) -> Summary:
        rules = self.config.rules()
        for _ in range(0 if self.waits() else MAX_ROUNDS):
            held = view.read(self.manifest)
            jobs = plan(held, self.now, rules, final=self.final)
            self._settle(held)
            parked = _parked(held, self.now, rules, final=self.final)
            self.summary.parked = [describe(job) for job in parked]
            jobs = [job for job in (*jobs, *(parked if self.again else ())) if self.tried.get(job.key, 0) == 0]
            if not jobs or not self._round(jobs):
                break
        if retention and not self.stopping():
            self.summary.deleted += tidy(self.writer, self.executor, self.now, self.config.keep(), clock_sane)
        return self.summary

    def _settle(self, held: View) -> None:
        """Remembers which days are sampled."""
        done = sampled(held) if self.config.book_sample_ms is not None else []
        if done:
            self.writer.publish(cursors={view.samples_due(*day): 0 for day in done}, now=self.now)

    def _round(self, jobs: Sequence[Job]) -> bool:
        """Runs the jobs a few at a time and commits them in order; False where it was told to stop."""
        left = len(jobs)
        for some in batches(jobs):
            if self.stopping() or self.waits():
                return False
            futures = [(job, self._submit(job)) for job in some]
            for place, (job, future) in enumerate(futures):
                self.on_progress(self.done, self.done + left - place, describe(job))
                if not self._finish(job, future):
                    for _, other in futures[place:]:
                        other.cancel()
                    return False
                self.done += 1
            left -= len(some)
        self.on_progress(self.done, self.done, "compacted")
        return True

    def _submit(self, job: Job) -> Future[Made]:
        match job:
            case HourMerge():
                return self.executor.submit(merge_hour, self.place, job, self._duplicates(job.inputs))
            case DayClose():
                span = day_span(job.date)
                return self.executor.submit(
                    close_day,
                    self.place,
                    job,
                    self.manifest.gaps(*job.stream, overlapping=span),
                    self.manifest.coverage(*job.stream, overlapping=span),
                    self._duplicates((*job.inputs, *job.base)),
                )
            case BookSamples():
                stream = (job.exchange, job.market_type, BOOKS)
                span = day_span(job.date)
                holes = self.manifest.gaps(*stream, overlapping=span)
                light = self.manifest.coverage(*stream, overlapping=span)
                return self.executor.submit(book_samples, self.place, job, holes, light)
            case HourBars() | FinalBars():
                span = day_span(job.date)
                streams = [(job.exchange, job.market_type, kind) for kind in sources.TRADES]
                gaps = [
                    gap
                    for stream in streams
                    for gap in self.manifest.gaps(*stream, state=("open", "unrepairable"), overlapping=span)
                ]
                coverage = [row for stream in streams for row in self.manifest.coverage(*stream, overlapping=span)]
                if isinstance(job, HourBars):
                    return self.executor.submit(hour_bars, self.place, job, gaps, coverage)
                return self.executor.submit(final_bars, self.place, job, gaps, coverage)

    def _duplicates(self, rows: Sequence[FileRow]) -> dict[str, int]:
        """What earlier merges of these files left out, by symbol."""
        counts: dict[str, int] = {}
        for row in rows:
            for check in self.manifest.checks(row.path):
                if check.check == DUPLICATE:
                    counts[check.symbol] = counts.get(check.symbol, 0) + check.count
        return counts

    def _finish(self, job: Job, future: Future[Made]) -> bool:
        """Waits for a job and commits it; False where it was told to stop meanwhile."""
        while not wait([future], timeout=_PATIENCE).done:
            if self.stopping():
                return False
        if future.cancelled():
            return False
        error = future.exception()
        if isinstance(error, Exception):
            if self.stopping():  # a worker that was told to end is no fault of its inputs
                return False
            self._failed(job, error)
            return True
        made = future.result()
        self.tried[job.key] = 1
        try:
            self._commit(job, made)
        except CommitConflict as error:
            discard(self.writer.root, [row for row in made.add if self.manifest.file(row.path) is None])
            self.summary.conflicts += 1
            telemetry.commit_conflict(job=describe(job), detail=error.message)
        return True

    def _commit(self, job: Job, made: Made) -> None:
        inputs: tuple[FileRow, ...]
        due: dict[str, int] = {}
        match job:
            case HourMerge():
                inputs = job.inputs
            case HourBars():
                inputs = (*job.inputs, *job.replaced)
            case DayClose():
                inputs = (*job.inputs, *job.base, *job.before)
                due = self._due(job, made)
            case BookSamples():
                inputs = (job.delta, *([job.held] if job.held is not None else []))
            case FinalBars():
                inputs = (*job.trades, *job.quotes, *job.held, *job.hot)
                due = {view.bars_due(job.exchange, job.market_type, job.date): 0}
        if self.manifest.cursor(view.FAILED + job.key):
            due[view.FAILED + job.key] = 0
        self.writer.publish(
            add=made.add,
            remove=made.remove,
            expect=Expectation(files={row.path: row.sha256 for row in inputs}),
            cursors=due,
            certificates=made.certificates,
            checks=[*made.checks, *self.clocks.checks(made.certificates)],
            gaps=made.gaps,
            now=self.now,
        )
        self._count(job, made)
        tell(job, made)

    def _due(self, job: DayClose, made: Made) -> dict[str, int]:
        """What a day that was closed leaves to be made again."""
        market, due = job.stream[:2], {}
        if job.stream[2] in sources.INPUTS and made.add:
            due[view.bars_due(*market, job.date)] = 1
        if job.stream[2] == BOOKS:
            if self.manifest.cursor(view.carry_due(*market, job.date)):
                due[view.carry_due(*market, job.date)] = 0
            if made.add:
                due[view.carry_due(*market, next_day(job.date))] = 1
            if made.add and self.config.book_sample_ms is not None:
                due[view.samples_due(*market, job.date)] = 1
        return due

    def _count(self, job: Job, made: Made) -> None:
        summary = self.summary
        match job:
            case HourMerge() | HourBars():
                summary.hours += 1
            case DayClose():
                summary.days += 1
            case FinalBars():
                summary.bars += 1
            case BookSamples():
                summary.samples += 1
        if isinstance(job, DayClose | FinalBars | BookSamples):
            summary.files += len(made.add)
            summary.rows += sum(row.rows for row in made.add)
            summary.certificates += [row.path for row in made.certificates]

    def _failed(self, job: Job, error: Exception) -> None:
        """Counts a failure against the job's inputs. Raises what no other job could survive either."""
        if exit_code_of(error) is not None and not of_one_place(error):
            raise error
        self.tried[job.key] = 1
        failures = (self.manifest.cursor(view.FAILED + job.key) or 0) + 1
        text = error.message if isinstance(error, LakeError) else f"{type(error).__name__}: {error}"
        row = CheckRow(
            path=inputs_of(job)[0].path, check="compaction_failed", symbol="", count=failures, detail=text[:500]
        )
        self.writer.publish(cursors={view.FAILED + job.key: failures}, checks=[row], now=self.now)
        self.summary.failures.append(f"{describe(job)}: {text}")
        parked = failures >= MAX_FAILURES
        telemetry.job_failed(job="compact", subject=describe(job), error=error, failures=failures, parked=parked)
        if parked and isinstance(error, CorruptFile):
            healed = heal(self.writer, inputs_of(job), self.now)
            self.summary.healed += healed
            if healed:  # made again, the file has the same name: the job deserves another try
                self.writer.publish(cursors={view.FAILED + job.key: 0}, now=self.now)


class CompactorService:
    """The daemon's compactor (runtime.service.Service): a pass every `interval_seconds`, and one on demand."""

    name = "compactor"
    phase = 2
    RETENTION_EVERY = 600.0
    """Seconds of steady time: a wall clock that is set back holds up nothing."""

    def __init__(
        self,
        writer: LakeWriter,
        executor: Executor,
        clock: Clock,
        config: CompactorConfig,
        clock_sane: Callable[[], bool] = always,
        waits: Callable[[], bool] = never,
    ) -> None:
        self._writer = writer
        self._executor = executor
        self._clock = clock
        self._config = config
        self._clock_sane = clock_sane
        self._waits = waits
        self._one_at_a_time = threading.Lock()
        self._retained_at: int | None = None
        self._next_retention = 0.0
        self._last = Summary()

    async def run(self, stop: asyncio.Event) -> None:
        """Passes until told to stop."""
        while not await pause(self._clock, stop, self._config.interval_seconds):
            await self.compact(stopping=stop.is_set)

    async def compact(
        self,
        on_progress: OnProgress = silent,
        *,
        final: bool = False,
        again: bool = False,
        stopping: Callable[[], bool] = never,
    ) -> Summary:
        """One pass now; passes follow each other. Raises StorageFailed, Fenced."""
        return await asyncio.to_thread(self._pass, on_progress, final, again, stopping)

    def status(self) -> dict[str, object]:
        """What the last pass did, for /status."""
        waits = "room on the disk" if self._waits() else None
        return {"last_pass": msgspec.to_builtins(self._last), "retained_at": self._retained_at, "waits_for": waits}

    def _pass(self, on_progress: OnProgress, final: bool, again: bool, stopping: Callable[[], bool]) -> Summary:
        with self._one_at_a_time:
            now = self._clock.now()
            steady = self._clock.monotonic()
            due = self._retained_at is None or steady >= self._next_retention
            self._last = compact_once(
                self._writer,
                self._executor,
                now,
                self._config,
                on_progress,
                final=final,
                again=again,
                stopping=stopping,
                waits=never if again else self._waits,
                retention=due or final,
                clock_sane=self._clock_sane,
            )
            if due:
                self._retained_at, self._next_retention = now, steady + self.RETENTION_EVERY
            return self._last
