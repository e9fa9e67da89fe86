"""After a crash: what was being collected is written down as far as it goes, and what is missing from there on.

Every interrupted session gets its end, its streams the coverage that their last lines prove, and every symbol of every
kind one open gap with cause `crash`. The mergers are seeded with where each stream stopped, so that the first event
after the restart gives that gap its end and, where the venue numbers its events, the exact ids. Doing it twice is
doing it once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from collectors.chain import CLEAR, SNAPSHOT, ids_of
from collectors.chain_checked import CHECKSUM
from collectors.giving import gap_id
from collectors.holes import IN_FLIGHT
from collectors.intake import LaneKey
from collectors.keyed import FORCED
from collectors.merger import venue_time
from collectors.reread import Stretch, doubts, events_of, found_at, memory_of, stretches, summed, untold
from collectors.unsettled import CRASH, orders_unheard
from lake import layout
from lake.recovery import Recovery
from lake.resume import ASIDE, REST
from lake.rows import HISTORY, SegmentRow, SessionRow
from lake.writer import LakeWriter
from market.kinds import KINDS, BookDelta, Event
from market.session import EVERY_SYMBOL, Coverage, Gap, Resume

TAKEN_IN = "all of it is in the gap"
NEWEST = 3
"""Segments of a stream in which the end of a growing gap is looked for."""

Stops = dict[LaneKey, dict[str, Resume]]
"""(exchange, market_type, kind) -> symbol -> where its stored stream stopped."""


class _Tail(msgspec.Struct):
    """What the lines of an interrupted session prove about it, from those that no coverage accounts for."""

    polled: bool = False
    """Whether the session only fetched."""
    newest: int = 0
    last_recv: int = 0
    last_frame: int = 0
    first: dict[tuple[str, str], int] = {}
    """(kind, symbol) -> venue time of its first event in these lines."""


def settle(writer: LakeWriter, found: Recovery, now: int) -> Stops:
    """Record what `writer.recover` found interrupted; returns where each stream stopped, for `CollectorsService`."""
    stops = _with_frames(found)
    tails = {row.session: _Tail(polled=row.source == REST) for row in found.unclosed}
    past = frozenset(row.session for row in writer.manifest.sessions() if row.source == HISTORY)
    interrupted = {row.path for row in found.interrupted}
    again = list(stretches(writer, found))
    unsaid: list[Gap] = []
    for stretch in again:
        for segment in stretch.segments:
            mine = tails if segment.path in interrupted else {}  # of the others all is recorded but what is missing
            if mine or stretch.memory is not None or stretch.entries is not None:
                _read(segment, events_of(writer, segment), mine, stretch, past)
        unsaid += untold(writer, stretch, now)
    found_now = {gap.gap_id for gap in unsaid}
    opened = [gap for gap in writer.manifest.gaps(state="open") if gap.gap_id not in found_now]
    for lane, symbol, stop in (*_growing(opened), *_of_all(writer, found, tails)):
        stops.setdefault(lane, {}).setdefault(symbol, stop)
    lost = bool(found.unclosed or found.interrupted or found.unwritten)
    gaps = [*_crash_gaps(writer, stops, now, lost=lost), *unsaid, *_closings(writer, opened, stops, past, now)]
    told = {gap.gap_id for gap in gaps}  # one that begins where the crash's does is that one, and grows
    for lane in sorted({stretch.lane for stretch in again if summed(stretch.lane)}):
        gaps += [gap for gap in _cleared(writer, lane, past, now) if gap.gap_id not in told]
    known = {gap.gap_id: gap for gap in gaps}
    gaps += [gap for stretch in again for gap in doubts(writer, found, stretch, known, now)]
    coverage = [row for session in found.unclosed for row in _coverage(writer, session, tails[session.session])]
    known |= {gap.gap_id: gap for gap in gaps}
    gaps += [gap for gap in orders_unheard(writer, found, coverage, known, now) if gap.gap_id not in known]
    sessions = [_closed(session, tails[session.session], found) for session in found.unclosed]
    if sessions or coverage or gaps:
        writer.record(sessions=sessions, coverage=coverage, gaps=gaps, now=now)
    for lane, symbols in found.beside.items():
        stops[lane] = symbols | stops.get(lane, {})
    return stops


def _with_frames(found: Recovery) -> Stops:
    """The stops, those of interrupted sessions with the frames that were stored but became no lines."""
    ranges = {
        span.session: f"frames {span.first} to {span.last} of {span.session} have no lines, see {span.path}"
        for span in found.unwritten
    }
    return {
        lane: {
            symbol: msgspec.structs.replace(stop, detail=ranges.get(stop.session, stop.detail))
            for symbol, stop in symbols.items()
        }
        for lane, symbols in found.last.items()
    }


def _growing(opened: Iterable[Gap]) -> Iterator[tuple[LaneKey, str, Resume]]:
    """What grows though no row of it is stored, as a stream of all symbols has none: it goes on, and ends, as it is."""
    for gap in opened:
        lane = (gap.exchange, gap.market_type, gap.kind)
        if gap.ts_to is None and gap.gap_id == gap_id(*lane, gap.symbol, None, gap.ts_from):
            yield lane, gap.symbol, Resume(gap.ts_from, None, gap.session or "", gap.cause, gap.detail)


def _of_all(writer: LakeWriter, found: Recovery, tails: Mapping[str, _Tail]) -> Iterator[tuple[LaneKey, str, Resume]]:
    """Streams of all symbols that were interrupted: their rows are those of single symbols, of which others may come
    next. They stopped where the last of their sessions was, less what may have been under way.
    """
    reached: dict[LaneKey, Coverage] = {}
    for market in sorted({(row.exchange, row.market_type) for row in found.unclosed}):
        for row in writer.manifest.coverage(*market, symbol=EVERY_SYMBOL):
            if row.session in tails and KINDS[row.kind].cadence != "reference":
                span = msgspec.structs.replace(row, ts_to=max(row.ts_to, tails[row.session].newest))
                lane = (*market, row.kind)
                reached[lane] = max(span, reached.get(lane, span), key=lambda one: one.ts_to)
    for lane, span in reached.items():
        yield lane, EVERY_SYMBOL, Resume(span.ts_to - IN_FLIGHT, None, span.session, CRASH)


def _crash_gaps(
    writer: LakeWriter, stops: Mapping[LaneKey, Mapping[str, Resume]], now: int, *, lost: bool
) -> Iterator[Gap]:
    """One gap a symbol and kind that a crash interrupted, unless it is recorded already. One that had ended, by a row
    that was never stored, grows again: what that row followed is where the stored stream ends. That of forced orders
    ends without a row, once the venue has taken them on again: unless anything was `lost` since, its end stands.
    """
    for lane, symbols in stops.items():
        crashed = {symbol: stop for symbol, stop in symbols.items() if stop.cause == CRASH}
        if not crashed or KINDS[lane[2]].cadence == "reference":
            continue
        memory = memory_of(lane)
        memory.resume(crashed)
        recorded = {gap.gap_id: gap for gap in writer.manifest.gaps(*lane, sorted(crashed))}
        for gap in memory.tick(now):
            held = recorded.get(gap.gap_id)
            if held is not None and lane[2] == FORCED and not lost:
                continue
            if held is None or held.state != "open" or held.ts_to is not None:
                gap.detected_at = found_at(held, now)
                yield gap


def _closings(
    writer: LakeWriter,
    opened: Iterable[Gap],
    stops: Mapping[LaneKey, Mapping[str, Resume]],
    past: Collection[str],
    now: int,
) -> Iterator[Gap]:
    """Ends of `opened` gaps that are stored as lines, where the crash came before they were recorded as ends. What
    sessions of history brought is of no stream.
    """
    growing: dict[LaneKey, dict[str, list[Gap]]] = {}
    for gap in opened:
        lane = (gap.exchange, gap.market_type, gap.kind)
        if gap.ts_to is None:
            growing.setdefault(lane, {}).setdefault(gap.symbol, []).append(gap)
            continue
        if gap.id_from == gap.id_to:
            stop = stops.get(lane, {}).get(gap.symbol)
            if stop is not None and _passed(gap, stop):
                yield msgspec.structs.replace(gap, state="empty", closed_at=now)
    for lane, symbols in growing.items():
        stopped, of_times = stops.get(lane, {}), summed(lane)
        for gap in (gap for held in symbols.values() for gap in held):
            if of_times or _numbered_anew(gap, stopped.get(gap.symbol)):
                gap.id_from = None  # its end is a time
        resumed, spoke = dict[str, tuple[int | None, int]](), set[str]()
        for segment in _newest(writer, lane):
            for event in events_of(writer, segment):
                for gap in symbols.get(event.symbol, ()) if event.session not in past else ():
                    if _spoke(gap, event):
                        spoke.add(gap.gap_id)
                    else:
                        _note_resumption(resumed, gap, event)
        begun = _interruptions(lane, stopped, now)
        for gap in (gap for held in symbols.values() for gap in held):
            wider = begun.get(gap.symbol)
            if gap.gap_id in resumed:
                yield _ended(gap, *resumed[gap.gap_id], now)
            elif wider is not None and (gap.cause == CHECKSUM or gap.gap_id in spoke) and wider.ts_from > gap.ts_from:
                yield _ended(gap, None, wider.ts_from, now)  # as far as the stored stream goes
            elif wider is not None and wider.gap_id != gap.gap_id and _stopped_before(stopped[gap.symbol], gap):
                yield from (wider, _taken_in(gap, wider))


def _interruptions(lane: LaneKey, stops: Mapping[str, Resume], now: int) -> dict[str, Gap]:
    """Symbol -> the gap that the merger begins with, from where the stored stream stopped."""
    looked_up = KINDS[lane[2]].cadence == "reference"  # all but the notices of a whole market
    memory = memory_of(lane)
    memory.resume({one: stop for one, stop in stops.items() if one == EVERY_SYMBOL or not looked_up})
    return {gap.symbol: gap for gap in memory.tick(now)}


def _numbered_anew(gap: Gap, stop: Resume | None) -> bool:
    """Whether the stored stream goes on behind a gap with ids from before it."""
    if gap.id_from is None or stop is None or stop.seq is None:
        return False
    return stop.seq < gap.id_from and stop.ts_event > gap.ts_from


def _stopped_before(stop: Resume, gap: Gap) -> bool:
    """Whether the stored stream ends before a gap, which is then not over."""
    if gap.id_from is not None and stop.seq is not None:
        return stop.seq < gap.id_from
    return stop.ts_event <= gap.ts_from


def _taken_in(gap: Gap, wider: Gap) -> Gap:
    """A growing gap of which the lines before it are gone as well: the merger knows the wider one only, which tells
    all of it, so that nothing is left of this one and nothing would end it. It is closed once the stream has passed it:
    till then the same gap, by its name, may be found again.
    """
    return msgspec.structs.replace(
        gap, ts_to=gap.ts_from + 1, id_to=gap.id_from, detail=f"{TAKEN_IN} {wider.gap_id}, where the stored lines end"
    )


def _passed(gap: Gap, stop: Resume) -> bool:
    """Whether a gap of nothing lies behind the stream's end, so that it cannot become one of something any more."""
    if gap.id_from is not None:
        return stop.seq is not None and stop.seq >= gap.id_from
    return (gap.detail or "").startswith(TAKEN_IN) and stop.ts_event > gap.ts_from


