"""The merger for ids that only rise (quotes), or none: a hole can only be an interval.

Pure. Repeated ids are dropped as far back as memory goes; the table's key drops the rest.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from collectors.holes import CONFIRM, IN_FLIGHT, SEEN, Memory, without
from collectors.line import Line
from market.kinds import Event, kind

NEAR = 16
"""Twins are hardly ever further apart than so many ids."""


def _later(event: Event, number: int | None, line: Line) -> bool:
    """Whether the venue says that an id that is not the newest comes after everything so far: a young numbering that
    begins anew, and no copy. The newest one may be repeated, as a sign of life.
    """
    return event.ts_event is not None and event.ts_event > line.ts and number is not None and number < line.next - 1


class MonotonicMerger(Memory):
    """For ids that only rise (quotes), or none: repeated ids are dropped, gaps are intervals without ids."""

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._number = attrgetter(kind(kind_name).seq or "item")
        self._numbered = kind(kind_name).seq is not None
        self._skewed = "skew_us" in getattr(kind(kind_name).struct, "__struct_fields__", ())

    def merge(self, event: Event) -> bool:
        line = self._lines.get(event.symbol)
        number: int | None = self._number(event) if self._numbered else None
        if line is None or number is None or number < line.next or event.session != line.session:
            if line is None or number is None or event.session != line.twin:
                return self._look(event, number)
            if number < line.next:
                seen = line.seen
                low = len(seen) - NEAR
                place = bisect_left(seen, number, low if low > 0 and seen[low] <= number else 0)
                if place == len(seen) or seen[place] != number or _later(event, number, line):
                    return self._look(event, number)
                self.duplicates += 1
                line.copied = number
                return False
            if line.copied != line.next - 1:
                return self._look(event, number)
            line.session, line.twin = event.session, line.session  # the twins change places
        line.next = number + 1
        line.seen.append(number)
        if len(line.seen) > SEEN:
            del line.seen[: SEEN // 2]
        ts = event.ts_event
        if ts is None:
            ts = self._time(event)
        if ts > line.ts:  # noqa: PLR1730 -- every event passes here, and calling max costs
            line.ts = ts
        return True

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """As `merge` for each: a new id of the stream that is flowing, which is what nearly all are, costs no call."""
        if not self._numbered:
            return super().merge_all(events)
        line_of, number_of, skewed, repeated = self._lines.get, self._number, self._skewed, set()
        ahead, skew = self._clock_ahead, 0
        for place, event in enumerate(events):
            line, number = line_of(event.symbol), number_of(event)
            if line is None or number is None or number < line.next or event.session != line.session:
                if not self.merge(event):
                    repeated.add(place)
                continue
            line.next = number + 1
            seen = line.seen
            seen.append(number)
            if len(seen) > SEEN:
                del seen[: SEEN // 2]
            ts = event.ts_event
            if ts is None:
                skew = event.skew_us if skewed else 0  # type: ignore[attr-defined] # this kind has it
                ts = event.ts_recv + ahead if skew is None else event.ts_recv - skew
            if ts > line.ts:  # noqa: PLR1730 -- every event passes here, and calling max costs
                line.ts = ts
        if skew:
            self._clock_ahead = max(0, -skew)
        return without(events, repeated)

    def _look(self, event: Event, number: int | None) -> bool:
        line = self._line(event.symbol)
        ts = self._time(event)
        place = bisect_left(line.seen, number) if number is not None else 0
        known = number is not None and place < len(line.seen) and line.seen[place] == number
        known = known and not _later(event, number, line)
        at = ts if number is None else number
        if event.session in line.away:
            return self._meanwhile(line, number, place, ts, known=known)
        if event.session not in line.sessions:
            self._meet(line, event, at, ts, joined=known or at < line.next or not line.ts)
        if number is None:
            self._come(line, event, ts, ts, 0, IN_FLIGHT)  # its time is each connection's own
        else:
            line.remember()
            self._come(line, event, at, ts, line.next - 1)
            if at > line.came.get(event.session, -1):  # what comes late on its own connection shows nothing
                line.came[event.session] = at
        gap = line.gap
        if gap is not None and not (known and event.session == gap.session):
            behind = number is not None and number < line.next and ts <= line.ts and event.session != gap.session
            self._resumed(line, event, ts, unbroken=known or behind)
        if known:
            self.duplicates += 1
            line.calm(event.session, at)
            return False
        line.session, line.twin = event.session if line.opening is None else "", ""
        line.ts = max(line.ts, ts)
        if number is not None:
            self._place(line, number, place, ts)
        return True

    def _meanwhile(self, line: Line, number: int | None, place: int, ts: int, *, known: bool) -> bool:
        """Of a session whose subscription is asked for anew: a row, where it is new, and no proof of anything."""
        if known:
            self.duplicates += 1
            return False
        line.remember()
        line.session, line.twin = "", ""
        line.ts = max(line.ts, ts)
        if number is not None:
            self._place(line, number, place, ts)
        return True

    def _opens(self, line: Line, session: str, ts: int) -> None:
        """See Memory. What follows is looked at."""
        super()._opens(line, session, ts)
        line.session = line.twin = ""

    def _place(self, line: Line, number: int, place: int, ts: int) -> None:
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
        line.session = line.twin = ""
        if len(line.strays) >= CONFIRM and 2 * number < line.next:
            line.seen = array("q", (stray for stray, _ in line.strays))
            line.came.clear()
            line.next = number + 1
            line.strays = []
