"""Which stored updates of an order book follow each other, by their ids and whatever connection brought them. Pure.

An update covers the ids after `before` (where the venue names the update before it), or from `first`, up to `last`;
its quantities are absolute. So it may be applied to a book that is known up to an id where it leaves none out, and
what lies wholly in known ids only repeats. Rows of several connections, doubled and overlapping ones, and snapshots
that are older or newer than the updates around them come to the same book.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from market.times import SECOND

R = TypeVar("R")
HELD = 1024
"""Updates remembered, so that a snapshot that is older than the newest of them can be joined."""
RESTART = 10 * SECOND
"""An id below the newest, but so much later than it, is of a new numbering: nothing joins the two."""
FAR = 1_000_000_000
"""So is one that is later at all, and so far below: no two connections are so far apart. Where an archive's lines have
their times as ids, the venue's own follow within milliseconds.
"""


class Link(NamedTuple, Generic[R]):
    """One update: its ids as stored, its time (us), and whatever the caller knows it by."""

    last: int
    first: int | None
    before: int | None
    at: int
    row: R


def reaches(update: Link[R], known: int, *, fresh: bool = False) -> bool:
    """Whether an update that ends behind `known` leaves no id out; `fresh`: `known` is that of a snapshot."""
    first, before = update.first, update.before
    if before is None:
        return first is not None and first <= known + 1
    # behind a snapshot a venue may name as `before` what lies behind it; that it begins before it is enough
    return before <= known or (fresh and first is not None and first <= known)


class Chain(Generic[R]):
    """How far one book is known. Feed it rows in time's order; it says which to apply, and in what order.

    `last` is the id up to which the book is known (None: not at all), `base` the snapshot that it began from, `since`
    the time (us) of the oldest row that was applied to it, `at` that of the newest, `lost` when and why it was lost.
    """

    def __init__(self) -> None:
        self.last: int | None = None
        self.base: Link[R] | None = None
        self.since = 0
        self.at = 0
        self.lost: tuple[int, str] | None = None
        self.pending: list[Link[R]] = []
        """Updates behind missing ones, by id."""
        self._fresh = False
        self._recent: deque[Link[R]] = deque(maxlen=HELD)

    @property
    def in_sync(self) -> bool:
        """Whether the book is that of the newest row."""
        return self.last is not None and not self.pending

    @property
    def fresh(self) -> bool:
        """Whether no update was applied since the snapshot."""
        return self._fresh

    def update(self, link: Link[R]) -> Sequence[R]:
        """The next update; what is to be applied now, in order."""
        known = self.last
        if known is None:
            self._recent.append(link)
            return ()
        if link.last <= known:
            if self._anew(link, known):
                self._lose(link.at, "the venue's ids began anew", [link])
            return ()
        if reaches(link, known, fresh=self._fresh):
            self._apply(link)
            return (link.row, *self._drain()) if self.pending else (link.row,)
        if not self.pending:
            self.lost = (self.at, f"updates between the ids {known} and {link.last} are missing")
        insort(self.pending, link, key=lambda held: held.last)
        if len(self.pending) > (self._recent.maxlen or HELD):
            self._lose(self.at, self.lost[1] if self.lost else "", self.pending)
        return ()

    def advance(self, links: Iterable[Link[R]]) -> None:
        """The last of many updates that are known to follow each other, and the book up to the first of them."""
        for link in links:
            self._apply(link)

    def joined_by(self, link: Link[R]) -> bool:
        """Whether an update would continue the book: then nothing came between the newest row and it."""
        return self.in_sync and self.last is not None and reaches(link, self.last, fresh=self._fresh)

    def snapshot(self, link: Link[R]) -> Sequence[R] | None:
        """A whole book as of an id: None where it changes nothing, else it is to be loaded and these are applied."""
        known, now = self.last, link.last
        if known is not None and now < known and self._anew(link, known):
            self._lose(link.at, "the venue's ids began anew", ())
            known = None
        behind = known is not None and now < known
        if behind and self.pending:
            return None
        rest, left, end = self._joined([*self._recent, *self.pending], now)
        if known is not None and behind and (left or end < known):
            return None
        self.base, self.last, self.pending, self.lost = link, now, left, None
        self.since, self.at, self._fresh = link.at, max(link.at, self.at if known is not None else 0), True
        for held in rest:
            self.since = min(self.since, held.at)
            self._note(held)
        if left:
            self.lost = (self.at, f"updates between the ids {self.last} and {left[0].last} are missing")
        return [held.row for held in rest]

    def unknown(self, at: int, why: str) -> None:
        """A row that says nothing of its place: the book is lost until the next snapshot."""
        self._lose(at, why, ())

    def _anew(self, link: Link[R], known: int) -> bool:
        """Whether a row below the newest id is of another numbering."""
        return link.at > self.at + RESTART or (link.at > self.at and known - link.last > FAR)

    def _apply(self, link: Link[R]) -> None:
        self._note(link)
        self._recent.append(link)

    def _note(self, link: Link[R]) -> None:
        self.last, self._fresh = link.last, False
        self.at = max(self.at, link.at)

    def _drain(self) -> list[R]:
        """Those that waited for what came, as far as they join; of several that repeat only what is new."""
        made: list[R] = []
        while self.pending and self.last is not None:
            link = self.pending[0]
            if link.last > self.last:
                if not reaches(link, self.last):
                    return made
                self._apply(link)
                made.append(link.row)
            self.pending.pop(0)
        self.lost = None
        return made

    def _joined(self, links: Iterable[Link[R]], known: int) -> tuple[list[Link[R]], list[Link[R]], int]:
        """Of `links` those that continue a snapshot at `known`, those behind a hole, and the id that is reached."""
        made: list[Link[R]] = []
        left: list[Link[R]] = []
        for link in sorted(links, key=lambda held: held.last):
            if link.last <= known:
                continue
            if not left and reaches(link, known, fresh=not made):
                made.append(link)
                known = link.last
            elif not left or left[-1].last < link.last:
                left.append(link)
        return made, left, known

    def _lose(self, at: int, why: str, rest: Iterable[Link[R]]) -> None:
        held = list(rest)
        self._recent.clear()
        self._recent.extend(held)
        self.last, self.base, self.pending, self._fresh = None, None, [], False
        self.lost = (at, why)
