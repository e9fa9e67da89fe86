"""What OKX is asked for again and again: books, settled funding (`funding`), its clock. Pure."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.polls import PolledBooks, PolledClock, levels_of
from collectors.adapters.reading import EARLY, PAST, Id, good_levels
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.asking import Asking, opened
from collectors.exchanges.okx.funding import ROUTE, FundingPoll
from market.kinds import BookSnapshot
from market.session import SERVER_TIME, Output, Poll, Polled

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


class BookPoll(PolledBooks, Asking):
    """Books as `book_snapshot` of source rest; the id is that of the stream's changes."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        self._levels = min(polled.levels, DEEPEST)
        super().__init__(session_id, polled, base)

    def _url(self, name: str) -> str:
        return f"{self._base}?instId={quote(name, safe='')}&sz={self._levels}"

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
        row = BookSnapshot(
            name, BOOK, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", book.bids, book.asks,
            book.seqId, levels_of(tag),
        )  # fmt: skip
        return [row], False


class TimePoll(PolledClock, Asking):
    """The venue's clock."""

    route = TIME
    weight = 4

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        rows = opened(body)
        return self._told(wire.time_of(_time(rows[0]).ts) if rows else 0, ts_recv)


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
