"""What all mergers share: the holes of a symbol, the interruptions of its streams, and the queue of gaps to give out.

Pure. A hole that was found is held for a moment, since venues reorder and connections differ in speed, then it is a
gap row; the row changes when the hole is filled or its end becomes known.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from collectors.doubts import DOUBTS, Doubt
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
HANDOVER = "handover"
"""Cause of an end that was planned, another session being there already: nothing is missing unless ids say so."""
JUMP = "jump"
RESET = "id_reset"
CONFIRM = 3  # rising ids in a row on the far side: the venue numbers anew, and no frame was damaged
SEEN = 4_096  # identities remembered a symbol


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


def without(events: Sequence[Event], places: Collection[int]) -> Sequence[Event]:
    """All events but those at `places`."""
    return [event for place, event in enumerate(events) if place not in places] if places else events


class Hole:
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


class Line:
    """What is known of one symbol. Every id in [low, next) was seen or is in `holes`; next is -1 before any id."""

    __slots__ = (
        "doubts", "entering", "gap", "holes", "joined", "lost", "low", "next", "odd", "past", "seen", "session",
        "sessions", "settling", "since", "snapshot", "strays", "symbol", "ts", "twin", "until",
    )  # fmt: skip

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.low = self.next = -1
        self.ts = 0
        self.session = ""
        """The session of the newest event; any other session's event is looked at closely."""
        self.twin = ""
        """Another session that serves it, where no hole, stray or other doubt is: its copies are dropped fast."""
        self.sessions: set[str] = set()
        """Those that have sent something of it and are not over; of sparse streams those that were taken on."""
        self.entering: dict[str, int] = {}
        """Session -> where it came in, while ids between the others and there are missing."""
        self.doubts: list[Doubt] = []
        """Where sessions came in ahead of those that were there, in order."""
        self.joined: set[str] = set()
        """Sessions that are known to overlap with what was there before them."""
        self.gap: Gap | None = None
        """The interruption that waits for its end."""
        self.settling: tuple[str, int] | None = None
        """(session, time) that will have ended the interruption, if the session lasts."""
        self.holes: list[Hole] = []
        self.strays: list[tuple[int, int]] = []
        """(id, venue time) on the far side of the numbering: a restart of it, if they go on."""
        self.odd: tuple[tuple[int, int], ...] = ()  # those that were strays lately
        self.past: tuple[Line, ...] = ()  # earlier numberings, the newest first
        self.until = 0  # of an earlier numbering: when the one after it began
        self.seen = array("q")
        self.snapshot: int | None = None  # the id of the newest snapshot that a book begins from
        self.lost = 0  # ids below it were merged, and some of them not stored: a book begins behind them
        self.since = 0
        """Of what has no ids: when (us) the venue took it on, so that what was missing before then is told."""

    def leave_behind(self, *, until: int) -> Line:
        """What is known of its numbering, of which nothing more comes but what is late or repeated."""
        past = Line(self.symbol)
        past.low, past.next, past.ts, past.holes, past.until = self.low, self.next, self.ts, self.holes, until
        return past

    def leave(self, session: str) -> None:
        """The session serves it no more."""
        self.sessions.discard(session)
        self.joined.discard(session)
        self.entering.pop(session, None)
        self.twin = ""
        if self.session == session:
            self.session = ""
        if self.settling is not None and self.settling[0] == session:
            self.settling = None

    def meet(self, session: str, at: int, *, joined: bool, ts: int = 0) -> None:
        """A session's first event, of the number `at` and time `ts`; `joined`: nothing can be missing before it."""
        self.sessions.add(session)
        if joined:
            self.joined.add(session)
        else:
            self.entering[session] = at
            if ts and (others := self.sessions - {session}):
                self._doubt(Doubt(at, self.ts, ts, others))
        self.twin = ""

    def _doubt(self, doubt: Doubt) -> None:
        """Too many at once are one."""
        if len(self.doubts) == DOUBTS:
            last = self.doubts.pop()
            doubt.ts_from, doubt.provers = last.ts_from, doubt.provers | last.provers
        self.doubts.append(doubt)

    def reached(self, session: str, at: int) -> None:
        """A session is at the number `at`: whoever came in by then overlaps with it."""
        for other in [other for other, entry in self.entering.items() if other != session and at >= entry]:
            del self.entering[other]
            self.joined.add(other)
        if self.doubts:
            self.doubts = [doubt for doubt in self.doubts if session not in doubt.provers or at < doubt.at]

    def unproven(self, session: str) -> list[Doubt]:
        """The session has ended: what nobody can prove any more. Said once."""
        for doubt in self.doubts:
            doubt.provers.discard(session)
        gone = [doubt for doubt in self.doubts if not doubt.provers]
        self.doubts = [doubt for doubt in self.doubts if doubt.provers]
        return [doubt for doubt in gone if doubt.ts_from < doubt.ts_to]

    def calm(self, session: str) -> None:
        """Let copies of `session` be dropped fast, where nothing is in doubt."""
        if not (self.holes or self.strays or self.entering or self.gap or session == self.session):
            self.twin = session


