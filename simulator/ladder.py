"""The levels of one book: the best are the quote's, deeper ones come and go with every quote, takers eat the best."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

import msgspec

FIRST = 100
FEWEST, MOST = 60, 200
"""Levels a side at the start, and between which numbers it is kept."""
REACH = 63
"""Ticks from the best within which levels change."""
Text = Callable[[int], str]


class Side:
    """One side: prices ascending in ticks, and each level's JSON text."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        """1 for bids, -1 for asks: a change is told as sign x ticks."""
        self.ticks: list[int] = []
        self.text: dict[int, str] = {}

    def top(self) -> tuple[str, str]:
        """Price and quantity of the best level."""
        _, price, _, qty, _ = self.text[self.ticks[-1 if self.sign > 0 else 0]].split('"')
        return price, qty

    def best(self, count: int) -> str:
        """The best `count` levels as a JSON list, best first."""
        ticks, text = self.ticks, self.text
        chosen = ticks[: -count - 1 : -1] if self.sign > 0 else ticks[:count]
        return "[" + ",".join([text[one] for one in chosen]) + "]"


class Window(msgspec.Struct):
    """What changed since the last event of a stream."""

    last_id: int
    first_id: int = 0
    """Id of the first change inside; 0 where there is none."""
    touched: dict[int, None] = {}


class Ladder:
    """Bids and asks. The levels' best are always the quote's prices and quantities at the same update id."""

    def __init__(self, price: Text, qty: Text, bid: int, ask: int, seed: str, update_id: int) -> None:
        self.bids, self.asks = Side(1), Side(-1)
        self.update_id = update_id
        self.ts = 0
        self._price, self._qty = price, qty
        self._windows: list[Window] = []
        self._touched: list[int] = []
        chance = random.Random(seed)
        for side, best in ((self.bids, bid), (self.asks, ask)):
            for distance in range(FIRST):
                ticks = best - side.sign * distance
                self._put(side, ticks, self._text(ticks, 1 + chance.getrandbits(12)))
        self._touched.clear()

    def window(self) -> Window:
        """A new window, told of all changes from now on."""
        window = Window(self.update_id)
        self._windows.append(window)
        return window

    def move(self, bid: int, bid_text: str, ask: int, ask_text: str, bits: int, update_id: int, ts: int) -> None:
        """A quote: the best levels become these; one deeper level changes or goes."""
        bids, asks = self.bids, self.asks
        while bids.ticks and bids.ticks[-1] > bid:
            self._cut(bids, -1)
        while asks.ticks and asks.ticks[0] < ask:
            self._cut(asks, 0)
        self._put(bids, bid, bid_text)
        self._put(asks, ask, ask_text)
        side, best = (bids, bid) if bits & 1 else (asks, ask)
        ticks = best - side.sign * (1 + (bits >> 1) % REACH)
        if ticks in side.text and bits >> 8 & 3 == 0 and len(side.ticks) > FEWEST:
            self._cut(side, bisect_left(side.ticks, ticks))
        else:
            self._put(side, ticks, self._text(ticks, 1 + (bits >> 10) % 4999))
        self._keep(bids)
        self._keep(asks)
        self._tell(update_id, ts)

    def take(self, side: Side, left: int, update_id: int, ts: int) -> None:
        """A taker has left so many lots at the best price; where that is nothing, the next price is the best. The last
        level of all is filled up.
        """
        index = -1 if side.sign > 0 else 0
        if left or len(side.ticks) == 1:
            self._put(side, side.ticks[index], self._text(side.ticks[index], left or 1))
        else:
            self._cut(side, index)
            self._keep(side)
        self._tell(update_id, ts)

    def _tell(self, update_id: int, ts: int) -> None:
        self.update_id, self.ts = update_id, ts
        for window in self._windows:
            window.touched.update(dict.fromkeys(self._touched))
            window.first_id = window.first_id or update_id
        self._touched.clear()

    def changes(self, touched: Iterable[int]) -> tuple[str, str]:
        """JSON lists of the touched bids and asks as they are now; quantity 0 where they are gone."""
        told: tuple[list[str], list[str]] = ([], [])
        for key in touched:
            side, out = (self.bids, told[0]) if key > 0 else (self.asks, told[1])
            out.append(side.text.get(abs(key)) or self._text(abs(key), 0))
        return f"[{','.join(told[0])}]", f"[{','.join(told[1])}]"

    def _keep(self, side: Side) -> None:
        """Not too few and not too many: levels far from the best come and go."""
        worst = 0 if side.sign > 0 else -1
        if len(side.ticks) > MOST:
            self._cut(side, worst)
        elif len(side.ticks) < FEWEST and (ticks := side.ticks[worst] - side.sign) > 0:
            self._put(side, ticks, self._text(ticks, 1 + ticks % 997))

    def _put(self, side: Side, ticks: int, text: str) -> None:
        if ticks not in side.text:
            insort(side.ticks, ticks)
        side.text[ticks] = text
        self._touched.append(side.sign * ticks)

    def _cut(self, side: Side, index: int) -> None:
        ticks = side.ticks.pop(index)
        del side.text[ticks]
        self._touched.append(side.sign * ticks)

    def _text(self, ticks: int, lots: int) -> str:
        return f'["{self._price(ticks)}","{self._qty(lots)}"]'
