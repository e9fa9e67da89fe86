"""Collecting: the configured sources as connections and polls, and their change while everything else flows on.

Sources change by a reload of the configuration, and by listings where symbols are given by pattern; both take the
same way: what is wanted now is planned, compared with what is carried, and only the difference is carried out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from collectors import drifted, errands, patterns, planning, polling, reaching, venues
from collectors.budget import POLL, Budget
from collectors.clocks import Clocks, Reading
from collectors.config import CollectorsConfig, SourceConfig
from collectors.connection import Driver, Pacer, Tools
from collectors.errands import Errand, Runner
from collectors.fleet import Fleet
from collectors.intake import Intake, LaneKey, MarketKey
from collectors.listings import AGAIN_SECONDS, CONTRACT, Listings, market_of
from collectors.patterns import Resolved
from collectors.pipeline import Pipeline
from collectors.planning import Changes, Want
from collectors.polling import BOOK_SNAPSHOT, CANDLE, FUNDING_RATE, Stop, poll
from collectors.redundancy import merger_maker
from lake.lasting import Lasting, lasting
from lake.manifest import Manifest
from market.errors import Malformed
from market.session import Booked, Connection, Exchange, Resume, Stream
from market.times import SECOND
from runtime import changing, telemetry
from runtime.clock import Clock, pause
from runtime.service import EXIT_CONFIG, Fatal

BOOK_DELTA = "book_delta"
"""Books begin from snapshots, which are rows too."""
LOOK_SECONDS = 5.0
"""How often it is looked whether instruments have come that patterns wait for."""
SETTLE_SECONDS = 0.2  # instruments come many at a time

Stops = Mapping[LaneKey, Mapping[str, Resume]]


class Change(msgspec.Struct, frozen=True):
    """What a reload changes, or would: streams as `<exchange> <market> <stream>`, connections and polls by name."""

    added: list[str] = []
    removed: list[str] = []
    replaced: list[str] = []
    """Connections whose streams or address change: each hands over to a successor."""
    opened: list[str] = []
    closed: list[str] = []
    polls: list[str] = []
    """Polls that begin, begin anew, or end."""


class Collecting:
    """All sources. `pipelines` are those of their markets, made as they are needed and kept from then on.

    Made with sources that cannot be collected it raises Fatal, which says why.
    """

    def __init__(
        self,
        config: CollectorsConfig,
        clock: Clock,
        random: Callable[[], float],
        intake: Intake,
        manifest: Manifest,
        last: Stops,
        budget: Budget,
    ) -> None:
        self.pipelines: dict[MarketKey, Pipeline] = {}
        self._config = config
        self._clock = clock
        self._random = random
        self._intake = intake
        self._last = last
        self._sources: Sequence[SourceConfig] = ()
        self._resolved: Sequence[Resolved] = ()
        self._seeded: set[tuple[LaneKey, str]] = set()
        self._lasting: dict[MarketKey, Lasting] = {}
        """What the lake remembered of each market when it was first collected."""
        self._wake = asyncio.Event()
        self._manifest = manifest
        self._listings = Listings(clock, self._statuses, self._wake.set)
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._budget = budget
        self._clocks = Clocks(clock)
        self._pacer = Pacer(clock)
        self._fleet = Fleet(clock, self._start)
        self._errands = Runner(self._fetch)
        self._tools: dict[MarketKey, Tools] = {}
        self._stack = AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        self._plan(config.sources)
        self._prepare(config.sources)

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`; then connections wind down and hand over what they still hold."""
        self._stop = stop
        async with self._stack, asyncio.TaskGroup() as self._tasks:
            async with self._lock:
                await self._adopt(self._config.sources, *self._plan(self._config.sources))
            self._started.set()
            following = self._tasks.create_task(self._follow(), name="listings")
            await stop.wait()
            following.cancel()
            self._errands.end()
        self._tasks = None

    async def change(self, sources: Sequence[SourceConfig], *, dry_run: bool) -> Change:
        """Make `sources` what is collected; with `dry_run` only say what that would do. Raises Fatal, changes nothing
        then: for what a venue does not offer, and for more connections than are allowed.
        """
        await self._started.wait()
        await asyncio.to_thread(venues.prepare, [source.exchange for source in sources])
        async with self._lock:
            if self._tasks is None or self._stop.is_set():
                raise Fatal("nothing is being collected at this moment")
            changes, resolved = self._plan(sources)
            polls = errands.differing(self._errands.running, errands.plan(sources, resolved))
            said = _said(changes, self._fleet.connections, polls)
            if not dry_run:
                await self._adopt(sources, changes, resolved)
            return said

    # --- status ---

    def status(self, market: MarketKey) -> Mapping[str, object]:
        """The connections and sources of one market."""
        drivers = [d for d in self._fleet.drivers if (d.connection.exchange, d.connection.market_type) == market]
        sessions = [driver.life.link.session for driver in drivers if driver.life is not None]
        unknown = {symbol for each in sessions if isinstance(each, Booked) for symbol in each.books_out_of_sync()}
        return {
            "connections": [
                {
                    "name": d.connection.name,
                    "attempts": d.attempts,
                    "streams": len(d.connection.streams),
                    **(d.life.status() if d.life and not d.life.link.ended else {}),  # one that is lost does nothing
                }
                for d in drivers
            ],
            "sources": [
                {
                    "kinds": source.kinds,
                    "symbols": len(resolved.symbols),
                    "patterns": [entry for entry in source.symbols if patterns.is_pattern(entry)],
                    "waits_for_instruments": self._listings.waits(source),
                    "redundancy": source.redundancy,
                    "books_out_of_sync": len(unknown.intersection(resolved.symbols))
                    if BOOK_DELTA in source.kinds
                    else 0,
                }
                for source, resolved in zip(self._sources, self._resolved, strict=False)
                if market_of(source) == market
            ],
            "books_out_of_sync": len(unknown),
            "clock": self._clocks.of(*market).status(),
            "rest": self._budget.status(venues.load(market[0]).LIMITS[market[1]]),
        }

    def clock_readings(self) -> list[Reading]:
        """The last measure of each venue's clock."""
        return self._clocks.readings()

    # --- planning ---

    def _plan(self, sources: Sequence[SourceConfig]) -> tuple[Changes, list[Resolved]]:
        """What has to change so that `sources` are collected, as far as their patterns are known. Raises Fatal."""
        present = self._fleet.connections
        resolved = [self._resolve(source, present) for source in sources]
        try:
            for source in sources:
                polling.check(_load(source), source)
                venues.check(source)
            wanted = planning.plan(map(_want, sources, resolved))
        except Malformed as error:
            raise Fatal(str(error), EXIT_CONFIG) from error
        found = planning.changes(present, wanted, _exchange_of)
        limit = self._config.connections.max_connections
        if len(found.result) > limit:
            raise Fatal(
                f"the sources need {len(found.result)} connections,"
                f" more than collectors.connections.max_connections = {limit}",
                EXIT_CONFIG,
            )
        return found, resolved

    def _resolve(self, source: SourceConfig, present: Sequence[Connection]) -> Resolved:
        market = market_of(source)
        held = {s.symbol for c in present if (c.exchange, c.market_type) == market for s in c.streams}
        return self._listings.resolve(source, _load(source), held)

    def _prepare(self, sources: Sequence[SourceConfig]) -> None:
        """Pipelines with a route for every configured kind."""
        for source in sources:
            market = market_of(source)
            pipeline = self.pipelines.get(market)
            if pipeline is None:
                pipeline = self.pipelines[market] = Pipeline(
                    *market, self._intake, merger_maker(_load(source), source.market_type),
                    frames=self._config.writing.frames, clock=self._clocks.of(*market),
                )  # fmt: skip
                pipeline.radar = drifted.radar(_load(source), source.market_type, pipeline.contracts)
                self._listings.hear(pipeline)
            books = BOOK_DELTA in source.kinds or source.polls.seconds(BOOK_SNAPSHOT) is not None
            for kind in (*source.kinds, *((BOOK_SNAPSHOT,) if books else ())):
                pipeline.route(kind)

    def _seed(self, source: SourceConfig, symbols: Sequence[str]) -> None:
        """Tell the mergers where each symbol stopped that was not collected since the start."""
        market = market_of(source)
        for kind in dict.fromkeys((*source.kinds, CONTRACT, BOOK_SNAPSHOT)):  # these come without being collected too
            lane = (*market, kind)
            stopped = polling.stopped(_load(source), source, kind, self._last.get(lane, {}), symbols, self._clock.now())
            new = [s for s in stopped if (lane, s) not in self._seeded]
            self._seeded.update((lane, s) for s in (*symbols, *stopped))
            if new:
                self.pipelines[market].seed({kind: {s: stopped[s] for s in new}})

    # --- carrying out ---

    async def _adopt(self, sources: Sequence[SourceConfig], changes: Changes, resolved: Sequence[Resolved]) -> None:
        assert self._tasks is not None
        self._prepare(sources)
        if self.pipelines.keys() - self._lasting.keys():
            await asyncio.to_thread(self.recall)
        for source, found in zip(sources, resolved, strict=True):
            self._seed(source, found.symbols)
            if source not in self._sources:
                _say(source, found, changes)
                drifted.say_endings(_load(source), source, found.symbols, self._clock.now())
        self._sources, self._resolved = sources, resolved
        await self._fleet.apply(changes)
        await self._become(sources, resolved, self._tasks)
        for source, found in zip(sources, resolved, strict=True):
            self._listings.say_unmatched(source, found)

    async def _start(self, connection: Connection) -> Driver:
        assert self._tasks is not None
        market = (connection.exchange, connection.market_type)
        driver = Driver(_exchange_of(connection), connection, self.pipelines[market], await self._tools_of(market))
        self._tasks.create_task(driver.run(self._stop), name=connection.name)
        return driver

    async def _become(
        self, sources: Sequence[SourceConfig], resolved: Sequence[Resolved], tasks: asyncio.TaskGroup
    ) -> None:
        """Poll what the sources want polled."""
        new = {key: job for key, job in errands.plan(sources, resolved).items() if key not in self._errands.running}
        for job in new.values():
            market = market_of(job.source)
            if job.polled.kind == CONTRACT:
                self._listings.asked(market)
        self._errands.become(errands.plan(sources, resolved, self._lasting), tasks)

    def recall(self) -> None:
        """Tell markets that are not collected yet what the lake remembers. Reads files: call it in a thread."""
        new = self.pipelines.keys() - self._lasting.keys()
        drifted.remember([self.pipelines[market].radar for market in new], self._manifest.root, self._clock.now())
        for market in new:
            self._lasting[market] = known = self._known(market)
            polling.remember(self.pipelines[market], known)

    def _statuses(self, market: MarketKey) -> dict[str, str]:
        """Symbol -> status of the instruments that the lake remembers. Reads files: call it in a thread."""
        return {contract.symbol: contract.status for contract in self._known(market).contracts}

    def _known(self, market: MarketKey) -> Lasting:
        """What the lake remembers of a market, and where its candles stopped. Reads files: call it in a thread."""
        with self._manifest.snapshot() as snapshot:
            known = lasting(self._manifest.root, snapshot, *market, (FUNDING_RATE,))
        candles = {symbol: stop.ts_event for symbol, stop in self._last.get((*market, CANDLE), {}).items()}
        return msgspec.structs.replace(known, times={**known.times, CANDLE: candles})

    async def _fetch(self, job: Errand, stop: Stop) -> None:
        exchange, market = _load(job.source), market_of(job.source)
        endpoint = job.source.endpoint.over(exchange.ENDPOINTS[market[1]])
        spend = partial(self._budget.spend, exchange.LIMITS[market[1]], priority=POLL)
        tools = msgspec.structs.replace(await self._tools_of(market), spend=spend)
        await poll(exchange, job.polled, endpoint, self.pipelines[market], tools, self._clocks.of(*market), stop)

    async def _tools_of(self, market: MarketKey) -> Tools:
        tools = self._tools.get(market)
        if tools is None:
            exchange, connections = venues.load(market[0]), self._config.connections
            connect, http = await reaching.reach(
                exchange, market[1], connections, self._clock, self._budget, self._stack
            )
            tools = self._tools[market] = Tools(
                clock=self._clock, config=connections, connect=connect, http=http,
                next_session=self.next_session, turn=self._pacer.turn, random=self._random,
                spend=partial(self._budget.spend, exchange.LIMITS[market[1]]),
            )  # fmt: skip
        return tools

    def next_session(self) -> str:
        return f"{self._config.node}-{self._clock.now()}-{next(self._numbers)}"

    # --- listings ---

    async def _follow(self) -> None:
        """Keep to what the patterns mean."""
        while True:
            waiting = await self._listings.look(self._sources)
            await pause(self._clock, self._wake, LOOK_SECONDS if waiting else AGAIN_SECONDS)
            if not self._wake.is_set():
                continue
            await self._clock.sleep(SETTLE_SECONDS)
            self._wake.clear()
            async with self._lock:
                await self._refollow()

    async def _refollow(self) -> None:
        try:
            changes, resolved = self._plan(self._sources)
        except Fatal as refused:
            changing.listings_refused(reason=str(refused))
            return
        before, after = _symbols(self._sources, self._resolved), _symbols(self._sources, resolved)
        for market in after:
            begun, ended = sorted(after[market] - before[market]), sorted(before[market] - after[market])
            if begun or ended:
                changing.listings_followed(exchange=market[0], market_type=market[1], begun=begun, ended=ended)
        await self._adopt(self._sources, changes, resolved)


