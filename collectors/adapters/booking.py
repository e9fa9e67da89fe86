"""What a session with books answers to the market's other sessions (`market.session.Booked`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Books(Protocol):
    """The books of one session, by symbol."""

    def out_of_sync(self) -> list[str]: ...

    def asked(self) -> list[str]: ...

    def known(self, symbol: str, last_id: int) -> None: ...

    def awaited(self, symbols: Iterable[str], now: int) -> None: ...

    def given_up(self, symbols: Iterable[str]) -> None: ...

    def stored_again(self, symbols: Iterable[str]) -> None: ...


class Booking:
    """For sessions that hold `books`."""

    books: Books

    def books_out_of_sync(self) -> list[str]:
        """Symbols whose book is not known."""
        return self.books.out_of_sync()

    def books_asked(self) -> list[str]:
        """Symbols whose snapshot is under way."""
        return self.books.asked()

    def book_known(self, symbol: str, last_id: int) -> None:
        """What is stored tells this book up to `last_id`: where the updates go on from there, nothing is asked for."""
        self.books.known(symbol, last_id)

    def books_awaited(self, symbols: Iterable[str], now: int) -> None:
        """Another session has asked for these books."""
        self.books.awaited(symbols, now)

    def books_given_up(self, symbols: Iterable[str]) -> None:
        """Updates of these are not stored: their books are out of sync, and not asked for yet."""
        self.books.given_up(symbols)

    def books_stored_again(self, symbols: Iterable[str]) -> None:
        """Updates of these are stored again: their books begin anew with the next `tick`."""
        self.books.stored_again(symbols)
