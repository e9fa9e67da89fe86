"""The heart of the simulated venue: each tick the market goes on, the log is written, subscribers are sent it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from simulator.clock import Clock
from simulator.connection import PING, Connection, frame
from simulator.drifting import drifted
from simulator.events import ALWAYS, KIND_OF, Aggregate, Event, Fill, Hosted, Streamed
from simulator.faults import FORMS, ON_EVENTS, Fault
from simulator.feeds import Wanted
from simulator.log import TruthLog
from simulator.market import Book, Market
from simulator.strikes import Strikes

TICK = 0.02
HELD = 1.0
"""Seconds after which a reordered event leaves even if no other of its stream follows."""


class Venue(Protocol):
    """What a venue's twin tells the hub about its streams."""

    def stream(self, symbol: str, kind: str) -> str:
        """The venue's name of that stream; trades, aggregates and quotes have one each."""

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """What the name of any other stream asks for; None where there is no such stream."""

    def notices(self, market: str) -> str | None:
        """The stream that tells contracts' changes of all markets, where that market has one."""

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The message of an event; times in ms, or us if `micro`."""

    def wrapped(self, stream: str, payload: str) -> str:
        """The message inside the envelope that names its stream."""

    def serves(self, market: str, route: str, stream: str) -> bool:
        """Whether connections on that route are sent that stream."""

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price (`bad_price`) or its times (`bad_time`) in that form; None where it has none."""

    def announces(self, market: str) -> bool:
        """Whether the protocol of that market has words for a shutdown that is to come."""

    def farewell(self, connection: Connection, now: int) -> str | None:
        """Those words. `now` in us."""


class Group:
    """The subscribers of one stream."""

    def __init__(self, name: str, history: deque[Fill] | deque[Aggregate] | None = None) -> None:
        self.name = name
        self.history = history
        self.members: list[Connection] = []
        self.sent = ""
        self.held: tuple[Event, int, float] | None = None

    def change(self, member: Connection, joins: bool) -> None:
        """Add or remove a subscriber."""
        if joins and member not in self.members:
            self.members.append(member)
        elif not joins and member in self.members:
            self.members.remove(member)
        self.sent = ",".join(str(one.number) for one in self.members)


