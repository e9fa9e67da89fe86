"""One pass of the transformer, and the service that makes a pass every few seconds.

A pass plans from the manifest, lets the executor do the work, and commits each result in one transaction. Whatever
dies on the way is planned again; what fails again and again is set aside with its error, so that the rest goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from typing import TypeVar

import msgspec

from lake import beginnings, sources
from lake.bars import EVERY_SYMBOL
from lake.checks import SEAL
from lake.errors import CommitConflict, LakeError, StorageFailed
from lake.newest_segments import newest
from lake.refused import of_one_place
from lake.rows import Expectation, SegmentRow
from lake.writer import LakeWriter
from market.times import DAY, SECOND, Interval
from runtime import telemetry
from runtime.clock import Clock, pause
from runtime.threads import Line
from runtime.workers import WorkerDied
from transformer import plan
from transformer.config import TransformerConfig
from transformer.doubtful import collected, gap_of, unseen
from transformer.latencies import Newest
from transformer.leftovers import Result, finished, let_go, remove
from transformer.plan import BarJob, Market, TransformJob
from transformer.run import BarResult, TransformResult, run_autopsy, run_bars, run_transform
from transformer.saying import Summary, say, say_gaps, text_of

__all__ = ["Summary", "TransformService", "transform_once"]
Progress = Callable[[int, int, str], None]
"""(done, total, what)"""
J = TypeVar("J")
R = TypeVar("R", bound=Result)
SMALL_JOB_MB = 8
"""Of a job's input where the disk is low: what it makes is on it twice until its inputs go."""
_AHEAD = 2
"""Jobs given to the executor before the first is committed."""
_DEATHS = 20
"""times the failures are allowed where the worker died: a box short of memory kills for minutes, good or bad."""
_NEWEST = 8
"""Segments by which the clocks' difference is judged."""


def never() -> bool:
    return False


