"""KuCoin's WebSocket side: a token for every connection, the greeting, requests and their answers, pings."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from simulator.connection import Connection
from simulator.hub import Hub
from simulator.sockets import cut_when_idle, decoded, limit_life, listen, serve, taken
from simulator.venues import Settings
from simulator.venues.kucoin.wire import KNOWN

TOPICS = 300
"""Of one connection."""
AT_ONCE = 100
"""Of one request."""
IDLE = 60.0
"""Seconds without a word of the client after which its connection is cut."""


def routes(hub: Hub, settings: Settings, tokens: set[str]) -> list[web.RouteDef]:
    """`/<market>`, with a token."""

    async def handle(market: str, request: web.Request) -> web.StreamResponse:
        if request.query.get("token") not in tokens:
            return web.json_response({"code": "401", "msg": "token is invalid"}, status=401)

        async def talk(connection: Connection, socket: web.WebSocketResponse) -> str:
            limit_life(connection, settings.max_life)
            cut_when_idle(connection, IDLE, 5.0)
            connection.say(_said({"id": request.query.get("connectId", ""), "type": "welcome"}))
            connection.flush()
            return await listen(hub, connection, socket, answers)

        return await serve(hub, market, talk, request, path=request.path)

    return [web.get(f"/{market}{end}", partial(handle, market)) for market in settings.markets for end in ("", "/")]


def answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message."""
    request = decoded(text)
    if request is None:
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
    hub.subscribe(connection, taken(answer, names))
    return [] if answer == "none" else [_said({"id": number, "type": "ack"})]


def _error(number: str, code: int, text: str) -> str:
    return _said({"id": number, "type": "error", "code": code, "data": text})


def _said(body: dict[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
