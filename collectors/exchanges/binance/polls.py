"""What Binance is asked for again and again: books, open interest, settled funding (`funding`), its clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from collectors.adapters.asking import NoData
from collectors.exchanges.binance import wire
from collectors.exchanges.binance.asking import Asking
from collectors.exchanges.binance.depth import CHANNEL, Depth, read_book
from collectors.exchanges.binance.funding import EARLIEST, ROUTE, FundingPoll
from collectors.exchanges.binance.wire import EARLY, PAST
from market.instruments import MARKET_SIZING
from market.kinds import BookSnapshot, OpenInterest
from market.numbers import is_decimal
from market.session import SERVER_TIME, Fetch, Output, Poll, Polled, ServerTime, Stream, StreamState

DEPTH, OPEN_INTEREST, TIME = "depth", "openInterest", "time"
SILENCE = 3
"""A symbol's open interest that is so many intervals late is missing."""


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


class DepthPoll(Asking):
    """Books as `book_snapshot` of source rest, whether or not their updates are collected."""

    route = DEPTH

    def __init__(self, session_id: str, polled: Polled, base: str, depth: Depth) -> None:
        self._levels = depth.levels(polled.levels)
        super().__init__(session_id, polled, base, depth.weights[self._levels])

    def _name(self, tag: str) -> str | None:
        route, _, rest = tag.partition(" ")
        levels, _, symbol = rest.partition(" ")
        good = route == DEPTH and levels.isascii() and levels.isdigit() and len(levels) <= 5
        return symbol if good and symbol in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        asked = super()._fetch(name, now)
        return Fetch(f"{DEPTH} {self._levels} {name}", "GET", f"{asked.url}&limit={self._levels}", self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        answer = read_book(body, ts_recv)
        if isinstance(answer, str):
            raise NoData(answer)
        self.venue_time = max(self.venue_time, answer.publish or 0)
        row = BookSnapshot(
            name, CHANNEL, answer.time, answer.publish, ts_recv, self.session_id, self.frame_no, 0, "rest",
            answer.bids, answer.asks, answer.lastUpdateId, int(tag.split(" ", 2)[1]),
        )  # fmt: skip
        return [row], False


class OpenInterestPoll(Asking):
    """`openInterest` of each symbol: base units on USD-M, contracts on COIN-M; each contract counted once."""

    route = OPEN_INTEREST

    def __init__(self, session_id: str, polled: Polled, base: str, weight: int, market_type: str) -> None:
        super().__init__(session_id, polled, base, weight)
        self._unit = MARKET_SIZING[market_type].qty_unit
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
        state = self._states[name]
        if not state.events:
            state.first_recv, state.first_event = ts_recv, time
        state.last_recv = ts_recv
        state.events += 1
        self.venue_time = max(self.venue_time, time)
        row = OpenInterest(
            name, self.route, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest",
            oi=answer.openInterest, oi_unit=self._unit, sides=1,
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
        del name, tag, ts_recv
        time = wire.to_us(_time(body).serverTime)
        if not EARLIEST <= time < wire.LAST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, time)
        return [ServerTime(time)], False


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
