"""The past of a venue by ccxt, walked through since a time, oldest first. Pure.

Of such a venue it is not known whether it heeds `since`, how long its pages are and how far they reach, so that it is
asked to prove it: the first page has to tell a row from before the period, each page the last rows of the one before
it. What a page does not reach is asked for a step further on. No ids prove more: the guarantees are weaker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.asking import Failed
from collectors.adapters.pages import FINAL, SETTLED, Made, Pages, Route, Row, Unstable
from collectors.adapters.reading import EARLIEST, LAST, all_good
from collectors.ccxt import polls, tables, wire
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import FundingRate, Kline, OpenInterest, Trade
from market.numbers import is_decimal
from market.session import Polled, Stream
from market.times import DAY, HOUR, MINUTE, MS, SECOND

PAGE = 500
"""Rows that are asked for at once; most venues give as many."""
INTERVAL, PERIOD = "1m", "5m"
LONGEST_LEAD = 60 * DAY
"""How far before the period a row is looked for that proves where it begins."""
SIDES = ("buy", "sell")
METHODS = {
    "trade": tables.TRADES_PAST, "kline": tables.CANDLES_PAST, "funding_rate": tables.FUNDING,
    "open_interest": tables.INTEREST_PAST,
}  # fmt: skip
_NONE = Absent("there is none on spot")
_AGGREGATES = Absent("ccxt does not tell aggregated trades from others: ask for trade")
_CONTRACTS: Mapping[str, Offer | Absent] = {
    "trade": Offer(prompt=True, sized=True),
    "agg_trade": _AGGREGATES,
    "kline": Absent("ccxt does not say what the volumes of contracts' candles count: bars come from trade"),
    "funding_rate": Offer(width=90 * DAY, grain=SECOND),
    "open_interest": Offer(width=5 * DAY, grain=SECOND, same=False),
}
OFFERED: Mapping[str, Mapping[str, Offer | Absent]] = {
    "spot": {
        "trade": Offer(prompt=True), "agg_trade": _AGGREGATES, "kline": Offer(width=7 * DAY, grain=MINUTE),
        "funding_rate": _NONE, "open_interest": _NONE,
    },
    "linear": _CONTRACTS,
    "inverse": _CONTRACTS,
}  # fmt: skip
FIRST_LEAD = {"trade": MINUTE, "kline": 2 * MINUTE, "funding_rate": DAY, "open_interest": HOUR}
STEP = {"trade": HOUR, "kline": PAGE * MINUTE, "funding_rate": 30 * DAY, "open_interest": DAY}
"""How far a page is believed to have looked that has no row behind its border."""


class _Candle(msgspec.Struct, array_like=True):
    opened: wire.Millis
    open: wire.Text
    high: wire.Text
    low: wire.Text
    close: wire.Text
    volume: wire.Text


class _Interest(msgspec.Struct):
    timestamp: wire.Millis
    openInterestAmount: wire.Text  # noqa: N815 -- ccxt's spelling
    openInterestValue: wire.Text | None = None  # noqa: N815


_candle = msgspec.json.Decoder(_Candle).decode
_interest = msgspec.json.Decoder(_Interest).decode
Make = Callable[[msgspec.Raw, Made, int], Row]
"""One row of an answer, where it was received, its place there. Raises BAD_FRAME, Unstable, Failed."""


def offered(can: Callable[[str], bool]) -> Mapping[str, Mapping[str, Offer | Absent]]:
    """What a venue gives that has those of ccxt's methods."""
    return {
        market: {
            kind: Absent(f"that venue has no {METHODS[kind]} by ccxt")
            if isinstance(offer, Offer) and not can(METHODS[kind])
            else offer
            for kind, offer in kinds.items()
        }
        for market, kinds in OFFERED.items()
    }


