"""Write passes, one after the other; and what becomes of them while the storage takes nothing.

What has come is appended at every pass, in one thread; that it becomes durable, is sealed and recorded is waited for in
another, and the passes go on meanwhile. Without that other thread, at the end, and where the clock was stepped, a pass
waits for it all.

A pass that fails begins an outage. While it lasts nothing is acknowledged: received data are held as far as memory
goes, what has no room is given up and is a gap of the outage's cause, and every gap is recorded at once where at least
rows can be (the ballast is for that). Attempts go on without end; the first that succeeds writes what was held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import NamedTuple

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
PATIENCE_SECONDS = 0.02
"""A disk that takes no longer is waited for: whoever waits for a pass then knows at once that it is durable."""
UNSYNCED_BYTES = 32 * 1024 * 1024
"""What is in files and not durable is in memory too, for files that fail: so much at most beside what is under way."""
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


class Settling(NamedTuple):
    """What is under way in the other thread, and when (monotonic seconds) the pass began that it ends."""

    future: asyncio.Future[None]
    began: float


class Passes:
    """`hold` says why no data may be written now, None where they may. Used from the event loop; passes run in the
    `thread` that is given, and what waits for the disk in `beside`, where there is one.
    """

    def __init__(
        self,
        config: WritingConfig,
        clock: Clock,
        intake: Intake,
        commit: GroupCommit,
        pipelines: Mapping[MarketKey, Pipeline],
        check_held: Callable[[], None],
        beside: Executor | None = None,
    ) -> None:
        self.outage: Outage | None = None
        self.hold: Callable[[], Sort | None] = _nothing
        self._config = config
        self._clock = clock
        self._intake = intake
        self._commit = commit
        self._pipelines = pipelines
        self._check_held = check_held
        self._beside = beside
        self._settling: Settling | None = None
        self._left = False
        """Whether passes have left something to be settled, and nothing that is under way does it."""
        self.ended = True
        """Whether in the last turn all that had come at some time became durable, or nothing was to."""
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
        self.ended = True
        outage = self.outage
        if outage is None:
            try:
                if not final and (cause := self.hold()) is not None:
                    await self._landed(alone=True)
                    outage = self._begin(cause, "there is no room")
                else:
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
        still, self._began = self._clock.monotonic() - self._began, self._clock.monotonic()
        if still > max(STOOD_STILL_SECONDS, 2 * self._config.write / SECOND):
            await _in(thread, self._check_held)
        step = self._steps.look()
        alone = self._beside is None or final or step is not None
        landed = await self._landed(alone=alone, quiet=step is not None)
        now, began = self._clock.now(), self._clock.monotonic()
        sync = final or (began - self._synced) * SECOND >= self._config.sync
        covered = final or step is not None or (self._settling is None and self._commit.due(now))
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
        if not work.empty or sync or covered or self._left:
            if alone:
                await _in(thread, self._commit.commit, work)
                self._durable(began, synced=sync)
            else:
                await self._beside_files(thread, work, began, due=covered)
            metrics.write_pass(self._clock.monotonic() - began, self._clock.monotonic() - self._synced)
        self.ended = landed or (self._settling is None and not self._left)
        return now

    async def _beside_files(self, thread: Executor, work: Pass, began: float, *, due: bool) -> None:
        """Append what has come; have what is left made durable where nothing is under way."""
        whole = await asyncio.get_running_loop().run_in_executor(thread, self._commit.write, work)
        self._left = self._left or due or not whole
        if self._left and self._settling is None:
            future = asyncio.get_running_loop().run_in_executor(self._beside, self._commit.settle, work.now)
            self._settling, self._left = Settling(future, began), False
            await asyncio.wait([future], timeout=PATIENCE_SECONDS)
            await self._landed(alone=False)

    async def _landed(self, *, alone: bool, quiet: bool = False) -> bool:
        """Whether something was under way and has ended. It is waited for where the next pass has to be `alone`, and
        where much is in files that is not durable, and so in memory too. What the storage refused is raised, but for
        `quiet`: that pass says the same.
        """
        settling = self._settling
        if settling is None or not (alone or settling.future.done() or self._commit.unsynced_bytes > UNSYNCED_BYTES):
            return False
        self._settling = None
        try:
            await settling.future
        except PENDING:
            if not quiet:
                raise
        else:
            self._durable(settling.began, synced=True)
        return True

    def _durable(self, began: float, *, synced: bool) -> None:
        """A pass that began then has ended; where it `synced`, all that had come by then is durable."""
        self._synced = began if synced else self._synced
        self._park()
        took = self._clock.monotonic() - began
        if took * 1000 > self._config.lag_warning_ms:
            telemetry.durable_lag(seconds=took, waiting_bytes=self._intake.waiting_bytes)

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
            await self._landed(alone=True, quiet=True)
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
