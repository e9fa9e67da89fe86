"""Kraken's WebSocket side: spot's requests, answered a symbol, and heartbeats; futures' feeds and products."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

import msgspec
from aiohttp import web

from market.times import MS
from simulator.connection import Connection
from simulator.hub import Hub
from simulator.sockets import decoded, limit_life, listen, serve
from simulator.venues import Settings
from simulator.venues.kraken.wire import INSTRUMENT, Wire, iso, pairs

HEARTBEAT = 1.0
"""Seconds between heartbeats."""
HEARTBEATS = "heartbeat"
IDLE = 60.0
"""Seconds without a word of the client after which its connection is cut."""
PATHS = {"spot": "/v2", "linear": "/ws/v1", "inverse": "/ws/v1"}


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """`/<market>` + the documented path."""

    async def talk(connection: Connection, socket: web.WebSocketResponse) -> str:
        limit_life(connection, settings.max_life)
        connection.say(_status(connection) if connection.market == "spot" else '{"event":"info","version":1}')
        connection.flush()
        _beat(hub, connection)
        return await listen(hub, connection, socket, answers)

    return [web.get(f"/{one}{PATHS[one]}", partial(serve, hub, one, talk)) for one in settings.markets]


def _status(connection: Connection) -> str:
    said = {"api_version": "v2", "connection_id": connection.number, "system": "online", "version": "2.0.0"}
    return msgspec.json.encode({"channel": "status", "type": "update", "data": [said]}).decode()


def _beat(hub: Hub, connection: Connection) -> None:
    """A heartbeat a second, on futures where it is asked for; the end of a connection that says nothing."""
    loop = asyncio.get_running_loop()
    if loop.time() - connection.last_pong > IDLE:
        connection.end("idle")
    if connection.number not in hub.connections or connection.transport.is_closing():
        return
    spot = connection.market == "spot"
    silent = connection.mute or hub.strikes.mutes(connection)
    if not silent and (connection.streams if spot else HEARTBEATS in connection.streams):
        now = hub.clock.now() // MS
        connection.say('{"channel":"heartbeat"}' if spot else f'{{"feed":"heartbeat","time":{now}}}')
        connection.flush()
    loop.call_later(HEARTBEAT, _beat, hub, connection)


def answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message."""
    if hub.strikes.mutes(connection):
        return []
    return (spot_answers if connection.market == "spot" else futures_answers)(hub, connection, text)


def spot_answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message: an answer a symbol, and the wholes behind them."""
    request = decoded(text) or {}
    method, number, asked = request.get("method"), request.get("req_id"), request.get("params")
    now = iso(hub.clock.now())
    times = {"time_in": now, "time_out": now}
    if method == "ping":
        return [msgspec.json.encode({"method": "pong", "req_id": number, **times}).decode()]
    if method not in ("subscribe", "unsubscribe") or not isinstance(asked, dict):
        return [msgspec.json.encode({"error": "Malformed request", "success": False, **times}).decode()]
    channel = asked.get("channel")
    parameter = asked.get("depth") if channel == "book" else asked.get("interval")
    prefix = str(channel) if parameter is None else f"{channel}.{parameter}"
    symbols = asked.get("symbol", [""]) if channel == INSTRUMENT else asked.get("symbol", [])
    refused = hub.strikes.answered(connection, list(symbols)) if method == "subscribe" else ""
    said: list[str] = []
    for symbol in symbols:
        name = f"{prefix}.{symbol}" if symbol else prefix
        problem = _problem(hub, connection, name, symbol, joins=method == "subscribe")
        if refused == "error" or problem:
            text = problem or f"Currency pair not supported {symbol}"
            said.append(_json(error=text, method=method, req_id=number, success=False, symbol=symbol, **times))
            continue
        hub.subscribe(connection, [name], joins=method == "subscribe")
        result = {"channel": channel} | ({"symbol": symbol} if symbol else {})
        if refused != "none":
            said.append(_json(method=method, req_id=number, result=result, success=True, **times))
        if method == "subscribe" and asked.get("snapshot", channel != "trade") and not connection.mute:
            said += _whole(hub, connection, name, symbol)
    return said


def _json(**fields: object) -> str:
    return msgspec.json.encode(fields).decode()


def _problem(hub: Hub, connection: Connection, name: str, symbol: str, *, joins: bool) -> str:
    """Why a symbol's stream is not taken on."""
    if not joins:
        return "" if name in connection.streams else "Subscription Not Found"
    if name in connection.streams:
        return "Already subscribed"
    if name == INSTRUMENT:
        return ""
    if hub.listed(connection.market, symbol) is None:
        return f"Currency pair not supported {symbol}"
    known = name in (f"trade.{symbol}", f"ticker.{symbol}") or hub.venue.wanted(connection.market, name) is not None
    return "" if known else "Channel not found"


def _whole(hub: Hub, connection: Connection, name: str, symbol: str) -> Iterable[str]:
    wire = hub.venue
    assert isinstance(wire, Wire)
    if name == INSTRUMENT:
        return [pairs([book for book in hub.books if book.market == "spot" and book.listed], "snapshot")]
    book = hub.listed(connection.market, symbol)
    said = None if book is None else wire.whole(book, name, hub.clock.now())
    if book is not None and name.startswith("book."):
        number = wire.books[name].count if connection.market == "spot" else book.told[name]
        hub.log.line("depth", book.market, book.symbol, number, 0, hub.clock.now())
    return [] if said is None else [said]


def futures_answers(hub: Hub, connection: Connection, text: str) -> list[str]:
    """What is said to one message: an answer for all products, and their wholes; errors name nothing."""
    request = decoded(text) or {}
    event, feed, products = request.get("event"), request.get("feed"), request.get("product_ids", [])
    if event not in ("subscribe", "unsubscribe"):
        return ['{"event":"error","message":"Json Error"}']
    if feed == HEARTBEATS:
        hub.subscribe(connection, [HEARTBEATS], joins=event == "subscribe")
        return [_json(event=f"{event}d", feed=feed)]
    if feed not in ("trade", "book", "ticker", "ticker_lite"):
        return ['{"event":"error","message":"Invalid feed"}']
    joins = event == "subscribe"
    if any(hub.listed(connection.market, product) is None for product in products):
        return ['{"event":"error","message":"Invalid product id"}']
    answer = hub.strikes.answered(connection, list(products)) if joins else ""
    if answer == "error":
        return ['{"event":"error","message":"Invalid product id"}']
    names = [f"{feed}.{product}" for product in products]
    said = [] if answer == "none" else [_json(event=f"{event}d", feed=feed, product_ids=products)]
    hub.subscribe(connection, names if joins else [one for one in names if one in connection.streams], joins=joins)
    if joins and not connection.mute:
        for name, product in zip(names, products, strict=True):
            said += _whole(hub, connection, name, product)
    return said
