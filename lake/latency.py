"""Latencies of what streamed in: exact counts in log-spaced buckets, a session, kind and minute at a time.

Pure. Three of them, in us: event to publish (inside the venue), publish to receive (the way to us), event to receive.
A bucket is an eighth of a power of two wide, whatever the sign, and one us wide below 16: what is read from the middle
of one is right to a sixteenth. Counts add up, so that minutes become hours, and sessions markets, exactly as if they
had been counted together. See docs/format/clocks.md.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import polars as pl
import pyarrow as pa

from market.times import MINUTE

SUB = 8
"""Buckets of each power of two."""
_BITS = 4
"""Below 2^_BITS each value is its own bucket."""
MEASURES = ("event_to_publish", "publish_to_receive", "event_to_receive")
TIMELY = frozenset(("trade", "agg_trade", "quote", "book_delta"))
"""Kinds that are sent as things happen: the time of a settlement or a candle says little of clocks."""
_ROWS_AT_ONCE = 64 * 1024
_Place = tuple[str, int]
"""(session, minute)"""
_COLUMNS = ("session", "source", "ts_event", "ts_estimated", "ts_publish", "ts_recv")


class Histogram(msgspec.Struct, array_like=True, frozen=True):
    """`buckets` are bucket, count, bucket, count, … with the buckets rising; `low` and `high` (us) are exact."""

    count: int
    low: int
    high: int
    buckets: tuple[int, ...]

    def counts(self) -> Iterator[tuple[int, int]]:
        """(bucket, count), rising."""
        return zip(self.buckets[::2], self.buckets[1::2], strict=True)

    def quantile(self, share: float) -> int:
        """The latency (us) that `share` (0 to 1) of the values did not exceed: the middle of its bucket."""
        wanted = min(self.count, max(1, -(-self.count * round(share * 10_000) // 10_000)))
        seen = 0
        for bucket, count in self.counts():
            seen += count
            if seen >= wanted:
                first, last = bounds(bucket)
                return min(max((first + last) // 2, self.low), self.high)
        return self.high


class Minute(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What one session sent in [`minute`, + 60 s) of receive time (us): `rows`, and the latencies that they tell."""

    session: str
    minute: int
    rows: int
    event_to_publish: Histogram | None = None
    publish_to_receive: Histogram | None = None
    event_to_receive: Histogram | None = None

    def of(self, measure: str) -> Histogram | None:
        """One of MEASURES."""
        found: Histogram | None = getattr(self, measure)
        return found


def bucket(value: int) -> int:
    """The bucket of a latency of `value` us."""
    size = abs(value)
    power = max(0, size.bit_length() - _BITS)
    number = power * SUB + (size >> power)
    return -number if value < 0 else number


def bounds(number: int) -> tuple[int, int]:
    """The first and the last value of a bucket, in us."""
    size = abs(number)
    power = max(0, size // SUB - 1)
    first = (size - power * SUB) << power
    last = first + (1 << power) - 1
    return (-last, -first) if number < 0 else (first, last)


def histogram(values: Iterable[int]) -> Histogram | None:
    """The histogram of some latencies; None where there are none."""
    held = list(values)
    return _of(Counter(map(bucket, held)), min(held), max(held)) if held else None


class Tally:
    """Histograms that are added up one by one."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._ends: tuple[int, int] | None = None

    def add(self, one: Histogram | None) -> None:
        """None adds nothing."""
        if one is None:
            return
        for number, count in one.counts():
            self._counts[number] += count
        low, high = self._ends or (one.low, one.high)
        self._ends = (min(low, one.low), max(high, one.high))

    def total(self) -> Histogram | None:
        """What counting all of them together would have given; None where there is nothing."""
        return None if self._ends is None else _of(self._counts, *self._ends)


def merged(found: Iterable[Histogram | None]) -> Histogram | None:
    """The sum of all of them; None where there is nothing."""
    tally = Tally()
    for one in found:
        tally.add(one)
    return tally.total()


def _of(counts: Counter[int], low: int, high: int) -> Histogram:
    flat = tuple(part for pair in sorted(counts.items()) for part in pair)
    return Histogram(counts.total(), low, high, flat)


def of_table(table: pa.Table) -> list[Minute]:
    """The minutes of rows of one kind, by session and time.

    Only what came over a stream counts: the time of an answer says when it was asked for. Estimated times say
    nothing, and neither does history that a venue sends on subscribing.
    """
    rows: Counter[_Place] = Counter()
    counts: dict[tuple[_Place, str], Counter[int]] = {}
    ends: dict[tuple[_Place, str], tuple[int, int]] = {}
    pieces = (table.slice(start, _ROWS_AT_ONCE) for start in range(0, table.num_rows, _ROWS_AT_ONCE))
    for session, minute, measure, number, count, low, high in itertools.chain.from_iterable(map(_counted, pieces)):
        place = (session, minute)
        if measure < 0:
            rows[place] += count
            continue
        key = (place, MEASURES[measure])
        counts.setdefault(key, Counter())[number] += count
        least, most = ends.get(key, (low, high))
        ends[key] = (min(least, low), max(most, high))
    held = {key: _of(found, *ends[key]) for key, found in counts.items()}
    return [
        Minute(
            session=place[0], minute=place[1], rows=rows[place], **{name: held.get((place, name)) for name in MEASURES}
        )
        for place in sorted(rows)
    ]


def _counted(table: pa.Table) -> Iterator[tuple[str, int, int, int, int, int, int]]:
    """(session, minute, measure, bucket, count, least, most); measure -1 counts rows. One pass over one long frame:
    a call costs as much for ten rows as for a thousand.
    """
    names = [name for name in (*_COLUMNS, "condition") if name in table.column_names]
    frame = pl.from_arrow(table.select(names))
    assert isinstance(frame, pl.DataFrame)
    wanted = pl.col("source") == "ws"
    if "condition" in names:
        wanted &= pl.col("condition").ne_missing("history")
    frame = frame.filter(wanted)
    event, publish, recv = (frame.get_column(name).to_physical() for name in ("ts_event", "ts_publish", "ts_recv"))
    event = event.zip_with(~frame.get_column("ts_estimated"), pl.Series([None], dtype=pl.Int64))
    values = [recv * 0, publish - event, recv - publish, recv - event]
    place = pl.DataFrame({"session": frame.get_column("session"), "minute": recv - recv % MINUTE})
    long = pl.concat(
        place.with_columns(value.alias("value"), pl.lit(measure, dtype=pl.Int8).alias("measure"))
        for measure, value in enumerate(values, start=-1)
    ).drop_nulls("value")
    counted = (
        long.with_columns(bucket=_buckets(long.get_column("value")))
        .group_by("session", "minute", "measure", "bucket")
        .agg(pl.len(), low=pl.col("value").min(), high=pl.col("value").max())
    )
    return counted.iter_rows()


def _buckets(values: pl.Series) -> pl.Series:
    """`bucket` of each."""
    size = pl.col("v").abs()
    power = (64 - _BITS - size.bitwise_leading_zeros().cast(pl.Int64)).clip(lower_bound=0)
    number = power * SUB + size // pl.lit(2, dtype=pl.Int64).pow(power)
    return values.to_frame("v").select((number * pl.col("v").sign()).cast(pl.Int64)).to_series()


def skew_of(minutes: Sequence[Minute], least: int) -> int | None:
    """By how much (us) our clock runs ahead of the venue's, transport included: the median of receive less event.

    None where fewer than `least` values tell.
    """
    all_of_them = merged(minute.event_to_receive for minute in minutes)
    return None if all_of_them is None or all_of_them.count < least else all_of_them.quantile(0.5)
