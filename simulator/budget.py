"""A budget of request weights in a window of time, and the ban of who goes on when it is used up."""

from __future__ import annotations

import asyncio

from simulator.clock import Clock

BAN_SECONDS = 120
REFUSALS_BEFORE_BAN = 10


class Budget:
    """`limit` in each window of `seconds` (a client is whoever asks: all come from one address)."""

    def __init__(self, clock: Clock, limit: int, seconds: int = 60) -> None:
        self.limit = limit
        self.used = 0
        self._clock = clock
        self._seconds = seconds
        self._window = -1
        self._refused = 0
        self._banned_until = 0.0

    def pay(self, weight: int) -> tuple[int, int] | None:
        """Status and Retry-After where the window's budget is used up: 429, or 418 for who goes on after many."""
        time = asyncio.get_running_loop().time()
        seconds = self._clock.now() // 1_000_000
        if time < self._banned_until:
            return 418, int(self._banned_until - time) + 1
        if seconds // self._seconds != self._window:
            self._window, self.used, self._refused = seconds // self._seconds, 0, 0
        self.used += weight
        if self.used <= self.limit:
            return None
        self._refused += 1
        if self._refused > REFUSALS_BEFORE_BAN:
            self._banned_until = time + BAN_SECONDS
            return 418, BAN_SECONDS
        return 429, self._seconds - seconds % self._seconds
