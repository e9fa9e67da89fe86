"""The merger for streams that say nothing by which copies of two connections can be told: one leads, the other follows.

Pure. Rows are those of the leading connection, whose stream is whole in itself. What the other one sends is kept for a
moment. Where the leader ends, stalls or falls behind, the rows go on with the first of the other's that lies beyond
the newest row: the two are laid side by side by what they say and when. Nothing is missing where the other one came in
before the leader's newest row; else the time between is a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from collectors.holes import HANDOVER, IN_FLIGHT, SINGLE, STALLED, Memory, venue_time
from collectors.line import Line
from market.kinds import Event
from market.session import Gap, Resume
from market.times import SECOND

SAYS: dict[str, Callable[[Any], tuple[object, ...]]] = {
    "quote": lambda e: (e.bid, e.bid_qty, e.ask, e.ask_qty),
    "mark_price": lambda e: (e.mark, e.index, e.predicted_rate, e.next_funding),
}
"""Kind -> what an event says of the market, apart from when."""
BEHIND = 2 * SECOND
"""Of venue time: a leader that is further behind than this one that it overlaps with leads no more."""
LATE = 30 * SECOND
"""The same for a session of which it is not known whether it has missed something: the leader is dead."""
APART = SECOND
"""By how much (us) the times of one event may differ on two connections."""
ROWS = 64
"""Rows remembered a symbol: those that connections' clocks may mix up."""
WAITING = 4_096
"""Events kept of a connection that follows, a symbol."""


