"""Rows of one stream in the order in which they arrived, or as they are stored, a slice of time after the other.

Tables are ordered by the venue's time; who replays or exports wants them as they came. A slice is held until nothing
of the slices after it can have come before it, so that memory grows with how late rows were, never with the day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import polars as pl
import pyarrow as pa

from lake.heard import heard
from lake.reader import Lake
from lake.tardis import LOCAL
from market.kinds import kind
from market.times import DAY, Interval, date_of, floor_to

SLICE_ROWS = 100_000
MOST_SLICES = 24 * 60
"""A day is cut into minutes at most."""
MOST_HELD = 2_000_000
"""Rows held for those that came before them: beyond that they are let go, and what comes too late is counted."""
_NEVER = 2**62


class Stream(NamedTuple):
    """One kind of one symbol."""

    kind: str
    exchange: str
    market_type: str
    symbol: str


class Arrived(msgspec.Struct):
    """What was read: `unheard` rows were never received live, `disordered` ones stand behind later ones."""

    rows: int = 0
    unheard: int = 0
    disordered: int = 0


def arrival() -> pl.Expr:
    """When a row came, us: of a stream or a poll when it was received, else its own time.

    What was asked for or imported long after it happened arrived nowhere when it happened; that it was fetched years
    later is no latency.
    """
    event, received = pl.col("ts_event").cast(pl.Int64), pl.col("ts_recv").cast(pl.Int64)
    return pl.when(heard()).then(received).otherwise(event)


def days(span: Interval) -> Iterator[Interval]:
    """The span, cut at midnights."""
    start = span.start
    while start < span.end:
        end = min(span.end, floor_to(start, DAY) + DAY)
        yield Interval(start, end)
        start = end


def slices(lake: Lake, stream: Stream, day: Interval, rows: int) -> list[Interval]:
    """A day in equal parts, of `rows` rows or fewer where they are spread evenly; none where nothing is stored."""
    date = date_of(day.start).isoformat()
    files = lake.manifest.files(
        stream.kind, exchange=stream.exchange, market_type=stream.market_type, symbol=stream.symbol,
        date_from=date, date_to=date,
    )  # fmt: skip
    held = sum(file.rows for file in files)
    if not held:
        return []
    count = min(MOST_SLICES, -(-held // rows))
    width = -(-day.length // count)
    return [Interval(at, min(at + width, day.end)) for at in range(day.start, day.end, width)]


def in_order(
    lake: Lake, stream: Stream, span: Interval, columns: Sequence[str] | None, rows: int
) -> Iterator[pa.Table]:
    """The rows as they are stored, in pieces of about `rows`."""
    for day in days(span):
        for part in slices(lake, stream, day, rows):
            found = lake.read(
                stream.kind, exchange=stream.exchange, market_type=stream.market_type, symbol=stream.symbol,
                start=part.start, end=part.end, columns=columns, across_listings=True,
            )  # fmt: skip
            if found.num_rows:
                yield found


def by_arrival(
    lake: Lake, stream: Stream, span: Interval, counts: Arrived | None = None, rows: int | None = None
) -> Iterator[pl.DataFrame]:
    """The rows whose event times lie in `span`, in order of arrival, with the column LOCAL; `rows` make a slice."""
    counts = counts or Arrived()
    order = [LOCAL, *kind(stream.kind).order]
    held: pl.DataFrame | None = None
    last = -_NEVER
    for part, bound in _bounded(lake, stream, span, rows or SLICE_ROWS):
        found = _scan(lake, stream, part).with_columns(arrival().alias(LOCAL), heard().alias("#heard")).collect()
        counts.rows += found.height
        counts.unheard += found.height - int(found.get_column("#heard").sum())
        found = found.drop("#heard")
        held = found if held is None else pl.concat([held, found])
        until = bound if held.height <= MOST_HELD else _NEVER
        ready = held.filter(pl.col(LOCAL) < until).sort(order, nulls_last=False, maintain_order=True)
        held = held.filter(pl.col(LOCAL) >= until)
        if ready.height:
            counts.disordered += ready.filter(pl.col(LOCAL) < last).height
            last = max(last, int(ready.get_column(LOCAL)[-1]))
            yield ready


def _scan(lake: Lake, stream: Stream, span: Interval) -> pl.LazyFrame:
    return lake.scan(
        stream.kind, exchange=stream.exchange, market_type=stream.market_type, symbol=stream.symbol,
        start=span.start, end=span.end, across_listings=True,
    )  # fmt: skip


def _bounded(lake: Lake, stream: Stream, span: Interval, rows: int) -> Iterator[tuple[Interval, int]]:
    """Each slice, and before when nothing of the rest of its day and of the next one arrived."""
    waiting: list[tuple[Interval, int]] = []
    for day in days(span):
        parts = _with_lows(lake, stream, day, rows)
        bound = min((low for _, low in parts), default=_NEVER)
        yield from _suffix(waiting, bound)
        waiting = parts
    yield from _suffix(waiting, _NEVER)


def _suffix(parts: list[tuple[Interval, int]], bound: int) -> list[tuple[Interval, int]]:
    made: list[tuple[Interval, int]] = []
    for part, low in reversed(parts):
        made.append((part, bound))
        bound = min(bound, low)
    return made[::-1]


def _with_lows(lake: Lake, stream: Stream, day: Interval, rows: int) -> list[tuple[Interval, int]]:
    """The slices of a day that hold rows, each with its earliest arrival."""
    parts = slices(lake, stream, day, rows)
    if not parts:
        return []
    width = parts[0].length
    place = (pl.col("ts_event").cast(pl.Int64) - day.start) // width
    lows = (
        _scan(lake, stream, day).select(place.alias("n"), arrival().alias("low")).group_by("n").agg(pl.col("low").min())
    )
    found = dict(lows.collect(engine="streaming").iter_rows())
    return [(part, found[n]) for n, part in enumerate(parts) if n in found]
