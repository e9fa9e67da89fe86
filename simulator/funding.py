"""Funding rates, mark prices and open interest of a perpetual: made up, the same for the same seed and time."""

from __future__ import annotations

import zlib
from functools import lru_cache

from market.times import HOUR, MINUTE

INTERVAL = 8 * HOUR
UNIT = 10**8
"""Rates and prices here are whole multiples of 10^-8."""


def chance(*what: object) -> int:
    """A number below 2^32 that depends on `what` alone."""
    return zlib.crc32("/".join(map(str, what)).encode())


def next_funding(time: int) -> int:
    """The next settlement after `time`, us."""
    return time - time % INTERVAL + INTERVAL


@lru_cache(maxsize=1024)
def settled(seed: str, at: int) -> int:
    """The rate settled at `at` (a multiple of INTERVAL), in units of 10^-8."""
    return 10_000 + chance(seed, "funding", at // INTERVAL) % 30_001 - 15_000


def settlements(last: int, after: int) -> range:
    """The times of settlements up to `last` that are later than `after`, us, newest first."""
    return range(last - last % INTERVAL, after, -INTERVAL)


def predicted(seed: str, time: int) -> int:
    """The estimate at `time` of the rate to be settled next; it nears it as the settlement nears."""
    to_come = next_funding(time)
    return settled(seed, to_come) + _doubt(seed, time // MINUTE) * (to_come - time) // INTERVAL


@lru_cache(maxsize=1024)
def _doubt(seed: str, minute: int) -> int:
    return chance(seed, "estimate", minute) % 8_001 - 4_000


def prices(seed: str, mid: int, time: int) -> tuple[int, int]:
    """(mark, index) about a mid price, all in units of 10^-8; a few parts in 10^5 off."""
    bits = chance(seed, "mark", time // 1_000_000)
    return mid + mid * (bits % 61 - 30) // 10**6, mid + mid * (bits // 61 % 201 - 100) // 10**6


def open_interest(seed: str, time: int) -> int:
    """Lots held open in the minute of `time`."""
    return 5_000_000 + chance(seed, "holders") % 1_000_000 + chance(seed, "open", time // MINUTE) % 50_000


def text(value: int) -> str:
    """Decimal text of value / 10^8 with all eight decimals."""
    return f"{'-' if value < 0 else ''}{abs(value) // UNIT}.{abs(value) % UNIT:08d}"
