"""What a reader asks, as plain values made exact: times, symbols, intervals of bars, and states.

Pure. Times are int us since 1970 (UTC), ISO text, date or datetime; `start` is included, `end` is not.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar, get_args

import msgspec

from lake import bars
from lake.errors import WrongQuestion
from lake.reading import EVER, MinState, Wanted
from market import times
from market.errors import Malformed
from market.kinds import kind
from market.times import DAY, HOUR, MINUTE, SECOND, Interval

Time: TypeAlias = int | str | dt.datetime | dt.date
Symbols: TypeAlias = str | Sequence[str] | None
Duration: TypeAlias = int | str | dt.timedelta
"""us, `15m`, or a timedelta."""
T = TypeVar("T")
WEEK = 7 * DAY
MONDAY = 4 * DAY
"""1970-01-05: weeks begin on Mondays, as the venues' do."""
LONGEST = 366 * DAY
"""The widest bar."""
FIRST, LAST = times.day_start(dt.date.min), times.day_start(dt.date.max) + DAY
"""Times that a calendar has; others are no microseconds of anybody's data."""
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_SPAN = re.compile(r"(-?[0-9]{1,9})([smhdw])", re.ASCII)
_BAR = re.compile(r"bar_([1-9][0-9]{0,5})([smhd])")


class BarKind(msgspec.Struct, frozen=True):
    """A bar of any width (us), the stored kind that it is folded from, and where one window begins (us, < width)."""

    stored: str
    width: int
    origin: int = 0

    @property
    def folded(self) -> bool:
        return bars.WIDTHS[self.stored] != self.width or self.origin != 0

    def floor(self, time: int) -> int:
        """The start of the window that holds `time`."""
        return times.floor_to(time - self.origin, self.width) + self.origin

    def around(self, span: Interval) -> Interval:
        """`span` in whole windows."""
        return span if span == EVER else Interval(self.floor(span.start), self.ceil(span.end))

    def ceil(self, time: int) -> int:
        """The first window that starts at or after `time`."""
        return self.floor(time + self.width - 1)


def bar_kind(name: str) -> BarKind | None:
    """`bar_5m`, `bar_1h`, ... as what they are made of; None for what is no bar.

    Raises WrongQuestion (the width, what is no text).
    """
    if not isinstance(name, str):
        raise WrongQuestion(f"kind={name!r} is no name", "a kind is a text: trade, quote, bar_1m, …")
    match = _BAR.fullmatch(name)
    if match is None:
        return None
    width = int(match[1]) * _UNITS[match[2]]
    if width > DAY or DAY % width:
        hint = "use for example bar_5m, bar_1h, bar_1d, or Lake.bars(interval=…)"
        raise WrongQuestion(f"{name} does not divide a day", hint)
    return BarKind("bar_1s" if width % MINUTE else "bar_1m", width)


def bar_of(interval: Duration, offset: Duration = 0) -> BarKind:
    """Bars of an interval: `15m`, `90s`, `4h`, `1d`, `1w`, us, or a timedelta.

    Windows begin at 1970-01-01T00:00Z plus whole intervals plus `offset` (which may be negative); weeks on Mondays.
    Raises WrongQuestion.
    """
    width = duration(interval, "interval", "15m")
    shift = duration(offset, "offset", "8h")
    if not SECOND <= width <= LONGEST or width % SECOND:
        hint = "bars are folded from those of one second: use whole seconds up to 366d, for example 15m"
        raise WrongQuestion(f"interval={interval!r} is not possible", hint)
    if shift % SECOND:
        raise WrongQuestion(f"offset={offset!r} is not possible", "use whole seconds, for example 8h")
    origin = (shift + (MONDAY if width % WEEK == 0 else 0)) % width
    return BarKind("bar_1s" if width % MINUTE or origin % MINUTE else "bar_1m", width, origin)


def duration(value: Duration, name: str, example: str) -> int:
    """A width (us): `15m`, us, or a timedelta; `name` and `example` are for messages. Raises WrongQuestion."""
    if isinstance(value, dt.timedelta):
        return value // dt.timedelta(microseconds=1)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise WrongQuestion(
            f"{name}={value!r} is not known", f"use a number and s, m, h, d or w, for example {example}"
        )
    return int(match[1]) * _UNITS[match[2]]


def time_of(value: Time, name: str) -> int:
    """One time (us). Raises Malformed; WrongQuestion for what is no time, or a number that is not microseconds."""
    if isinstance(value, bool) or not isinstance(value, int | str | dt.date):
        hint = "use 2026-11-20, 2026-11-20T13:45:00Z, a date, a datetime, or microseconds since 1970 as int"
        raise WrongQuestion(f"{name}={value!r} is no time", hint)
    try:
        time = times.parse(value)
    except Malformed as error:
        raise Malformed(f"{error.what} for {name}", value) from error
    if not FIRST <= time < LAST:
        raise WrongQuestion(f"{name}={value!r} is no time in microseconds", "a number means microseconds since 1970")
    return time


