"""What is to be transformed now: a pure function of the manifest's rows.

Sealed segments become jobs a stream, oldest first; a segment that failed before goes alone, so that it takes no other
with it. Bars follow as far as every needed watermark has passed: a window is ready when what can still come of it is
later than the agreed lateness. Planning twice from the same rows gives the same jobs, whatever the rows' order.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from lake import sources
from lake.bars import Intervals, by_symbol
from lake.rows import FRAMES, FileRow, SegmentRow
from market.session import Coverage, Gap
from market.times import HOUR, MINUTE, Interval, date_of, floor_to

Market: TypeAlias = tuple[str, str]
"""(exchange, market_type)"""
QUIET = 15 * MINUTE
"""A stream whose watermark is so far behind that of trades, with nothing on its way, is not collected any more."""
FAR = 2**62
"""The end (us) of a gap that still grows."""


class TransformJob(msgspec.Struct, frozen=True):
    """Sealed segments of one stream to be made into hot parts.

    Bars are written up to `bars_until` (us, None: no bars yet): earlier rows are late. `now` is us, `run` names
    temporary files.
    """

    exchange: str
    market_type: str
    kind: str
    segments: tuple[SegmentRow, ...]
    bars_until: int | None
    lake_id: str
    run: str
    now: int

    @property
    def name(self) -> str:
        return f"{self.exchange} {self.market_type} {self.kind}, {len(self.segments)} segments"


class BarJob(msgspec.Struct, frozen=True):
    """Bars of the windows that start in [start, end) (us, inside one hour) from the hot files that hold their rows.

    `trades` are files of trades, and of aggregated ones where there are symbols that are not `traded` that day.
    """

    exchange: str
    market_type: str
    start: int
    end: int
    trades: tuple[FileRow, ...]
    quotes: tuple[FileRow, ...]
    coverage: Intervals
    begun: Mapping[str, int]
    gaps: Intervals
    lateness: int
    lake_id: str
    run: str
    now: int
    traded: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.exchange} {self.market_type} bars"


class Run(msgspec.Struct, frozen=True):
    """What is the same for every job of one pass. Times in us, sizes in bytes."""

    lake_id: str
    run: str
    now: int
    max_bytes: int
    lateness: int


cursor_name = sources.bar_cursor


def failures_name(exchange: str, market_type: str) -> str:
    """The manifest's count of failures of the market's next bar job."""
    return f"bar_failures/{exchange}/{market_type}"


def transforms(segments: Iterable[SegmentRow], cursors: Mapping[Market, int | None], run: Run) -> list[TransformJob]:
    """Jobs for the sealed ones among `segments`, each of one stream and at most `max_bytes` (but one at least)."""
    waiting = [row for row in segments if row.state == "sealed" and row.kind != FRAMES]
    waiting.sort(key=lambda row: (row.exchange, row.market_type, row.kind, row.period_start, row.path))
    groups: list[list[SegmentRow]] = []
    for row in waiting:
        if groups and _joins(groups[-1], row, run.max_bytes):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [
        TransformJob(
            group[0].exchange, group[0].market_type, group[0].kind, tuple(group),
            cursors.get((group[0].exchange, group[0].market_type)), run.lake_id, run.run, run.now,
        )
        for group in groups
    ]  # fmt: skip


def _joins(group: Sequence[SegmentRow], row: SegmentRow, max_bytes: int) -> bool:
    last = group[-1]
    same = (last.exchange, last.market_type, last.kind) == (row.exchange, row.market_type, row.kind)
    return same and not (last.failures or row.failures) and sum(r.bytes for r in group) + row.bytes <= max_bytes


class Stream(msgspec.Struct, frozen=True):
    """How far one stream is. `watermark`: receive time (us) up to which it is sealed, None before its first segment;
    `waiting`: where the oldest segment starts that is open or not transformed yet, None where there is none.
    """

    watermark: int | None
    waiting: int | None

    @property
    def done(self) -> int | None:
        """Receive time up to which its rows are in hot parts."""
        return self.watermark if self.waiting is None else min(self.waiting, self.watermark or self.waiting)


def skew_of(segments: Iterable[SegmentRow]) -> int:
    """By how much (us) receive time runs ahead of venue time; 0 where the local clock is behind or nothing is known."""
    ahead = [row.recv_max - row.event_max for row in segments if row.recv_max is not None and row.event_max is not None]
    return max(0, round(statistics.median(ahead))) if ahead else 0


def bars_ready(
    trade: Stream, quote: Stream | None, lateness: int, skew: int, agg_trade: Stream | None = None
) -> int | None:
    """The time (us, a full minute) before which every window is ready; None where none is."""
    ahead = max((s.done for s in (trade, agg_trade) if s is not None and s.done is not None), default=None)
    if ahead is None:
        return None
    needed = [
        stream.done
        for stream in (trade, agg_trade, quote)
        if stream is not None and stream.done is not None
        if stream.waiting is not None or stream.done > ahead - QUIET
    ]
    return floor_to(min(needed) - lateness - skew, MINUTE)


def bar_jobs(
    market: Market,
    cursor: int | None,
    ready: int,
    trades: Sequence[FileRow],
    quotes: Sequence[FileRow],
    *,
    coverage: Sequence[Coverage],
    begun: Mapping[str, int],
    gaps: Sequence[Gap],
    run: Run,
) -> list[BarJob]:
    """A job for each hour of [cursor, ready) that has trades, oldest first. `trades`, `quotes` are live hot files.

    Trades, coverage and gaps are of both kinds of trades; a job holds those that each symbol's bars are made from.
    `begun` says since when symbols are collected (`lake.beginnings`).
    Without a cursor they begin with the first trade. What lies before the cursor is never written again here.
    """
    hours: set[int] = set()
    for row in trades:
        first = row.ts_min if cursor is None else max(cursor, row.ts_min)
        hours.update(range(floor_to(first, HOUR), min(row.ts_max + 1, ready), HOUR))
    jobs: list[BarJob] = []
    for hour in sorted(hours):
        span = Interval(hour if cursor is None else max(hour, cursor), min(hour + HOUR, ready))
        traded, untraded = sources.traded(coverage, hour), sources.untraded(coverage, hour)
        wanted = sources.TRADES if sources.aggregated(coverage, traded) else (sources.TRADE,)
        inputs = _within([row for row in trades if row.kind in wanted], span)
        if span.empty or not inputs:
            continue
        covered = by_symbol((c.symbol, c.ts_from, c.ts_to) for c in sources.chosen(coverage, traded, untraded))
        missing = by_symbol((g.symbol, g.ts_from, _end(g)) for g in sources.chosen(gaps, traded, untraded))
        jobs.append(
            BarJob(
                *market, span.start, span.end, inputs, _within(quotes, span), covered, begun, missing,
                run.lateness, run.lake_id, run.run, run.now, traded,
            )
        )  # fmt: skip
    return jobs


def _end(gap: Gap) -> int:
    return FAR if gap.ts_to is None else max(gap.ts_to, gap.ts_from + 1)


def _within(files: Sequence[FileRow], span: Interval) -> tuple[FileRow, ...]:
    held = [row for row in files if row.ts_min < span.end and row.ts_max >= span.start]
    return tuple(sorted(held, key=lambda row: row.path))


def dates(span: Interval) -> tuple[str, str]:
    """First and last date of the hot files that can hold rows of `span`."""
    return date_of(span.start).isoformat(), date_of(max(span.start, span.end - 1)).isoformat()
