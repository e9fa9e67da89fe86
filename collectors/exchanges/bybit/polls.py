"""What Bybit is asked for again and again: books, open interest, settled funding (`funding`), its clock. Pure."""

from __future__ import annotations

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.polls import PolledBooks, PolledClock, PolledInterest, levels_of
from collectors.adapters.reading import EARLY, PAST, Id, Millis, all_good, good_levels
from collectors.exchanges.bybit.asking import Asking, time_of
from collectors.exchanges.bybit.funding import ROUTE, FundingPoll
from market.instruments import MARKET_SIZING
from market.kinds import BookSnapshot, OpenInterest
from market.session import SERVER_TIME, Output, Poll, Polled
from market.times import MS

BOOK, OPEN_INTEREST, TIME = "orderbook", "tickers", "time"
PATHS = {BOOK: "/v5/market/orderbook", OPEN_INTEREST: "/v5/market/tickers", TIME: "/v5/market/time",
         ROUTE: "/v5/market/funding/history"}  # fmt: skip
DEEPEST = {"spot": 200, "linear": 500, "inverse": 500}
"""Levels a side that the route gives at most."""
BOTH = 2
"""Sides that the venue's open interest counts: each contract has two holders."""


class _Book(msgspec.Struct):
    s: str
    b: msgspec.Raw
    a: msgspec.Raw
    ts: Millis
    u: Id
    cts: Millis | None = None


class _Ticker(msgspec.Struct):
    symbol: str
    openInterest: str  # noqa: N815 -- the venue's spelling
    openInterestValue: str = ""  # noqa: N815


class _Tickers(msgspec.Struct):
    rows: list[_Ticker] = msgspec.field(name="list")


class _Time(msgspec.Struct):
    timeNano: str  # noqa: N815


_book = msgspec.json.Decoder(_Book)
_tickers = msgspec.json.Decoder(_Tickers)
_time = msgspec.json.Decoder(_Time)


class BookPoll(PolledBooks, Asking):
    """Books as `book_snapshot` of source rest; the id is that of the deepest stream's messages."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, base: str, category: str) -> None:
        self._levels = min(polled.levels, DEEPEST[category])
        super().__init__(session_id, polled, base, category)

    def _url(self, name: str) -> str:
        return f"{super()._url(name)}&limit={self._levels}"

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        book, _ = self._opened(body, _book, ts_recv)
        if book.s != name:
            raise NoData("another symbol than the one that was asked for")
        if not good_levels(book.b, book.a):
            raise NoData("levels that are no [price, quantity] texts")
        publish = book.ts * MS
        time = publish if book.cts is None else book.cts * MS
        if not (EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST):
            raise NoData("impossible time, as of a symbol that is closed")
        self.venue_time = max(self.venue_time, time)
        row = BookSnapshot(
            name, BOOK, time, publish, ts_recv, self.session_id, self.frame_no, 0, "rest", book.b, book.a, book.u,
            levels_of(tag),
        )  # fmt: skip
        return [row], False


class OpenInterestPoll(PolledInterest, Asking):
    """`tickers` of each symbol: base units on linear, USD on inverse; both holders of a contract counted."""

    route = OPEN_INTEREST

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        found, envelope = self._opened(body, _tickers, ts_recv)
        time = time_of(envelope, ts_recv)
        if not found.rows:
            return [], False
        said = found.rows[0]
        if len(found.rows) != 1 or said.symbol != name:
            raise NoData("another symbol than the one that was asked for")
        if not all_good(said.openInterest) or (said.openInterestValue and not all_good(said.openInterestValue)):
            raise NoData("open interest that is no number")
        if not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        self._heard(name, ts_recv, time)
        self.venue_time = max(self.venue_time, time)
        worth = said.openInterestValue or None
        inverse, unit = self._category == "inverse", MARKET_SIZING[self._category].qty_unit
        row = OpenInterest(
            name, self.route, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", oi=said.openInterest,
            oi_unit=unit, sides=BOTH, oi_base=worth if inverse else None, oi_quote=None if inverse else worth,
        )  # fmt: skip
        return [row], False


class TimePoll(PolledClock, Asking):
    """The venue's clock."""

    route = TIME

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        found, _ = self._opened(body, _time, ts_recv)
        text = found.timeNano
        if not (text.isascii() and text.isdigit()) or len(text) > 19:
            raise NoData("no time")
        return self._told(int(text) // 1000, ts_recv)


def offered(market_type: str) -> dict[str, Poll]:
    """Kind -> what is polled for it in a market."""
    found = {"book_snapshot": Poll(BOOK), SERVER_TIME: Poll(TIME, each=False)}
    if market_type != "spot":
        found |= {"open_interest": Poll(OPEN_INTEREST), "funding_rate": Poll(ROUTE)}
    return found


_MEMBERS: dict[str, type[Asking]] = {
    "book_snapshot": BookPoll,
    SERVER_TIME: TimePoll,
    "open_interest": OpenInterestPoll,
    "funding_rate": FundingPoll,
}


def poller(market_type: str, session_id: str, polled: Polled, rest: str) -> Asking | None:
    """The session of one kind, None where the market has no such route."""
    if polled.kind not in offered(market_type):
        return None
    member = _MEMBERS[polled.kind]
    return member(session_id, polled, rest.rstrip("/") + PATHS[member.route], market_type)
