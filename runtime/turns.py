"""Turns: what becomes ready within a few milliseconds is woken together, once.

A live feed makes something ready for every frame. To go about each at once costs a cold start of caches every time.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable


class Turns:
    """The turns of one loop. Used from its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = weakref.ref(loop)
        self._seconds = seconds
        self._ready: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def wanted(self, wake: Callable[[], None]) -> None:
        """Call `wake` with the next turn, which comes `seconds` after the first of those that want it, or sooner."""
        loop = self._loop()
        if not self._ready and loop is not None:
            self._timer = loop.call_later(self._seconds, self.take)
        self._ready.append(wake)

    def take(self) -> bool:
        """Wake whoever wants it, now: for those who go on with what comes of it. Whether there was anybody."""
        ready, self._ready = self._ready, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for wake in ready:
            wake()
        return bool(ready)


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = weakref.WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop, seconds: float) -> Turns:
    """The turns of a loop, every one of them `seconds` long as it was first asked for."""
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(loop, seconds)
    return found
