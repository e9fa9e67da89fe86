"""What sessions of a market are told of each other's books: one snapshot serves all whose updates go on from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collectors.chain import ChainMerger
from collectors.links import Link
from collectors.routes import Route

BOOKS = "book_delta"


class Told:
    """Between a merger of books and the sessions of `links` (`market.session.Booked`)."""

    def __init__(self, links: Sequence[Link], route: Callable[[str], Route]) -> None:
        self._links = links
        self._route = route

    def known(self, link: Link) -> None:
        """Before its tick, a session is told which of its books the stored rows tell."""
        if link.booked is None:
            return
        missing = link.booked.books_out_of_sync()
        merger = self._route(BOOKS).merger if missing else None
        if not isinstance(merger, ChainMerger):
            return
        for symbol in missing:
            last = merger.known(symbol)
            if last is not None:
                link.booked.book_known(symbol, last)

    def asked(self, link: Link, now: int) -> None:
        """After its tick, the others are told which books it has asked for."""
        asked = link.booked.books_asked() if link.booked is not None and len(self._links) > 1 else ()
        if asked:
            for other in self._links:
                if other is not link and other.booked is not None:
                    other.booked.books_awaited(asked, now)
