"""The ledger law of a whole lake: of each stream, what was received is stored, set aside, a copy, or lost in a gap row.

From what is on disk: seals, segments, live files, quarantine, gap rows, coverage, sessions and the ledger. It holds
for every lake, over all its days, before and after compaction. What does not add up is named by symbol and ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from lake.checks import DUPLICATE, REPARSED_ADDED, REPARSED_REMOVED, REPARSES, SEAL
from lake.errors import LakeError
from lake.finding import LOST, Finding
from lake.law_ids import MISSING, IdCount, StreamIds, gaps_of
from lake.law_rows import RowLaw, Tally, dates, lines, ours, readable, rows
from lake.manifest_reads import Snapshot
from lake.rows import FILES, FRAMES, CheckRow, SegmentRow, SessionRow
from market.kinds import KINDS, Contiguous
from market.session import Gap

Report = Callable[[int, int, str], None]
Stream = tuple[str, str, str]
GIVEN_UP = frozenset({"shed", "disk_full", "read_only", "storage_failed"})
"""Causes of gaps of events that we held and did not keep."""
_BEYOND_LINES = {REPARSED_ADDED: 1, REPARSED_REMOVED: -1}
FINDINGS = 200
"""Findings of one stream that are kept."""


class StreamLaw(msgspec.Struct, kw_only=True):
    """One stream: lines = rows - reparsed + duplicates + set_aside + waiting + lost, and the law of its ids, if any.

    `lines` counts every sealed line there ever was, `rows` what live files hold of them; `reparsed` of these came when
    frames were read again (negative where more went). `gaps` are those open or unrepairable. `problems`: findings that
    say where the law does not hold.
    """

    exchange: str
    market_type: str
    kind: str
    lines: int = 0
    waiting: int = 0
    set_aside: int = 0
    duplicates: int = 0
    rows: int = 0
    reparsed: int = 0
    lost: int = 0
    gaps: int = 0
    ids: IdCount | None = None
    problems: int = 0

    @property
    def holds(self) -> bool:
        return not self.problems


class MarketLaw(msgspec.Struct, kw_only=True):
    """What the sessions of a market say they received, beside the lines that were made of it.

    `events` are those that were new, by sessions that ended in order; `untold` sessions died before they could say.
    """

    exchange: str
    market_type: str
    sessions: int = 0
    untold: int = 0
    frames: int = 0
    ignored: int = 0
    rejected: int = 0
    events: int = 0
    lines: int = 0


class Law(msgspec.Struct):
    """The law of a lake."""

    streams: list[StreamLaw] = []
    markets: list[MarketLaw] = []
    findings: list[Finding] = []


def prove(root: Path, snapshot: Snapshot, broken: set[str], report: Report) -> Law:
    """Count every stream. `broken` are paths that are not what the manifest says: they are left out of the proof."""
    law = Law()
    streams = [stream for stream in snapshot.streams() if not KINDS[stream[2]].derived]
    origins: Counter[str] = Counter()
    for row in snapshot.quarantine():
        origins[row.origin] += row.count
    live = {row.path for row in snapshot.files()}
    every = snapshot.checks()
    checks = [row for row in every if row.check in (DUPLICATE, SEAL)]
    reparses = [row for row in every if row.check in REPARSES and row.path in live]
    doubled = Counter[str]()
    for check in checks:
        doubled[check.path] += check.count if check.check == DUPLICATE and check.path in live else 0
    altered = {check.path for check in checks if check.check == SEAL}
    gaps = gaps_of(snapshot.gaps())
    total = sum(len(snapshot.files(kind, exchange=e, market_type=m)) for e, m, kind in streams)
    done = 0
    for stream in streams:
        proof = _Stream(root, stream, snapshot, gaps.get(stream, []), broken, origins, doubled, altered, reparses)
        for path in proof.read():
            report(done, total, path)
            done += 1
        made, findings = proof.judge()
        law.streams.append(made)
        law.findings += findings
    law.markets = list(_markets(snapshot, origins))
    law.findings += _untold(law.markets, gaps)
    return law


class _Stream:
    """The proof of one stream."""

    def __init__(
        self,
        root: Path,
        stream: Stream,
        snapshot: Snapshot,
        gaps: Sequence[Gap],
        broken: set[str],
        origins: Counter[str],
        doubled: Mapping[str, int],
        altered: set[str],
        reparses: Sequence[CheckRow],
    ) -> None:
        exchange, market_type, self.kind = stream
        self.root = root
        self.stream = stream
        self.gaps = gaps
        self.coverage = snapshot.coverage(*stream)
        self.segments = [row for row in snapshot.segments(*stream) if row.state != "open"]
        self.every = snapshot.files(self.kind, exchange=exchange, market_type=market_type)
        self.files = [row for row in self.every if row.path not in broken and (root / row.path).is_file()]
        self.duplicates = sum(doubled.get(row.path, 0) for row in self.every)
        self.altered = sum(row.rows for row in self.segments if row.path in altered)
        self.whole = len(self.files) == len(self.every)
        aside = {row.path: origins[row.path] for row in self.segments if origins[row.path]}
        held = readable(root, self.segments, broken | altered)
        paths = {row.path for row in held}
        partly = dates(row for row in self.segments if row.rows and row.path not in paths and row.state != "sealed")
        self.aside = aside
        paths = {row.path for row in self.every}
        mine = [row for row in reparses if row.path in paths]
        self.reparsed = sum(_BEYOND_LINES.get(row.check, 0) * row.count for row in mine)
        again = {row.path for row in mine}
        anew = frozenset((row.symbol, row.date) for row in self.every if row.path in again)
        sessions = snapshot.sessions(exchange, market_type)
        self.taken_in = frozenset(row.session for row in sessions if row.source in FILES)
        self.rows_law = RowLaw(root, self.kind, held, self.files, aside, partly, anew, self.taken_in)
        self.contiguous = any(isinstance(check, Contiguous) for check in KINDS[self.kind].checks)
        self.ids = StreamIds()
        self.tally = Tally()
        self.rows = 0
        self.findings: list[Finding] = []

    def read(self) -> Iterable[str]:
        """Read every live file once; gives the path of each before it is read."""
        seq = KINDS[self.kind].seq
        for row in self.files:
            yield row.path
            counted = row.date in self.rows_law.dates
            if not counted and not self.contiguous and self.kind != "book_delta":
                self.rows += row.rows
                continue
            try:
                for frame in rows(self.root / row.path, self.kind):
                    mine = ours(frame, self.taken_in)
                    self.rows += mine.height
                    if counted:
                        self.tally.add(mine)
                    if self.contiguous and seq is not None:
                        self.ids.add(frame, seq)
            except LakeError as error:
                self.findings.append(Finding("error", row.path, error.message, LOST))
        if self.contiguous and seq is not None:
            for segment in self.segments:
                path = self.root / segment.path
                if segment.state == "sealed" and segment.rows and path.is_file():
                    for frame, _ in lines(path, self.kind):
                        self.ids.add(frame, seq)

    def judge(self) -> tuple[StreamLaw, list[Finding]]:
        exchange, market_type, kind = self.stream
        waiting = sum(row.rows for row in self.segments if row.state == "sealed")
        unread = sum(row.rows for row in self.segments if row.state == "quarantined")
        made = StreamLaw(
            exchange=exchange, market_type=market_type, kind=kind, lines=sum(row.rows for row in self.segments),
            waiting=waiting, set_aside=unread + sum(self.aside.values()), duplicates=self.duplicates, rows=self.rows,
            reparsed=self.reparsed, gaps=sum(gap.state in MISSING for gap in self.gaps),
        )  # fmt: skip
        if self.whole:
            self.rows_law.judge(self.tally)
        self.findings += self.rows_law.findings
        explained = made.rows - made.reparsed + made.duplicates + made.set_aside + made.waiting
        made.lost = max(0, made.lines - explained)
        self.findings += self._unnamed(made)
        if self.contiguous:
            made.ids, found = self.ids.judge(self.stream, self.gaps, self.coverage)
            self.findings += found
        made.problems = len(self.findings)
        return made, self.findings[:FINDINGS]

    def _unnamed(self, made: StreamLaw) -> list[Finding]:
        """Lines that are in no table, beyond those that were named."""
        left = made.lost - self.rows_law.missing - self.altered
        if left <= 0 or not self.whole:
            return []
        problem = (
            f"{made.lines:,} lines were sealed, but {made.rows - made.reparsed:,} rows + {made.duplicates:,} duplicates"
            f" + {made.set_aside:,} set aside + {made.waiting:,} waiting = {made.lines - made.lost:,}:"
            f" {left:,} lines are in no table"
        )
        return [
            Finding("error", "/".join(self.stream), problem, "dl verify --frames says which, while frames are kept")
        ]


def _markets(snapshot: Snapshot, origins: Mapping[str, int]) -> Iterable[MarketLaw]:
    found: dict[tuple[str, str], MarketLaw] = {}

    def of(row: SessionRow | SegmentRow) -> MarketLaw:
        made = MarketLaw(exchange=row.exchange, market_type=row.market_type)
        return found.setdefault((row.exchange, row.market_type), made)

    for session in snapshot.sessions():
        if session.source in FILES:
            continue
        held = of(session)
        told = session.closed_at is not None and session.close_cause != "crash"
        held.sessions += 1
        held.untold += not told
        held.frames += session.frames
        held.ignored += session.ignored
        held.events += session.events
        held.rejected += origins.get(session.session, 0)
    for segment in snapshot.segments():
        if segment.kind != FRAMES and segment.state != "open":
            of(segment).lines += segment.rows
    return [found[key] for key in sorted(found)]


def _untold(markets: Iterable[MarketLaw], gaps: Mapping[Stream, Sequence[Gap]]) -> list[Finding]:
    """Events that sessions say were new and that no segment has: only shedding explains them, and it leaves gaps."""
    found = []
    for held in markets:
        market = (held.exchange, held.market_type)
        shed = any(gap.cause in GIVEN_UP for stream, some in gaps.items() if stream[:2] == market for gap in some)
        if held.untold or shed or held.events <= held.lines:
            continue
        problem = f"sessions tell of {held.events:,} new events, segments of {held.lines:,} lines"
        found.append(
            Finding("error", "/".join(market), problem, "dl verify --frames says which, while frames are kept")
        )
    return found
