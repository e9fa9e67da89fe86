"""A virtual world: venues, one lake, one daemon at a time, and the faults that strike them. One seed, one course."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from collectors import exchanges
from collectors.config import CollectorsConfig
from compactor.config import CompactorConfig
from daemon.config import Config, DiskConfig, RepairConfig
from lake import durable
from lake.space import Room
from market import times
from simulator import venues
from simulator.faults import Fault
from simulator.reality import Reality
from tests.support.virtual.loop import VenueClock, VirtualClock, VirtualLoop
from tests.support.virtual.market import Exchange, slow_ticks
from tests.support.virtual.network import VirtualNetwork, without_sockets
from tests.support.virtual.process import (
    CALM_WRITE_SECONDS,
    WRITE_SECONDS,
    KillAt,
    Process,
    Writing,
    in_place,
    look_often,
    write_often,
)
from tests.support.virtual.schedule import Act
from transformer.config import TransformerConfig

START = times.parse("2026-02-20T00:00:30Z")
"""The first instant: a month's end, and in longer runs a leap of summer time elsewhere, are soon reached."""
SYMBOLS = ("BTCUSDT", "ETHUSDT")
VENUES = tuple(venues.names())
KINDS = ("trade", "book_delta", "quote", "agg_trade", "kline", "mark_price", "liquidation")
"""What streams tell and the twins' truth knows."""
NEAR_SECONDS = 300.0
"""How long after a fault everything is looked at as often as in real life."""
AHEAD_SECONDS = 2.0 * CALM_WRITE_SECONDS
"""How long before a fault data are written as often as a fault may find it: the last calm pass is over by then."""
TRANSFORM_SECONDS = 3 * 3600
"""This too: each job, whatever it is about, costs some tenths of a second of what a month may take."""
PASSES_SECONDS = 13 * 3600.0
"""A daemon that has run for so long has transformed and compacted what was there when it came up: each of its passes
begins its interval after the start, and the compactor's needs the transformer's before it.
"""
BACK_SECONDS = 10.0
STEADY_SECONDS, MOST_FAILED = 300.0, 200
GB = 1 << 30
"""After which a daemon that ended by itself is started again."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a run what it is."""

    seed: int = 1
    rate: float = 0.4
    """Trades and quotes a second, of all venues and symbols together."""
    symbols: tuple[str, ...] = SYMBOLS
    venues: tuple[str, ...] = VENUES
    wide: bool = False
    """More kinds at once, at two to three times the cost."""

    @property
    def kinds(self) -> dict[str, dict[str, list[str]]]:
        """Venue -> market -> what is collected there."""
        count, alone = 3 if self.wide else 1, len(self.venues) == 1
        return {name: collected(name, self.seed, VENUES.index(name), count, alone) for name in self.venues}


