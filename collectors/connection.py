"""Connection driver: one session over one transport, and the keeping of it: again after a failure, without end.

The session decides, the driver does: it reads, stamps the receive time on the next line, hands the batch on, and
carries out what comes back. It never gives up; before a venue's forced cut it lets a successor produce first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from collectors.config import ConnectionConfig
from collectors.http import Http, HttpFailed
from collectors.liveness import Watch
from collectors.liveness import status as liveness_of
from collectors.pipeline import Pipeline, Task
from collectors.transports import Closed, Connect, ConnectFailed, Transport
from market.session import Booked, Connection, Exchange, Fetch, Send, Session
from market.times import SECOND
from runtime import telemetry
from runtime.clock import Clock, pause
from runtime.retry import backoff

T = TypeVar("T")
TURN_FRAMES = 256
"""Frames handled before every other task of the loop gets its turn."""
TEND_SECONDS = 1.0
BURST = 4
"""Connections to one host that may be opened at once."""
PRODUCE_SECONDS = 30.0
"""How long a successor may take to produce what its predecessor does."""
SETTLED_SECONDS = 60.0
"""A connection that lived this long starts the backoff anew."""
ANNOUNCED = frozenset({"planned", "server_shutdown"})
"""Causes of a Leave that come before the end: the successor is opened while the connection still produces."""


STOPPED = "stopped"
"""Cause of an end that we were asked for: from here on nothing is desired, so nothing is missing."""


NO_FIRST_MESSAGE = "no_first_message"
"""Cause of a session's Leave where everything was acknowledged and nothing ever came."""


class Ending(msgspec.Struct, frozen=True):
    """Why a session is over. `planned` where we ended it ourselves and nothing is missing."""

    cause: str
    detail: str = ""
    code: int | None = None
    planned: bool = False


class Tools(msgspec.Struct, frozen=True):
    """What every driver of a market shares."""

    clock: Clock
    config: ConnectionConfig
    connect: Connect
    http: Http
    next_session: Callable[[], str]
    turn: Callable[[str, float], Awaitable[None]]
    """Waits for the turn to connect to a host, which comes no more often than every so many seconds."""
    random: Callable[[], float]
    spend: Callable[[int], Awaitable[None]]
    """Waits for the turn of a request of that weight."""


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


