"""A street: one connection of a venue's adapter to its twin in the simulator, in virtual time, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from yarl import URL

from collectors import exchanges
from collectors.budget import Budget
from collectors.config import ConnectionConfig, WritingConfig
from collectors.connection import Driver, Pacer, Tools
from collectors.intake import Intake
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from market.session import Gap, StreamState
from market.times import SECOND
from simulator import hub as hubs
from simulator import venues
from simulator.faults import Fault
from simulator.hub import Hub
from simulator.instruments import listing, named_in
from simulator.market import Market
from simulator.options import Options
from tests.support.virtual.loop import VenueClock, VirtualClock, VirtualLoop
from tests.support.virtual.network import VirtualNetwork, VirtualVenue, without_sockets

TICK_SECONDS = 0.5
START = 1_785_700_800_000_000
HOST = "venue"


class NoLog:
    """The truth is not asked for."""

    def event(self, *_told: object) -> None:
        pass

    def line(self, *_told: object) -> None:
        pass

    def flush(self) -> None:
        pass


class _Venue(VirtualVenue):
    down = False
    """Whether its REST side fails."""

    async def answer(self, method: str, target: URL) -> Any:
        return await super().answer(method, URL("http://venue/down") if self.down else target)


class Street:
    """`symbols` (as Binance spells them) of one venue's spot market, collected over one connection."""

    def __init__(self, venue: str, symbols: Sequence[str], rate: float, kinds: Sequence[str] = ("trade",)) -> None:
        twin, exchange = venues.load(venue), exchanges.load(venue)
        market = "spot"
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop, START)
        hubs.TICK = TICK_SECONDS  # type: ignore[misc]
        options = Options(
            venue=venue, host="", port=0, seed=1, symbols=list(symbols), markets=[market], rate=rate, clock_offset=0,
            log=Path(), faults=[], max_life=86_400.0, ping=None, first_id=0,
        )  # fmt: skip
        made = listing([market], list(symbols), 1, 0, twin.CUSTOM)
        self.hub = Hub(Market(made, 1, rate, START, set()), twin.WIRE, NoLog(), VenueClock(self.loop, START))  # type: ignore[arg-type]
        routes = [one for one in twin.routes(self.hub, options) if isinstance(one, web.RouteDef)]
        self.venue = _Venue(self.loop, self.hub, routes)
        self.network = VirtualNetwork(self.loop)
        self.network.venues[HOST] = self.venue
        self.names = [named_in(market, symbol, twin.CUSTOM) for symbol in symbols]
        self.intake = Intake(WritingConfig())
        self.pipeline = Pipeline(venue, market, self.intake, merger_maker(exchange, market), frames=False)
        limits, numbers = exchange.LIMITS[market], iter(range(1, 1000))
        budget = Budget(self.clock)
        http = self.network.http(self.clock, venue, market, limits=limits, budget=budget)
        http._client = self.network  # type: ignore[assignment]
        tools = Tools(
            clock=self.clock, config=ConnectionConfig(), connect=self.network.connect, http=http,  # type: ignore[arg-type]
            next_session=lambda: f"n-1-{next(numbers)}", turn=Pacer(self.clock).turn, random=lambda: 0.5,
            spend=partial(budget.spend, limits),
        )  # fmt: skip
        streams = exchange.streams(market, list(kinds), self.names)
        rest, ws = twin.bases(market, HOST)
        endpoint = msgspec.structs.replace(exchange.ENDPOINTS[market], rest=rest)
        behind = {name: ws + URL(url).path for name, url in endpoint.ws.items()}
        (plan,) = exchange.connections(market, streams, msgspec.structs.replace(endpoint, ws=behind))
        self.driver = Driver(exchange, msgspec.structs.replace(plan, rest=rest), self.pipeline, tools)
        self.stop = asyncio.Event()
        self.gaps: dict[str, Gap] = {}
        self._task: asyncio.Task[None] | None = None

    def run(self, seconds: float) -> None:
        """Let time pass."""
        if self._task is None:
            asyncio.events._set_running_loop(self.loop)
            self.hub.start()
            asyncio.events._set_running_loop(None)
            self._task = self.loop.create_task(self.driver.run(self.stop))
        until = self.loop.time() + seconds
        with without_sockets():
            while self.loop.time() < until:
                self.loop.run_task(self._task, min(until, self.loop.time() + 10.0))
                self.pipeline.advance(self.clock.now(), covered=True)
                work = self.intake.collect(self.clock.now())
                self.gaps.update((gap.gap_id, gap) for gap in work.gaps)

    def end(self) -> None:
        """A clean stop."""
        self.stop.set()
        if self._task is not None:
            self.loop.run_task(self._task, self.loop.time() + 120)
        self.loop.close()

    def fault(self, name: str, **told: Any) -> None:
        asyncio.events._set_running_loop(self.loop)
        self.hub.begin(Fault(fault=name, **told))  # type: ignore[arg-type]
        asyncio.events._set_running_loop(None)

    def forget(self, symbol: str, kind: str = "trade") -> None:
        """The venue forgets one subscription, and says nothing of it."""
        for connection in self.hub.connections.values():
            self.hub._groups[connection.market, self.hub.venue.stream(symbol, kind)].change(connection, joins=False)

    def rest(self, symbols: Sequence[str] = ()) -> None:
        """Nobody trades any more; all symbols, where none are named."""
        self._change(symbols or self.names, "BREAK")

    def wake(self) -> None:
        """Trading goes on."""
        self._change(self.names, "TRADING")

    def _change(self, symbols: Sequence[str], status: str) -> None:
        for book in self.hub.market.books:
            if book.symbol in symbols:
                self.hub.market.change(book, status, 0, self.clock.now(), ())

    @property
    def connections(self) -> int:
        """How many were opened."""
        return self.hub.opened

    def states(self) -> dict[str, StreamState]:
        """Symbol -> the state of its stream of trades."""
        assert self.driver.life is not None
        held = self.driver.life.session.streams()
        return {state.stream.symbol: state for state in held if state.stream.kind == "trade"}

    def status(self) -> dict[str, Any]:
        assert self.driver.life is not None
        return dict(self.driver.life.status())

    def seconds(self, time: int) -> float:
        """Since the start."""
        return (time - START) / SECOND
