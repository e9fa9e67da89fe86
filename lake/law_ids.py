"""The law of ids: what the venue numbered is stored, or in a gap row, or was not asked for; and no gap row is lost.

Over all of a stream, hot rows and waiting lines included, from the first id of a symbol to its last:
last - first + 1 = stored + void + missing + not collected. What is left over was lost, and no row says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import polars as pl

from lake.checks import Hole, Ids
from lake.commits import Start, Void
from lake.finding import Finding
from lake.ledger import Entry
from lake.rows import CertificateRow
from market.errors import Malformed
from market.session import Coverage, Gap
from market.times import Interval, covers, intersect, subtract, text, union

MISSING = ("open", "unrepairable")
RESET = "id_reset"
SHOWN = 5
"""Holes of one symbol that are named one by one."""
FROM_LEDGER = "dl rebuild takes it from the ledger"
HOLE_HINT = "the frames of that time may still have them: dl verify --frames; then dl replay them into a new lake"


class IdCount(msgspec.Struct):
    """The ids of a stream, summed over its symbols."""

    symbols: int = 0
    numbered: int = 0
    """Ids from the first to the last of each symbol."""
    stored: int = 0
    void: int = 0
    missing: int = 0
    uncollected: int = 0
    """Ids that passed while the stream was not asked for: no gap."""
    unexplained: int = 0


class StreamIds:
    """The ids of one stream as they are read, in any order."""

    def __init__(self) -> None:
        self.ids: dict[str, Ids] = {}

    def add(self, frame: pl.DataFrame, column: str) -> None:
        """Rows with `symbol`, `ts_event` (us) and the id in `column`."""
        for (symbol,), part in frame.group_by("symbol", maintain_order=True):
            held = self.ids.setdefault(str(symbol), Ids())
            held.add(part.get_column(column), part.get_column("ts_event"))

    def judge(
        self, stream: tuple[str, str, str], gaps: Sequence[Gap], coverage: Sequence[Coverage]
    ) -> tuple[IdCount, list[Finding]]:
        """The count, and each hole that nothing explains. `gaps` and `coverage` are those of the stream."""
        count, findings = IdCount(), []
        mine: dict[str, list[Gap]] = {}
        for gap in gaps:
            mine.setdefault(gap.symbol, []).append(gap)
        light: dict[str, list[Interval]] = {}
        for row in coverage:
            light.setdefault(row.symbol, []).append(Interval(row.ts_from, row.ts_to))
        for symbol in sorted(self.ids):
            left = _judge(self.ids[symbol], mine.get(symbol, ()), union(light.get(symbol, ())), count)
            findings += _say(stream, symbol, left)
        return count, findings


def _judge(ids: Ids, gaps: Sequence[Gap], light: Sequence[Interval], count: IdCount) -> list[tuple[Interval, Hole]]:
    """Adds one symbol to the count; the ids that nothing explains, with the hole that they are in."""
    runs = ids.runs()
    if not runs:
        return []
    count.symbols += 1
    numbered, anew = runs[-1].end - runs[0].start, any(gap.cause == RESET for gap in gaps)
    void, missing = (_spans(gaps, states) for states in (("void",), MISSING))
    missing = subtract(missing, void)
    left: list[tuple[Interval, Hole]] = []
    for hole in ids.holes():
        whole = [Interval(hole.id_from, hole.id_to)]
        in_void, in_gap = intersect(void, whole), intersect(missing, whole)
        count.void += _length(in_void)
        count.missing += _length(in_gap)
        rest = subtract(whole, [*in_void, *in_gap])
        if anew and rest == whole and hole.id_to - hole.id_from > _length(runs):
            numbered -= _length(whole)  # between two numberings there are no ids
        elif rest and not covers(light, Interval(hole.ts_from, max(hole.ts_to, hole.ts_from + 1))):
            count.uncollected += _length(rest)
        else:
            left += [(span, hole) for span in rest]
    count.numbered += numbered
    count.stored += _length(runs)
    count.unexplained += sum(span.length for span, _ in left)
    return left


def _spans(gaps: Iterable[Gap], states: tuple[str, ...]) -> list[Interval]:
    """Ids of the gaps in these states."""
    return union(
        Interval(gap.id_from, gap.id_to)
        for gap in gaps
        if gap.state in states and gap.id_from is not None and gap.id_to is not None and gap.id_from < gap.id_to
    )


def _length(spans: Iterable[Interval]) -> int:
    return sum(span.length for span in spans)


def _say(stream: tuple[str, str, str], symbol: str, left: Sequence[tuple[Interval, Hole]]) -> list[Finding]:
    if not left:
        return []
    shown = [
        f"{_range(span)} ({text(hole.ts_from)} to {text(hole.ts_to)})" for span, hole in left[:SHOWN]
    ]  # fmt: skip
    more = f" and {len(left) - SHOWN:,} more holes" if len(left) > SHOWN else ""
    total = sum(span.length for span, _ in left)
    problem = f"{symbol}: {total:,} ids are neither stored nor in a gap row: {', '.join(shown)}{more}"
    return [Finding("error", "/".join(stream), problem, HOLE_HINT)]


def _range(ids: Interval) -> str:
    return str(ids.start) if ids.length == 1 else f"{ids.start}..{ids.end - 1}"


class Tale:
    """Which gap rows the ledger tells of, and when it did; and what it says of them and in certificates."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, Gap]] = {}
        self._facts: dict[str, set[tuple[object, ...]]] = {}
        self._certified: dict[str, set[int]] = {}
        self._held: tuple[int, _Commit] | None = None

    def take(self, entry: Entry) -> None:
        """The next entry of the ledger."""
        try:
            if entry.type == "void":
                void = entry.read(Void)
                if self._held is not None and (self._held[1].epoch, self._held[1].version) == (
                    void.epoch,
                    void.version,
                ):
                    self._held = None
                return
            if entry.type == "start" and self._held and entry.read(Start).version < self._held[1].version:
                self._held = None  # its writer died before the manifest had it
            self._settle()
            if entry.type == "commit":
                self._held = (entry.at, entry.read(_Commit))
            elif entry.type == "gap":
                self._gap(entry.at, entry.read(Gap))
            elif entry.type == "certificate":
                self._certificate(entry.read(CertificateRow))
        except Malformed:
            return  # whoever reads the ledger for its own sake says so

    def _settle(self) -> None:
        """What follows a commit without taking it back says that it took place."""
        if self._held is not None:
            at, commit = self._held
            for gap in commit.gaps:
                self._gap(at, gap)
            for row in commit.certificates:
                self._certificate(row)
            self._held = None

    def _gap(self, at: int, gap: Gap) -> None:
        self._told[gap.gap_id] = (at, gap)
        self._facts.setdefault(gap.gap_id, set()).add(_facts(gap))

    def _certificate(self, row: CertificateRow) -> None:
        self._certified.setdefault(row.path, set()).add(_said(row))

    def altered(self, gaps: Iterable[Gap], certificates: Iterable[CertificateRow]) -> list[Finding]:
        """Gaps and certificates of the manifest that say what the ledger never told of them."""
        self._settle()
        found = []
        for gap in gaps:
            told = self._facts.get(gap.gap_id, {_facts(gap)})
            if any(fact not in every for fact, every in zip(_facts(gap), zip(*told, strict=True), strict=True)):
                problem = f"{gap.symbol}: the manifest has a gap ({gap.state}, {gap.cause}{_span(gap)})"
                where = f"{gap.exchange}/{gap.market_type}/{gap.kind}"
                found.append(Finding("error", where, f"{problem}, the ledger tells of another", FROM_LEDGER))
        odd = [row.path for row in certificates if _said(row) not in self._certified.get(row.path, {_said(row)})]
        problem = "its certificate is not as the ledger tells it"
        return found + [Finding("error", path, problem, FROM_LEDGER) for path in odd]

    def lost(self, held: Iterable[Gap], before: int) -> list[Finding]:
        """Gaps told before `before` (us) that are not among `held`, the manifest's."""
        known = {gap.gap_id for gap in held}
        return [
            Finding("error", f"{g.exchange}/{g.market_type}/{g.kind}", _words(g), FROM_LEDGER)
            for gap_id, (at, g) in sorted(self._told.items())
            if gap_id not in known and at < before
        ]


