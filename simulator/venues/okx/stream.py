"""OKX's WebSocket side: two addresses a market, requests answered by argument, text pings, what channels begin with."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from simulator.connection import Connection
from simulator.hub import Hub
from simulator.sockets import cut_when_idle, limit_life, listen, serve
from simulator.venues import Settings
from simulator.venues.okx.wire import Wire

ROUTES = ("public", "business")
IDLE = 30.0
"""Seconds without a word of the client after which its connection is cut."""
LARGEST = 64 * 1024
"""Bytes of a message."""
COMMANDS = 480
"""An hour and connection."""
EVERY = "liquidation-orders"
"""The channel that is asked for by a type of instruments."""


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented paths."""

    async def talk(connection: Connection, socket: web.WebSocketResponse) -> str:
        limit_life(connection, settings.max_life)
        cut_when_idle(connection, IDLE, 5.0, 4004)
        return await listen(hub, connection, socket, answers)

    return [
        web.get(f"/{market}/ws/v5/{route}", partial(serve, hub, market, talk, route=route))
        for market in settings.markets
        for route in ROUTES
    ]


def answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message: an answer an argument, and what its channel begins with."""
    if hub.strikes.mutes(connection):
        return []
    if text == "ping":
        return ["pong"]
    try:
        request = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return [_error(connection, "", "60012", f"Invalid request: {text[:100]}")]
    what, args = (request.get("op"), request.get("args")) if isinstance(request, dict) else (None, None)
    number = str(request.get("id") or "") if isinstance(request, dict) else ""
    connection.inbound.append(asyncio.get_running_loop().time())
    if len(connection.inbound) > COMMANDS or len(text) > LARGEST:
        return [_error(connection, number, "60014", "Requests too frequent")]
    if what not in ("subscribe", "unsubscribe") or not isinstance(args, list) or not args:
        return [_error(connection, number, "60012", "Invalid request")]
    return [said for arg in args for said in _change(hub, connection, arg, number, joins=what == "subscribe")]


def _change(hub: Hub, connection: Connection, arg: Any, number: str, *, joins: bool) -> list[str]:
    """One argument; a wrong one is an error that does not name it but in words."""
    channel, whom = (str(arg.get("channel")), _whom(arg)) if isinstance(arg, dict) else ("", "")
    name = f"{channel}:{whom}"
    if not joins:
        hub.subscribe(connection, [name] if name in connection.streams else [], joins=False)
        return [_said(connection, number, "unsubscribe", arg)]
    if not _known(hub, connection, channel, whom):
        problem = f"Subscribe failed, wrong URL or channel:{channel},instId:{whom} doesn't exist."
        return [_error(connection, number, "60018", problem)]
    if not hub.venue.serves(connection.market, connection.route, name):
        return [_error(connection, number, "64001", f"channel:{channel} is not on this address")]
    answer = hub.strikes.answered(connection, [name])
    if answer == "error":
        return [_error(connection, number, "60018", f"Subscribe failed, wrong URL or channel:{channel}")]
    hub.subscribe(connection, [name])
    whole = _whole(hub, connection, name)
    said = [] if answer != "good" else [_said(connection, number, "subscribe", arg)]
    return said if whole is None else [*said, whole]


def _whom(arg: dict[str, Any]) -> str:
    return str(arg.get("instType" if arg.get("channel") == EVERY else "instId"))


def _known(hub: Hub, connection: Connection, channel: str, whom: str) -> bool:
    if channel == EVERY:
        return whom in ("SWAP", "FUTURES") and connection.market != "spot"
    fixed = channel in ("trades", "trades-all", "bbo-tbt")
    return hub.listed(connection.market, whom) is not None and (
        fixed or hub.venue.wanted(connection.market, f"{channel}:{whom}") is not None
    )


def _whole(hub: Hub, connection: Connection, name: str) -> str | None:
    book, wire = hub.listed(connection.market, name.partition(":")[2]), hub.venue
    assert isinstance(wire, Wire)
    if book is None or connection.mute:
        return None
    if name in book.told:
        hub.log.line("depth", book.market, book.symbol, book.told[name], 0, hub.clock.now())
    return wire.whole(book, name, hub.clock.now())


def _said(connection: Connection, number: str, event: str, arg: Any) -> str:
    body = {"id": number} if number else {}
    found = body | {"event": event, "arg": arg, "connId": f"twin{connection.number}"}
    return msgspec.json.encode(found).decode()


def _error(connection: Connection, number: str, code: str, message: str) -> str:
    body = {"event": "error", "code": code, "msg": message, "connId": f"twin{connection.number}"}
    return msgspec.json.encode(body | ({"id": number} if number else {})).decode()
