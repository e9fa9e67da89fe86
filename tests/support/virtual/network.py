"""The network between daemon and venue, in memory: WebSocket bytes and HTTP answers, without a socket.

The venue's side is the simulator's: its hub, its commands, its REST handlers and its faults. The daemon's side are the
two seams that it has for it: `Connect` of `collectors.transports` and the client inside `collectors.http.Http`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from collectors.http import Http
from collectors.transports import BATCH_FRAMES, CLOSE_SECONDS, PING_SECONDS, Closed, ConnectFailed, Frames
from simulator import answers
from simulator.connection import BINARY, CLOSE, PING, TEXT, Connection
from simulator.faults import Fault
from simulator.hub import Hub
from simulator.venues import Settings
from simulator.venues.binance import stream
from tests.support.virtual.loop import VirtualLoop

HOST = "venue"
ROUND_TRIP_SECONDS = 0.05
STREAMED = ("short_body", "gzip_cut", "gzip_bomb", "endless_body", "slow_body")
"""Faults of REST that need a body in pieces."""
Handler = Callable[[Any], Awaitable[web.StreamResponse]]


class Asked:
    """As much of an aiohttp request as the simulator looks at."""

    def __init__(self, method: str, url: URL, headers: Mapping[str, str]) -> None:
        self.method = method
        self.rel_url = url.relative()
        self.path = url.path
        self.path_qs = url.path_qs
        self.query = url.query
        self.headers = headers
        self.match_info: dict[str, str] = {}
        self.transport = None


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


class VirtualTransport:
    """The daemon's end (collectors.transports.Transport)."""

    def __init__(self, loop: VirtualLoop, hub: Hub, now: Callable[[], int], max_frame: int) -> None:
        self.wire = Wire(self)
        self.connection: Connection | None = None
        self._loop = loop
        self._hub = hub
        self._now = now
        self._max_frame = max_frame
        self._data: list[bytes] = []
        self._times: list[int] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed: Closed | None = None
        self._rest = b""
        self._gone = False
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
        data, self._data = self._data[:BATCH_FRAMES], self._data[BATCH_FRAMES:]
        times, self._times = self._times[:BATCH_FRAMES], self._times[BATCH_FRAMES:]
        return Frames(data, times)

    async def send(self, text: str) -> None:
        if self._closed is not None:
            raise Closed(self._closed.code, self._closed.reason)
        self._loop.call_soon(self._heard, text)

    async def close(self) -> None:
        if self._closed is None and self.connection is not None:
            if self.wire.frozen or self.connection.mute:
                await _pause(self._loop, CLOSE_SECONDS)
            else:
                self.connection.flush()
            self._end(1000, "closed by us")
            self._leave("client closed 1000")

    def drop(self) -> None:
        """The process is gone: the peer sees the connection end."""
        self._end(1006, "killed")
        self._leave("reset")

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
                    self._leave("client closed 1009")
                    return
                self._data.append(payload)
                self._times.append(self._now())
                self._wake()

    def cut(self, code: int) -> None:
        """The venue's side is closed."""
        self._end(code, "no closing handshake")
        self._leave("reset")

    # --- inside ---

    def _heard(self, text: str) -> None:
        connection = self.connection
        if connection is not None and not self.wire.is_closing() and not self.wire.frozen:
            stream.heard(self._hub, connection, text)
            connection.flush()

    def _pong(self) -> None:
        if self.connection is not None and not self.wire.frozen:
            self.connection.last_pong = self._loop.time()

    def _ping(self) -> None:
        """Ours: a peer that says nothing at all between two of them is gone."""
        if self._closed is not None or self.connection is None:
            return
        if not (self.wire.frozen or self.connection.mute):
            self._unanswered = False
        elif self._unanswered:
            self._end(1011, "no pong")
            self._leave("client closed 1011")
            return
        else:
            self._unanswered = True
        self._loop.call_later(PING_SECONDS, self._ping)

    def _end(self, code: int, reason: str) -> None:
        if self._closed is None:
            self._closed = Closed(code, reason)
            self._wake()

    def _leave(self, cause: str) -> None:
        if not self._gone and self.connection is not None:
            self._gone = True
            self.wire._closing = True
            self._loop.call_soon(self._hub.gone, self.connection, cause)

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


async def _pause(loop: VirtualLoop, seconds: float) -> None:
    future = loop.create_future()
    timer = loop.call_later(seconds, future.set_result, None)
    try:
        await future
    finally:
        timer.cancel()


