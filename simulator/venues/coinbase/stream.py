"""Coinbase's WebSocket side: one channel a request, answers that list everything, heartbeats, messages with numbers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from simulator.connection import Connection
from simulator.hub import Hub
from simulator.market import Book
from simulator.sockets import limit_life, listen, serve, taken
from simulator.venues import Settings
from simulator.venues.coinbase import exchange
from simulator.venues.coinbase.wire import CHANNEL, Wire, message, numbering, stamp

FIRST_WITHIN = 5.0
"""Seconds until the first subscription, else the connection is cut."""
BOOKS = 30
"""Products of level2 that one connection may have."""
BEAT = "heartbeats"
BEAT_EVERY = 1.0
CHANNELS = frozenset(CHANNEL.values())


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>/ws`."""

    async def talk(connection: Connection, socket: web.WebSocketResponse) -> str:
        connection.number_messages(numbering())
        limit_life(connection, settings.max_life)
        asyncio.get_running_loop().call_later(FIRST_WITHIN, _cut_when_idle, connection)
        return await listen(hub, connection, socket, answers)

    return [web.get(f"/{one}/ws", partial(serve, hub, one, talk)) for one in settings.markets]


def _cut_when_idle(connection: Connection) -> None:
    if not connection.streams:
        connection.end("no subscription")


def answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one request: what the subscriptions begin with, then everything that the connection has."""
    try:
        request = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return [_error("invalid JSON")]
    if not isinstance(request, dict) or request.get("type") not in ("subscribe", "unsubscribe"):
        return [_error("message failed validation: type")]
    if hub.strikes.mutes(connection):
        return []
    joins = request["type"] == "subscribe"
    if isinstance(request.get("channels"), list):
        return _exchange(hub, connection, request, joins=joins)
    channel, products = request.get("channel"), request.get("product_ids", [])
    if channel == BEAT:
        if joins and BEAT not in connection.streams:
            hub.subscribe(connection, [BEAT])
            _beat(hub, connection, 1)
        return [_state(hub, connection)]
    if channel not in CHANNELS or not isinstance(products, list):
        return [_error(f"channel {channel} is not supported")]
    books = {one: book for one in products if isinstance(one, str) and (book := hub.listed(connection.market, one))}
    names = [f"{channel}:{one}" for one in books]
    if not joins:
        hub.subscribe(connection, [name for name in names if name in connection.streams], joins=False)
        return [_state(hub, connection)]
    if channel == "level2" and len({*names, *(n for n in connection.streams if n.startswith("level2:"))}) > BOOKS:
        asyncio.get_running_loop().call_later(0.1, connection.end, "too many", 1008)
        return [_error("too many L2 streams requested in a single session")]
    return _join(hub, connection, channel, books)


def _exchange(hub: Hub, connection: Connection, request: dict[str, Any], *, joins: bool) -> list[str]:
    """The same in the words of the older feed: a product that is none refuses the whole request."""
    wire, now, asked = hub.venue, hub.clock.now(), exchange.wanted(request)
    assert isinstance(wire, Wire)
    if isinstance(asked, str) or connection.market != "spot":
        return [exchange.error(asked if isinstance(asked, str) else "not a spot product")]
    books = {one: hub.listed(connection.market, one) for _, one in asked}
    for product, book in books.items():
        if book is None:
            return [exchange.error(f"{product} is not a valid product")]
    named = {f"{exchange.CHANNELS.get(name, name)}:{one}": one for name, one in asked}
    if not joins:
        hub.subscribe(connection, [name for name in named if name in connection.streams], joins=False)
        return [exchange.state(connection)]
    if not connection.combined:
        connection.combined = True
        asyncio.get_running_loop().call_later(BEAT_EVERY, _beats, hub, connection, wire.exchange)
    answer = hub.strikes.answered(connection, list(named))
    if answer == "error":
        return [exchange.error("try again")]
    hub.subscribe(connection, named)
    if connection.mute:
        return []
    pairs = [(name.partition(":")[0], books[one]) for name, one in named.items() if not name.startswith(exchange.BEAT)]
    wholes = [wire.whole(book, channel, now) for channel, book in pairs if book is not None]
    told = [wire.exchange.told(whole) for whole in wholes if whole is not None]
    return [*([] if answer == "none" else [exchange.state(connection)]), *told]


def _join(hub: Hub, connection: Connection, channel: str, books: dict[str, Book]) -> list[str]:
    names = {f"{channel}:{one}": book for one, book in books.items()}
    answer = hub.strikes.answered(connection, list(names))
    if answer == "error":
        return [_error("failed to subscribe")]
    begun = taken(answer, list(names))
    hub.subscribe(connection, begun)
    if connection.mute:
        return []
    wire, now = hub.venue, hub.clock.now()
    assert isinstance(wire, Wire)
    wholes = [wire.whole(names[name], channel, now) for name in begun]
    return [*(one for one in wholes if one is not None), *([] if answer == "none" else [_state(hub, connection)])]


def _state(hub: Hub, connection: Connection) -> str:
    """The answer to every request; unknown products are left out of it."""
    held: dict[str, list[str]] = {}
    for name in connection.streams:
        channel, _, one = name.partition(":")
        held.setdefault(channel, []).append(one or channel)
    events = msgspec.json.encode([{"subscriptions": held}]).decode()
    return message("subscriptions", events, hub.clock.now())


def _error(text: str) -> str:
    body: dict[str, Any] = {"type": "error", "message": text}
    return msgspec.json.encode(body).decode()


def _beat(hub: Hub, connection: Connection, count: int) -> None:
    if connection.number not in hub.connections or BEAT not in connection.streams:
        return
    if not connection.mute and not hub.strikes.mutes(connection):
        now = hub.clock.now()
        events = f'[{{"current_time":"{stamp(now)} m=+{count}","heartbeat_counter":{count}}}]'
        connection.say(message(BEAT, events, now))
        connection.flush()
    asyncio.get_running_loop().call_later(BEAT_EVERY, _beat, hub, connection, count + 1)


def _beats(hub: Hub, connection: Connection, feed: exchange.Feed) -> None:
    """The heartbeats of Exchange, of the products that were asked for."""
    if connection.number not in hub.connections:
        return
    if not connection.mute and not hub.strikes.mutes(connection):
        for stream in connection.streams:
            channel, _, product = stream.partition(":")
            book = hub.listed(connection.market, product) if channel == exchange.BEAT else None
            if book is not None:
                connection.say(feed.beat(product, book, stamp(hub.clock.now())))
        connection.flush()
    asyncio.get_running_loop().call_later(BEAT_EVERY, _beats, hub, connection, feed)
