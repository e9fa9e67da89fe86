"""Binance instruments: exchangeInfo of each market as contract events, refetched at an interval. Pure.

A session that only fetches: it asks at `start`, again after a pause where the answer was no data (HTML with status
200, 429, 5xx, truncated), and `every` so often. A symbol that the list lacks is asked for by name where the venue
takes a name, since spot hides some; else a second list has to lack it too. One that was known and is gone is a row
with status DELISTED. Whether a row says anything new is the merger's to tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.answers import FIRST_PAUSE, header, longer
from collectors.exchanges.binance import answers, wire
from collectors.exchanges.binance.answers import INVALID_SYMBOL
from collectors.exchanges.binance.futures import PERPETUAL_DELIVERY, contract_uid
from market import instruments
from market.kinds import Contract
from market.numbers import is_decimal
from market.session import Fetch, Output, Refused, Rejected, Stream, StreamState
from market.times import MINUTE

ALL = "exchangeInfo"
DELISTED = "DELISTED"
"""Status of a listing that the venue does not name any more; the venue's own words are all others."""
CONFIRM = MINUTE
"""From a list that lacks a known symbol to the one that has to lack it too."""
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

    def wrong(self, market_type: str) -> str | None:
        """Why it cannot be a row."""
        if not self.symbol:
            return "no symbol"
        if self.state is None or not self.sized(market_type):
            return "no status or contract size"
        return "impossible time" if wire.to_us(self.onboardDate or 0) >= wire.LAST else None


class _Name(msgspec.Struct):
    symbol: str


_name = msgspec.json.Decoder(_Name).decode
_answer = msgspec.json.Decoder(_Answer).decode
_instrument = msgspec.json.Decoder(_Instrument).decode


