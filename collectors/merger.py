"""Mergers: the memory of one (exchange, market, kind) across connections; drops what was seen, names what is missing.

Pure. `IdMerger` is for ids that follow each other by one (a jump is a proven loss), `MonotonicMerger` for ids that only
rise (a hole can only be an interval). An event whose id was never seen is never dropped: where memory ends it is let
through, and the table's key drops it if it was a copy after all.
"""

from __future__ import annotations

import copy
import hashlib
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from operator import attrgetter

from market.kinds import Event, kind
from market.session import Gap, Merger, Resume
from market.times import SECOND

HOLD = 2 * SECOND  # of receive time: a missing id may still come, venues reorder and connections differ in speed
IN_FLIGHT = 2 * SECOND  # of venue time: how far the streams of one connection may lag each other when it is cut
STALLED = "stalled"
"""Cause of an interruption of single streams of a connection that lives on: its other streams prove nothing."""
JUMP = "jump"
RESET = "id_reset"

FAR = 1_000  # an id this much below the newest repeats nothing recent; nor does one below half of it
WILD = 1_000_000_000  # an id this much above the newest is no loss that a venue could have caused
CONFIRM = 3  # rising ids in a row on the far side: the venue numbers anew, and no frame was damaged
HOLES = 256  # remembered a symbol; what lies below a forgotten one is unknown ground
SEEN = 4_096  # update ids remembered a symbol


def gap_id(exchange: str, market_type: str, kind_name: str, symbol: str, after: int | None, ts_from: int) -> str:
    """The name of the hole after id `after` (after time `ts_from`, us, where there is none): the same for ever."""
    place = f"t{ts_from}" if after is None else str(after)
    text = f"{exchange}|{market_type}|{kind_name}|{symbol}|{place}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def venue_time(event: Event) -> int:
    """The venue's time of an event (us), estimated by its session's skew where the venue gave none."""
    if event.ts_event is not None:
        return event.ts_event
    skew: int | None = getattr(event, "skew_us", None)
    return event.ts_recv - (skew or 0)


def merger(exchange: str, market_type: str, kind_name: str, *, contiguous: bool) -> Merger:
    """The merger of a kind, by what its ids promise (`market.session.Stream.contiguous`)."""
    made = IdMerger if contiguous else MonotonicMerger
    return made(exchange, market_type, kind_name)


class _Hole:
    """Ids [start, end) that were not seen. `gap` is its row, once it has one; `silent` holes are no loss of ours."""

    __slots__ = ("end", "found_at", "gap", "reported", "session", "silent", "start", "ts_from", "ts_to")

    def __init__(self, start: int, end: int, found_at: int, ts_from: int, ts_to: int, session: str) -> None:
        self.start = start
        self.end = end
        self.found_at = found_at
        self.ts_from = ts_from
        self.ts_to = max(ts_to, ts_from + 1)
        self.session = session
        self.gap: Gap | None = None
        self.reported = False
        self.silent = False


class _Line:
    """What is known of one symbol. Every id in [low, next) was seen or is in `holes`; next is -1 before any id."""

    __slots__ = ("gap", "holes", "low", "next", "seen", "session", "sessions", "strays", "symbol", "ts")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.low = self.next = -1
        self.ts = 0
        self.session = ""
        """The session of the newest event; any other session's event is looked at closely."""
        self.sessions: set[str] = set()
        self.gap: Gap | None = None
        """The interruption that waits for its end."""
        self.holes: list[_Hole] = []
        self.strays: list[tuple[int, int]] = []
        """(id, venue time) on the far side of the numbering: a restart of it, if they go on."""
        self.seen = array("q")


