"""Heartbeat: tells the service manager that the daemon is ready, that it lives, and that it stops.

The watchdog is fed only while everything moves: a blocked event loop feeds nothing by itself, and a service that
stands still (`runtime.service.Moves`) is asked. What is not fed is ended and started again by the manager.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runtime import health
from runtime.clock import Clock, pause
from runtime.notify import Notifier
from runtime.service import Moves, Service

BEATS = 3
"""Beats within the watchdog's time, so that one late turn ends nothing."""
UNWATCHED_SECONDS = 3600.0


class Heartbeat:
    """A service; it looks at the others and changes nothing. `state` says in a line what is not as it should be."""

    name = "heartbeat"
    phase = 4

    def __init__(
        self, clock: Clock, notifier: Notifier, services: Sequence[Service], state: Callable[[], str] = str
    ) -> None:
        self._clock = clock
        self._notifier = notifier
        self._services = services
        self._state = state
        self._held_back = False

    async def run(self, stop: asyncio.Event) -> None:
        limit = self._notifier.watchdog_seconds
        every = limit / BEATS if limit is not None else UNWATCHED_SECONDS
        self._notifier.say("READY=1", f"STATUS={self._state() or 'collecting'}")
        try:
            while not await pause(self._clock, stop, every):
                self._beat()
        finally:
            self._notifier.say("STOPPING=1", "STATUS=stopping")

    def _beat(self) -> None:
        """Feed the watchdog, unless something stands still."""
        moving = [service for service in self._services if isinstance(service, Moves)]
        stuck = [f"{service.name}: {why}" for service in moving if (why := service.stuck())]
        if not stuck:
            self._held_back = False
            self._notifier.say("WATCHDOG=1")
        elif not self._held_back:
            self._held_back = True
            health.watchdog_held_back(reason="; ".join(stuck))
