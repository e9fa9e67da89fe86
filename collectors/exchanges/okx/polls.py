"""What OKX is asked for again and again: books, settled funding (`funding`), its clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.reading import EARLIEST, EARLY, PAST, Id, good_levels
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.asking import Asking, opened
from collectors.exchanges.okx.funding import ROUTE, FundingPoll
from market.kinds import BookSnapshot
from market.session import SERVER_TIME, Fetch, Output, Poll, Polled, ServerTime

BOOK, TIME = "market/books", "public/time"
PATHS = {BOOK: "/api/v5/market/books", TIME: "/api/v5/public/time", ROUTE: "/api/v5/public/funding-rate-history"}
DEEPEST = 400
"""Levels a side that the route gives at most; without a number it gives one."""


class _Book(msgspec.Struct):
    bids: msgspec.Raw
    asks: msgspec.Raw
    ts: str
    seqId: Id | None = None  # noqa: N815 -- the venue's spelling


class _Time(msgspec.Struct):
    ts: str


_book = msgspec.json.Decoder(_Book).decode
_time = msgspec.json.Decoder(_Time).decode


class BookPoll(Asking):
    """Books as `book_snapshot` of source rest; the id is that of the stream's changes."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        self._levels = min(polled.levels, DEEPEST)
        super().__init__(session_id, polled, base)

    def _name(self, tag: str) -> str | None:
        route, _, rest = tag.partition(" ")
        levels, _, symbol = rest.partition(" ")
        good = route == BOOK and levels.isascii() and levels.isdigit() and len(levels) <= 5
        return symbol if good and symbol in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del now
        url = f"{self._base}?instId={quote(name, safe='')}&sz={self._levels}"
        return Fetch(f"{BOOK} {self._levels} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        rows = opened(body)
        if len(rows) != 1:
            raise NoData("not one book")
        book = _book(rows[0])
        if not good_levels(book.bids, book.asks):
            raise NoData("levels that are no [price, quantity] texts")
        time = wire.time_of(book.ts)
        if not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, time)
        place = (self.session_id, self.frame_no, 0, "rest")
        levels = int(tag.split(" ", 2)[1])
        return [BookSnapshot(name, BOOK, time, None, ts_recv, *place, book.bids, book.asks, book.seqId, levels)], False


class TimePoll(Asking):
    """The venue's clock."""

    route = TIME
    weight = 4

    def _names(self) -> Iterable[str]:
        return (TIME,)

    def _name(self, tag: str) -> str | None:
        return TIME if tag == TIME else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del name, now
        return Fetch(TIME, "GET", self._base, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        rows = opened(body)
        time = wire.time_of(_time(rows[0]).ts) if rows else 0
        if time < EARLIEST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, min(time, ts_recv))
        return [ServerTime(time)], False


def offered(market_type: str) -> dict[str, Poll]:
    """Kind -> what is polled for it in a market."""
    found = {"book_snapshot": Poll(BOOK), SERVER_TIME: Poll(TIME, each=False)}
    return found if market_type == "spot" else {**found, "funding_rate": Poll(ROUTE)}


_MEMBERS: dict[str, type[Asking]] = {"book_snapshot": BookPoll, SERVER_TIME: TimePoll, "funding_rate": FundingPoll}


def poller(market_type: str, session_id: str, polled: Polled, rest: str) -> Asking | None:
    """The session of one kind, None where the market has no such route."""
    if polled.kind not in offered(market_type):
        return None
    member = _MEMBERS[polled.kind]
    return member(session_id, polled, rest.rstrip("/") + PATHS[member.route])
