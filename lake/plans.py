"""One read, answered by one snapshot of the manifest: its files, gaps, coverage, and how complete they are.

Nothing behind a plan asks the manifest again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from lake import bar_holes, bars, bars_due, completeness, past, sources
from lake.asking import Question, dates
from lake.completeness import Completeness, Reached
from lake.fills import Spans, SymbolKey
from lake.listings import Listing, listings, refuse_two_listings, resolve
from lake.manifest_reads import BATCH, Snapshot
from lake.reading import EVER, Selection, Wanted, choose
from lake.rows import FileRow
from market.session import Coverage, Gap, GapState
from market.times import DAY, Interval, floor_to

MISSING: tuple[GapState, ...] = ("open", "unrepairable")
"""States of a gap inside which nothing is known."""
_MARKETS = 16
"""Choices of markets whose listings are remembered."""


class Plan(msgspec.Struct, frozen=True):
    """What a question means: `files` are the live ones of its kind, of which `selection` can hold wanted rows.

    `coverage` (of what bars are made from) ends where their rows end that can be read. `gaps` are those that hide bars:
    `told` also names those of deleted trades whose bars are there. `until` (us) is how far the rows go of what was
    collected, None where nothing says so.
    """

    question: Question
    wanted: tuple[Wanted, ...]
    files: tuple[FileRow, ...]
    selection: Selection
    gaps: tuple[Gap, ...]
    coverage: tuple[Coverage, ...]
    until: int | None
    told: Completeness

    @property
    def kind(self) -> str:
        return self.question.kind

    @property
    def span(self) -> Interval:
        return self.question.span

    def narrowed(self, span: Interval, wanted: tuple[Wanted, ...]) -> Plan:
        """The same for a part of the span and some of the symbols: from the same snapshot."""
        q = msgspec.structs.replace(self.question, span=span)
        return msgspec.structs.replace(
            self, question=q, wanted=wanted, selection=self.selection.narrowed(q.around, wanted)
        )

    def covered(self) -> Spans:
        """The coverage of what is asked for, by symbol."""
        return spans(row for row in self.coverage if takes(self.wanted, row))


class Names:
    """What symbols mean: listings by the contract files that name them, read once for as long as these stay.

    May be shared between threads.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[tuple[str, ...], list[Listing]] = {}

    def listings(self, snapshot: Snapshot, exchange: str | None, market_type: str | None) -> list[Listing]:
        """Raises CorruptFile."""
        files = snapshot.files("contract", exchange=exchange, market_type=market_type)
        key = tuple(file.path for file in files)
        known = self._known.get(key)
        if known is None:
            known = listings(self.root, files)
            self._known = {**(self._known if len(self._known) < _MARKETS else {}), key: known}
        return known

    def wanted(
        self, snapshot: Snapshot, exchange: str | None, market_type: str | None, asked: Iterable[Wanted]
    ) -> tuple[Wanted, ...]:
        """What is asked for in the venues' spellings."""
        held = list(asked)
        if all(one.symbol is None for one in held):
            return tuple(held)
        known = self.listings(snapshot, exchange, market_type)
        return tuple(venue for one in held for venue in resolve(one, known))


def plan(names: Names, snapshot: Snapshot, q: Question, version: int) -> Plan:
    """The plan of a question. Raises WrongQuestion (two listings of one ticker), CorruptFile."""
    known = names.listings(snapshot, q.exchange, q.market_type)
    spelt = {one.symbol: resolve(one, known) for one in q.asked}
    wanted = tuple(venue for spellings in spelt.values() for venue in spellings)
    around, symbols = q.around, symbols_of(wanted)
    first, last = dates(around)

    def found(state: str | None) -> list[FileRow]:
        return snapshot.files(
            q.kind, exchange=q.exchange, market_type=q.market_type, symbol=symbols, date_from=first, date_to=last,
            state=state,
        )  # fmt: skip

    files = _files(names.root, snapshot, q, wanted, found)
    sure: frozenset[str] = frozenset()
    if q.min_state == "verified" and files:
        newest = {c.path: c.verified for c in snapshot.certificates(exchange=q.exchange, kind=q.kind)}
        sure = frozenset(path for path, verified in newest.items() if verified)
    selection = choose(q.kind, files, wanted, around, q.min_state, sure)
    if not q.across_listings:
        refuse_two_listings(known, wanted, _extent(selection, q.span))
    mine = [file for file in files if any(one.takes(file) for one in wanted)]
    if q.min_state == "provisional" and q.version is None:
        reached = completeness.reached(snapshot, q.kind, mine)
    else:
        left_out = [f for f in mine if f.level == "day" and f.path not in sure] if q.min_state == "verified" else []
        reached = completeness.reached_by_days(mine, left_out)
    if q.as_of is not None:
        reached = {market: None if at is None else min(at, q.as_of) for market, at in reached.items()}
    gaps, coverage = _holes(snapshot, q, symbols, around)
    coverage = list(_readable(coverage, reached))
    if q.bar is not None and q.version is None and q.as_of is None:
        coverage, due = bars_due.cut(snapshot, coverage, mine, gaps, around)
        for market, at in due.items():
            held = reached.get(market)
            reached[market] = at if held is None else min(held, at)
    gaps = [gap for gap in gaps if takes(wanted, gap)]
    inside = [gap for gap in gaps if gap.ts_from < q.span.end]
    hiding = bar_holes.hiding(snapshot, gaps, files) if q.bar is not None else gaps
    until = completeness.until(reached, q.span)
    named = {name: spellings for name, spellings in spelt.items() if name is not None}
    since = min(q.span.start, q.span.start if until is None else until) - completeness.SHOWN
    unknown = completeness.unknown(snapshot, q.kind, named, mine, Interval(since, q.span.end))
    said = until if until is None or completeness.begun(snapshot, q.kind, reached, mine, until) else None
    return Plan(
        question=q, wanted=wanted, files=tuple(files), selection=selection, gaps=tuple(hiding),
        coverage=tuple(coverage), until=until, told=completeness.told(version, said, inside, unknown),
    )  # fmt: skip


