"""What may be asked of a venue's REST routes: its weights, spread evenly and never more than half of what it allows.

Who asks waits in one queue a weight pool; whose turn it is, and when, is decided in `collectors.turns`. Nothing is
reserved: a turn is paid for when it comes, so one who is cancelled while it waits delays nobody. What the venue itself
says is used, by whoever asks from this address, counts too, and a host that asked for silence silences its pool.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from collectors.bans import Bans
from collectors.turns import BACKFILL, HEAD_START_SECONDS, POLL, REPAIR, RESYNC, SHARE, Asking, Known, decide, minute
from lake.rows import BanRow
from market.session import Limits
from runtime import metrics
from runtime.clock import Clock, pause

__all__ = ["BACKFILL", "HEAD_START_SECONDS", "POLL", "REPAIR", "RESYNC", "SHARE", "Budget"]

_NOW = 1e-6
"""Seconds that are no wait: less is what sums of floats leave behind."""


class _Turn(NamedTuple):
    """One that waits; `look` tells it that its place has changed."""

    rank: tuple[float, int]
    asking: Asking
    look: asyncio.Event


class _Pool:
    """The queue of one weight pool, and what is known of its minute."""

    def __init__(self) -> None:
        self.queue: list[_Turn] = []
        self.free_at = 0.0
        self.minute = -1
        self.used = 0
        self.share = 0.0

    def leave(self, turn: _Turn) -> None:
        """Its place is free, and the one behind it learns when it was first."""
        at = bisect.bisect_left(self.queue, turn.rank, key=_rank)
        del self.queue[at]
        if at == 0 and self.queue:
            self.queue[0].look.set()


class Budget:
    """One for all connections and markets, since some markets share what a venue allows.

    `bans` is what earlier runs wrote down, `on_ban` is told of each new one (see `collectors.bans`).
    """

    def __init__(
        self, clock: Clock, bans: Iterable[BanRow] = (), on_ban: Callable[[BanRow], None] | None = None
    ) -> None:
        self.bans = Bans(clock, bans, on_ban)
        self.large = asyncio.Lock()
        """Held by who reads a large answer: of those there is one at a time in memory."""
        self._clock = clock
        self._pools: dict[str, _Pool] = {}
        self._numbers = itertools.count()

    async def spend(self, limits: Limits, weight: int, priority: int = RESYNC) -> None:
        """Wait for the turn of a request of that weight. Safe to cancel: a turn that is given up costs nothing."""
        if not limits.weight_per_minute:
            return
        pool = self._pool(limits)
        asking = Asking(self._clock.monotonic(), priority, next(self._numbers), weight)
        turn = _Turn(asking.rank, asking, asyncio.Event())
        bisect.insort(pool.queue, turn, key=_rank)
        waiting = metrics.REST_WAITING.labels(limits.weight_pool)
        waiting.set(len(pool.queue))
        try:
            while True:
                turn.look.clear()
                first, left = self._decide(limits, pool)
                if first is not asking:
                    await turn.look.wait()
                elif left > _NOW:
                    await pause(self._clock, turn.look, left)
                else:
                    break
            self._pay(limits, pool, weight)
        finally:
            pool.leave(turn)
            waiting.set(len(pool.queue))

    def observe(self, limits: Limits, headers: Mapping[str, str], asked_at: int, path: str = "") -> None:
        """What an answer to a request of `asked_at` (us) says of the weight used in this minute, by all who ask from
        this address. Header names are in lower case. An answer over the turn of the minute may mean either: ignored.
        """
        text = headers.get(limits.weight_header, "") if limits.weight_header else ""
        if not (text.isascii() and text.isdigit() and len(text) <= 9) or path.endswith(limits.weight_unsaid):
            return
        this = minute(self._clock.now())
        if minute(asked_at) != this:
            return
        pool = self._pool(limits)
        pool.used = max(pool.used, int(text)) if pool.minute == this else int(text)
        pool.minute = this
        pool.share = int(text) / limits.weight_per_minute if limits.weight_per_minute else 0.0
        metrics.REST_USED.labels(limits.weight_pool).set(pool.share)

    def silence(self, pool: str, until: int) -> None:
        """Nothing more of `pool` before `until` (us)."""
        self.bans.silence(pool, until)

    def status(self, limits: Limits) -> Mapping[str, object]:
        """The part of the venue's weight that its last answer said is used, who waits, and how long it is silent."""
        pool = self._pools.get(limits.weight_pool)
        return {
            "pool": limits.weight_pool,
            "used_share": round(pool.share, 4) if pool else 0.0,
            "waiting": len(pool.queue) if pool else 0,
            "silent_seconds": round(max(0.0, self.bans.left_of(limits.weight_pool)), 1),
        }

    def _pool(self, limits: Limits) -> _Pool:
        return self._pools.setdefault(limits.weight_pool, _Pool())

    def _decide(self, limits: Limits, pool: _Pool) -> tuple[Asking, float]:
        known = Known(pool.free_at, self.bans.left_of(limits.weight_pool), pool.minute, pool.used)
        waiting = (turn.asking for turn in pool.queue)
        return decide(waiting, known, limits, self._clock.monotonic(), self._clock.now())

    def _pay(self, limits: Limits, pool: _Pool, weight: int) -> None:
        pool.free_at = self._clock.monotonic() + weight * 60 / (limits.weight_per_minute * SHARE)
        if pool.minute == minute(self._clock.now()):
            pool.used += weight


def _rank(turn: _Turn) -> tuple[float, int]:
    return turn.rank