class Memory(ABC):
    """Interruptions, and the queue of gaps to give out: what all mergers share."""

    contiguous = False
    rare = False
    """Whether minutes between events are ordinary, so that the session's other events tell how long it was there."""

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        self.exchange = exchange
        self.market_type = market_type
        self.kind = kind(kind_name).name
        self.duplicates = 0
        self.out_of_order = 0
        self._lines: dict[str, Line] = {}
        self._held: deque[tuple[Line, Hole]] = deque()
        self._out: dict[str, Gap] = {}
        self._settling: list[Line] = []

    def interrupt(self, session: str, symbols: Iterable[str], cause: str, now: int, shown: int = 0) -> list[Gap]:
        """Streams of `session` stopped: a gap a symbol that no other session serves, open until it resumes.
        `shown` is the newest venue time (us) of anything that came on it; of SILENT streams that sent nothing, from
        when on they should have.

        But for SINGLE causes the session is over, and its other streams have been taken over. A HANDOVER's gap is given
        out only when ids are missing; else it comes out closed, and tells that its time is covered.
        """
        newest = max((line.ts for line in self._lines.values() if line.session == session), default=0)
        if self.rare or cause == HANDOVER:
            newest = max(newest, min(shown, now))
        named = [self._line(symbol) for symbol in symbols]
        for line in named if cause in SINGLE else list(self._lines.values()):
            line.leave(session)
            for doubt in line.unproven(session) if line.doubts else ():
                if cause != HANDOVER:
                    between = self._gap(line, doubt.ts_from, cause, session, now)
                    between.ts_to = doubt.ts_to
                    self._give(between)
        for line in (line for line in named if not line.sessions):
            alive = max(line.ts, line.since, 0 if cause in SINGLE else newest - IN_FLIGHT)
            if cause == HANDOVER:
                if line.gap is None and line.ts:
                    line.gap = self._gap(line, alive, cause, session, now)
                continue
            for hole in line.holes:
                self._report(line, hole, now)
            if line.gap is None or line.gap.cause == HANDOVER:
                alive = alive if line.gap is None or self.rare else min(alive, line.gap.ts_from)  # nothing came since
                line.gap = self._gap(
                    line, (line.ts and alive) or self._unheard(line, cause, newest, shown, now), cause, session, now
                )
                self._give(line.gap)
        return self._take(now)

    def _unheard(self, line: Line, cause: str, newest: int, shown: int, now: int) -> int:
        """From when on a stream may miss something of which nothing was ever stored under its name, us.

        A socket that fell silent is noticed seconds later: what it showed last is when it was still heard.
        """
        if cause in SINGLE:
            return shown if cause == SILENT and shown else now
        heard = max(newest, min(shown, now)) or line.since or now
        early = IN_FLIGHT if self.rare or line.symbol == EVERY_SYMBOL else 0  # the first of it may have been under way
        return min(max(heard - early, line.since), now)

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

    def seen(self, symbol: str) -> tuple[int, int | None]:
        """The newest of a symbol, stored or handed on to be: its venue time (us), and its id where ids follow each
        other; (0, None) before any.
        """
        line = self._lines.get(symbol)
        if line is None:
            return 0, None
        return line.ts, line.next - 1 if self.contiguous and line.next >= 0 else None

    @abstractmethod
    def merge(self, event: Event) -> bool:
        """Whether an event is new."""

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those of `events` that are new."""
        return [event for event in events if self.merge(event)]

    def joined(self, session: str, symbol: str) -> bool:
        """Whether what `session` sends of a symbol is shown to overlap with what was there before it."""
        return symbol in self._lines and session in self._lines[symbol].joined

    def forget(self, symbols: Iterable[str], now: int) -> list[Gap]:
        """These are wanted no more since `now`: what was missing of them is missing until then, and not for ever.

        Should they come again, what lies between is no loss.
        """
        for symbol in symbols:
            if (line := self._lines.pop(symbol, None)) is None:
                continue
            for hole in line.holes:
                self._report(line, hole, now)
            if line.gap is not None and line.gap.cause != HANDOVER:
                line.gap.ts_to = max(now, line.gap.ts_from + 1)
                self._give(line.gap)
        return self._take(now)

    def acknowledged(self, session: str, symbols: Iterable[str], now: int) -> list[Gap]:
        """The venue took on streams whose silence is ordinary: their interruptions end here, not at a later event.

        Said once the session has lasted for a moment: a connection that is cut again and again is one interruption.
        """
        for line in map(self._line, symbols):
            line.sessions.add(session)
            if line.gap is None:
                line.since = line.since or (0 if self.begun(line.symbol) else now)
                continue
            if line.settling is None:
                self._settling.append(line)
            if line.settling is None or line.settling[0] == session:
                line.settling = (session, now)  # said again: it was not taken on the first time
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
        for symbol, stop in last.items():
            line = self._lines[symbol] = Line(symbol)
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
                gap.ts_to, line.settling = max(line.settling[1], gap.ts_from + 1), None
                line.since = gap.ts_to if line.next < 0 else 0  # with ids it is the same gap that goes on
                self._end(gap, now)

    def _line(self, symbol: str) -> Line:
        if (line := self._lines.get(symbol)) is None:
            line = self._lines[symbol] = Line(symbol)
        return line

    def _gap(self, line: Line, ts_from: int, cause: str, session: str | None, now: int) -> Gap:
        after = line.next - 1 if line.next >= 0 else None
        missing_from = line.next if line.next >= 0 and self.contiguous else None
        name = gap_id(self.exchange, self.market_type, self.kind, line.symbol, after, ts_from)
        return Gap(
            name, self.exchange, self.market_type, self.kind, line.symbol, ts_from, None,
            missing_from, None, cause, "interval", "open", session, now,
        )  # fmt: skip

    def _report(self, line: Line, hole: Hole, now: int) -> None:
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

    def _resumed(self, line: Line, event: Event, ts: int, *, unbroken: bool) -> None:
        """The stream flows again. An id that we had proves that the new session was there before the old one left."""
        gap, line.gap = line.gap, None
        if gap is None:
            return
        gap.ts_to = max(ts, gap.ts_from + 1)
        if unbroken:
            self._close(gap, event.ts_recv)
        self._end(gap, event.ts_recv)

    def _end(self, gap: Gap, now: int) -> None:
        """An interval without ids has its end; that of a handover never was one."""
        if gap.cause == HANDOVER:
            self._close(gap, now)
        self._give(gap)

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
