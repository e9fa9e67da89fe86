"""When a Binance book is known: the rules that join a REST snapshot to the stream of updates. Pure.

Spot updates hold the ids `first`..`last` and follow each other by one. Futures ids are not contiguous: an update says
the `last` of the one before it (`before`), and nothing else proves that none is missing. One BookSync is one book of
one connection; a break in it concerns no other.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from market.book import Book, Level

HELD = 256
"""Updates remembered to join a snapshot to, 25 s at ten a second; one older than those is asked for again."""
NONE = -1
"""In place of a `before` that spot has not."""


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


class _Chain:
    """The ids of the newest updates that follow each other, flat: hundreds of books are held for hours."""

    def __init__(self, held: int) -> None:
        self._held = held
        self._ids = array("q")

    def add(self, first: int, last: int, before: int | None) -> None:
        self._ids.extend((first, last, NONE if before is None else before))
        if len(self._ids) > 4 * self._held:
            del self._ids[: -3 * self._held]

    def clear(self) -> None:
        del self._ids[:]

    def behind(self, rule: Rule, snapshot: int) -> Ids | None:
        """The first update that a snapshot does not hold, None where it holds them all."""
        flat = self._ids
        for at in range(0, len(flat), 3):
            before = flat[at + 2]
            ids = Ids(flat[at], flat[at + 1], None if before == NONE else before)
            if not rule.past(ids, snapshot):
                return ids
        return None


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
        self._chain = _Chain(held)
        self._held: deque[Change] | None = None if book is None else deque(maxlen=held)

    @property
    def seen(self) -> int:
        """The id of the newest update, 0 before any."""
        return self._seen or 0

    def update(self, ids: Ids, bids: Sequence[Level] = (), asks: Sequence[Level] = ()) -> bool:
        """Take the next update (with its levels where a book is kept); False where one before it is missing."""
        seen, rule = self._seen, self._rule
        if seen is not None and rule is SPOT and ids.last <= seen:
            return True  # known already
        whole = seen is None or rule.follows(ids, seen)
        self._seen = ids.last
        if not whole:
            self._forget()
        self._chain.add(*ids)
        if self._held is not None:
            self._held.append(Change(ids, bids, asks))
        if self.in_sync:
            self._go_on(ids, bids, asks, whole=whole)
        return whole

    def step(self, first: int, last: int, before: int | None) -> bool:
        """As `update` of a book that is not kept; the next one in a row, as nearly all are, costs a third of it."""
        seen = self._seen
        next_one = first - 1 == seen if self._rule is SPOT else before == seen
        if seen is None or not next_one or last <= seen or self._fresh or self.book is not None:
            return self.update(Ids(first, last, before))
        self._seen = last
        if self.in_sync:
            self.last = last
        self._chain.add(first, last, before)
        return True

    def snapshot(
        self, last_id: int, bids: Sequence[Level] = (), asks: Sequence[Level] = (), depth: int | None = None
    ) -> bool:
        """Whether a snapshot joins the updates in a row that are held, or is newer; the book then begins from it.

        A book in sync goes on as it is. False where it is too old: ask for another. The answer depends on the updates
        and the snapshot only, never on whether the book was in sync. Without a book, what `last_id` is the end of may
        also be a chain of stored rows.
        """
        rest = self._chain.behind(self._rule, last_id)
        if rest is not None and not self._rule.joins(rest, last_id):
            return False
        if self.in_sync:
            return True
        self.in_sync, self._fresh, self.last = True, rest is None, last_id
        if rest is not None:
            self.last = self._seen
        if self.book is not None and self._held is not None:
            self.book.load(bids, asks, depth)
            for change in self._held:
                if not self._rule.past(change.ids, last_id):
                    self.book.apply(change.bids, change.asks)
        return True

    def _go_on(self, ids: Ids, bids: Sequence[Level], asks: Sequence[Level], *, whole: bool) -> None:
        """The next update of a book in sync. The first one after the snapshot must join it."""
        if self._fresh:
            assert self.last is not None
            if self._rule.past(ids, self.last):
                return
            self._fresh, whole = False, self._rule.joins(ids, self.last)
        if not whole:
            self.lose()
            return
        self.last = ids.last
        if self.book is not None:
            self.book.apply(bids, asks)

    def _forget(self) -> None:
        """What is held does not lead to what comes now."""
        self._chain.clear()
        if self._held is not None:
            self._held.clear()

    def lose(self) -> None:
        """What is known ends here; the updates that are held may still be joined."""
        self.broken += self.in_sync
        self.in_sync, self.last = False, None
        if self.book is not None:
            self.book.clear()
