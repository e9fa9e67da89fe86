"""Collecting as a service: the connections of every configured market, and the one writer behind them all.

Stopping is in order: connections wind down and hand over what they still hold, then the last pass seals everything.
Storage that takes nothing does not end the process: see `collectors.passes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack

from collectors.abreast import WIDTH, Abreast
from collectors.backfill import AT_ONCE, Backfill, Report, Summary, Watcher, contracts_of
from collectors.beside import Beside
from collectors.budget import BACKFILL, Budget
from collectors.clocks import Reading
from collectors.collecting import Change, Collecting
from collectors.config import CollectorsConfig, SourceConfig
from collectors.history_plan import Wish
from collectors.intake import Intake, LaneKey
from collectors.passes import PENDING, Outage, Passes
from collectors.reaching import ask
from collectors.writing import GroupCommit
from lake.refused import Sort
from lake.writer import LakeWriter
from market.session import Endpoint, Exchange, Resume
from market.times import SECOND
from runtime.clock import Clock, pause
from runtime.service import EXIT_INTERNAL, Fatal

STUCK_SECONDS = 15.0
"""A write pass that takes longer is none of a slow disk's: the process is better started again."""


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
        self._budget = Budget(clock, known, lambda ban: self._intake.record(bans=[ban]))
        self._collecting = Collecting(config, clock, random, self._intake, writer.manifest, last or {}, self._budget)
        self._files = None if executor is not None else ThreadPoolExecutor(WIDTH, thread_name_prefix="files")
        self._beside = None if executor is not None else ThreadPoolExecutor(1, thread_name_prefix="settle")
        self._commit = GroupCommit(writer, config.node, config.writing, Abreast(self._files))
        self._stop = asyncio.Event()
        self._turned = asyncio.Event()
        """Set when what the write pass that is next, or under way, made durable is; another one takes its place."""
        self._begun: list[LaneKey] = []
        """Lanes that the writing thread has been told to begin."""
        self._passed = clock.monotonic()
        self._passes = Passes(
            config.writing, clock, self._intake, self._commit, self._collecting.pipelines, writer.check_held,
            self._beside,
        )  # fmt: skip

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`; everything received by then is sealed when this returns."""
        self._stop = stop
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
                for others in (self._beside, self._files):
                    if others is not None:
                        others.shutdown()
                self._commit.close()

    async def change(self, sources: Sequence[SourceConfig], *, dry_run: bool = False) -> Change:
        """Make `sources` what is collected, without dropping what stays (see `Collecting.change`)."""
        return await self._collecting.change(sources, dry_run=dry_run)

    async def backfill(
        self, exchange: Exchange, market_type: str, endpoint: Endpoint, chunks: Sequence[Wish], report: Report,
        *, priority: int = BACKFILL, at_once: int = AT_ONCE, watch: Watcher | None = None, patient: bool = True,
    ) -> Summary:  # fmt: skip
        """Bring in history beside what is collected, as far as it comes before the stop (see `collectors.beside`)."""
        sink = Beside(self._intake, self._clock, self._collecting.next_session, self._written)
        frames = self._config.writing.frames
        known = await asyncio.to_thread(contracts_of, self._writer, exchange.NAME, market_type)
        async with AsyncExitStack() as stack:
            http = await ask(exchange, market_type, self._clock, self._budget, stack)
            work = Backfill(
                exchange, market_type, endpoint, sink, http, self._budget, self._clock, report, frames=frames,
                priority=priority, at_once=at_once, known=known, watch=watch, patient=patient,
            )  # fmt: skip
            return await work.run(chunks, self._stop)

    async def _written(self) -> None:
        """Return when a pass that began after this was called has ended well."""
        for _ in range(2):  # one may be under way
            await self._turned.wait()
        while self.outage is not None:
            await self._turned.wait()

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
                "drift": pipeline.radar.status() if pipeline.radar is not None else None,
            }
            for market, pipeline in self._collecting.pipelines.items()
        }

    def reported(self) -> list[dict[str, str]]:
        """The streams that should send and do not, each with its market, connection and state."""
        found = []
        for (exchange, market_type), pipeline in self._collecting.pipelines.items():
            for link in pipeline.links:
                found += [
                    {"exchange": exchange, "market_type": market_type, "stream": name, "state": state,
                     "connection": link.name}
                    for name, state in link.reported(self._clock.now()).items()
                ]  # fmt: skip
        return found

    def clock_offsets(self) -> list[int]:
        """How far (us) our clock is from those of venues, where it is known."""
        return [reading.offset_us for reading in self._collecting.clock_readings()]

    def clock_readings(self) -> list[Reading]:
        """The last measure of each venue's clock."""
        return self._collecting.clock_readings()

    @property
    def outage(self) -> Outage | None:
        """What keeps everything from being written, None where nothing does."""
        return self._passes.outage

    def impaired(self) -> str | None:
        """See `runtime.service.Impairable`: the state of the storage where it takes nothing."""
        return self.outage.cause if self.outage is not None else None

    def press(self, stopped: frozenset[str]) -> None:
        """The disk has no room for these kinds any more: they are given up, until this is called without them."""
        self._passes.press(stopped)

    def hold_by(self, hold: Callable[[], Sort | None]) -> None:
        """Ask this before each pass why no data may be written (None: they may)."""
        self._passes.hold = hold

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
        writing = self._config.writing
        while not await pause(self._clock, ended, writing.write / SECOND):
            now = await self._passes.turn(thread)
            if self._passes.ended:
                self._passed = self._clock.monotonic()
                self._turned.set()
                self._turned = asyncio.Event()
            if now is not None and len(self._begun) != len(self._intake.lanes):
                try:
                    await self._begin(thread, now)  # whatever has come of the new ones by then has its segment
                except PENDING as error:
                    self._passes.note_failure(error)
        await self._passes.turn(thread, final=True)
        self._turned.set()

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
