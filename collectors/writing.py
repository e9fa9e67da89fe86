"""Group commit: what has been received becomes lines on disk, frames before the lines made from them.

A pass writes what has come since the last one; every so often it also forces it to the disk and seals the segments
whose period is over: many files at once (`collectors.abreast`), recorded together. Sessions and gaps are recorded
before the data that name them. That a gap has its end, that less of it is missing than was recorded, or nothing after
all, that a session ended in order, and what is covered, is recorded once the data that prove it are durable. A pass
that a full disk interrupts is finished by the next call.

A pass has two halves, for two threads: `write` appends what has come and waits for no file, `settle` makes it durable,
seals and records. So a kill costs no more where the disk is slow. `commit` is both.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from collectors.abreast import Abreast
from collectors.config import WritingConfig
from collectors.intake import LaneKey, MarketKey, Pass, RejectedFrame
from collectors.spool import FramesSpool, SegmentSpool
from lake.errors import StorageFailed
from lake.frames import FrameLine, encode_frame_lines, payload
from lake.rows import FRAMES, BanRow, QuarantineRow, SessionRow
from lake.segment_files import quarantine
from lake.writer import LakeWriter
from market.session import Coverage, Gap
from market.times import Interval
from runtime import telemetry

REJECTED_BYTES = 4 * 1024 * 1024
"""Rejected frames set aside at the latest when they are this large together."""
REJECTED_HEAD = 64 * 1024
"""Bytes of one rejected frame that are set aside: what is wrong shows early, and the frames file has all of it."""


DENIED = (errno.EACCES, errno.EPERM)
ONE_BY_ONE = Abreast()
AnySpool: TypeAlias = FramesSpool | SegmentSpool


class Proven(NamedTuple):
    """How many of the rows that wait for durable data are about what was put so far."""

    coverage: int
    fillings: int
    ends: int


class GroupCommit:
    """Everything that is being written. A call that raised StorageFailed may be made again.

    `abreast` says how many files it waits for at a time. One thread calls it, but for `write`, for which another may.
    """

    def __init__(self, writer: LakeWriter, node: str, config: WritingConfig, abreast: Abreast | None = None) -> None:
        self._writer = writer
        self._node = node
        self._config = config
        self._abreast = abreast or ONE_BY_ONE
        self._rows = threading.RLock()
        """Held by whoever changes the lists of rows."""
        self._frames: dict[MarketKey, FramesSpool] = {}
        self._segments: dict[LaneKey, SegmentSpool] = {}
        self._sessions: list[SessionRow] = []
        self._gaps: list[Gap] = []
        self._fillings: list[Gap] = []
        """Gaps that are closed, or less than they were recorded to be, by data that may not be durable yet."""
        self._ends: list[SessionRow] = []
        self._coverage: list[Coverage] = []
        self._quarantine: list[QuarantineRow] = []
        self._rejected: list[RejectedFrame] = []
        self._bans: list[BanRow] = []
        self._notes: list[dict[str, Any]] = []
        self._steps: list[tuple[int, int]] = []
        self.parked: dict[LaneKey, StorageFailed] = {}
        """Kinds whose folder took nothing at the last pass (a permission that is lost) while others did."""

    def begin(self, lanes: Iterable[LaneKey], now: int, frames: Iterable[MarketKey] = ()) -> None:
        """These are collected from `now` (us) on, even while nothing comes."""
        for market in frames:
            self._frames_of(market).begin(now)
        for lane in lanes:
            self._segments_of(lane).begin(now)

    def due(self, now: int) -> bool:
        """Whether a pass at `now` seals something: coverage up to then belongs into it."""
        return any(spool.due(now) for spool in self._spools())

    def commit(self, work: Pass) -> None:
        """Carry out one pass. Raises StorageFailed; the next call then goes on where it stopped."""
        self._take(work)
        self._carry_out(work.now, sync=work.sync or bool(work.coverage), final=work.final)

    def write(self, work: Pass) -> bool:
        """Append what has come, frames first, as far as that waits for nobody. Whether `settle` has nothing to do.

        Raises StorageFailed where the rows that go before the data cannot be recorded.
        """
        self._take(work)
        self._record_begun()
        self._write_notes(work.now)
        behind = {market for market, spool in list(self._frames.items()) if not spool.keep()}
        late = {lane for lane, spool in list(self._segments.items()) if lane[:2] in behind or not spool.keep()}
        return not (behind or late - self.parked.keys() or work.sync or self._coverage)

    @property
    def unsynced_bytes(self) -> int:
        """Bytes that are in files, and not known to be durable."""
        return sum(spool.unsynced_bytes for spool in self._spools())

    def settle(self, now: int) -> None:
        """Write what `write` left, make everything durable, seal what is over by `now`, and record what that proves.

        Raises StorageFailed.
        """
        self._carry_out(now, sync=True, final=False)

    def _take(self, work: Pass) -> None:
        for market, items in work.frames:
            self._frames_of(market).put(items)
        for lane, events in work.events:
            self._segments_of(lane).put(events)
        with self._rows:
            self._sessions += [row for row in work.sessions if row.closed_at is None]
            self._ends += [row for row in work.sessions if row.closed_at is not None]
            self._gaps += work.gaps
            self._coverage += work.coverage
            self._rejected += work.rejected
            self._bans += work.bans
            self._notes += work.notes
            if work.stepped_from is not None:
                self._steps.append((work.stepped_from, work.now))

    @property
    def rows_wait(self) -> bool:
        """Whether rows that were to be recorded are not yet."""
        return bool(self._sessions or self._gaps or self._bans)

    def record(self, rows: Pass) -> None:
        """Record sessions that began, open gaps and bans, and no data. Raises StorageFailed; what was not recorded is
        by the next call of this or of `commit`.
        """
        self._sessions += rows.sessions
        self._gaps += rows.gaps
        self._bans += rows.bans
        self._record_begun()

    def close(self) -> None:
        """Leave open files to recovery."""
        for spool in self._spools():
            spool.close()

    def _carry_out(self, now: int, *, sync: bool, final: bool) -> None:
        due = final or self.due(now)
        self._record_begun()
        self._write_notes(now)
        while self._steps:
            for spool in self._spools():
                spool.step(*self._steps[0])
            self._steps.pop(0)
        proven = self._proven_now()
        for error in self._write(list(self._frames.values()), now, due=due, sync=sync).values():
            raise error
        parked = self._write(list(self._segments.values()), now, due=due, sync=sync)
        for error in parked.values():
            if error.errno not in DENIED or len(parked) == len(self._segments):
                raise error
        self.parked = parked
        self._cut_oversize(now)
        if final:
            for error in self._turn([s for s in self._spools() if s.lane not in parked], now, final=True).values():
                raise error
        if self._rejected and (due or sum(len(r.frame) for r in self._rejected) > REJECTED_BYTES):
            self._set_aside(now)
        if sync or due:
            self._record_proven(proven)

    def _write(self, spools: Sequence[AnySpool], now: int, *, due: bool, sync: bool) -> dict[LaneKey, StorageFailed]:
        """Write what waits, and where that is asked for make it durable; which spools failed."""
        failed = self._turn(spools, now) if due else {}
        lasting = due or sync

        def write(spool: AnySpool) -> None:
            spool.write(now)
            if lasting:
                spool.sync()

        side = self._abreast if lasting else ONE_BY_ONE  # what only writes waits for no disk
        _, more = side.each(write, [spool for spool in spools if spool.lane not in failed])
        return failed | {spool.lane: error for spool, error in more}

    def _turn(self, spools: Sequence[AnySpool], now: int, *, final: bool = False) -> dict[LaneKey, StorageFailed]:
        """Seal every period that is over, with `final` all that is open, and record them together; which failed."""
        failed: dict[LaneKey, StorageFailed] = {}
        while spools:
            ended, errors = self._abreast.each(lambda spool: spool.turn(now, final=final), spools)
            failed |= {spool.lane: error for spool, error in errors}
            over = [(spool, rows) for spool, rows in ended if rows]
            if over:
                self._writer.record(segments=[row for _, rows in over for row in rows])
            for spool, rows in over:
                spool.turned(rows[0])
            spools = [spool for spool, _ in over]  # another period may be over behind it
        return failed

    def _record_begun(self) -> None:
        """What may be said before the data that it is about."""
        with self._rows:
            if self.rows_wait:
                known, fillings = self._told_so_far()
                self._writer.record(sessions=self._sessions, gaps=known, bans=self._bans)
                self._fillings += fillings
                for recorded in (self._sessions, self._gaps, self._bans):
                    recorded.clear()

    def _told_so_far(self) -> tuple[list[Gap], list[Gap]]:
        """Of the gaps that wait: what is known of them without what fills them, and what has to wait for that."""
        known: list[Gap] = []
        fillings: list[Gap] = []
        recorded = self._recorded()
        waiting = {gap.gap_id for gap in self._fillings}  # what is said of a gap later is recorded later
        for gap in self._gaps:
            opened, before = _open(gap), recorded.get(gap.gap_id)
            less = before is not None and _is_less(opened, before)
            if not less:
                recorded[gap.gap_id] = opened
                known.append(opened)
            if less or gap.state != "open" or gap.gap_id in waiting:
                fillings.append(gap)
                waiting.add(gap.gap_id)
        return known, fillings

    def _recorded(self) -> dict[str, Gap]:
        """The open gaps of the manifest among those that wait and have an end, by their ids."""
        ended: dict[LaneKey, list[Gap]] = {}
        for gap in self._gaps:
            if gap.ts_to is not None:
                ended.setdefault((gap.exchange, gap.market_type, gap.kind), []).append(gap)
        found: dict[str, Gap] = {}
        for lane, gaps in ended.items():
            symbols = sorted({gap.symbol for gap in gaps})
            span = Interval(min(gap.ts_from for gap in gaps), max(gap.ts_to or 0 for gap in gaps))
            rows = self._writer.manifest.gaps(*lane, symbols, state="open", overlapping=span)
            found |= {row.gap_id: row for row in rows}
        return found

    def _write_notes(self, now: int) -> None:
        with self._rows:
            while self._notes:
                self._writer.note(self._notes[0], now)
                self._notes.pop(0)

    def _spools(self) -> list[AnySpool]:
        """Frames first: a line must not be durable before the frame that it was made from."""
        return [*self._frames.values(), *self._segments.values()]

    def _cut_oversize(self, now: int) -> None:
        large = [spool for spool in self._spools() if spool.oversize]
        if large:
            for frames in self._frames.values():
                frames.sync()
        for spool in large:
            spool.begin(spool.finish(now))

    def _proven_now(self) -> Proven:
        """What is proven once all that was put until now is durable."""
        with self._rows:
            return Proven(len(self._coverage), len(self._fillings), len(self._ends))

    def _record_proven(self, proven: Proven) -> None:
        """What may be said only of durable data."""
        with self._rows:
            coverage, fillings = self._coverage[: proven.coverage], self._fillings[: proven.fillings]
            ends = self._ends[: proven.ends]
            if coverage or self._quarantine or fillings or ends:
                covered = [row for row in coverage if not self._waits(row)]
                filled = [gap for gap in fillings if not self._waits(gap)]
                self._writer.record(coverage=covered, quarantine=self._quarantine, gaps=filled, sessions=ends)
                self._fillings[: proven.fillings] = [gap for gap in fillings if self._waits(gap)]
                del self._coverage[: proven.coverage], self._ends[: proven.ends]
                self._quarantine.clear()

    def _waits(self, row: Coverage | Gap) -> bool:
        """Whether the folder of a stream takes nothing just now."""
        return (row.exchange, row.market_type, row.kind) in self.parked

    def _set_aside(self, now: int) -> None:
        """Rejected frames to quarantine: one file a session, named by the frames in it."""
        by_session: dict[str, list[RejectedFrame]] = {}
        held = len(self._rejected)
        for rejected in self._rejected[:held]:
            by_session.setdefault(rejected.session, []).append(rejected)
        for session, found in by_session.items():
            data = encode_frame_lines([_line(rejected) for rejected in found])
            what = f"frames-{found[0].frame_no}-{found[-1].frame_no}"
            path = quarantine(self._writer.root, session, what, data)
            reasons = sorted({rejected.reason for rejected in found})
            row = QuarantineRow(
                path=path, origin=session, reason="; ".join(reasons)[:500], count=len(found), bytes=len(data), at=now
            )
            self._quarantine.append(row)
            telemetry.quarantined(origin=session, reason=row.reason, count=row.count, nbytes=row.bytes, path=row.path)
        del self._rejected[:held]

    def _frames_of(self, market: MarketKey) -> FramesSpool:
        spool = self._frames.get(market)
        if spool is None:
            spool = self._frames[market] = FramesSpool(
                self._writer, self._node, market, FRAMES, age=self._config.seal_age(FRAMES),
                max_bytes=self._config.seal_bytes,
            )  # fmt: skip
        return spool

    def _segments_of(self, lane: LaneKey) -> SegmentSpool:
        spool = self._segments.get(lane)
        if spool is None:
            exchange, market_type, kind = lane
            spool = self._segments[lane] = SegmentSpool(
                self._writer, self._node, (exchange, market_type), kind, age=self._config.seal_age(kind),
                max_bytes=self._config.seal_bytes,
            )  # fmt: skip
        return spool


def _line(rejected: RejectedFrame) -> FrameLine:
    head = payload(rejected.frame[:REJECTED_HEAD])
    return FrameLine(
        ts_recv=rejected.ts_recv, conn=rejected.session, dir="recv", n=rejected.frame_no, reason=rejected.reason,
        frame=head.get("frame"), frame_b64=head.get("frame_b64"),
    )  # fmt: skip


def _open(gap: Gap) -> Gap:
    """The gap as it is known before anything has closed it."""
    return msgspec.structs.replace(gap, state="open", closed_at=None, source=None)


def _is_less(gap: Gap, recorded: Gap) -> bool:
    """Whether a gap lacks ids, or where it has none times, that are recorded to be missing."""
    if gap.id_from is not None and recorded.id_from is not None:
        return gap.id_from > recorded.id_from or _ends_before(gap.id_to, recorded.id_to)
    return gap.ts_from > recorded.ts_from or _ends_before(gap.ts_to, recorded.ts_to)


def _ends_before(end: int | None, recorded: int | None) -> bool:
    return end is not None and (recorded is None or end < recorded)