def _files(root: Path, snapshot: Snapshot, q: Question, wanted: Sequence[Wanted], found: past.Files) -> list[FileRow]:
    """The files of the kind that the question means: live ones, or those of an earlier answer. Raises NotHeld."""
    if q.version is None and q.as_of is None:
        return found("live")

    def mine(state: str | None) -> list[FileRow]:
        return [file for file in found(state) if any(one.takes(file) for one in wanted)]

    if q.version is not None:
        return past.of_version(root, mine, q.version)
    assert q.as_of is not None
    return past.as_of(root, snapshot, mine, q.as_of)


def symbols_of(wanted: Sequence[Wanted]) -> list[str] | None:
    """What the manifest is asked for: whatever says nothing of these symbols cannot be of use. None for all."""
    names = {one.symbol for one in wanted if one.symbol is not None}
    return None if len(names) > BATCH or any(one.symbol is None for one in wanted) else sorted(names)


def takes(wanted: Iterable[Wanted], row: Gap | Coverage) -> bool:
    """Whether a row of the manifest says something of what is wanted."""
    return any(one.means(row.exchange, row.market_type, row.symbol) for one in wanted)


def spans(rows: Iterable[Gap | Coverage]) -> Spans:
    """Intervals by symbol. A gap that still grows has no end, and one between two ids of one us is one us wide."""
    held: dict[SymbolKey, list[Interval]] = {}
    for row in rows:
        end = EVER.end if row.ts_to is None else max(row.ts_to, row.ts_from + 1)
        held.setdefault((row.exchange, row.market_type, row.symbol), []).append(Interval(row.ts_from, end))
    return held


def _extent(selection: Selection, span: Interval) -> Interval:
    """The part of `span` that the files reach: an open end is no reason to refuse."""
    held = selection.files
    if not held:
        return Interval(0, 0)
    return span.clip(Interval(min(file.ts_min for file in held), max(file.ts_max for file in held) + 1))


def _holes(
    snapshot: Snapshot, q: Question, symbols: list[str] | None, span: Interval
) -> tuple[list[Gap], list[Coverage]]:
    """Gaps of the kind (of bars: those that were deleted); and of bars the gaps and coverage of what they were made
    from: trades, or aggregated ones where trades are not collected.
    """
    named = None if symbols is None else [*symbols, bars.EVERY_SYMBOL]

    def missing(kind: str) -> list[Gap]:
        states = MISSING if q.as_of is None else None
        held = snapshot.gaps(q.exchange, q.market_type, kind, named, state=states, overlapping=span)
        at = q.as_of
        return held if at is None else [gap for gap in held if past.gap_at(gap, at, MISSING)]

    if q.bar is None:
        return missing(q.kind), []
    days = Interval(floor_to(span.start, DAY), -floor_to(-span.end, DAY))
    gaps: list[Gap] = []
    coverage: list[Coverage] = []
    for source in sources.TRADES:
        gaps += missing(source)
        coverage += snapshot.coverage(q.exchange, q.market_type, source, named, overlapping=days)
    inside = [c for c in coverage if c.ts_from < span.end and c.ts_to > span.start]
    holes = [*sources.of_bars(gaps, coverage, symbols or ()), *missing(q.kind)]
    return [gap for gap in holes if gap.ts_to is None or gap.ts_to >= span.start], sources.of_bars(inside, coverage)


def _readable(coverage: Iterable[Coverage], reached: Reached) -> Iterable[Coverage]:
    """Coverage up to where rows can be read: what has come and is no bar yet is not known to be empty."""
    for row in coverage:
        end = reached.get((row.exchange, row.market_type))
        if end is None or row.ts_to <= end:
            yield row
        elif row.ts_from < end:
            yield msgspec.structs.replace(row, ts_to=end)
