"""Memory that nobody needs any more, given back every minute.

Python frees what is in cycles (a connection that is over, its session, the error that ended it) only when it looks for
cycles, and that is when many more objects were made than freed: rarely, where nearly all die young and thresholds are
high (`runtime.loop`). In a daemon whose connections were cut for some minutes two of three in memory were dead.

glibc by itself gives back the end of its heap only. What bursts, large answers and outages needed once stays in the
size of the process, in pieces between what was asked for since: a third of the heap of a busy daemon.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

from runtime.clock import Clock, pause

EVERY_SECONDS = 60.0
"""Both take some milliseconds, in which everything waits."""
Trim = Callable[[int], int]


def trim_of() -> Trim | None:
    """What gives back free memory: `malloc_trim` of glibc; None where the C library has no such thing."""
    if sys.platform != "linux":
        return None
    found: Trim | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


class HeapService:
    """Frees what is in cycles by `collect`, and gives back what is free by `trim` (runtime.service.Service)."""

    name = "heap"
    phase = 0

    def __init__(self, clock: Clock, collect: Callable[[], int], trim: Trim | None) -> None:
        self._clock = clock
        self._collect = collect
        self._trim = trim

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        while not await pause(self._clock, stop, EVERY_SECONDS):
            self._collect()
            if self._trim is not None:
                self._trim(0)
