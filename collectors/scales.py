"""Whether a symbol's prices and quantities still are on the scale that they were on. Pure.

The rule. A price is off where it is FAR times the median of the symbol's last prices, or that part of it: PRICES such
prices in a row are a change of scale. Quantities differ much among themselves: there the median of as many as are kept
is held against the median of those before them, and has to be WIDE times that. Where the venue's contract in force is
known, a quote's price that is no multiple of its tick, and a quantity that is no multiple of its lot, count too: UNFIT
of them in a row are a change of unit, as when contracts become base units, or the tick of the contract is not true.
What is off never joins what it is held against.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from statistics import median

from market.kinds import Contract, Event, Quote, Trade
from market.shapes import Difference

FAR, WIDE = 50.0, 1000.0
PRICES, KEPT, UNFIT = 3, 15, 5
MOST_SYMBOLS = 2000
"""Symbols of a market that are watched; the others are not."""
ORDINARY = "market"
"""Condition of trades whose price and quantity follow the contract's steps."""


class Scale:
    """One symbol of one kind."""

    def __init__(self) -> None:
        self._prices: deque[float] = deque(maxlen=KEPT)
        self._off: list[float] = []
        self._before: list[float] = []
        self._quantities: list[float] = []
        self._unfit = {"price": 0, "qty": 0}

    def look(self, price: str, qty: str, tick: str | None, lot: str | None) -> list[Difference]:
        """One more pair, and the steps that they have to be multiples of."""
        found = [self._price(float(price)), self._quantity(float(qty))]
        found += [self._step(*one) for one in (("price", price, tick), ("qty", qty, lot))]
        return [one for one in found if one is not None]

    def _price(self, value: float) -> Difference | None:
        if value <= 0:
            return None
        if len(self._prices) < PRICES:
            self._prices.append(value)
            return None
        ratio = value / median(self._prices)
        if 1 / FAR < ratio < FAR:
            self._prices.append(value)
            self._off.clear()
            return None
        self._off.append(ratio)
        if len(self._off) < PRICES:
            return None
        times, self._off = median(self._off), []
        return Difference("unit", "price", f"{times:.4g} times what it was")

    def _quantity(self, value: float) -> Difference | None:
        if value <= 0:
            return None
        self._quantities.append(value)
        if len(self._quantities) < KEPT:
            return None
        now, self._quantities = self._quantities, []
        if not self._before or 1 / WIDE < (times := median(now) / median(self._before)) < WIDE:
            self._before = now
            return None
        return Difference("unit", "qty", f"{times:.4g} times what it was")

    def _step(self, name: str, text: str, step: str | None) -> Difference | None:
        if step is None or fits(text, step):
            self._unfit[name] = 0
            return None
        self._unfit[name] += 1
        if self._unfit[name] < UNFIT:
            return None
        self._unfit[name] = 0
        return Difference("unit", name, f"no multiple of {step}, as {text}")


class Scales:
    """All symbols of one market."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Scale] = {}

    def look(self, events: Iterable[Event], contracts: Mapping[str, Contract]) -> list[Difference]:
        """Trades and quotes that came; other events have no price and quantity of this sort."""
        found: list[Difference] = []
        for event in events:
            contract = contracts.get(event.symbol)
            tick, lot = (contract.tick, contract.lot) if contract is not None else (None, None)
            if isinstance(event, Trade) and event.condition == ORDINARY:
                found += self._of(type(event).__name__, event.symbol).look(event.price, event.qty, None, lot)
            elif isinstance(event, Quote) and event.bid and event.bid_qty:
                found += self._of("Quote", event.symbol).look(event.bid, event.bid_qty, tick, lot)
        return found

    def _of(self, kind: str, symbol: str) -> Scale:
        key = (kind, symbol)
        if key not in self._held and len(self._held) >= MOST_SYMBOLS:
            return Scale()
        return self._held.setdefault(key, Scale())


def fits(text: str, step: str) -> bool:
    """Whether a number is a whole multiple of a step; what is no number or no step fits."""
    try:
        return not Decimal(step) or not Decimal(text) % Decimal(step)
    except InvalidOperation:
        return True
