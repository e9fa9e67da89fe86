"""Books whose stream begins with a whole book and goes on with numbered updates: which are known. Pure.

Nothing is asked over REST: where an update is missing the stream is subscribed to anew, and begins with a whole book
again; more and more patiently, and the other books go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collectors.adapters.booking import Booking
from collectors.adapters.subscribing import Subscriber
from market.session import Output, Stream, StreamState
from market.times import MINUTE, SECOND

FIRST_PAUSE = SECOND
LONGEST_PAUSE = MINUTE
SETTLED = MINUTE
"""A book in sync for this long is asked for at once when it breaks."""
NO_FLAGS: tuple[str, ...] = ()
GAP_BEFORE = ("gap_before",)
SNAPSHOT = ("snapshot",)
CLEAR = ("clear",)


class StreamedBook:
    """One book of a session. `last` is the id of its newest message, None before any and where none is stored."""

    def __init__(self, state: StreamState) -> None:
        self.state = state
        self.known = False
        self.last: int | None = None
        self.given_up = False
        self.pause = FIRST_PAUSE
        self.asked_at = 0
        self.since = 0
        """When it was known last anew."""

    def begin(self, last: int, now: int, *, anew: bool = False) -> bool:
        """A whole book up to the id `last`; False where its updates had said all of it, and it is none that the venue
        began `anew` with.
        """
        if self.known and last == self.last and not anew:
            return False
        self.known, self.last, self.since = not self.given_up, last, now
        return True

    def update(self, last: int, *, follows: bool, now: int) -> tuple[str, ...]:
        """The next update, and whether nothing is missing before it: the flags of its row."""
        whole = follows or self.last is None
        self.last = last
        if not whole:
            self.lose(now)
        return NO_FLAGS if whole else GAP_BEFORE

    def lose(self, now: int) -> None:
        """It is not known any more, and to be asked for anew."""
        if self.known and now >= self.since + SETTLED:
            self.pause = FIRST_PAUSE
        self.known = False

    def due(self) -> int | None:
        """When to ask for it anew: None where it is known or was not heard of yet."""
        if self.known or self.given_up or not self.state.events:
            return None
        return self.asked_at + self.pause if self.asked_at else 0


class StreamedBooks:
    """The books of one session, by symbol: of those of `states` that are streams of books, and who else is followed.

    They begin in the stream, so that nobody has to be told of any.
    """

    def __init__(self, states: Iterable[StreamState] = ()) -> None:
        self._books: dict[str, StreamedBook] = {}
        for state in states:
            if state.stream.kind == "book_delta":
                self.follow(state)

    def follow(self, state: StreamState) -> StreamedBook:
        """The book of a stream."""
        return self._books.setdefault(state.stream.symbol, StreamedBook(state))

    def out_of_sync(self) -> list[str]:
        """Symbols whose book is not known."""
        return [symbol for symbol, book in self._books.items() if not book.known]

    def known_of(self, symbol: str | None = None) -> list[StreamedBook]:
        """The books that are known: of a symbol, or all."""
        return [book for name, book in self._books.items() if book.known and symbol in (None, name)]

    def asked(self) -> list[str]:
        """Nothing is asked for that would serve another session."""
        return []

    def known(self, symbol: str, last_id: int) -> None:
        """Each session is sent a whole book when it subscribes."""

    def awaited(self, symbols: Iterable[str], now: int) -> None:
        """Another session's book is not this one's."""

    def given_up(self, symbols: Iterable[str]) -> None:
        """Updates of these are not stored."""
        for book in (self._books[symbol] for symbol in symbols if symbol in self._books):
            book.given_up, book.known = True, False

    def stored_again(self, symbols: Iterable[str]) -> None:
        """Updates of these are stored again: each begins with the next whole book."""
        for book in (self._books[symbol] for symbol in symbols if symbol in self._books):
            book.given_up, book.known, book.last, book.asked_at = False, False, None, 0

    def anew(self, now: int) -> list[Stream]:
        """The streams that are to be subscribed to anew."""
        found = []
        for book in self._books.values():
            due = book.due()
            if due is not None and now >= due:
                book.pause = min(2 * book.pause, LONGEST_PAUSE) if book.asked_at else book.pause
                book.asked_at = now
                found.append(book.state.stream)
        return found

    def deadline(self) -> int | None:
        """When `anew` has something."""
        return min((due for book in self._books.values() if (due := book.due()) is not None), default=None)


class StreamedBooking(Booking):
    """For streaming sessions with such books: those that are to be begun anew are subscribed to anew."""

    books: StreamedBooks
    subscriber: Subscriber

    def _more(self, now: int) -> Sequence[Output]:
        if streams := self.books.anew(now):
            self.subscriber.renew(streams)
        return ()

    def _more_at(self) -> int | None:
        return self.books.deadline()
