"""Days of which trades are held and no bars: what was just taken in, or waits for its bars, is not known to be empty.

Of a day that closed without a counted trade there are no bars for good; the compactor has said so by its cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection, select

from lake import schema
from lake.manifest_reads import Snapshot
from lake.rows import FileRow
from lake.sources import TRADES, bars_due
from market import times
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import DAY, Interval, floor_to, subtract

Market: TypeAlias = tuple[str, str]
"""(exchange, market type)"""
Held: TypeAlias = dict[tuple[str, str, str], set[str | None]]
"""(exchange, market type, date) -> the symbols of its files, None among them for one that holds all."""


def cut(
    snapshot: Snapshot, coverage: Iterable[Coverage], bars: Iterable[FileRow], gaps: Iterable[Gap], span: Interval
) -> tuple[list[Coverage], dict[Market, int]]:
    """Coverage inside `span` of what `bars` are made from, without these days; and by market the start (us) of the
    first that was taken out. The manifest is asked where a day that is covered has no bars, and none of `gaps` (of
    bars: those that were deleted) says why.
    """
    held, first = list(coverage), dict[Market, int]()
    made: Held = {}
    for file in bars:
        made.setdefault((file.exchange, file.market_type, file.date), set()).add(file.symbol)
    for gap in gaps:
        for key in _days(gap, span) if gap.kind not in TRADES else ():
            made.setdefault(key, set()).add(gap.symbol)
    bare = {key for row in held for key in _days(row, span) if not _of(made, key, row.symbol)}
    if not bare:
        return held, first
    traded = _traded(snapshot, bare)
    kept: list[Coverage] = []
    for row in held:
        market, whole = (row.exchange, row.market_type), Interval(row.ts_from, row.ts_to)
        due = [key for key in _days(row, span) if not _of(made, key, row.symbol) and _of(traded, key, row.symbol)]
        starts = [times.parse(date) for _, _, date in due]
        left = subtract([whole], (Interval(start, start + DAY) for start in starts))
        kept += [msgspec.structs.replace(row, ts_from=one.start, ts_to=one.end) for one in left]
        if starts:
            first[market] = min(first.get(market, starts[0]), starts[0])
    return kept, first


def _days(row: Coverage | Gap, span: Interval) -> Iterator[tuple[str, str, str]]:
    inside = Interval(row.ts_from, row.ts_from + 1 if row.ts_to is None else row.ts_to).clip(span)
    for start in range(floor_to(inside.start, DAY), inside.end, DAY) if not inside.empty else ():
        yield row.exchange, row.market_type, times.date_of(start).isoformat()


def _of(held: Held, key: tuple[str, str, str], symbol: str) -> bool:
    """Whether there is a file of that day that may tell of a symbol."""
    symbols = held.get(key, ())
    return bool(symbols) and (symbol == EVERY_SYMBOL or symbol in symbols or None in symbols)


def _traded(snapshot: Snapshot, days: set[tuple[str, str, str]]) -> Held:
    """Of these days of markets what is traded and has bars to come."""
    t, dates = schema.files, [date for _, _, date in days]
    live = (t.c.state == "live", t.c.kind.in_(TRADES), t.c.date.between(min(dates), max(dates)))
    place = (t.c.exchange, t.c.market_type, t.c.date)

    def read(conn: Connection) -> Held:
        found: Held = {}
        judged: dict[tuple[str, str, str], bool] = {}
        for market in sorted({key[:2] for key in days}):
            mine = (t.c.exchange == market[0], t.c.market_type == market[1])
            for *key, symbol, level in conn.execute(select(*place, t.c.symbol, t.c.level).where(*live, *mine)):
                day = (key[0], key[1], key[2])
                if day not in days:
                    continue
                if day not in judged:
                    judged[day] = snapshot.cursor(bars_due(*day)) == 0
                if level != "day" or not judged[day]:
                    found.setdefault(day, set()).add(symbol)
        return found

    return snapshot.run(read)