def _say(source: SourceConfig, found: Resolved, changes: Changes) -> None:
    """What a source is asked for."""
    carrying = [
        c
        for c in changes.result
        if (c.exchange, c.market_type) == market_of(source) and any(s.kind in source.kinds for s in c.streams)
    ]
    symbols = [*found.symbols, *(entry for entry in source.symbols if patterns.is_pattern(entry))]
    telemetry.collecting(
        exchange=source.exchange, market_type=source.market_type, kinds=source.kinds, symbols=symbols,
        connections=len(carrying),
    )  # fmt: skip


def _load(source: SourceConfig) -> Exchange:
    """The adapter of a source. Raises Fatal where it has no such market."""
    exchange = venues.load(source.exchange)
    if source.market_type not in exchange.ENDPOINTS:
        known = ", ".join(exchange.ENDPOINTS)
        raise Fatal(f"{source.exchange} has no market {source.market_type!r}; it has {known}", EXIT_CONFIG)
    return exchange


def _exchange_of(connection: Connection) -> Exchange:
    return venues.load(connection.exchange)


def _want(source: SourceConfig, found: Resolved) -> Want:
    exchange = _load(source)
    endpoint = source.endpoint.over(exchange.ENDPOINTS[source.market_type])
    kinds = source.kinds
    if patterns.has_patterns(source.symbols) and CONTRACT in exchange.OFFERS[source.market_type]:
        kinds = list(dict.fromkeys((*kinds, CONTRACT)))  # where the venue tells of listings, they are heard of at once
    refresh = round((source.book_refresh_seconds or 0) * SECOND)
    life = round((source.max_life_seconds or 0) * SECOND)
    asking = {"rest": endpoint.rest, "book_levels": source.book_levels, "book_refresh": refresh, "life": life}
    return Want(
        exchange, source.market_type, kinds, found.symbols, endpoint, source.channels, source.redundancy, asking
    )


def _symbols(sources: Sequence[SourceConfig], resolved: Sequence[Resolved]) -> dict[MarketKey, set[str]]:
    found: dict[MarketKey, set[str]] = {}
    for source, each in zip(sources, resolved, strict=False):
        found.setdefault(market_of(source), set()).update(each.symbols)
    return found


def _said(changes: Changes, present: Sequence[Connection], polls: list[str]) -> Change:
    homes = {
        stream: f"{c.exchange} {c.market_type} {stream.name}"
        for c in (*present, *changes.result)
        for stream in c.streams
    }  # fmt: skip

    def named(streams: Sequence[Stream]) -> list[str]:
        return [homes[stream] for stream in streams]

    return Change(
        added=named(changes.added), removed=named(changes.removed), replaced=list(changes.replan),
        opened=[c.name for c in changes.add], closed=list(changes.retire), polls=polls,
    )  # fmt: skip