class Hub:
    """Connects the market, the log, the faults and the connections. Lives on the event loop's thread."""

    def __init__(self, market: Market, venue: Venue, log: TruthLog, clock: Clock) -> None:
        self.market = market
        self.venue = venue
        self.log = log
        self.clock = clock
        self.connections: dict[int, Connection] = {}
        self.faults: list[Fault] = []
        self.opened = 0
        self.strikes = Strikes(self)
        self._next: asyncio.TimerHandle | None = None
        self._holding: set[Group] = set()
        """Streams with a reordered event in hand."""
        self._groups: dict[tuple[str, str], Group] = {}
        self._of: dict[type[Event], dict[int, Group]] = {kind: {} for kind in ALWAYS}
        for book in market.books:
            for kind in ALWAYS:
                history = {Fill: book.prints, Aggregate: book.aggregates}.get(kind)
                group = Group(venue.stream(book.symbol, KIND_OF[kind]), history)  # type: ignore[arg-type] # one of both
                self._groups[book.market, group.name] = group
                self._of[kind][id(book)] = group
        self.notices: list[tuple[str, str]] = []
        """(market, stream) of those that tell contracts' changes."""
        for name in dict.fromkeys(book.market for book in market.books):
            if (stream := venue.notices(name)) is not None:
                self._groups[name, stream] = Group(stream)
                self.notices.append((name, stream))

    def start(self) -> None:
        """Let the market go on, tick by tick, until `stop`."""
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(TICK, self._tick, loop.time() + TICK)

    def stop(self) -> None:
        """The last tick; then everybody is sent away."""
        if self._next is not None:
            self._next.cancel()
            self.tick()
        for connection in tuple(self.connections.values()):
            connection.end("simulator stops", 1001)

    def _tick(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self.tick()
        due = max(due + TICK, loop.time())
        self._next = loop.call_at(due, self._tick, due)

    def tick(self) -> None:
        """Everything that happened since the last tick: into the log first, then to the sockets."""
        now = self.clock.now()
        published = now - now % 1000
        self._expire()
        faulty = any(fault.fault in ON_EVENTS for fault in self.faults)
        for event in self.market.advance(now):
            group = self._to(event)
            if faulty or group.held:
                self._send_faulty(event, group, published)
            else:
                self.log.event(event, published, group.sent)
                if group.members:
                    self._send(event, group, group.members, published)
        self.log.flush()
        for connection in tuple(self.connections.values()):
            if connection.out and not connection.flush():
                connection.end("slow reader")

    def _to(self, event: Event) -> Group:
        """The stream that tells it."""
        of = self._of.get(type(event))
        if of is not None:
            return of[id(event.book)]
        assert isinstance(event, Streamed)
        market = event.host if isinstance(event, Hosted) else event.book.market
        return self._groups[market, event.stream]

    def _send(
        self,
        event: Event,
        group: Group,
        members: Iterable[Connection],
        published: int,
        change: Callable[[str], str] | None = None,
    ) -> None:
        frames: list[bytes | None] = [None, None, None, None]
        for member in members:
            variant = member.variant
            ready = frames[variant]
            if ready is None:
                text = self.venue.payload(event, published, variant > 1)
                if change is not None:
                    text = change(text)
                if variant & 1:
                    text = self.venue.wrapped(group.name, text)
                ready = frames[variant] = frame(text.encode())
            member.out.append(ready)

    def _send_faulty(self, event: Event, group: Group, published: int) -> None:
        if group.held is None and group.members:
            for fault in self.faults:
                if fault.fault == "reorder_ids" and fault.meets(event):
                    group.held = (event, published, asyncio.get_running_loop().time() + HELD)
                    self._holding.add(group)
                    self._applied(fault, event)
                    return
        self._deliver(event, group, published)
        self._release(group)

    def _release(self, group: Group) -> None:
        if group.held is not None:
            event, published, _ = group.held
            group.held = None
            self._holding.discard(group)
            self._deliver(event, group, published)

    def _deliver(self, event: Event, group: Group, published: int) -> None:
        """Send one event, less what faults take from it, and write down who got it."""
        copies: dict[Connection, int] = dict.fromkeys(group.members, 1)
        dropped: dict[int, str] = {}
        change: Callable[[str], str] | None = None
        for fault in self.faults:
            if fault.fault not in ON_EVENTS or fault.fault == "reorder_ids" or not fault.meets(event):
                continue
            hit = [one for one, n in copies.items() if n and not fault.spares(one.number, one.market)]
            form = fault.form or FORMS["drift"][0] if fault.fault == "drift" else ""
            if form and hit:
                change = partial(drifted, form=form, field=fault.text)
                self._applied(fault, event, form)
                continue
            if fault.fault in ("bad_price", "bad_time"):
                form = self._spoil(fault, event, group, hit, published)
                if not form:
                    continue
            for one in hit:
                if fault.fault == "duplicate_ids":
                    copies[one] += 1
                else:
                    copies[one] = 0
                    one.lost += fault.fault == "drop_ids"
                    dropped[one.number] = fault.fault
            if fault.fault == "half_frame":
                for one in hit:
                    self._send(event, group, [one], published)
                    last = one.out.pop()
                    one.out.append(last[: len(last) // 2])
                    one.flush()
                    asyncio.get_running_loop().call_later(0.1, one.end, "half_frame")
                    self.leave_all(one)
            if hit and fault.fault != "silence":
                self._applied(fault, event, form)
        got = [one for one, n in copies.items() for _ in range(n)]
        self.log.event(
            event,
            published,
            ",".join(str(one.number) for one in got),
            ",".join(f'"{number}":"{name}"' for number, name in dropped.items()),
        )
        self._send(event, group, got, published, change)

    def _spoil(self, fault: Fault, event: Event, group: Group, hit: list[Connection], published: int) -> str:
        """Send the event in a form that no venue sends; which one, or "" where it has nothing to spoil."""
        form = fault.next_form()
        if not hit or self.venue.spoiled(event, self.venue.payload(event, published, False), fault.fault, form) is None:
            return ""
        self._send(
            event, group, hit, published, lambda text: self.venue.spoiled(event, text, fault.fault, form) or text
        )
        return form

    def _applied(self, fault: Fault, event: Event, form: str = "") -> None:
        fault.count -= 1
        detail = {
            "market": event.book.market,
            "symbol": event.book.symbol,
            "kind": KIND_OF[type(event)],
            "id": event.id,
        } | ({"form": form} if form else {})
        self.log.line("fault", fault.id, fault.fault, fault.parameters(), "applied", detail, self.clock.now())

    def _expire(self) -> None:
        """End faults that are used up or over, and let go of what was held too long."""
        if not self.faults and not self._holding:
            return
        time = asyncio.get_running_loop().time()
        for fault in tuple(self.faults):
            if fault.count < 1 or (fault.until and fault.until <= time):
                self.end_fault(fault)
        for group in tuple(self._holding):
            if group.held is not None and group.held[2] <= time:
                self._release(group)

    # -- faults ------------------------------------------------------------------------------------------------------

    @property
    def books(self) -> Sequence[Book]:
        """All books."""
        return self.market.books

    def begin(self, fault: Fault) -> Fault:
        """Put a fault in force; those of one moment are over when this returns."""
        return self.strikes.begin(fault)

    def end_fault(self, fault: Fault) -> None:
        """Take a fault out of force."""
        self.faults.remove(fault)
        self.log.line("fault", fault.id, fault.fault, fault.parameters(), "end", {}, self.clock.now())

    def farewell(self, connection: Connection) -> str | None:
        """The venue's announcement of a shutdown."""
        return self.venue.farewell(connection, self.clock.now())

    def recent(self, connection: Connection, stream: str, count: int) -> Sequence[Event]:
        """The newest events of a stream of trades or aggregates, oldest first."""
        group = self._groups.get((connection.market, stream))
        if group is None or group.history is None:
            return ()
        events: list[Event] = [*group.history]
        return events[-count:]

    def repeat(self, connection: Connection, stream: str, events: Iterable[Event]) -> None:
        """Send events again; the log is told by whoever asks for it."""
        group, now = self._groups[connection.market, stream], self.clock.now()
        for event in events:
            self._send(event, group, [connection], now - now % 1000)

    def listed(self, market: str, symbol: str) -> Book | None:
        """The book of a symbol as the venue writes it; None where it is not listed."""
        book = self.market.named.get((market, symbol.lower()))
        return book if book is not None and book.listed and book.symbol == symbol else None

    # -- connections -------------------------------------------------------------------------------------------------

    def open(self, market: str, route: str, path: str, transport: asyncio.Transport) -> Connection:
        """A new connection, numbered from 1."""
        self.opened += 1
        connection = Connection(self.opened, market, route, path, transport)
        connection.opened = self.clock.now()
        connection.last_pong = asyncio.get_running_loop().time()
        self.connections[connection.number] = connection
        self.log.line("open", connection.number, market, path, connection.opened)
        self.strikes.opened(connection)
        return connection

    def subscribe(self, connection: Connection, streams: Iterable[str], joins: bool = True) -> None:
        """Add streams to a connection or take them away. Unknown ones, and those of another route, stay silent."""
        names = list(streams)
        for name in names:
            if joins:
                connection.streams[name] = None
            else:
                connection.streams.pop(name, None)
            if not connection.mute and self.venue.serves(connection.market, connection.route, name):
                group = self._groups.get((connection.market, name))
                if group is None and joins:
                    group = self._begin(connection.market, name)
                if group is not None:
                    group.change(connection, joins)
        if names:
            word = "subscribe" if joins else "unsubscribe"
            self.log.line(word, connection.number, names, self.clock.now())
            if joins:
                asyncio.get_running_loop().call_soon(self.strikes.subscribed, connection, names)

    def _begin(self, market: str, name: str) -> Group | None:
        """The first subscription of a stream that is made on request: from now on it goes on."""
        wanted = self.venue.wanted(market, name)
        if wanted is None or not self.market.watch(market, name, wanted):
            return None
        self._groups[market, name] = group = Group(name)
        return group

    def gone(self, connection: Connection, cause: str) -> None:
        """The connection is over, whoever ended it."""
        self.leave_all(connection)
        self.connections.pop(connection.number, None)
        self.log.line("close", connection.number, connection.cause or cause, connection.unsent, self.clock.now())

    def leave_all(self, connection: Connection) -> None:
        """Nothing more is sent to it."""
        for name in connection.streams:
            group = self._groups.get((connection.market, name))
            if group is not None:
                group.change(connection, joins=False)

    def ping(self, connection: Connection, every: float, patience: float) -> None:
        """Ping now and every `every` seconds; who has not answered for `patience` seconds is cut off.

        These are counted in pings: a simulator that stood still itself has not waited for anybody.
        """
        loop = asyncio.get_running_loop()
        if connection.number not in self.connections:
            return
        if connection.last_pong >= connection.last_ping:
            connection.unanswered = 0
        if (connection.unanswered + 1) * every > patience and not connection.mute:
            connection.end("no pong", 1008)
            return
        if not self.strikes.mutes(connection):
            connection.out.append(frame(str(self.clock.now() // 1000).encode(), PING))
            connection.last_ping = loop.time()
            connection.unanswered += 1
        loop.call_later(every, self.ping, connection, every, patience)
