"""What a lake holds and when it was collected: data sets, coverage and gaps.

Every function answers from one snapshot of the manifest and opens no data file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from lake import bar_holes, held_files, sources
from lake.asking import dates
from lake.bars import EVERY_SYMBOL
from lake.held_files import Held
from lake.manifest_reads import Snapshot
from lake.plans import MISSING, symbols_of, takes
from lake.reading import EVER, Wanted
from lake.rows import FileRow
from lake.sources import TRADES
from market import times
from market.kinds import BARS
from market.session import Coverage, Gap, GapState
from market.times import DAY, Interval, floor_to, union


class Dataset(msgspec.Struct, kw_only=True):
    """One kind of one symbol, as far as it is in files. `symbol` is None for what one file holds of all symbols.

    `ts_min` and `ts_max` are its first and last time (us), `days` the closed days, `modified` when its newest file was
    made (us). Files of all symbols (hot ones, and daily ones of some kinds) are counted as data set of their own:
    whose rows they hold is known from `coverage` only, so that a symbol without a daily file has `rows` 0 and, in
    `hot`, that rows of its market are still to be split.
    """

    exchange: str
    market_type: str
    kind: str
    symbol: str | None
    files: int = 0
    rows: int = 0
    bytes: int = 0
    days: int = 0
    ts_min: int | None = None
    ts_max: int | None = None
    modified: int | None = None
    verified_days: int = 0
    hot: bool = False
    open_gaps: int = 0


class Covered(msgspec.Struct, kw_only=True):
    """When one kind of one symbol was collected: disjoint `intervals` of venue time, and the holes known in them.

    `covered` and `missing` are us: what was covered, and what of that open or unrepairable gaps take, of which
    `deleted` was deleted by somebody. `complete` says whether all of the asked range was covered and has no such gap
    (None where no range was asked for).
    """

    exchange: str
    market_type: str
    kind: str
    symbol: str
    intervals: tuple[Interval, ...]
    covered: int
    gaps: int
    missing: int
    complete: bool | None
    deleted: int = 0


class Filter(msgspec.Struct, frozen=True):
    """Which data are meant: a kind (None for all), symbols as the venues spell them, and a span of event time."""

    kind: str | None
    exchange: str | None
    market_type: str | None
    wanted: tuple[Wanted, ...]
    span: Interval

    @property
    def sources(self) -> tuple[str | None, ...]:
        """The kinds whose gaps and coverage speak of it: of bars those that they are made from."""
        return TRADES if self.of_bars else (self.kind,)

    @property
    def of_bars(self) -> bool:
        return self.kind in BARS

    @property
    def names(self) -> list[str] | None:
        held = symbols_of(self.wanted)
        return None if held is None else [*held, EVERY_SYMBOL]

    def files(self, snapshot: Snapshot, *, state: str | None = "live") -> list[FileRow]:
        first, last = dates(self.span)
        found = snapshot.files(
            self.kind, exchange=self.exchange, market_type=self.market_type, symbol=symbols_of(self.wanted),
            date_from=first, date_to=last, state=state,
        )  # fmt: skip
        return [file for file in found if any(one.takes(file) for one in self.wanted)]


def files(snapshot: Snapshot, asked: Filter) -> list[Held]:
    """The live files that can hold what is asked for."""
    found = held_files.files(
        snapshot, asked.kind, asked.exchange, asked.market_type, symbols_of(asked.wanted), dates(asked.span)
    )
    return [one for one in found if any(wanted.takes(one.file) for wanted in asked.wanted)]


def gaps(snapshot: Snapshot, asked: Filter, states: Sequence[GapState] | None) -> list[Gap]:
    """Gaps of these states (None: all), by (exchange, market_type, kind, symbol, start)."""
    overlapping = None if asked.span == EVER else asked.span
    found: list[Gap] = []
    for kind in (*asked.sources, *([asked.kind] if asked.of_bars else [])):
        found += snapshot.gaps(
            asked.exchange, asked.market_type, kind, asked.names, state=states, overlapping=overlapping
        )
    found = [gap for gap in found if takes(asked.wanted, gap)]
    return (
        bar_holes.of_bars(snapshot, found, asked.exchange, asked.market_type, asked.names) if asked.of_bars else found
    )


def coverage(snapshot: Snapshot, asked: Filter) -> list[Covered]:
    """What was collected when, a row for each stream of one symbol. Of bars: of the trades that they are made from."""
    whole = None
    if asked.span != EVER:
        days = Interval(floor_to(asked.span.start, DAY), -floor_to(-asked.span.end, DAY))
        whole = days if asked.of_bars else asked.span  # who is traded is told by the day
    rows: list[Coverage] = []
    for kind in asked.sources:
        rows += snapshot.coverage(asked.exchange, asked.market_type, kind, asked.names, overlapping=whole)
    rows = sources.of_bars(rows, rows) if asked.of_bars else rows
    held: dict[tuple[str, str, str, str], list[Interval]] = {}
    for row in rows:
        clipped = asked.span.clip(Interval(row.ts_from, row.ts_to))
        if takes(asked.wanted, row) and not clipped.empty:
            kind = asked.kind if asked.of_bars and asked.kind is not None else row.kind
            held.setdefault((row.exchange, row.market_type, kind, row.symbol), []).append(clipped)
    missing = gaps(snapshot, asked, MISSING)
    missing = bar_holes.hiding(snapshot, missing, asked.files(snapshot)) if asked.of_bars else missing
    return [_covered(key, union(some), missing, asked) for key, some in sorted(held.items())]


def _covered(
    key: tuple[str, str, str, str], intervals: list[Interval], missing: Iterable[Gap], asked: Filter
) -> Covered:
    exchange, market_type, kind, symbol = key
    kinds = (*TRADES, kind) if kind in BARS else (kind,)
    mine = [
        gap
        for gap in missing
        if (gap.exchange, gap.market_type) == (exchange, market_type)
        and gap.kind in kinds
        and gap.symbol in (symbol, EVERY_SYMBOL)
    ]
    end = max(asked.span.end if asked.span.end < EVER.end else intervals[-1].end, intervals[-1].end)

    def taken(gaps: Iterable[Gap]) -> int:
        holes = union(Interval(gap.ts_from, end if gap.ts_to is None else gap.ts_to) for gap in gaps)
        return sum(interval.length for interval in times.intersect(intervals, holes))

    total = sum(interval.length for interval in intervals)
    bounded = asked.span.start > EVER.start and asked.span.end < EVER.end
    return Covered(
        exchange=exchange, market_type=market_type, kind=kind, symbol=symbol, intervals=tuple(intervals),
        covered=total, gaps=len(mine), missing=taken(mine),
        deleted=taken(gap for gap in mine if gap.cause == bar_holes.DELETED),
        complete=not mine and times.covers(intervals, asked.span) if bounded else None,
    )  # fmt: skip


def datasets(snapshot: Snapshot, asked: Filter) -> list[Dataset]:
    """What is held, by (exchange, market_type, kind, symbol)."""
    made: dict[tuple[str, str, str, str], Dataset] = {}

    def of(exchange: str, market_type: str, kind: str, symbol: str | None) -> Dataset:
        key = (exchange, market_type, kind, symbol or "")
        if key not in made:
            made[key] = Dataset(exchange=exchange, market_type=market_type, kind=kind, symbol=symbol)
        return made[key]

    verified = {
        row.path
        for row in snapshot.certificates(exchange=asked.exchange, market_type=asked.market_type, kind=asked.kind)
        if row.verified
    }
    hot: set[tuple[str, str, str]] = set()
    for file in asked.files(snapshot):
        one = of(file.exchange, file.market_type, file.kind, file.symbol)
        one.files += 1
        one.rows += file.rows
        one.bytes += file.bytes
        one.ts_min = file.ts_min if one.ts_min is None else min(one.ts_min, file.ts_min)
        one.ts_max = file.ts_max if one.ts_max is None else max(one.ts_max, file.ts_max)
        one.modified = file.created_at if one.modified is None else max(one.modified, file.created_at)
        one.days += file.level == "day"
        one.verified_days += file.path in verified
        if file.level != "day":
            hot.add((file.exchange, file.market_type, file.kind))
    shared = {(one.exchange, one.market_type, one.kind) for one in made.values() if one.symbol is None}
    for row in _streams(snapshot, asked):
        for kind in (row.kind, *(BARS if row.kind in TRADES else ())):
            if (row.exchange, row.market_type, kind) in shared and asked.kind in (None, kind):
                of(row.exchange, row.market_type, kind, row.symbol)
    for one in made.values():
        one.hot = (one.exchange, one.market_type, one.kind) in hot
    for gap in gaps(snapshot, asked, ("open",)):
        held = made.get((gap.exchange, gap.market_type, asked.kind if asked.kind in BARS and asked.kind else gap.kind,
                         gap.symbol))  # fmt: skip
        if held is not None:
            held.open_gaps += 1
    return [one for _, one in sorted(made.items())]


def _streams(snapshot: Snapshot, asked: Filter) -> list[Coverage]:
    """Who was collected in the span: one row of each stream of a symbol will do."""
    overlapping = None if asked.span == EVER else asked.span
    found: dict[tuple[str, str, str, str], Coverage] = {}
    for kind in asked.sources:
        for row in snapshot.coverage(asked.exchange, asked.market_type, kind, asked.names, overlapping=overlapping):
            if row.symbol != EVERY_SYMBOL and takes(asked.wanted, row):
                found.setdefault((row.exchange, row.market_type, row.kind, row.symbol), row)
    return list(found.values())
