"""An order book: the quantity at each price, loaded from a snapshot and kept by absolute updates. Pure.

Prices and quantities stay the venue's texts, so that what comes out is what went in. A venue spells a price the same
way in its snapshots and its updates, so the text finds the level; order is by value, exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TypeAlias

import msgspec

from market.errors import Malformed

Level: TypeAlias = tuple[str, str]
"""(price, quantity) as the venue's decimal texts."""
_ZEROS = frozenset(["0", *("0." + "0" * digits for digits in range(1, 31))])
_pairs = msgspec.json.Decoder(list[tuple[str, str]]).decode
_longer = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode
_text = msgspec.json.Decoder(str).decode


def levels(raw: bytes | msgspec.Raw) -> list[Level]:
    """The levels of a venue's JSON array; what follows price and quantity in a level is left out. Raises Malformed."""
    try:
        return _pairs(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        found = [level[:2] for level in _longer(raw)]
        return [(_text(price), _text(qty)) for price, qty in found]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise Malformed("levels of a book", bytes(raw)[:80].decode("utf-8", "replace")) from error


class Book:
    """Two sides of absolute quantities.

    A snapshot of limited depth says nothing of what lies beyond its last level: bids below `valid_low` and asks above
    `valid_high` (texts, None where the snapshot held the whole side) are known only where an update named them, so
    `top` and the best prices leave them out.
    """

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.valid_low: str | None = None
        self.valid_high: str | None = None

    def load(self, bids: Iterable[Level], asks: Iterable[Level], depth: int | None = None) -> None:
        """Begin anew from a snapshot; `depth` is how many levels a side were asked for, None for all of them."""
        self.bids.clear()
        self.asks.clear()
        self.apply(bids, asks)
        cut = depth is not None
        self.valid_low = min(self.bids, key=Decimal) if cut and self.bids and len(self.bids) >= (depth or 0) else None
        self.valid_high = max(self.asks, key=Decimal) if cut and self.asks and len(self.asks) >= (depth or 0) else None

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """One update: each quantity takes the place of the one before, a zero takes the level away, known or not."""
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for price, qty in changes:
                if qty in _ZEROS:
                    side.pop(price, None)
                else:
                    side[price] = qty

    def clear(self) -> None:
        """Know nothing; not even that the sides are empty."""
        self.bids.clear()
        self.asks.clear()
        self.valid_low = self.valid_high = None

    def best_bid(self) -> Level | None:
        """The highest bid; None where there is none inside the known range."""
        return next(iter(_best(self.bids, 1, self.valid_low, falling=True)), None)

    def best_ask(self) -> Level | None:
        """The lowest ask; None where there is none inside the known range."""
        return next(iter(_best(self.asks, 1, self.valid_high, falling=False)), None)

    def top(self, count: int | None = None) -> tuple[list[Level], list[Level]]:
        """The best `count` levels (all where None) of the known range: bids falling, asks rising."""
        bids = _best(self.bids, count, self.valid_low, falling=True)
        return bids, _best(self.asks, count, self.valid_high, falling=False)

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask: the book, or what made it, is wrong."""
        bid, ask = self.best_bid(), self.best_ask()
        return bid is not None and ask is not None and Decimal(bid[0]) >= Decimal(ask[0])


def _best(side: dict[str, str], count: int | None, bound: str | None, *, falling: bool) -> list[Level]:
    # up to 15 digits a float tells every two prices apart, and is six times as fast
    value: Callable[[str], float | Decimal] = float if max(map(len, side), default=0) <= 16 else Decimal
    if count == 1:
        prices = [(max if falling else min)(side, key=value)] if side else []
    elif count is None:
        prices = sorted(side, key=value, reverse=falling)
    else:
        prices = (heapq.nlargest if falling else heapq.nsmallest)(count, side, key=value)
    if bound is not None:
        limit = Decimal(bound)
        prices = [price for price in prices if (Decimal(price) >= limit if falling else Decimal(price) <= limit)]
    return [(price, side[price]) for price in prices]
