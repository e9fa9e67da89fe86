"""One session over one transport, from the open socket to its end.

The session decides, this does: it reads, stamps the receive time on the next line, hands the batch on, and carries out
what comes back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from collectors.config import ConnectionConfig
from collectors.holes import SILENCE, SILENT
from collectors.http import Fetching, HttpFailed
from collectors.inquiry import Inquiry
from collectors.liveness import status as liveness_of
from collectors.pipeline import Pipeline, Task
from collectors.transports import Closed, Connect, Frames, Transport
from market.probing import Probing
from market.session import Booked, Connection, Fetch, Leave, Send, Session, Stream
from market.times import SECOND
from runtime import telemetry
from runtime.clock import Clock, pause
from runtime.clock_watch import SLEPT_SECONDS, Steady

STAMPS = ("desired_at", "acknowledged_at", "first_recv", "last_recv", "excused", "ordinary", "proven")
"""Times of our own clock in a `StreamState`."""
TURN_FRAMES = 256
"""Frames handled before every other task of the loop gets its turn."""
TEND_SECONDS = 1.0
STALL_SECONDS = 1.0
"""So much later than it was asked to the loop comes back only where it stood still."""
HEARD_SECONDS = 0.25
"""In this time it reads what lies ready, and hands it on with the next turn (`transports.TURN_SECONDS`)."""
ANNOUNCED = frozenset({"planned", "server_shutdown"})
"""Causes of a Leave that come before the end: the successor is opened while the connection still produces."""
DISCONNECT = "disconnect"
"""Cause of an end that came from the other side."""
SUSPENDED = "suspended"
"""Cause of an end that the machine's sleep brought: whatever the socket still says, the venue went on without us."""
STOPPED = "stopped"
"""Cause of an end that we were asked for: from here on nothing is desired, so nothing is missing."""


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
    http: Fetching
    next_session: Callable[[], str]
    turn: Callable[[str, float], Awaitable[None]]
    """Waits for the turn to connect to a host, which comes no more often than every so many seconds."""
    random: Callable[[], float]
    spend: Callable[[int], Awaitable[None]]
    """Waits for the turn of a request of that weight."""


