"""What Kraken spot is asked for again and again: books and the clock. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.asking import NoData, PollSession
from collectors.adapters.polls import PolledBooks, PolledClock, levels_of
from collectors.adapters.reading import LAST, good_levels
from collectors.exchanges.kraken.asking import failure, opened
from collectors.exchanges.kraken.instruments import alternative
from market.kinds import BookSnapshot
from market.session import SERVER_TIME, Output, Poll, Polled
from market.times import SECOND

BOOK, TIME = "Depth", "Time"
PATHS = {BOOK: "/0/public/Depth", TIME: "/0/public/Time"}
DEEPEST = 500
"""Levels a side that the route gives at most."""


class _Book(msgspec.Struct):
    bids: msgspec.Raw
    asks: msgspec.Raw


class _Time(msgspec.Struct):
    unixtime: Annotated[int, msgspec.Meta(ge=0, le=LAST // SECOND)]


_books = msgspec.json.Decoder(dict[str, _Book]).decode
_time = msgspec.json.Decoder(_Time).decode


class Asking(PollSession):
    """What its polls have in common."""

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del body, now
        return failure(status, headers)


class BookPoll(PolledBooks, Asking):
    """Books as `book_snapshot` of source rest, without id and time: nothing joins them to the stream."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        self._levels = min(polled.levels, DEEPEST)
        super().__init__(session_id, polled, base, 1)

    def _url(self, name: str) -> str:
        return f"{self._base}?pair={quote(alternative(name), safe='')}&count={self._levels}"

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        found = _books(opened(body, ts_recv))
        if len(found) != 1:
            raise NoData("not the one pair that was asked for")
        (book,) = found.values()
        if not good_levels(book.bids, book.asks):
            raise NoData("levels that are no [price, quantity] texts")
        if bytes(book.bids) == bytes(book.asks) == b"[]":
            return [], False
        row = BookSnapshot(
            name, BOOK, None, None, ts_recv, self.session_id, self.frame_no, 0, "rest", book.bids, book.asks, None,
            levels_of(tag),
        )  # fmt: skip
        return [row], False


class TimePoll(PolledClock, Asking):
    """The venue's clock, which it says in whole seconds: the middle of one is taken."""

    route = TIME

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        return self._told(_time(opened(body, ts_recv)).unixtime * SECOND + SECOND // 2, ts_recv)


POLLS: Mapping[str, Poll] = {"book_snapshot": Poll(BOOK), SERVER_TIME: Poll(TIME, each=False)}


def poller(session_id: str, polled: Polled, rest: str) -> Asking | None:
    """The session of one kind, None where the market has no such route."""
    if polled.kind == SERVER_TIME:
        return TimePoll(session_id, polled, rest.rstrip("/") + PATHS[TIME], 1)
    return BookPoll(session_id, polled, rest.rstrip("/") + PATHS[BOOK]) if polled.kind in POLLS else None