class _Merger:
    """Interruptions, and the queue of gaps to give out: what both mergers share."""

    contiguous = False

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        self.exchange = exchange
        self.market_type = market_type
        self.kind = kind(kind_name).name
        self.duplicates = 0
        self.out_of_order = 0
        self._lines: dict[str, _Line] = {}
        self._held: deque[tuple[_Line, _Hole]] = deque()
        self._out: dict[str, Gap] = {}

    def interrupt(self, session: str, symbols: Iterable[str], cause: str, now: int) -> list[Gap]:
        """Streams of `session` stopped: a gap a symbol that no other session serves, open until it resumes.

        But for STALLED the session is over, and its other streams have been taken over.
        """
        newest = max((line.ts for line in self._lines.values() if line.session == session), default=0)
        named = [self._line(symbol) for symbol in symbols]
        for line in named if cause == STALLED else {*self._lines.values()}:
            line.sessions.discard(session)
            if line.session == session:
                line.session = ""
        for line in (line for line in named if not line.sessions):
            for hole in line.holes:
                self._report(line, hole, now)
            if line.gap is None:
                alive = line.ts if cause == STALLED else max(line.ts, newest - IN_FLIGHT)
                line.gap = self._gap(line, alive if line.ts else now, cause, session, now)
                self._give(line.gap)
        return self._take(now)

    def resume(self, last: Mapping[str, Resume]) -> None:
        """Seed what was stored before a restart; each stream's interruption comes out of the next `tick`."""
        for symbol, stop in last.items():
            line = self._lines[symbol] = _Line(symbol)
            line.ts = stop.ts_event
            if stop.seq is not None:
                line.low, line.next = stop.seq, stop.seq + 1
                line.seen.append(stop.seq)
            line.gap = self._gap(line, stop.ts_event, stop.cause, stop.session, 0)
            line.gap.detail = stop.detail
            self._give(line.gap)

    def tick(self, now: int) -> list[Gap]:
        """Gaps that are new or changed since the last call, holes held long enough among them."""
        while self._held and now - self._held[0][1].found_at >= HOLD:
            self._report(*self._held.popleft(), now)
        return self._take(now)

    def _line(self, symbol: str) -> _Line:
        line = self._lines.get(symbol)
        if line is None:
            line = self._lines[symbol] = _Line(symbol)
        return line

    def _gap(self, line: _Line, ts_from: int, cause: str, session: str | None, now: int) -> Gap:
        after = line.next - 1 if line.next >= 0 else None
        missing_from = line.next if line.next >= 0 and self.contiguous else None
        name = gap_id(self.exchange, self.market_type, self.kind, line.symbol, after, ts_from)
        return Gap(
            name, self.exchange, self.market_type, self.kind, line.symbol, ts_from, None,
            missing_from, None, cause, "interval", "open", session, now,
        )  # fmt: skip

    def _report(self, line: _Line, hole: _Hole, now: int) -> None:
        """Give out a hole's row, unless it was given out, is none of ours, or has been filled."""
        if hole.reported or hole.silent or hole.start >= hole.end:
            return
        hole.reported = True
        if hole.gap is None:
            name = gap_id(self.exchange, self.market_type, self.kind, line.symbol, hole.start - 1, hole.ts_from)
            hole.gap = Gap(
                name, self.exchange, self.market_type, self.kind, line.symbol, hole.ts_from, hole.ts_to,
                hole.start, hole.end, JUMP, "ids", "open", hole.session, now,
            )  # fmt: skip
        hole.gap.id_from, hole.gap.id_to = hole.start, hole.end
        self._give(hole.gap)

    def _give(self, gap: Gap) -> None:
        self._out[gap.gap_id] = gap

    def _take(self, now: int) -> list[Gap]:
        given, self._out = self._out, {}
        for gap in given.values():
            gap.detected_at = gap.detected_at or now
        return [copy.copy(gap) for gap in given.values()]

    def _close(self, gap: Gap, now: int, *, late: bool = False) -> None:
        """Nothing is missing: nothing ever was, or the missing came after the row was given out."""
        gap.proof, gap.closed_at = "ids", now
        gap.state, gap.source = ("repaired", "late") if late else ("empty", None)
        self._give(gap)