class Life:
    """One session over one open transport, until it ends. `run` it once; `link` exists from the start."""

    def __init__(
        self,
        pipeline: Pipeline,
        session: Session,
        transport: Transport,
        connection: Connection,
        tools: Tools,
        probing: Probing | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._session = session
        self._transport = transport
        self._connection = connection
        self._tools = tools
        self._clock = tools.clock
        self._outbox: deque[Task] = deque()
        self._fetches: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._ending: Ending | None = None
        self._code: int | None = None
        """How the socket ended, whoever wanted it."""
        self.born = self._heard = self._clock.monotonic()
        self._steady = Steady(self._clock)
        self._look_at = self.born
        """When its streams are looked at next: one that is pinged, or asks for much, wakes up far more often."""
        self._moved = 0
        """How far (us) the streams' times were moved by steps of the wall clock."""
        self.successor_wanted = asyncio.Event()
        """Set when a new connection should take over: the venue will cut this one."""
        self.link, tasks = pipeline.open(
            session, name=connection.name, source="ws", url=connection.url, now=self._clock.now()
        )
        self._inquiry = Inquiry(
            pipeline, self.link, connection, round(tools.config.silent_stream_seconds * SECOND), probing, tools.clock,
            tools.http, tools.spend, self._mend, self._later,
        )  # fmt: skip
        self._group: asyncio.TaskGroup | None = None
        self._do(tasks)

    async def run(self) -> Ending:
        """Drive the session to its end, whoever ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                tasks = [group.create_task(self._guard(part)) for part in (self._receive, self._tend)]
                try:
                    await self._over.wait()
                finally:
                    for task in (*tasks, *self._fetches):  # answers may be minutes away, and nobody wants them now
                        task.cancel()
            await self._transport.close()
        finally:
            self._inquiry.close()
            ending = self._ending or Ending("cancelled")
            self._pipeline.close(
                self.link, ending.cause, self._clock.now(), detail=ending.detail,
                code=self._code if ending.planned else ending.code,
                wanted=not (ending.planned and ending.cause == STOPPED),
            )  # fmt: skip
        return ending

    async def wind_down(self, cause: str, detail: str = "") -> None:
        """End it ourselves: what the venue has sent until it agrees is still taken."""
        if self._ending is None:
            self._ending = Ending(cause, detail, planned=True)
            await self._transport.close()

    @property
    def session(self) -> Session:
        return self._session

    def want(self, streams: Iterable[Stream]) -> None:
        """Only these of its streams are wanted from now on: whatever ends it, the others leave no gap."""
        self.link.want(streams, self._clock.now())

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
            "probes": self._inquiry.status(),
            "books_out_of_sync": session.books_out_of_sync() if isinstance(session, Booked) else [],
        }

    def _end(self, cause: str, detail: str = "", code: int | None = None) -> None:
        if self._ending is None:
            self._ending = Ending(cause, detail, code)
        self._over.set()

    def _do(self, tasks: Sequence[Task]) -> None:
        """Leaving is decided at once; a session that says it again at every tick must not wake the one that ticks."""
        for task in tasks:
            if not isinstance(task, Leave):
                self._outbox.append(task)
                self._wake.set()
            elif task.cause in ANNOUNCED:
                self.successor_wanted.set()
            else:
                self._end(task.cause, task.detail)

    async def _guard(self, part: Callable[[], Awaitable[None]]) -> None:
        """A defect of ours ends this session only; it is said, and the connection is made again."""
        try:
            await part()
        except Closed as closed:
            self._code = closed.code
            self._end(DISCONNECT, str(closed), closed.code)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._end("internal_error", "cancelled from within")
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other connections go on
            telemetry.service_restarted(service=self._connection.name, error=error, restarts=1, delay_seconds=0.0)
            self._end("internal_error", f"{type(error).__name__}: {error}"[:200])

    async def _receive(self) -> None:
        pipeline, transport, clock = self._pipeline, self._transport, self._clock
        turn = 0
        while True:
            if pipeline.full:
                await pipeline.room()
            frames = await transport.receive()
            self._take_in(frames)
            turn += len(frames.data)
            if turn >= TURN_FRAMES:
                turn = 0
                await clock.sleep(0)

    def _take_in(self, frames: Frames) -> None:
        self._heard = self._clock.monotonic()
        tasks = self._pipeline.take_in(self.link, frames.data, frames.times)
        if tasks:
            self._do(tasks)

    async def _tend(self) -> None:
        """Everything but receiving: sends, fetches, the session's deadlines, and whether the socket is alive."""
        clock = self._clock
        while not self._over.is_set():
            self._wake.clear()  # what is to be done is done before the next look, and is no reason for another
            while self._outbox:
                await self._carry_out(self._outbox.popleft())
            deadline = self._session.next_deadline()
            left = TEND_SECONDS if deadline is None else (deadline - self._steady.now()) / SECOND
            begun, wait = clock.monotonic(), min(TEND_SECONDS, max(0.005, left))
            await pause(clock, self._wake, wait)
            if clock.monotonic() - begun > wait + STALL_SECONDS:
                await clock.sleep(HEARD_SECONDS)  # what came while the loop stood still, before it is called silence
            self._watch()
            self._do(self._pipeline.tick(self.link, self._steady.now()))

    def _later(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what has to wait for an answer; it ends with the session."""
        assert self._group is not None
        waiting = self._group.create_task(self._guard(work))
        self._fetches.add(waiting)
        waiting.add_done_callback(self._fetches.discard)

    def _mend(self, remedy: str, why: str) -> None:
        """What the connection has to do about streams that have missed something."""
        if remedy == "leave":
            self._end(SILENT, why[:300])
        else:
            self.successor_wanted.set()

    async def _carry_out(self, task: Task) -> None:
        if isinstance(task, Send):
            await self._transport.send(task.text)
            self._pipeline.sent(self.link, task.text, self._clock.now())
        elif isinstance(task, Fetch):
            self._later(partial(self._fetch, task))

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
        if (before := self._transport.ready()).data:
            self._take_in(before)  # it is numbered behind what was read before it came
        if not self._over.is_set():
            self._do(self._pipeline.respond(self.link, task, status, headers, body, self._clock.now()))

    def _watch(self) -> None:
        """Streams that are acknowledged and silent, or have stalled; and the operator's own bound for the socket."""
        if (slept := self._steady.slept()) > SLEPT_SECONDS:
            self._end(SUSPENDED, f"the machine slept for {slept:.0f} s")
        self._heed_steps()
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + TEND_SECONDS / 2
            self._inquiry.look(self._clock.now())
        silent = self._tools.config.silent_socket_seconds
        quiet = now - self._heard
        if silent is not None and quiet > silent and not self._pipeline.full:
            self._end(SILENCE, f"no frame for {quiet:.0f} s")

    def _heed_steps(self) -> None:
        """Where the wall clock was stepped, what is known of the streams is moved with it, and a successor asked for:
        the session itself has counted by the clock as it was.
        """
        steady = self._steady.now()
        wall = steady + self._steady.away
        if self._steady.away:
            self.successor_wanted.set()
        if self._steady.away != self._moved:
            self._inquiry.reset()
            by, self._moved = self._steady.away - self._moved, self._steady.away
            for state in self._session.streams():
                for name in STAMPS:
                    at = getattr(state, name)
                    if at and abs(at - wall) > abs(at + by - wall):
                        setattr(state, name, at + by)
