"""Write passes, one after the other; and what becomes of them while the storage takes nothing.

A pass that fails begins an outage. While it lasts nothing is acknowledged: received data are held as far as memory
goes, what has no room is given up and is a gap of the outage's cause, and every gap is recorded at once where at least
rows can be (the ballast is for that). Attempts go on without end; the first that succeeds writes what was held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from collectors.config import WritingConfig
from collectors.intake import Intake, LaneKey, MarketKey, Pass
from collectors.merger import HOLD
from collectors.pipeline import Pipeline
from collectors.transports import TURN_SECONDS
from collectors.writing import GroupCommit
from lake.errors import ManifestBusy, StorageFailed
from lake.refused import Sort, sort_of
from market.times import SECOND
from runtime import metrics, pressing, telemetry
from runtime.clock import Clock
from runtime.clock_watch import Steps
from runtime.service import EXIT_STORAGE, Fatal
from runtime.turns import turns_of

AGAIN_SECONDS = 1.0
"""Between attempts on a disk that is full or read-only."""
FAILING_SECONDS = 30.0
"""Between attempts on one that fails, in the long run: each leaves a file behind."""
STOOD_STILL_SECONDS = 2.0
"""After a pause this long between two passes the lake may be another's: a stopped process does not notice its end."""
PENDING = (StorageFailed, ManifestBusy)
"""What is waited out."""


class Outage:
    """The storage takes nothing: since when, why, and when it is tried again (monotonic seconds)."""

    def __init__(self, cause: Sort, reason: str, now: int, began: float) -> None:
        self.cause = cause
        self.reason = reason
        self.since = now
        self.began = began
        self.attempts = 0
        self.again = began

    def put_off(self, monotonic: float) -> None:
        """One more attempt has failed."""
        self.attempts += 1
        wait = AGAIN_SECONDS
        if self.cause == "storage_failed":
            wait = min(FAILING_SECONDS, AGAIN_SECONDS * 2.0 ** min(self.attempts - 1, 10))
        self.again = monotonic + wait


