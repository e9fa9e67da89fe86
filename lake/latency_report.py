"""What the record of clocks and latencies says of a range of time, added up as it is asked for.

Latencies are in us. A venue's `skew_us` is the median of receive less event time of what it sends as things happen,
the way to us included; its `offset_us` is measured by asking for its time, and wrong by at most `error_us`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from lake import clock_files
from lake.clock_files import ClockLook, Latencies, Unreadable, VenueLook
from lake.latency import MEASURES, TIMELY, Histogram, Minute, Tally
from market.times import HOUR, MINUTE, SECOND, Interval, floor_to

ALARM_US = SECOND
"""A clock that is further off is worth an alarm."""
WIDTHS = {"minute": MINUTE, "hour": HOUR}
BY = ("market", "kind", "session", *reversed(WIDTHS))
"""What rows may be parted by; a market is all of its kinds together."""
Key: TypeAlias = tuple[str, str, str, str, int]
"""(exchange, market_type, kind, session, time); "" and 0 where rows are not parted by that"""


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """Of which latencies; None is all. `by` are some of BY."""

    exchange: str | None = None
    market_type: str | None = None
    kind: str | None = None
    session: str | None = None
    by: tuple[str, ...] = ("kind",)


class Shape(msgspec.Struct, kw_only=True, frozen=True):
    """A distribution in us; the percentiles are right to a sixteenth, the ends exact."""

    count: int
    min: int
    p50: int
    p90: int
    p99: int
    max: int


class Row(msgspec.Struct, kw_only=True, frozen=True):
    """What came in over streams; `at` is when the minute or hour began (us)."""

    exchange: str
    market_type: str
    kind: str | None
    session: str | None
    at: int | None
    rows: int
    event_to_publish: Shape | None
    publish_to_receive: Shape | None
    event_to_receive: Shape | None


class Venue(msgspec.Struct, kw_only=True, frozen=True):
    """A market's clock against ours; positive where ours is ahead. `offset_us` is the median of `looks` answers."""

    exchange: str
    market_type: str
    looks: int
    offset_us: int | None
    error_us: int | None
    skew_us: int | None

    @property
    def far(self) -> bool:
        """Whether it is beyond the alarm, and more than a slow answer explains."""
        offset = 0 if self.offset_us is None else abs(self.offset_us) - (self.error_us or 0)
        return max(offset, abs(self.skew_us or 0)) > ALARM_US


class Kernel(msgspec.Struct, kw_only=True):
    """What the looks at our own clock said: how many found it synchronised or not, or could not say (`unknown`, why).

    The errors (us) are the largest that were said; `drift_us` is the largest distance that wall time went away from
    monotonic time between two looks, `steps` how many of these were steps.
    """

    looks: int = 0
    synchronised: int = 0
    unsynchronised: int = 0
    unknown: list[str] = []
    estimated_error_us: int | None = None
    max_error_us: int | None = None
    drift_us: int | None = None
    steps: int = 0

    def add(self, look: ClockLook) -> None:
        """One more look."""
        self.looks += 1
        self.synchronised += look.synchronised is True
        self.unsynchronised += look.synchronised is False
        if look.unknown is not None and look.unknown not in self.unknown:
            self.unknown.append(look.unknown)
        self.estimated_error_us = _largest(self.estimated_error_us, look.estimated_error_us)
        self.max_error_us = _largest(self.max_error_us, look.max_error_us)
        self.drift_us = _largest(self.drift_us, look.drift_us)
        self.steps += look.steps


class Report(msgspec.Struct, kw_only=True):
    """Times in us. `unreadable` counts lines of the record that say nothing any more."""

    kernel: Kernel
    venues: list[Venue]
    rows: list[Row]
    unreadable: int


def report(root: Path, span: Interval | None, wanted: Wanted) -> Report:
    """What is recorded of [span) (us; None is all)."""
    bad = Unreadable()
    kernel = Kernel()
    looks: dict[tuple[str, str], list[VenueLook]] = {}
    skews: dict[tuple[str, str], Tally] = {}
    held: dict[Key, _Sum] = {}
    for record in clock_files.read(root, span, bad):
        if isinstance(record, ClockLook):
            kernel.add(record)
            for venue in record.venues:
                if wanted.exchange in (None, venue.exchange) and wanted.market_type in (None, venue.market_type):
                    looks.setdefault((venue.exchange, venue.market_type), []).append(venue)
        elif _asked(record, wanted):
            for minute in record.minutes:
                if wanted.session in (None, minute.session) and _within(minute, span):
                    held.setdefault(_key(record, minute, wanted.by), _Sum()).add(minute)
                    if record.kind in TIMELY:
                        tally = skews.setdefault((record.exchange, record.market_type), Tally())
                        tally.add(minute.event_to_receive)
    venues = [_venue(market, looks.get(market, []), skews.get(market)) for market in sorted({*looks, *skews})]
    return Report(kernel=kernel, venues=venues, rows=[held[key].row(key) for key in sorted(held)], unreadable=bad.lines)


def _asked(record: Latencies, wanted: Wanted) -> bool:
    return (
        wanted.exchange in (None, record.exchange)
        and wanted.market_type in (None, record.market_type)
        and wanted.kind in (None, record.kind)
    )


def _within(minute: Minute, span: Interval | None) -> bool:
    return span is None or span.start <= minute.minute < span.end


def _key(record: Latencies, minute: Minute, by: Sequence[str]) -> Key:
    width = next((WIDTHS[part] for part in WIDTHS if part in by), None)
    return (
        record.exchange,
        record.market_type,
        "" if "market" in by else record.kind,
        minute.session if "session" in by else "",
        0 if width is None else floor_to(minute.minute, width),
    )


class _Sum:
    def __init__(self) -> None:
        self._rows = 0
        self._tallies = {measure: Tally() for measure in MEASURES}

    def add(self, minute: Minute) -> None:
        self._rows += minute.rows
        for measure, tally in self._tallies.items():
            tally.add(minute.of(measure))

    def row(self, key: Key) -> Row:
        shapes: dict[str, Any] = {measure: shape(tally.total()) for measure, tally in self._tallies.items()}
        exchange, market_type, kind, session, at = key
        return Row(
            exchange=exchange, market_type=market_type, kind=kind or None, session=session or None, at=at or None,
            rows=self._rows, **shapes,
        )  # fmt: skip


def shape(found: Histogram | None) -> Shape | None:
    """The usual numbers of a distribution; None of nothing."""
    if found is None:
        return None
    p50, p90, p99 = (found.quantile(share) for share in (0.5, 0.9, 0.99))
    return Shape(count=found.count, min=found.low, p50=p50, p90=p90, p99=p99, max=found.high)


def _venue(market: tuple[str, str], looks: Sequence[VenueLook], skew: Tally | None) -> Venue:
    different = {look.at: look for look in looks}.values()  # a look that found no newer answer says nothing new
    total = None if skew is None else skew.total()
    return Venue(
        exchange=market[0],
        market_type=market[1],
        looks=len(different),
        offset_us=_median(look.offset_us for look in different),
        error_us=_median(look.round_trip_us // 2 for look in different),
        skew_us=None if total is None else total.quantile(0.5),
    )


def _median(values: Iterable[int]) -> int | None:
    found = list(values)
    return statistics.median_low(found) if found else None


def _largest(held: int | None, value: int | None) -> int | None:
    """Of what is farthest from zero, with its sign."""
    return max((one for one in (held, value) if one is not None), key=abs, default=None)
