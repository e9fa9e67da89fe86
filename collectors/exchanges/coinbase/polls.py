"""What Coinbase is asked for again and again: books and its clock; of US futures their product. Pure.

An answer is cached at the venue's edge for about a second, so that a book may be that old; a book says its time, which
is its id here, as with the books of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.asking import NoData, PollSession
from collectors.adapters.polls import PolledBooks, PolledClock, PolledInterest, levels_of
from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, PAST, all_good
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.products import Future
from market.kinds import BookSnapshot, FundingRate, OpenInterest
from market.numbers import is_decimal
from market.session import SERVER_TIME, Output, Poll, Polled
from market.times import MS

BOOK, TIME, PRODUCT = "product_book", "time", "product"
PATHS = {
    BOOK: "/api/v3/brokerage/market/product_book",
    TIME: "/api/v3/brokerage/time",
    PRODUCT: "/api/v3/brokerage/market/products",
}
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


class _Product(msgspec.Struct):
    product_id: str
    future_product_details: Future


class _Error(msgspec.Struct):
    error: str
    message: str = ""


_answer = msgspec.json.Decoder(_Answer).decode
_product = msgspec.json.Decoder(_Product).decode
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


class BookPoll(PolledBooks, _Asking):
    """Books as `book_snapshot` of source rest."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, rest: str) -> None:
        self._levels = polled.levels
        super().__init__(session_id, polled, rest)

    def _url(self, name: str) -> str:
        return f"{self._base}?product_id={quote(name, safe='')}&limit={self._levels}"

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
            _side(book.asks), time, levels_of(tag),
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


class TimePoll(PolledClock, _Asking):
    """The venue's clock."""

    route = TIME

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        text = _time(body).epochMillis
        return self._told(int(text) * MS if text.isascii() and text.isdigit() and len(text) <= 13 else 0, ts_recv)


class ProductPoll(_Asking):
    """The product of each symbol, by which the venue tells of US futures what it tells of them.

    It says no time of its own: that of open interest is estimated from its receipt.
    """

    route = PRODUCT

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name, safe='')}"

    def _future(self, name: str, body: bytes) -> Future:
        found = _product(body)
        if found.product_id != name:
            raise NoData("another product than the one that was asked for")
        return found.future_product_details


class OpenInterestPoll(PolledInterest, ProductPoll):
    """Contracts that are open, each counted once."""

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        told = self._future(name, body).open_interest
        if not told:
            return [], False
        if not all_good(told):
            raise NoData("open interest that is no number")
        self._heard(name, ts_recv, ts_recv)
        row = OpenInterest(
            name, PRODUCT, None, None, ts_recv, self.session_id, self.frame_no, 0, "rest", oi=told,
            oi_unit="contract", sides=1,
        )  # fmt: skip
        return [row], False


class FundingPoll(ProductPoll):
    """The rate that is told with a time that is past: settled then. There is no history of them."""

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        told = self._future(name, body)
        if not told.funding_rate or not told.funding_time:
            return [], False
        time = wire.micros(told.funding_time)
        if time is None or not time > EARLIEST or not is_decimal(told.funding_rate):
            raise NoData("no rate or an impossible time")
        if time > ts_recv:
            return [], False
        self.venue_time = max(self.venue_time, time)
        row = FundingRate(
            name, PRODUCT, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", rate=told.funding_rate,
            rate_kind="ratio", interval_s=told.interval(), known_at=None,
        )  # fmt: skip
        return [row], False


OFFERED: Mapping[str, Mapping[str, Poll]] = {
    "spot": {"book_snapshot": Poll(BOOK), SERVER_TIME: Poll(TIME, each=False)},
    "linear": {
        "book_snapshot": Poll(BOOK),
        "open_interest": Poll(PRODUCT), "funding_rate": Poll(PRODUCT), SERVER_TIME: Poll(TIME, each=False),
    },
}  # fmt: skip
"""Market -> kind -> what is polled for it."""
_MEMBERS: Mapping[str, type[BookPoll | TimePoll | OpenInterestPoll | FundingPoll]] = {
    "book_snapshot": BookPoll,
    SERVER_TIME: TimePoll,
    "open_interest": OpenInterestPoll,
    "funding_rate": FundingPoll,
}


def poller(market_type: str, session_id: str, polled: Polled, rest: str) -> PollSession | None:
    """The session of one kind, None where the market has no such route."""
    if polled.kind not in OFFERED[market_type]:
        return None
    return _MEMBERS[polled.kind](session_id, polled, rest)
