"""WebSocket sides: a connection from its handshake to its end, who listens to its client, and when it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import msgspec
from aiohttp import WSMsgType, web

from simulator.connection import PONG, Connection, frame
from simulator.hub import Hub

Talk: TypeAlias = Callable[[Connection, web.WebSocketResponse], Awaitable[str]]
"""Goes on until the connection ends; the result says why."""
Answers: TypeAlias = Callable[[Hub, Connection, str], Iterable[str]]
"""What is said to one message."""


async def serve(
    hub: Hub, market: str, talk: Talk, request: web.Request, *, route: str = "", path: str = ""
) -> web.WebSocketResponse:
    """One connection; the log has it under `path`, or the path that was asked for."""
    socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20)
    await socket.prepare(request)
    transport = request.transport
    if transport is None:
        return socket
    connection = hub.open(market, route, path or request.path_qs, transport)
    cause = "client closed"
    try:
        cause = await talk(connection, socket)
    finally:
        hub.gone(connection, cause)
    return socket


async def listen(hub: Hub, connection: Connection, socket: web.WebSocketResponse, answers: Answers) -> str:
    """Answer until the connection ends; the result says why."""
    async for message in socket:
        connection.last_pong = asyncio.get_running_loop().time()
        if message.type == WSMsgType.TEXT:
            for reply in answers(hub, connection, message.data):
                connection.say(reply)
        elif message.type == WSMsgType.PING:
            connection.out.append(frame(message.data, PONG))
        connection.flush()
    return ending(socket)


def ending(socket: web.WebSocketResponse) -> str:
    """How the client's side ended."""
    return "reset" if socket.close_code in (None, 1006) else f"client closed {socket.close_code}"


def limit_life(connection: Connection, seconds: float) -> None:
    """End it, with a code, when it is that old."""
    asyncio.get_running_loop().call_later(seconds, connection.end, "end of life", 1001)


def cut_when_idle(connection: Connection, seconds: float, every: float, code: int | None = None) -> None:
    """Cut it after so many seconds without a word of the client; looked at `every` seconds."""
    loop = asyncio.get_running_loop()
    if loop.time() - connection.last_pong > seconds:
        connection.end("idle", code)
    elif not connection.transport.is_closing():
        loop.call_later(every, cut_when_idle, connection, seconds, every, code)


def decoded(text: str) -> dict[str, Any] | None:
    """A request; None where the text is no JSON object."""
    try:
        request = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return request if isinstance(request, dict) else None


def taken(answer: str, names: list[str]) -> list[str]:
    """The streams that are taken on: where the answer is `partial` the first half."""
    return names[: (len(names) + 1) // 2] if answer == "partial" else names
