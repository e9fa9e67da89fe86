"""Binance instruments: exchangeInfo of each market as contract events, and what to do when it is not given.

A session that only fetches: it asks at `start`, again after a pause where the answer was no data (HTML with status
200, 429, 5xx, truncated), and is done (`next_deadline` None, nothing asked) when every wanted symbol is known or named
as unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.futures import PERPETUAL_DELIVERY, contract_uid
from market import instruments
from market.kinds import Contract
from market.numbers import is_decimal
from market.session import Fetch, Output, Refused, Rejected, Stream, StreamState
from market.times import SECOND

ALL = "exchangeInfo"
FIRST_PAUSE = 5 * SECOND
LONGEST_PAUSE = 300 * SECOND
LONGEST_BAN = 3 * 24 * 3600 * SECOND
BANNED, LIMITED = 418, 429
INVALID_SYMBOL = -1121
SINGLE_LOOKUPS = 100


class _Answer(msgspec.Struct):
    symbols: list[msgspec.Raw]
    serverTime: wire.Time | None = None  # noqa: N815 -- the venue's spelling


class _Filter(msgspec.Struct):
    filterType: str  # noqa: N815
    tickSize: str | None = None  # noqa: N815
    stepSize: str | None = None  # noqa: N815


class _Instrument(msgspec.Struct):
    symbol: str
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    filters: list[_Filter]
    status: str | None = None
    contractStatus: str | None = None  # noqa: N815 -- what COIN-M calls the status
    contractSize: int | str | None = None  # noqa: N815 -- USD a contract of COIN-M
    marginAsset: str | None = None  # noqa: N815
    contractType: str | None = None  # noqa: N815
    deliveryDate: wire.Time | None = None  # noqa: N815
    onboardDate: wire.Time | None = None  # noqa: N815

    @property
    def state(self) -> str | None:
        return self.status or self.contractStatus

    @property
    def size(self) -> str | None:
        """The contract size as text."""
        return None if self.contractSize is None else str(self.contractSize)

    def sized(self, market_type: str) -> bool:
        """Whether it says what a quantity is worth: a market that counts contracts must."""
        if instruments.MARKET_SIZING[market_type].qty_unit != "contract":
            return True
        return self.size is not None and is_decimal(self.size) and not self.size.startswith("-")


_answer = msgspec.json.Decoder(_Answer).decode
_instrument = msgspec.json.Decoder(_Instrument).decode


class ReferenceSession:
    """`market.session.Session` of one exchangeInfo job for `symbols` (all, where empty)."""

    def __init__(self, market_type: str, session_id: str, symbols: tuple[str, ...], url: str, weight: int) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.ignored: Counter[str] = Counter()
        self._market_type = market_type
        self._all = not symbols
        self._wanted = dict.fromkeys(symbols)
        self._url = url
        self._weight = weight
        self._asked: set[str] = set()
        self._again: dict[str, int] = {}
        self._pause = FIRST_PAUSE

    def start(self, now: int) -> Sequence[Output]:
        del now
        return [self._fetch(ALL)]

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        """A fetching session has no socket: a frame is somebody else's."""
        del frame, ts_recv
        self.frame_no += 1
        return (Rejected("a frame on a session that only fetches", self.frame_no),)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        if tag not in self._asked:
            return (Rejected("an answer to nothing that was asked", self.frame_no, ALL),)
        self._asked.discard(tag)
        if status != 200:
            return self._failed(tag, status, headers, body, ts_recv)
        try:
            answer = _answer(body)
        except wire.BAD_FRAME as error:
            kind = _header(headers, "content-type") or "no content type"
            return self._retry(tag, f"status 200 without instruments ({kind}): {wire.why(error)}", ts_recv)
        if not answer.symbols:
            return self._retry(tag, "status 200 with an empty list of instruments", ts_recv)
        self._pause = FIRST_PAUSE
        out = self._contracts(answer, ts_recv)
        if tag == ALL and self._wanted and not self._all:
            out += self._look_up_the_rest()
        return out

    def tick(self, now: int) -> Sequence[Output]:
        due = [tag for tag, at in self._again.items() if now >= at]
        for tag in due:
            del self._again[tag]
        return [self._fetch(tag) for tag in due]

    def next_deadline(self) -> int | None:
        return min(self._again.values(), default=None)

    def streams(self) -> Iterable[StreamState]:
        return ()

    @property
    def done(self) -> bool:
        """Whether nothing is asked and nothing will be."""
        return not self._asked and not self._again

    def _fetch(self, tag: str) -> Fetch:
        self._asked.add(tag)
        url = self._url if tag == ALL else f"{self._url}?symbol={quote(tag, safe='')}"
        return Fetch(tag, "GET", url, self._weight)

    def _failed(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Sequence[Output]:
        try:
            problem = wire.problem(body)
        except wire.BAD_FRAME:
            problem = None
        if problem is not None and problem.code == INVALID_SYMBOL and tag != ALL:
            self._wanted.pop(tag, None)
            return (Refused((_as_stream(tag),), f"{problem.code}: {problem.msg}"),)
        said = f" {problem.code}: {problem.msg}" if problem is not None else ""
        if status in (LIMITED, BANNED):
            return self._retry(tag, f"status {status}{said}", now, _seconds(_header(headers, "retry-after")))
        return self._retry(tag, f"status {status}{said}", now)

    def _retry(self, tag: str, reason: str, now: int, pause: int | None = None) -> Sequence[Output]:
        """Not data: ask again later, more and more patiently, or when the venue said."""
        self._again[tag] = now + max(pause or 0, self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return (Rejected(reason[:300], self.frame_no, ALL),)

    def _look_up_the_rest(self) -> list[Output]:
        """The full list hides symbols of some permission sets; asked by name they are found, or do not exist."""
        rest = list(self._wanted)
        out: list[Output] = [self._fetch(symbol) for symbol in rest[:SINGLE_LOOKUPS]]
        if over := rest[SINGLE_LOOKUPS:]:
            out.append(Refused(tuple(_as_stream(s) for s in over), "not in the venue's list of instruments"))
        return out

    def _contracts(self, answer: _Answer, ts_recv: int) -> list[Output]:
        time = wire.to_us(answer.serverTime) if answer.serverTime is not None else ts_recv
        if not -wire.FUTURE <= ts_recv - time <= wire.PAST:
            time = ts_recv
        self.venue_time = max(self.venue_time, time)
        out: list[Output] = []
        for item, raw in enumerate(answer.symbols):
            try:
                found = _instrument(raw)
            except wire.BAD_FRAME as error:
                out.append(Rejected(f"instrument: {wire.why(error)}", self.frame_no, ALL))
                continue
            if found.state is None or not found.sized(self._market_type):
                out.append(Rejected("instrument: no status or contract size", self.frame_no, ALL))
                continue
            if self._all or found.symbol in self._wanted:
                self._wanted.pop(found.symbol, None)
                out.append(self._contract(found, time, ts_recv, item))
        return out

    def _contract(self, found: _Instrument, time: int, ts_recv: int, item: int) -> Contract:
        listed = wire.to_us(found.onboardDate) if found.onboardDate else None
        dated = found.deliveryDate is not None and 0 < found.deliveryDate < PERPETUAL_DELIVERY
        expiry = wire.to_us(found.deliveryDate) if dated and found.deliveryDate is not None else None
        perpetual = found.contractType is not None and "PERPETUAL" in found.contractType
        settle = found.marginAsset if self._market_type != "spot" else None
        size = found.size if instruments.MARKET_SIZING[self._market_type].qty_unit == "contract" else None
        named = instruments.unified(found.baseAsset, found.quoteAsset, settle, None if perpetual else expiry)
        return Contract(
            found.symbol, ALL, time, None, ts_recv, self.session_id, self.frame_no, item, "rest",
            uid=contract_uid(self._market_type, found.symbol, listed),
            unified=named, base=found.baseAsset, quote=found.quoteAsset, settle=settle,
            tick=_filter(found, "PRICE_FILTER"), lot=_filter(found, "LOT_SIZE"),
            multiplier=size or instruments.MARKET_SIZING[self._market_type].multiplier, contract_size=size,
            status=found.state or "", listed=listed, expiry=expiry, funding_interval_s=None,
            valid_from=listed, valid_to=None, known_from=ts_recv, known_to=None,
        )  # fmt: skip


def _filter(found: _Instrument, name: str) -> str | None:
    """Tick of PRICE_FILTER, step of LOT_SIZE; None where absent or no number."""
    for held in found.filters:
        if held.filterType == name:
            value = held.tickSize if name == "PRICE_FILTER" else held.stepSize
            return value if value is not None and is_decimal(value) else None
    return None


def _as_stream(symbol: str) -> Stream:
    return Stream(ALL, ALL, symbol, "contract", contiguous=False)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _seconds(text: str | None) -> int | None:
    """Retry-After in us where it is a number of seconds; bounded by the longest ban that the venue names."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return min(int(text) * SECOND, LONGEST_BAN)
