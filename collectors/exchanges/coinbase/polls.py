"""What Coinbase is asked for again and again: books, and its clock. Pure.

An answer is cached at the venue's edge for about a second, so that a book may be that old; a book says its time, which
is its id here, as with the books of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.asking import NoData, PollSession
from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, LAST, PAST, all_good
from collectors.exchanges.coinbase import wire
from market.kinds import BookSnapshot
from market.session import SERVER_TIME, Fetch, Output, Poll, Polled, ServerTime
from market.times import MS

BOOK, TIME = "product_book", "time"
PATHS = {BOOK: "/api/v3/brokerage/market/product_book", TIME: "/api/v3/brokerage/time"}
NOT_FOUND = ("NOT_FOUND", "INVALID_ARGUMENT")
"""Words of an error that are about the product asked for."""


class _Level(msgspec.Struct, gc=False):
    price: str
    size: str


class _Book(msgspec.Struct):
    product_id: str
    bids: list[_Level]
    asks: list[_Level]
    time: str


class _Answer(msgspec.Struct):
    pricebook: _Book


class _Time(msgspec.Struct):
    epochMillis: str  # noqa: N815 -- the venue's spelling


class _Error(msgspec.Struct):
    error: str
    message: str = ""


_answer = msgspec.json.Decoder(_Answer).decode
_time = msgspec.json.Decoder(_Time).decode
_error = msgspec.json.Decoder(_Error).decode


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 says."""
    pause = asked_pause(status, headers)
    try:
        found = _error(body)
    except BAD_FRAME:
        return Failure(f"status {status}" if status else "no answer", pause=pause)
    refused = status in (400, 404) and any(word in found.error.upper() for word in NOT_FOUND)
    return Failure(f"status {status}: {found.error} {found.message}".strip()[:300], status, refused, pause)


class _Asking(PollSession):
    """What both have in common."""

    def __init__(self, session_id: str, polled: Polled, rest: str) -> None:
        super().__init__(session_id, polled, rest.rstrip("/") + PATHS[self.route], 1)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)


class BookPoll(_Asking):
    """Books as `book_snapshot` of source rest."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, rest: str) -> None:
        self._levels = polled.levels
        super().__init__(session_id, polled, rest)

    def _name(self, tag: str) -> str | None:
        route, _, rest = tag.partition(" ")
        levels, _, symbol = rest.partition(" ")
        good = route == BOOK and levels.isascii() and levels.isdigit() and len(levels) <= 5
        return symbol if good and symbol in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del now
        url = f"{self._base}?product_id={quote(name, safe='')}&limit={self._levels}"
        return Fetch(f"{BOOK} {self._levels} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        book = _answer(body).pricebook
        if book.product_id != name:
            raise NoData("another product than the one that was asked for")
        time = wire.micros(book.time)
        if time is None or not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        if not book.bids and not book.asks:
            return [], False
        self.venue_time = max(self.venue_time, time)
        row = BookSnapshot(
            name, BOOK, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", _side(book.bids),
            _side(book.asks), time, int(tag.split(" ", 2)[1]),
        )  # fmt: skip
        return [row], False


def _side(levels: Iterable[_Level]) -> msgspec.Raw:
    """Levels as [price, quantity] of the venue's texts. Raises NoData."""
    told = []
    for level in levels:
        if not all_good(level.price, level.size):
            raise NoData("levels that are no [price, quantity] texts")
        told.append(f'["{level.price}","{level.size}"]')
    return msgspec.Raw(f"[{','.join(told)}]".encode())


class TimePoll(_Asking):
    """The venue's clock."""

    route = TIME

    def _names(self) -> Iterable[str]:
        return (TIME,)

    def _name(self, tag: str) -> str | None:
        return TIME if tag == TIME else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del name, now
        return Fetch(TIME, "GET", self._base, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        text = _time(body).epochMillis
        time = int(text) * MS if text.isascii() and text.isdigit() and len(text) <= 13 else 0
        if not EARLIEST <= time < LAST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, min(time, ts_recv))
        return [ServerTime(time)], False


OFFERED: Mapping[str, Poll] = {"book_snapshot": Poll(BOOK), SERVER_TIME: Poll(TIME, each=False)}
_MEMBERS: Mapping[str, type[BookPoll | TimePoll]] = {"book_snapshot": BookPoll, SERVER_TIME: TimePoll}


def poller(session_id: str, polled: Polled, rest: str) -> PollSession | None:
    """The session of one kind, None where there is no such route."""
    member = _MEMBERS.get(polled.kind)
    return None if member is None else member(session_id, polled, rest)
