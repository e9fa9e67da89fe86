"""Latencies of what streamed in: exact counts in log-spaced buckets, a session, kind and minute at a time.

Pure. Three of them, in us: event to publish (inside the venue), publish to receive (the way to us), event to receive.
A bucket is an eighth of a power of two wide, whatever the sign, and one us wide below 16: what is read from the middle
of one is right to a sixteenth. Counts add up, so that minutes become hours, and sessions markets, exactly as if they
had been counted together. See docs/format/clocks.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from market.times import MINUTE

SUB = 8
"""Buckets of each power of two."""
_BITS = 4
"""Below 2^_BITS each value is its own bucket."""
MEASURES = ("event_to_publish", "publish_to_receive", "event_to_receive")
TIMELY = frozenset(("trade", "agg_trade", "quote", "book_delta"))
"""Kinds that are sent as things happen: the time of a settlement or a candle says little of clocks."""
_BUCKETS = 1024
"""More than there are of one sign."""
_MANTISSA, _BIAS = 52, 1023
"""Of a double."""
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
    for start in range(0, table.num_rows, _ROWS_AT_ONCE):
        piece = _Piece(table.slice(start, _ROWS_AT_ONCE))
        rows.update(piece.rows())
        for measure in MEASURES:
            for place, number, count, low, high in piece.counted(measure):
                key = (place, measure)
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


class _Piece:
    """Some rows of a table. Session, minute and bucket are one integer each row, which pyarrow counts in no time."""

    def __init__(self, table: pa.Table) -> None:
        names = [name for name in (*_COLUMNS, "condition") if name in table.column_names]
        table = _streamed(table.select(names).unify_dictionaries())
        sessions = table.column("session").combine_chunks()
        event, publish, recv = (_series(table.column(name)) for name in ("ts_event", "ts_publish", "ts_recv"))
        estimated = _series(table.column("ts_estimated"))
        if estimated.any():
            event = event.zip_with(~estimated, pl.Series([None], dtype=pl.Int64))
        self._values = dict(zip(MEASURES, (publish - event, recv - publish, recv - event), strict=True))
        minute = recv // MINUTE
        self._names = sessions.dictionary.to_pylist()
        self._first = _int(minute.min())
        self._minutes = _int(minute.max()) - self._first + 1
        self._places = _series(sessions.indices).cast(pl.Int64) * self._minutes + (minute - self._first)

    def rows(self) -> dict[_Place, int]:
        """How many rows each session has in each minute."""
        return {self._place(number): count for number, count in _counts(self._places)}

    def counted(self, measure: str) -> Iterator[tuple[_Place, int, int, int, int]]:
        """(session and minute, bucket, count, least and most of that session and minute), in any order."""
        values = self._values[measure]
        places = self._places
        if values.has_nulls():
            known = values.is_not_null()
            values, places = values.filter(known), places.filter(known)
        if values.is_empty():
            return
        ends = _ends(places, values)
        if len(ends) == 1:
            ((place, (low, high)),) = ends.items()
            if bucket(low) == bucket(high):  # many venues publish when the event happens
                yield self._place(place), bucket(low), len(values), low, high
                return
        for key, count in _counts(places * (2 * _BUCKETS) + (_buckets(values) + _BUCKETS)):
            place, number = divmod(key, 2 * _BUCKETS)
            yield self._place(place), number - _BUCKETS, count, *ends[place]

    def _place(self, number: int) -> _Place:
        session, minute = divmod(number, self._minutes)
        return self._names[session], (self._first + minute) * MINUTE


def _streamed(table: pa.Table) -> pa.Table:
    """The rows that came over a stream and are no history."""
    wanted = [(pc.equal, "source", "ws")]
    if "condition" in table.column_names:
        wanted.append((pc.not_equal, "condition", "history"))
    for compare, name, value in wanted:
        column = table.column(name).combine_chunks()
        # each different text once: mostly that is all there is to it
        answers = pc.fill_null(compare(column.dictionary, value), compare is pc.not_equal)
        if column.null_count or not pc.all(answers).as_py():
            each = pc.fill_null(answers.take(column.indices), compare is pc.not_equal)
            table = table.filter(each)
    return table


def _ends(places: pl.Series, values: pl.Series) -> dict[int, tuple[int, int]]:
    """The least and the greatest value of each place."""
    if (first := places[0]) == places[-1] and (places == first).all():
        return {first: (_int(values.min()), _int(values.max()))}
    found = pl.DataFrame({"place": places, "value": values}).group_by("place")
    return {place: (low, high) for place, low, high in found.agg(low=pl.min("value"), high=pl.max("value")).iter_rows()}


def _counts(numbers: pl.Series) -> Iterator[tuple[int, int]]:
    """Each different number, and how often it is there."""
    found = pc.value_counts(numbers.to_arrow())
    return zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)


def _series(column: pa.ChunkedArray | pa.Array) -> pl.Series:
    """A column in polars, its times as us."""
    made = pl.Series(pl.from_arrow(column))
    return made.to_physical() if made.dtype.is_temporal() else made  # for which a query is made, whatever the type


def _int(value: object) -> int:
    """A least or greatest integer; 0 of no rows."""
    return value if isinstance(value, int) else 0


def _buckets(values: pl.Series) -> pl.Series:
    """`bucket` of each: sign, exponent and the first three digits of the mantissa of a double are all there is to it.

    Beyond 2^53 us, which are centuries, a value may be one bucket too high.
    """
    least = _int(values.min())
    size = values if least >= 0 else values.abs()
    bits = pc.shift_right(size.cast(pl.Float64).to_arrow().view(pa.int64()), _MANTISSA - (_BITS - 1))
    numbers = pl.Series(pl.from_arrow(bits)) - ((_BIAS + _BITS - 2) * SUB)
    if least < 2 * SUB:
        numbers = numbers.zip_with(size >= 2 * SUB, size)
    return numbers if least >= 0 else numbers * values.sign()


def skew_of(minutes: Sequence[Minute], least: int) -> int | None:
    """By how much (us) our clock runs ahead of the venue's, transport included: the median of receive less event.

    None where fewer than `least` values tell.
    """
    all_of_them = merged(minute.event_to_receive for minute in minutes)
    return None if all_of_them is None or all_of_them.count < least else all_of_them.quantile(0.5)
