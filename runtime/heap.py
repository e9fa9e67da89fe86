"""The C library's heap, asked every minute to give back what is free in it.

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
"""A call takes some milliseconds, in which whoever wants memory waits."""
Trim = Callable[[int], int]


def trim_of() -> Trim | None:
    """What gives back free memory: `malloc_trim` of glibc; None where the C library has no such thing."""
    if sys.platform != "linux":
        return None
    found: Trim | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


class HeapService:
    """Gives back what is free, by `trim` (runtime.service.Service)."""

    name = "heap"
    phase = 0

    def __init__(self, clock: Clock, trim: Trim | None) -> None:
        self._clock = clock
        self._trim = trim

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; done at once where there is nothing to call."""
        if self._trim is not None:
            while not await pause(self._clock, stop, EVERY_SECONDS):
                self._trim(0)
