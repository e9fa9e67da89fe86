"""History brought in where nobody else collects into the lake: written page by page, by a thread of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from collectors.backfill import Backfill, Report, Summary, Watcher, contracts_of
from collectors.budget import BACKFILL, Budget
from collectors.config import CollectorsConfig
from collectors.history_plan import Wish
from collectors.intake import Intake
from collectors.pipeline import Pipeline
from collectors.reaching import ask
from collectors.writing import GroupCommit
from lake.writer import LakeWriter
from market.session import Endpoint, Exchange
from runtime.clock import Clock


class Alone:
    """A sink where nobody else collects into the lake: it writes by itself. Close it."""

    def __init__(self, writer: LakeWriter, config: CollectorsConfig, clock: Clock) -> None:
        self.intake = Intake(config.writing)
        self._clock = clock
        self._node = config.node
        self._numbers = itertools.count(1)
        self._commit = GroupCommit(writer, config.node, config.writing)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="group-commit")
        self._writing = asyncio.Lock()

    def next_session(self) -> str:
        return f"{self._node}-{self._clock.now()}-{next(self._numbers)}"

    async def room(self) -> None:
        """There is always room: a page is written before the next is asked for."""

    async def write(self, pipeline: Pipeline, *, final: bool = False) -> None:
        async with self._writing:
            now = self._clock.now()
            pipeline.advance(now, covered=True)
            work = self.intake.collect(now, sync=True, final=final)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit.commit, work)

    def close(self) -> None:
        """Leave what is open to recovery."""
        self._commit.close()
        self._thread.shutdown()


async def alone(
    exchange: Exchange,
    market_type: str,
    endpoint: Endpoint,
    writer: LakeWriter,
    config: CollectorsConfig,
    clock: Clock,
    chunks: Sequence[Wish],
    report: Report,
    stop: asyncio.Event,
    priority: int = BACKFILL,
    watch: Watcher | None = None,
    *,
    patient: bool = True,
) -> Summary:
    """Carry out chunks where nobody else collects into the lake of `writer`. Raises StorageFailed, Fenced."""
    sink = Alone(writer, config, clock)
    known = writer.manifest.bans(active_at=clock.now())
    budget = Budget(clock, known, lambda row: sink.intake.record(bans=[row]))
    try:
        async with AsyncExitStack() as stack:
            http, frames = await ask(exchange, market_type, clock, budget, stack), config.writing.frames
            told = contracts_of(writer, exchange.NAME, market_type)
            work = Backfill(
                exchange, market_type, endpoint, sink, http, budget, clock, report, frames=frames, priority=priority,
                known=told, watch=watch, patient=patient,
            )  # fmt: skip
            return await work.run(chunks, stop)
    finally:
        sink.close()
