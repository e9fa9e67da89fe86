"""The REST snapshots that a connection's books begin from: their requests, and the rows that answers become. Pure.

Of spot the best 100 levels are public and what lies beyond is not known; of futures the whole book is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from collectors.adapters.asking import Failed
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.streamed_books import SNAPSHOT
from collectors.exchanges.kucoin.answers import read
from collectors.exchanges.kucoin.asking import failure, opened
from collectors.exchanges.kucoin.joining import Books
from market.kinds import BookDelta, BookSnapshot
from market.session import Connection, Fetch, Output, Rejected

TAG = "level2"
"""A request's tag is `level2 <levels> <symbol or stream>`: a replay needs to know both."""
FULL = 100_000
"""Levels that stand for a whole book."""
_PATHS = {
    "spot": {20: "/api/v1/market/orderbook/level2_20", 100: "/api/v1/market/orderbook/level2_100"},
    "futures": {20: "/api/v1/level2/depth20", 100: "/api/v1/level2/depth100", FULL: "/api/v1/level2/snapshot"},
}
_WEIGHTS = {"spot": {20: 2, 100: 4}, "futures": {20: 5, 100: 5, FULL: 3}}


def levels_of(market: str, wanted: int) -> int:
    """The number of levels to ask for: the most that is given and not above `wanted`; beyond 100 the whole book."""
    given = _PATHS["spot" if market == "spot" else "futures"]
    if wanted > 100:
        return max(given)
    return max((levels for levels in given if levels <= wanted), default=min(given))


def request(market: str, base: str, symbol: str, levels: int, tag: str) -> Fetch:
    """The request for a book."""
    which = "spot" if market == "spot" else "futures"
    url = f"{base.rstrip('/')}{_PATHS[which][levels]}?symbol={quote(symbol, safe='')}"
    return Fetch(f"{TAG} {levels} {tag}", "GET", url, _WEIGHTS[which][levels])


def parted(tag: str) -> tuple[int, str] | None:
    """(levels, symbol or stream) of a request's tag."""
    word, _, rest = tag.partition(" ")
    levels, _, name = rest.partition(" ")
    good = word == TAG and levels.isascii() and levels.isdigit() and len(levels) <= 6
    return (int(levels), name) if good else None


class Snapshots:
    """Of one session. Without a `rest` address of the connection (a replay) nothing is asked for."""

    def __init__(self, connection: Connection, session_id: str, books: Books) -> None:
        self._market = connection.market_type
        self._rest = connection.rest
        self._levels = levels_of(connection.market_type, connection.book_levels)
        self._session_id = session_id
        self._books = books

    def tick(self, now: int) -> Sequence[Output]:
        """The requests that are due."""
        if not self._rest:
            return ()
        due = [book.state.stream for book in self._books.due(now)]
        return [request(self._market, self._rest, s.symbol, self._levels, s.name) for s in due]

    def deadline(self) -> int | None:
        """When `tick` has something."""
        return self._books.deadline() if self._rest else None

    def respond(
        self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int, number: int
    ) -> Sequence[Output] | None:
        """The rows of an answer; a Rejected where it is no data; None where nothing was asked by that tag."""
        asked = parted(tag)
        book = self._books.named.get(asked[1]) if asked is not None else None
        if asked is None or book is None or (self._rest and not book.asked):
            return None
        self._books.answered(book, ts_recv)
        symbol, name = book.state.stream.symbol, book.state.stream.name
        try:
            if status != 200:
                raise Failed(failure(status, headers, body))  # noqa: TRY301 -- as every other refusal
            found = read(self._market, symbol, opened(body), ts_recv)
        except Failed as error:
            found = str(error)
        except BAD_FRAME as error:
            found = f"status 200 without a book: {why(error)}"
        if isinstance(found, str):
            return (Rejected(f"{TAG}: {found}"[:300], number, name),)
        rows: list[Output] = [
            BookSnapshot(
                symbol, TAG, found.time, None, ts_recv, self._session_id, number, 0, "rest", found.bids, found.asks,
                found.last, asked[0],
            )
        ]  # fmt: skip
        if book.snapshot(found.last, ts_recv):
            rows.append(
                BookDelta(
                    symbol, name, found.time, None, ts_recv, self._session_id, number, 0, "rest", found.bids,
                    found.asks, None, found.last, None, None, SNAPSHOT,
                )
            )  # fmt: skip
        return rows
