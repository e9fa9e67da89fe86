"""What sessions of a market are told of its stored books: one snapshot serves all whose updates go on from it.

None of them is known while its updates are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collectors.chain import ChainMerger
from collectors.chain_checked import CheckedMerger
from collectors.links import Link
from collectors.routes import Route
from market.session import Gap

BOOKS = "book_delta"


class Told:
    """Between a merger of books and the sessions of `links` (`market.session.Booked`)."""

    def __init__(self, links: Sequence[Link], route: Callable[[str], Route]) -> None:
        self._links = links
        self._route = route
        self._given_up: set[str] = set()
        """Symbols of which updates are not stored now."""

    def known(self, link: Link) -> None:
        """Before its tick, a session is told which of its books the stored rows tell."""
        if link.booked is None:
            return
        if self._given_up:
            link.booked.books_given_up(self._given_up)
        missing = link.booked.books_out_of_sync()
        merger = self._route(BOOKS).merger if missing else None
        if not isinstance(merger, ChainMerger):
            return
        for symbol in missing:
            last = merger.known(symbol)
            if last is not None and symbol not in self._given_up:
                link.booked.book_known(symbol, last)

    def given_up(self, gaps: Sequence[Gap]) -> None:
        """Updates are not stored from now on (gaps without an end), or are again: such a book begins anew."""
        symbols = {gap.symbol for gap in gaps if gap.kind == BOOKS and gap.ts_to is None}
        again = {gap.symbol for gap in gaps if gap.kind == BOOKS and gap.ts_to is not None}
        self._given_up = (self._given_up | symbols) - again
        merger = self._route(BOOKS).merger if again else None
        if isinstance(merger, ChainMerger | CheckedMerger):
            for symbol in again:
                merger.lose(symbol)
        for booked in (link.booked for link in self._links if link.booked is not None):
            if symbols:
                booked.books_given_up(symbols)
            if again:
                booked.books_stored_again(again)

    def asked(self, link: Link, now: int) -> None:
        """After its tick, the others are told which books it has asked for."""
        asked = link.booked.books_asked() if link.booked is not None and len(self._links) > 1 else ()
        if asked:
            for other in self._links:
                if other is not link and other.booked is not None:
                    other.booked.books_awaited(asked, now)