def span_of(start: Time | None, end: Time | None) -> Interval:
    """[start, end), open where None. Raises Malformed, WrongQuestion (an end before its start)."""
    low = EVER.start if start is None else time_of(start, "start")
    high = EVER.end if end is None else time_of(end, "end")
    if high < low:
        raise WrongQuestion(f"end={end!r} is before start={start!r}", "the end itself is not included")
    return Interval(low, high)


def date_of(value: Time, name: str = "date") -> str:
    """A day as YYYY-MM-DD. Raises Malformed, WrongQuestion (a time within a day)."""
    time = time_of(value, name)
    if time % DAY:
        raise WrongQuestion(f"{name}={value!r} is not a day", "use for example 2026-11-20")
    return times.date_of(time).isoformat()


def dates(span: Interval) -> tuple[str | None, str | None]:
    """The first and last day of a span: rows lie in the file of their event's day."""
    edges = (span.start, span.end - 1)
    first, last = (times.date_of(at).isoformat() if 0 <= at < LAST else None for at in edges)
    return first, last


def asked(exchange: str | None, market_type: str | None, symbol: Symbols) -> list[Wanted]:
    """What a symbol argument means before contracts are looked at. Raises WrongQuestion (what is no text)."""
    text("exchange", exchange)
    text("market_type", market_type)
    wanted = names("symbol", symbol)
    return [Wanted(exchange, market_type, one) for one in ([None] if wanted is None else wanted)]


def text(name: str, value: object) -> None:
    """Raises WrongQuestion where what is given is no text."""
    if value is not None and not isinstance(value, str):
        raise WrongQuestion(f"{name}={value!r} is no name", "a name is a text")


def names(name: str, value: object) -> list[str] | None:
    """Some names, each once; None where nothing is said. Raises WrongQuestion (what is no text, no list of texts)."""
    if value is None:
        return None
    if isinstance(value, str):
        return [value]
    held: dict[str, None] = {}
    for one in value if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping) else [value]:
        if not isinstance(one, str):
            raise WrongQuestion(f"{name}={one!r} is no name", "a name is a text, several are a list of texts")
        held[one] = None
    return list(held)


def number(name: str, value: object, least: int, below: float = 2**63) -> None:
    """Raises WrongQuestion where what is given is no whole number from `least` on."""
    if value is not None and not (type(value) is int and least <= value < below):
        raise WrongQuestion(f"{name}={value!r} is not possible", f"it is a whole number of 64 bits, {least} or more")


def one_of(value: str, known: Sequence[str], name: str) -> None:
    """Raises WrongQuestion where `value` is none of the known ones."""
    if value not in known:
        raise WrongQuestion(f"{name}={value!r} is not known", f"use one of {', '.join(known)}")


def seconds(name: str, value: object) -> None:
    """Raises WrongQuestion where what is given is no time that one can wait."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= threading.TIMEOUT_MAX
    if value is not None and not right:
        raise WrongQuestion(f"{name}={value!r} is not possible", "it is a number of seconds above 0")


class Question(msgspec.Struct, frozen=True):
    """What a read asks for, as far as its files follow from it."""

    kind: str
    bar: BarKind | None
    exchange: str | None
    market_type: str | None
    asked: tuple[Wanted, ...]
    span: Interval
    min_state: MinState
    across_listings: bool
    version: int | None = None
    """Of closed days only this revision."""
    as_of: int | None = None
    """What was live then (us)."""

    @property
    def around(self) -> Interval:
        """The span in whole windows, where bars are asked for."""
        return self.span if self.bar is None else self.bar.around(self.span)


def question_of(  # the arguments of `read`, in its order
    name: str,
    bar: BarKind | None,
    exchange: str | None,
    market_type: str | None,
    symbol: Symbols,
    start: Time | None,
    end: Time | None,
    min_state: MinState,
    version: int | None,
    as_of: Time | None,
    across_listings: bool,
) -> Question:
    """Raises UnknownKind, Malformed, WrongQuestion."""
    stored = kind(bar.stored if bar else name).name
    one_of(min_state, get_args(MinState), "min_state")
    if not isinstance(across_listings, bool):
        raise WrongQuestion(f"across_listings={across_listings!r} is not possible", "it is True or False")
    if version is not None and as_of is not None:
        raise WrongQuestion("version and as_of both choose a revision", "give one of them")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        raise WrongQuestion(f"version={version!r} is no revision", "they count from 0: Lake.versions lists them")
    return Question(
        kind=stored, bar=bar, exchange=exchange, market_type=market_type,
        asked=tuple(asked(exchange, market_type, symbol)), span=span_of(start, end), min_state=min_state,
        across_listings=across_listings, version=version, as_of=None if as_of is None else time_of(as_of, "as_of"),
    )  # fmt: skip
