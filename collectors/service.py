"""Collecting as a service: the connections of every configured market, and the one writer behind them all.

Stopping is in order: connections wind down and hand over what they still hold, then the last pass seals everything.
A write that fails for good ends the process, since nothing may be acknowledged any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from collectors.budget import Budget
from collectors.collecting import Change, Collecting
from collectors.config import CollectorsConfig, SourceConfig
from collectors.intake import Intake, LaneKey, Pass
from collectors.merger import HOLD
from collectors.writing import GroupCommit
from lake import durable
from lake.errors import StorageFailed
from lake.writer import LakeWriter
from market.session import Resume
from market.times import SECOND
from runtime import metrics, telemetry
from runtime.clock import Clock, pause
from runtime.service import EXIT_INTERNAL, Fatal

STUCK_SECONDS = 15.0
"""A write pass that takes longer is none of a slow disk's: the process is better started again."""
FULL_DISK_SECONDS = 1.0
"""Pause between attempts to finish a pass on a full disk."""


class CollectorsService:
    """Service of phase 0. `last` (from `recovery.settle`) seeds the mergers with where each stored stream stopped.

    `executor` runs the write passes, one at a time; a thread of its own if not given.
    """

    name = "collectors"
    phase = 0

    def __init__(
        self,
        config: CollectorsConfig,
        writer: LakeWriter,
        clock: Clock,
        random: Callable[[], float],
        last: Mapping[LaneKey, Mapping[str, Resume]] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._config = config
        self._writer = writer
        self._clock = clock
        self._executor = executor
        self._intake = Intake(config.writing)
        known = writer.manifest.bans(active_at=clock.now())
        budget = Budget(clock, known, lambda ban: self._intake.record(bans=[ban]))
        self._collecting = Collecting(config, clock, random, self._intake, writer.manifest, last or {}, budget)
        self._commit = GroupCommit(writer, config.node, config.writing)
        self._begun: list[LaneKey] = []
        """Lanes that the writing thread has been told to begin."""
        self._synced = self._passed = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`; everything received by then is sealed when this returns."""
        with self._executor or ThreadPoolExecutor(1, thread_name_prefix="group-commit") as thread:
            try:
                await self._in(thread, self._collecting.recall)
                await self._begin(thread, self._clock.now())
                async with asyncio.TaskGroup() as group:
                    ended = asyncio.Event()
                    group.create_task(self._write(thread, ended))
                    await self._collecting.run(stop)
                    ended.set()
            except BaseExceptionGroup as failed:
                raise _fatal(failed) from failed
            finally:
                self._commit.close()

    async def change(self, sources: Sequence[SourceConfig], *, dry_run: bool = False) -> Change:
        """Make `sources` what is collected, without dropping what stays (see `Collecting.change`)."""
        return await self._collecting.change(sources, dry_run=dry_run)

    def status(self) -> Mapping[str, object]:
        """What `/status` says of collecting."""
        return {
            "/".join(market): {
                **self._collecting.status(market),
                "frames": pipeline.totals.frames,
                "events": dict(pipeline.totals.events),
                "duplicates": dict(pipeline.totals.duplicates),
                "rejected": sum(pipeline.totals.rejected.values()),
                "shed": dict(pipeline.totals.shed),
                "gaps": pipeline.totals.gaps,
            }
            for market, pipeline in self._collecting.pipelines.items()
        }

    def stuck(self) -> str | None:
        """Whether received data are not being written (see `runtime.service.Moves`)."""
        quiet = self._clock.monotonic() - self._passed
        return f"no write pass for {quiet:.0f} s" if quiet > STUCK_SECONDS else None

    # --- writing ---

    async def _begin(self, thread: Executor, now: int) -> None:
        """Every kind that is collected has a segment from now on, even while nothing comes."""
        lanes = self._intake.lanes
        frames = list(self._collecting.pipelines) if self._config.writing.frames else []
        await self._in(thread, self._commit.begin, lanes, now, frames)
        self._begun = lanes

    async def _write(self, thread: Executor, ended: asyncio.Event) -> None:
        seconds = self._config.writing.write / SECOND
        while not await pause(self._clock, ended, seconds):
            now = await self._pass(thread, final=False)
            self._passed = self._clock.monotonic()
            if len(self._begun) != len(self._intake.lanes):
                await self._begin(thread, now)  # whatever has come of the new ones by then has its segment
        await self._pass(thread, final=True)

    async def _pass(self, thread: Executor, *, final: bool) -> int:
        """One write pass; the next one begins only after it. Returns up to when (us) all that came is in it."""
        now, began = self._clock.now(), self._clock.monotonic()
        sync = final or (began - self._synced) * SECOND >= self._config.writing.sync
        covered = final or self._commit.due(now)
        for pipeline in self._collecting.pipelines.values():
            # at the end, what the mergers still wait for will not come any more
            pipeline.advance(now + HOLD if final else now, covered=covered)
        work = self._intake.collect(now, sync=sync, final=final)
        if work.empty and not sync and not covered:
            return now
        if sync:
            self._synced = began
        while True:
            try:
                await self._in(thread, self._commit.commit, work)
                break
            except StorageFailed as error:
                if not durable.no_space(error):
                    raise
                telemetry.storage_failed(path=str(self._writer.root), error=error)
            await self._clock.sleep(FULL_DISK_SECONDS)
            work = Pass(self._clock.now(), sync=True, final=final)
        took = self._clock.monotonic() - began
        metrics.write_pass(took, 0.0 if sync else began - self._synced)
        if took * 1000 > self._config.writing.lag_warning_ms:
            telemetry.durable_lag(seconds=took, waiting_bytes=self._intake.waiting_bytes)
        return now

    @staticmethod
    async def _in(thread: Executor, work: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


def _fatal(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the process ends with: after any failure here a restart must recover what was being written."""
    first: BaseException = failed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    code = getattr(first, "exit_code", EXIT_INTERNAL)
    return Fatal(f"collecting failed: {type(first).__name__}: {first}", code)
