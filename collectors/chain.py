"""The merger for updates of order books, which cover ids and chain: each says where the one before it ended.

Pure. An update covers the ids after `prev_id` (futures), or from `first_id` (spot), up to `last_id`. What the next one
does not reach back to is a proven loss of updates; what lies wholly in covered ids is a copy from another connection.
Of two updates that overlap both are kept: levels are absolute, so the later one only repeats. An update without
`first_id` whose `last_id` is below its `prev_id` is the last of its numbering and the first of a lower one (OKX, after
maintenance). A whole book in the stream covers no id: the update of its id is a row of its own, whichever comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.holes import IN_FLIGHT, venue_time
from collectors.line import Line
from collectors.numbered import PAST, IdMerger
from market.kinds import BookDelta, Event

SNAPSHOT = "snapshot"
"""The flag of a row that a book begins from."""
CLEAR = "clear"
"""The flag of a row behind which nothing of the book before it is known."""
WHOLES = 15
"""Snapshots of a book whose ids are remembered, beside the newest."""


def ids_of(event: BookDelta) -> tuple[int, int]:
    """The ids [from, to) that a row covers; (0, 0) for one that takes no place among them. A whole book in the stream
    covers none, and stands behind its id. The last of a numbering stands for the id behind what it follows.
    """
    last, before = event.last_id, event.prev_id
    if before is None and event.first_id is not None:
        before = event.first_id - 1
    if last is None or (before is None and not (event.source == "ws" and SNAPSHOT in event.flags)):
        return 0, 0
    if before is None:
        return last + 1, last + 1
    if last < before and event.first_id is None:
        return before + 1, before + 2
    return min(before + 1, last), last + 1


class ChainMerger(IdMerger):
    """For `book_delta`. Gaps carry the ids that no update covers; how many updates that were only the venue knows."""

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._cleared: dict[str, int] = {}
        """Symbol -> when (venue's time) it said last that nothing of a book is known: a whole of then begins anew."""

    def merge(self, event: Event) -> bool:
        assert isinstance(event, BookDelta)
        last, before = event.last_id, event.prev_id
        if before is None and event.first_id is not None:
            before = event.first_id - 1
        if last is None or before is None:
            return self._unchained(event)
        line, ts = self._lines.get(event.symbol), event.ts_event
        if line is not None and ts:
            if before + 1 == line.next and last > before and event.session == line.session:
                line.next = last + 1
                if ts > line.ts:  # noqa: PLR1730 -- every update passes here, and calling max costs
                    line.ts = ts
                return True
            if event.session == line.twin:
                if line.low <= last < line.next and ts <= line.ts:
                    self.duplicates += 1
                    return False
                if before + 1 == line.next and last > before:  # the twins change places
                    line.session, line.twin = event.session, line.session
                    return self.merge(event)
        if last < before and event.first_id is None:
            return self._back(self._line(event.symbol), event, before, last)
        return self._place(self._line(event.symbol), event, min(before + 1, last), last + 1)

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """Updates are large and few: a call each."""
        return [event for event in events if self.merge(event)]

    def _unchained(self, event: BookDelta) -> bool:
        """A row with nothing to chain by: its place in its frame identifies it, a snapshot its id."""
        if event.last_id is not None and event.flags and SNAPSHOT in event.flags:
            line = self._line(event.symbol)
            if event.source == "ws":
                return self._whole(line, event, event.last_id)
            if line.snapshot == event.last_id:  # nothing happened between two sessions' questions
                self.duplicates += 1
                return False
            self._begins(line, event.last_id)
        if event.last_id is None and CLEAR in event.flags:
            if venue_time(event) <= self._line(event.symbol).ts:
                self.duplicates += 1  # the venue began anew, as another session has told
                return False
            self._cleared[event.symbol] = venue_time(event)
        return True

    def _whole(self, line: Line, event: BookDelta, last: int) -> bool:
        """A snapshot that came in the stream tells the book up to `last`, whatever was missed; a row where the stored
        ones do not tell it so far.
        """
        ts, end = venue_time(event), last + 1
        if (past := self._past(line, last, ts)) is not None:
            self.duplicates += last in past.wholes
            return last not in past.wholes and self._of_before(past, last)
        self._present(line, event.session, end, end)
        if line.next < 0:
            self._first(line, event, end, end, ts)
        elif last >= line.next:
            self._ahead(line, event, end, end, ts)
        elif ts > line.ts and (2 * end < line.next or ts == self._cleared.get(event.symbol)):
            line.strays = [(last, ts)]
            self._restart(line, event)
            line.low = end
        elif last >= line.lost and (last in line.wholes or self._stored(line, last)):
            if line.gap is not None and event.session != line.gap.session:
                self._proven(line, event)
            if last in line.wholes or self.known(event.symbol) is not None:
                self.duplicates += 1
                return False
        self._begins(line, last)
        return True

    @staticmethod
    def _stored(line: Line, last: int) -> bool:
        """Whether an update that ends with an id was seen."""
        return line.low <= last < line.next and not any(hole.start <= last < hole.end for hole in line.holes)

    def _past(self, line: Line, last: int, ts: int) -> Line | None:
        """The earlier numbering that an id is of: a connection is behind, or repeats."""
        return next((past for past in line.past if self._was_of(past, line, last, ts)), None)

    def _of_before(self, past: Line, last: int) -> bool:
        """Whether an update of an earlier numbering is new."""
        known = self._stored(past, last)
        self.duplicates += known
        return not known

    def _place(self, line: Line, event: Event, start: int, end: int) -> bool:
        """Everything but the next update of the stream that is flowing."""
        ts = venue_time(event)
        if (past := self._past(line, end - 1, ts)) is not None:
            return self._of_before(past, end - 1)
        self._present(line, event.session, start, end)
        if line.next < 0:
            self._first(line, event, start, end, ts)
            return True
        if end > line.next:
            for hole in [hole for hole in line.holes if hole.start < end and start < hole.end]:
                self._fill(line, hole, start, end, event.ts_recv)  # what a whole came ahead of
            self._ahead(line, event, start, end, ts)
            return True
        new = self._repeated(line, event, start, end, ts)
        line.calm(event.session)
        return new

    def _back(self, line: Line, event: BookDelta, before: int, last: int) -> bool:
        """An update behind which the venue's numbering goes on lower: nothing is missing where it says so itself."""
        ts, now = venue_time(event), event.ts_recv
        if any(ts <= one.ts and one.low <= last < one.next for one in (line, *line.past)):
            self.duplicates += 1  # as another session has told
            return False
        if (past := self._past(line, last, ts)) is not None:
            return self._of_before(past, last)
        self._present(line, event.session, last, last + 1)
        if line.next < 0:
            self._first(line, event, last, last + 1, ts)
            return True
        if ts <= line.ts and line.low == last + 1:  # a whole of its id was first to tell the lower numbering
            line.low = last
            self.out_of_order += 1
            return True
        if before + 1 < line.next:  # not the end of the numbering that was seen
            line.strays = [(last, ts)]
            self._restart(line, event)
            return True
        self._ahead(line, event, before + 1, before + 1, ts)
        for hole in line.holes:
            self._report(line, hole, now)
        line.past = (line.leave_behind(until=ts), *line.past[: PAST - 1])
        line.holes, line.snapshot, line.wholes, line.lost, line.twin = [], None, (), 0, ""
        line.low, line.next, line.session, line.began = last, last + 1, event.session, ts
        return True

    @staticmethod
    def _begins(line: Line, last: int) -> None:
        """A snapshot up to `last`, which its session has joined to its updates."""
        line.snapshot = last if line.snapshot is None else max(last, line.snapshot)
        line.wholes = (*line.wholes[-WHOLES:], last)

    def known(self, symbol: str) -> int | None:
        """The id up to which a book can be told from its stored rows: nothing is missing since a snapshot of it.

        None where it cannot.
        """
        line = self._lines.get(symbol)
        if line is None or line.snapshot is None:
            return None
        begin = line.snapshot + 1
        if begin < line.lost or line.low > begin or any(hole.end > begin for hole in line.holes if not hole.silent):
            return None
        return max(line.next, begin) - 1

    def lose(self, symbol: str) -> None:
        """Updates were taken for known and then not stored: what was merged so far tells no book."""
        line = self._lines.get(symbol)
        if line is not None:
            line.lost = line.next

    def _repeated(self, line: Line, event: Event, start: int, end: int, ts: int) -> bool:
        """Nothing beyond the newest: fills holes, repeats, or belongs to another numbering."""
        filled = [hole for hole in line.holes if hole.start < end and start < hole.end]
        for hole in filled:
            self._fill(line, hole, start, end, event.ts_recv)
        if filled:
            self.out_of_order += 1
            return True
        if ts > line.ts:  # what was seen is not newer than the newest
            if 2 * end < line.next or ts > line.ts + IN_FLIGHT:
                return self._stray(line, event, end - 1, ts)
            self.out_of_order += 1
            return True
        if end > line.low:
            self.duplicates += 1
            if line.gap is not None and event.session != line.gap.session:
                self._proven(line, event)
            return False
        self._unknown(line, event, start, end)
        return True

    def _proven(self, line: Line, event: Event) -> None:
        """A copy from another session: that one was there before the interruption, so that nothing is missing."""
        gap, line.gap = line.gap, None
        if gap is not None:
            gap.ts_to = max(venue_time(event), gap.ts_from + 1)
            gap.id_from = gap.id_to = line.next
            self._close(gap, event.ts_recv)
        line.session = event.session
