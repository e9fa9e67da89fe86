"""What Binance is asked for again and again: books, open interest, settled funding (`funding`), its clock. Pure."""

from __future__ import annotations

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.polls import PolledBooks, PolledClock, PolledInterest, levels_of
from collectors.exchanges.binance import wire
from collectors.exchanges.binance.asking import Asking
from collectors.exchanges.binance.depth import CHANNEL, Depth, read_book
from collectors.exchanges.binance.funding import ROUTE, FundingPoll
from collectors.exchanges.binance.wire import EARLY, PAST
from market.instruments import MARKET_SIZING
from market.kinds import BookSnapshot, OpenInterest
from market.numbers import is_decimal
from market.session import SERVER_TIME, Output, Poll, Polled

DEPTH, OPEN_INTEREST, TIME = "depth", "openInterest", "time"


class Routes(msgspec.Struct, frozen=True):
    """Where one market's polls go. Without `open_interest` there are no derivatives."""

    time: str
    depth: Depth
    open_interest: str | None = None
    funding_rate: str | None = None
    funding_info: str | None = None
    weight: int = 1
    """Of each route but depth."""


class _Time(msgspec.Struct):
    serverTime: wire.Time  # noqa: N815 -- the venue's spelling


class _OpenInterest(msgspec.Struct):
    symbol: str
    openInterest: str  # noqa: N815
    time: wire.Time


_time = msgspec.json.Decoder(_Time).decode
_open_interest = msgspec.json.Decoder(_OpenInterest).decode


class DepthPoll(PolledBooks, Asking):
    """Books as `book_snapshot` of source rest, whether or not their updates are collected."""

    route = DEPTH

    def __init__(self, session_id: str, polled: Polled, base: str, depth: Depth) -> None:
        self._levels = depth.levels(polled.levels)
        super().__init__(session_id, polled, base, depth.weights[self._levels])

    def _url(self, name: str) -> str:
        return f"{super()._url(name)}&limit={self._levels}"

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        answer = read_book(body, ts_recv)
        if isinstance(answer, str):
            raise NoData(answer)
        self.venue_time = max(self.venue_time, answer.publish or 0)
        row = BookSnapshot(
            name, CHANNEL, answer.time, answer.publish, ts_recv, self.session_id, self.frame_no, 0, "rest",
            answer.bids, answer.asks, answer.lastUpdateId, levels_of(tag),
        )  # fmt: skip
        return [row], False


class OpenInterestPoll(PolledInterest, Asking):
    """`openInterest` of each symbol: base units on USD-M, contracts on COIN-M; each contract counted once."""

    route = OPEN_INTEREST

    def __init__(self, session_id: str, polled: Polled, base: str, weight: int, market_type: str) -> None:
        super().__init__(session_id, polled, base, weight)
        self._unit = MARKET_SIZING[market_type].qty_unit

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        answer = _open_interest(body)
        time = wire.to_us(answer.time)
        if answer.symbol != name:
            raise NoData("another symbol than the one that was asked for")
        if not is_decimal(answer.openInterest) or answer.openInterest.startswith("-"):
            raise NoData("open interest that is no number")
        if not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        self._heard(name, ts_recv, time)
        self.venue_time = max(self.venue_time, time)
        row = OpenInterest(
            name, self.route, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest",
            oi=answer.openInterest, oi_unit=self._unit, sides=1,
        )  # fmt: skip
        return [row], False


class TimePoll(PolledClock, Asking):
    """The venue's clock."""

    route = TIME

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        return self._told(wire.to_us(_time(body).serverTime), ts_recv)


def offered(routes: Routes) -> dict[str, Poll]:
    """Kind -> what is polled for it in a market with these routes."""
    found = {"book_snapshot": Poll(DEPTH), SERVER_TIME: Poll(TIME, each=False)}
    if routes.open_interest is not None:
        found["open_interest"] = Poll(OPEN_INTEREST)
    if routes.funding_rate is not None:
        found["funding_rate"] = Poll(ROUTE)
    return found


def poller(market_type: str, session_id: str, polled: Polled, rest: str, routes: Routes) -> Asking | None:
    """The session of one kind, None where the market has no such route."""
    base = rest.rstrip("/")
    if polled.kind == "book_snapshot":
        return DepthPoll(session_id, polled, base + routes.depth.path, routes.depth)
    if polled.kind == SERVER_TIME:
        return TimePoll(session_id, polled, base + routes.time, routes.weight)
    if polled.kind == "open_interest" and routes.open_interest is not None:
        return OpenInterestPoll(session_id, polled, base + routes.open_interest, routes.weight, market_type)
    if polled.kind == "funding_rate" and routes.funding_rate is not None:
        return FundingPoll(
            session_id, polled, base + routes.funding_rate, f"{base}{routes.funding_info}", routes.weight
        )
    return None
