"""Fleet: the drivers of all connections, and how one plan of connections becomes another while streams flow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from collectors.connection import Driver
from collectors.planning import Changes
from market.session import Connection, Stream
from runtime.clock import Clock

MOVE_SECONDS = 30.0
"""How long a stream that moves may take to come on its new connection before it ends on its old one."""
LOOK_SECONDS = 0.1


class Fleet:
    """Drivers by the name of their connection. `start` makes and starts one."""

    def __init__(self, clock: Clock, start: Callable[[Connection], Awaitable[Driver]]) -> None:
        self._clock = clock
        self._start = start
        self._drivers: dict[str, Driver] = {}
        self._plan: dict[str, Connection] = {}

    @property
    def drivers(self) -> Collection[Driver]:
        return self._drivers.values()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """What is carried, as planned."""
        return tuple(self._plan.values())

    async def apply(self, changes: Changes) -> None:
        """Carry out a change of plan. A stream that moves ends where it was once it comes where it goes."""
        later = {name for name in self._plan if self._leaves(name, changes)}
        for name, connection in changes.replan.items():
            if name not in later:
                self._replan(name, connection)
        for connection in changes.add:
            self._plan[connection.name] = connection
            self._drivers[connection.name] = await self._start(connection)
        if later:
            await self._until_come(changes.moved, later)
        for name in later & changes.replan.keys():
            self._replan(name, changes.replan[name])
        for name in changes.retire:
            del self._plan[name]
            self._drivers.pop(name).retire()

    def _leaves(self, name: str, changes: Changes) -> bool:
        """Whether a stream moves away from this connection."""
        after = changes.replan.get(name)
        if after is None and name not in changes.retire:
            return False
        kept = set(after.streams) if after is not None else set()
        return any(stream.name in changes.moved and stream not in kept for stream in self._plan[name].streams)

    def _replan(self, name: str, connection: Connection) -> None:
        del self._plan[name]
        driver = self._drivers.pop(name)
        self._plan[connection.name] = connection
        self._drivers[connection.name] = driver
        driver.replan(connection)

    async def _until_come(self, moved: Collection[str], leaving: Collection[str]) -> None:
        """Until each stream that moves is produced by a connection that it does not leave."""
        until = self._clock.monotonic() + MOVE_SECONDS
        going = [
            (self._drivers[name], stream)
            for name, connection in self._plan.items()
            for stream in connection.streams
            if name not in leaving and stream.name in moved
        ]
        while self._clock.monotonic() < until:
            if all(_comes(driver, stream) for driver, stream in going):
                return
            await self._clock.sleep(LOOK_SECONDS)


def _comes(driver: Driver, stream: Stream) -> bool:
    """Whether the newest life of a connection has had something of a stream, or all that is to be had soon."""
    states = driver.life.link.session.streams() if driver.life is not None else ()
    found = (state for state in states if state.stream == stream)
    return any(state.events or (stream.sparse and state.acknowledged_at) for state in found)
