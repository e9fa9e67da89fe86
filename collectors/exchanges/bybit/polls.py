"""What Bybit is asked for again and again: books, open interest, settled funding (`funding`), its clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.reading import EARLIEST, EARLY, LAST, PAST, Id, Millis, all_good, good_levels
from collectors.exchanges.bybit.asking import Asking, time_of
from collectors.exchanges.bybit.funding import ROUTE, FundingPoll
from market.instruments import MARKET_SIZING
from market.kinds import BookSnapshot, OpenInterest
from market.session import SERVER_TIME, Fetch, Output, Poll, Polled, ServerTime, Stream, StreamState
from market.times import MS

BOOK, OPEN_INTEREST, TIME = "orderbook", "tickers", "time"
PATHS = {BOOK: "/v5/market/orderbook", OPEN_INTEREST: "/v5/market/tickers", TIME: "/v5/market/time",
         ROUTE: "/v5/market/funding/history"}  # fmt: skip
DEEPEST = {"spot": 200, "linear": 500, "inverse": 500}
"""Levels a side that the route gives at most."""
BOTH = 2
"""Sides that the venue's open interest counts: each contract has two holders."""
SILENCE = 3
"""A symbol's open interest that is so many intervals late is missing."""


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


class BookPoll(Asking):
    """Books as `book_snapshot` of source rest; the id is that of the deepest stream's messages."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, base: str, category: str) -> None:
        self._levels = min(polled.levels, DEEPEST[category])
        super().__init__(session_id, polled, base, category)

    def _name(self, tag: str) -> str | None:
        route, _, rest = tag.partition(" ")
        levels, _, symbol = rest.partition(" ")
        good = route == BOOK and levels.isascii() and levels.isdigit() and len(levels) <= 5
        return symbol if good and symbol in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del now
        url = f"{self._base}?category={self._category}&symbol={quote(name, safe='')}&limit={self._levels}"
        return Fetch(f"{BOOK} {self._levels} {name}", "GET", url, self._weight)

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
        levels = int(tag.split(" ", 2)[1])
        row = BookSnapshot(
            name,
            BOOK,
            time,
            publish,
            ts_recv,
            self.session_id,
            self.frame_no,
            0,
            "rest",
            book.b,
            book.a,
            book.u,
            levels,
        )
        return [row], False


class OpenInterestPoll(Asking):
    """`tickers` of each symbol: base units on linear, USD on inverse; both holders of a contract counted."""

    route = OPEN_INTEREST

    def __init__(self, session_id: str, polled: Polled, base: str, category: str) -> None:
        super().__init__(session_id, polled, base, category)
        self._unit = MARKET_SIZING[category].qty_unit
        self._states = {symbol: StreamState(self._stream(symbol)) for symbol in self._symbols}

    def start(self, now: int) -> Sequence[Output]:
        for state in self._states.values():
            state.desired_at = state.acknowledged_at = now
        return super().start(now)

    def streams(self) -> Iterable[StreamState]:
        return self._states.values()

    def _stream(self, symbol: str) -> Stream:
        silence = SILENCE * self._every or None
        return Stream(f"{self.route} {symbol}", self.route, symbol, "open_interest", contiguous=False,
                      max_silence=silence)  # fmt: skip

    def _fetch(self, name: str, now: int) -> Fetch:
        del now
        url = f"{self._base}?category={self._category}&symbol={quote(name, safe='')}"
        return Fetch(f"{self.route} {name}", "GET", url, self._weight)

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
        state = self._states[name]
        if not state.events:
            state.first_recv, state.first_event = ts_recv, time
        state.last_recv = ts_recv
        state.events += 1
        self.venue_time = max(self.venue_time, time)
        worth = said.openInterestValue or None
        inverse = self._category == "inverse"
        row = OpenInterest(
            name, self.route, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", oi=said.openInterest,
            oi_unit=self._unit, sides=BOTH, oi_base=worth if inverse else None, oi_quote=None if inverse else worth,
        )  # fmt: skip
        return [row], False


class TimePoll(Asking):
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
        found, _ = self._opened(body, _time, ts_recv)
        text = found.timeNano
        if not (text.isascii() and text.isdigit()) or len(text) > 19:
            raise NoData("no time")
        time = int(text) // 1000
        if not EARLIEST <= time < LAST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, min(time, ts_recv))
        return [ServerTime(time)], False


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
