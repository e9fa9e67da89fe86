"""Faults that strike connections: when one begins, to whom it happens, and what it does to those that come later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from simulator.clock import Clock
from simulator.connection import TEXT, Connection, frame
from simulator.events import Event
from simulator.faults import LASTING, Fault
from simulator.garbage import GARBAGE
from simulator.log import TruthLog
from simulator.market import Book


class Struck(Protocol):
    """What strikes need of the hub."""

    connections: dict[int, Connection]
    faults: list[Fault]
    log: TruthLog
    clock: Clock

    @property
    def books(self) -> Iterable[Book]:
        """All books."""

    def leave_all(self, connection: Connection) -> None:
        """Nothing more is sent to it."""

    def farewell(self, connection: Connection) -> str | None:
        """The venue's announcement of a shutdown."""

    def recent(self, connection: Connection, stream: str, count: int) -> Sequence[Event]:
        """The newest events of a stream of trades or aggregates, oldest first."""

    def repeat(self, connection: Connection, stream: str, events: Iterable[Event]) -> None:
        """Send events again."""


class Strikes:
    """Begins faults and knows which are in force."""

    def __init__(self, hub: Struck) -> None:
        self._hub = hub
        self._ever = 0
        self._garbage = 0

    def begin(self, fault: Fault) -> Fault:
        """Put a fault in force; those of one moment are over when this returns."""
        self._ever += 1
        fault.id, fault.until = self._ever, 0.0
        hub, loop = self._hub, asyncio.get_running_loop()
        hit = [one for one in hub.connections.values() if not fault.spares(one.number, one.market)]
        self._tell(fault, "begin", {})
        hub.log.flush()
        if fault.fault in LASTING:
            fault.until = loop.time() + fault.seconds
            hub.faults.append(fault)
        match fault.fault:
            case "cut":
                self._each(fault, hit, lambda one: one.end("cut", fault.code))
            case "reset":
                self._each(fault, hit, lambda one: one.reset("reset"))
            case "freeze":
                self._each(fault, hit, self._freeze)
                loop.call_later(fault.seconds, self._each, fault, hit, lambda one: one.end("freeze"))
            case "flap":
                for one in hit:
                    loop.call_later(fault.after, one.end, "flap")
            case "shutdown":
                self._each(fault, hit, self._announce)
                loop.call_later(fault.seconds, self._each, fault, hit, lambda one: one.end("shutdown", 1001))
            case "garbage":
                self._each(fault, hit, lambda one: self._send_garbage(one, fault))
            case "huge_frame":
                self._each(fault, hit, lambda one: one.out.append(frame(b'{"filler":"' + b"x" * fault.size + b'"}')))
            case "restart_ids":
                self._restart(fault)
            case name if name not in LASTING:
                hub.faults.append(fault)
        return fault

    def opened(self, connection: Connection) -> None:
        """What is in force for new connections happens to this one."""
        for fault in self._in_force("mute", connection):
            connection.mute = True
            self._tell(fault, "applied", {"connections": [connection.number]})
        for fault in self._in_force("flap", connection):
            asyncio.get_running_loop().call_later(fault.after, connection.end, "flap")

    def refused(self, market: str, target: str) -> Fault | None:
        """The fault that refuses an upgrade of that market, if there is one."""
        for fault in self._hub.faults:
            if fault.fault == "refuse" and fault.market in (None, market):
                self._tell(fault, "applied", {"target": target})
                return fault
        return None

    def answered(self, connection: Connection, streams: list[str]) -> str:
        """How a subscription is to be answered: `good`, or a form of `acks`."""
        for fault in self._in_force("acks", connection):
            fault.count -= 1
            form = fault.form or "none"
            names = {"connection": connection.number, "form": form, "streams": len(streams)}
            self._tell(fault, "applied", names)
            return form
        return "good"

    def subscribed(self, connection: Connection, streams: list[str]) -> None:
        """Streams that begin again with what was sent before."""
        for fault in self._in_force("replay", connection):
            for name in streams:
                events = self._hub.recent(connection, name, fault.count)
                if events and fault.meets(events[0]):
                    self._hub.repeat(connection, name, events)
                    ids = {
                        "connection": connection.number,
                        "stream": name,
                        "first": events[0].id,
                        "last": events[-1].id,
                    }
                    self._tell(fault, "applied", ids)

    def mutes(self, connection: Connection) -> bool:
        """Whether even pings are kept from it."""
        return any(fault.symbol is None and fault.kind is None for fault in self._in_force("silence", connection))

    def _in_force(self, name: str, connection: Connection) -> list[Fault]:
        return [
            fault
            for fault in self._hub.faults
            if fault.fault == name and fault.count > 0 and not fault.spares(connection.number, connection.market)
        ]

    def _tell(self, fault: Fault, phase: str, detail: Mapping[str, object]) -> None:
        hub = self._hub
        hub.log.line("fault", fault.id, fault.fault, fault.parameters(), phase, detail, hub.clock.now())

    def _each(self, fault: Fault, hit: list[Connection], act: Callable[[Connection], None]) -> None:
        alive = [one for one in hit if one.number in self._hub.connections]
        for one in alive:
            act(one)
        self._tell(fault, "applied", {"connections": [one.number for one in alive]})

    def _freeze(self, connection: Connection) -> None:
        connection.flush()
        self._hub.leave_all(connection)
        connection.mute = True
        connection.transport.pause_reading()

    def _announce(self, connection: Connection) -> None:
        text = self._hub.farewell(connection)
        if text is not None:
            connection.say(text)

    def _send_garbage(self, connection: Connection, fault: Fault) -> None:
        for _ in range(fault.count):
            opcode, payload = GARBAGE[self._garbage % len(GARBAGE)]
            if fault.text is not None:
                opcode, payload = TEXT, fault.text.encode()
            connection.out.append(frame(payload, opcode))
            self._garbage += 1

    def _restart(self, fault: Fault) -> None:
        for book in self._hub.books:
            if fault.of_book(book):
                detail = {"market": book.market, "symbol": book.symbol, "after": [book.trade_id, book.agg_id]}
                book.restart()
                self._tell(fault, "applied", detail)