def session(market_type: str, session_id: str, polled: Polled, base: str) -> Pages:
    """The session that fetches one symbol's rows of one kind over `polled.span`. Raises Malformed."""
    if polled.span is None or len(polled.symbols) != 1:
        raise Malformed("history (it is of one symbol and a period)", polled.symbols)
    kind, symbol = polled.kind, polled.symbols[0]
    offer = OFFERED[market_type].get(kind, Absent("ccxt has no method for it"))
    if isinstance(offer, Absent):
        raise Malformed(f"history by ccxt of {market_type} ({offer.why})", kind)
    method = METHODS[kind]
    frame = {"kline": {"timeframe": INTERVAL}, "open_interest": {"timeframe": PERIOD}}.get(kind, {})
    url = polls.address(base, method, symbol=symbol, limit=PAGE, **frame)
    makes: Mapping[str, Make] = {
        "kline": partial(_minute, symbol), "funding_rate": partial(_rate, symbol),
        "open_interest": partial(_open, symbol),
    }  # fmt: skip
    make = partial(_fill, symbol, _size(polled, market_type)) if kind == "trade" else makes[kind]
    stream = Stream(f"{method} {symbol}", method, symbol, kind, contiguous=False)
    route = Route(method, url, 0, 2**20, partial(_rows, make), polls.failure)
    return SincePages(session_id, stream, polled.span, route, FIRST_LEAD[kind], STEP[kind])


def _size(polled: Polled, market_type: str) -> str | None:
    """What one contract counts; None on spot. Raises Malformed."""
    if market_type == "spot":
        return None
    found = (one.contract_size for one in polled.known if one.symbol == polled.symbols[0])
    size = next(found, None)
    if size is None or not all_good(size):
        raise Malformed("contract whose size ccxt tells", polled.symbols[0])
    return size


class SincePages(Pages):
    """Pages since a time; rows of one time may be several. What is not final is given out, and asked for again once it
    is: no ids prove it before.
    """

    def __init__(
        self, session_id: str, stream: Stream, span: tuple[int, int], route: Route, lead: int, step: int
    ) -> None:
        super().__init__(session_id, stream, span, route)
        self._lead = lead
        self._step = step
        self._since = max(span[0] - lead, 0)
        self._proven = False
        """Whether a row from before the period has come: that `since` is heeded, and reaches so far."""
        self._border: list[Row] = []
        """The rows of the newest time."""
        self._stalls = 0
        """Pages in a row without anything new."""
        self._given: set[tuple[int, bytes]] = set()
        """Rows that were given out before they were final."""

    def _next(self) -> tuple[str, str, int]:
        millis = self._since // MS
        return f"since {millis}", f"{self._route.url}&since={millis}", 0

    def _joined(self, tag: str) -> bool:
        word, _, millis = tag.partition(" ")
        if word != "since" or not (millis.isascii() and millis.isdigit()) or len(millis) > 14:
            return False
        self._since, self._proven, self._border, self._stalls = int(millis) * MS, True, [], 0
        return True

    def _take(self, body: bytes, ts_recv: int) -> list[Row]:
        if ts_recv < self.end_at + SETTLED:
            raise Unstable("the period is not over yet")
        page = self._route.rows(body, Made(self.session_id, self.frame_no, ts_recv))
        rows = sorted((row for row in page if row.key >= self._since - self._since % MS), key=lambda row: row.key)
        if not self._proven and not self._proves(rows):
            return []
        known = {(row.key, row.said) for row in self._border}
        if known - {(row.key, row.said) for row in rows}:
            raise Unstable("a page without the last rows of the page before it")
        new = [row for row in rows if (row.key, row.said) not in known]
        if len({row.key for row in rows}) == 1 and len(rows) >= PAGE:
            raise Unstable("more rows of one moment than a page holds")
        return self._go_on(new, ts_recv)

    def _proves(self, rows: Sequence[Row]) -> bool:
        """Whether a page tells a row from before the period; else it is looked for further back, to a limit."""
        if rows and rows[0].at < self.start_at:
            self._proven = True
            return True
        if self._lead >= LONGEST_LEAD or self._since == 0:
            days = LONGEST_LEAD // DAY
            why = f"no row from the {days} days before it came: it cannot be told from one that gives its newest only"
            hint = "begin where it had traded already"
            raise Failed(Failure(f"the venue does not tell this period by ccxt ({why}; {hint})", refused=True))
        self._lead = min(self._lead * 8, LONGEST_LEAD)
        self._since = max(self.start_at - self._lead, 0)
        return False

    def _go_on(self, new: list[Row], ts_recv: int) -> list[Row]:
        if new:
            last = new[-1].key
            held = [*self._border, *new]
            self._border, self._since, self._stalls = [row for row in held if row.key == last], last, 0
            known = self.end_at if new[-1].at >= self.end_at else max(new[-1].at, self.start_at)
        else:
            # the next millisecond first: the venue may have had no room for more of this one
            self._since += MS if self._border else self._step
            self._border, self._stalls = [], self._stalls + 1
            known = max(min(self._since - MS, self.end_at), self.start_at)
            known = self.end_at if self._since >= self.end_at else known
        self.venue_time = max(self.venue_time, min(known, ts_recv - FINAL))
        found = [row for row in new if (row.key, row.said) not in self._given]
        if known >= self.end_at and self._early(ts_recv, self.end_at):
            self._since, self._border, self._stalls = self.venue_time, [], 0
        if ts_recv < self.end_at + FINAL:
            self._given |= {(row.key, row.said) for row in new}
        return found


