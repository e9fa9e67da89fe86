"""Guesses: wrong tokens at a port. A few are answered at once, further ones late, and not many at a time.

Who has the right token never waits: it has 256 bits, so that no guess will be right, and whoever could hold its owner
up by guessing would have more of that than of any guess.
"""

from __future__ import annotations

from runtime.clock import Clock

FREE = 20
"""Wrong tokens that are answered at once."""
EACH_SECONDS = 3.0
"""After which one more of them is."""
LATE_SECONDS = 1.0
"""By how much an answer beyond them is late."""
WAITING = 8
"""Late answers under way; beyond them an answer is not worth a socket that is held open."""


class Guesses:
    """How many there were lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = float(FREE)
        self._at = clock.monotonic()
        self._waiting = 0

    async def too_many(self) -> bool:
        """One more: whether there were too many lately. Returns late then."""
        now = self._clock.monotonic()
        self._left = min(float(FREE), self._left + (now - self._at) / EACH_SECONDS)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return False
        if self._waiting < WAITING:
            self._waiting += 1
            try:
                await self._clock.sleep(LATE_SECONDS)
            finally:
                self._waiting -= 1
        return True