def _newest(writer: LakeWriter, lane: LaneKey) -> list[SegmentRow]:
    """The segments of a stream that were written last, whatever the clock said: a gap's end is recorded within a second
    of the line that ends it.
    """
    held = [row for row in writer.manifest.segments(*lane) if row.rows and row.state != "deleted"]
    return sorted(held, key=lambda row: layout.number_of(row.path))[-NEWEST:]


def _spoke(gap: Gap, event: Event) -> bool:
    """Whether the session that was silent goes on behind a gap without ids, where that may have ended nothing: it comes
    while the stream is asked for anew.
    """
    its_own = event.session == gap.session and not _begins_anew(gap, event)
    return its_own and gap.id_from is None and venue_time(event) > gap.ts_from


def _note_resumption(resumed: dict[str, tuple[int | None, int]], gap: Gap, event: Event) -> None:
    """Keep the first event behind a growing gap: the least id from its first missing one on, or the earliest time."""
    time = venue_time(event)
    if time < gap.ts_from or (time == gap.ts_from and gap.id_from is None):
        return  # where only times tell, a gap begins with the last event before it
    seq = None
    if gap.id_from is not None:
        start, end = _ids(event)
        if end <= gap.id_from:
            return
        seq = max(start, gap.id_from)
    held = resumed.get(gap.gap_id)
    if held is None or ((seq, time) if seq is not None else (time,)) < (held if seq is not None else held[1:]):
        resumed[gap.gap_id] = (seq, time)


