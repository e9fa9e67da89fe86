"""Binance's WebSocket side: paths, commands and their answers, pings, limits, the cut after a day."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import WSMsgType, web

from simulator.connection import PONG, Connection, frame
from simulator.hub import Hub
from simulator.sockets import ending, limit_life, serve, taken
from simulator.venues import Settings
from simulator.venues.binance.names import well_formed

STREAMS = 1024
INBOUND = {"spot": 5, "linear": 10, "inverse": 10}
"""Messages a second a client may send, pings and pongs included."""
PINGS = {"spot": (20.0, 60.0), "linear": (180.0, 600.0), "inverse": (180.0, 600.0)}
"""Seconds between pings, and seconds within which a pong is due."""
_ROUTED = tuple(
    (f"{route}{end}", route[1:]) for route in ("", "/public", "/market", "/private") for end in ("/ws", "/stream")
)
PATHS = {"spot": (("/ws", ""), ("/stream", "")), "linear": _ROUTED, "inverse": _ROUTED}
_TEXT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths, raw and combined."""
    found = []
    for market in settings.markets:
        for path, route in PATHS[market]:
            handler = _handler(hub, settings, market, route)
            found.append(web.get(f"/{market}{path}", handler))
            if path.endswith("/ws"):
                found.append(web.get(f"/{market}{path}/{{streams:.+}}", handler))
    return found


def _handler(hub: Hub, settings: Settings, market: str, route: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        async def talk(connection: Connection, socket: web.WebSocketResponse) -> str:
            connection.combined = request.path.endswith("/stream")
            connection.micro = market == "spot" and request.query.get("timeUnit", "").upper() == "MICROSECOND"
            if not _subscribe_by_path(hub, connection, request):
                connection.end("invalid streams in the address", 1008)
                return "client closed"
            keep(hub, connection, settings)
            return await _listen(hub, connection, socket)

        return await serve(hub, market, talk, request, route=route)

    return handle


def _subscribe_by_path(hub: Hub, connection: Connection, request: web.Request) -> bool:
    text = request.query.get("streams", "") if connection.combined else request.match_info.get("streams", "")
    # a number is a stream of nothing, which the venue takes: ccxt tells its connections apart so
    names = [unquote(name) for name in text.split("/") if name and not name.isdigit()]
    if not all(map(well_formed, names)) or len(names) > STREAMS:
        return False
    hub.subscribe(connection, names)
    return True


def keep(hub: Hub, connection: Connection, settings: Settings) -> None:
    """Pings, and the cut at the end of the connection's life."""
    every, patience = PINGS[connection.market]
    if settings.ping is not None:
        every, patience = settings.ping, 3 * settings.ping
    asyncio.get_running_loop().call_later(every, hub.ping, connection, every, patience)
    limit_life(connection, settings.max_life)


async def _listen(hub: Hub, connection: Connection, socket: web.WebSocketResponse) -> str:
    """Answer until the connection ends; the result says why."""
    async for message in socket:
        if not _within_limit(connection):
            return "too many messages"
        if message.type == WSMsgType.TEXT:
            _reply(hub, connection, message.data)
        elif message.type == WSMsgType.PING:
            connection.out.append(frame(message.data, PONG))
        elif message.type == WSMsgType.PONG:
            connection.last_pong = asyncio.get_running_loop().time()
        elif message.type == WSMsgType.BINARY:
            connection.say(_error(2, "Invalid request: binary frames are not supported", None))
        connection.flush()
    return ending(socket)


def heard(hub: Hub, connection: Connection, text: str) -> None:
    """A client's text frame, where no socket brought it."""
    if _within_limit(connection):
        _reply(hub, connection, text)


def _reply(hub: Hub, connection: Connection, text: str) -> None:
    if reply := answer(hub, connection, text):
        connection.say(reply)


def _within_limit(connection: Connection) -> bool:
    """Count one message of the client; one that sends too many is cut off."""
    now = asyncio.get_running_loop().time()
    recent = connection.inbound = [at for at in connection.inbound if at > now - 1] + [now]
    if len(recent) > INBOUND[connection.market]:
        connection.end("too many messages", 1008)
        return False
    return True


def answer(hub: Hub, connection: Connection, text: str) -> str:
    """The reply to one command; empty where a fault keeps it back."""
    try:
        request = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return _error(3, f"Invalid JSON: {error}", None)
    if not isinstance(request, dict):
        return _error(2, "Invalid request: request must be an object", None)
    number = request.get("id")
    if not _good_id(number):
        return '{"code":2,"msg":"Invalid request: request ID must be an unsigned integer"}'
    method, params = request.get("method"), request.get("params", [])
    if not isinstance(params, list):
        return _error(2, "Invalid request: params must be an array", number)
    match method:
        case "SUBSCRIBE" | "UNSUBSCRIBE":
            return _change(hub, connection, params, number, joins=method == "SUBSCRIBE")
        case "LIST_SUBSCRIPTIONS":
            return _result(list(connection.streams), number)
        case "SET_PROPERTY" | "GET_PROPERTY":
            return _property(connection, method, params, number)
    return _error(2, f"Invalid request: unknown variant `{method}`", number)


def _change(hub: Hub, connection: Connection, names: list[Any], number: int | str | None, joins: bool) -> str:
    if not names:
        return _error(2, "Invalid request: too few parameters", number)
    if not all(isinstance(name, str) and well_formed(name) for name in names):
        return _error(2, "Invalid request: invalid stream", number)
    if joins and len(connection.streams.keys() | set(names)) > STREAMS:
        return _error(4, "Too many subscriptions", number)
    answer = hub.strikes.answered(connection, names) if joins else "good"
    if answer == "error":
        return _error(2, "Invalid request: invalid stream", number)
    hub.subscribe(connection, taken(answer, names), joins)
    return "" if answer == "none" else _result(None, number)


def _property(connection: Connection, method: str, params: list[Any], number: int | str | None) -> str:
    if not params or params[0] != "combined":
        return _error(0, "Unknown property", number)
    if method == "GET_PROPERTY":
        return _result(connection.combined, number)
    if len(params) != 2 or not isinstance(params[1], bool):
        return _error(1, "Invalid value type: expected Boolean", number)
    connection.combined = params[1]
    return _result(None, number)


def _good_id(number: object) -> bool:
    if isinstance(number, str):
        return _TEXT_ID.fullmatch(number) is not None
    return number is None or (type(number) is int and -(2**63) <= number < 2**63)


def _result(result: object, number: int | str | None) -> str:
    return msgspec.json.encode({"result": result, "id": number}).decode()


def _error(code: int, text: str, number: int | str | None) -> str:
    return msgspec.json.encode({"error": {"code": code, "msg": text}, "id": number}).decode()