class VirtualVenue:
    """The simulated venue as the daemon reaches it. `reachable` False: no route to it at all."""

    def __init__(self, loop: VirtualLoop, hub: Hub, routes: list[web.RouteDef], settings: Settings) -> None:
        self.reachable = True
        self.transports: list[VirtualTransport] = []
        self.asked = 0
        self._loop = loop
        self._hub = hub
        self._settings = settings
        self._routes: dict[str, Handler] = {route.path: route.handler for route in routes}  # type: ignore[misc]
        self._spoil = answers.rest_faults(hub)

    # --- WebSocket ---

    async def connect(
        self, url: str, *, max_frame: int, timeout: float, now: Callable[[], int], compression: str = "off"
    ) -> VirtualTransport:
        """`collectors.transports.Connect`."""
        del timeout, compression
        await _pause(self._loop, ROUND_TRIP_SECONDS)
        if not self.reachable:
            raise ConnectFailed("OSError: network is unreachable")
        target = URL(url.replace("ws://", "http://", 1))
        request = Asked("GET", target, {"Upgrade": "websocket"})
        market = target.path.split("/")[1]
        refusal = self._hub.strikes.refused(market, request.path_qs)
        if refusal is not None:
            status = refusal.status if refusal.form == "status" else None
            raise ConnectFailed("refused on command", status=status)
        fault = answers._fault_for(self._hub, request, market, upgrade=True)  # type: ignore[arg-type]
        if fault is not None:
            answer = await answers._spoiled(self._hub, fault, request, _never)  # type: ignore[arg-type]
            raise ConnectFailed(
                f"refused: HTTP {answer.status}", status=answer.status,
                headers={name.lower(): value for name, value in answer.headers.items()},
            )  # fmt: skip
        self.transports = [one for one in self.transports if not one._gone]
        transport = VirtualTransport(self._loop, self._hub, now, max_frame)
        route = next(route for path, route in stream.PATHS[market] if f"/{market}{path}" == target.path)
        connection = self._hub.open(market, route, request.path_qs, transport.wire)  # type: ignore[arg-type]
        connection.combined = target.path.endswith("/stream")
        transport.opened(connection)
        stream.keep(self._hub, connection, self._settings)
        self.transports.append(transport)
        return transport

    def drop_all(self) -> None:
        """The daemon's process is gone, and with it its sockets."""
        for transport in self.transports:
            transport.drop()
        self.transports.clear()

    # --- REST ---

    def http(self, *args: Any, **options: Any) -> Http:
        """In place of `collectors.http.Http`: the same but for the client inside."""
        made = _VirtualHttp(*args, **options)
        made.venue = self
        return made

    def request(self, method: str, target: URL, *, allow_redirects: bool) -> _Exchange:
        """As aiohttp.ClientSession."""
        assert not allow_redirects
        return _Exchange(self, method, target)

    async def close(self) -> None:
        """As aiohttp.ClientSession."""

    async def answer(self, method: str, target: URL) -> SimpleNamespace:
        """One answer: status, headers, pieces of the body."""
        await _pause(self._loop, ROUND_TRIP_SECONDS)
        self.asked += 1
        if not self.reachable:
            raise aiohttp.ClientConnectionError("network is unreachable")
        request = Asked(method, target, {})
        handler = self._routes.get(target.path)
        if handler is None:
            return _said(404, {}, [b"404: Not Found"])
        market = target.path.split("/")[1]
        fault = answers._fault_for(self._hub, request, market, upgrade=False)  # type: ignore[arg-type]
        if fault is not None and fault.fault in STREAMED:
            return await self._torn(fault, request, handler, market)
        answer = await self._spoil(request, handler)  # type: ignore[arg-type]
        assert isinstance(answer, web.Response)
        body = answer.body if isinstance(answer.body, bytes) else b""
        return _said(answer.status, dict(answer.headers), [body], len(body))

    async def _torn(self, fault: Fault, request: Asked, handler: Handler, market: str) -> SimpleNamespace:
        """A body that is cut, endless or slow, as `simulator.answers` sends it."""
        hub, came, kind = self._hub, self._hub.clock.now(), fault.fault
        fault.count -= 1
        target = str(request.rel_url)
        hub.log.line("fault", fault.id, kind, fault.parameters(), "applied", {"target": target}, came)
        whole = await handler(request)
        body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b"{}"
        hub.log.line("http", market, request.method, target, 200, came)
        if kind == "short_body":
            return _said(200, {}, [body[: len(body) // 2], aiohttp.ClientPayloadError("cut short")], len(body))
        if kind == "gzip_cut":
            packed = zlib.compress(body, wbits=31)
            return _said(200, {"Content-Encoding": "gzip"}, [packed[: len(packed) // 2]])
        if kind == "gzip_bomb":
            packer = zlib.compressobj(9, wbits=31)
            piece = packer.compress(b" " * answers.PIECE) + packer.flush(zlib.Z_FULL_FLUSH)
            rest = packer.compress(b" " * answers.PIECE) + packer.flush(zlib.Z_FULL_FLUSH)
            return _said(200, {"Content-Encoding": "gzip"}, [piece, *[rest] * (fault.size // answers.PIECE)])
        await _pause(self._loop, 30.0)
        raise TimeoutError


async def _never(_request: Any) -> web.Response:
    return web.Response(status=500)


def _said(status: int, headers: Mapping[str, str], pieces: list[Any], length: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(status=status, headers=headers, content_length=length, content=_Pieces(pieces))


class _Pieces:
    """The body; an exception among the pieces is raised in its place."""

    def __init__(self, pieces: list[Any]) -> None:
        self._pieces = pieces

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            for start in range(0, len(piece), size):
                yield piece[start : start + size]


class _Exchange:
    """One request under way."""

    def __init__(self, venue: VirtualVenue, method: str, target: URL) -> None:
        self._venue, self._method, self._target = venue, method, target

    async def __aenter__(self) -> SimpleNamespace:
        return await self._venue.answer(self._method, self._target)

    async def __aexit__(self, *failure: object) -> None:
        pass


class _VirtualHttp(Http):
    """The real client, whose requests go to a VirtualVenue."""

    venue: VirtualVenue

    async def __aenter__(self) -> Self:
        self._client = self.venue  # type: ignore[assignment]
        return self
