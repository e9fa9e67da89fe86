"""The merger for kinds that the venue does not number: what says the same of the same thing is a copy.

Pure. Marks, candles, forced orders, partial books and contract notices of two connections, or of a connection that is
made again, are told by their content. A candle that is told again with other values is a new revision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias

from collectors.holes import HANDOVER, IN_FLIGHT, RETIRED, Memory
from collectors.line import Line
from market.kinds import Event, Kline
from market.session import EVERY_SYMBOL, Gap, Resume
from market.times import MS


def _whole(event: Any) -> tuple[object, ...]:
    """A partial book's id, with the venue's time of one that streams: its numbering may begin anew."""
    if event.last_id is None:
        return (event.session, event.frame_no, event.item)
    return _asked(event.last_id) if event.source == "rest" else (event.last_id, event.ts_event)


def _asked(last_id: int) -> tuple[object, ...]:
    """One that was asked for: a venue may say the time of its answer (KuCoin)."""
    return (last_id, "rest")


IDENTITIES: dict[str, Callable[[Any], tuple[object, ...]]] = {
    "book_snapshot": _whole,
    "liquidation": lambda e: (e.seq,) if e.seq is not None else (e.ts_event, e.side, e.qty, e.price, e.avg_price),
    "mark_price": lambda e: (e.ts_event,),
    "kline": lambda e: (e.interval, e.open_time, e.source),
    "contract": lambda e: (e.uid, e.valid_from, e.ts_event, e.status),
    "funding_rate": lambda e: (e.ts_event,),
    "open_interest": lambda e: (e.period, e.ts_event, e.oi, e.oi_base, e.oi_quote),
}
"""Kind -> what identifies an event among those of its symbol."""


def _name(event: Any) -> tuple[object, ...]:
    """What a venue calls a trade, its place where it calls it nothing."""
    named = event.trade_id is not None or event.seq is not None
    return (event.trade_id, event.seq) if named else (event.session, event.frame_no, event.item)


NAMED: dict[str, Callable[[Any], tuple[object, ...]]] = {"trade": _name, "agg_trade": _name}
"""The same for kinds whose ids, where they do not follow each other by one, are names."""
BOOK_SNAPSHOT = "book_snapshot"
CANDLE, FORCED, MARK = "kline", "liquidation", "mark_price"
KEPT = 128, 160
"""Identities remembered a symbol, at least and at most: more than connections differ by, and little for thousands of
symbols. What is told again later is let through, and the table's key decides. (Of open interest the last of one time
counts: it is told by its value too, so that a correction passes.)"""
NAMES = 1_024, 2_048
"""Names of trades: what a venue repeats to who subscribes (Coinbase 1,000) and more; up to 130 kB a symbol."""
SHORT = 4
"""Bits that a hash is shortened by: then it is an int of 32 bytes, and not of 48."""
_Told: TypeAlias = tuple[int, int]
"""(revision, hash of what was said) of a candle: its texts would be 100 kB a symbol."""


def _candle(event: Kline) -> int:
    """What a candle says, as a hash."""
    said = (
        event.open, event.high, event.low, event.close, event.volume_base, event.volume_quote, event.trade_count,
        event.taker_buy_base, event.taker_buy_quote,
    )  # fmt: skip
    return hash(said)


def _no_closing_between(event: Event, ts: int, line: Line, gap: Gap) -> bool:
    """Whether a candle opened where the last one closed, or before the interruption where there was none.

    A candle is an event at its closing only: an interruption into which no closing fell lost nothing. (Where a symbol
    has candles of two intervals, one that opened just then speaks for both.) Another session that tells one of before
    the interruption, as Coinbase's whole of a hundred candles does, has told all since then.
    """
    if not isinstance(event, Kline):
        return False
    if ts <= gap.ts_from and event.session != gap.session:
        return True
    return event.open_time == line.ts + MS if line.ts else event.open_time <= gap.ts_from


class KeyedMerger(Memory):
    """Gaps are intervals: from an interruption to the next event that is new."""

    def __init__(self, exchange: str, market_type: str, kind_name: str, *, by_next: bool = False) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._identity = NAMED[kind_name] if kind_name in NAMED else IDENTITIES[kind_name]
        self._kept, self._most = NAMES if kind_name in NAMED else KEPT
        self.rare, self.by_next = kind_name == CANDLE, by_next
        self._told: dict[str, dict[int, _Told | None]] = {}
        """Symbol -> hashes of the newest identities in the order they came, of candles with what `_Told` says."""
        self._frame: tuple[str, int] = ("", 0)
        self._alike: Counter[int] = Counter()
        """How many orders of the frame in hand say the same."""
        self._lengths: dict[str, int] = {}
        """Symbol -> how long (us) its shortest candles are."""

    def merge(self, event: Event) -> bool:
        line = self._line(event.symbol)
        told = self._told.setdefault(event.symbol, {})
        key = self._key(event)
        known, ts = key in told, self._time(event)
        if event.source == "rest" and self.kind == BOOK_SNAPSHOT:
            line = Line(event.symbol)  # what was asked for is no part of a stream
        else:
            self._of_stream(line, event, ts, known=known)
        if known and not self._revised(event, told[key]):
            self.duplicates += 1
            return False
        self._remember(told, key, event)
        line.session = event.session
        line.ts = max(line.ts, ts)
        return True

    def _remember(self, told: dict[int, _Told | None], key: int, event: Event) -> None:
        told[key] = None
        if isinstance(event, Kline):
            told[key], length = (event.revision, _candle(event)), self._time(event) + MS - event.open_time
            self._lengths[event.symbol] = min(length, self._lengths.get(event.symbol, length))
        if len(told) > self._most:  # a dict that loses its oldest one by one is twice as large, and slower
            self._told[event.symbol] = dict(islice(told.items(), len(told) - self._kept, None))

    def _key(self, event: Event) -> int:
        """The hash of an event's identity. Forced orders of one frame that say the same are as many orders: the second
        one of the other connection's frame is a copy of the second one here.
        """
        key = hash(self._identity(event)) >> SHORT
        if self.kind != FORCED:
            return key
        place = (event.session, event.frame_no)
        if place != self._frame:
            self._frame, self._alike = place, Counter()
        self._alike[key] += 1
        return key if self._alike[key] == 1 else hash((key, self._alike[key])) >> SHORT

    def _of_stream(self, line: Line, event: Event, ts: int, *, known: bool) -> None:
        """An event proves that its session serves the stream."""
        follows = isinstance(event, Kline) and event.open_time == line.ts + MS
        if event.session in line.away:  # asked for anew: a row, and no proof of anything
            self._flows(self._lines.get(EVERY_SYMBOL), event, ts, known=known)
            return
        if event.session not in line.sessions:
            self._meet(line, event, ts, ts, joined=known or follows or not line.ts)
        if event.ts_event is None:
            # its time is that of its receipt, another one on each connection
            self._come(line, event, ts, ts, 0, IN_FLIGHT)
        else:
            self._come(line, event, ts, ts, 0 if follows else line.ts)
            if ts > line.came.get(event.session, 0):  # what comes late on its own connection shows nothing
                line.came[event.session] = ts
        for place in (line, self._lines.get(EVERY_SYMBOL)):
            self._flows(place, event, ts, known=known)

    def forget(self, symbols: Iterable[str], now: int, told: int = 0) -> list[Gap]:
        """See Memory. A candle that had ended by then and only the next would have told, nobody tells any more."""
        named = list(symbols)
        for symbol in named if self.by_next else ():
            line, length = self._lines.get(symbol), self._lengths.pop(symbol, 0)
            if line is None or not line.ts or (line.gap is not None and line.gap.cause != HANDOVER):
                continue
            if now > (since := max(line.ts, told)) + length:
                self._between(line, since, now, RETIRED, line.session, now)
        return super().forget(named, now, told)

    def follow(self, last: Mapping[str, Resume]) -> None:
        """See Memory. A venue says the newest mark again to who subscribes, it is told by its time; and the last book
        again to who asks, which is told by its id.
        """
        super().follow(last)
        if self.kind == MARK:
            self.stored({symbol: stop.ts_event for symbol, stop in last.items()})
        for symbol, stop in last.items() if self.kind == BOOK_SNAPSHOT else ():
            if stop.asked and stop.seq is not None:
                self._told.setdefault(symbol, {})[hash(_asked(stop.seq)) >> SHORT] = None

    def stored(self, times: Mapping[str, int]) -> None:
        """Symbol -> time (us) of a stored event, of a kind that is told by its time."""
        for symbol, time in times.items():
            self._told.setdefault(symbol, {})[hash((time,)) >> SHORT] = None

    def joined(self, session: str, symbol: str) -> bool:
        """See Memory: any symbol speaks for a stream of all."""
        if symbol != EVERY_SYMBOL:
            return super().joined(session, symbol)
        return any(session in line.joined for line in self._lines.values())

    @staticmethod
    def _revised(event: Event, told: _Told | None) -> bool:
        """Whether a thing that was told before is told differently, and so is the next revision of it."""
        if told is None or not isinstance(event, Kline) or _candle(event) == told[1]:
            return False
        event.revision = told[0] + 1
        return True

    def _flows(self, line: Line | None, event: Event, ts: int, *, known: bool) -> None:
        """An event ends the interruption of its symbol, and that of a stream of all symbols."""
        if line is None or line.gap is None or (known and event.session == line.gap.session):
            return
        self._resumed(line, event, ts, unbroken=known or _no_closing_between(event, ts, line, line.gap))
        line.session = event.session
        line.sessions.add(event.session)
