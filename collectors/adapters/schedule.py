"""When each of many things is asked again: spread evenly over the interval, and patiently after a failure. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from collectors.adapters.answers import FIRST_PAUSE, REFUSED_PAUSE, Failure, longer
from market.times import SECOND

FIRST_SPACING = 5 * SECOND // 4
"""Between the first requests of a long interval: what comes first need not wait for its place in the interval."""
TOGETHER = 2
"""So many that fail while none has an answer are no matter of one symbol: all wait, and one at a time tries again."""
AT_ONCE = 4
"""Requests without an answer, at most: what is late after a pause does not come as a burst."""


class Place(msgspec.Struct):
    """One thing's place in the schedule; times in us. `at` is None while it is asked and not answered yet."""

    phase: int
    at: int | None
    asked: int = 0
    pause: int = FIRST_PAUSE


class Schedule:
    """Names that are asked for every `every` us, each at its own phase of the interval; never, where that is 0."""

    def __init__(self, names: Iterable[str], every: int) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._every = every
        self._start = 0
        self._places: dict[str, Place] = {}
        self._refused: set[str] = set()
        self._pause = FIRST_PAUSE
        self._failing: set[str] = set()
        """Those that failed since the last answer with data."""
        self._quiet_until = 0

    def begin(self, now: int) -> None:
        """The first request of each: in its place, but soon."""
        if not self._every:
            return
        self._start = now
        for number, name in enumerate(self._names):
            phase = self._every * number // len(self._names)
            self._places[name] = Place(phase, now + min(phase, FIRST_SPACING * number))

    def due(self, now: int) -> list[str]:
        """What is to be asked now; it counts as asked."""
        if now < self._quiet_until:
            return []
        late = [(place.at, name) for name, place in self._places.items() if place.at is not None and now >= place.at]
        found = [name for _, name in sorted(late)[: self._free()]]
        for name in found:
            self._places[name].at, self._places[name].asked = None, now
        return found

    def deadline(self) -> int | None:
        """When `due` has something; None while nothing may be asked before an answer comes."""
        if self._free() <= 0:
            return None
        first = min((place.at for place in self._places.values() if place.at is not None), default=None)
        return None if first is None else max(first, self._quiet_until)

    def answered(self, name: str, now: int, *, again: bool = False) -> None:
        """Data came; `again` where there is more of it at once."""
        self._failing.clear()
        self._pause = FIRST_PAUSE
        self._refused.discard(name)
        place = self._places.get(name)
        if place is not None:
            place.pause = FIRST_PAUSE
            place.at = now if again else self._next(place, now)

    def refused(self, name: str, now: int) -> bool:
        """The venue knows no such thing; whether that is news."""
        news = name not in self._refused
        self._refused.add(name)
        place = self._places.get(name)
        if place is not None:
            place.at = now + max(self._every, REFUSED_PAUSE)
        return news

    def failed(self, name: str, failure: Failure, now: int) -> None:
        """No data came: this waits, and where it is not alone, or the venue asked for silence, everything does."""
        self._failing.add(name)
        if failure.limited or len(self._failing) >= TOGETHER:
            self._quiet_until = max(self._quiet_until, now + max(failure.pause or 0, self._pause))
            self._pause = longer(self._pause)
        place = self._places.get(name)
        if place is not None:
            place.at, place.pause = now + place.pause, longer(place.pause)

    def _free(self) -> int:
        """How many more may be asked."""
        asked = sum(place.at is None for place in self._places.values())
        return (1 if len(self._failing) >= TOGETHER else AT_ONCE) - asked

    def _next(self, place: Place, now: int) -> int:
        """The next time of its phase, at least half an interval after it was asked."""
        since = max(place.asked + self._every // 2, now) - self._start - place.phase
        return self._start + place.phase + -(-since // self._every) * self._every
