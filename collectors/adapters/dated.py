"""Parsers of one channel by date: what a venue changed on a day is read by the rules of either side of it. Pure.

Which of them reads a frame follows from its receive time alone, so that a recording of any day is read as it was meant
and as the live connection of that day read it. Old and new are two parsers, never branches of one. A channel whose
changes are all past costs nothing a frame: its parser is chosen when a connection meets it.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from market.times import DAY, day_start

P = TypeVar("P")
R = TypeVar("R", bound=Callable[..., Any])


class Dated(Generic[P]):
    """The parser that holds from ever on, and each later one with the date (YYYY-MM-DD) from whose 00:00 UTC it does.

    Raises ValueError where dates do not rise.
    """

    def __init__(self, first: P, *later: tuple[str, P]) -> None:
        self.dates = tuple(date for date, _ in later)
        self.held = (first, *(parser for _, parser in later))
        self._starts = [day_start(dt.date.fromisoformat(date)) for date in self.dates]
        if not later or self._starts != sorted(set(self._starts)):
            raise ValueError(f"dates of parsers have to rise, there are {self.dates}")

    def place(self, time: int) -> int:
        """Which of `held` reads what was received at `time` (us)."""
        return bisect_right(self._starts, time)

    def settled(self, time: int) -> bool:
        """Whether none of its dates comes after `time` (us)."""
        return time >= self._starts[-1]


class Collected(Protocol):
    """A channel that is collected."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...


def reader(makers: Callable[..., R] | Dated[Callable[..., R]], now: int, *told: object) -> R:
    """What reads the frames of a stream from `now` (us) on, made by a maker that is `told` whose they are.

    See `chosen`.
    """
    if not isinstance(makers, Dated):
        return makers(*told)
    return _read(makers, now, lambda place: makers.held[place](*told))


def chosen(readers: R | Dated[R], now: int) -> R:
    """What reads frames from `now` (us) on. Its last arguments are the frame's receive time and its number.

    Where a date may still come, each frame is held against it; so it is for a day behind the last date, since our clock
    may be set back.
    """
    if not isinstance(readers, Dated):
        return readers
    return _read(readers, now, readers.held.__getitem__)


def _read(dated: Dated[Any], now: int, make: Callable[[int], R]) -> R:
    """`make` is given the place of a parser."""
    if dated.settled(now - DAY):
        return make(dated.place(now))
    made: dict[int, R] = {}

    def read(*given: Any) -> Any:
        place = dated.place(given[-2])
        parse = made.get(place)
        if parse is None:
            parse = made[place] = make(place)
        return parse(*given)

    return cast("R", read)


def registered(
    channels: Mapping[str, Mapping[str, Collected]], parser: Callable[[str, Any], object]
) -> Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]:
    """An adapter's `PARSERS` (`market.session.Exchange`).

    `channels` is market -> name -> channel, `parser` what reads a channel of a market.
    """
    found: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}
    for market, held in channels.items():
        kinds = found.setdefault(market, {})
        for channel in held.values():
            read = parser(market, channel)
            if isinstance(read, Dated):
                kinds.setdefault(channel.kind, {})[channel.name] = read.dates
    return found


def in_force(dates: Mapping[str, Iterable[str]], date: str) -> str:
    """Which parsers of some channels (name -> their dates) read what was received on a date; "" without any."""
    said = []
    for name, later in sorted(dates.items()):
        held = [one for one in later if one <= date]
        said.append(f"{name} from {held[-1]}" if held else f"{name} before {min(later)}")
    return ", ".join(said)
