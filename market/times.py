"""Time as int64 microseconds since the epoch, UTC, and half-open intervals of it.

Every timestamp in the system is such an integer; the unit is in no name because there is no other unit.
Venue milliseconds and nanoseconds are converted where a frame is parsed and nowhere else.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

import msgspec

from market.errors import Malformed

MS = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?(Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?",
    re.ASCII,
)


def floor_to(time: int, width: int) -> int:
    """The start of the `width`-wide bucket (us) that holds `time` (us); correct for times before 1970 too."""
    return time - time % width


def to_datetime(time: int) -> dt.datetime:
    """An aware UTC datetime, exact to the microsecond."""
    return _EPOCH + dt.timedelta(microseconds=time)


def from_datetime(when: dt.datetime) -> int:
    """Microseconds of a datetime; a naive one is taken as UTC."""
    aware = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // dt.timedelta(microseconds=1)


def date_of(time: int) -> dt.date:
    """The UTC date that holds `time`."""
    return to_datetime(time).date()


def day_start(day: dt.date) -> int:
    """Microseconds of 00:00 UTC of `day`."""
    return (day - _EPOCH.date()).days * DAY


def text(time: int | None) -> str:
    """ISO 8601 with microseconds only where they are not zero: `2026-11-20T13:45:00Z`; `-` for no time."""
    if time is None:
        return "-"
    when = to_datetime(time)
    fraction = f".{when.microsecond:06d}".rstrip("0") if when.microsecond else ""
    return f"{when:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def clock_text(time: int) -> str:
    """HHMMSSmmm of `time` in UTC: the form used inside file names."""
    when = to_datetime(time)
    return f"{when:%H%M%S}{when.microsecond // MS:03d}"


def parse(value: str | float | dt.datetime | dt.date) -> int:
    """A user's time as microseconds: ISO date or date-time (UTC unless an offset is given), date, datetime, or us.

    Fraction digits beyond the sixth are cut. Raises Malformed for anything else: a bare number is microseconds,
    never guessed by its size.
    """
    if isinstance(value, bool):
        raise Malformed("time", value)
    if isinstance(value, int):
        return value
    if isinstance(value, dt.datetime):
        return from_datetime(value)
    if isinstance(value, dt.date):
        return day_start(value)
    match = _ISO.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise Malformed("time (use 2026-11-20 or 2026-11-20T13:45:00Z)", value)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        whole = dt.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=dt.UTC
        )
    except ValueError as error:
        raise Malformed(f"time ({error})", value) from error
    offset = 0
    if zone and zone != "Z":
        sign = 1 if zone[0] == "+" else -1
        offset = sign * (int(zone[1:3]) * HOUR + int(zone[-2:]) * MINUTE)
    return from_datetime(whole) + int((fraction or "0")[:6].ljust(6, "0")) - offset


class Interval(msgspec.Struct, frozen=True, order=True):
    """Half-open [start, end) in microseconds (or in ids). Empty where end <= start."""

    start: int
    end: int

    @property
    def empty(self) -> bool:
        return self.end <= self.start

    @property
    def length(self) -> int:
        return max(0, self.end - self.start)

    def contains(self, other: Interval) -> bool:
        return other.empty or (self.start <= other.start and other.end <= self.end)

    def overlaps(self, other: Interval) -> bool:
        return self.start < other.end and other.start < self.end

    def clip(self, other: Interval) -> Interval:
        return Interval(max(self.start, other.start), min(self.end, other.end))


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same points as the input, as sorted, disjoint, non-touching intervals."""
    merged: list[Interval] = []
    for interval in sorted(i for i in intervals if not i.empty):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return merged


def subtract(intervals: Iterable[Interval], holes: Iterable[Interval]) -> list[Interval]:
    """What of `intervals` is in none of `holes`."""
    cuts = union(holes)
    left: list[Interval] = []
    for interval in union(intervals):
        start = interval.start
        for cut in cuts:
            if cut.end <= start:
                continue
            if cut.start >= interval.end:
                break
            if cut.start > start:
                left.append(Interval(start, cut.start))
            start = max(start, cut.end)
        if start < interval.end:
            left.append(Interval(start, interval.end))
    return left


def intersect(intervals: Iterable[Interval], others: Iterable[Interval]) -> list[Interval]:
    """What is in both."""
    mine = union(intervals)
    return subtract(mine, subtract(mine, others))


def covers(intervals: Iterable[Interval], wanted: Interval) -> bool:
    """Whether every point of `wanted` is in one of `intervals`."""
    return not subtract([wanted], intervals)
