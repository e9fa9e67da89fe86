"""Doubts: where a session came in ahead of those that were there, which have yet to come so far. Pure."""

from __future__ import annotations

from market.session import Gap

DOUBTS = 64  # remembered a symbol


class Unsettled:
    """Whether anything is missing between `ts_from` and `ts_to` (us) only one of `provers` can say.

    Until it does, or is over, that is known in memory alone, so that a crash would lose it: what has waited since
    `found_at` for longer than connections differ by has a row, `gap`, that says so. Once `settled` it is no question.
    """

    __slots__ = ("found_at", "gap", "provers", "settled", "ts_from", "ts_to")

    def __init__(self, ts_from: int, ts_to: int, provers: set[str], found_at: int = 0) -> None:
        self.ts_from, self.ts_to, self.provers, self.found_at = ts_from, ts_to, provers, found_at
        self.gap: Gap | None = None
        self.settled = False


class Doubt(Unsettled):
    """`session` came in ahead of others: between the number `after` at `ts_from` and its first event, `at` at `ts_to`
    (us), nothing is missing once one of the `provers`, who were there before, has come that far.

    One that was mute for a while shows itself by what it leaves out: the event `after`, or the event `at`.
    """

    __slots__ = ("after", "at", "coming", "session")

    def __init__(self, session: str, after: int, at: int, ts_from: int, ts_to: int, provers: set[str]) -> None:
        super().__init__(ts_from, ts_to, provers)
        self.session, self.after, self.at = session, after, at
        self.coming: set[str] = set()
        """Provers that have sent something of in between."""

    def proven(self, session: str, came: int | None, at: int, apart: int) -> bool:
        """Whether nothing is missing, `session` going on from `came`, where that is known, to `at`; the numbers of an
        event on two connections differ by `apart` at most. One that has left an event out proves nothing any more.
        """
        if session not in self.provers or at <= self.after:
            return False
        if came is None or came >= self.after:
            if at < self.at:
                self.coming.add(session)
                return False
            if session in self.coming or at <= self.at + apart:
                return True
        self.provers.discard(session)
        return False
