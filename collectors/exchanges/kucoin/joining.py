"""When a KuCoin book is known: REST snapshots joined to updates that cover every sequence number. Pure.

An update covers `first`..`last` and none is left out, so a chain of updates without a hole covers all from where it
began: a snapshot joins it where the chain begins no later than the number after the snapshot's. One that is too old is
asked for again, more and more patiently; the other books go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from market.session import StreamState
from market.times import MINUTE, SECOND

FIRST_PAUSE = SECOND
LONGEST_PAUSE = MINUTE
SETTLED = MINUTE
"""A book in sync for this long is asked for at once when it breaks."""
AWAITED = 5 * SECOND
"""For how long another session's word that it has asked keeps this one from asking."""
QUIET = 2 * SECOND
"""A stream acknowledged this long ago without an event is asked for all the same."""
NO_FLAGS: tuple[str, ...] = ()
GAP_BEFORE = ("gap_before",)


class Joined:
    """One book of a session."""

    def __init__(self, state: StreamState) -> None:
        self.state = state
        self.in_sync = False
        self.begin: int | None = None
        """The first number of the chain of updates, None before any."""
        self.last = 0
        """The number up to which it leads."""
        self.asked = self.given_up = False
        self.pause = FIRST_PAUSE
        self.answered = self.awaited = self.since = 0
        self.lost = 0
        """A snapshot before this tells no book: updates up to it were not stored."""
        self.known: int | None = None
        """Up to which number the stored rows tell the book, as of now."""

    def update(self, first: int, last: int, now: int) -> tuple[str, ...]:
        """The next update; the flags of its row."""
        if self.begin is None:
            self.begin, self.last = first, last
            return NO_FLAGS
        if last <= self.last and 2 * last >= self.last:
            return NO_FLAGS  # told already
        whole = self.last + 1 >= first and last > self.last
        self.last = last
        if whole:
            return NO_FLAGS
        self.begin = first
        if self.in_sync and now >= self.since + SETTLED:
            self.pause = FIRST_PAUSE
        self.in_sync = False
        return GAP_BEFORE

    def snapshot(self, last: int, now: int) -> bool:
        """Whether a snapshot up to `last` joins the updates; the book is then known."""
        if self.begin is None:
            self.begin, self.last = last + 1, last
        if self.begin > last + 1:
            return False
        self.last = max(self.last, last)
        if not self.in_sync:
            self.in_sync, self.since = not self.given_up and last >= self.lost, now
        return True

    def due(self, refresh: int) -> int | None:
        """When to ask for it: None where that is of no use now."""
        if self.asked or self.given_up:
            return None
        if self.in_sync:
            return self.answered + refresh if refresh and self.answered else None
        if self.state.events:
            at = 0
        elif self.state.acknowledged_at:
            at = self.state.acknowledged_at + QUIET
        else:
            return None
        return max(at, self.awaited, self.answered + self.pause if self.answered else 0)

    def goes_on(self, now: int) -> None:
        """A book whose updates go on from what is stored needs no snapshot of its own."""
        known, self.known = self.known, None
        if known is not None and self.begin is not None and not self.in_sync and not self.given_up:
            self.snapshot(known, now)


class Books:
    """The books of one session, by name of stream. With `learn` nothing is asked for."""

    def __init__(self, *, refresh: int) -> None:
        self._refresh = refresh
        self._books: dict[str, Joined] = {}

    def follow(self, state: StreamState) -> Joined:
        """The book of a stream."""
        return self._books.setdefault(state.stream.name, Joined(state))

    @property
    def named(self) -> Mapping[str, Joined]:
        """By name of stream."""
        return self._books

    def due(self, now: int) -> list[Joined]:
        """Those to be asked for; they count as asked."""
        found = []
        for book in self._books.values():
            book.goes_on(now)
            at = book.due(self._refresh)
            if at is not None and now >= at:
                book.asked = True
                found.append(book)
        return found

    def deadline(self) -> int | None:
        """When `due` has something."""
        times = (book.due(self._refresh) for book in self._books.values())
        return min((at for at in times if at is not None), default=None)

    def answered(self, book: Joined, now: int) -> None:
        """An answer came, whatever it says."""
        book.asked, book.answered = False, now
        book.pause = min(2 * book.pause, LONGEST_PAUSE)

    # --- market.session.Booked ---

    def out_of_sync(self) -> list[str]:
        """Symbols whose book is not known."""
        return [book.state.stream.symbol for book in self._books.values() if not book.in_sync]

    def asked(self) -> list[str]:
        """Symbols whose snapshot is under way."""
        return [book.state.stream.symbol for book in self._books.values() if book.asked]

    def known(self, symbol: str, last: int) -> None:
        """The stored rows tell a book up to `last`."""
        for book in self._of((symbol,)):
            book.known = last

    def awaited(self, symbols: Iterable[str], now: int) -> None:
        """Another session has asked for these."""
        for book in self._of(symbols):
            book.awaited = now + AWAITED

    def given_up(self, symbols: Iterable[str]) -> None:
        """Updates of these are not stored."""
        for book in self._of(symbols):
            book.given_up, book.in_sync = True, False

    def stored_again(self, symbols: Iterable[str]) -> None:
        """Updates of these are stored again: their books begin anew."""
        for book in self._of(symbols):
            book.given_up, book.in_sync, book.lost, book.answered = False, False, book.last, 0
            book.begin = None if book.begin is None else book.last + 1

    def _of(self, symbols: Iterable[str]) -> list[Joined]:
        wanted = set(symbols)
        return [book for book in self._books.values() if book.state.stream.symbol in wanted]
