"""Coverage: from when to when (venue time) each desired stream was being received, from what the sessions know.

Pure. It claims little: nothing before a stream's first event or, where the stream proved itself later, the venue time
at which its acknowledgement was seen; nothing beyond the newest time that the session's venue has shown. What was
missed inside is the gap ledger's to say: complete = covered and in no open gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import cast

from market.history import Past
from market.session import Coverage, Gap, Session

BRIDGING = ("empty", "repaired", "void")
"""Gap states that leave nothing missing: with ids as their proof the time between two sessions is covered too."""


class CoverageTracker:
    """Rows of one (exchange, market_type). A row grows: the same (stream, session, ts_from) comes again, longer."""

    def __init__(self, exchange: str, market_type: str) -> None:
        self.exchange = exchange
        self.market_type = market_type
        self._starts: dict[tuple[str, str], int] = {}
        self._ends: dict[tuple[str, str], int] = {}

    def update(self, session: Session) -> list[Coverage]:
        """The rows of `session` that are new or longer than when they were last given."""
        rows = []
        for state in cast(Past, session).covered() if _asks_of_past(type(session)) else session.streams():
            if not state.events:
                continue
            key = (session.session_id, state.stream.name)
            start = self._starts.get(key)
            if start is None:
                start = self._starts[key] = min(state.first_event, state.since or state.first_event)
            end = max(session.venue_time or state.last_recv, start + 1)  # its one event is covered, if nothing else is
            if end <= self._ends.get(key, 0):
                continue
            self._ends[key] = end
            rows.append(self._row(state.stream.kind, state.stream.symbol, session.session_id, start, end))
        return rows

    def close(self, session: Session) -> list[Coverage]:
        """The last rows of a session that ended, which is forgotten."""
        rows = self.update(session)
        for held in (self._starts, self._ends):
            for key in [key for key in held if key[0] == session.session_id]:
                del held[key]
        return rows

    def bridge(self, gaps: Iterable[Gap]) -> list[Coverage]:
        """Coverage of holes whose ids prove that nothing is missing in them."""
        return [
            self._row(gap.kind, gap.symbol, gap.session or "", gap.ts_from, gap.ts_to)
            for gap in gaps
            if gap.state in BRIDGING and gap.proof == "ids" and gap.ts_to is not None
        ]

    def _row(self, kind: str, symbol: str, session: str, ts_from: int, ts_to: int) -> Coverage:
        return Coverage(self.exchange, self.market_type, kind, symbol, session, ts_from, ts_to)


@cache
def _asks_of_past(made: type) -> bool:
    """Whether sessions of that class are `Past`: at every tick the protocol would be looked through again."""
    return issubclass(made, Past)
