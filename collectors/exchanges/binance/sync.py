"""When a Binance book is known: the rules that join a REST snapshot to the stream of updates. Pure.

Spot updates hold the ids `first`..`last` and follow each other by one. Futures ids are not contiguous: an update says
the `last` of the one before it (`before`), and nothing else proves that none is missing. One BookSync is one book of
one connection; a break in it concerns no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from market.book import Book, Level

HELD = 256
"""Updates remembered while a snapshot is fetched, 25 s at ten a second; a snapshot older than those is asked again."""


class Ids(NamedTuple):
    """`U`, `u` and `pu` of an update; spot has no `before`."""

    first: int
    last: int
    before: int | None


class Change(NamedTuple):
    """An update that waits for its snapshot."""

    ids: Ids
    bids: Sequence[Level]
    asks: Sequence[Level]


class Rule(Protocol):
    """The chain of one market."""

    def follows(self, update: Ids, last: int) -> bool:
        """Whether nothing is missing between an update and the one before it, which ended at `last`."""
        ...

    def joins(self, update: Ids, snapshot: int) -> bool:
        """Whether the update may be the first one applied to a snapshot that ends at the id `snapshot`."""
        ...

    def past(self, update: Ids, snapshot: int) -> bool:
        """Whether the snapshot holds all of the update, so that it is dropped."""
        ...


class SpotRule:
    """`U` <= lastUpdateId + 1 <= `u`, then no id missing; an update that overlaps only repeats."""

    def follows(self, update: Ids, last: int) -> bool:
        return update.first <= last + 1

    def joins(self, update: Ids, snapshot: int) -> bool:
        return update.first <= snapshot + 1 <= update.last

    def past(self, update: Ids, snapshot: int) -> bool:
        return update.last <= snapshot


class FuturesRule:
    """`U` <= lastUpdateId <= `u`, or `pu` == lastUpdateId (undocumented, seen live); then `pu` == `u` of the last."""

    def follows(self, update: Ids, last: int) -> bool:
        return update.before == last

    def joins(self, update: Ids, snapshot: int) -> bool:
        return update.first <= snapshot <= update.last or update.before == snapshot

    def past(self, update: Ids, snapshot: int) -> bool:
        return update.last < snapshot


SPOT, FUTURES = SpotRule(), FuturesRule()


def rule(market_type: str) -> Rule:
    """The rule of a market: spot has its own, USD-M and COIN-M share one."""
    return SPOT if market_type == "spot" else FUTURES


class BookSync:
    """Whether one book is in sync. With a `book` it also keeps it, else only the ids."""

    def __init__(self, rule: Rule, book: Book | None = None, held: int = HELD) -> None:
        self.in_sync = False
        self.broken = 0
        """How often the chain of updates broke, or did not reach back to the snapshot."""
        self.book = book
        self.last: int | None = None
        """The id up to which the book is known; None while it is not."""
        self._rule = rule
        self._seen: int | None = None
        self._fresh = False
        self._held: deque[Change] = deque(maxlen=held)

    def update(self, ids: Ids, bids: Sequence[Level] = (), asks: Sequence[Level] = ()) -> bool:
        """Take the next update (with its levels where a book is kept); False where one before it is missing."""
        seen, rule, change = self._seen, self._rule, Change(ids, bids, asks)
        if seen is not None and rule is SPOT and ids.last <= seen:
            return True  # known already
        whole = seen is None or rule.follows(ids, seen)
        self._seen = ids.last
        if not self.in_sync:
            if not whole:
                self._held.clear()
            self._held.append(change)
        elif self._fresh:
            assert self.last is not None
            if not rule.past(ids, self.last):
                self._first(change, self.last)
        elif whole:
            self._apply(change)
        else:
            self._lose(change)
        return whole

    def snapshot(
        self, last_id: int, bids: Sequence[Level] = (), asks: Sequence[Level] = (), depth: int | None = None
    ) -> bool:
        """Begin from a snapshot; False where it is too old for the updates that are held: ask for another.

        A book in sync goes on as it is.
        """
        if self.in_sync:
            return True
        rest = [change for change in self._held if not self._rule.past(change.ids, last_id)]
        if rest and not self._rule.joins(rest[0].ids, last_id):
            return False
        if self.book is not None:
            self.book.load(bids, asks, depth)
        self._held.clear()
        self.in_sync, self.last, self._fresh = True, last_id, not rest
        for change in rest:
            self._apply(change)
        return True

    def _first(self, change: Change, last_id: int) -> None:
        """The first update that came after its snapshot did."""
        self._fresh = False
        if self._rule.joins(change.ids, last_id):
            self._apply(change)
        else:
            self._lose(change)

    def _apply(self, change: Change) -> None:
        self.last = change.ids.last
        if self.book is not None:
            self.book.apply(change.bids, change.asks)

    def _lose(self, change: Change) -> None:
        """What is known ends here; the update is the first of those held for the next snapshot."""
        self.broken += 1
        self.in_sync, self.last = False, None
        if self.book is not None:
            self.book.clear()
        self._held.append(change)
