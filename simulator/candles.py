"""The venue's own candles, added up in integers from its own market trades."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from market.times import DAY, HOUR, MINUTE, SECOND, date_of, day_start, floor_to

KEPT, SHORTEST = 3000, 300
WEEK = 7 * DAY
MONDAY = 4 * DAY
"""1970-01-05, from which weeks are counted."""
INTERVALS: dict[str, int] = {
    "1s": SECOND,
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": WEEK,
    "1M": 0,
}
"""Width in us; the month has none."""


class Candle(msgspec.Struct):
    """One candle: prices in ticks, volumes in lots, quote volumes in what `Candles.amount` says, times in us."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    base: int = 0
    quote: int = 0
    count: int = 0
    taker_base: int = 0
    taker_quote: int = 0
    first_id: int = 0
    last_id: int = 0

    def add(self, ticks: int, lots: int, amount: int, maker: bool) -> None:
        """Take in one trade, later than all before."""
        self.high = max(self.high, ticks)
        self.low = min(self.low, ticks)
        self.close = ticks
        self.base += lots
        self.quote += amount
        self.count += 1
        if not maker:
            self.taker_base += lots
            self.taker_quote += amount

    def join(self, later: Candle) -> None:
        """Take in a later candle."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.base += later.base
        self.quote += later.quote
        self.count += later.count
        self.taker_base += later.taker_base
        self.taker_quote += later.taker_quote
        self.last_id = later.last_id


def open_of(time: int, interval: str) -> int:
    """Open time (us) of the candle of `interval` that holds `time`."""
    if interval == "1M":
        return day_start(date_of(time).replace(day=1))
    if interval == "1w":
        return floor_to(time - MONDAY, WEEK) + MONDAY
    return floor_to(time, INTERVALS[interval])


def next_open(open_time: int, interval: str) -> int:
    """Open time (us) of the candle after the one that opens at `open_time`."""
    if interval == "1M":
        day = date_of(open_time)
        return day_start(dt.date(day.year + day.month // 12, day.month % 12 + 1, 1))
    return open_time + INTERVALS[interval]


class Candles:
    """Seconds and minutes of one symbol, the newest `kept` of each; longer intervals are folded on request.

    `worth` is what a lot is worth at a price of one tick, where contracts are counted: quote volumes are then in base
    units of 10^-8, each trade's rounded down. 0 elsewhere.
    """

    def __init__(self, worth: int = 0, kept: int = KEPT) -> None:
        self._worth = worth
        self._kept = kept
        self._held: dict[str, OrderedDict[int, Candle]] = {"1s": OrderedDict(), "1m": OrderedDict()}

    def amount(self, ticks: int, lots: int) -> int:
        """What a trade adds to the quote volume."""
        return self._worth * lots // ticks if self._worth else ticks * lots

    def add(self, time: int, ticks: int, lots: int, trade_id: int, maker: bool) -> None:
        """Take in one market trade; `time` in us."""
        amount = self.amount(ticks, lots)
        for interval, held in self._held.items():
            start = time - time % INTERVALS[interval]
            candle = held.get(start)
            if candle is None:
                candle = held[start] = Candle(start, ticks, ticks, ticks, ticks, first_id=trade_id)
                if len(held) > self._kept:
                    held.popitem(last=False)
            candle.add(ticks, lots, amount, maker)
            candle.last_id = trade_id

    def read(self, interval: str) -> list[Candle]:
        """Candles of `interval`, ascending, the last one unfinished; intervals without a trade have none."""
        if interval in self._held:
            return list(self._held[interval].values())
        return self._folded(interval, self._held["1m"].values())

    def since(self, interval: str, start: int) -> list[Candle]:
        """Candles that open at `start` (an open time of `interval`) or later, ascending."""
        held = self._held.get(interval, self._held["1m"])
        newest: list[Candle] = []
        for candle in reversed(held.values()):
            if candle.open_time < start:
                break
            newest.append(candle)
        newest.reverse()
        return newest if interval in self._held else self._folded(interval, newest)

    def _folded(self, interval: str, minutes: Iterable[Candle]) -> list[Candle]:
        folded: dict[int, Candle] = {}
        for minute in minutes:
            start = open_of(minute.open_time, interval)
            if start in folded:
                folded[start].join(minute)
            else:
                folded[start] = msgspec.structs.replace(minute, open_time=start)
        return list(folded.values())
