"""The replay server: a lake's history on the routes of tardis-machine, over HTTP and WebSocket.

    GET /replay?options=…               frames of a venue, a JSON line each
    GET /replay-normalized?options=…    normalised messages, a JSON line each
    WS  /ws-replay?exchange=&from=&to=  frames, of what the client subscribes to in the venue's own way
    WS  /ws-replay-normalized?options=…

`&speed=` says how many times as fast as it happened (0: without waiting). A message is read when the one before it was
taken, so that who reads slowly costs no memory. Only programs on this machine are answered, unless there is a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from daemon import replay_requests, replay_sources
from daemon.http import Handler, in_words, only_local, with_headers
from daemon.replay_pace import Pace, ahead
from daemon.replay_requests import BadRequest
from lake.errors import LakeError
from lake.reader import Lake
from market.errors import Malformed, MarketError
from market.replayed import Filter
from market.times import Interval
from runtime import guarding
from runtime.clock import Clock
from runtime.guesses import Guesses
from runtime.redaction import redacted

MAX_TARGET = 64 * 1024
"""Bytes of a request line: options name symbols."""
MAX_MESSAGE = 64 * 1024
"""Bytes of a message of a client."""
MOST_MESSAGES = 200
"""Messages that a client may send."""
GATHER_SECONDS = 2.0
"""How long subscriptions, and further connections of a session, are waited for, as there."""
CLOSE_SECONDS = 2.0
DONE, FAILED = 1000, 1011
T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True):
    """What a server gives at most, and how fast it is where a client does not say."""

    connections: int = 8
    speed: float = 0.0


class _Subscriber:
    """One connection of /ws-replay: what it asked for, and where its frames go."""

    def __init__(self, socket: web.WebSocketResponse, venue: str, period: Interval) -> None:
        self.socket = socket
        self.venue = venue
        self.period = period
        self.wanted: list[Filter] = []


class _Session:
    """Connections whose frames are sent in one order."""

    def __init__(self) -> None:
        self.members: list[_Subscriber] = []
        self.started = False
        self.done = asyncio.Event()


class ReplayServer:
    """The routes over one lake. `token` is asked for where it is given, and then from any machine."""

    def __init__(self, lake: Lake, clock: Clock, limits: Limits, token: str | None = None) -> None:
        self._lake = lake
        self._clock = clock
        self._limits = limits
        self._token = token
        self._guesses = Guesses(clock)
        self._busy = 0
        self._sessions: dict[str, _Session] = {}

    def application(self) -> web.Application:
        guard = only_local if self._token is None else self._only_known
        app = web.Application(middlewares=[guard, in_words, self._counted], client_max_size=1024)
        app.on_response_prepare.append(with_headers)
        app.router.add_get("/health-check", self._health)
        app.router.add_get("/replay", self._replay)
        app.router.add_get("/replay-normalized", self._replay_normalized)
        app.router.add_get("/ws-replay", self._ws_replay)
        app.router.add_get("/ws-replay-normalized", self._ws_replay_normalized)
        return app

    # --- who may ask, and how many at a time ---

    @web.middleware
    async def _only_known(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode(errors="surrogateescape")
        right = hmac.compare_digest(given, (self._token or "").encode())
        if "Origin" in request.headers or not right:
            guarding.request_refused(path=request.path, why="its token is wrong or missing, or a web page sent it")
            if await self._guesses.too_many():
                return _refused("too many wrong tokens", 429)
            return _refused("wrong or missing token: Authorization: Bearer <token>", 401)
        return await handler(request)

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What a client or the lake has wrong is a sentence; what it may take has an end."""
        if request.path == "/health-check":
            return await handler(request)
        if self._busy >= self._limits.connections:
            return _refused(f"{self._busy} replays are under way, no more are possible (--connections)", 503)
        self._busy += 1
        try:
            return await handler(request)
        except BadRequest as error:
            return _refused(str(error), 400)
        except (LakeError, MarketError) as error:
            return _refused(redacted(str(error)), 500)
        finally:
            self._busy -= 1

    async def _health(self, _request: web.Request) -> web.Response:
        body = {"status": "Healthy", "replays": self._busy, "possible": self._limits.connections}
        return web.json_response(body, dumps=lambda value: msgspec.json.encode(value).decode())

    # --- HTTP ---

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        asked = replay_requests.raw(request.query)
        period, wanted = replay_requests.span(asked.start, asked.end), replay_requests.filters(asked)
        source = await asyncio.to_thread(replay_sources.frames, self._lake, asked.exchange, wanted, period)
        told = ((at, frame) for at, frame in source if frame is not None or asked.with_disconnects)
        lines = ((at, replay_sources.frame_line(at, frame)) for at, frame in told)
        return await self._stream(request, lines)

    async def _replay_normalized(self, request: web.Request) -> web.StreamResponse:
        asked = replay_requests.normalised(request.query)
        source = await asyncio.to_thread(replay_sources.messages, self._lake, asked)
        return await self._stream(request, ((at, message + b"\n") for at, message in source))

    async def _stream(self, request: web.Request, lines: Iterator[tuple[int, bytes]]) -> web.StreamResponse:
        speed = replay_requests.speed(request.query, self._limits.speed)
        pace = Pace(self._clock, speed)
        batches = ahead(lines, lambda line: len(line[1]))
        # what is wrong with the files is said before the answer begins
        first: list[tuple[int, bytes]] = await anext(batches, [])
        response = web.StreamResponse(headers={"Content-Type": "application/x-json-stream"})
        await response.prepare(request)
        try:
            async for batch in _chained(first, batches):
                if not speed:
                    await response.write(b"".join([line for _, line in batch]))
                    continue
                for at, line in batch:
                    await pace.wait(at)
                    await response.write(line)
            await response.write_eof()
        except ConnectionError:
            pass  # nobody listens any more
        except Exception as error:  # noqa: BLE001 - the answer has begun: that it is not whole is all that can be said
            guarding.request_failed(path=request.path, error=error)
            _cut(request)
        return response

    # --- WebSocket ---

    async def _ws_replay_normalized(self, request: web.Request) -> web.StreamResponse:
        asked = replay_requests.normalised(request.query)
        pace = Pace(self._clock, replay_requests.speed(request.query, self._limits.speed))
        source = await asyncio.to_thread(replay_sources.messages, self._lake, asked)

        async def send(socket: web.WebSocketResponse) -> None:
            async for batch in ahead(source, lambda message: len(message[1])):
                for at, message in batch:
                    await pace.wait(at)
                    await socket.send_frame(message, WSMsgType.TEXT)

        return await self._talk(request, send, lambda _: None)

    async def _ws_replay(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        period = replay_requests.span(query.get("from"), query.get("to"))
        pace = Pace(self._clock, replay_requests.speed(query, self._limits.speed))
        venue, key = query.get("exchange", ""), query.get("session")
        adapter = await asyncio.to_thread(replay_sources.telling, self._lake, venue)
        session = self._sessions.setdefault(key, _Session()) if key else _Session()
        if session.started:
            raise BadRequest(f"session {str(key)[:60]!r} has begun already")
        mine = _Subscriber(_socket(), venue, period)
        session.members.append(mine)
        leads = session.members[0] is mine

        def heard(value: object) -> None:
            if not session.started:
                mine.wanted += adapter.subscribed(value)
                if len(mine.wanted) > replay_requests.MOST_FILTERS:
                    raise BadRequest(f"more than {replay_requests.MOST_FILTERS} channels")

        async def send(_socket: web.WebSocketResponse) -> None:
            if not leads:
                await session.done.wait()
                return
            await self._clock.sleep(GATHER_SECONDS)
            session.started = True
            await self._run(session, pace)

        try:
            return await self._talk(request, send, heard, mine.socket)
        finally:
            if leads:
                session.started = True
                session.done.set()
                self._sessions.pop(key or "", None)

    async def _run(self, session: _Session, pace: Pace) -> None:
        """Frames of all members of a session, each to who asked for it, in one order."""
        members = [one for one in session.members if not one.socket.closed]
        silent = [one for one in members if not one.wanted]
        if silent:
            raise BadRequest(f"no subscription came within {GATHER_SECONDS:g} s for {silent[0].venue}")
        source = await asyncio.to_thread(self._together, members)
        async for batch in ahead(source, lambda held: len(held[2])):
            for at, place, frame in batch:
                await pace.wait(at)
                with contextlib.suppress(ConnectionError):
                    await members[place].socket.send_frame(frame, WSMsgType.TEXT)
            if all(one.socket.closed for one in members):
                return

    def _together(self, members: list[_Subscriber]) -> Iterator[tuple[int, int, bytes]]:
        return replay_sources.together(
            [replay_sources.frames(self._lake, one.venue, one.wanted, one.period) for one in members]
        )

    async def _talk(
        self,
        request: web.Request,
        send: Callable[[web.WebSocketResponse], Coroutine[Any, Any, None]],
        heard: Callable[[object], None],
        socket: web.WebSocketResponse | None = None,
    ) -> web.StreamResponse:
        """One connection: what it says is heard while it is sent to; how it ends is said in a code and a sentence."""
        socket = socket or _socket()
        await socket.prepare(request)
        code, why = DONE, "WS replay finished"
        try:
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(_hear(socket, heard))
                sending = group.create_task(send(socket))
                hearing.add_done_callback(lambda _: sending.cancel())
                sending.add_done_callback(lambda _: hearing.cancel())
        except* BadRequest as errors:
            code, why = FAILED, str(errors.exceptions[0])
        except* (LakeError, MarketError) as errors:
            code, why = FAILED, redacted(str(errors.exceptions[0]))
        except* ConnectionError:
            pass  # nobody listens any more
        except* Exception as errors:  # noqa: BLE001 - a defect of ours: the client learns that much, the log the rest
            guarding.request_failed(path=request.path, error=errors.exceptions[0])
            code, why = FAILED, "internal error; the log says more"
        await socket.close(code=code, message=why.encode()[:120])
        return socket


def _socket() -> web.WebSocketResponse:
    return web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False, timeout=CLOSE_SECONDS)


async def _hear(socket: web.WebSocketResponse, heard: Callable[[object], None]) -> None:
    """Until the client ends the connection. What is no JSON asks for nothing. Raises BadRequest."""
    count = 0
    async for message in socket:
        count += 1
        if count > MOST_MESSAGES:
            raise BadRequest(f"more than {MOST_MESSAGES} messages")
        try:
            heard(msgspec.json.decode(message.data))
        except (msgspec.MsgspecError, RecursionError, TypeError):
            continue
        except Malformed as error:
            raise BadRequest(str(error)[:100]) from error


async def _chained(first: list[T], rest: AsyncIterator[list[T]]) -> AsyncIterator[list[T]]:
    yield first
    async for batch in rest:
        yield batch


def _cut(request: web.Request) -> None:
    """End the connection without the end of the answer: it is not whole."""
    if request.transport is not None:
        request.transport.abort()


def _refused(message: str, status: int) -> web.Response:
    body = msgspec.json.encode({"error": message}) + b"\n"
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json"})
