"""Channel: a bounded queue of batches between tasks of one loop, with a declared policy for when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from runtime import metrics

T = TypeVar("T")
WhenFull = Literal["block", "drop_newest"]


class Channel(Generic[T]):
    """Items waiting for one consumer that takes them all at once.

    The bound is in bytes, as the producer counts them. A channel is full once it holds `max_bytes`:

    - "block": `offer` still takes the batch in hand, since it has been received already; the producer then awaits
      `room` before it reads more. What is held never exceeds max_bytes plus one batch of each producer.
    - "drop_newest": `offer` refuses the batch, counts it in `dropped`, and answers False: the caller owes a gap.

    Used from one event loop; not thread-safe.
    """

    def __init__(self, name: str, max_bytes: int, when_full: WhenFull = "block") -> None:
        if max_bytes <= 0:
            raise ValueError(f"channel {name}: max_bytes must be positive, not {max_bytes}")
        self.name = name
        self.max_bytes = max_bytes
        self.when_full = when_full
        self.bytes = 0
        self.high_water = 0
        """Most bytes ever held."""
        self.taken = 0
        """Items accepted since the start."""
        self.dropped = 0
        """Items refused since the start."""
        self._items: list[T] = []
        self._room = asyncio.Event()
        self._room.set()
        self._waited = metrics.QUEUE_BYTES.labels(name)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        return self.bytes >= self.max_bytes

    def offer(self, items: Sequence[T], nbytes: int) -> bool:
        """Put a batch of `nbytes`; whether it was taken (always, for "block")."""
        held = self.bytes
        if held >= self.max_bytes and self.when_full == "drop_newest":
            self.dropped += len(items)
            return False
        self._items += items
        self.taken += len(items)
        self.bytes = held = held + nbytes
        if held > self.high_water:  # noqa: PLR1730 -- several times a wake-up, and a live feed wakes up for every frame
            self.high_water = held
        if held >= self.max_bytes:
            self._room.clear()
        return True

    def put(self, items: Sequence[T], nbytes: int) -> None:
        """Put a batch whatever is held already: for who gives no more before it was taken."""
        self._items += items
        self.taken += len(items)
        self.bytes += nbytes
        self.high_water = max(self.high_water, self.bytes)

    async def room(self) -> None:
        """Wait until the channel is not full; at once where it is not."""
        await self._room.wait()

    def let_on(self) -> None:
        """Whoever waits for room goes on without it: what follows will not be put here."""
        self._room.set()

    def drain(self) -> list[T]:
        """Everything held, in order; the channel is then empty and waiting producers go on."""
        self._waited.set(self.bytes)
        items, self._items = self._items, []
        self.bytes = 0
        self._room.set()
        return items
