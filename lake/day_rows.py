"""When the rows of a table are: from when to when of each symbol, on which days, and a table cut by these.

Most tables of a file are one symbol's rows of one day, which is seen at their ends.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from lake.merge import plain_frame
from market.times import DAY, HOUR, MS, floor_to, to_datetime

Span = tuple[int, int]
"""[from, to) us."""
_EPOCH = dt.date(1970, 1, 1)


def spans(kind: str, table: pa.Table) -> dict[str, Span]:
    """Symbol -> [first, behind the last) of its rows; a candle begins when it opens."""
    times = ["open_time", "ts_event"] if kind == "kline" else ["ts_event", "ts_event"]
    # a candle's time is its last millisecond
    behind = MS if kind == "kline" else 1
    if (symbol := _only(table)) is not None:
        return {symbol: (_ends(table, times[0])[0], _ends(table, times[1])[1] + behind)}
    frame = plain_frame(table.select(["symbol", *dict.fromkeys(times)]))
    found = frame.group_by("symbol").agg(
        pl.col(times[0]).min().to_physical().alias("start"), pl.col(times[1]).max().to_physical().alias("end")
    )
    return {str(symbol): (start, end + behind) for symbol, start, end in found.iter_rows()}


def days(kind: str, table: pa.Table, zone: str) -> dict[str, set[int]]:
    """Symbol -> days (since 1970) of that zone on which it has rows."""
    name = "open_time" if kind == "kline" else "ts_event"
    if (symbol := _only(table)) is not None:
        first, last = (_local_day(zone, at) for at in _ends(table, name))
        if first == last:
            return {symbol: {first}}
    frame = plain_frame(table.select(["symbol", name]))
    local = pl.col(name).dt.convert_time_zone(zone).dt.date().to_physical().alias("day")
    found: dict[str, set[int]] = {}
    for symbol, day in frame.select("symbol", local).unique().iter_rows():
        found.setdefault(str(symbol), set()).add(day)
    return found


def _only(table: pa.Table) -> str | None:
    """The symbol of all rows, where its dictionary says so."""
    names = table.column("symbol")
    if not table.num_rows or names.num_chunks != 1 or len(names.chunk(0).dictionary) != 1 or names.null_count:
        return None
    return str(names.chunk(0).dictionary[0])


def _ends(table: pa.Table, name: str) -> tuple[int, int]:
    stamps = pl.Series(pl.from_arrow(table.column(name))).to_physical()
    low, high = stamps.min(), stamps.max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def _local_day(zone: str, at: int) -> int:
    return (to_datetime(at).astimezone(zoneinfo.ZoneInfo(zone)).date() - _EPOCH).days


def cut(table: pa.Table, today: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each day, or of each hour of a day that is not over, by the hour of their first; order is kept."""
    if not table.num_rows:
        return
    stamps = pl.Series(pl.from_arrow(table.column("ts_event"))).to_physical()
    low, high = _ends(table, "ts_event")
    if high < today and low // DAY == high // DAY:
        yield floor_to(low, HOUR), table
        return
    width = pl.when(stamps >= today).then(HOUR).otherwise(DAY)
    places = pl.select((stamps - stamps % width).alias("place")).to_series()
    for place in places.unique().sort():
        chosen = places == place
        part = table if chosen.all() else table.filter(chosen.to_arrow())
        first = stamps.filter(chosen).min()
        assert isinstance(first, int), "a part has rows"
        yield floor_to(first, HOUR), part
