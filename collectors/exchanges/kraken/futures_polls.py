"""What Kraken Futures is asked for over REST: instruments, books, open interest, funding. Pure.

Every answer has `result`, which is `success` or `error`, beside its data, and the venue's time. Public routes cost
nothing of the budget that the venue counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import Failure, asked_pause
from collectors.adapters.asking import Failed, NoData, PollSession
from collectors.adapters.polls import PolledInterest
from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, PAST, why
from collectors.adapters.reference import At, Page, ReferenceSession
from collectors.exchanges.kraken import texts
from market import instruments
from market.kinds import BookSnapshot, Contract, FundingRate, OpenInterest
from market.numbers import unscale
from market.session import Output, Poll, Polled, Rejected
from market.times import DAY, HOUR, SECOND

BASE = "/derivatives/api/v3"
INSTRUMENTS, BOOK, OPEN_INTEREST, FUNDING = "instruments", "orderbook", "tickers", "historical-funding-rates"
TYPES = {"linear": "flexible_futures", "inverse": "futures_inverse"}
FUNDED = HOUR // SECOND
"""Seconds that a rate holds."""
PERPETUAL = ("PF_", "PI_")
TRADEABLE, HALTED, POST_ONLY = "tradeable", "not_tradeable", "post_only"
_ERROR = b'"error"'
_REFUSED = ("notFound", "Not Found", "invalidArgument", "contractDoesNotExist")
_WRONG, _NOWHERE = "Argument invalid", "NOT_FOUND"
"""Words of an error in `errors`, which is the other of the two ways in which it tells one."""


class _Problem(msgspec.Struct, gc=False):
    message: str = ""


class _Envelope(msgspec.Struct, gc=False):
    result: msgspec.Raw
    serverTime: str | None = None  # noqa: N815 -- the venue's spelling
    error: msgspec.Raw = msgspec.Raw(b"")
    errors: list[_Problem] = []


class _Book(msgspec.Struct):
    bids: list[tuple[msgspec.Raw, msgspec.Raw]]
    asks: list[tuple[msgspec.Raw, msgspec.Raw]]


class _Books(msgspec.Struct):
    orderBook: _Book  # noqa: N815


class _Ticker(msgspec.Struct):
    symbol: str
    openInterest: msgspec.Raw  # noqa: N815


class _Tickers(msgspec.Struct):
    ticker: _Ticker | None


class _Rate(msgspec.Struct):
    timestamp: str
    relativeFundingRate: msgspec.Raw  # noqa: N815


class _Rates(msgspec.Struct):
    rates: list[msgspec.Raw]


class _Kind(msgspec.Struct):
    type: str = ""


class _Name(msgspec.Struct):
    symbol: str


class _Instrument(msgspec.Struct):
    symbol: str
    tradeable: bool
    tickSize: msgspec.Raw  # noqa: N815
    contractSize: msgspec.Raw  # noqa: N815
    base: str
    quote: str
    openingDate: str | None = None  # noqa: N815
    lastTradingTime: str | None = None  # noqa: N815
    contractValueTradePrecision: int = 0  # noqa: N815
    postOnly: bool = False  # noqa: N815


class _Instruments(msgspec.Struct):
    instruments: list[msgspec.Raw]


_envelope = msgspec.json.Decoder(_Envelope).decode
_books = msgspec.json.Decoder(_Books).decode
_tickers = msgspec.json.Decoder(_Tickers).decode
_rates = msgspec.json.Decoder(_Rates).decode
_rate = msgspec.json.Decoder(_Rate).decode
_kind = msgspec.json.Decoder(_Kind).decode
_name = msgspec.json.Decoder(_Name).decode
_instrument = msgspec.json.Decoder(_Instrument).decode
_instruments = msgspec.json.Decoder(_Instruments).decode


def opened(body: bytes) -> int | None:
    """The venue's time (us) of an answer with data. Raises BAD_FRAME, and Failed where it says that there is none."""
    found = _envelope(body)
    if bytes(found.result) != _ERROR:
        return texts.time(found.serverTime)
    words = bytes(found.error).decode("utf-8", "replace").strip('"') or "; ".join(one.message for one in found.errors)
    reason = words[:300] or "an error without words"
    refused = reason in _REFUSED or reason.startswith(_WRONG) or _NOWHERE in reason
    raise Failed(Failure(reason, refused=refused, pause=0 if reason == "apiLimitExceeded" else None))


def failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What another status than 200 says."""
    pause = asked_pause(status, headers)
    try:
        opened(body)
    except Failed as said:
        refused = said.failure.refused and 400 <= status < 500 and pause is None
        return Failure(f"status {status}: {said.failure.reason}"[:300], refused=refused, pause=pause)
    except BAD_FRAME:
        pass
    return Failure(f"status {status}" if status else "no answer", pause=pause)


class Asking(PollSession):
    """What its polls have in common."""

    def __init__(self, session_id: str, polled: Polled, base: str, market_type: str) -> None:
        self._market_type = market_type
        super().__init__(session_id, polled, base, 1)

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)


class BookPoll(Asking):
    """Books as `book_snapshot` of source rest, best levels first whatever order they come in; they have no id."""

    route = BOOK

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        time, book = opened(body), _books(body).orderBook
        bids, asks = _sorted(book.bids, falling=True), _sorted(book.asks, falling=False)
        if bids is None or asks is None:
            raise NoData("levels that are no price and quantity")
        if time is not None and not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        if not book.bids and not book.asks:
            return [], False
        self.venue_time = max(self.venue_time, time or 0)
        row = BookSnapshot(
            name, BOOK, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", bids, asks, None,
            max(len(book.bids), len(book.asks)),
        )  # fmt: skip
        return [row], False


def _sorted(levels: Sequence[tuple[msgspec.Raw, msgspec.Raw]], *, falling: bool) -> msgspec.Raw | None:
    found = [(texts.number(price), texts.number(qty)) for price, qty in levels]
    made = [(price, qty) for price, qty in found if price is not None and qty is not None]
    made.sort(key=lambda level: Decimal(level[0]), reverse=falling)
    return msgspec.Raw(msgspec.json.encode(made)) if len(made) == len(found) else None


class OpenInterestPoll(PolledInterest, Asking):
    """`tickers/<symbol>`: base units on linear, contracts of one USD on inverse."""

    route = OPEN_INTEREST

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name, safe='')}"

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        del tag
        time, said = opened(body), _tickers(body).ticker
        if said is None:
            return [], False
        oi = texts.number(said.openInterest)
        if said.symbol != name or oi is None:
            raise NoData("another symbol than the one that was asked for, or no number")
        if time is None or not EARLY <= ts_recv - time <= PAST:
            raise NoData("impossible time")
        self._heard(name, ts_recv, time)
        self.venue_time = max(self.venue_time, time)
        unit = instruments.MARKET_SIZING[self._market_type].qty_unit
        row = OpenInterest(
            name, self.route, time, None, ts_recv, self.session_id, self.frame_no, 0, "rest", oi=oi, oi_unit=unit,
            sides=1,
        )  # fmt: skip
        return [row], False


class FundingPoll(Asking):
    """Rates from the last known one on; where nothing is known from the beginning of the day (UTC).

    The route gives all of a symbol's history; its time is that from which the rate holds, for an hour.
    """

    route = FUNDING

    def __init__(self, session_id: str, polled: Polled, base: str, market_type: str) -> None:
        super().__init__(session_id, polled, base, market_type)
        self._since = dict(polled.since)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        opened(body)
        since = self._since.get(name, ts_recv - ts_recv % DAY - 1)
        good: dict[int, tuple[int, str]] = {}
        out: list[Output] = []
        for item, raw in enumerate(_rates(body).rates):
            try:
                said = _rate(raw)
            except BAD_FRAME as error:
                out.append(Rejected(f"{self.route}: {why(error)}", self.frame_no, tag))
                continue
            time, rate = texts.time(said.timestamp), texts.signed(said.relativeFundingRate)
            if time is None or rate is None or not EARLIEST < time <= ts_recv - EARLY:
                out.append(Rejected(f"{self.route}: no rate or an impossible time", self.frame_no, tag))
            elif time > since:
                good.setdefault(time, (item, rate))
        for time in sorted(good):
            item, rate = good[time]
            out.append(
                FundingRate(
                    name, self.route, time, None, ts_recv, self.session_id, self.frame_no, item, "rest", rate=rate,
                    rate_kind="ratio", interval_s=FUNDED, known_at=time,
                )
            )  # fmt: skip
        if good:
            self._since[name] = max(good)
            self.venue_time = max(self.venue_time, min(max(good), ts_recv))
        return out, False


class FuturesReference(ReferenceSession):
    """The instruments of one market: one list names all, told apart by their type."""

    route = INSTRUMENTS

    def __init__(self, market_type: str, session_id: str, symbols: Sequence[str], polled: Polled, rest: str) -> None:
        self._market_type = market_type
        self._url = f"{rest.rstrip('/')}{BASE}/{INSTRUMENTS}"
        super().__init__(session_id, symbols, every=polled.every, known=polled.known)

    def _ask(self, cursor: str) -> tuple[str, int]:
        del cursor
        return self._url, 1

    def _page(self, body: bytes) -> Page:
        time = opened(body)
        return Page([raw for raw in _instruments(body).instruments if self._of_market(raw)], time)

    def _of_market(self, raw: msgspec.Raw) -> bool:
        try:
            return _kind(raw).type == TYPES[self._market_type]
        except BAD_FRAME:
            return True  # to be rejected as what it is

    def _name(self, raw: msgspec.Raw) -> str:
        return _name(raw).symbol

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failure:
        del now
        return failure(status, headers, body)

    def _contract(self, raw: msgspec.Raw, at: At) -> Contract | str:
        found = _instrument(raw)
        if not (found.symbol and found.base and found.quote) or len(found.symbol) > 64:
            return "no symbol or currencies"
        inverse = self._market_type == "inverse"
        listed, expiry = texts.time(found.openingDate), texts.time(found.lastTradingTime)
        settle = found.base if inverse else found.quote
        sizing = instruments.MARKET_SIZING[self._market_type]
        perpetual = found.symbol.startswith(PERPETUAL)
        places = found.contractValueTradePrecision
        lot = None if abs(places) > 18 else unscale(1, places) if places >= 0 else str(10**-places)
        status = HALTED if not found.tradeable else POST_ONLY if found.postOnly else TRADEABLE
        return Contract(
            found.symbol, INSTRUMENTS, at.time, None, at.ts_recv, self.session_id, at.frame_no, at.item, "rest",
            uid=f"kraken:{self._market_type}:{found.symbol}",
            unified=instruments.unified(found.base, found.quote, settle, None if perpetual else expiry),
            base=found.base, quote=found.quote, settle=settle, tick=texts.number(found.tickSize), lot=lot,
            multiplier=sizing.multiplier, contract_size=texts.number(found.contractSize) if inverse else None,
            status=status, listed=listed, expiry=expiry, funding_interval_s=FUNDED if perpetual else None,
            valid_from=listed, valid_to=None, known_from=at.ts_recv, known_to=None,
        )  # fmt: skip


POLLS: Mapping[str, Poll] = {
    "book_snapshot": Poll(BOOK),
    "open_interest": Poll(OPEN_INTEREST),
    "funding_rate": Poll(FUNDING),
}
_MEMBERS: Mapping[str, type[Asking]] = {
    "book_snapshot": BookPoll,
    "open_interest": OpenInterestPoll,
    "funding_rate": FundingPoll,
}


def poller(market_type: str, session_id: str, polled: Polled, rest: str) -> Asking | None:
    """The session of one kind, None where there is no such route."""
    if polled.kind not in _MEMBERS:
        return None
    member = _MEMBERS[polled.kind]
    return member(session_id, polled, f"{rest.rstrip('/')}{BASE}/{member.route}", market_type)
