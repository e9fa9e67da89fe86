"""What all mergers share: the interruptions of streams, and the queue of gaps to give out.

Pure. A hole that was found is held for a moment, since venues reorder and connections differ in speed, then it is a
gap row; the row changes when the hole is filled or its end becomes known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from collectors.doubts import Unsettled
from collectors.giving import Giving
from collectors.line import Hole, Line
from market.kinds import Event, kind
from market.session import EVERY_SYMBOL, Gap, Resume
from market.times import SECOND

HOLD = 2 * SECOND  # of receive time: a missing id may still come, venues reorder and connections differ in speed
IN_FLIGHT = 2 * SECOND  # of venue time: how far the streams of one connection may lag each other when it is cut
SETTLED = 5 * SECOND  # of receive time: a stream that is silent by nature is taken on once its connection holds so long
STALLED = "stalled"
"""Cause of an interruption of single streams of a connection that lives on: its other streams prove nothing."""
SILENT = "silent_stream"
"""Cause of an interruption that was proven: the venue has newer events of a stream that has sent none."""
SINGLE, SILENCE = (STALLED, SILENT), "silence"
OPENING = frozenset({"quote", "mark_price", "book_snapshot"})
"""Kinds of which venues say what is to who subscribes: after a silence that is no proof that more will come."""
FLOWS = 5 * SECOND  # of venue time: what follows the first message within it shows that nothing was left out
RETIRED = "retired"
"""Cause of an end after which the streams are wanted no more, or by other connections only."""
HANDOVER = "handover"
"""Cause of an end that was planned, another session being there already: nothing is missing unless ids say so."""
RESET = "id_reset"
CONFIRM = 3  # rising ids in a row on the far side: the venue numbers anew, and no frame was damaged
SEEN = 4_096  # identities remembered a symbol


def venue_time(event: Event) -> int:
    """The venue's time of an event (us), estimated by its session's skew where the venue gave none."""
    if event.ts_event is not None:
        return event.ts_event
    skew: int | None = getattr(event, "skew_us", None)
    return event.ts_recv - (skew or 0)


def without(events: Sequence[Event], places: Collection[int]) -> Sequence[Event]:
    """All events but those at `places`."""
    return [event for place, event in enumerate(events) if place not in places] if places else events


class Memory(Giving, ABC):
    """Interruptions, and the queue of gaps to give out: what all mergers share."""

    rare = False
    """Whether minutes between events are ordinary, so that the session's other events tell how long it was there."""
    doubtful = STALLED
    """Cause of a gap of which it is not known yet whether anything is missing."""
    by_next = False
    """Whether an event is told by the next one of its symbol only, so that one may be missing since the last that was
    told, whatever else came.
    """

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind(kind_name).name)
        self.duplicates = 0
        self.out_of_order = 0
        self._lines: dict[str, Line] = {}
        self._held: deque[tuple[Line, Hole]] = deque()
        self._doubts: deque[tuple[Line, Unsettled]] = deque()
        self._settling: list[Line] = []
        self._clock_ahead = 0
        """By how much (us) the venue's clock is ahead of ours, as the session said that knew it last."""

    def interrupt(self, session: str, symbols: Iterable[str], cause: str, now: int, shown: int = 0) -> list[Gap]:
        """Streams of `session` stopped: a gap a symbol that no other session serves, open until it resumes.
        `shown` is the newest venue time (us) of anything that came on it; of SILENT streams that sent nothing, from
        when on they should have, and of STALLED ones until when they have certainly missed nothing.

        But for SINGLE causes the session is over, and its other streams have been taken over. A HANDOVER's gap is given
        out only when ids are missing; else it comes out closed, and tells that its time is covered.
        """
        newest = max((line.ts for line in self._lines.values() if line.session == session), default=0)
        if self.rare or cause == HANDOVER:
            newest = max(newest, min(shown, now))
        named = [self._line(symbol) for symbol in symbols]
        for line in named if cause in SINGLE else list(self._lines.values()):
            line.leave(session)
            if line.away and cause not in SINGLE:
                line.away -= {session}
            for doubt in line.unproven(session) if line.doubts else ():
                if cause != HANDOVER:
                    self._doubtful(line, doubt, cause, session, now)
                    if cause in SINGLE and line.ts <= doubt.ts_to:
                        self._opens(line, line.session, line.ts)
                elif shown > doubt.ts_to + IN_FLIGHT:  # it had come that far, without this stream
                    self._doubtful(line, doubt, SILENT, session, now)
        untold = cause == HANDOVER and self.by_next
        for line in (line for line in named if not line.sessions or (untold and not line.came)):
            heard = max(line.ts, line.since, newest - IN_FLIGHT)
            whole = max(line.ts, shown) if cause == STALLED else line.ts
            alive = whole if cause in SINGLE or line.opening or self.by_next else heard
            if cause == HANDOVER:
                if line.gap is None and line.ts:
                    line.gap = self._gap(line, alive, cause, session, now)
                continue
            for hole in line.holes:
                self._report(line, hole, now)
            if line.reset is not None:
                self._doubtful(line, line.reset, RESET, session, now)
            if line.gap is None or line.gap.cause == HANDOVER:
                alive = alive if line.gap is None or self.rare else min(alive, line.gap.ts_from)  # nothing came since
                line.gap = self._gap(
                    line, (line.ts and alive) or self._unheard(line, cause, newest, shown, now), cause, session, now
                )
                line.opening = None  # the gap begins there
                self._give(line.gap)
        return self._take(now)

    def let_go(self, session: str, symbols: Iterable[str], cause: str, now: int) -> list[Gap]:
        """`session` is over, and nothing more was wanted of it. Its gap is given out only when others come after it, as
        where frames are read again.
        """
        gaps = self.interrupt(session, (), cause, now)
        for line in (self._lines[symbol] for symbol in symbols if symbol in self._lines):
            if not line.sessions and line.gap is None and line.ts:
                line.gap = self._gap(line, line.ts, cause, session, now)
        return gaps

    def passed_on(
        self, session: str, had: Mapping[str, Collection[str]], shown: int, alive: int, now: int
    ) -> list[Gap]:
        """Before a planned end of `session`, on which the venue's time `shown` (us) came: symbol -> the sessions that
        `had` it well before then, by the venue's word. Between their first events and what came on the one that ends
        nothing is missing, however far that was behind, unless it had come beyond them without the stream.

        `alive` is until when (us) it certainly brought whatever there was: so long nothing is missing of a stream that
        is silent by nature, whoever follows.
        """
        for line in self._lines.values():
            if line.since and session in line.sessions and len(line.sessions) > 1:
                line.since = max(line.since, alive - IN_FLIGHT)
        for line in self._lines.values() if not self.by_next else ():
            heirs = had.get(line.symbol) or had.get(EVERY_SYMBOL)
            for doubt in line.shown(session, heirs, shown - IN_FLIGHT) if heirs and line.doubts else ():
                self._settled(doubt, now, late=bool(doubt.coming))
        return self._take(now)

    def _unheard(self, line: Line, cause: str, newest: int, shown: int, now: int) -> int:
        """From when on a stream may miss something of which nothing was ever stored under its name, us.

        A socket that fell silent is noticed seconds later: what it showed last is when it was still heard.
        """
        if cause in SINGLE:
            return shown or now
        heard = max(newest, min(shown, now)) or now
        early = IN_FLIGHT if self.rare or line.symbol == EVERY_SYMBOL else 0  # the first of it may have been under way
        return max(min(heard - early, now), line.since)

    def missed(self, session: str, symbol: str, heard: int, since: int, cause: str, now: int) -> list[Gap]:
        """Of a stream whose silence is ordinary nobody had what came between `heard` (us), when `session` was heard
        last, and `since`, when another one was taken on.
        """
        line = self._line(symbol)
        if line.gap is None:
            ts_from = line.ts if self.by_next and line.ts else max(line.ts, line.since, heard - IN_FLIGHT)
            self._between(line, ts_from, since, cause, session, now)
            line.since = max(since, ts_from + 1) if line.next < 0 else 0
        return self._take(now)

    def silenced(self, session: str, symbol: str, since: int, now: int, detail: str) -> list[Gap]:
        """One stream of `session` is proven to have missed something: `detail` says by what. Where nothing was ever
        stored of it, it is missing `since` (us).
        """
        line = self._line(symbol)
        before = line.gap
        gaps = self.interrupt(session, [symbol], SILENT, now, since)
        if line.gap is not None and line.gap is not before:
            for gap in (line.gap, *(gap for gap in gaps if gap.gap_id == line.gap.gap_id)):
                gap.detail = detail
        return gaps

    def suspended(self, session: str, symbol: str, now: int, since: int = 0) -> list[Gap]:
        """One stream of `session`, which is silent, is asked for anew: its subscription ends now. What is under way may
        come still, or nothing may until it is taken on again: what comes until that is `restored` ends no gap. It has
        certainly missed nothing before `since` (us).
        """
        gaps = self.interrupt(session, [symbol], STALLED, now, since)
        self._line(symbol).away |= {session}
        return gaps

    def restored(self, session: str, symbol: str, now: int) -> list[Gap]:
        """The subscription of a stream has begun again. Where what came meanwhile has ended a gap by its ids, what came
        after it and before now is told by what follows only.
        """
        line = self._lines.get(symbol)
        if line is None or session not in line.away:
            return []
        line.away -= {session}
        return self.interrupt(session, [symbol], STALLED, now) if session in line.sessions else []

    def seen(self, symbol: str) -> tuple[int, int | None]:
        """The newest of a symbol, stored or handed on to be: its venue time (us), and its id where ids follow each
        other; (0, None) before any.
        """
        line = self._lines.get(symbol)
        if line is None:
            return 0, None
        return line.ts, line.next - 1 if self.contiguous and line.next >= 0 else None

    def _time(self, event: Event) -> int:
        """The venue's time of an event (us). A session that knows no skew yet would take a venue whose clock is ahead
        for one that has not come so far, and an interruption for none.
        """
        if event.ts_event is not None:
            return event.ts_event
        skew: int | None = getattr(event, "skew_us", None)
        if skew is None:
            return event.ts_recv + self._clock_ahead
        self._clock_ahead = max(0, -skew)
        return event.ts_recv - skew

    @abstractmethod
    def merge(self, event: Event) -> bool:
        """Whether an event is new."""

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those of `events` that are new."""
        return [event for event in events if self.merge(event)]

    def joined(self, session: str, symbol: str) -> bool:
        """Whether what `session` sends of a symbol is shown to overlap with what was there before it, and nobody else
        may be about to fill a hole.
        """
        line = self._lines.get(symbol)
        return line is not None and session in line.joined and all(one.reported or one.silent for one in line.holes)

    def forget(self, symbols: Iterable[str], now: int, told: int = 0) -> list[Gap]:
        """These are wanted no more since `now`: what was missing of them is missing until then, and not for ever.

        Should they come again, what lies between is no loss. `told` is for those whose events wait to be told.
        """
        del told
        for symbol in symbols:
            if (line := self._lines.pop(symbol, None)) is None:
                continue
            for hole in line.holes:
                self._report(line, hole, now)
            if line.gap is not None and line.gap.cause != HANDOVER:
                line.gap.ts_to = max(now, line.gap.ts_from + 1)
                self._give(line.gap)
        return self._take(now)

    def acknowledged(self, session: str, symbols: Iterable[str], now: int, around: Sequence[int] = ()) -> list[Gap]:
        """The venue took on streams whose silence is ordinary: their interruptions end here, not at a later event.
        `around`: the earliest and the latest (us) that its clock may have said at `now`.

        Said once the session has lasted for a moment: a connection that is cut again and again is one interruption.
        """
        earliest, latest = around or (now, now)
        for line in map(self._line, symbols):
            line.sessions.add(session)
            if line.gap is None:
                line.since = line.since or (0 if self.begun(line.symbol) else earliest)
                continue
            if line.settling is None:
                self._settling.append(line)
            if line.settling is None or line.settling[0] == session:
                line.settling = (session, now, latest)  # said again: it was not taken on the first time
        return self._take(now)

    def begun(self, symbol: str) -> bool:
        """Whether anything of a symbol was merged, or stored before a restart."""
        return self.seen(symbol)[0] > 0

    def awaits(self, symbol: str) -> bool:
        """Whether a symbol was handed over to a session that has sent nothing of it yet."""
        line = self._lines.get(symbol)
        return line is not None and line.gap is not None and line.gap.cause == HANDOVER

    def resume(self, last: Mapping[str, Resume]) -> None:
        """Seed what was stored before a restart; each stream's interruption comes out of the next `tick`."""
        self.follow(last)
        for symbol, stop in last.items():
            if not stop.cause:
                continue
            line = self._lines[symbol]
            line.gap = self._gap(line, stop.ts_event, stop.cause, stop.session, 0)
            line.gap.detail = stop.detail
            self._give(line.gap)

    def follow(self, last: Mapping[str, Resume]) -> None:
        """Seed where streams are that were stored so far, and go on."""
        for symbol, stop in last.items():
            line = self._lines[symbol] = Line(symbol)
            line.ts = stop.ts_event
            if stop.seq is not None:
                line.low, line.next, line.began = stop.seq, stop.seq + 1, stop.ts_event
                line.resumed = stop.seq
                line.seen.append(stop.seq)
            self._clock_ahead = max(self._clock_ahead, stop.ahead)

    def tick(self, now: int) -> list[Gap]:
        """Gaps that are new or changed since the last call, holes held long enough among them."""
        while self._held and now - self._held[0][1].found_at >= HOLD:
            self._report(*self._held.popleft(), now)
        while self._doubts and now - self._doubts[0][1].found_at >= HOLD:
            line, doubt = self._doubts.popleft()
            if not doubt.settled and doubt.ts_from < doubt.ts_to:
                self._doubtful(line, doubt, self.doubtful, min(doubt.provers), now)
        if self._settling:
            self._settle(now)
        return self._take(now)

    def _settle(self, now: int) -> None:
        """End the interruptions of sparse streams whose new session has lasted."""
        waiting, self._settling = self._settling, []
        for line in waiting:
            if line.settling is None or line.gap is None:
                line.settling = None
            elif now - line.settling[1] < SETTLED:
                self._settling.append(line)
            else:
                gap, line.gap = line.gap, None
                gap.ts_to, line.settling = max(line.settling[2], gap.ts_from + 1), None
                line.since = gap.ts_to if line.next < 0 else 0  # with ids it is the same gap that goes on
                self._end(gap, now)

    def _line(self, symbol: str) -> Line:
        if (line := self._lines.get(symbol)) is None:
            line = self._lines[symbol] = Line(symbol)
        return line

    def _come(self, line: Line, event: Event, at: int, ts: int, newest: int, apart: int = 0) -> None:
        """An event's session is at the number `at` and the time `ts`, which resolves doubts. `newest` is the number of
        the newest event of all: who left that out was mute, and comes in anew. See Doubt for `apart`.
        """
        session, now = event.session, event.ts_recv
        if line.opening is not None:
            self._followed(line, session, ts, now)
        for doubt in line.reached(session, at, apart):
            if doubt.provers:
                self._settled(doubt, now)
            else:
                self._doubtful(line, doubt, SILENT, session, now)
        if line.was_mute(session, at, newest):
            left_out = line.meet(session, at, joined=False, ts=ts) if len(line.sessions) > 1 else None
            if left_out is not None:
                self._doubts.appendleft((line, left_out))  # no matter of speed: told at once
            else:
                self._between(line, line.ts, ts, SILENT, session, now)

    def _meet(self, line: Line, event: Event, at: int, ts: int, *, joined: bool) -> None:
        """A session's first event. What only those who were there before can tell is told if they do not soon."""
        doubt = line.meet(event.session, at, joined=joined, ts=ts)
        if doubt is not None:
            doubt.found_at = event.ts_recv
            self._doubts.append((line, doubt))

    def _opens(self, line: Line, session: str, ts: int) -> None:
        """One message of `session` is all that came of a stream after a silence."""
        if self.kind in OPENING:
            line.opening = (session, ts)

    def _followed(self, line: Line, session: str, ts: int, now: int) -> None:
        """Something came after the message that ended a silence: what took long may have left out what was between."""
        if line.opening is None or ts <= line.opening[1]:
            return
        before, since = line.opening
        if ts - since > FLOWS:
            self._between(line, since, ts, STALLED, before, now)
        line.opening = (session, ts) if session != before else None

    def _resumed(self, line: Line, event: Event, ts: int, *, unbroken: bool) -> None:
        """The stream flows again. An id that we had proves that the new session was there before the old one left, if
        it is not of what came while its subscription was asked for anew: that has missed what is missing.
        """
        gap, line.gap = line.gap, None
        if gap is None:
            return
        meanwhile = line.ts > gap.ts_from
        gap.ts_to = max(ts, gap.ts_from + 1)
        if unbroken and not (meanwhile and self._time(event) > gap.ts_from):
            self._close(gap, event.ts_recv)
        elif gap.cause in SINGLE:
            self._opens(line, event.session, ts)
        self._end(gap, event.ts_recv)

    def _end(self, gap: Gap, now: int) -> None:
        """An interval without ids has its end; that of a handover never was one, unless who left may have held an event
        of which only the next one tells.
        """
        if gap.cause == HANDOVER and not self.by_next:
            self._close(gap, now)
        self._give(gap)
