"""Whose turn it is at a venue, and when: the one decision behind every request of a weight pool. Pure.

Books that are out of sync come before live polls, these before repair of holes, and that before history. Each priority
is taken as if it had asked a while later than the next, so that among equals who came first is served first, and
nobody starves. While a host asked for silence nobody's turn comes, whatever it is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lake.job_plan import BACKFILL, POLL, REPAIR, RESYNC
from market.session import Limits
from market.times import MINUTE, SECOND

__all__ = ["BACKFILL", "HEAD_START_SECONDS", "POLL", "REPAIR", "RESYNC", "SHARE", "Asking", "Known", "decide", "minute"]

SHARE = 0.5
"""The part of a venue's weight a minute that is used: the rest is for whoever else asks from this address."""
HEAD_START_SECONDS = 60.0
"""How much earlier each priority is taken than the next: first come, first served among equals, and nobody starves."""
TURN_MARGIN = SECOND
"""The venue's minute is taken to turn this much after ours, since the clocks differ."""


class Asking(NamedTuple):
    """One that waits: since when (monotonic seconds), for what priority, for a request of what weight. `number` tells
    those apart that came together.
    """

    came: float
    priority: int
    number: int
    weight: int

    @property
    def rank(self) -> tuple[float, int]:
        """The least is the first."""
        return self.came + self.priority * HEAD_START_SECONDS, self.number


class Known(NamedTuple):
    """What is known of a pool: when what was paid for is through (monotonic seconds), for how many seconds it is
    silent, and the weight that is used in a minute (None where nothing of this minute is known).
    """

    free_at: float = 0.0
    silent: float = 0.0
    minute: int = -1
    used: int = 0


def decide(waiting: Iterable[Asking], known: Known, limits: Limits, monotonic: float, now: int) -> tuple[Asking, float]:
    """Who is next, and in how many seconds it may go: 0 or less is now. `now` us; somebody waits."""
    first = min(waiting, key=lambda one: one.rank)
    left = max(known.free_at - monotonic, known.silent)
    share = limits.weight_per_minute * SHARE
    used = known.used if known.minute == minute(now) else 0
    if used >= share or (used and used + first.weight > share):
        left = max(left, (MINUTE - (now - TURN_MARGIN) % MINUTE) / SECOND)
    return first, left


def minute(time: int) -> int:
    """The venue's minute that a time (us) is in."""
    return (time - TURN_MARGIN) // MINUTE
