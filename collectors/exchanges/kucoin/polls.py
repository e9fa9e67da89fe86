"""What KuCoin is asked for again and again: books, open interest, settled funding, candles, its clock. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.reading import EARLIEST, Millis
from collectors.exchanges.kucoin import candle_poll, snapshots, wire
from collectors.exchanges.kucoin.answers import read
from collectors.exchanges.kucoin.asking import Asking, opened
from collectors.exchanges.kucoin.funding import ROUTE, FundingPoll
from market.kinds import BookSnapshot, OpenInterest
from market.session import SERVER_TIME, Fetch, Output, Poll, Polled, ServerTime, Stream, StreamState
from market.times import MS

BOOK, OPEN_INTEREST, TIME = snapshots.TAG, "contracts", "timestamp"
SILENCE = 3
"""A symbol's open interest that is so many intervals late is missing."""


class BookPoll(Asking):
    """Books as `book_snapshot` of source rest."""

    route = BOOK

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        self._levels = snapshots.levels_of(market, polled.levels)
        super().__init__(session_id, polled, base, market, 1)

    def _name(self, tag: str) -> str | None:
        asked = snapshots.parted(tag)
        return asked[1] if asked is not None and asked[1] in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del now
        return snapshots.request(self._market, self._base, name, self._levels, name)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        asked = snapshots.parted(tag)
        found = read(self._market, name, opened(body), ts_recv)
        if isinstance(found, str) or asked is None:
            raise NoData(str(found))
        self.venue_time = max(self.venue_time, found.time)
        row = BookSnapshot(
            name, BOOK, found.time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", found.bids, found.asks,
            found.last, asked[0],
        )  # fmt: skip
        return [row], False


class _Contract(msgspec.Struct):
    symbol: str
    openInterest: msgspec.Raw  # noqa: N815 -- the venue's spelling


_contract = msgspec.json.Decoder(_Contract).decode


class OpenInterestPoll(Asking):
    """`contracts/<symbol>` of each symbol: lots, without a time of the venue."""

    route = OPEN_INTEREST

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/contracts", market, 3)
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
        return Fetch(f"{self.route} {name}", "GET", f"{self._base}/{quote(name, safe='')}", self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        found = _contract(opened(body))
        interest = wire.amount(found.openInterest)
        if found.symbol != name:
            raise NoData("another symbol than the one that was asked for")
        if interest is None:
            raise NoData("open interest that is no number")
        state = self._states[name]
        if not state.events:
            state.first_recv = state.first_event = ts_recv
        state.last_recv = ts_recv
        state.events += 1
        row = OpenInterest(
            name, self.route, None, None, ts_recv, self.session_id, self.frame_no, 0, "rest", oi=interest,
            oi_unit="contract", sides=1,
        )  # fmt: skip
        return [row], False


_millis = msgspec.json.Decoder(Millis).decode


class TimePoll(Asking):
    """The venue's clock."""

    route = TIME

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/timestamp", market, 3)

    def _names(self) -> Iterable[str]:
        return (TIME,)

    def _name(self, tag: str) -> str | None:
        return TIME if tag == TIME else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del name, now
        return Fetch(TIME, "GET", self._base, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        time = _millis(opened(body)) * MS
        if time < EARLIEST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, min(time, ts_recv))
        return [ServerTime(time)], False


_MEMBERS: dict[str, type[BookPoll | OpenInterestPoll | TimePoll | FundingPoll | candle_poll.KlinePoll]] = {
    "book_snapshot": BookPoll,
    SERVER_TIME: TimePoll,
    "open_interest": OpenInterestPoll,
    "funding_rate": FundingPoll,
    "kline": candle_poll.KlinePoll,
}


def offered(market_type: str) -> dict[str, Poll]:
    """Kind -> what is polled for it in a market."""
    found = {"book_snapshot": Poll(BOOK), SERVER_TIME: Poll(TIME, each=False)}
    if market_type != "spot":
        found |= {"open_interest": Poll(OPEN_INTEREST), "funding_rate": Poll(ROUTE), "kline": Poll(candle_poll.ROUTE)}
    return found


def poller(market_type: str, session_id: str, polled: Polled, rest: str) -> Asking | None:
    """The session of one kind, None where the market has no such route."""
    if polled.kind not in offered(market_type):
        return None
    return _MEMBERS[polled.kind](session_id, polled, rest, market_type)
