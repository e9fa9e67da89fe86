"""What may be deleted now: a pure function of the manifest's rows, the time and the rules.

Replaced files go after a grace time for readers. Raw goes once every day that its rows belong to is closed, its files
were read again from the disk and found whole, and a copy of the manifest knows them. Frames go by age. Nothing goes
that an open gap still needs, and nothing at all while the clock cannot be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from compactor.jobs import Stream
from lake.rows import FRAMES, FileRow, SegmentRow
from market import times
from market.session import Gap

SLACK = times.HOUR


class Keep(msgspec.Struct, frozen=True):
    """How long things are kept, in us; `versions` are replaced daily files."""

    grace: int
    forget: int
    rehash: int
    raw: int
    frames: int
    versions: int = 0


class Deletions(msgspec.Struct):
    """Paths to unlink: replaced Parquet files, and segments or frames files (with their seals)."""

    files: list[str] = []
    segments: list[str] = []


class DayState(msgspec.Struct, frozen=True):
    """One stream's day: `closed_at` is when its newest daily file was made (None: not closed, or something is hot),
    `rehashed` whether all its daily files were read again after the rehash time, `backed_up` whether a copy of the
    manifest knows all of them.
    """

    closed_at: int | None = None
    rehashed: bool = False
    backed_up: bool = False


def plan(
    retired: Sequence[FileRow],
    segments: Sequence[SegmentRow],
    days: Mapping[tuple[Stream, str], DayState],
    open_gaps: Sequence[Gap],
    now: int,
    keep: Keep,
) -> Deletions:
    """What may go. `segments` are sealed ones and frames files; `open_gaps` all gaps that are still open."""
    needed: dict[tuple[str, str], list[times.Interval]] = {}
    for gap in open_gaps:
        span = times.Interval(gap.ts_from, (gap.ts_to if gap.ts_to is not None else now) + 1)
        needed.setdefault((gap.exchange, gap.market_type), []).append(span)
    made = Deletions()
    for row in retired:
        kept = max(keep.grace, keep.versions) if row.level == "day" else keep.grace
        if row.state == "retired" and row.retired_at is not None and row.retired_at + kept <= now:
            made.files.append(row.path)
    for segment in segments:
        if segment.period_end is None or segment.state in ("open", "deleting", "deleted"):
            continue
        if _overlaps(_span(segment), needed.get((segment.exchange, segment.market_type), ())):
            continue
        held_since = max(segment.period_end, segment.recorded_at)
        if segment.kind == FRAMES:
            if held_since + keep.frames <= now:
                made.segments.append(segment.path)
        elif segment.state == "transformed" and held_since + keep.raw <= now and _safe(segment, days):
            made.segments.append(segment.path)
    return made


def _span(segment: SegmentRow) -> times.Interval:
    """Receive and event times that the segment holds."""
    starts = [t for t in (segment.period_start, segment.event_min) if t is not None]
    ends = [t for t in (segment.period_end, segment.event_max) if t is not None]
    return times.Interval(min(starts), max(ends) + 1)


def _overlaps(span: times.Interval, others: Iterable[times.Interval]) -> bool:
    return any(span.overlaps(other) for other in others)


def dates(segment: SegmentRow) -> Iterator[str]:
    """Dates (YYYY-MM-DD) that rows of the segment belong to."""
    low = segment.event_min if segment.event_min is not None else segment.period_start
    high = segment.event_max if segment.event_max is not None else low
    for start in range(times.floor_to(low, times.DAY), high + 1, times.DAY):
        yield times.date_of(start).isoformat()


def _safe(segment: SegmentRow, days: Mapping[tuple[Stream, str], DayState]) -> bool:
    if segment.rows == 0:
        return True
    stream = (segment.exchange, segment.market_type, segment.kind)
    states = [days.get((stream, date), DayState()) for date in dates(segment)]
    return all(state.rehashed and state.backed_up for state in states)


def clock_went_back(now: int, newest: int | None) -> bool:
    """Whether `now` (us) is long before the newest thing that was written down: then no age can be told.

    A little before it is ordinary: what is collected while a pass of the compactor runs is newer than that pass.
    """
    return newest is not None and now + SLACK < newest


def rehash_due(days: Mapping[tuple[Stream, str], DayState], now: int, keep: Keep) -> list[tuple[Stream, str]]:
    """Closed days whose files are to be read again before their raw segments may go, oldest first."""
    due = [
        (date, stream)
        for (stream, date), state in days.items()
        if state.closed_at is not None and not state.rehashed and state.closed_at + keep.rehash <= now
    ]
    return [(stream, date) for date, stream in sorted(due)]
