"""What ccxt is asked for again and again: instruments, open interest, settled rates. Pure.

An address is `ccxt://<id>/<market>/<method>`; whoever carries it out calls ccxt and answers with a body of rows, or
with a status and ccxt's own class of error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.asking import NoData, PollSession
from collectors.adapters.polls import PolledInterest
from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, PAST, all_good, why
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.adapters.settled import interval
from collectors.ccxt import tables, wire
from market.kinds import Contract, FundingRate, OpenInterest
from market.numbers import is_decimal
from market.session import Fetch, Output, Polled, Rejected
from market.times import DAY, MS, SECOND

PAGE = 100
"""So many settled rates in an answer may be a full page: there may be more."""
REFUSALS = ("BadSymbol", "BadRequest", "NotSupported", "ArgumentsRequired")
"""ccxt's errors that are about the request itself."""


def address(base: str, method: str, **asked: object) -> str:
    """The address of a method below a market's."""
    parts = urlsplit(base)
    query = "&".join(
        [*filter(None, [parts.query]), *(f"{name}={quote(str(value), safe='')}" for name, value in asked.items())]
    )
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{method}", query, ""))


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 says: ccxt's class of error, and its words."""
    pause = asked_pause(status, headers)
    try:
        told = wire.answer(body)
    except BAD_FRAME:
        return Failure(f"status {status}" if status else "no answer", pause=pause)
    return Failure(f"{told.error}: {told.message}"[:300], status, told.error in REFUSALS, pause)


class Asking(PollSession):
    """What both have in common."""

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        super().__init__(session_id, polled, base, 0)

    def _url(self, name: str) -> str:
        return address(self._base, self.route, symbol=name)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)


class InterestPoll(PolledInterest, Asking):
    """Contracts that are open, each counted once: ccxt does not say otherwise."""

    route = tables.INTEREST

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        raw = wire.answer(body).rows
        if not raw:
            raise NoData("no open interest")
        told = wire.interest(wire.row(raw[0]).parsed)
        if told.openInterestAmount is None or not all_good(told.openInterestAmount):
            raise NoData("open interest that is no number")
        time = told.timestamp * MS if told.timestamp is not None else ts_recv
        if not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        self._heard(name, ts_recv, ts_recv)
        row = OpenInterest(
            name, self.route, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest",
            oi=told.openInterestAmount, oi_unit="contract", sides=1,
        )  # fmt: skip
        return [row], False


class FundingPoll(Asking):
    """Settled rates from the last known one on; where nothing is known from the beginning of the day (UTC)."""

    route = tables.FUNDING

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        super().__init__(session_id, polled, base)
        self._since = dict(polled.since)

    def _fetch(self, name: str, now: int) -> Fetch:
        since = self._since.setdefault(name, now - now % DAY)
        url = address(self._base, self.route, symbol=name, since=since // MS + 1)
        return Fetch(f"{self.route} {name}", "GET", url, 0)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        out: list[Output] = []
        good: dict[int, tuple[int, str]] = {}
        held = wire.answer(body).rows
        for item, raw in enumerate(held):
            try:
                told = wire.funding(wire.row(raw).parsed)
            except BAD_FRAME as error:
                out.append(Rejected(f"{self.route}: {why(error)}", self.frame_no, tag))
                continue
            time = (told.timestamp * MS + SECOND // 2) // SECOND * SECOND
            if not is_decimal(told.fundingRate) or not EARLIEST < time <= ts_recv - EARLY:
                out.append(Rejected(f"{self.route}: no rate or an impossible time", self.frame_no, tag))
                continue
            good.setdefault(time, (item, told.fundingRate))
        times = sorted(good)
        for place, time in enumerate(times):
            item, rate = good[time]
            out.append(
                FundingRate(
                    name, self.route, time, None, ts_recv, self.session_id, self.frame_no, item, "rest", rate=rate,
                    rate_kind="ratio", interval_s=interval(times, place), known_at=None,
                )
            )  # fmt: skip
        newest = times[-1] if times else 0
        further = len(held) >= PAGE and newest > self._since.get(name, 0)
        if newest:
            self._since[name] = max(newest, self._since.get(name, 0))
            self.venue_time = max(self.venue_time, newest)
        return out, further


MEMBERS: Mapping[str, type[Asking]] = {"open_interest": InterestPoll, "funding_rate": FundingPoll}


class MarketsPoll(ReferenceSession):
    """The instruments of one market, by ccxt's unified symbols; `uid` is the venue's own name."""

    route = tables.MARKETS_ROUTE

    def __init__(self, market_type: str, session_id: str, symbols: Sequence[str], polled: Polled, base: str) -> None:
        self._market_type = market_type
        self._url = address(base, self.route)
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        del cursor
        return self._url, 0

    def _page(self, body: bytes) -> Page:
        return Page(wire.answer(body).rows, None)

    def _name(self, raw: msgspec.Raw) -> str:
        return wire.market(wire.row(raw).parsed).symbol

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str | None:
        told = wire.market(wire.row(raw).parsed)
        if told.type == "option" or self._market_type != _market_of(told):
            return None
        size = told.contractSize
        if self._market_type != "spot" and (size is None or not all_good(size)):
            return f"{told.symbol}: a contract of unknown size"
        numbers = [text if text is not None and all_good(text) else None for text in (told.tick, told.lot)]
        status = {True: "active", False: "inactive", None: "unknown"}[told.active]
        spot = self._market_type == "spot"
        return Contract(
            told.symbol, self.route, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest",
            uid=told.id, unified=told.symbol, base=told.base, quote=told.quote, settle=told.settle,
            tick=numbers[0], lot=numbers[1], multiplier="1" if spot else size, contract_size=None if spot else size,
            status=status, listed=None if told.created is None else told.created * MS,
            expiry=None if told.expiry is None else told.expiry * MS, funding_interval_s=None, valid_from=None,
            valid_to=None, known_from=at.ts_recv, known_to=None,
        )  # fmt: skip

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)


def _market_of(told: wire.Market) -> str:
    """Which of our markets an instrument belongs to; "" for none of them."""
    if told.type == "spot":
        return "spot"
    return "linear" if told.linear else "inverse" if told.inverse else ""
