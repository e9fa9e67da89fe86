"""What may be asked of a venue's REST routes: its weights, spread evenly and never more than half of what it allows."""

from __future__ import annotations

from market.session import Limits
from runtime.clock import Clock

SHARE = 0.5
"""The part of a venue's weight a minute that is used: the rest is for whoever else asks from this address."""


class Budget:
    """One for all connections and markets, since some markets share what a venue allows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}

    async def spend(self, limits: Limits, weight: int) -> None:
        """Wait for the turn of a request of that weight. Turns come in the order in which they are asked for."""
        if not limits.weight_per_minute:
            return
        now = self._clock.monotonic()
        at = max(now, self._next.get(limits.weight_pool, now))
        self._next[limits.weight_pool] = at + weight * 60 / (limits.weight_per_minute * SHARE)
        if at > now:
            await self._clock.sleep(at - now)
