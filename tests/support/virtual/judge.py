"""What a virtual world's lake holds against what happened: day by day, and everything once more at the end."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import polars as pl

from collectors.recovery import settle
from compactor.service import compact_once
from daemon.rederiving import Rederiver, Wanted
from lake import Lake
from lake.manifest import Manifest
from lake.rows import FileRow, SessionRow
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market import times
from market.session import Gap
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from runtime.workers import InlineExecutor
from scripts.soak_compare import read_rows, streams
from simulator import oracle, signs, venues, witness
from simulator.windows import Windows
from simulator.witness import Key
from tests.support.virtual.market import TICK_SECONDS, Memory
from tests.support.virtual.process import rows_of
from tests.support.virtual.world import World
from transformer.service import transform_once

GRACE_SECONDS = 900.0
"""At a few events a minute silence is noticed after minutes."""
SLACK = round((2 * TICK_SECONDS + 1) * SECOND)
"""How far the times of an event as told and as it happened may lie apart: the venue speaks once a tick."""
MARGIN = 10 * MINUTE
QUIET = (("unexplained_gap", "stalled"), ("unexplained_gap", "id_reset"))
"""No findings: a quote in twenty seconds is less than a venue ever sends, and its silence is a stall by declaration;
and what lies between two numberings nobody can tell.
"""
FOLDED = ("trade", "agg_trade")
DECLARED = ("quote", "book_delta")
"""Kinds for which a silence of some minutes is an alarm by declaration, on a connection that tells others too."""
SILENT = ("stalled", "silence", "silent_stream", "no_first_message")
"""Causes that bring a handover about, and none that one could have: a stream, or all of a connection, has said nothing
for too long.
"""


class Judge:
    """Judges spans of time that follow each other at one venue; what is judged is forgotten."""

    def __init__(self, venue: str, truth: Memory, root: Path, kinds: dict[str, list[str]]) -> None:
        self.venue = venue
        self.truth = truth
        self.kinds = kinds
        self.root = root
        self.findings: list[str] = []
        self.handovers = self.undisturbed = 0
        """Handovers, and those of them with no fault near."""
        self.quiet = 0
        """Gaps of streams that had nothing to say for longer than their channel may be quiet."""
        self.verdicts: list[oracle.Verdict] = []
        self._signs = venues.load(venue).SIGNS
        self._before = self._since = 0
        """Where the last span began, and where it ended."""
        self._past: dict[Key, set[int]] = {}
        """Ids of the span before, which rows beside its end may have."""
        self._begun: set[Key] = set()
        """Streams whose truth begins with the newest of their rows in the spans before."""

    def span(self, until: int) -> oracle.Verdict:
        """Everything since the last call and before `until` (us), moved back to where no gap is."""
        manifest = Manifest.read_only(self.root)
        try:
            gaps = manifest.gaps(overlapping=Interval(self._since - HOUR, until + DAY))
            gaps = [gap for gap in gaps if gap.exchange == self.venue]
            sessions = [row for row in manifest.sessions() if row.exchange == self.venue]
            mine, folder = {row.session for row in sessions}, f"exchange={self.venue}/"
            aside = sum(row.count for row in manifest.quarantine() if row.origin in mine or folder in row.origin)
        finally:
            manifest.close()
        end = self._quiet(gaps, until)
        over = [row for row in sessions if self._since < (row.closed_at or 0) <= until]
        stored, places = self._stored(end)
        with mock.patch.object(oracle, "SLACK", SLACK):
            verdict = oracle.judge(
                self.truth.seen,
                stored,
                [as_of(gap, end) for gap in gaps if self._of_span(gap, end)],
                end,
                GRACE_SECONDS,
            )
        self._handovers(over, gaps)
        said = f"{times.text(self._since) if self._since else 'the start'} to {times.text(end)}"
        kept, quiet = excused(verdict.findings, gaps)
        self.quiet += quiet
        for found in kept:
            where = f"{self.venue} {found.market} {found.kind} {found.symbol}"
            self.findings.append(f"{said}: {found.rule} x {found.count} {where}: {found.detail}")
        if aside < verdict.in_quarantine:
            self.findings.append(f"{said}: {self.venue}: {verdict.in_quarantine} rejected, {aside} in quarantine")
        self.verdicts.append(verdict)
        for key, place in places.items():
            self._past[key] = set(self.truth.seen.told[key].ids[:place])
        self.truth.forget(places, end - DAY)
        self._before, self._since = self._since, end
        return verdict

    def told(self) -> list[str]:
        """The findings since the last time that this was asked."""
        found, self.findings = self.findings, []
        return found

    def _handovers(self, over: Sequence[SessionRow], gaps: Sequence[Gap]) -> None:
        """A session that handed over where nothing else went wrong leaves no gap."""
        windows = Windows(self.truth.seen, MINUTE)
        for row in over:
            closed, market = row.closed_at or 0, row.market_type
            if not (row.close_cause or "").startswith("handover"):
                continue
            self.handovers += 1
            if windows.near(market, closed - MINUTE, closed + MINUTE):
                continue
            self.undisturbed += 1
            self.findings += [
                f"{times.text(closed)}: planned_gap {self.venue} {market} {gap.kind} {gap.symbol}:"
                f" {gap.cause} from {gap.ts_from}"
                for gap in gaps
                if gap.market_type == market and gap.state == "open" and gap.cause not in (*SILENT, oracle.HANDED)
                if gap.ts_from < closed + MINUTE and (gap.ts_to is None or gap.ts_to > closed - MINUTE)
                if not windows.near(market, gap.ts_from, gap.ts_to or closed)  # of which a fault before it is the cause
            ]

    def _quiet(self, gaps: Sequence[Gap], until: int) -> int:
        """The last moment before `until` that is a minute away from every gap."""
        spans = [(g.ts_from - MINUTE, (g.ts_to or until + DAY) + MINUTE) for g in gaps if g.state == "open"]
        for back in range(240):
            at = until - back * MINUTE
            if at > self._since and not any(a <= at < b for a, b in spans):
                return at
        return until

    def _of_span(self, gap: Gap, end: int) -> bool:
        return gap.ts_from < end and (gap.ts_to is None or gap.ts_to > self._since)

    def _stored(self, end: int) -> tuple[dict[Key, oracle.Stored], dict[Key, int]]:
        """The streams as stored up to `end`, and the place of the last row of each in the truth."""
        stored: dict[Key, oracle.Stored] = {}
        places: dict[Key, int] = {}
        with contextlib.closing(Lake(self.root)) as lake:
            for market, kinds in self.kinds.items():
                for kind in kinds:
                    for symbol, held in self._read(lake, market, kind, end).items():
                        key = (kind, market, symbol)
                        told = self.truth.seen.told.get(key)
                        there = {one: n for n, one in enumerate(told.ids)} if told else {}
                        past = self._past.get(key, set())
                        kept = [
                            (one, value)
                            for one, value in zip(held.ids, held.values, strict=True)
                            if (told is not None and one in there and told.times[there[one]] < end)
                            or (one not in there and one not in past)
                        ]
                        wholes = [one for one in held.wholes if one in there and told.times[there[one]] < end]
                        stored[key] = oracle.Stored([one for one, _ in kept], [value for _, value in kept], wholes)
                        place = max((there[one] for one, _ in kept if one in there), default=0)
                        if place:
                            places[key] = place
        self._go_on(stored)
        self._begun |= places.keys()
        return stored, places

    def _go_on(self, stored: dict[Key, oracle.Stored]) -> None:
        """A stream that has rows again after a span without any goes on from the newest before it, which lies too far
        back to be read once more: what is between them is missing.
        """
        for key in self._begun & stored.keys():
            told, held = self.truth.seen.told[key], stored[key]
            if held.ids and told.times[0] < self._before:
                held.ids, held.values = [told.ids[0], *held.ids], [told.values[0], *held.values]

    def _read(self, lake: Lake, market: str, kind: str, end: int) -> dict[str, oracle.Stored]:
        """By symbol, with what lies beside the span."""
        sign = self._signs[market][kind]
        start = self._since - MARGIN if self._since else None
        if not sign.content:
            return streams(read_rows(lake, self.venue, market, kind, sign, start, end + MARGIN), kind, sign)
        timed = msgspec.structs.replace(sign, column="ts_event")
        rows = read_rows(lake, self.venue, market, kind, timed, start, end + MARGIN)
        rows = rows.filter(pl.col("source") == "ws").with_columns(pl.col("ts_event").cast(pl.Int64)).sort("ts_event")
        parts = rows.group_by("symbol", maintain_order=True)
        return {str(symbol): self._unnamed((kind, market, str(symbol)), part, sign) for (symbol,), part in parts}

    def _unnamed(self, key: Key, part: pl.DataFrame, sign: signs.Sign) -> oracle.Stored:
        """Rows without a name: each is the event nearest to it that said the same. What is told twice alike is not
        known to be the same.
        """
        values = witness.VALUES[key[0]] if sign.values is None else sign.values
        digests = [signs.digest(*row) for row in part.select(values).rows()]
        found: dict[int, int] = {}
        for said, time, value in zip(part.select(sign.content).rows(), part["ts_event"], digests, strict=True):
            number = self.truth.nearest(key, signs.digest(*said), time, found)
            if number is not None:
                found[number] = value
            elif not self.truth.said(key, signs.digest(*said)):
                found[signs.digest(*said)] = value
        return oracle.Stored(list(found), list(found.values()))


def excused(findings: Sequence[oracle.Finding], gaps: Sequence[Gap] = ()) -> tuple[list[oracle.Finding], int]:
    """The findings that are some, and how many gaps are of streams that had nothing to say for longer than their
    channel may be quiet: nothing is missing in these, also where a planned handover met one, or where it took along
    another stream of the connection that was left for it, as `gaps` tell.
    """
    along = _left_along(gaps)
    kept, quiet = list[oracle.Finding](), list[oracle.Finding]()
    for found in findings:
        told = (found.rule, found.detail.partition(" ")[0])
        declared = found.kind in DECLARED or (found.kind, found.market, found.symbol, _begin(found.detail)) in along
        declared = declared and told[0] == "unexplained_gap" and told[1] in SILENT
        (quiet if told in QUIET or declared else kept).append(found)
    met = {(one.kind, one.market, one.symbol, one.detail.partition(" ids ")[0]) for one in quiet}
    kept = [
        one for one in kept if one.rule != "planned_gap" or (one.kind, one.market, one.symbol, one.detail) not in met
    ]
    return kept, sum(one.count for one in quiet)


def _begin(detail: str) -> str:
    """The cause and the beginning of the gap that a finding is about."""
    return detail.partition(",")[0]


def _left_along(gaps: Sequence[Gap]) -> set[tuple[str, str, str, str]]:
    """(kind, market, symbol, beginning) of gaps in which a connection left for a quiet stream was lost to the others.

    Here minutes may pass without a quote, so that a connection is left which a venue's never would be; it leaves trades
    and candles too, of which nobody can tell then that none came.
    """
    left = {(g.market_type, g.session, g.cause) for g in gaps if g.kind in DECLARED and g.cause in SILENT and g.session}
    return {
        (gap.kind, gap.market_type, gap.symbol, f"{gap.cause} [{gap.ts_from}")
        for gap in gaps
        if (gap.market_type, gap.session, gap.cause) in left
    }


def as_of(gap: Gap, end: int) -> Gap:
    """The gap as it was at the end of a span (us): what ends later still grew, and is held to its ids in the next."""
    return gap if gap.ts_to is None or gap.ts_to <= end else msgspec.structs.replace(gap, ts_to=None, id_to=None)


def closed_days(root: Path, before: int, now: int) -> list[str]:
    """What is wrong with the days that ended before `before` (us): each stream in one certified file, no row twice. A
    part that came behind its day's file may wait for the next revision, which `now` is not due yet.
    """
    wrong: list[str] = []
    manifest = Manifest.read_only(root)
    try:
        date = times.date_of(before - DAY).isoformat()
        files = manifest.files(date_from=date, date_to=date)
        closed: dict[tuple[str, str, str], int] = {}
        for row in files:
            if row.level == "day":
                closed[_stream(row)] = max(row.created_at, closed.get(_stream(row), 0))
        files = [
            row
            for row in files
            if row.level != "part" or not now - HOUR < closed.get(_stream(row), 0) <= row.created_at
        ]
        for row in files:
            if row.level != "day":
                wrong.append(f"{date} is over and {row.path} is no daily file")
            elif not manifest.certificates(path=row.path):
                wrong.append(f"{row.path} has no certificate")
        seen = Counter((row.exchange, row.market_type, row.kind, row.symbol) for row in files)
        wrong += [f"{date}: {' '.join(map(str, key))} is in {count} files" for key, count in seen.items() if count > 1]
        if not any(row.kind == "bar_1m" for row in files) and any(row.kind in FOLDED for row in files):
            wrong.append(f"{date} has no file of bars")
    finally:
        manifest.close()
    return wrong


def _stream(row: FileRow) -> tuple[str, str, str]:
    return row.exchange, row.market_type, row.kind


def at_the_end(world: World) -> list[str]:
    """The invariants of a lake whose daemon has stopped: whole, idempotent, recovered twice as recovered once."""
    root, now = world.root, world.clock.now()
    wrong: list[str] = []
    with LakeWriter.open(root, "v", now, simulated=True) as writer:
        settle(writer, writer.recover(now), now)
        _work(world, writer, now)
    before = rows_of(root)
    with LakeWriter.open(root, "v", now, simulated=True) as writer:
        settle(writer, writer.recover(now), now)
        _work(world, writer, now)
    wrong += [f"I8: a second run: {what}" for what in differences(before, rows_of(root))]
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as snapshot:
            found = verify_lake(root, snapshot, lambda *_: None)
        wrong += [f"I3/I5: verify: {one.path}: {one.problem}" for one in found.findings if one.severity == "error"]
        wrong += [f"I5: session {row.session} never ended" for row in manifest.sessions(unclosed=True)]
    finally:
        manifest.close()
    return wrong


def proven_by_frames(world: World) -> list[str]:
    """What today's code makes otherwise of the frames of a lake whose daemon has stopped, market by market."""
    wrong: list[str] = []
    scratch = world.root.parent / "frames"
    scratch.mkdir()
    for venue, markets in world.settings.kinds.items():
        for market in markets:
            wanted = Wanted(venue, market)
            with Rederiver(world.root, wanted, world.config.collectors, world.clock.now(), scratch) as work:
                while work.step():
                    pass
            if not any(day.derived for day in work.outcome.days):
                wrong.append(f"frames: {venue} {market}: make no row")
            wrong += [
                f"frames: {found.path}: {found.problem}" for found in work.outcome.findings if found.severity == "error"
            ]
    return wrong


def _work(world: World, writer: LakeWriter, now: int) -> None:
    executor = InlineExecutor()
    transform_once(writer, executor, now, world.config.transformer)
    compact_once(writer, executor, now, world.config.compactor)


def differences(before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """Rows that only one of two dumps has; what counts runs is left out."""
    found = []
    for name in before.keys() | after.keys():
        if name == "meta":
            continue
        old, new = Counter(before.get(name, [])), Counter(after.get(name, []))
        found += [f"{name} gains {row}"[:300] for row in new - old] + [f"{name} loses {row}"[:300] for row in old - new]
    return found
