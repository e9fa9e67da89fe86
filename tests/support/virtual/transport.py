"""Both ends of a WebSocket in virtual time: what a twin's handler takes for its socket, and the daemon's transport."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

from aiohttp import WSMsgType
from yarl import URL

from collectors.transports import BATCH_FRAMES, CLOSE_SECONDS, PING_SECONDS, Closed, Frames
from simulator.connection import BINARY, CLOSE, PING, TEXT, Connection
from tests.support.virtual.loop import VirtualLoop


class Asked:
    """As much of an aiohttp request as the simulator looks at."""

    def __init__(self, method: str, url: URL, headers: Mapping[str, str]) -> None:
        self.method = method
        self.rel_url = url.relative()
        self.path = url.path
        self.path_qs = url.path_qs
        self.query = url.query
        self.headers = headers
        self.host = url.authority
        self.match_info: Mapping[str, str] = {}
        self.transport: Wire | None = None


class Wire:
    """The server's end of one connection: an asyncio.Transport to the simulator."""

    def __init__(self, client: VirtualTransport) -> None:
        self._client = client
        self._closing = False
        self.frozen = False

    def write(self, data: bytes) -> None:
        if not self._closing and not self.frozen:
            self._client.arrived(data)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> None:
        return None

    def accepted(self, socket: Socket) -> None:
        self._client.socket = socket

    def pause_reading(self) -> None:
        self.frozen = True

    def abort(self) -> None:
        self._end(1006)

    def close(self) -> None:
        self._end(1006)

    def _end(self, code: int) -> None:
        if not self._closing:
            self._closing = True
            self._client.cut(code)


class Heard(NamedTuple):
    """A message of the client, as aiohttp gives it to a handler."""

    type: WSMsgType
    data: str


class Socket:
    """In place of `aiohttp.web.WebSocketResponse`: what the client says, until it is gone."""

    def __init__(self, **_options: object) -> None:
        self.close_code: int | None = None
        self.listens = False
        """Whether the handler has said its first words and waits for the client's."""
        self._said: deque[Heard] = deque()
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    async def prepare(self, request: Asked) -> None:
        """The handshake."""
        assert request.transport is not None
        request.transport.accepted(self)

    def hear(self, text: str) -> None:
        self._said.append(Heard(WSMsgType.TEXT, text))
        self._wake()

    def end(self, code: int | None) -> None:
        """The client is gone; what it said before is heard."""
        if not self._over:
            self.close_code, self._over = code, True
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Heard:
        self.listens = True
        while not self._said:
            if self._over:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        return self._said.popleft()


class VirtualTransport:
    """The daemon's end (collectors.transports.Transport)."""

    def __init__(self, loop: VirtualLoop, now: Callable[[], int], max_frame: int) -> None:
        self.wire = Wire(self)
        self.connection: Connection | None = None
        self.socket: Socket | None = None
        """The twin's, once it has accepted."""
        self.gone = False
        self._loop = loop
        self._now = now
        self._max_frame = max_frame
        self._data: list[bytes] = []
        self._times: list[int] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed: Closed | None = None
        self._rest = b""
        self._unanswered = False

    def opened(self, connection: Connection) -> None:
        self.connection = connection
        self._loop.call_later(PING_SECONDS, self._ping)

    # --- what the daemon does ---

    async def receive(self) -> Frames:
        while not self._data:
            if self._closed is not None:
                raise self._closed
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take(BATCH_FRAMES)

    def ready(self) -> Frames:
        return self._take(len(self._data))

    def _take(self, most: int) -> Frames:
        data, times = self._data, self._times
        self._data, self._times = data[most:], times[most:]
        if self._data:
            data, times = data[:most], times[:most]
        return Frames(data, times)

    async def send(self, text: str) -> None:
        if self._closed is not None:
            raise Closed(self._closed.code, self._closed.reason)
        if self.socket is not None and not self.wire.is_closing() and not self.wire.frozen:
            self.socket.hear(text)

    async def close(self) -> None:
        if self._closed is None and self.connection is not None:
            if self.wire.frozen or self.connection.mute:
                await pause(self._loop, CLOSE_SECONDS)
            else:
                self.connection.flush()
            self._end(1000, "closed by us")
            self._leave(1000)

    def drop(self) -> None:
        """The process is gone: the peer sees the connection end."""
        self._end(1006, "killed")
        self._leave(None)

    # --- what the venue does ---

    def arrived(self, data: bytes) -> None:
        """Bytes of the venue: whole frames, or the beginning of one that nothing follows."""
        if self._closed is not None:
            return
        self._rest += data
        while (found := _parse(self._rest)) is not None:
            opcode, payload, size = found
            self._rest = self._rest[size:]
            if opcode == PING:
                self._loop.call_soon(self._pong)
            elif opcode == CLOSE:
                self._end(int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode(errors="replace"))
                return
            elif opcode in (TEXT, BINARY):
                if len(payload) > self._max_frame:
                    self._end(1009, f"a frame of {len(payload):,} bytes")
                    self._leave(1009)
                    return
                self._data.append(payload)
                self._times.append(self._now())
                self._wake()

    def cut(self, code: int) -> None:
        """The venue's side is closed."""
        self._end(code, "no closing handshake")
        self._leave(None)

    # --- inside ---

    def _pong(self) -> None:
        if self.connection is not None and not self.wire.frozen:
            self.connection.last_pong = self._loop.time()

    def _ping(self) -> None:
        """Ours: a peer that says nothing at all between two of them is gone."""
        if self._closed is not None or self.connection is None:
            return
        if not (self.wire.frozen or self.connection.mute):
            self._unanswered = False
            self.connection.last_pong = self._loop.time()  # a ping is a word too
        elif self._unanswered:
            self._end(1011, "no pong")
            self._leave(1011)
            return
        else:
            self._unanswered = True
        self._loop.call_later(PING_SECONDS, self._ping)

    def _end(self, code: int, reason: str) -> None:
        if self._closed is None:
            self._closed = Closed(code, reason)
            self._wake()

    def _leave(self, code: int | None) -> None:
        """The twin's handler hears no more; without a code it sees no closing handshake."""
        if not self.gone:
            self.gone = True
            self.wire.close()
            if self.socket is not None:
                self.socket.end(code)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _parse(data: bytes) -> tuple[int, bytes, int] | None:
    """(opcode, payload, bytes used) of the first whole frame; servers do not mask."""
    if len(data) < 2:
        return None
    size, start = data[1] & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start + size:
        return None
    return data[0] & 0xF, data[start : start + size], start + size


async def pause(loop: VirtualLoop, seconds: float) -> None:
    future = loop.create_future()
    timer = loop.call_later(seconds, future.set_result, None)
    try:
        await future
    finally:
        timer.cancel()
