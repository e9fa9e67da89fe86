"""How long a driver waits before it connects again: longer each time, and much longer where it was turned away."""

from __future__ import annotations

from collections.abc import Callable

from collectors.bans import wait_seconds
from collectors.config import ConnectionConfig
from collectors.transports import ConnectFailed
from runtime.clock import Clock
from runtime.retry import backoff

TURNED_AWAY = frozenset({403, 418, 429, 451})
"""HTTP statuses of a handshake that a venue refuses by its rules: asking again soon is what the rules are about."""
POLICY_VIOLATION = 1008
FIRST_TIMES, LONGEST_TIMES = 10.0, 5.0
"""By how much the first and the longest wait are longer then."""


class Waits:
    """The waits of one row of attempts, in seconds; a connection that has lived for a while begins another row."""

    def __init__(self, clock: Clock, config: ConnectionConfig, random: Callable[[], float]) -> None:
        cap = config.backoff_max_seconds
        first = min(config.backoff_first_seconds, cap)
        self._clock = clock
        self._usual = backoff(random, first=first, cap=cap)
        first, cap = min(FIRST_TIMES * first, LONGEST_TIMES * cap), LONGEST_TIMES * cap
        self._long = backoff(random, first=first, cap=cap, floor=first / 2)

    def after_refusal(self, failed: ConnectFailed) -> float:
        """No connection came about. What the venue says in Retry-After is the least."""
        wait = next(self._long if failed.status in TURNED_AWAY else self._usual)
        if failed.status is None or "retry-after" not in failed.headers:
            return wait
        return max(wait, wait_seconds(failed.status, failed.headers, self._clock.now()))

    def after_end(self, code: int | None) -> float:
        """A connection is over, with close `code` where there was one."""
        rules = code is not None and (code == POLICY_VIOLATION or 4000 <= code < 5000)
        return next(self._long if rules else self._usual)