def _rows(make: Make, body: bytes, made: Made) -> list[Row]:
    found = []
    for item, raw in enumerate(wire.answer(body).rows):
        row = make(wire.row(raw).parsed, made, item)
        if not EARLIEST - 4000 * DAY < row.at < LAST:
            raise Unstable("impossible time")
        found.append(row)
    return found


def _good(*texts: str) -> None:
    if not all_good(*texts):
        raise Unstable("not a decimal number")


def _fill(symbol: str, size: str | None, raw: msgspec.Raw, made: Made, item: int) -> Row:
    told = wire.trade(raw)
    if told.timestamp is None or told.price is None or told.amount is None:
        raise Unstable("a trade without time, price or quantity")
    _good(told.price, told.amount)
    if not told.id:
        why = "its trades have no ids by ccxt: those that come twice could not be told"
        raise Failed(Failure(why, refused=True))
    at, condition = told.timestamp * MS, "market" if float(told.price) > 0 and float(told.amount) > 0 else "void"
    event = Trade(
        symbol, tables.TRADES_PAST, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", told.price,
        told.amount, told.side if told.side in SIDES else None, None, condition, told.id,
        *((None, None) if size is None else ("contract", size)),
    )  # fmt: skip
    return Row(at, at, bytes(raw), event)


def _minute(symbol: str, raw: msgspec.Raw, made: Made, item: int) -> Row:
    told = _candle(raw)
    texts = (told.open, told.high, told.low, told.close, told.volume)
    _good(*texts)
    opened = told.opened * MS
    if opened % MINUTE:
        raise Unstable("a candle that is not of one minute")
    closes = opened + MINUTE - MS
    event = Kline(
        symbol, f"{tables.CANDLES_PAST}:{INTERVAL}", closes, None, made.ts_recv, made.session, made.frame_no, item,
        "rest", INTERVAL, opened, *texts, None, None, None, None,
    )  # fmt: skip
    return Row(opened, closes, bytes(raw), event)


def _rate(symbol: str, raw: msgspec.Raw, made: Made, item: int) -> Row:
    told = wire.funding(raw)
    if not is_decimal(told.fundingRate):
        raise Unstable("no rate")
    said = told.timestamp * MS
    at = (said + SECOND // 2) // SECOND * SECOND  # some ms off the hour
    event = FundingRate(
        symbol, tables.FUNDING, at, None, made.ts_recv, made.session, made.frame_no, item, "rest", told.fundingRate,
        "ratio", None, None,
    )  # fmt: skip
    return Row(said, at, bytes(raw), event)


def _open(symbol: str, raw: msgspec.Raw, made: Made, item: int) -> Row:
    told = _interest(raw)
    _good(told.openInterestAmount)
    at = told.timestamp * MS
    event = OpenInterest(
        symbol, tables.INTEREST_PAST, at, None, made.ts_recv, made.session, made.frame_no, item, "rest",
        oi=told.openInterestAmount, oi_unit="contract", sides=1, period=PERIOD,
    )  # fmt: skip
    return Row(at, at, bytes(raw), event)
