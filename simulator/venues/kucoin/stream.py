"""KuCoin's WebSocket side: a token for every connection, the greeting, requests and their answers, pings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from simulator.connection import PONG, Connection, frame
from simulator.hub import Hub
from simulator.venues import Settings
from simulator.venues.kucoin.wire import KNOWN

TOPICS = 300
"""Of one connection."""
AT_ONCE = 100
"""Of one request."""
IDLE = 60.0
"""Seconds without a word of the client after which its connection is cut."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(hub: Hub, settings: Settings, tokens: set[str]) -> list[web.RouteDef]:
    """`/<market>`, with a token."""
    return [
        web.get(f"/{market}{end}", _handler(hub, settings, market, tokens))
        for market in settings.markets
        for end in ("", "/")
    ]


def _handler(hub: Hub, settings: Settings, market: str, tokens: set[str]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.query.get("token") not in tokens:
            return web.json_response({"code": "401", "msg": "token is invalid"}, status=401)
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        connection = hub.open(market, "", request.path, transport)
        cause = "client closed"
        try:
            asyncio.get_running_loop().call_later(settings.max_life, connection.end, "end of life", 1001)
            _cut_when_idle(connection)
            connection.say(_said({"id": request.query.get("connectId", ""), "type": "welcome"}))
            connection.flush()
            cause = await _listen(hub, connection, socket)
        finally:
            hub.gone(connection, cause)
        return socket

    return handle


def _cut_when_idle(connection: Connection) -> None:
    loop = asyncio.get_running_loop()
    if loop.time() - connection.last_pong > IDLE:
        connection.end("idle")
    elif not connection.transport.is_closing():
        loop.call_later(5.0, _cut_when_idle, connection)


async def _listen(hub: Hub, connection: Connection, socket: web.WebSocketResponse) -> str:
    """Answer until the connection ends; the result says why."""
    async for message in socket:
        connection.last_pong = asyncio.get_running_loop().time()
        if message.type == WSMsgType.TEXT:
            for reply in answers(hub, connection, message.data):
                connection.say(reply)
        elif message.type == WSMsgType.PING:
            connection.out.append(frame(message.data, PONG))
        connection.flush()
    return "reset" if socket.close_code in (None, 1006) else f"client closed {socket.close_code}"


def answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message."""
    try:
        request = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return [_error("", 400, "data is invalid")]
    if not isinstance(request, dict):
        return [_error("", 400, "data is invalid")]
    if hub.strikes.mutes(connection):
        return []
    number = str(request.get("id", ""))
    match request.get("type"):
        case "ping":
            return [_said({"id": number, "type": "pong", "timestamp": hub.clock.now()})]
        case "subscribe" | "unsubscribe" as what:
            replies = _change(hub, connection, str(request.get("topic", "")), number, joins=what == "subscribe")
            return replies if request.get("response") else []
    return [_error(number, 404, f"type {request.get('type')} is not supported")]


def _change(hub: Hub, connection: Connection, topic: str, number: str, *, joins: bool) -> list[str]:
    prefix, _, symbols = topic.partition(":")
    names = [f"{prefix}:{symbol}" for symbol in symbols.split(",") if symbol]
    if prefix not in KNOWN or not names:
        return [_error(number, 404, "topic does not exist")]
    if len(names) > AT_ONCE or (joins and len({*connection.streams, *names}) > TOPICS):
        return [_error(number, 509, "exceed max subscription count limitation")]
    if not joins:
        hub.subscribe(connection, [name for name in names if name in connection.streams], joins=False)
        return [_said({"id": number, "type": "ack"})]
    answer = hub.strikes.answered(connection, names)
    if answer == "error":
        return [_error(number, 404, "topic does not exist")]
    hub.subscribe(connection, names[: (len(names) + 1) // 2] if answer == "partial" else names)
    return [] if answer == "none" else [_said({"id": number, "type": "ack"})]


def _error(number: str, code: int, text: str) -> str:
    return _said({"id": number, "type": "error", "code": code, "data": text})


def _said(body: dict[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