class ReferenceSession:
    """`market.session.Session` that asks for the instruments `symbols` (all, where empty), again `every` us.

    `known` are those that were met in earlier sessions: what is gone of them is said. `by_name`: the route takes a
    symbol. `every` 0 asks until it has an answer, as a replay does.
    """

    def __init__(
        self,
        market_type: str,
        session_id: str,
        symbols: Sequence[str],
        fetch: Fetch,
        *,
        every: int = 0,
        known: Iterable[Contract] = (),
        by_name: bool = False,
    ) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.ignored: Counter[str] = Counter()
        self._market_type = market_type
        self._wanted = dict.fromkeys(symbols)
        self._fetch_all = fetch
        self._every = every
        self._by_name = by_name
        self._known: dict[str, Contract] = {}
        """Symbol -> what was last said of it, of those wanted."""
        self._doubted: set[str] = set()
        """Known symbols that the last list lacked."""
        self._refused: set[str] = set()
        self._at: dict[str, int] = {}
        """Tag -> when to ask."""
        self._asked: set[str] = set()
        self._pause = FIRST_PAUSE
        for contract in known:
            self.know(contract)

    def know(self, contract: Contract) -> None:
        """What is known of an instrument (`market.session.Informed`)."""
        if not self._wanted or contract.symbol in self._wanted:
            self._known[contract.symbol] = contract

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
        if tag != ALL and self._wanted and tag not in self._wanted:
            return (Rejected("an answer to nothing that was asked", self.frame_no, ALL),)
        self._asked.discard(tag)
        self._at.pop(tag, None)
        if status != 200:
            return self._failed(tag, status, headers, body, ts_recv)
        try:
            answer = _answer(body)
        except wire.BAD_FRAME as error:
            kind = header(headers, "content-type") or "no content type"
            return self._retry(tag, f"status 200 without instruments ({kind}): {wire.why(error)}", ts_recv)
        if not answer.symbols:
            return self._retry(tag, "status 200 with an empty list of instruments", ts_recv)
        self._pause = FIRST_PAUSE
        out, found = self._contracts(answer, ts_recv)
        if tag == ALL:
            if self._every:
                self._at[ALL] = ts_recv + self._every
            out += self._look_for_the_rest(found, len(answer.symbols), ts_recv)
        elif tag not in found:
            out += self._gone([tag], len(answer.symbols), ts_recv)
        return out

    def tick(self, now: int) -> Sequence[Output]:
        due = [tag for tag, at in self._at.items() if now >= at]
        for tag in due:
            del self._at[tag]
        return [self._fetch(tag) for tag in due]

    def next_deadline(self) -> int | None:
        return min(self._at.values(), default=None)

    def streams(self) -> Iterable[StreamState]:
        return ()

    @property
    def done(self) -> bool:
        """Whether nothing is asked and nothing will be."""
        return not self._asked and not self._at

    def _fetch(self, tag: str) -> Fetch:
        self._asked.add(tag)
        asked = self._fetch_all
        url = asked.url if tag == ALL else f"{asked.url}?symbol={quote(tag, safe='')}"
        return Fetch(tag, asked.method, url, asked.weight)

    def _failed(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, now: int) -> Sequence[Output]:
        failed = answers.failure(status, headers, body)
        if failed.code == INVALID_SYMBOL and tag != ALL:
            return self._gone([tag], 0, now, failed.reason) or self._ignore("symbols that the venue does not know")
        return self._retry(tag, failed.reason, now, failed.pause)

    def _ignore(self, what: str) -> Sequence[Output]:
        self.ignored[what] += 1
        return ()

    def _retry(self, tag: str, reason: str, now: int, pause: int | None = None) -> Sequence[Output]:
        """Not data: ask again later, more and more patiently, or when the venue said."""
        self._at[tag] = now + max(pause or 0, self._pause)
        self._pause = longer(self._pause)
        return (Rejected(reason[:300], self.frame_no, ALL),)

    def _look_for_the_rest(self, found: set[str], item: int, now: int) -> list[Output]:
        """What is wanted or known and not in the list: asked for by name, or to be missed a second time."""
        missing = [symbol for symbol in {**self._wanted, **self._known} if symbol not in found]
        if self._by_name:
            return [*map(self._fetch, missing[:SINGLE_LOOKUPS]), *self._refuse(missing[SINGLE_LOOKUPS:])]
        there = {symbol for symbol in missing if symbol in self._known and self._known[symbol].status != DELISTED}
        gone = [symbol for symbol in missing if symbol not in there or symbol in self._doubted]
        self._doubted = there - self._doubted
        if self._doubted and self._every:
            self._at[ALL] = min(self._at[ALL], now + CONFIRM)
        return self._gone(gone, item, now)

    def _gone(self, symbols: Iterable[str], item: int, now: int, reason: str = "") -> list[Output]:
        """A row for each that was known until now; a word on each that never was, once."""
        out: list[Output] = []
        for symbol in symbols:
            held = self._known.get(symbol)
            if held is None:
                out += self._refuse([symbol], reason)
            elif held.status != DELISTED:
                time = self.venue_time or now
                self._known[symbol] = gone = msgspec.structs.replace(
                    held, stream=ALL, ts_event=time, ts_publish=None, ts_recv=now, session=self.session_id,
                    frame_no=self.frame_no, item=item + len(out), source="rest", status=DELISTED, known_from=now,
                )  # fmt: skip
                out.append(gone)
        return out

    def _refuse(self, symbols: Iterable[str], reason: str = "") -> list[Output]:
        fresh = [symbol for symbol in symbols if symbol not in self._refused]
        self._refused.update(fresh)
        streams = tuple(Stream(ALL, ALL, symbol, "contract", contiguous=False) for symbol in fresh)
        return [Refused(streams, reason or "not in the venue's list of instruments")] if streams else []

    def _contracts(self, answer: _Answer, ts_recv: int) -> tuple[list[Output], set[str]]:
        """The wanted instruments of an answer, and the names of all in it."""
        time = wire.to_us(answer.serverTime) if answer.serverTime is not None else ts_recv
        if not -wire.FUTURE <= ts_recv - time <= wire.PAST:
            time = ts_recv
        self.venue_time = max(self.venue_time, time)
        out: list[Output] = []
        names: set[str] = set()
        for item, raw in enumerate(answer.symbols):
            try:
                found = _instrument(raw)
            except wire.BAD_FRAME as error:
                out.append(Rejected(f"instrument: {wire.why(error)}", self.frame_no, ALL))
                names |= self._named(raw)
                continue
            names.add(found.symbol)
            if (wrong := found.wrong(self._market_type)) is not None:
                out.append(Rejected(f"instrument: {wrong}", self.frame_no, ALL))
                continue
            if not self._wanted or found.symbol in self._wanted:
                self._known[found.symbol] = contract = self._contract(found, time, ts_recv, item)
                self._refused.discard(found.symbol)
                out.append(contract)
        return out, names

    def _named(self, raw: msgspec.Raw) -> set[str]:
        """Whom an instrument that cannot be read is about: nothing is gone of which the list may have spoken."""
        try:
            return {_name(raw).symbol}
        except wire.BAD_FRAME:
            return {*self._wanted, *self._known}

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
