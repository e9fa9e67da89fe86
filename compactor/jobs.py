"""What the compactor can do: its jobs, and what a plan of them is made from. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from lake.rows import FileRow, SegmentRow
from market import times

SAMPLES = "book_sample"
_AT_ONCE = 4
"""Jobs handed to the executor before the first of them is committed: what one of them made may be read by the next."""
Stream: TypeAlias = tuple[str, str, str]
"""(exchange, market_type, kind)"""
Market: TypeAlias = tuple[str, str]
MAX_FAILURES = 3
"""A job that failed so often on the same inputs is parked; everything else goes on."""


class Rules(msgspec.Struct, frozen=True):
    """Waiting times in us; `max_inputs` bounds the files of one merge.

    Books are sampled every `sample_every` us (None: not at all), `sample_depth` levels a side.
    """

    hour_delay: int
    close_delay: int
    revision: int
    max_inputs: int = 64
    sample_every: int | None = None
    sample_depth: int = 20


class Progress(msgspec.Struct, frozen=True):
    """How far a stream's raw side is: its watermark (receive time, us), whether a segment is still written, and the
    earliest receive time whose sealed segment is not transformed yet (None: all are).
    """

    watermark: int | None = None
    open: bool = False
    waiting_from: int | None = None


class View(msgspec.Struct):
    """What a plan is made from. `hot`: live parts and hour files; `days`: live daily files of every date that is hot
    or in `bars_due` ((exchange, market_type, date)), both with their parents; `bars_until`: up to which time (us)
    provisional bars are written; `failures`: job key -> how often it failed; `traded`: symbols that have trade coverage
    that day, for the days of `days` in which aggregated trades were collected. `before`: daily files of book updates of
    the days before those that are hot or in `carry_due` ((exchange, market_type, date) whose books may open anew);
    `samples_due`: days whose books are to be sampled, both in `days` too.
    """

    hot: Sequence[FileRow] = ()
    days: Sequence[FileRow] = ()
    progress: Mapping[Stream, Progress] = {}
    bars_due: frozenset[tuple[str, str, str]] = frozenset()
    bars_until: Mapping[Market, int] = {}
    failures: Mapping[str, int] = {}
    traded: Mapping[tuple[str, str, str], frozenset[str]] = {}
    before: Sequence[FileRow] = ()
    carry_due: frozenset[tuple[str, str, str]] = frozenset()
    samples_due: frozenset[tuple[str, str, str]] = frozenset()


class HourMerge(msgspec.Struct, frozen=True):
    """`inputs` (all of one stream and hour) become one hour file of generation `revision`."""

    stream: Stream
    date: str
    hour: int
    revision: int
    inputs: tuple[FileRow, ...]

    @property
    def key(self) -> str:
        return _key("hour", self.stream, self.date, self.inputs)


class DayClose(msgspec.Struct, frozen=True):
    """`inputs` (all hot files of one stream and day) and the daily files `base` become the daily files of the day.

    Of books, `before` are the daily files of the day before; with `carry` also those of `base` open anew that have
    another file before them now than when they were made.
    """

    stream: Stream
    date: str
    inputs: tuple[FileRow, ...]
    base: tuple[FileRow, ...]
    before: tuple[FileRow, ...] = ()
    carry: bool = False

    @property
    def key(self) -> str:
        return _key("day", self.stream, self.date, (*self.inputs, *self.base, *self.before))


class Revision(DayClose, frozen=True):
    """The daily files `base` of a stream and day become others: their frames were read again.

    `parts` are hot files below `folder`, of all rows of each symbol in `revised` (its rows changed, added, removed);
    `frames` what they were made of.
    """

    folder: str = ""
    parts: tuple[FileRow, ...] = ()
    frames: tuple[SegmentRow, ...] = ()
    revised: Mapping[str | None, tuple[int, int, int]] = {}


class HourBars(msgspec.Struct, frozen=True):
    """Provisional bars of one hour, made again from its `inputs` (INPUTS, one file each) with the late rows in them.

    `replaced` are the hour's bars so far.
    """

    exchange: str
    market_type: str
    date: str
    hour: int
    revision: int
    inputs: tuple[FileRow, ...]
    replaced: tuple[FileRow, ...]

    @property
    def key(self) -> str:
        stream = (self.exchange, self.market_type, "bars")
        return _key("hour bars", stream, self.date, (*self.inputs, *self.replaced))


class FinalBars(msgspec.Struct, frozen=True):
    """Bars of one market and day, made again from its daily `trades` and `quotes`; `held` are the daily bars so far,
    `hot` the provisional ones. `trades` is one file a symbol: its aggregated trades where it is not traded.
    """

    exchange: str
    market_type: str
    date: str
    trades: tuple[FileRow, ...]
    quotes: tuple[FileRow, ...]
    held: tuple[FileRow, ...]
    hot: tuple[FileRow, ...]

    @property
    def key(self) -> str:
        inputs = (*self.trades, *self.quotes, *self.held, *self.hot)
        return _key("bars", (self.exchange, self.market_type, "bars"), self.date, inputs)


class BookSamples(msgspec.Struct, frozen=True):
    """The book of one symbol and day, sampled from its daily updates `delta`; `held` are the samples so far."""

    exchange: str
    market_type: str
    date: str
    delta: FileRow
    held: FileRow | None
    every: int
    depth: int

    @property
    def key(self) -> str:
        return _key("samples", (self.exchange, self.market_type, SAMPLES), self.date, [self.delta])


Job: TypeAlias = HourMerge | HourBars | DayClose | FinalBars | BookSamples


def _key(what: str, stream: Stream, date: str, inputs: Iterable[FileRow]) -> str:
    """Names a job by what it reads: other inputs make another job, with its own count of failures."""
    text = "\n".join([what, *stream, date, *sorted(row.path for row in inputs)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def day_span(date: str) -> times.Interval:
    """[00:00, 24:00) UTC of YYYY-MM-DD, us."""
    start = times.day_start(dt.date.fromisoformat(date))
    return times.Interval(start, start + times.DAY)


def in_order(rows: Iterable[FileRow]) -> tuple[FileRow, ...]:
    """Files by symbol and kind."""
    return tuple(sorted(rows, key=lambda row: ((row.symbol or "").encode(), row.kind, row.path)))


def batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """A few jobs at a time, in order, and of each stream one day only.

    A gap over midnight is a row of both days: the second is to reconcile what the first has left of it.
    """
    some: list[Job] = []
    for job in jobs:
        again = isinstance(job, DayClose) and any(isinstance(o, DayClose) and o.stream == job.stream for o in some)
        if again or len(some) == _AT_ONCE:
            yield some
            some = []
        some.append(job)
    if some:
        yield some


def inputs_of(job: Job) -> tuple[FileRow, ...]:
    """The files that a failure of the job is counted against."""
    match job:
        case FinalBars():
            return job.trades
        case BookSamples():
            return (job.delta,)
        case DayClose():
            return job.inputs or job.base
        case _:
            return job.inputs


def describe(job: Job) -> str:
    """One line for a person."""
    match job:
        case HourMerge(stream, date, hour):
            return f"{' '.join(stream)} {date} {hour:02d}h ({len(job.inputs)} files)"
        case DayClose(stream, date):
            return f"{' '.join(stream)} {date} ({len(job.inputs)} files)"
        case HourBars(exchange, market_type, date, hour):
            return f"{exchange} {market_type} bars {date} {hour:02d}h"
        case FinalBars(exchange, market_type, date):
            return f"{exchange} {market_type} bars {date} ({len(job.trades)} symbols)"
        case BookSamples(exchange, market_type, date, delta):
            return f"{exchange} {market_type} {SAMPLES} {date} {delta.symbol}"