def _ids(event: Event) -> tuple[int, int]:
    """The ids [from, to) that an event has, or covers; (0, 0) for one without."""
    if isinstance(event, BookDelta):
        return ids_of(event)
    seq: int | None = getattr(event, "seq", None)
    return (0, 0) if seq is None else (seq, seq + 1)


def _begins_anew(gap: Gap, event: Event) -> bool:
    """Whether a session goes on by itself: with a whole book, where its checksum did not hold."""
    return gap.cause == CHECKSUM and isinstance(event, BookDelta) and SNAPSHOT in event.flags


def _ended(gap: Gap, seq: int | None, time: int, now: int) -> Gap:
    """The gap with the end that the merger would have given it."""
    if seq is None:
        return msgspec.structs.replace(gap, ts_to=max(time, gap.ts_from + 1))
    end = msgspec.structs.replace(gap, ts_to=max(time, gap.ts_from) + 1, id_to=seq, proof="ids")
    return end if seq != gap.id_from else msgspec.structs.replace(end, state="empty", closed_at=now)


def _cleared(writer: LakeWriter, lane: LaneKey, past: Collection[str], now: int) -> Iterator[Gap]:
    """Gaps of books whose checksum did not hold, as `CheckedMerger` would have told them, where the crash came before
    they were recorded: from the last proven row before one that says so (`clear`) to the row that goes on.
    """
    proven: dict[str, BookDelta] = {}
    broken: dict[str, Gap] = {}
    found: list[tuple[int, Gap]] = []
    for event in (event for segment in _newest(writer, lane) for event in events_of(writer, segment)):
        if not isinstance(event, BookDelta) or event.session in past:
            continue
        time, last = venue_time(event), proven.get(event.symbol)
        if event.last_id is None:
            if CLEAR in event.flags and event.symbol not in broken and last is not None:
                gap = broken[event.symbol] = _unproven(lane, last, event, time, now)
                found.append((time, gap))
            continue
        over = broken.pop(event.symbol, None)
        if last is None or event.last_id > (last.last_id or 0):
            proven[event.symbol] = event
        if over is None or last is None:
            continue
        over.ts_to = max(time, over.ts_from + 1)
        alike = (time, event.checksum) == (venue_time(last), last.checksum)
        if (SNAPSHOT in event.flags and alike) or (SNAPSHOT not in event.flags and event.prev_id == last.last_id):
            over.state, over.closed_at = "empty", now
    known: dict[str, list[Gap]] = {}
    for row in writer.manifest.gaps(*lane) if found else ():
        known.setdefault(row.symbol, []).append(row)
    for at, gap in found:
        if not any(row.ts_from <= at and (row.ts_to is None or row.ts_to >= at) for row in known.get(gap.symbol, ())):
            yield gap