def collected(venue: str, seed: int, place: int, count: int, alone: bool) -> dict[str, list[str]]:
    """Market -> kinds, by seed, since each file costs its time: one market of each venue (all of one that is `alone`)
    and so many kinds of each. Seeds that follow each other come by every kind of every market.
    """
    known, offered = venues.load(venue).SIGNS, exchanges.load(venue).OFFERS
    markets = [market for market in venues.load(venue).MARKETS if known[market]]
    found = {}
    for market in markets if alone else [markets[(seed + place) % len(markets)]]:
        there = [kind for kind in KINDS if kind in known[market] and kind in offered[market]]
        first = (seed // len(markets) + place + markets.index(market)) * count
        found[market] = list(dict.fromkeys(there[(first + n) % len(there)] for n in range(count)))
    return found


def config(settings: Settings, places: Sequence[Exchange], root: Path) -> Config:
    """The daemon's configuration: everything that repeats comes as seldom as it may."""
    sources = [
        {
            "exchange": exchange.name, "market_type": market, "kinds": settings.kinds[exchange.name][market],
            "symbols": ["*"] if market == "inverse" else exchange.symbols[market],
            "polls": {"server_time_seconds": 3600, "instruments_seconds": 7200},
            "endpoint": {"rest": rest, "ws": ws},
        }
        for exchange in places
        for market, (rest, ws) in exchange.bases.items()
    ]  # fmt: skip
    collectors = CollectorsConfig.model_validate({"node": "v", "sources": sources})
    seldom = Writing.model_construct(seal_seconds=TRANSFORM_SECONDS, slow_seal_seconds=TRANSFORM_SECONDS)
    collectors = collectors.model_copy(update={"writing": seldom})
    # the nightly proof works in a process of its own, at a pace that is not of this world
    compactor = {"interval_seconds": 3 * 3600, "reproduce": {"days": 0}}
    return Config(
        lake=root, collectors=collectors,
        transformer=TransformerConfig.model_construct(interval_seconds=TRANSFORM_SECONDS),
        compactor=CompactorConfig.model_validate(compactor),
        disk=DiskConfig(ballast_mb=1, check_seconds=60),
        repair=RepairConfig(enabled=False),  # what is missing stays missing: the judge counts it
    )  # fmt: skip


class World:
    """Everything of one run. Time passes in `run_until`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.root = folder / "lake"
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop, START)
        self.true = VenueClock(self.loop, START)
        """What time it is, whatever our clock says."""
        self.network = VirtualNetwork(self.loop)
        self.exchanges = {name: self._open(name, kinds) for name, kinds in settings.kinds.items()}
        self.chance = random.Random(f"{settings.seed}/world")
        self.config = config(settings, list(self.exchanges.values()), self.root)
        self.process: Process
        self.starts = 0
        self.done: Counter[str] = Counter()
        """Faults by kind."""
        self.fired: Counter[str] = Counter()
        """Failpoints that struck."""
        self.log: list[str] = []
        self._restarted = set[str]()
        self._near = 0.0
        self._failed = 0
        """Starts in a row that ended by themselves soon."""
        self._began = 0.0
        self._hindered = 0.0
        """When it was last started, or one of its jobs may have failed."""
        self._down_until: float | None = None
        self._fault: tuple[durable.Fault, float] | None = None
        self.before_start: list[Callable[[], None]] = []
        self._steps = list[int]()
        """At which durable step each of the next starts is killed."""
        self.ahead = deque[float]()
        """When the faults to come will strike, in seconds since the start."""

    def _open(self, name: str, kinds: dict[str, list[str]]) -> Exchange:
        settings = self.settings
        share = settings.rate * len(kinds) / sum(map(len, settings.kinds.values()))
        reality = Reality(settings.seed)
        made = Exchange(self.loop, name, settings.seed, settings.symbols, kinds, share, START, reality)
        self.network.venues[made.host] = made.venue
        return made

    @contextmanager
    def living(self) -> Iterator[World]:
        """The world exists inside this block."""
        with ExitStack() as held:
            held.enter_context(slow_ticks())
            held.enter_context(without_sockets())
            held.enter_context(in_place(self.network, self.settings.seed, self._room))
            asyncio.events._set_running_loop(self.loop)
            for exchange in self.exchanges.values():
                exchange.start()
            asyncio.events._set_running_loop(None)
            self.begin()
            try:
                yield self
            finally:
                durable.inject(None)
                look_often(True)
                write_often(True)

    def _room(self, _path: Path) -> Room:
        full = self._fault is not None and self._fault[0].kind == "ENOSPC" and self._fault[0].repeat
        return Room(0 if full else 100 * GB, 200 * GB)

    # --- time ---

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.loop.time()

    def run_until(self, at: float) -> None:
        """Let time pass up to `at`; a daemon that ends is started again."""
        while self.now < at:
            self._arm()
            until = min([at, *self._edges()])
            if self._down_until is None:
                self.loop.run_task(self.process.task, until)
                if self.loop.killed or self.process.killed:
                    self._died()
                elif self.process.over:
                    self._ended()
            else:
                self.loop.run_task(self._tick(until), until + 1)
                if self.now >= self._down_until:
                    self.begin()

    def _tick(self, until: float) -> asyncio.Task[None]:
        async def wait() -> None:
            await self.clock.sleep(max(0.0, until - self.now))

        return self.loop.create_task(wait())

    def _edges(self) -> list[float]:
        edges = [self._near] if self._near > self.now else []
        if self._down_until is not None:
            edges.append(max(self._down_until, self.now))
        if self._fault is not None:
            edges.append(max(self._fault[1], self.now))
        if self.ahead and (soon := self.ahead[0] - AHEAD_SECONDS) > self.now:
            edges.append(soon)
        return edges

    def _arm(self) -> None:
        look_often(self.now < self._near)
        if self._fault is not None:
            fault, until = self._fault
            if self.now >= until or (fault.struck and not fault.repeat):
                self.fired[fault.kind] += fault.struck
                self._hindered = self.now
                durable.inject(None)
                self._fault = None
        soon = bool(self.ahead) and self.now >= self.ahead[0] - AHEAD_SECONDS
        write_often(soon or self.now < self._near or self._fault is not None)

    # --- the daemon ---

    def begin(self) -> None:
        """Start a daemon."""
        self._down_until = None
        for work in self.before_start:
            work()
        self.before_start.clear()
        self.starts += 1
        self._began = self._hindered = self.now
        self.process = Process(self.loop, self.clock, self.network, self.config)
        self.process.start()
        if self._steps:
            self._inject(KillAt(self._steps.pop(0)), BACK_SECONDS)

    def _down(self, seconds: float, why: str) -> None:
        self._down_until = self.now + seconds
        self._note(f"{why}, down for {seconds:g} s", seconds, why)

    def _died(self) -> None:
        """It was killed at a durable step."""
        self._fault = None
        self.fired["KILL"] += 1
        self.process.kill()
        self._down(BACK_SECONDS, "killed")

    def _ended(self) -> None:
        """It ended by itself."""
        code = self.process.task.result() if not self.process.task.cancelled() else -1
        self._failed = self._failed + 1 if self.now - self._began < STEADY_SECONDS else 0
        if self._failed > MOST_FAILED:
            raise AssertionError(f"{self._failed} starts in a row failed: exit {code}: {self.process.said}")
        self._down(BACK_SECONDS, f"exit {code}: {self.process.said}")

    def stop(self) -> None:
        """A clean stop."""
        self.process.ask_to_stop()
        self.loop.run_task(self.process.task, self.now + 120)
        assert self.process.over, "the daemon does not stop"

    def finish(self) -> None:
        """Let the daemon be up, in peace, for long enough that it has caught up."""
        durable.inject(None)
        self._fault = None
        while self._down_until is not None:
            self.run_until(self._down_until + 1.0)

    def catch_up(self) -> None:
        """Have done what the passes of a daemon hindered not long ago have not come to, as `dl compact` asks."""
        self.finish()
        while (parts := self.process.parts) is None:
            self.run_until(self.now + 1.0)
            self.finish()
        if self.now - self._hindered < PASSES_SECONDS:
            asked = self.loop.create_task(self.process.compact(parts))
            self.loop.run_task(asked, self.now + 60.0)
            asked.result()

    def kill(self, seconds: float, power: bool = False) -> None:
        if power:
            self.process.pull_the_plug(self.chance)
        else:
            self.process.kill()
        self._down(seconds, "power cut" if power else "killed")

    def _note(self, text: str, seconds: float, name: str) -> None:
        self.log.append(f"day {self.now / 86_400:.4f} {text}")
        self._tell(name, seconds, before=2 * WRITE_SECONDS)
        self._near = max(self._near, self.now + seconds + NEAR_SECONDS)

    def _tell(self, name: str, seconds: float, *, before: float = 0.0) -> None:
        """Every venue writes it down."""
        for exchange in self.exchanges.values():
            exchange.note(name, seconds, before=before)

    # --- faults ---

    def strike(self, act: Act) -> None:
        """Carry out one act of the schedule."""
        told = dict(act.told)
        if self.ahead:
            self.ahead.popleft()
        self.done[act.kind] += 1
        self.log.append(str(act))
        self._near = max(self._near, self.now + told.get("seconds", 0) + NEAR_SECONDS)
        asyncio.events._set_running_loop(self.loop)
        try:
            self._strike(act.kind, told)
        finally:
            asyncio.events._set_running_loop(None)

    def _strike(self, kind: str, told: dict[str, Any]) -> None:
        if kind in self._machine():
            asyncio.events._set_running_loop(None)
            self._machine()[kind](told)
            return
        exchange = self.exchanges[told.pop("venue")]
        begin = partial(_begin, exchange)
        match kind:
            case "silent stream":
                begin("silence", **told, symbol=self._symbol(exchange, told["market"]))
            case "replay" | "acks" | "mute":
                begin(kind, **told)
                begin("cut", market=told["market"])
            case "cut handover":
                begin("shutdown", **told)
                self.loop.call_later(3.0, lambda: begin("cut", market=told["market"]))
            case "drop_ids" | "duplicate_ids" | "reorder_ids" | "bad_price" | "bad_time":
                begin(kind, **told, symbol=self._symbol(exchange, told["market"]))
            case "books refused":
                begin("http_status", market=told["market"], status=418, retry_after=90)
                begin("drop_ids", market=told["market"], kind="book_delta", count=2)
            case "maintenance":
                self._maintain(exchange, **told)
            case "restart_ids":
                self._restart_ids(exchange, told["market"])
            case "listing":
                self._listing(exchange, told["market"])
            case _:
                begin(kind, **{name: value for name, value in told.items() if value is not None})

    def _machine(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        return {
            "clock step": self._step,
            "outage": self._outage,
            "kill": lambda told: self._end(told["seconds"], "kill"),
            "power cut": lambda told: self._end(told["seconds"], "power cut"),
            "kill at step": lambda told: self._inject(KillAt(told["step"]), 600.0),
            "restart": lambda told: self._end(told["seconds"], "stop"),
            "manifest lost": self._lose_manifest,
            "worker dies": self._kill_worker,
            "EIO": lambda told: self._inject(durable.Fault(told["op"], told["number"], "EIO"), 7300.0),
            "SHORT": lambda told: self._inject(durable.Fault(told["op"], told["number"], "SHORT"), 7300.0),
            "disk full": self._fill,
            "at work": self._at_work,
            "recovery killed": self._kill_recovery,
            "midnight kill": lambda told: self._end(told["seconds"], told["how"]),
            "midnight step": self._step,
        }

    def _symbol(self, exchange: Exchange, market: str) -> str:
        return self.chance.choice(exchange.symbols[market])

    def _restart_ids(self, exchange: Exchange, market: str) -> None:
        """Once a symbol: the same numbers a third time would be others' ids."""
        named = {one: f"{exchange.name} {market} {one}" for one in exchange.symbols[market]}
        left = [one for one, name in named.items() if name not in self._restarted]
        if left:
            symbol = self.chance.choice(left)
            self._restarted.add(named[symbol])
            _begin(exchange, "restart_ids", market=market, symbol=symbol)

    def _outage(self, told: dict[str, Any]) -> None:
        self._tell("outage", told["seconds"])
        self.network.reachable = False
        self.network.drop_all()
        self.loop.call_later(told["seconds"], setattr, self.network, "reachable", True)

    def _listing(self, exchange: Exchange, market: str) -> None:
        """A contract is listed, or ends for good."""
        new = exchange.dormant[market]
        book = exchange.hub.market.named[market, new.lower()]
        status = "TRADING" if not book.listed else "SETTLING" if book.status == "TRADING" else book.status
        exchange.note("listing", 120.0, market=market)
        exchange.change(market, new, status)

    def _maintain(self, exchange: Exchange, market: str, seconds: float) -> None:
        """The venue is away, and nothing trades there; afterwards all of it is as before."""
        books = [book for book in exchange.hub.market.books if (book.market, book.status) == (market, "TRADING")]
        exchange.note("maintenance", seconds + 120.0, market=market)
        _begin(exchange, "refuse", market=market, seconds=seconds, form="status")
        _begin(exchange, "http_status", market=market, status=503, count=3)
        _begin(exchange, "cut", market=market, code=1012)
        for book in books:
            exchange.change(market, book.symbol, "BREAK")
            self.loop.call_later(seconds + 30.0, exchange.change, market, book.symbol, "TRADING")

    def _at_work(self, told: dict[str, Any]) -> None:
        """Something goes wrong while parts are made and days are closed."""
        if self._down_until is None and (parts := self.process.parts) is not None:
            how, number = told["how"], told["number"]
            fault = KillAt(number) if how == "KILL" else durable.Fault("*", number, how, repeat=how == "ENOSPC")
            self._inject(fault, 60.0)
            self._hindered = self.now
            self.process.ask_to_compact(parts)

    def _kill_recovery(self, told: dict[str, Any]) -> None:
        """Killed, and killed once more by who comes up, or twice, or three times."""
        if self._down_until is None:
            self._steps = list(told["steps"])
            if told["manifest"]:
                self._lose_manifest({"seconds": told["seconds"], "how": "kill"})
            else:
                self._end(told["seconds"], "kill")

    def _step(self, told: dict[str, Any]) -> None:
        self._tell("clock step", told["seconds"] + 60.0)
        self.clock.step(told["us"])
        self.loop.call_later(told["seconds"], self.clock.step, -told["us"])

    def _end(self, seconds: float, how: str) -> None:
        if self._down_until is not None:
            return
        if how == "stop":
            self._tell("stop", seconds)
            self.stop()
            self._down(seconds, "stopped")
        else:
            self.kill(seconds, power=how == "power cut")

    def _lose_manifest(self, told: dict[str, Any]) -> None:
        self._end(told["seconds"], told["how"])

        def lose() -> None:
            for name in ("manifest.db", "manifest.db-wal", "manifest.db-shm"):
                (self.root / name).unlink(missing_ok=True)

        self.before_start.append(lose)

    def _kill_worker(self, told: dict[str, Any]) -> None:
        self.process.workers.deaths += told["deaths"]
        self._hindered = self.now

    def _inject(self, fault: durable.Fault, seconds: float) -> None:
        if self._down_until is None:
            self._tell(fault.kind, seconds)
            durable.inject(fault)
            self._fault = (fault, self.now + seconds)

    def _fill(self, told: dict[str, Any]) -> None:
        self._inject(durable.Fault("write", 1, "ENOSPC", repeat=True), told["seconds"])


def _begin(exchange: Exchange, name: str, **told: Any) -> None:
    exchange.hub.begin(Fault(fault=name, **told))  # type: ignore[arg-type]