class LedMerger(Memory):
    """Gaps are intervals. `owed` gives what was kept back and is new after all."""

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._says = SAYS[kind_name]
        self._rows: dict[str, deque[Event]] = {}
        self._waiting: dict[str, dict[str, deque[Event]]] = {}
        """Symbol -> session that follows -> what it has sent, from a little before the newest row on."""
        self._ended: dict[str, tuple[str, str, int]] = {}
        """Symbol -> (session, cause of its end, up to when (us) it was there) of a leader that nobody has followed."""
        self._stored: dict[str, int] = {}
        """Symbol -> id of the row that was stored last before a restart."""
        self._owed: list[Event] = []

    def merge(self, event: Event) -> bool:
        """Whether an event is a row now; others that become rows with it are `owed`."""
        made = self.merge_all((event,))
        self._owed += [one for one in made if one is not event]
        return any(one is event for one in made)

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        """The events that are rows now: also kept ones, behind the one that made them so (it was received last)."""
        rows: list[Event] = []
        for event in events:
            line = self._line(event.symbol)
            if event.session in line.away:
                rows += self._meanwhile(line, event)
                continue
            if event.session != line.session:
                rows += self._other(line, event)
                continue
            if line.entering or line.doubts or line.opening:
                ts = venue_time(event)
                self._come(line, event, ts, ts, 0, APART)
            if self._repeats(line, event):
                self.duplicates += 1
                continue
            self._row(line, event)
            rows.append(event)
        return rows

    def owed(self) -> Sequence[Event]:
        """Events that became rows since the last call without one that came."""
        owed, self._owed = self._owed, []
        return owed

    def interrupt(self, session: str, symbols: Iterable[str], cause: str, now: int, shown: int = 0) -> list[Gap]:
        """See Memory. What is kept of a session that follows becomes rows at once."""
        named = list(symbols)
        concerned = [self._line(symbol) for symbol in named] if cause in SINGLE else list(self._lines.values())
        led = [line for line in concerned if line.session == session]
        newest = 0 if cause in SINGLE else max((line.ts for line in led), default=0) - IN_FLIGHT
        heir = [line for line in concerned if session in line.joined and line.symbol in self._ended]
        gaps = super().interrupt(session, named, cause, now, shown)
        orphaned = [line for line in heir if not line.joined]
        for line in orphaned:  # who was to go on is gone before it did
            self._ended[line.symbol] = (session, cause, self._ended[line.symbol][2])
        for line in concerned:
            self.duplicates += len(self._waiting.get(line.symbol, {}).pop(session, ()))
        for line in led:
            self._ended[line.symbol] = (session, cause, max(line.ts, newest))
        for line in (*led, *orphaned):
            held = self._waiting.get(line.symbol, {})
            heirs = sorted((one for one in held if held[one]), key=lambda one: one not in line.joined)
            if heirs and (heirs[0] in line.joined or not line.joined):
                self._owed += self._lead(line, heirs[0], now)
        return [*gaps, *self._take(now)]

    def let_go(self, session: str, symbols: Iterable[str], cause: str, now: int) -> list[Gap]:
        """See Memory: who leads next tells the gap."""
        del symbols
        return self.interrupt(session, (), cause, now)

    def forget(self, symbols: Iterable[str], now: int, told: int = 0) -> list[Gap]:
        """See Memory."""
        named = list(symbols)
        for symbol in named:
            for held in (self._rows, self._waiting, self._ended, self._stored):
                held.pop(symbol, None)
        return super().forget(named, now, told)

    def resume(self, last: Mapping[str, Resume]) -> None:
        """See Memory."""
        super().resume(last)
        for symbol in last:  # rows are told by their times from here on: no number grows that names their gaps
            self._line(symbol).low = self._line(symbol).next = -1
        self._stored.update({symbol: stop.seq for symbol, stop in last.items() if stop.seq is not None})

    def _meanwhile(self, line: Line, event: Event) -> Sequence[Event]:
        """An event of a session whose subscription is asked for anew: a row where nobody leads, and its session does
        not lead for that.
        """
        if line.session or self._repeats(line, event):
            self.duplicates += 1
            return ()
        self._row(line, event)
        return (event,)

    def _repeats(self, line: Line, event: Event) -> bool:
        """Whether the leader says the newest row again or, where it is behind what was told before it, one of those."""
        rows, time = self._rows.get(event.symbol), venue_time(event)
        if not rows or time > line.ts:
            return False
        held = (rows[-1],) if venue_time(rows[-1]) == time else rows
        return any(venue_time(row) == time and self._says(row) == self._says(event) for row in held)

    def _row(self, line: Line, event: Event) -> None:
        """The newest row, and nobody needs to keep what lies well before it."""
        ts = venue_time(event)
        line.ts = max(line.ts, ts)
        rows = self._rows.get(line.symbol)
        if rows is None:
            rows = self._rows[line.symbol] = deque(maxlen=ROWS)
        rows.append(event)
        for held in self._waiting.get(line.symbol, {}).values():
            while held and venue_time(held[0]) < line.ts - APART:
                held.popleft()
                self.duplicates += 1

    def _other(self, line: Line, event: Event) -> Sequence[Event]:
        """An event of a session that does not lead: it waits, or its session leads from now on."""
        session, ts = event.session, venue_time(event)
        if session not in line.sessions:
            line.meet(session, ts, joined=ts <= line.ts or not line.ts)
        if line.entering or line.doubts or line.opening:  # who may have missed something shows nothing of the others
            self._come(line, event, ts if session in line.joined else 0, ts, 0, APART)
        held = self._waiting.setdefault(line.symbol, {}).setdefault(session, deque(maxlen=WAITING))
        self.duplicates += len(held) == WAITING
        held.append(event)
        joined = session in line.joined
        others = line.session or (line.joined and not joined)  # who lead, or know what this one may have missed
        if others and ts <= max(line.entering.get(session, 0), line.ts) + (BEHIND if joined else LATE):
            return ()
        rows = self._lead(line, session, event.ts_recv)
        return [event, *rows[:-1]] if rows and rows[-1] is event else rows

    def _lead(self, line: Line, session: str, now: int) -> Sequence[Event]:
        """A session that followed, or is the first, leads from now on, if it has come to the newest row: its rows."""
        held = self._waiting[line.symbol][session]
        rows = self._beyond(line, held)
        if rows is None:
            return ()
        del self._waiting[line.symbol][session]
        self.duplicates += len(held) - len(rows)
        first = venue_time(held[0])
        old, cause, until = self._ended.pop(line.symbol, (line.session, STALLED, line.ts))
        if line.gap is not None:
            self._resumed(line, held[0], venue_time(rows[0] if rows else held[0]), unbroken=first <= line.ts)
        elif old and line.ts and session not in line.joined and (cause != HANDOVER or line.joined):
            if cause == HANDOVER:  # who was to go on is that far behind
                old, cause = min(line.joined), STALLED
            gap = self._gap(line, until, cause, old, now)
            gap.ts_to = max(first, until + 1)
            self._give(gap)
        line.session = session
        for event in rows:
            self._row(line, event)
        return rows

    def _beyond(self, line: Line, held: deque[Event]) -> list[Event] | None:
        """Those of `held` that lie beyond the newest row: behind the one that is that row, or else those of later.

        None where they do not come to it yet.
        """
        rows = self._rows.get(line.symbol)
        if not rows:
            stored = self._stored.get(line.symbol)
            later = [event for event in held if venue_time(event) >= line.ts]
            return [event for event in later if stored is None or getattr(event, "update_id", None) != stored] or None
        at, said = venue_time(rows[-1]), self._says(rows[-1])
        alike = [venue_time(row) for row in rows if self._says(row) == said]
        found = None
        for place, event in enumerate(held):
            apart = [abs(venue_time(event) - time) for time in alike] if self._says(event) == said else [APART + 1]
            if apart[-1] <= APART and apart[-1] == min(apart) and (found is None or apart[-1] <= found[0]):
                found = (apart[-1], place)
        if found is not None:
            return list(held)[found[1] + 1 :]
        later = [event for event in held if venue_time(event) > at]
        if not later and not line.session and held[-1].ts_recv - held[0].ts_recv > LATE:
            told = {(venue_time(row), self._says(row)) for row in rows}
            # the venue's clock has gone back, or this connection is that far behind: it may bring again what is a row
            return [event for event in held if (venue_time(event), self._says(event)) not in told]
        return later or None