def transform_once(
    writer: LakeWriter,
    executor: Executor,
    now: int,
    config: TransformerConfig,
    on_progress: Progress | None = None,
    *,
    stopping: Callable[[], bool] = never,
    newest: Newest | None = None,
) -> Summary:
    """Transform all that is sealed, then write the provisional bars that are ready. Blocks; call it in a thread.

    `now` is us. `stopping` is asked between jobs, `newest` is told their latencies. Raises StorageFailed and Fenced;
    everything else is counted, said and tried again by the next pass.
    """
    return _Pass(writer, executor, now, config, on_progress or (lambda *_: None), stopping, newest or Newest()).run()


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        writer: LakeWriter,
        executor: Executor,
        now: int,
        config: TransformerConfig,
        on_progress: Progress,
        stopping: Callable[[], bool],
        newest: Newest,
    ) -> None:
        self.newest = newest
        self.writer = writer
        self.manifest = writer.manifest
        self.root = str(writer.root)
        self.executor = executor
        self.now = now
        self.config = config
        self.report = on_progress
        self.stopping = stopping
        self.summary = Summary()
        self.context = plan.Run(
            lake_id=writer.lake_id,
            run=f"transform-{writer.epoch}",
            now=now,
            max_bytes=config.max_job_mb << 20,
            lateness=round(config.lateness_seconds * SECOND),
        )

    def run(self) -> Summary:
        streams = self.manifest.streams()
        # stream by stream: a month of frames files is sealed too, and none of our business
        sealed = [row for stream in streams for row in self.manifest.segments(*stream, state="sealed")]
        markets = sorted({(e, m) for e, m, kind in streams if kind in sources.TRADES})
        cursors = {market: self.manifest.cursor(plan.cursor_name(*market)) for market in markets}
        jobs = plan.transforms(sealed, cursors, self.context)
        for done, (job, future) in enumerate(self._results(run_transform, jobs), start=1):
            self._take(job, future)
            self.report(done, len(jobs), job.name)
        self.newest.settle()
        for market in markets:
            if not self.stopping():
                self._bars(market, cursors[market])
        return self.summary

    def _results(self, work: Callable[[str, J], R], jobs: Iterable[J]) -> Iterator[tuple[J, Future[R]]]:
        """Each job with its finished future, in order; a few run ahead of the one that is committed."""
        running: deque[tuple[J, Future[R]]] = deque()
        try:
            for job in jobs:
                if self.stopping():
                    break
                running.append((job, self.executor.submit(work, self.root, job)))
                if len(running) > _AHEAD:
                    yield finished(running.popleft())
            while running:
                yield finished(running.popleft())
        finally:
            let_go(self.writer, (future for _, future in running))

    # --- segments ---

    def _take(self, job: TransformJob, future: Future[TransformResult]) -> None:
        """Commit what became of a job, or count its failure."""
        try:
            result = future.result()
        except StorageFailed as error:
            if not of_one_place(error):
                raise
            self._put_off(f"transform {job.name}", error)
            return
        except Exception as error:  # noqa: BLE001 - whatever a job dies of must not stop the others
            self._failed(job.segments, error)
            return
        done = [row for row in job.segments if row.path not in result.failed]
        try:
            self._commit(job, done, result)
        except CommitConflict as error:
            remove(self.writer, result.files)
            self.summary.conflicts += 1
            telemetry.commit_conflict(job=f"transform {job.name}", detail=str(error))
            return
        for row in job.segments:
            if row.path in result.failed:
                self._failed([row], LakeError(result.failed[row.path]))

    def _commit(self, job: TransformJob, done: list[SegmentRow], result: TransformResult) -> None:
        if not done:
            return
        self.newest.take(self.writer.clocks, result.latencies)
        why = {check.path: check.detail for check in result.checks if check.check == SEAL}
        altered = [(row, why[row.path]) for row in done if row.path in why]
        result.gaps += tuple(unseen(self.manifest, altered, result.gaps, self.now))
        self.writer.publish(
            add=result.files,
            expect=Expectation(segments={row.path: "sealed" for row in done}),
            segments={row.path: "transformed" for row in done},
            checks=result.checks,
            quarantine=result.quarantine,
            gaps=result.gaps,
            now=self.now,
        )
        total = self.summary
        total.segments += len(done)
        total.lines += result.lines
        total.rows += result.rows
        total.duplicates += result.duplicates
        total.quarantined += sum(row.count for row in result.quarantine)
        total.altered += sum(check.check == SEAL for check in result.checks)
        total.late += sum(file.late for file in result.files)
        total.files += len(result.files)
        say(job, result)

    def _failed(self, rows: Iterable[SegmentRow], error: BaseException) -> None:
        """One more failure of each of these segments; the last that it is allowed parks it."""
        for row in rows:
            failures = self.writer.fail_segment(row.path, text_of(error), self.now)
            parked = failures >= self.config.max_failures * (_DEATHS if isinstance(error, WorkerDied) else 1)
            telemetry.job_failed(job="transform", subject=row.path, error=error, failures=failures, parked=parked)
            if parked:
                self._park(row, error)
                self.summary.parked += 1
            else:
                self.summary.failed += 1

    def _park(self, row: SegmentRow, error: BaseException) -> None:
        """The segment stays where it is, marked as quarantined, and its time is a gap of every symbol it held."""
        try:
            symbols = self.executor.submit(run_autopsy, self.root, row).result()
        except Exception as second:  # noqa: BLE001 - it may be what kills workers: then coverage says whose it was
            telemetry.job_failed(job="autopsy", subject=row.path, error=second, failures=1, parked=True)
            symbols = []
        symbols = symbols or collected(self.manifest, row, self.now) or [EVERY_SYMBOL]
        gaps = [gap_of(row, symbol, "unreadable_segment", "interval", text_of(error), self.now) for symbol in symbols]
        self.writer.publish(segments={row.path: "quarantined"}, gaps=gaps, now=self.now)
        say_gaps(gaps)

    def _put_off(self, job: str, error: StorageFailed) -> None:
        """A folder that takes nothing is nothing against the inputs: they wait, and the others go on."""
        self.summary.failed += 1
        telemetry.job_failed(job="transform", subject=job, error=error, failures=1, parked=False)

    # --- bars ---

    def _bars(self, market: Market, cursor: int | None) -> None:
        """Write the market's bars whose windows are ready, hour by hour; the cursor moves with each commit."""
        trade, agg_trade, quote = (self._stream(market, kind) for kind in sources.INPUTS)
        ready = plan.bars_ready(trade, quote, self.context.lateness, 0, agg_trade)
        if ready is None or (cursor is not None and ready <= cursor):
            return
        ready = plan.bars_ready(trade, quote, self.context.lateness, self._skew(market), agg_trade)
        if ready is None or (cursor is not None and ready <= cursor):
            return
        jobs = self._bar_jobs(market, cursor, ready)
        for job, future in self._results(run_bars, jobs):
            if not self._take_bars(job, future):
                return
        if self.stopping() or (not jobs and cursor is None):
            return
        moved = self.manifest.cursor(plan.cursor_name(*market))
        if moved is None or moved < ready:
            self.writer.publish(cursors={plan.cursor_name(*market): ready}, now=self.now)

    def _skew(self, market: Market) -> int:
        """That of the newest segments, whichever pass read them: the next pass must not know less than this one."""
        rows = [row for kind in sources.TRADES for row in newest(self.manifest, *market, kind, _NEWEST)]
        return plan.skew_of(sorted(rows, key=lambda row: (row.period_start, row.path))[-_NEWEST:])

    def _stream(self, market: Market, kind: str) -> plan.Stream:
        waiting = [
            row.period_start
            for state in ("open", "sealed")
            for row in self.manifest.segments(*market, kind, state=state)
        ]
        return plan.Stream(self.manifest.watermark(*market, kind), min(waiting, default=None))

    def _bar_jobs(self, market: Market, cursor: int | None, ready: int) -> list[BarJob]:
        exchange, market_type = market
        first, last = plan.dates(Interval(cursor if cursor is not None else 0, ready))
        with self.manifest.snapshot() as now:
            closed = {
                row.date
                for kind in sources.TRADES
                for row in now.files(kind, exchange=exchange, market_type=market_type, level="day",
                                     date_from=first, date_to=last)
            }  # fmt: skip
            trades, aggregated, quotes = (
                [
                    row
                    for row in now.files(kind, exchange=exchange, market_type=market_type, date_from=first,
                                         date_to=last)
                    if row.level != "day" and row.date not in closed
                ]
                for kind in sources.INPUTS
            )  # fmt: skip
            trades += aggregated
            start = cursor if cursor is not None else min((row.ts_min for row in trades), default=ready)
            span = Interval(start - DAY, ready)  # whole days, for who is traded on each
            begun = beginnings.begun(now, *market)
            coverage = [c for kind in sources.TRADES for c in now.coverage(*market, kind, overlapping=span)]
            gaps = [
                gap
                for kind in sources.TRADES
                for gap in now.gaps(*market, kind, state=("open", "unrepairable"), overlapping=span)
            ]
        return plan.bar_jobs(market, cursor, ready, trades, quotes, coverage=coverage, begun=begun, gaps=gaps,
                             run=self.context)  # fmt: skip

    def _take_bars(self, job: BarJob, future: Future[BarResult]) -> bool:
        """Commit bars; False where the market's later bars must wait for another pass."""
        market = (job.exchange, job.market_type)
        cursor, failures = plan.cursor_name(*market), plan.failures_name(*market)
        try:
            result = future.result()
            self.writer.publish(
                add=result.files,
                expect=Expectation(files={row.path: row.sha256 for row in (*job.trades, *job.quotes)}),
                cursors={cursor: job.end, failures: 0},
                now=self.now,
            )
        except StorageFailed as error:
            if not of_one_place(error):
                raise
            self._put_off(job.name, error)
            return False
        except CommitConflict as error:
            remove(self.writer, future.result().files)
            self.summary.conflicts += 1
            telemetry.commit_conflict(job=job.name, detail=str(error))
            return False
        except LakeError as error:
            if error.exit_code != 1:
                raise
            return self._bars_failed(job, error)
        except Exception as error:  # noqa: BLE001 - whatever a job dies of must not stop the others
            return self._bars_failed(job, error)
        self.summary.bars += result.rows
        self.summary.files += len(result.files)
        if result.files:
            telemetry.bars_written(
                exchange=job.exchange, market_type=job.market_type, kind="bar_1m", rows=result.rows,
                symbols=result.symbols, start=job.start, end=job.end,
            )  # fmt: skip
        return True

    def _bars_failed(self, job: BarJob, error: BaseException) -> bool:
        """After the last allowed failure these windows are left to the hour merge, and the cursor goes on."""
        market = (job.exchange, job.market_type)
        name = plan.failures_name(*market)
        failures = (self.manifest.cursor(name) or 0) + 1
        parked = failures >= self.config.max_failures
        telemetry.job_failed(job="bars", subject=job.name, error=error, failures=failures, parked=parked)
        if parked:
            self.writer.publish(cursors={name: 0, plan.cursor_name(*market): job.end}, now=self.now)
            self.summary.parked += 1
        else:
            self.writer.publish(cursors={name: failures}, now=self.now)
            self.summary.failed += 1
        return parked


