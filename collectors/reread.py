"""Which lines a start reads again after a crash, and what a merger says of them that the crash came too soon for.

A merger waits a moment before it says that something is missing (`HOLD`). So the lines that came last are merged again,
by a memory that begins where the stream was before them: what is missing between them, or where they begin, is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from collectors.chain_checked import CheckedMerger
from collectors.holes import HOLD, RESET
from collectors.intake import LaneKey, MarketKey
from collectors.merger import CHAINED, merger
from collectors.numbered import IdMerger
from collectors.unsettled import SEVERAL, SUMMED, Entries, doubted, live, uncertain, way
from lake import layout
from lake.recovery import Recovery
from lake.resume import stopped_before
from lake.rows import FRAMES, SegmentRow
from lake.segments import BadLine, read_lines
from lake.writer import LakeWriter
from market.kinds import KINDS, Contiguous, Event
from market.session import Coverage, Gap, Merger, Resume
from market.times import SECOND

MOMENT = HOLD + 8 * SECOND
"""us of receive time before the last line of a market in which what was missing may not have been recorded yet."""


class Stretch(msgspec.Struct):
    """Segments of one stream that follow each other, and the memory that merges their lines again, where ids say what
    is missing. `before` is where its symbols were in front of the first one.
    """

    lane: LaneKey
    segments: list[SegmentRow]
    memory: IdMerger | None = None
    before: Mapping[str, Resume] = msgspec.field(default_factory=dict)
    entries: Entries | None = None
    """Where several connections of the market were interrupted: whose rows may be behind something that is missing."""


def numbered(kind: str) -> bool:
    """Whether the venue numbers the events of a kind one by one."""
    return any(isinstance(check, Contiguous) for check in KINDS[kind].checks)


def summed(lane: LaneKey) -> bool:
    """Whether a stream is a book whose rows have places made of times (`collectors.chain_checked`), which count
    nothing.
    """
    return lane[2] == CHAINED and way(lane) == SUMMED


def memory_of(lane: LaneKey) -> Merger:
    """A merger that names the gaps of a stream as the one of its pipeline will."""
    return CheckedMerger(*lane) if summed(lane) else merger(*lane, contiguous=numbered(lane[2]))


def _counting(lane: LaneKey) -> IdMerger | None:
    """The same where its ids say what is missing."""
    made = memory_of(lane)
    return made if isinstance(made, IdMerger) else None


def _tells_losses(lane: LaneKey) -> bool:
    """Whether lines of a stream may show, by ids or checksums, that some are missing between them."""
    return summed(lane) or _counting(lane) is not None


def stretches(writer: LakeWriter, found: Recovery) -> Iterator[Stretch]:
    """What has to be read again: `found.interrupted`, and the last lines of the markets that a crash interrupted."""
    several, since = live(found), dict[MarketKey, int]()
    wanted = {row.path: row for row in found.interrupted if row.kind != FRAMES}
    for market in {(row.exchange, row.market_type) for row in found.unclosed}:
        since[market], recent = _last_lines(writer, market)
        for lane, rows in recent.items():
            if _tells_losses(lane) or (len(several.get(market, ())) >= SEVERAL and uncertain(lane)):
                wanted |= {row.path: row for row in rows}
    with writer.manifest.snapshot() as snapshot:
        for lane in sorted({(row.exchange, row.market_type, row.kind) for row in wanted.values()}):
            for segments in _together(writer, snapshot.segments(*lane), wanted):
                stretch = Stretch(lane, segments, _counting(lane))
                if stretch.memory is not None:
                    stretch.before = stopped_before(writer.root, snapshot, segments[0])
                    stretch.memory.follow(stretch.before)
                if len(several.get(lane[:2], ())) >= SEVERAL and uncertain(lane):
                    stretch.entries = Entries(lane, since[lane[:2]])
                yield stretch


def _last_lines(writer: LakeWriter, market: MarketKey) -> tuple[int, dict[LaneKey, list[SegmentRow]]]:
    """From when on (us, of receipt) what was missing in a market may not have been recorded yet, and by stream the
    segments with lines of that time: they may be sealed, and all of it recorded but what was still waited for.
    """
    rows = [row for row in writer.manifest.segments(*market) if row.kind != FRAMES]
    last = max((row.recv_max or 0 for row in rows), default=0)
    newest, found = 0, dict[LaneKey, list[SegmentRow]]()
    for kind, of_kind in groupby(rows, attrgetter("kind")):
        mine = sorted(of_kind, key=lambda row: layout.number_of(row.path), reverse=True)
        newest = max(newest, mine[0].recv_max or 0)  # where nothing came lately, the last line tells no time
        recent = [row for row in mine if (row.recv_max or 0) > last - MOMENT]
        found[*market, kind] = [*recent, *_written_last(row for row in mine if row.recv_max is not None)]
    return (newest or last) - MOMENT, found


def _written_last(rows: Iterable[SegmentRow]) -> Iterator[SegmentRow]:
    """Those of a stream's segments that were written within a MOMENT of its last line. Their order, the last one first,
    is that of their numbers: what was written before a clock was set back was received later.
    """
    newest = 0
    for last, row in ((row.recv_max or 0, row) for row in rows):
        if last <= newest - MOMENT:
            return
        yield row
        newest = max(newest, last)


def _together(writer: LakeWriter, rows: Sequence[SegmentRow], wanted: Collection[str]) -> Iterator[list[SegmentRow]]:
    """Those of a stream's segments that are `wanted` and there, as far as no other one was written between them."""
    stretch: list[SegmentRow] = []
    for row in sorted((row for row in rows if row.rows), key=lambda row: layout.number_of(row.path)):
        if row.path in wanted and (writer.root / row.path).is_file():
            stretch.append(row)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def events_of(writer: LakeWriter, segment: SegmentRow) -> Iterator[Event]:
    """The events among a segment's lines, if it is still there."""
    path = writer.root / segment.path
    if path.is_file():
        for found in read_lines(segment.kind, path.read_bytes()):
            if not isinstance(found, BadLine):
                yield found