class Passes:
    """`hold` says why no data may be written now, None where they may. Used from the event loop; passes run in the
    `thread` that is given.
    """

    def __init__(
        self,
        config: WritingConfig,
        clock: Clock,
        intake: Intake,
        commit: GroupCommit,
        pipelines: Mapping[MarketKey, Pipeline],
        check_held: Callable[[], None],
    ) -> None:
        self.outage: Outage | None = None
        self.hold: Callable[[], Sort | None] = _nothing
        self._config = config
        self._clock = clock
        self._intake = intake
        self._commit = commit
        self._pipelines = pipelines
        self._check_held = check_held
        self._ended: Outage | None = None
        """An outage that is over, and has not been said to be."""
        self._synced = self._began = clock.monotonic()
        self._steps = Steps(clock)

    async def turn(self, thread: Executor, *, final: bool = False) -> int | None:
        """One pass, or an attempt to end an outage where one is due. Returns up to when (us) all that came is in it;
        None where nothing was taken on. Raises Fatal where the `final` one fails.
        """
        if turns_of(asyncio.get_running_loop(), TURN_SECONDS).take():
            await self._clock.sleep(0)  # what was read until now is handed on, and belongs into this pass
        if self.outage is None and not final and (cause := self.hold()) is not None:
            self._begin(cause, "there is no room")
        outage = self.outage
        if outage is None:
            try:
                return await self._pass(thread, final=final)
            except PENDING as error:
                outage = self._begin(sort_of(error), str(error), error)
        if final or self._clock.monotonic() >= outage.again:
            await self._try(thread, outage, final=final)
        return None

    def note_failure(self, error: BaseException) -> None:
        """Something else that the writing thread was to do has failed on the storage: it is tried again afterwards."""
        if self.outage is None:
            self._begin(sort_of(error), str(error), error)

    # --- a pass ---

    async def _pass(self, thread: Executor, *, final: bool) -> int:
        """The next one begins only after it."""
        now, began = self._clock.now(), self._clock.monotonic()
        sync = final or (began - self._synced) * SECOND >= self._config.sync
        still, self._began = began - self._began, began
        if still > max(STOOD_STILL_SECONDS, 2 * self._config.write / SECOND):
            await _in(thread, self._check_held)
        step = self._steps.look()
        covered = final or step is not None or self._commit.due(now)
        for pipeline in self._pipelines.values():
            if step is not None:  # the mergers wait in receive time, and would for as long as it was set back
                pipeline.advance(step.at + HOLD)
            # at the end, what the mergers still wait for will not come any more
            pipeline.advance(now + HOLD if final else now, covered=covered)
            if final:
                pipeline.relieve()
        work = self._intake.collect(now, sync=sync, final=final)
        self._tell_end()
        work.stepped_from = step.at if step is not None else None
        if work.empty and not sync and not covered:
            return now
        await _in(thread, self._commit.commit, work)
        if sync:
            self._synced = began
        self._park()
        ended = self._clock.monotonic()
        took = ended - began
        metrics.write_pass(took, ended - self._synced)  # what came during a sync waits for the next one
        if took * 1000 > self._config.lag_warning_ms:
            telemetry.durable_lag(seconds=took, waiting_bytes=self._intake.waiting_bytes)
        return now

    def _park(self) -> None:
        """Lanes that cannot be written while the others can take nothing more until they can."""
        parked: dict[LaneKey, str] = {lane: sort_of(error) for lane, error in self._commit.parked.items()}
        if parked != self._intake.parked:
            for lane in parked.keys() - self._intake.parked.keys():
                pressing.lane_parked(
                    exchange=lane[0], market_type=lane[1], kind=lane[2], error=self._commit.parked[lane]
                )
            self._intake.park(parked)
            self._relieve()

    # --- an outage ---

    def _begin(self, cause: Sort, reason: str, error: BaseException | None = None) -> Outage:
        self.outage = begun = Outage(cause, reason, self._clock.now(), self._clock.monotonic())
        self._intake.begin_outage(cause)
        pressing.outage_began(cause=cause, reason=reason, error=error)
        return begun

    async def _try(self, thread: Executor, outage: Outage, *, final: bool) -> None:
        """Record what rows can be, then write what is held; where that succeeds the outage is over."""
        now = self._clock.now()
        for pipeline in self._pipelines.values():
            pipeline.advance(now + HOLD if final else now, covered=final)
            if final:
                pipeline.relieve()
        try:
            if final:
                await _in(thread, self._commit.commit, self._intake.collect(now, sync=True, final=True))
            else:
                rows = Pass(now) if self._commit.rows_wait else self._intake.urgent(now)
                await _in(thread, self._commit.record, rows)
                if self.hold() is not None:
                    outage.put_off(self._clock.monotonic())
                    return
                await _in(thread, self._commit.commit, Pass(now, sync=True))
        except PENDING as error:
            outage.put_off(self._clock.monotonic())
            pressing.still_out(cause=outage.cause, reason=str(error), waiting_bytes=self._intake.waiting_bytes)
            if final:
                raise Fatal(f"what was received last cannot be written: {error}", EXIT_STORAGE) from error
            return
        self._end(outage)

    def _end(self, outage: Outage) -> None:
        self.outage = None
        self._synced = self._clock.monotonic()
        self._began = self._synced
        self._intake.end_outage()
        self._ended = outage

    def _tell_end(self) -> None:
        """Memory is free again after an outage: what was given up in it has its end."""
        ended, self._ended = self._ended, None
        if ended is not None:
            gaps, seconds = self._relieve(), self._clock.monotonic() - ended.began
            pressing.outage_ended(cause=ended.cause, seconds=seconds, gaps=gaps)

    def press(self, stopped: frozenset[str]) -> None:
        """The disk has no room for these kinds from now on."""
        self._intake.press(stopped)
        self._relieve()

    def _relieve(self) -> int:
        return sum(pipeline.relieve() for pipeline in self._pipelines.values())


def _nothing() -> None:
    return None


async def _in(thread: Executor, work: Callable[..., None], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