class IdMerger(_Merger):
    """For ids that follow each other by one. Gaps carry the missing ids [last + 1, next seen)."""

    contiguous = True

    def merge(self, event: Event) -> bool:
        line = self._lines.get(event.symbol)
        seq: int | None = event.seq  # type: ignore[attr-defined]  # only kinds with `seq` have contiguous ids
        if line is not None and seq == line.next and event.session == line.session:
            ts = event.ts_event
            if ts is not None:
                line.next = seq + 1
                if ts > line.ts:  # noqa: PLR1730 -- every event passes here, and calling max costs
                    line.ts = ts
                return True
        return True if seq is None else self._look(event, seq)

    def _look(self, event: Event, seq: int) -> bool:
        """Everything but the next id of the stream that is flowing."""
        line = self._line(event.symbol)
        line.sessions.add(event.session)
        ts = venue_time(event)
        if line.next < 0:
            self._first(line, event, seq, ts)
            return True
        if seq < line.next:
            return self._behind(line, event, seq, ts)
        if seq - line.next >= WILD:
            return self._stray(line, event, seq, ts)
        self._ahead(line, event, seq, ts)
        return True

    def _first(self, line: _Line, event: Event, seq: int, ts: int) -> None:
        line.low, line.next, line.session = seq, seq + 1, event.session
        if line.gap is not None:
            line.gap.ts_to = max(ts + 1, line.gap.ts_from + 1)
            self._give(line.gap)
            line.gap = None
        line.ts = max(line.ts, ts)

    def _ahead(self, line: _Line, event: Event, seq: int, ts: int) -> None:
        """The next id or a later one: ends an interruption, opens a hole."""
        start, now = line.next, event.ts_recv
        gap, line.gap = line.gap, None
        if gap is not None:
            gap.ts_to = max(ts + 1, gap.ts_from + 1)
            gap.id_from, gap.id_to, gap.proof = start, seq, "ids"
            if seq == start:
                self._close(gap, now)
        if seq > start:
            hole = _Hole(start, seq, now, gap.ts_from if gap else line.ts, ts + 1, event.session)
            hole.gap = gap
            self._hold(line, hole, now)
        line.strays.clear()
        line.next, line.session = seq + 1, event.session
        line.ts = max(line.ts, ts)

    def _hold(self, line: _Line, hole: _Hole, now: int) -> None:
        line.holes.append(hole)
        line.holes.sort(key=lambda h: h.start)
        self._held.append((line, hole))
        if len(line.holes) > HOLES:
            forgotten = line.holes.pop(0)
            self._report(line, forgotten, now)
            line.low = forgotten.end

    def _behind(self, line: _Line, event: Event, seq: int, ts: int) -> bool:
        """Not newer than the newest: fills a hole, repeats, or belongs to another numbering."""
        for hole in reversed(line.holes):
            if hole.start <= seq < hole.end:
                self._fill(line, hole, seq, event.ts_recv)
                self.out_of_order += 1
                return True
        far = line.next - seq > FAR or 2 * seq < line.next
        if ts > line.ts and (far or seq < line.low):
            return self._stray(line, event, seq, ts)
        if seq >= line.low:
            self.duplicates += 1
            return False
        unknown = _Hole(seq + 1, line.low, event.ts_recv, ts, ts, event.session)
        unknown.silent = True
        line.low = seq
        if unknown.start < unknown.end:
            self._hold(line, unknown, event.ts_recv)
        self.out_of_order += 1
        return True

    def _fill(self, line: _Line, hole: _Hole, seq: int, now: int) -> None:
        """One id of a hole came after all. The middle of one makes two."""
        if hole.start < seq < hole.end - 1:
            rest = _Hole(seq + 1, hole.end, hole.found_at, hole.ts_from, hole.ts_to, hole.session)
            rest.silent = hole.silent
            hole.end = seq
            self._hold(line, rest, now)
            if hole.reported:
                self._report(line, rest, now)
        elif seq == hole.start:
            hole.start += 1
        else:
            hole.end -= 1
        if hole.start < hole.end:
            if hole.reported and hole.gap is not None:
                hole.gap.id_from, hole.gap.id_to = hole.start, hole.end
                self._give(hole.gap)
            return
        line.holes.remove(hole)
        if hole.gap is not None:
            self._close(hole.gap, now, late=hole.reported)

    def _stray(self, line: _Line, event: Event, seq: int, ts: int) -> bool:
        """An id that fits nothing: kept as an event, and taken as the new numbering when more follow it."""
        strays = line.strays
        if any(seq == number for number, _ in strays):
            self.duplicates += 1
            return False
        if strays and not 0 < seq - strays[-1][0] < WILD:
            strays.clear()
        strays.append((seq, ts))
        line.session = ""  # the next event is looked at: if it goes on as before, it clears the strays
        if len(strays) >= CONFIRM:
            self._restart(line, event)
        return True

    def _restart(self, line: _Line, event: Event) -> None:
        """The venue numbers anew: the hole before it has an interval and no ids."""
        now, ts = event.ts_recv, line.strays[0][1]
        for hole in line.holes:
            self._report(line, hole, now)
        gap = line.gap or self._gap(line, line.ts, RESET, event.session, now)
        gap.ts_to, gap.id_from, gap.id_to = max(ts + 1, gap.ts_from + 1), None, None
        gap.detail = f"ids went from {line.next - 1} to {line.strays[0][0]}"
        self._give(gap)
        strays, line.strays, line.holes, line.gap = line.strays, [], [], None
        line.low, line.next = strays[0][0], strays[0][0] + 1
        line.ts = max(line.ts, ts)
        for number, time in strays[1:]:
            self._ahead(line, event, number, time)
        line.session = event.session


