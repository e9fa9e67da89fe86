"""How fast a replay goes: messages leave at the distances in which they arrived, so many times as fast, or at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from runtime.clock import Clock

T = TypeVar("T")
BATCH = 512
"""Messages that are read ahead at most."""
BATCH_BYTES = 256 * 1024


class Pace:
    """From the first message on. `speed` 0 never waits."""

    def __init__(self, clock: Clock, speed: float) -> None:
        self._clock = clock
        self._speed = speed
        self._first: tuple[int, float] | None = None

    async def wait(self, at: int) -> None:
        """Until the message of that arrival (us) is due; who is late is not made later."""
        if not self._speed:
            return
        if self._first is None:
            self._first = (at, self._clock.monotonic())
        first, began = self._first
        ahead = began + (at - first) / 1e6 / self._speed - self._clock.monotonic()
        if ahead > 0:
            await self._clock.sleep(ahead)


async def ahead(source: Iterator[T], size: Callable[[T], int]) -> AsyncIterator[list[T]]:
    """What the source gives, read in a thread, a batch after the other: only when the one before was taken."""
    while batch := await asyncio.to_thread(_batch, source, size):
        yield batch


def _batch(source: Iterator[T], size: Callable[[T], int]) -> list[T]:
    made: list[T] = []
    held = 0
    for one in source:
        made.append(one)
        held += size(one)
        if len(made) >= BATCH or held >= BATCH_BYTES:
            break
    return made
