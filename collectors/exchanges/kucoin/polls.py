"""What KuCoin is asked for again and again: books, open interest, settled funding, candles, its clock. Pure."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.polls import PolledClock, PolledInterest
from collectors.adapters.reading import Millis
from collectors.exchanges.kucoin import candle_poll, snapshots, wire
from collectors.exchanges.kucoin.answers import read
from collectors.exchanges.kucoin.asking import Asking, opened
from collectors.exchanges.kucoin.funding import ROUTE, FundingPoll
from market.kinds import BookSnapshot, OpenInterest
from market.session import SERVER_TIME, Fetch, Output, Poll, Polled
from market.times import MS

BOOK, OPEN_INTEREST, TIME = snapshots.TAG, "contracts", "timestamp"


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


class OpenInterestPoll(PolledInterest, Asking):
    """`contracts/<symbol>` of each symbol: lots, without a time of the venue."""

    route = OPEN_INTEREST

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/contracts", market, 3)

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name, safe='')}"

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        found = _contract(opened(body))
        interest = wire.amount(found.openInterest)
        if found.symbol != name:
            raise NoData("another symbol than the one that was asked for")
        if interest is None:
            raise NoData("open interest that is no number")
        self._heard(name, ts_recv, ts_recv)
        row = OpenInterest(
            name, self.route, None, None, ts_recv, self.session_id, self.frame_no, 0, "rest", oi=interest,
            oi_unit="contract", sides=1,
        )  # fmt: skip
        return [row], False


_millis = msgspec.json.Decoder(Millis).decode


class TimePoll(PolledClock, Asking):
    """The venue's clock."""

    route = TIME

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/timestamp", market, 3)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del name, tag
        return self._told(_millis(opened(body)) * MS, ts_recv)


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
