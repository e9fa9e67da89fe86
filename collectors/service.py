"""Collecting as a service: the connections of every configured market, and the one writer behind them all.

Stopping is in order: connections wind down and hand over what they still hold, then the last pass seals everything.
A write that fails for good ends the process, since nothing may be acknowledged any more.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from collectors import exchanges, transports
from collectors.budget import Budget
from collectors.config import CollectorsConfig, SourceConfig
from collectors.connection import Driver, Pacer, Tools
from collectors.http import Http
from collectors.intake import Intake, LaneKey, MarketKey, Pass
from collectors.merger import HOLD
from collectors.pipeline import Pipeline
from collectors.reference import fetch_reference
from collectors.routes import merger_maker
from collectors.writing import GroupCommit
from lake import durable
from lake.errors import StorageFailed
from lake.writer import LakeWriter
from market.errors import Malformed
from market.session import Connection, Endpoint, Exchange, Resume
from market.times import SECOND
from runtime import metrics, telemetry
from runtime.clock import Clock, pause
from runtime.service import EXIT_CONFIG, EXIT_INTERNAL, Fatal

FULL_DISK_SECONDS = 1.0
"""Pause between attempts to finish a pass on a full disk."""
REFERENCE = "contract"
BOOK_DELTA, BOOK_SNAPSHOT = "book_delta", "book_snapshot"
"""Books begin from snapshots, which are rows too."""


class Group(msgspec.Struct, frozen=True):
    """One source of the configuration with all that follows from it."""

    source: SourceConfig
    exchange: Exchange
    endpoint: Endpoint
    connections: tuple[Connection, ...]


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
        self._random = random
        self._last = last or {}
        self._executor = executor
        self._groups = [_group(source) for source in config.sources]
        total = sum(len(group.connections) for group in self._groups)
        if total > config.connections.max_connections:
            limit = config.connections.max_connections
            raise Fatal(
                f"the sources need {total} connections, more than collectors.connections.max_connections = {limit}",
                EXIT_CONFIG,
            )
        self._intake = Intake(config.writing)
        self._commit = GroupCommit(writer, config.node, config.writing)
        self._pipelines: dict[MarketKey, Pipeline] = {}
        self._drivers: list[Driver] = []
        self._numbers = itertools.count(1)
        self._synced = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`; everything received by then is sealed when this returns."""
        self._prepare()
        with self._executor or ThreadPoolExecutor(1, thread_name_prefix="group-commit") as thread:
            try:
                await self._in(thread, self._begin, self._clock.now())
                async with asyncio.TaskGroup() as group:
                    ended = asyncio.Event()
                    group.create_task(self._write(thread, ended))
                    await self._collect(stop)
                    ended.set()
            except BaseExceptionGroup as failed:
                raise _fatal(failed) from failed
            finally:
                self._commit.close()

    def status(self) -> Mapping[str, object]:
        """What `/status` says of collecting."""
        return {
            "/".join(market): {
                "connections": [
                    {
                        "name": d.connection.name,
                        "attempts": d.attempts,
                        "streams": len(d.connection.streams),
                        **(d.life.status() if d.life else {}),
                    }
                    for d in self._drivers
                    if (d.connection.exchange, d.connection.market_type) == market
                ],
                "frames": pipeline.totals.frames,
                "events": dict(pipeline.totals.events),
                "duplicates": dict(pipeline.totals.duplicates),
                "rejected": sum(pipeline.totals.rejected.values()),
                "shed": dict(pipeline.totals.shed),
                "gaps": pipeline.totals.gaps,
            }
            for market, pipeline in self._pipelines.items()
        }

    # --- connections ---

    def _prepare(self) -> None:
        """Pipelines with a route for every configured kind, each seeded with where its symbols stopped."""
        for group in self._groups:
            source = group.source
            market = (source.exchange, source.market_type)
            pipeline = self._pipelines.get(market)
            if pipeline is None:
                pipeline = self._pipelines[market] = Pipeline(
                    *market, self._intake, merger_maker(group.exchange, source.market_type),
                    frames=self._config.writing.frames,
                )  # fmt: skip
            snapshots = (BOOK_SNAPSHOT,) if BOOK_DELTA in source.kinds else ()
            for kind in (*source.kinds, REFERENCE, *snapshots):
                pipeline.route(kind)
            for kind in (kind for kind in source.kinds if kind != REFERENCE):  # whose rows come when they change
                stopped = self._last.get((*market, kind), {})
                pipeline.seed({kind: {s: stopped[s] for s in source.symbols if s in stopped}})

    def _begin(self, now: int) -> None:
        frames = self._pipelines if self._config.writing.frames else ()
        self._commit.begin(self._intake.lanes, now, frames)

    async def _collect(self, stop: asyncio.Event) -> None:
        connections = self._config.connections
        connect, pacer = transports.load_or_reference(connections.transport), Pacer(self._clock)
        budget = Budget(self._clock)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            for group in self._groups:
                source = group.source
                http = await stack.enter_async_context(Http(self._clock, source.exchange, source.market_type))
                tools = Tools(
                    clock=self._clock, config=connections, connect=connect, http=http,
                    next_session=self._next_session, turn=pacer.turn, random=self._random,
                    spend=partial(budget.spend, group.exchange.LIMITS[source.market_type]),
                )  # fmt: skip
                pipeline = self._pipelines[source.exchange, source.market_type]
                telemetry.collecting(
                    exchange=source.exchange, market_type=source.market_type, kinds=source.kinds,
                    symbols=source.symbols, connections=len(group.connections),
                )  # fmt: skip
                drivers = [Driver(group.exchange, c, pipeline, tools) for c in group.connections]
                self._drivers += drivers
                for driver in drivers:
                    tasks.create_task(driver.run(stop), name=driver.connection.name)
                tasks.create_task(
                    fetch_reference(group.exchange, group.endpoint, source.symbols, pipeline, tools, stop)
                )
            await stop.wait()

    def _next_session(self) -> str:
        return f"{self._config.node}-{self._clock.now()}-{next(self._numbers)}"

    # --- writing ---

    async def _write(self, thread: Executor, ended: asyncio.Event) -> None:
        seconds = self._config.writing.write / SECOND
        while not await pause(self._clock, ended, seconds):
            await self._pass(thread, final=False)
        await self._pass(thread, final=True)

    async def _pass(self, thread: Executor, *, final: bool) -> None:
        """One write pass; the next one begins only after it."""
        now, began = self._clock.now(), self._clock.monotonic()
        sync = final or (began - self._synced) * SECOND >= self._config.writing.sync
        covered = final or self._commit.due(now)
        for pipeline in self._pipelines.values():
            # at the end, what the mergers still wait for will not come any more
            pipeline.advance(now + HOLD if final else now, covered=covered)
        work = self._intake.collect(now, sync=sync, final=final)
        if work.empty and not sync and not covered:
            return
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

    @staticmethod
    async def _in(thread: Executor, work: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


def _group(source: SourceConfig) -> Group:
    exchange = exchanges.load(source.exchange)
    if source.market_type not in exchange.ENDPOINTS:
        known = ", ".join(exchange.ENDPOINTS)
        raise Fatal(f"{source.exchange} has no market {source.market_type!r}; it has {known}", EXIT_CONFIG)
    endpoint = source.endpoint.over(exchange.ENDPOINTS[source.market_type])
    try:
        streams = exchange.streams(source.market_type, source.kinds, source.symbols, source.channels)
    except Malformed as error:
        raise Fatal(str(error), EXIT_CONFIG) from error
    planned = exchange.connections(source.market_type, streams, endpoint)
    asking = {"rest": endpoint.rest, "book_levels": source.book_levels}
    return Group(source, exchange, endpoint, tuple(msgspec.structs.replace(each, **asking) for each in planned))


def _fatal(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the process ends with: after any failure here a restart must recover what was being written."""
    first: BaseException = failed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    code = getattr(first, "exit_code", EXIT_INTERNAL)
    return Fatal(f"collecting failed: {type(first).__name__}: {first}", code)
