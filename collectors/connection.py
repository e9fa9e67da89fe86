"""Connection driver: the keeping of one connection of a plan: again after a failure, without end.

Before a venue's forced cut, and where the plan changes, a successor takes over: it must be shown to have what the old
connection sends (`collectors.handover`) before that one is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from collectors.handover import Overlap, overlap
from collectors.holes import HANDOVER, RETIRED
from collectors.http import HttpFailed
from collectors.life import DISCONNECT, STOPPED, Ending, Life, Tools
from collectors.pipeline import Pipeline
from collectors.transports import ConnectFailed, Transport
from collectors.waits import Waits
from market.admission import Admission, Admitting
from market.probing import Probing
from market.session import Connection, Exchange, Stream
from market.times import SECOND
from runtime import telemetry
from runtime.clock import Clock, pause

__all__ = ["Driver", "Ending", "Life", "Pacer", "Tools"]
T = TypeVar("T")
BURST = 4
"""Connections to one host that may be opened at once."""
OVERLAP_SECONDS = 30.0
"""How long a successor may take to be shown to have what its predecessor sends."""
SETTLED_SECONDS = 60.0
"""A connection that lived this long starts the backoff anew."""
QUICK_SECONDS = 0.2
"""Longest wait before a connection that worked is made again after a cut, which hardly ever means more than itself."""
QUICK_PART = 8
"""A driver does so for at most one in this many of the connects that a host allows; beyond them it backs off."""
ALLOWED_PART = 0.95
"""How much of what a host allows is used."""
ORDINARY_CODES = (None, 1000, 1001, 1006)
"""Close codes that blame nobody: an end in order, a server that goes away, no word at all."""
NO_FIRST_MESSAGE = "no_first_message"
"""Cause of a session's Leave where everything was acknowledged and nothing ever came."""


