"""What is known of one symbol of a stream: its ids and holes, the sessions that serve it, its interruption. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Collection

from collectors.doubts import DOUBTS, Doubt, Unsettled
from market.session import Gap

NOBODY: frozenset[str] = frozenset()


class Hole:
    """Ids [start, end) that were not seen. `gap` is its row, once it has one; `silent` holes are no loss of ours: what
    was stored, or told to be missing, before a restart.
    """

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
        "away", "began", "came", "copied", "doubts", "entering", "gap", "holes", "joined", "lost", "low", "next", "odd",
        "opening", "past", "reset", "resumed", "seen", "session", "sessions", "settling", "since", "snapshot", "strays",
        "symbol", "ts", "twin", "until", "wholes",
    )  # fmt: skip

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.low = self.next = -1
        self.began = 0
        """The time of the id `low`, 0 where nobody has said it."""
        self.resumed = -1
        """The id that was stored last before a restart: by then all below it was stored, or told to be missing."""
        self.ts = 0
        self.session = ""
        """The session of the newest event; any other session's event is looked at closely."""
        self.twin = ""
        """Another session that serves it, where no hole, stray or other doubt is: its copies are dropped fast."""
        self.copied = -1
        """The number of the twin's newest copy."""
        self.came: dict[str, int] = {}
        """Session -> the number of its newest event, as of when anything was last looked at closely."""
        self.sessions: set[str] = set()
        """Those that have sent something of it and are not over; of sparse streams those that were taken on."""
        self.away: frozenset[str] = NOBODY
        """Those whose subscription is asked for anew: what comes of it meanwhile proves nothing."""
        self.entering: dict[str, int] = {}
        """Session -> where it came in, while ids between the others and there are missing."""
        self.doubts: list[Doubt] = []
        """Where sessions came in ahead of those that were there, in order."""
        self.joined: set[str] = set()
        """Sessions that are known to overlap with what was there before them."""
        self.gap: Gap | None = None
        """The interruption that waits for its end."""
        self.opening: tuple[str, int] | None = None
        """(session, venue time) of the message that ended a silence, while that session has sent no other: a venue says
        what is to who subscribes, and that alone does not show that the stream flows.
        """
        self.settling: tuple[str, int, int] | None = None
        """(session, our time, the venue's) that will have ended the interruption, if the session lasts."""
        self.holes: list[Hole] = []
        self.strays: list[tuple[int, int]] = []
        """(id, venue time) on the far side of the numbering: a restart of it, if they go on."""
        self.reset: Unsettled | None = None
        """What is missing before them if it is one."""
        self.odd: tuple[tuple[int, int], ...] = ()  # those that were strays lately
        self.past: tuple[Line, ...] = ()
        """Earlier numberings, the newest first."""
        self.until = 0
        """Of an earlier numbering: when the one after it began."""
        self.seen = array("q")
        self.snapshot: int | None = None
        """The id of the newest snapshot that a book begins from."""
        self.wholes: tuple[int, ...] = ()
        """The ids of the last snapshots: who connects is sent one, and frames that come again have several."""
        self.lost = 0
        """Ids below it were merged, and some of them not stored: a book begins behind them."""
        self.since = 0
        """Of what has no ids: when (us) the venue took it on, so that what was missing before then is told."""

    def leave_behind(self, *, until: int) -> Line:
        """What is known of its numbering, of which nothing more comes but what is late or repeated."""
        past = Line(self.symbol)
        past.low, past.next, past.ts, past.holes, past.until = self.low, self.next, self.ts, self.holes, until
        past.wholes = self.wholes
        return past

    def leave(self, session: str) -> None:
        """The session serves it no more."""
        self.remember()
        self.came.pop(session, None)
        self.sessions.discard(session)
        self.joined.discard(session)
        self.entering.pop(session, None)
        self.twin = ""
        if self.session == session:
            self.session = ""
        if self.settling is not None and self.settling[0] == session:
            self.settling = None

    def remember(self) -> None:
        """How far the sessions have come whose events are passed fast."""
        if self.session and self.next >= 0:
            self.came[self.session] = self.next - 1
        if self.twin:
            self.came[self.twin] = self.copied

    def was_mute(self, session: str, at: int, newest: int) -> bool:
        """Whether a session that goes on at the number `at` has left out the newest one of all."""
        came = self.came.get(session)
        return came is not None and came < newest < at and self.gap is None

    def meet(self, session: str, at: int, *, joined: bool, ts: int = 0) -> Doubt | None:
        """A session's first event, of the number `at` and time `ts`; `joined`: nothing can be missing before it. The
        doubt, where there are others who can say whether anything is.
        """
        self.remember()
        self.sessions.add(session)
        self.twin = ""
        if joined:
            self.joined.add(session)
            return None
        self.entering[session] = at
        others = self.sessions - {session}
        if not ts or not others:
            return None
        return self._doubt(Doubt(session, self.next - 1 if self.next >= 0 else self.ts, at, self.ts, ts, others))

    def _doubt(self, doubt: Doubt) -> Doubt:
        """Too many at once are one."""
        if len(self.doubts) == DOUBTS:
            last = self.doubts.pop()
            last.settled = True
            doubt.ts_from, doubt.provers, doubt.gap = last.ts_from, doubt.provers | last.provers, last.gap
        self.doubts.append(doubt)
        return doubt

    def reached(self, session: str, at: int, apart: int = 0) -> list[Doubt]:
        """A session is at the number `at`: whoever came in by then overlaps with it.

        Those doubts that it has resolved, and those that nobody can any more, which have no provers; said once. See
        Doubt for `apart`.
        """
        for other in [other for other, entry in self.entering.items() if other != session and at >= entry]:
            del self.entering[other]
            self.joined.add(other)
        if not self.doubts:
            return []
        came = self.came.get(session)
        proven = [doubt for doubt in self.doubts if doubt.proven(session, came, at, apart)]
        self.doubts = [doubt for doubt in self.doubts if doubt not in proven]
        return [*proven, *self._unprovable()]

    def shown(self, session: str, had: Collection[str], until: int) -> list[Doubt]:
        """`session` brought all that was there before `until` (us) and ends; sessions that `had` the stream by then go
        on: the doubts that they came in with, whose first events it had not to bring yet. Said once.
        """
        self.remember()
        came = self.came.get(session)
        found = [
            doubt
            for doubt in self.doubts
            if session in doubt.provers and doubt.session in had and until <= doubt.ts_to
            and (came is None or came >= doubt.after)
        ]  # fmt: skip
        self.doubts = [doubt for doubt in self.doubts if doubt not in found]
        return found

    def unproven(self, session: str) -> list[Doubt]:
        """The session has ended: what nobody can prove any more. Said once."""
        for doubt in self.doubts:
            doubt.provers.discard(session)
        return self._unprovable()

    def _unprovable(self) -> list[Doubt]:
        gone = [doubt for doubt in self.doubts if not doubt.provers]
        for doubt in gone:
            doubt.settled = True
        self.doubts = [doubt for doubt in self.doubts if doubt.provers]
        return [doubt for doubt in gone if doubt.ts_from < doubt.ts_to]

    def calm(self, session: str, at: int = -1) -> None:
        """Let copies of `session`, which is at the number `at`, be dropped fast, where nothing is in doubt."""
        if not (self.holes or self.strays or self.entering or self.gap or session == self.session):
            self.twin, self.copied = session, at
