"""One Kraken spot book as its messages make it: the venue's checksum, its depth, and places made of its time. Pure.

The venue numbers nothing. A message is proven by the CRC32 of the ten best levels a side, which holds only where all
before it were applied; its place is its time, so that two connections give one message one place.
"""

from __future__ import annotations

import itertools
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from collectors.exchanges.kraken import texts

Level: TypeAlias = tuple[str, str]
"""(price, quantity) as decimal texts."""
SUMMED = 10
"""Levels a side that the checksum covers, whatever the depth."""
SLOT = 10
"""Bits of a place below its time (us): messages of one microsecond, in the order that they came."""
LAST_SLOT = (1 << SLOT) - 1
MORE = 9
"""Trailing zeros that a pair's precision may add to all of a book's numbers."""


class Side:
    """Prices ascending in units of 10^-18, and each level's (price text, quantity in the same units)."""

    def __init__(self) -> None:
        self.prices: list[int] = []
        self.held: dict[int, tuple[str, int]] = {}

    def put(self, price: str, qty: str) -> None:
        """A level's quantity is now this; 0 takes it away, known or not."""
        key, amount = texts.units(price), texts.units(qty)
        if amount:
            if key not in self.held:
                insort(self.prices, key)
            self.held[key] = (price, amount)
        elif key in self.held:
            del self.held[key]
            del self.prices[bisect_left(self.prices, key)]

    def cut(self, depth: int, *, falling: bool) -> list[str]:
        """Let go of what lies behind the `depth` best levels (`falling`: the best price is the highest)."""
        over = len(self.prices) - depth
        if over <= 0:
            return []
        gone = self.prices[:over] if falling else self.prices[depth:]
        del self.prices[slice(0, over) if falling else slice(depth, None)]
        return [self.held.pop(key)[0] for key in gone]


class Ladder:
    """Both sides, the precisions of the pair as the checksum shows them, and the place of the newest message."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.last = 0
        self.bids, self.asks = Side(), Side()
        self._precision: tuple[int, int] | None = None
        """Decimals of (price, quantity) in the checksum."""

    def place(self, time: int, *, whole: bool = False) -> int:
        """The place of a message of that time (us), behind all before it; a whole stands behind those of its time."""
        self.last = max((time << SLOT) + (LAST_SLOT if whole else 0), self.last + 1)
        return self.last

    def load(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Begin anew from a whole."""
        self.bids, self.asks = Side(), Side()
        self.apply(bids, asks)

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> tuple[list[str], list[str]]:
        """One message, in the order of its arrays; prices that fell out of the depth, of which the venue says nothing.

        The venue cuts after the message; what it took away in the same message is not told twice.
        """
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, qty in levels:
                side.put(price, qty)
        return self.bids.cut(self.depth, falling=True), self.asks.cut(self.depth, falling=False)

    def proven(self, checksum: int, hint: tuple[int, int] | None = None) -> bool:
        """Whether the book is what the venue says it is.

        The sum is over digits, so it depends on the pair's precisions. `hint` is what the venue says of them; where
        it says nothing, or something else than it sums, they are those by which the sum is right.
        """
        asks = [(key, self.asks.held[key][1]) for key in self.asks.prices[:SUMMED]]
        bids = [(key, self.bids.held[key][1]) for key in self.bids.prices[: -SUMMED - 1 : -1]]
        levels = asks + bids
        if self._precision is not None and digest(levels, *self._precision) == checksum:
            return True
        for found in self._precisions(levels, hint):
            if digest(levels, *found) == checksum:
                self._precision = found if levels else None
                return True
        return False

    @staticmethod
    def _precisions(levels: Sequence[tuple[int, int]], hint: tuple[int, int] | None) -> Iterable[tuple[int, int]]:
        """Precisions by which no digit of the levels is lost: what the venue says first."""
        least = (_decimals(price for price, _ in levels), _decimals(qty for _, qty in levels))
        if hint is not None and hint[0] >= least[0] and hint[1] >= least[1]:
            yield hint
        ranges = (range(one, min(one + MORE, texts.PLACES) + 1) for one in least)
        yield from itertools.product(*ranges)


def digest(levels: Iterable[tuple[int, int]], price_precision: int, qty_precision: int) -> int:
    """The CRC32 of (price, quantity) in units of 10^-18, each cut to its precision, without point and leading zeros."""
    of_price, of_qty = 10 ** (texts.PLACES - price_precision), 10 ** (texts.PLACES - qty_precision)
    return zlib.crc32("".join([f"{price // of_price}{qty // of_qty}" for price, qty in levels]).encode())


def _decimals(values: Iterable[int]) -> int:
    """Decimals that matter in any of some numbers in units of 10^-18."""
    most = 0
    for value in values:
        while most < texts.PLACES and value % 10 ** (texts.PLACES - most):
            most += 1
    return most
