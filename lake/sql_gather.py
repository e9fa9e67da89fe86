"""What the manifest says to a query: the files that can hold rows it wants, and rows of the manifest's own tables.

All of it from one snapshot. Files are chosen by exchange, market, symbol, day and time as `Lake.read` chooses them
(`lake.reading.choose`): hot parts of a closed day are left out, and those who ask hash what is opened.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from lake import bar_holes, bars, feature_table, sources, sql_features, sql_plan, sql_views
from lake.feature_rows import OWN_TIME, FeatureRow
from lake.manifest_reads import BATCH, Snapshot
from lake.plans import MISSING, spans
from lake.reading import EVER, time_column
from lake.rows import BarHole, FileRow
from lake.sql_engine import FOREVER, Source
from lake.sql_features import Catalog
from lake.sql_plan import ALL, Ranges, Scan, meets
from lake.sql_views import MARKET
from market import times
from market.kinds import BARS, KINDS
from market.times import DAY, Interval, floor_to, union

_DAYS = 2_900_000
"""After 1970: a day that is further away limits nothing."""
_Asked: TypeAlias = dict[str, Any]
_ASK: dict[str, Callable[[Snapshot, _Asked], Sequence[msgspec.Struct]]] = {
    "gaps": lambda snapshot, asked: snapshot.gaps(**asked),
    "coverage": lambda snapshot, asked: snapshot.coverage(**asked),
    "files": lambda snapshot, asked: snapshot.files(**asked),
    "certificates": lambda snapshot, asked: snapshot.certificates(**asked),
    "sessions": lambda snapshot, asked: snapshot.sessions(asked["exchange"], asked["market_type"]),
    "checks": lambda snapshot, _: snapshot.checks(),
    "bar_holes": lambda snapshot, asked: _holes(
        snapshot, asked, EVER, lambda: snapshot.files(**asked | {"kind": "bar_1m"})
    ),
}
assert set(_ASK) == set(sql_views.ROWS)


class Gathered(msgspec.Struct, frozen=True):
    """All that one query is answered from: sources by kind, the files in them, and tables of the manifest."""

    sources: dict[str, Source]
    files: tuple[FileRow | FeatureRow, ...]
    rows: dict[str, pa.Table]
    features: Catalog = ()


def gather(snapshot: Snapshot, scans: Iterable[Scan], features: bool = False) -> Gathered:
    """What a query that reads `scans` can want, as of this snapshot; with all `features` sets where it names some."""
    wanted: dict[str, list[Scan]] = {}
    for scan in scans:
        wanted.setdefault(scan.table, []).append(scan)
    found: dict[str, Source] = {}
    files: list[FileRow] = []
    for name, mine in wanted.items():
        if name in KINDS:
            found[name], held = _source(snapshot, name, mine)
            files += held
    rows = {
        name: sql_views.rows_table(name, ask(snapshot, _named(wanted[name])))
        for name, ask in _ASK.items()
        if name in wanted
    }
    sets, more = _sets(snapshot, wanted) if features else ((), ())
    return Gathered(found, (*files, *more), rows, sets)


def _sets(snapshot: Snapshot, wanted: Mapping[str, Sequence[Scan]]) -> tuple[Catalog, tuple[FeatureRow, ...]]:
    """All sets, with the files of those that are read."""
    current = sql_features.current(feature_table.features(snapshot))
    sets: list[sql_features.Table] = []
    files: list[FeatureRow] = []
    for table in sql_features.catalog(current):
        asked = wanted.get(sql_features.base(table), ())
        held = [row for row in current if row.feature_set == table.name and any(_holds(scan, row) for scan in asked)]
        sets.append(msgspec.structs.replace(table, parts=sql_features.parts(held)))
        files += held
    return tuple(sets), tuple(files)


def _holds(scan: Scan, row: FeatureRow) -> bool:
    """Whether a version can hold a row of a scan."""
    names = all(meets(scan.texts.get(name, ALL), *[getattr(row, name)] * 2) for name in MARKET)
    return names and meets(scan.times(OWN_TIME), row.ts_min, row.ts_max)


def _source(snapshot: Snapshot, name: str, scans: Sequence[Scan]) -> tuple[Source, list[FileRow]]:
    time = time_column(name)
    span = _hull(_times(scan, time) for scan in scans)
    named = _named(scans) | {"kind": name}
    first, last = _hull(_dates(scan, time) for scan in scans)
    files = snapshot.files(
        **named,
        date_from=None if first is None else times.date_of(first * DAY).isoformat(),
        date_to=None if last is None else times.date_of(last * DAY).isoformat(),
    )  # fmt: skip
    whole = {(f.exchange, f.market_type, f.date) for f in files if f.level == "day" and f.symbol is None}
    mine = [f for f in files if any(_takes(scan, f, time) for scan in scans)]
    daily = [f for f in mine if f.level == "day"]
    hot = [f for f in mine if f.level != "day" and (f.exchange, f.market_type, f.date) not in whole]
    dates = {f.date for f in hot}
    closed = tuple(
        (f.exchange, f.market_type, f.symbol, f.date)
        for f in files
        if f.level == "day" and f.symbol is not None and f.date in dates
    )
    holes = _holes(snapshot, named, _around(span, bars.WIDTHS[name]), lambda: files) if name in BARS and mine else ()
    edges = tuple(
        (h.exchange, h.market_type, h.symbol, h.ts_from, FOREVER if h.ts_to is None else h.ts_to) for h in holes
    )
    source = Source(name, tuple(f.path for f in daily), tuple(f.path for f in hot), closed, edges, span)
    return source, [*daily, *hot]


def _around(span: tuple[int | None, int | None], width: int) -> Interval:
    """A span in whole windows."""
    low = EVER.start if span[0] is None else floor_to(span[0], width)
    return Interval(low, EVER.end if span[1] is None else floor_to(span[1], width) + width)


def _times(scan: Scan, column: str) -> Ranges[int]:
    """By either time of a bar, which are the same."""
    return sql_plan.both(scan.numbers.get("ts_event", ALL), scan.numbers.get(column, ALL))


def _dates(scan: Scan, column: str) -> Ranges[int]:
    """Days since 1970 that the times and dates of a scan leave."""
    days = tuple(
        (None if low is None else low // DAY, None if high is None else high // DAY)
        for low, high in _times(scan, column)
    )
    near: Ranges[int] = tuple(
        (
            low if low is not None and 0 <= low < _DAYS else None,
            high if high is not None and 0 <= high < _DAYS else None,
        )
        for low, high in sql_plan.both(days, scan.numbers.get("date", ALL))
    )
    return near


def _hull(held: Iterable[Ranges[int]]) -> tuple[int | None, int | None]:
    """The lowest and the highest edge; None where there is none."""
    edges = [edge for ranges in held for edge in ranges]
    lows, highs = [low for low, _ in edges], [high for _, high in edges]
    low = None if None in lows or not lows else min(one for one in lows if one is not None)
    high = None if None in highs or not highs else max(one for one in highs if one is not None)
    return low, high


def _named(scans: Sequence[Scan]) -> _Asked:
    """What the manifest is asked for by name: it answers with at least all that the scans want."""
    return {column: _points(scan.texts.get(column, ALL) for scan in scans) for column in sql_plan.TEXTS}


def _points(held: Iterable[Ranges[str]]) -> list[str] | None:
    """The values that are asked for one by one; None where there is another range, or too many to ask for."""
    values: set[str] = set()
    for low, high in (edge for ranges in held for edge in ranges):
        if low is None or low != high:
            return None
        values.add(low)
    return sorted(values) if 0 < len(values) <= BATCH else None


def _takes(scan: Scan, file: FileRow, time: str) -> bool:
    """Whether a file can hold a row of a scan."""
    day = times.day_start(dt.date.fromisoformat(file.date)) // DAY
    return (
        meets(scan.texts.get("exchange", ALL), file.exchange, file.exchange)
        and meets(scan.texts.get("market_type", ALL), file.market_type, file.market_type)
        and (file.symbol is None or meets(scan.texts.get("symbol", ALL), file.symbol, file.symbol))
        and meets(scan.numbers.get("date", ALL), day, day)
        and meets(_times(scan, time), file.ts_min, file.ts_max)
    )


def _holes(
    snapshot: Snapshot, asked: _Asked, around: Interval, files: Callable[[], Iterable[FileRow]]
) -> list[BarHole]:
    """Where bars are hidden, of each symbol one behind the other (`lake.bar_holes`). `files` are those of the bars."""
    named = {column: asked[column] for column in ("exchange", "market_type")}
    kind = asked.get("kind") or BARS[-1]
    symbols = asked["symbol"] and sorted({*asked["symbol"], bars.EVERY_SYMBOL})
    gaps = [
        gap
        for of in (*sources.TRADES, kind)
        for gap in snapshot.gaps(**named, kind=of, symbol=symbols, state=MISSING, overlapping=around)
    ]
    held = spans(bar_holes.hiding(snapshot, bar_holes.of_bars(snapshot, gaps, **named, symbols=symbols), files()))
    return [
        BarHole(
            exchange=key[0], market_type=key[1], symbol=key[2], ts_from=one.start,
            ts_to=None if one.end >= EVER.end else one.end,
        )
        for key in sorted(held)
        for one in union(held[key])
    ]  # fmt: skip