class _Commit(msgspec.Struct):
    epoch: int = 0
    version: int = 0
    gaps: tuple[Gap, ...] = ()
    certificates: tuple[CertificateRow, ...] = ()


def _facts(gap: Gap) -> tuple[object, ...]:
    """What of a gap is as it was told once, by whichever report."""
    return gap.state, gap.ts_from, gap.ts_to, gap.id_from, gap.id_to


def _said(row: CertificateRow) -> int:
    return hash(msgspec.json.encode(row, order="sorted"))


def _words(gap: Gap) -> str:
    return f"{gap.symbol}: the ledger tells of a gap ({gap.cause}{_span(gap)}), the manifest does not"


def _span(gap: Gap) -> str:
    ids = ""
    if gap.id_from is not None and gap.id_to is not None and gap.id_from < gap.id_to:
        ids = f", ids {_range(Interval(gap.id_from, gap.id_to))}"
    return f", {text(gap.ts_from)} to {text(gap.ts_to) if gap.ts_to is not None else 'now'}{ids}"


def gaps_of(gaps: Iterable[Gap]) -> Mapping[tuple[str, str, str], list[Gap]]:
    """Gaps by stream."""
    found: dict[tuple[str, str, str], list[Gap]] = {}
    for gap in gaps:
        found.setdefault((gap.exchange, gap.market_type, gap.kind), []).append(gap)
    return found