class TransformService:
    """Passes in turn until told to stop; `once` makes one for whoever asks, never two at the same time."""

    name = "transformer"
    phase = 1

    def __init__(
        self,
        writer: LakeWriter,
        executor: Executor,
        clock: Clock,
        config: TransformerConfig,
        *,
        waits: Callable[[], bool] = never,
        small: Callable[[], bool] = never,
    ) -> None:
        """`waits` says that there is no room for what a pass makes, `small` that there is for small jobs only."""
        self._waits = waits
        self._small = small
        self._writer = writer
        self._executor = executor
        self._clock = clock
        self._config = config
        self._line = Line()
        self._newest = Newest()
        self._last: Summary | None = None
        self._last_at: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """A pass every `interval_seconds`. On `stop` the job that runs is committed and no other is begun."""
        while not await pause(self._clock, stop, self._config.interval_seconds):
            if not self._waits():
                await self.once(stopping=lambda: stop.is_set() or self._waits())

    async def once(self, on_progress: Progress | None = None, *, stopping: Callable[[], bool] = never) -> Summary:
        """One pass now. Raises StorageFailed, Fenced."""
        left, tell = threading.Event(), partial(on_progress, 0, 1) if on_progress is not None else None
        try:
            return await self._line.run("the pass", tell, self._pass, on_progress, lambda: left.is_set() or stopping())
        finally:
            left.set()  # a thread cannot be cancelled: it is told

    def status(self) -> Mapping[str, object]:
        """The last pass, for `/status`."""
        manifest = self._writer.manifest
        waiting = sum(len(manifest.segments(*stream, state="sealed")) for stream in manifest.streams())
        last = msgspec.structs.asdict(self._last) if self._last is not None else None
        held = {"waits_for": "room on the disk" if self._waits() else None, "waiting_segments": waiting}
        return held | {"last_pass_at": self._last_at, "last_pass": last, "latencies": self._newest.status()}

    def _pass(self, on_progress: Progress | None, stopping: Callable[[], bool]) -> Summary:
        now, config = self._clock.now(), self._config
        if self._small():
            config = config.model_copy(update={"max_job_mb": min(SMALL_JOB_MB, config.max_job_mb)})
        self._last = transform_once(
            self._writer, self._executor, now, config, on_progress, stopping=stopping, newest=self._newest
        )
        self._last_at = now
        return self._last
