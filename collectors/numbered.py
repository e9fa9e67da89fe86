"""The merger for ids that follow each other by one: a jump is a proven loss.

Pure. An event whose id was never seen is never dropped: where memory ends it is let through.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.doubts import Unsettled
from collectors.holes import CONFIRM, HANDOVER, RESET, Memory, venue_time, without
from collectors.line import Hole, Line
from market.kinds import Event, Trade

FAR = 1_000  # an id this much below the newest repeats nothing recent; nor does one below half of it
WILD = 1_000_000_000  # an id this much above the newest is no loss that a venue could have caused
HOLES = 256  # remembered a symbol; what lies below a forgotten one is unknown ground
ODD = 64  # strays remembered a symbol
HISTORY, MARKET = "history", "market"
"""Conditions of a trade: told on subscribing though it lies before that, and any other."""
PAST = 4  # earlier numberings remembered a symbol


class IdMerger(Memory):
    """For ids that follow each other by one. Gaps carry the missing ids [last + 1, next seen)."""

    contiguous = True
    doubtful = RESET

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
        if seq is None:
            return True
        if line is not None and event.session == line.twin:
            if 0 < line.next - seq <= FAR and seq >= line.low and 2 * seq >= line.next:
                self.duplicates += 1
                return False
            if seq == line.next:  # the twins change places
                line.session, line.twin = event.session, line.session
                return self.merge(event)
        return self._look(event, seq)

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """As `merge` for each: the next id of the stream that is flowing, as nearly all are, costs no call."""
        line_of, repeated = self._lines.get, set()
        for place, event in enumerate(events):
            line = line_of(event.symbol)
            seq: int | None = event.seq  # type: ignore[attr-defined]  # only kinds with `seq` have contiguous ids
            ts = event.ts_event
            if line is None or seq is None or ts is None or seq != line.next or event.session != line.session:
                if not self.merge(event):
                    repeated.add(place)
                continue
            line.next = seq + 1
            if ts > line.ts:  # noqa: PLR1730 -- every event passes here, and calling max costs
                line.ts = ts
        return without(events, repeated)

    def _look(self, event: Event, seq: int) -> bool:
        """Everything but the next id of the stream that is flowing."""
        line, ts = self._line(event.symbol), venue_time(event)
        told = (seq, ts) in line.odd
        for past in line.past:
            if self._was_of(past, line, seq, ts):
                self.duplicates += told
                return not told and self._of_past(past, event, seq, ts)
        self._present(line, event.session, seq, seq + 1)
        if not line.odd:
            return self._judge(line, event, seq, ts)
        new = self._judge(line, event, seq, ts)
        if any(0 <= number - line.next <= FAR for number, _ in line.odd):
            line.session = line.twin = ""  # one of these is near: look at every event until it is passed
        if new and told:
            self.duplicates += 1
        return new and not told

    @staticmethod
    def _was_of(past: Line, line: Line, seq: int, ts: int) -> bool:
        """Whether an id is of an earlier numbering: one that it had by then, or little before or behind those seen."""
        if ts <= past.ts:
            return past.low - FAR <= seq < past.next
        return ts < past.until and 0 <= seq - past.next <= FAR < seq - line.next

    def _of_past(self, past: Line, event: Event, seq: int, ts: int) -> bool:
        """An id of an earlier numbering, from a connection that is behind or repeats."""
        if seq < past.next:
            return self._behind(past, event, seq, ts)
        self._ahead(past, event, seq, seq + 1, ts)
        return True

    def _judge(self, line: Line, event: Event, seq: int, ts: int) -> bool:
        """Where an id lies among those that were seen."""
        if line.next < 0:
            self._first(line, event, seq, seq + 1, ts)
            return True
        if isinstance(event, Trade) and event.condition == HISTORY:
            event.condition = MARKET  # not before the first coverage: it came late
        if seq < line.next:
            new = self._behind(line, event, seq, ts)
            line.calm(event.session)
            return new
        if seq - line.next >= WILD:
            return self._stray(line, event, seq, ts)
        self._ahead(line, event, seq, seq + 1, ts)
        return True

    @staticmethod
    def _present(line: Line, session: str, start: int, end: int) -> None:
        """A session sends ids [start, end): its first, or perhaps those that show that another one overlaps."""
        if session not in line.sessions:
            line.meet(session, start, joined=start <= line.next or line.next < 0)
        if line.entering:
            line.reached(session, end)

    def _first(self, line: Line, event: Event, start: int, end: int, ts: int) -> None:
        line.low, line.next, line.session, line.began = start, end, event.session, ts
        if line.gap is not None:
            line.gap.ts_to = max(ts + 1, line.gap.ts_from + 1)
            self._end(line.gap, event.ts_recv)
            line.gap = None
        line.ts = max(line.ts, ts)

    def _ahead(self, line: Line, event: Event, start: int, end: int, ts: int) -> None:
        """Ids [start, end), the newest of them new: ends an interruption, opens a hole before `start`."""
        missing, now = line.next, event.ts_recv
        gap, line.gap = line.gap, None
        if gap is not None:
            gap.ts_to = max(ts + 1, gap.ts_from + 1)
            gap.id_from, gap.id_to, gap.proof = missing, max(start, missing), "ids"
            if start <= missing:
                self._close(gap, now)
        if start > missing:
            hole = Hole(missing, start, now, gap.ts_from if gap else line.ts, ts + 1, event.session)
            hole.gap = gap
            self._hold(line, hole, now)
        line.strays.clear()
        if line.reset is not None:
            self._settled(line.reset, now, late=False)
            line.reset = None
        line.next, line.session = end, event.session
        line.ts = max(line.ts, ts)

    def _hold(self, line: Line, hole: Hole, now: int) -> None:
        line.twin = ""
        line.holes.append(hole)
        line.holes.sort(key=lambda h: h.start)
        self._held.append((line, hole))
        if len(line.holes) > HOLES:
            forgotten = line.holes.pop(0)
            self._report(line, forgotten, now)
            line.low, line.began = forgotten.end, forgotten.ts_to

    def _behind(self, line: Line, event: Event, seq: int, ts: int) -> bool:
        """Not newer than the newest: fills a hole, repeats, or belongs to another numbering."""
        far = line.next - seq > FAR or 2 * seq < line.next
        another = ts > line.ts and far  # what is missing is not newer than the newest
        for hole in reversed(line.holes):
            if hole.start <= seq < hole.end and not another:
                self._fill(line, hole, seq, seq + 1, event.ts_recv)
                self.out_of_order += 1
                return True
        if another or (ts > line.ts and seq < line.low):
            return self._stray(line, event, seq, ts)
        if seq >= line.low:
            self.duplicates += 1
            return False
        self._unknown(line, event, seq, seq + 1)
        return True

    def _unknown(self, line: Line, event: Event, start: int, end: int) -> None:
        """Ids [start, end) below all that is known: what lies between has yet to come, or is no loss of ours."""
        ts = venue_time(event)
        unknown = Hole(end, line.low, event.ts_recv, ts, line.began, event.session)
        unknown.silent = line.low <= line.resumed or (isinstance(event, Trade) and event.condition == HISTORY)
        line.low, line.began = start, ts
        if unknown.start < unknown.end:
            self._hold(line, unknown, event.ts_recv)
        self.out_of_order += 1

    def _fill(self, line: Line, hole: Hole, start: int, end: int, now: int) -> None:
        """Ids [start, end), some of them in the hole, came after all. The middle of a hole makes two."""
        if hole.start < start and end < hole.end:
            rest = Hole(end, hole.end, hole.found_at, hole.ts_from, hole.ts_to, hole.session)
            rest.silent = hole.silent
            hole.end = start
            self._hold(line, rest, now)
            if hole.reported:
                self._report(line, rest, now)
        elif start <= hole.start:
            hole.start = min(end, hole.end)
        else:
            hole.end = start
        if hole.start < hole.end:
            if hole.reported and hole.gap is not None:
                hole.gap.id_from, hole.gap.id_to = hole.start, hole.end
                self._give(hole.gap)
            return
        line.holes.remove(hole)
        if hole.gap is not None:
            self._close(hole.gap, now, late=hole.reported)

    def _stray(self, line: Line, event: Event, seq: int, ts: int) -> bool:
        """An id that fits nothing: kept as an event, and taken as the new numbering when more follow it.

        It is remembered with its time, since a connection that is made again may repeat it among those before it. As
        long as nothing shows which it is, what may be missing before it is told as if more had followed.
        """
        strays = line.strays
        if any(seq == number for number, _ in strays):
            self.duplicates += 1
            return False
        if strays and not 0 < seq - strays[-1][0] < WILD:
            strays.clear()
        strays.append((seq, ts))
        line.odd = (*line.odd[1 - ODD :], (seq, ts))
        if line.reset is None:
            line.reset = self._renumbered(line, event, ts)
            self._doubts.append((line, line.reset))
        line.session = line.twin = ""  # the next event is looked at: if it goes on as before, it clears the strays
        if len(strays) >= CONFIRM:
            self._restart(line, event)
        return True

    @staticmethod
    def _renumbered(line: Line, event: Event, ts: int) -> Unsettled:
        """What is missing where the venue numbers anew at the time `ts`."""
        begin = line.ts if line.gap is None or line.gap.cause == HANDOVER else line.gap.ts_from
        return Unsettled(begin, max(begin, ts) + 1, {event.session}, event.ts_recv)

    def _restart(self, line: Line, event: Event) -> None:
        """The venue numbers anew: the hole before it has an interval and no ids."""
        now, ts = event.ts_recv, line.strays[0][1]
        for hole in line.holes:
            self._report(line, hole, now)
        reset = line.reset or self._renumbered(line, event, ts)
        reset.settled = True
        self._doubtful(line, reset, RESET, event.session, now)
        for gap in (reset.gap, line.gap):
            if gap is not None and gap.cause != HANDOVER:
                gap.ts_to, gap.id_from, gap.id_to = max(ts + 1, gap.ts_from + 1), None, None
                gap.detail = f"ids went from {line.next - 1} to {line.strays[0][0]}"
                self._give(gap)
        line.past = (line.leave_behind(until=ts), *line.past[: PAST - 1])
        line.snapshot, line.wholes, line.lost = None, (), 0
        strays, line.strays, line.holes, line.gap, line.reset = line.strays, [], [], None, None
        line.low, line.next, line.began = strays[0][0], strays[0][0] + 1, ts
        line.ts = max(line.ts, ts)
        for number, time in strays[1:]:
            self._ahead(line, event, number, number + 1, time)
        line.session = event.session
