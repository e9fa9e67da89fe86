"""What all venues trade: each base has one price, which they all follow, each by its own quotes.

A seed gives the whole of it: prices are a function of the time since the start. Nobody trades here; a venue's book
begins at the price with a small difference of its own, and its quotes are drawn to where the price has gone.
"""

from __future__ import annotations

import math
import random

from market.times import DAY, HOUR, MINUTE

PERIODS = ((5 * MINUTE, 3e-4), (HOUR, 2e-3), (DAY, 2e-2))
"""us, and the part of the price, by which it goes up and down."""
TOGETHER = 0.6
"""Of that so much is the whole market's; the rest is each base's own."""
EVERY = 100_000
"""us: how often it moves."""
UNIT = 10**9
BASIS = 3e-4
"""How far apart two venues may begin."""


class Course:
    """The way of one base: how its price stands to that of the start."""

    def __init__(self, seed: object, base: str) -> None:
        self._waves = [
            (share * size, period, random.Random(f"{seed}/{whose}/{period}").uniform(0, math.tau))
            for share, whose in ((TOGETHER, "market"), (1 - TOGETHER, base))
            for period, size in PERIODS
        ]
        self._began = sum(size * math.sin(phase) for size, _, phase in self._waves)
        self._until, self._value = 0, UNIT

    def at(self, elapsed: int) -> int:
        """The price `elapsed` us after the start, the first being UNIT. Times do not have to rise."""
        if not self._until - EVERY <= elapsed < self._until:
            step = elapsed // EVERY
            time, self._until = step * EVERY, (step + 1) * EVERY
            now, turn = 0.0, math.tau * time
            for size, period, phase in self._waves:
                now += size * math.sin(turn / period + phase)
            self._value = round(UNIT * (1 + now - self._began))
        return self._value


class Reality:
    """All bases of a seed."""

    def __init__(self, seed: object) -> None:
        self._seed = seed
        self._courses: dict[str, Course] = {}

    def first(self, base: str, known: float | None) -> float:
        """The price at the start: about the known one, else one that is drawn."""
        chance = random.Random(f"{self._seed}/{base}")
        drawn: float = 10 ** chance.uniform(-1.5, 2.5)
        return (drawn if known is None else known) * chance.uniform(0.97, 1.03)

    def course(self, base: str) -> Course:
        """How it goes on."""
        if base not in self._courses:
            self._courses[base] = Course(self._seed, base)
        return self._courses[base]