class Life:
    """One session over one open transport, until it ends. `run` it once; `link` exists from the start."""

    def __init__(
        self, pipeline: Pipeline, session: Session, transport: Transport, connection: Connection, tools: Tools
    ) -> None:
        self._pipeline = pipeline
        self._session = session
        self._transport = transport
        self._connection = connection
        self._tools = tools
        self._clock = tools.clock
        self._streams = Watch(round(tools.config.silent_stream_seconds * SECOND))
        self._outbox: deque[Task] = deque()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._ending: Ending | None = None
        self.born = self._heard = self._clock.monotonic()
        self.successor_wanted = asyncio.Event()
        """Set when a new connection should take over: the venue will cut this one."""
        self.link, tasks = pipeline.open(
            session, name=connection.name, source="ws", url=connection.url, now=self._clock.now()
        )
        self._do(tasks)

    async def run(self) -> Ending:
        """Drive the session to its end, whoever ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._guard(part)) for part in (self._receive(), self._tend(group))]
                try:
                    await self._over.wait()
                finally:
                    for task in tasks:
                        task.cancel()
            await self._transport.close()
        finally:
            ending = self._ending or Ending("cancelled")
            self._pipeline.close(
                self.link, ending.cause, self._clock.now(), code=ending.code, detail=ending.detail,
                wanted=not (ending.planned and ending.cause == STOPPED),
            )  # fmt: skip
        return ending

    async def wind_down(self, cause: str) -> None:
        """End it ourselves: what the venue has sent until it agrees is still taken."""
        if self._ending is None:
            self._ending = Ending(cause, planned=True)
            await self._transport.close()

    @property
    def produced(self) -> set[tuple[str, str]]:
        """(kind, symbol) of every stream that has sent something."""
        return {(state.stream.kind, state.stream.symbol) for state in self._session.streams() if state.events}

    def status(self) -> Mapping[str, object]:
        """Its session, its streams by what they are doing, and by name those that are not producing."""
        session = self._session
        states = list(session.streams())
        now = self._clock.now()
        held = {state.stream.name: liveness_of(state, now) for state in states}
        return {
            "session": session.session_id,
            "states": dict(Counter(held.values())),
            "not_producing": {name: status for name, status in held.items() if status != "producing"},
            "books_out_of_sync": session.books_out_of_sync() if isinstance(session, Booked) else [],
        }

    def _end(self, cause: str, detail: str = "", code: int | None = None) -> None:
        if self._ending is None:
            self._ending = Ending(cause, detail, code)
        self._over.set()

    def _do(self, tasks: Sequence[Task]) -> None:
        if tasks:
            self._outbox.extend(tasks)
            self._wake.set()

    async def _guard(self, part: Awaitable[None]) -> None:
        """A defect of ours ends this session only; it is said, and the connection is made again."""
        try:
            await part
        except Closed as closed:
            self._end("disconnect", str(closed), closed.code)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other connections go on
            telemetry.service_restarted(service=self._connection.name, error=error, restarts=1, delay_seconds=0.0)
            self._end("internal_error", f"{type(error).__name__}: {error}"[:200])

    async def _receive(self) -> None:
        pipeline, link, transport, clock = self._pipeline, self.link, self._transport, self._clock
        turn = 0
        while True:
            if pipeline.full:
                await pipeline.room()
            frames = await transport.receive()
            ts_recv = clock.now()
            self._heard = clock.monotonic()
            tasks = pipeline.receive(link, frames, ts_recv)
            if tasks:
                self._do(tasks)
            turn += len(frames)
            if turn >= TURN_FRAMES:
                turn = 0
                await clock.sleep(0)

    async def _tend(self, group: asyncio.TaskGroup) -> None:
        """Everything but receiving: sends, fetches, the session's deadlines, and whether the socket is alive."""
        clock = self._clock
        while True:
            while self._outbox:
                await self._carry_out(self._outbox.popleft(), group)
            deadline = self._session.next_deadline()
            left = TEND_SECONDS if deadline is None else (deadline - clock.now()) / SECOND
            await pause(clock, self._wake, min(TEND_SECONDS, max(0.005, left)))
            self._wake.clear()
            self._watch()
            self._do(self._pipeline.tick(self.link, clock.now()))

    async def _carry_out(self, task: Task, group: asyncio.TaskGroup) -> None:
        if isinstance(task, Send):
            await self._transport.send(task.text)
            self._pipeline.sent(self.link, task.text, self._clock.now())
        elif isinstance(task, Fetch):
            group.create_task(self._guard(self._fetch(task)))
        elif task.cause in ANNOUNCED:
            self.successor_wanted.set()
        else:
            self._end(task.cause, task.detail)

    async def _fetch(self, task: Fetch) -> None:
        await self._tools.spend(task.weight)
        if self._over.is_set():
            return
        try:
            answer = await self._tools.http.fetch(task.method, task.url)
        except HttpFailed as error:
            status, headers, body = 0, {"error": str(error)}, b""
        else:
            status, headers, body = answer.status, dict(answer.headers), answer.body
        if not self._over.is_set():
            self._do(self._pipeline.respond(self.link, task, status, headers, body, self._clock.now()))

    def _watch(self) -> None:
        """Streams that are acknowledged and silent, or have stalled; and the operator's own bound for the socket."""
        now = self._clock.now()
        for change in self._streams.look(self._session.streams(), now):
            if change.alarm:
                stream = change.stream
                telemetry.silent_stream(
                    exchange=self._connection.exchange, market_type=self._connection.market_type, kind=stream.kind,
                    symbol=stream.symbol, seconds=change.quiet / SECOND,
                )  # fmt: skip
            if change.status == "stalled" and not self._pipeline.full:
                self._pipeline.stalled(self.link, change.stream, now)
                self.successor_wanted.set()  # the venue may have forgotten a subscription: ask again on a new one
        silent = self._tools.config.silent_socket_seconds
        quiet = self._clock.monotonic() - self._heard
        if silent is not None and quiet > silent and not self._pipeline.full:
            self._end("silence", f"no frame for {quiet:.0f} s")


