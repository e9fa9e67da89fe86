"""Runs the compactor's plans: jobs go to an executor, their results are committed here, one transaction a job.

`compact_once` does all there is to do now and is what `dl compact` runs; CompactorService does it again and again
inside the daemon. A job that fails on its inputs is counted against them and parked after three times; failing
storage or a lost lake is raised, for no job can help that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor

import msgspec

from compactor import certificate
from compactor.config import CompactorConfig
from compactor.jobs import Revision
from compactor.passes import OnProgress, Pass, never, parked, silent, unchanged
from compactor.summary import Summary
from compactor.tidy import always
from lake.writer import LakeWriter
from runtime.clock import Clock, pause
from runtime.threads import WAITS

__all__ = ["CompactorService", "OnProgress", "Summary", "compact_once", "parked", "revise"]


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
    parsers: certificate.Parsers = unchanged,
) -> Summary:
    """Everything that can be merged, closed, made again or let go of at `now` (us). Blocks; call it in a thread.

    `final` waits for no delay, `again` tries parked jobs too. `stopping` is asked between steps; jobs under way are
    then left to the executor, and what they publish without a commit is swept by the next start. Nothing is let go of
    while `clock_sane` says no.
    While it `waits` (for room on the disk) nothing is merged or made; what may go still goes.
    Raises StorageFailed, Fenced.
    """
    made = Pass(writer, executor, now, config, on_progress, final=final, again=again, stopping=stopping, waits=waits)
    made.parsers = parsers
    return made.run(retention, clock_sane)


def revise(
    writer: LakeWriter,
    executor: Executor,
    now: int,
    config: CompactorConfig,
    job: Revision,
    parsers: certificate.Parsers,
) -> None:
    """Publish a day whose frames were read again. Blocks. Raises CommitConflict (nothing changed), CorruptFile,
    VerifyFailed, StorageFailed, Fenced.
    """
    made = Pass(writer, executor, now, config, silent, final=False, again=False, stopping=never, waits=never)
    made.parsers = parsers
    made.publish(job)


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
        parsers: certificate.Parsers = unchanged,
    ) -> None:
        self._writer = writer
        self._executor = executor
        self._clock = clock
        self._config = config
        self._clock_sane = clock_sane
        self._waits = waits
        self._parsers = parsers
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
        if self._one_at_a_time.locked():
            on_progress(0, 1, f"{WAITS} the pass is over")
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
                parsers=self._parsers,
            )
            if due:
                self._retained_at, self._next_retention = now, steady + self.RETENTION_EVERY
            return self._last