class MonotonicMerger(_Merger):
    """For ids that only rise (quotes), or none: repeated ids are dropped, gaps are intervals without ids."""

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._number = attrgetter(kind(kind_name).seq or "item")
        self._numbered = kind(kind_name).seq is not None

    def merge(self, event: Event) -> bool:
        line = self._lines.get(event.symbol)
        number: int | None = self._number(event) if self._numbered else None
        if line is None or number is None or number < line.next or event.session != line.session:
            return self._look(event, number)
        line.next = number + 1
        line.seen.append(number)
        if len(line.seen) > SEEN:
            del line.seen[: SEEN // 2]
        ts = event.ts_event
        if ts is None:
            ts = venue_time(event)
        if ts > line.ts:  # noqa: PLR1730 -- every event passes here, and calling max costs
            line.ts = ts
        return True

    def _look(self, event: Event, number: int | None) -> bool:
        line = self._line(event.symbol)
        line.sessions.add(event.session)
        ts = venue_time(event)
        place = bisect_left(line.seen, number) if number is not None else 0
        known = number is not None and place < len(line.seen) and line.seen[place] == number
        if line.gap is not None and not (known and event.session == line.gap.session):
            self._resumed(line, event, ts, unbroken=known)
        if known:
            self.duplicates += 1
            return False
        line.session = event.session
        line.ts = max(line.ts, ts)
        if number is not None:
            self._place(line, number, place, ts)
        return True

    def _place(self, line: _Line, number: int, place: int, ts: int) -> None:
        """Remember an id that was not seen, in its order; a run of them below everything is a new numbering."""
        line.seen.insert(place, number)
        if len(line.seen) > SEEN:
            del line.seen[: SEEN // 2]
        if number >= line.next:
            line.next = number + 1
            line.strays.clear()
            return
        self.out_of_order += 1
        if line.strays and number <= line.strays[-1][0]:
            line.strays.clear()
        line.strays.append((number, ts))
        line.session = ""
        if len(line.strays) >= CONFIRM and 2 * number < line.next:
            line.seen = array("q", (stray for stray, _ in line.strays))
            line.next = number + 1
            line.strays = []

    def _resumed(self, line: _Line, event: Event, ts: int, *, unbroken: bool) -> None:
        """The stream flows again. An id that we had proves that the new session was there before the old one left."""
        gap, line.gap = line.gap, None
        if gap is None:
            return
        gap.ts_to = max(ts, gap.ts_from + 1)
        if unbroken:
            self._close(gap, event.ts_recv)
        self._give(gap)