def _unproven(lane: LaneKey, last: BookDelta, clear: BookDelta, time: int, now: int) -> Gap:
    """What lies between the `last` proven row of a book and the row `clear` behind it."""
    start = venue_time(last)
    name, end = gap_id(*lane, clear.symbol, last.last_id, start), max(time, start + 1)
    return Gap(name, *lane, clear.symbol, start, end, None, None, CHECKSUM, CHECKSUM, "open", clear.session, now)


def _read(
    segment: SegmentRow,
    events: Iterator[Event],
    tails: Mapping[str, _Tail],
    stretch: Stretch,
    past: Collection[str],
) -> None:
    memory, entries = stretch.memory, stretch.entries
    for event in events:
        if entries is not None:
            entries.note(event)
        if memory is not None and event.session not in past:
            memory.merge(event)
        tail = tails.get(event.session)
        if tail is None:
            continue
        tail.last_recv = max(tail.last_recv, event.ts_recv)
        tail.last_frame = max(tail.last_frame, event.frame_no)
        if event.session in past:
            continue  # what it covers was recorded page by page
        time = venue_time(event)
        tail.newest = max(tail.newest, time)
        if segment.kind == ASIDE and event.source == REST and not tail.polled:
            continue  # asked for where a book had to begin anew: no stream brought it
        key = (segment.kind, event.symbol)
        tail.first[key] = min(tail.first.get(key, time), time)


def _coverage(writer: LakeWriter, session: SessionRow, tail: _Tail) -> Iterator[Coverage]:
    """A stream was produced up to the newest event of its session, from where its coverage was last recorded."""
    market = (session.exchange, session.market_type)
    recorded: dict[tuple[str, str], int] = {}
    for row in writer.manifest.coverage(*market):
        if row.session == session.session:
            key = (row.kind, row.symbol)
            recorded[key] = max(row.ts_to, recorded.get(key, 0))
    for (kind, symbol), start in sorted({**tail.first, **recorded}.items()):
        end = max(tail.newest, start + ((kind, symbol) in tail.first))  # one event is covered, if nothing else is
        if start < end and KINDS[kind].cadence != "reference":
            yield Coverage(*market, kind, symbol, session.session, start, end)


def _closed(session: SessionRow, tail: _Tail, found: Recovery) -> SessionRow:
    """The end of an interrupted session: the last that is known of it."""
    span = next((span for span in found.unwritten if span.session == session.session), None)
    last = max(tail.last_recv, span.ts_last if span else 0, session.opened_at)
    # frames without a line are not counted, so that a replay takes them up again
    frames = max(span.first - 1 if span else tail.last_frame, session.frames)
    return msgspec.structs.replace(session, closed_at=last, close_cause=CRASH, frames=frames)
