"""What a Binance session with books answers to the market's other sessions (`market.session.Booked`). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from collectors.exchanges.binance.depth import Books


class Booking:
    """For sessions that hold `books`."""

    books: Books

    def books_out_of_sync(self) -> list[str]:
        """Symbols whose book has no snapshot that joins its updates."""
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
        """Updates of these are stored again: their books are asked for with the next `tick`."""
        self.books.stored_again(symbols)