class Driver:
    """Keeps one connection of a market's plan: `run` returns only when it is told to stop."""

    def __init__(self, exchange: Exchange, connection: Connection, pipeline: Pipeline, tools: Tools) -> None:
        self.connection = connection
        self.attempts = 0
        self._urls = deque((connection.url, *connection.fallbacks))
        self.life: Life | None = None
        self._exchange = exchange
        self._pipeline = pipeline
        self._tools = tools
        self._clock = tools.clock
        self._limits = exchange.LIMITS[connection.market_type]
        self._facts = {
            "exchange": connection.exchange,
            "market_type": connection.market_type,
            "connection": connection.name,
        }

    async def run(self, stop: asyncio.Event) -> None:
        delays = self._delays()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                life = await self._dial(stop, delays)
                if life is None:
                    continue
                if await self._keep(life, stop, group) == NO_FIRST_MESSAGE:
                    self._urls.rotate(-1)  # sources disagree on where this venue serves it: ask on the other address
                if self._clock.monotonic() - life.born > SETTLED_SECONDS:
                    delays = self._delays()
                await pause(self._clock, stop, next(delays))

    def _delays(self) -> Iterator[float]:
        config = self._tools.config
        first = min(config.backoff_first_seconds, config.backoff_max_seconds)
        return backoff(self._tools.random, first=first, cap=config.backoff_max_seconds)

    async def _dial(self, stop: asyncio.Event, delays: Iterator[float]) -> Life | None:
        """One attempt to connect. After a failure it has waited, so that the caller may try again at once."""
        limits = self._limits
        connection = msgspec.structs.replace(self.connection, url=self._urls[0])
        self.attempts += 1
        spacing = limits.connects_window / limits.connects_per_host / SECOND
        try:
            await self._tools.turn(urlsplit(connection.url).netloc, spacing)
            transport = await self._unless(stop, self._connect(connection.url))
        except ConnectFailed as failed:
            delay = next(delays)
            telemetry.connect_failed(**self._facts, reason=failed.reason, retry_seconds=delay)
            await pause(self._clock, stop, delay)
            return None
        if transport is None:
            return None
        session = self._exchange.session(connection, self._tools.next_session())
        self.life = life = Life(self._pipeline, session, transport, connection, self._tools)
        telemetry.connected(**self._facts, session=session.session_id, url=connection.url)
        return life

    async def _connect(self, url: str) -> Transport:
        config = self._tools.config
        max_frame = config.max_frame_mb * 1024 * 1024 if config.max_frame_mb else self._limits.max_frame
        return await self._tools.connect(url, max_frame=max_frame, timeout=config.connect_timeout_seconds)

    async def _unless(self, stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None where `stop` comes first: a handshake must not hold up a shutdown."""
        async with asyncio.TaskGroup() as group:
            worker = group.create_task(_outcome(work))
            stopped = group.create_task(stop.wait())
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

    async def _keep(self, life: Life, stop: asyncio.Event, group: asyncio.TaskGroup) -> str:
        """Live through one connection and the successors that take over from it; the cause of the last one's end."""
        running = group.create_task(life.run())
        while True:
            wanted = group.create_task(life.successor_wanted.wait())
            stopped = group.create_task(stop.wait())
            await asyncio.wait((running, wanted, stopped), return_when=asyncio.FIRST_COMPLETED)
            wanted.cancel()
            stopped.cancel()
            if stop.is_set():
                await life.wind_down(STOPPED)
                return self._say_end(life, await running)
            if running.done():
                return self._say_end(life, running.result())
            heir = await self._dial(stop, self._delays())
            if heir is None:
                continue
            succession = group.create_task(heir.run())
            await self._until_produced(life, running, heir, succession, stop)
            await life.wind_down("handover")
            self._say_end(life, await running)
            life, running = heir, succession

    async def _until_produced(
        self,
        life: Life,
        running: asyncio.Task[Ending],
        heir: Life,
        succession: asyncio.Task[Ending],
        stop: asyncio.Event,
    ) -> None:
        """Until the successor produces what the old connection does, or one of them is over, or it takes too long."""
        until = self._clock.monotonic() + PRODUCE_SECONDS
        while not (running.done() or succession.done() or stop.is_set()):
            if life.produced <= heir.produced or self._clock.monotonic() >= until:
                return
            await pause(self._clock, stop, 0.1)

    def _say_end(self, life: Life, ending: Ending) -> str:
        telemetry.disconnected(
            **self._facts, session=life.link.row.session, cause=ending.cause, detail=ending.detail,
            planned=ending.planned,
        )  # fmt: skip
        return ending.cause


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    """What came of it, as a value: an error inside a task group would cancel its neighbours."""
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 -- raised again by whoever asked
        return None, error