class Pacer:
    """Turns to connect: after the first few at once, one host's follow each other at a distance."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}

    async def turn(self, host: str, spacing: float) -> None:
        now = self._clock.monotonic()
        earliest = now - BURST * spacing  # unused turns are not saved up beyond the burst
        at = max(earliest, self._next.get(host, earliest)) + spacing
        self._next[host] = at
        if at > now:
            await self._clock.sleep(at - now)


class Driver:
    """Keeps one connection of a market's plan: `run` returns only when it is told to stop, or retired."""

    def __init__(self, exchange: Exchange, connection: Connection, pipeline: Pipeline, tools: Tools) -> None:
        self.connection = connection
        self.attempts = 0
        self.life: Life | None = None
        self._lives: list[Life] = []
        self._plan = connection
        """What the newest life was opened for."""
        self._urls = deque((connection.url, *connection.fallbacks))
        self._exchange = exchange
        self._pipeline = pipeline
        self._tools = tools
        self._clock = tools.clock
        self._limits = exchange.LIMITS[connection.market_type]
        self._age = connection.age
        self._quick: deque[float] = deque()
        """When it was made again quickly."""
        self._halt = asyncio.Event()
        self._last_word = STOPPED

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the connection until `stop`."""
        waits = self._waits()
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(self._heed(stop))
            while not self._halt.is_set():
                life = await self._dial(waits)
                if life is None:
                    continue
                ending = await self._keep(life, group)
                if ending.cause == NO_FIRST_MESSAGE:
                    self._urls.rotate(-1)  # sources disagree on where this venue serves it: ask on the other address
                if self._clock.monotonic() - life.born > SETTLED_SECONDS:
                    waits = self._waits()
                quick = self._quick_delay(ending)
                await pause(self._clock, self._halt, waits.after_end(ending.code) if quick is None else quick)
            relay.cancel()

    def replan(self, connection: Connection) -> None:
        """Carry other streams: a successor takes over, and what it will not carry is wanted no more from now on."""
        if {connection.url, *connection.fallbacks} != set(self._urls):
            self._urls = deque((connection.url, *connection.fallbacks))
        self.connection = connection
        self._want(connection.streams)
        if self.life is not None:
            self.life.successor_wanted.set()

    def retire(self) -> None:
        """End for good: its streams are wanted no more, or carried by other connections. `run` then returns."""
        if not self._halt.is_set():
            self._last_word = RETIRED
            self._want(())
            self._halt.set()

    def _want(self, streams: Iterable[Stream]) -> None:
        """What is wanted of every life that is not over: two, while a successor takes over."""
        self._lives = [life for life in self._lives if not life.link.ended]
        for life in self._lives:
            life.want(streams)

    @property
    def _facts(self) -> dict[str, str]:
        plan = self.connection
        return {"exchange": plan.exchange, "market_type": plan.market_type, "connection": plan.name}

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._halt.set()

    def _quick_delay(self, ending: Ending) -> float | None:
        """The wait before a connection that worked is made again, None where it is to be backed off."""
        now, limits, quick = self._clock.monotonic(), self._limits, self._quick
        while quick and now - quick[0] > limits.connects_window / SECOND:
            quick.popleft()
        worked = self.life is not None and bool(self.life.produced)
        ordinary = ending.cause == DISCONNECT and ending.code in ORDINARY_CODES
        if not worked or not ordinary or len(quick) >= limits.connects_per_host // QUICK_PART:
            return None
        quick.append(now)
        return self._tools.random() * min(QUICK_SECONDS, self._tools.config.backoff_first_seconds)

    def _waits(self) -> Waits:
        return Waits(self._clock, self._tools.config, self._tools.random)

    async def _dial(self, waits: Waits) -> Life | None:
        """One attempt to connect. After a failure it has waited, so that the caller may try again at once."""
        limits, plan = self._limits, self.connection
        connection = msgspec.structs.replace(plan, url=self._urls[0], age=self._age)
        self.attempts += 1
        spacing = limits.connects_window / limits.connects_per_host / SECOND / ALLOWED_PART
        try:
            opened = await self._unless_halted(self._open(connection, spacing))
        except ConnectFailed as failed:
            delay = waits.after_refusal(failed)
            telemetry.connect_failed(**self._facts, reason=failed.reason, retry_seconds=delay)
            await pause(self._clock, self._halt, delay)
            return None
        if opened is None:
            return None
        transport, connection = opened
        session = self._exchange.session(connection, self._tools.next_session())
        probing = self._exchange if isinstance(self._exchange, Probing) else None
        self.life = life = Life(self._pipeline, session, transport, connection, self._tools, probing)
        self._plan, self._age = plan, 0
        self._lives.append(life)
        self._want(self.connection.streams)  # which may have changed while it was being opened
        telemetry.connected(**self._facts, session=session.session_id, url=connection.url)
        return life

    async def _open(self, connection: Connection, spacing: float) -> tuple[Transport, Connection]:
        """A connection, after the venue has admitted it where it wants to be asked. Raises ConnectFailed."""
        admission = await self._admission(connection)
        if admission is None:
            return await self._connect(connection.url, spacing), connection
        transport = await self._connect(admission.url, spacing)
        return transport, msgspec.structs.replace(connection, ping_every=admission.ping_every)

    async def _admission(self, connection: Connection) -> Admission | None:
        """What the venue says of this connection before it is opened; None where it is not asked."""
        exchange = self._exchange
        fetch = exchange.admission(connection) if isinstance(exchange, Admitting) else None
        if fetch is None or not isinstance(exchange, Admitting):
            return None
        await self._tools.spend(fetch.weight)
        try:
            answer = await self._tools.http.fetch(fetch.method, fetch.url)
        except HttpFailed as error:
            raise ConnectFailed(f"{fetch.tag}: {error}") from error
        said = exchange.admitted(connection, answer.status, answer.headers, answer.body)
        if isinstance(said, Admission):
            return said
        raise ConnectFailed(f"{fetch.tag}: {said}"[:300], status=answer.status, headers=answer.headers)

    async def _connect(self, url: str, spacing: float) -> Transport:
        await self._tools.turn(urlsplit(url).netloc, spacing)
        config = self._tools.config
        max_frame = config.max_frame_mb * 1024 * 1024 if config.max_frame_mb else self._limits.max_frame
        return await self._tools.connect(
            url, max_frame=max_frame, timeout=config.connect_timeout_seconds, now=self._clock.now
        )

    async def _unless_halted(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None where the end comes first: a handshake must not hold up a shutdown."""
        async with asyncio.TaskGroup() as group:
            worker = group.create_task(_outcome(work))
            stopped = group.create_task(self._halt.wait())
            try:
                await asyncio.wait((worker, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                worker.cancel()
                stopped.cancel()
        if worker.cancelled():
            return None
        result, error = worker.result()
        if error is not None:
            raise error
        return result

    async def _keep(self, life: Life, group: asyncio.TaskGroup) -> Ending:
        """Live through one connection and the successors that take over from it; the last one's end."""
        running, waits = group.create_task(life.run()), self._waits()
        while True:
            if self._plan is not self.connection:  # changed while it was being opened
                life.successor_wanted.set()
            wanted = group.create_task(life.successor_wanted.wait())
            halted = group.create_task(self._halt.wait())
            await asyncio.wait((running, wanted, halted), return_when=asyncio.FIRST_COMPLETED)
            wanted.cancel()
            halted.cancel()
            if self._halt.is_set():
                await life.wind_down(self._last_word)
                return self._say_end(life, await running)
            if running.done():
                return self._say_end(life, running.result())
            heir = await self._dial(waits)
            if heir is None:
                continue
            succession = group.create_task(heir.run())
            if await self._taken_over(life, running, heir, succession):
                life, running, waits = heir, succession, self._waits()
                continue
            self.life = life
            ending = self._say_end(heir, succession.result())
            await pause(self._clock, self._halt, waits.after_end(ending.code))

    async def _taken_over(
        self, life: Life, running: asyncio.Task[Ending], heir: Life, succession: asyncio.Task[Ending]
    ) -> bool:
        """Wait until the successor is shown to have what the old connection sends, or for long enough, and close that.

        False where the successor ended first: the old connection goes on.
        """
        until = self._clock.monotonic() + OVERLAP_SECONDS
        shown = overlap(self._pipeline, life.link, heir.link)
        while not (running.done() or succession.done() or self._halt.is_set()):
            shown = overlap(self._pipeline, life.link, heir.link)
            if shown.complete or self._clock.monotonic() >= until:
                break
            await pause(self._clock, self._halt, 0.1)
        if succession.done() and not running.done() and not self._halt.is_set():
            return False
        if self._halt.is_set():
            await life.wind_down(self._last_word)
        else:
            await life.wind_down(HANDOVER, shown.said(heir.session.session_id))
        ending = await running
        self._say_end(life, ending)
        if ending.cause == HANDOVER:
            self._say_silent(heir, shown)
        return True

    def _say_silent(self, heir: Life, shown: Overlap) -> None:
        """Streams that only the old connection still sent are gaps until the new one sends them."""
        for stream in shown.silent:
            self._pipeline.stalled(heir.link, stream, self._clock.now())

    def _say_end(self, life: Life, ending: Ending) -> Ending:
        telemetry.disconnected(
            **self._facts, session=life.link.row.session, cause=ending.cause, detail=ending.detail,
            planned=ending.planned,
        )  # fmt: skip
        return ending


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    """What came of it, as a value: an error inside a task group would cancel its neighbours."""
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 -- raised again by whoever asked
        return None, error
