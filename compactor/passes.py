"""One pass of the compactor: what the plan says is done by an executor and committed here, one transaction a job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait

import msgspec

from compactor import certificate, view
from compactor.bars_job import final_bars, hour_bars
from compactor.book_plan import sampled
from compactor.clock_quality import ClockQuality
from compactor.config import CompactorConfig
from compactor.deleting import made_again
from compactor.heal import heal
from compactor.jobs import (
    MAX_FAILURES,
    BookSamples,
    DayClose,
    FinalBars,
    HourBars,
    HourMerge,
    Job,
    Revision,
    Rules,
    View,
    batches,
    day_span,
    describe,
    inputs_of,
)
from compactor.merge_job import Made, Place, close_day, merge_hour
from compactor.plan import plan
from compactor.recertify import still_open, told_anew
from compactor.revise_job import due_after, revise_day, told_before
from compactor.samples_job import book_samples
from compactor.summary import Summary
from compactor.tell import tell
from compactor.tidy import tidy
from lake import beginnings, sources
from lake.books import KIND as BOOKS
from lake.checks import DUPLICATE
from lake.errors import CommitConflict, CorruptFile, LakeError
from lake.manifest import Manifest
from lake.publish import discard
from lake.refused import of_one_place
from lake.rows import CertificateRow, CheckRow, Expectation, FileRow
from lake.writer import LakeWriter
from market import kinds
from market.session import Gap
from runtime import telemetry
from runtime.service import exit_code_of

OnProgress = Callable[[int, int, str], None]
MAX_ROUNDS = 1_000
_PATIENCE = 0.25


def silent(done: int, total: int, what: str) -> None:
    """Tells nobody."""


def never() -> bool:
    return False


def unchanged(exchange: str, market_type: str, kind: str, date: str) -> str:  # noqa: ARG001
    """Knows of no parser that changed."""
    return ""


def parked(manifest: Manifest, now: int, config: CompactorConfig) -> list[str]:
    """What could be compacted at `now` (us) but for its failures: each job in words, oldest first."""
    return [describe(job) for job in _parked(view.read(manifest), now, config.rules())]


def _parked(held: View, now: int, rules: Rules, *, final: bool = False) -> list[Job]:
    if max(held.failures.values(), default=0) < MAX_FAILURES:
        return []
    planned = plan(msgspec.structs.replace(held, failures={}), now, rules, final=final)
    return [job for job in planned if held.failures.get(job.key, 0) >= MAX_FAILURES]


class Pass:
    """One pass; `run` it once, or `publish` a job by itself."""

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
        self.parsers: certificate.Parsers = unchanged
        self.tried: dict[str, int] = {}
        self.holes: dict[str, list[Gap]] = {}
        """By the key of a job under way that makes final bars: the gaps that it was given."""
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
                gaps = self.manifest.gaps(*job.stream, overlapping=span)
                coverage = self.manifest.coverage(*job.stream, overlapping=span)
                duplicates = self._duplicates((*job.inputs, *job.base))
                if isinstance(job, Revision):
                    return self.executor.submit(revise_day, self.place, job, gaps, coverage, duplicates)
                return self.executor.submit(close_day, self.place, job, gaps, coverage, duplicates)
            case BookSamples():
                stream = (job.exchange, job.market_type, BOOKS)
                span = day_span(job.date)
                holes = self.manifest.gaps(*stream, overlapping=span)
                light = self.manifest.coverage(*stream, overlapping=span)
                return self.executor.submit(book_samples, self.place, job, holes, light)
            case HourBars() | FinalBars():
                span = day_span(job.date)
                streams = [(job.exchange, job.market_type, kind) for kind in sources.TRADES]
                gaps = self._holes(job)
                coverage = [row for stream in streams for row in self.manifest.coverage(*stream, overlapping=span)]
                begun = beginnings.begun(self.manifest, job.exchange, job.market_type)
                if isinstance(job, HourBars):
                    return self.executor.submit(hour_bars, self.place, job, gaps, coverage, begun)
                self.holes[job.key] = gaps
                return self.executor.submit(final_bars, self.place, job, gaps, coverage, begun, self._told(job))

    def _holes(self, job: HourBars | FinalBars) -> list[Gap]:
        """What is missing of the trades that these bars count."""
        streams = [(job.exchange, job.market_type, kind) for kind in sources.TRADES]
        missing = certificate.MISSING
        return [gap for s in streams for gap in self.manifest.gaps(*s, state=missing, overlapping=day_span(job.date))]

    def _told(self, job: FinalBars) -> dict[str, CertificateRow]:
        """The certificates of the daily bars so far, by path."""
        market, day = {"exchange": job.exchange, "market_type": job.market_type}, job.date
        bars = kinds.BARS if job.held else ()
        found = [self.manifest.certificates(**market, kind=name, date_from=day, date_to=day) for name in bars]
        return {row.path: row for rows in found for row in rows}

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
        with contextlib.suppress(CommitConflict):
            self._commit_or_discard(job, made)
        return True

    def publish(self, job: Job) -> None:
        """One job now. Raises CommitConflict, what the job raises."""
        self._commit_or_discard(job, self._submit(job).result())

    def _commit_or_discard(self, job: Job, made: Made) -> None:
        try:
            with self.writer.alone():  # a gap that ends between a look at it and the commit would be told as open
                self._commit(job, made)
        except CommitConflict as error:
            discard(self.writer.root, [row for row in made.add if self.manifest.file(row.path) is None])
            self.summary.conflicts += 1
            telemetry.commit_conflict(job=describe(job), detail=error.message)
            raise
        self._count(job, made)
        tell(job, made)

    def _commit(self, job: Job, made: Made) -> None:
        inputs: tuple[FileRow, ...]
        due: dict[str, int] = {}
        gaps, certificates = made.gaps, made.certificates
        again = isinstance(job, Revision)
        match job:
            case HourMerge():
                inputs = job.inputs
            case HourBars():
                inputs = (*job.inputs, *job.replaced)
            case DayClose():
                inputs = (*job.inputs, *job.base, *job.before)
                due = due_after(self.manifest, job, made, samples=self.config.book_sample_ms is not None)
                held = self.manifest.gaps(*job.stream, overlapping=day_span(job.date))
                gaps = still_open(gaps, held)
                certificates = told_anew(certificates, certificate.updated(held, gaps), self.now)
            case BookSamples():
                inputs = (job.delta, *([job.held] if job.held is not None else []))
            case FinalBars():
                inputs = (*job.trades, *job.quotes, *job.held, *job.hot)
                same = self.holes.pop(job.key) == self._holes(job)  # else they are looked at again
                due = {sources.bars_due(job.exchange, job.market_type, job.date): 0 if same else 1}
                gaps = [*gaps, *made_again(self.manifest, made.add, self.now)]
        if self.manifest.cursor(view.FAILED + job.key):
            due[view.FAILED + job.key] = 0
        self.writer.publish(
            add=made.add,
            remove=made.remove,
            expect=Expectation(files={row.path: row.sha256 for row in inputs}),
            cursors=due,
            certificates=[certificate.signed(row, self.parsers, again=again) for row in certificates],
            checks=[*made.checks, *told_before(self.manifest, job, made), *self.clocks.checks(made.certificates)],
            gaps=gaps,
            now=self.now,
        )

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
