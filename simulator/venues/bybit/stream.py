"""Bybit's WebSocket side: one path a market, requests and their answers, pings of the client, the wholes of topics."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from simulator.connection import Connection
from simulator.hub import Hub
from simulator.market import Book
from simulator.sockets import cut_when_idle, decoded, limit_life, listen, serve, taken
from simulator.venues import Settings
from simulator.venues.bybit.wire import Wire

ARGUMENTS = 21_000
"""Characters of topics that one connection may hold."""
SPOT_TOPICS = 10
"""Topics of one request on spot."""
IDLE = 600.0
"""Seconds without a word of the client after which its connection is cut."""


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented path."""

    async def talk(connection: Connection, socket: web.WebSocketResponse) -> str:
        limit_life(connection, settings.max_life)
        cut_when_idle(connection, IDLE, 30.0)
        return await listen(hub, connection, socket, answers)

    return [web.get(f"/{one}/v5/public/{one}", partial(serve, hub, one, talk)) for one in settings.markets]


def answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message: the answer, and the wholes of topics that begin with one."""
    request = decoded(text)
    if request is None:
        return [_reply(connection, "", "", "Params Error")]
    if hub.strikes.mutes(connection):
        return []
    number, names = str(request.get("req_id") or ""), request.get("args", [])
    match request.get("op"):
        case "ping":
            return [_said(connection, number, "ping", "pong", good=True)]
        case "subscribe" | "unsubscribe" as what:
            return _change(hub, connection, names, number, what)
    return [_reply(connection, number, "", "unknown op")]


def _change(hub: Hub, connection: Connection, names: Any, number: str, what: str) -> list[str]:
    joins = what == "subscribe"
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return [_reply(connection, number, what, "Params Error")]
    if not joins:
        hub.subscribe(connection, [name for name in names if name in connection.streams], joins=False)
        return [_reply(connection, number, what)]
    if (problem := _problem(hub, connection, names)) is not None:
        return [_reply(connection, number, what, problem)]
    answer = hub.strikes.answered(connection, names)
    if answer == "error":
        return [_reply(connection, number, what, f"error:handler not found,topic:{names[0]}")]
    names = taken(answer, names)
    alone = {name: not any(name in one.streams for one in hub.connections.values()) for name in names}
    hub.subscribe(connection, names)
    wholes = [_whole(hub, connection, name, alone=alone[name]) for name in names]
    said = [] if answer == "none" else [_reply(connection, number, what)]
    return [*(whole for whole in wholes if whole is not None), *said]


def _problem(hub: Hub, connection: Connection, names: list[str]) -> str | None:
    """Why a whole request is refused."""
    if connection.market == "spot" and len(names) > SPOT_TOPICS:
        return "args size >10"
    if sum(map(len, (*connection.streams, *names))) > ARGUMENTS:
        return "args too long"
    for name in names:
        if _book(hub, connection, name) is None or not _known(hub, connection, name):
            return f"error:handler not found,topic:{name}"
        if name in connection.streams:
            return f"error:already subscribed,topic:{name}"
    return None


def _book(hub: Hub, connection: Connection, name: str) -> Book | None:
    return hub.listed(connection.market, name.rpartition(".")[2])


def _known(hub: Hub, connection: Connection, name: str) -> bool:
    channel = name.rpartition(".")[0]
    return channel in ("publicTrade", "orderbook.1") or hub.venue.wanted(connection.market, name) is not None


def _whole(hub: Hub, connection: Connection, name: str, *, alone: bool) -> str | None:
    book, wire = _book(hub, connection, name), hub.venue
    assert isinstance(wire, Wire)
    if book is None or connection.mute:
        return None
    if name in book.told:
        hub.log.line("depth", book.market, book.symbol, book.told[name], 0, hub.clock.now())
    now = hub.clock.now()
    if (mark := wire.told(book, name, now, alone=alone)) is not None:  # the log has it as what was sent
        hub.log.event(mark, mark.ts, str(connection.number))
    return wire.whole(book, name, now)


def _reply(connection: Connection, number: str, op: str, problem: str = "") -> str:
    """Spot says what it took on, the others nothing."""
    message = problem or (op if connection.market == "spot" else "")
    return _said(connection, number, op, message, good=not problem)


def _said(connection: Connection, number: str, op: str, message: str, *, good: bool) -> str:
    body = {"success": good, "ret_msg": message, "conn_id": f"twin-{connection.number}", "req_id": number, "op": op}
    return msgspec.json.encode(body).decode()