def untold(writer: LakeWriter, stretch: Stretch, now: int) -> Iterator[Gap]:
    """Holes among the lines that were read again of which no row says anything."""
    if stretch.memory is None:
        return
    known: dict[str, dict[str, Gap]] = {}
    for gap in writer.manifest.gaps(*stretch.lane):
        known.setdefault(gap.symbol, {})[gap.gap_id] = gap
    last = max(row.recv_max or 0 for row in stretch.segments)
    for gap in stretch.memory.tick(max(now, last) + MOMENT):
        told = known.get(gap.symbol, {})
        held = told.get(gap.gap_id)
        named = held is not None and held.missing != 0  # else nothing was missing behind that event so far
        if named or any(_tells(one, gap) or _gave_up(one, gap) for one in told.values()):
            continue
        if gap.cause == RESET and any(_renumbered(one, gap) for one in told.values()):
            continue
        stop = stretch.before.get(gap.symbol)
        if stop is not None and stop.seq is not None and gap.id_from in (None, stop.seq + 1):
            covered = writer.manifest.coverage(*stretch.lane, gap.symbol)
            if _was_away(covered, gap):
                continue
        gap.detected_at = found_at(held, now)
        yield gap


def found_at(held: Gap | None, now: int) -> int:
    """When a gap was found, us, beside the row that its name had so far: the newer one, whatever the clock says."""
    return now if held is None else max(now, (held.closed_at or held.detected_at) + 1)


def doubts(writer: LakeWriter, found: Recovery, stretch: Stretch, told: Mapping[str, Gap], now: int) -> Iterator[Gap]:
    """What nothing had proven to be whole between lines that were read again; `told` are gaps that are known by now."""
    if stretch.entries is not None:
        sessions = {row.session for row in live(found)[stretch.lane[:2]]}
        found_now = doubted(writer, stretch.lane, stretch.segments[0], stretch.entries, sessions, told, now)
        yield from (gap for gap in found_now if gap.gap_id not in told)


def _tells(told: Gap, hole: Gap) -> bool:
    """Whether a row tells of all ids of a hole: one that has filled in part since it was told keeps its name."""
    if told.state != "open" or told.missing is None or hole.missing is None:
        return False
    before = (hole.id_from or 0) - (told.id_from or 0)
    return before >= 0 and before + hole.missing <= told.missing


def _gave_up(told: Gap, hole: Gap) -> bool:
    """Whether a hole is of updates that came and were given up: their gap has no ids."""
    return (
        told.proof == "counted" and hole.ts_from <= told.ts_from and (hole.ts_to or 0) >= (told.ts_to or told.ts_from)
    )


def _renumbered(told: Gap, reset: Gap) -> bool:
    """Whether a row tells that the numbering began anew there, perhaps behind an interruption."""
    return told.cause == RESET and told.ts_from < (reset.ts_to or 0) <= (told.ts_to or 0)


def _was_away(covered: Sequence[Coverage], hole: Gap) -> bool:
    """Whether a stream began anew in a hole: an interruption, which has its own row, or nobody wanted it meanwhile."""
    end = hole.ts_from
    for span in sorted(covered, key=lambda row: row.ts_from):
        if span.ts_from > end and span.ts_from < (hole.ts_to or span.ts_from):
            return True
        end = max(end, span.ts_to)
    return False
