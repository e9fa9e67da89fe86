"""The simulated venues as a daemon in virtual time reaches them, without a socket anywhere.

The twins' are the handlers of both sides, WebSocket and REST, and the faults. The daemon's side are the two seams that
it has for it: `Connect` of `collectors.transports` and the client inside `collectors.http.Http`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

import aiohttp
from aiohttp import web
from yarl import URL

from collectors.http import Http
from collectors.transports import ConnectFailed
from simulator import answers
from simulator.faults import Fault
from simulator.hub import Hub
from tests.support.virtual.loop import VirtualLoop
from tests.support.virtual.transport import Asked, Socket, VirtualTransport, pause

ROUND_TRIP_SECONDS = 0.05
STREAMED = ("short_body", "gzip_cut", "gzip_bomb", "endless_body", "slow_body")
"""Faults of REST that need a body in pieces."""
Handler = Callable[[Any], Awaitable[web.StreamResponse]]


class VirtualVenue:
    """One venue: `hub` and `routes` are its twin's."""

    def __init__(self, loop: VirtualLoop, hub: Hub, routes: Sequence[web.RouteDef]) -> None:
        self.transports: list[VirtualTransport] = []
        self._loop = loop
        self._hub = hub
        self._router = web.UrlDispatcher()
        self._router.add_routes(routes)
        self._spoil = answers.rest_faults(hub)

    async def _route(self, request: Asked) -> Handler | None:
        """Who answers it; None where nobody does."""
        found = await self._router.resolve(request)  # type: ignore[arg-type]
        request.match_info = found
        return None if found.http_exception is not None else found.handler

    # --- WebSocket ---

    async def connect(self, target: URL, max_frame: int, now: Callable[[], int]) -> VirtualTransport:
        """A new connection. Raises ConnectFailed."""
        request = Asked("GET", target, {"Upgrade": "websocket"})
        market = target.path.split("/")[1]
        refusal = self._hub.strikes.refused(market, request.path_qs)
        if refusal is not None:
            status = refusal.status if refusal.form == "status" else None
            raise ConnectFailed("refused on command", status=status)
        fault = answers._fault_for(self._hub, request, market, upgrade=True)  # type: ignore[arg-type]
        if fault is not None:
            raise _refused(await answers._spoiled(self._hub, fault, request, _never))  # type: ignore[arg-type]
        handler = await self._route(request)
        if handler is None:
            raise ConnectFailed("refused: HTTP 404", status=404)
        self.transports = [one for one in self.transports if not one.gone]
        transport = VirtualTransport(self._loop, now, max_frame)
        self.transports.append(transport)
        request.transport = transport.wire
        serving = self._loop.create_task(_serve(handler, request))
        while not serving.done() and (transport.socket is None or not transport.socket.listens):
            await asyncio.sleep(0)
        opened = reversed(self._hub.connections.values())
        connection = next((one for one in opened if one.transport is transport.wire), None)  # type: ignore[comparison-overlap]
        if connection is None:
            raise _refused(serving.result()) if serving.done() else ConnectFailed("closed at once")
        transport.opened(connection)
        return transport

    def drop_all(self) -> None:
        """The daemon's process is gone, and with it its sockets."""
        for transport in self.transports:
            transport.drop()
        self.transports.clear()

    # --- REST ---

    async def answer(self, method: str, target: URL) -> SimpleNamespace:
        """One answer: status, headers, pieces of the body."""
        request = Asked(method, target, {})
        handler = await self._route(request)
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
        await pause(self._loop, 30.0)
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


class VirtualNetwork:
    """What is between the daemon and the venues, by host. `reachable` False: no route to any of them."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.venues: dict[str, VirtualVenue] = {}
        self.reachable = True
        self.asked = 0
        self._loop = loop

    async def connect(
        self, url: str, *, max_frame: int, timeout: float, now: Callable[[], int], compression: str = "off"
    ) -> VirtualTransport:
        """`collectors.transports.Connect`."""
        del timeout, compression
        await pause(self._loop, ROUND_TRIP_SECONDS)
        if not self.reachable:
            raise ConnectFailed("OSError: network is unreachable")
        target = URL(url.replace("ws://", "http://", 1))
        return await self.venues[target.host or ""].connect(target, max_frame, now)

    async def answer(self, method: str, target: URL) -> SimpleNamespace:
        """One answer to a request."""
        await pause(self._loop, ROUND_TRIP_SECONDS)
        self.asked += 1
        if not self.reachable:
            raise aiohttp.ClientConnectionError("network is unreachable")
        return await self.venues[target.host or ""].answer(method, target)

    def drop_all(self) -> None:
        """The daemon's process is gone, and with it its sockets."""
        for venue in self.venues.values():
            venue.drop_all()

    def http(self, *args: Any, **options: Any) -> Http:
        """In place of `collectors.http.Http`: the same but for the client inside."""
        made = _VirtualHttp(*args, **options)
        made.network = self
        return made

    def request(self, method: str, target: URL, *, allow_redirects: bool) -> _Exchange:
        """As aiohttp.ClientSession."""
        assert not allow_redirects
        return _Exchange(self, method, target)

    async def close(self) -> None:
        """As aiohttp.ClientSession."""


class _Exchange:
    """One request under way."""

    def __init__(self, network: VirtualNetwork, method: str, target: URL) -> None:
        self._network, self._method, self._target = network, method, target

    async def __aenter__(self) -> SimpleNamespace:
        return await self._network.answer(self._method, self._target)

    async def __aexit__(self, *failure: object) -> None:
        pass


class _VirtualHttp(Http):
    """The real client, whose requests go to a VirtualNetwork."""

    network: VirtualNetwork

    async def __aenter__(self) -> Self:
        self._client = self.network  # type: ignore[assignment]
        return self


@contextmanager
def without_sockets() -> Iterator[None]:
    """The twins' handlers speak to `Socket` instead of aiohttp's."""
    with mock.patch.object(web, "WebSocketResponse", Socket):
        yield


async def _serve(handler: Handler, request: Asked) -> web.StreamResponse:
    return await handler(request)


def _refused(answer: web.StreamResponse) -> ConnectFailed:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return ConnectFailed(f"refused: HTTP {answer.status}", status=answer.status, headers=headers)
