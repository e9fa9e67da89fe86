"""The merger for books that the venue does not number but sums: each message is proven by the checksum of its book.

Pure. A row's place is made of the venue's time (decision 0021), the same on every connection; `prev_id` is the place of
the message before it on its connection. A session whose checksum does not hold says so with a row `clear`, and begins
anew with a whole. The book is known as long as one of its sessions is; where none is, what lies between the last proven
row and the next whole is a gap in time: places are no count of what is missing. A whole that comes while another
session goes on is joined to the rows before it by a change of that session which reaches over it; until then it is not
known whether that one has lost what lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collectors.chain import CLEAR, SNAPSHOT
from collectors.doubts import Unsettled
from collectors.holes import HANDOVER, SINGLE, Memory, venue_time
from collectors.line import Line
from market.kinds import BookDelta, Event
from market.session import Gap

CHECKSUM = "checksum"
"""Cause of a gap: a book was not what the venue said it was. And the proof that nothing is missing."""
KEPT = 128
"""Rows remembered a symbol: more than two connections differ by. What repeats older ones is let through, and the
table's key drops it.
"""


class Joint(Unsettled):
    """Between the newest row and a whole ahead of it: `provers` are the sessions that can say what lies there."""

    __slots__ = ("end", "start")

    def __init__(self, start: int, end: int, ts_from: int, ts_to: int, provers: set[str], found_at: int) -> None:
        super().__init__(ts_from, ts_to, provers, found_at)
        self.start, self.end = start, end


class CheckedMerger(Memory):
    """For `book_delta` of a venue without ids. Gaps are intervals."""

    doubtful = CHECKSUM

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._told: dict[str, dict[int, int | None]] = {}
        """Symbol -> place and checksum of the newest rows."""
        self._proof: dict[str, tuple[int, int | None]] = {}
        """Symbol -> (time, checksum) of the newest row."""
        self._joints: dict[str, list[Joint]] = {}
        self._cleared: dict[str, tuple[int, int | None]] = {}
        """Symbol -> the same of the newest row `clear`."""

    def merge(self, event: Event) -> bool:
        assert isinstance(event, BookDelta)
        line, ts, last = self._line(event.symbol), venue_time(event), event.last_id
        if last is None:
            return self._broken(line, event, ts) if CLEAR in event.flags else True
        told = self._told.setdefault(event.symbol, {})
        known = last in told and told[last] == event.checksum
        whole = SNAPSHOT in event.flags
        if event.session not in line.sessions:
            line.meet(event.session, last, joined=known or last < line.next or line.next < 0)
        if line.entering:
            line.reached(event.session, last)
        if line.gap is not None:
            self._resumes(line, event, ts, whole=whole, known=known)
        elif whole and last >= line.next >= 0:
            self._join(line, event, last, ts)
        if not whole and event.symbol in self._joints:
            self._reached(event, last, ts)
        if known or (whole and last < line.next and line.session != event.session and line.session in line.sessions):
            self.duplicates += 1  # a whole that is behind the rows of another session says nothing that they do not
            return False
        self.out_of_order += last < line.next
        told[last] = event.checksum
        if len(told) > KEPT:
            del told[next(iter(told))]
        if last >= line.next:
            line.next, line.session = last + 1, event.session
            line.low = last if line.low < 0 else line.low
            self._proof[event.symbol] = (ts, event.checksum)
        line.ts = max(line.ts, ts)
        return True

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """Updates are large and few: a call each."""
        return [event for event in events if self.merge(event)]

    def lose(self, symbol: str) -> None:
        """Rows were taken for known and then not stored: whatever repeats them is news."""
        self._told.pop(symbol, None)
        self._proof.pop(symbol, None)

    def interrupt(self, session: str, symbols: Iterable[str], cause: str, now: int, shown: int = 0) -> list[Gap]:
        """See Memory: of what the session alone could have said nobody knows whether it is missing."""
        for symbol in symbols if cause in SINGLE else list(self._joints):
            self._unproven(self._line(symbol), session, now)
        return super().interrupt(session, symbols, cause, now, shown)

    def _join(self, line: Line, event: BookDelta, last: int, ts: int) -> None:
        """A whole ahead of the rows of sessions that go on."""
        provers = line.sessions - {event.session}
        if self._proof.get(event.symbol) == (ts, event.checksum):
            return
        joint = Joint(line.next - 1, last, line.ts, ts, provers, event.ts_recv)
        self._joints.setdefault(event.symbol, []).append(joint)
        self._doubts.append((line, joint))
        self._unproven(line, event.session, event.ts_recv)

    def _reached(self, event: BookDelta, last: int, ts: int) -> None:
        """A change: it reaches over a joint that begins where it does, or part of the way."""
        left = []
        for joint in self._joints.pop(event.symbol):
            if joint.start == event.prev_id:
                joint.start, joint.ts_from = last, max(ts, joint.ts_from)
            if joint.start < joint.end:
                left.append(joint)
            else:
                self._settled(joint, event.ts_recv)
        if left:
            self._joints[event.symbol] = left

    def _unproven(self, line: Line, session: str, now: int) -> None:
        """A session says no more what came before: joints that nobody else can prove are gaps."""
        left = []
        for joint in self._joints.pop(line.symbol, ()):
            joint.provers.discard(session)
            if joint.provers:
                left.append(joint)
                continue
            joint.settled = True
            self._doubtful(line, joint, CHECKSUM, session, now)
        if left:
            self._joints[line.symbol] = left

    def _between(self, line: Line, ts_from: int, ts_to: int, cause: str, session: str, now: int) -> Gap:
        """See Giving."""
        gap = super()._between(line, ts_from, ts_to, cause, session, now)
        if cause == CHECKSUM:
            gap.proof = CHECKSUM
        return gap

    def _broken(self, line: Line, event: BookDelta, ts: int) -> bool:
        """A session does not know its book any more: a row only where no other session does."""
        line.leave(event.session)
        self._unproven(line, event.session, event.ts_recv)
        if line.sessions or ts < line.ts or (line.gap is not None and line.gap.cause != HANDOVER):
            self.duplicates += 1
            return False
        line.gap = self._gap(line, line.ts or ts, CHECKSUM, event.session, event.ts_recv)
        line.gap.proof = CHECKSUM
        self._give(line.gap)
        told, self._cleared[event.symbol] = self._cleared.get(event.symbol), (ts, event.checksum)
        self.duplicates += told == (ts, event.checksum)
        return told != (ts, event.checksum)

    def _resumes(self, line: Line, event: BookDelta, ts: int, *, whole: bool, known: bool) -> None:
        """The book is known again: nothing is missing where it is the one of the newest row, by time and checksum.

        A change proves the same where it names the newest row as the one before it: its own checksum holds.
        """
        gap = line.gap
        assert gap is not None
        if known and event.session == gap.session:
            return
        same = self._proof.get(event.symbol) == (ts, event.checksum) if whole else event.prev_id == line.next - 1
        line.gap, gap.ts_to = None, max(ts, gap.ts_from + 1)
        if known or same:
            self._close(gap, event.ts_recv)
            gap.proof = CHECKSUM
        self._give(gap)
