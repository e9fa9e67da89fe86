"""Gaps as a merger gives them out: their names, the queue of those that are new or have changed, and what is unsettled.

Pure.
"""

from __future__ import annotations

import copy
import hashlib

from collectors.doubts import Unsettled
from collectors.line import Hole, Line
from market.session import Gap

JUMP = "jump"
"""Cause of a gap of ids that were not seen."""


def gap_id(exchange: str, market_type: str, kind_name: str, symbol: str, after: int | None, ts_from: int) -> str:
    """The name of the hole after id `after` (after time `ts_from`, us, where there is none): the same for ever."""
    place = f"t{ts_from}" if after is None else str(after)
    text = f"{exchange}|{market_type}|{kind_name}|{symbol}|{place}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class Giving:
    """Of one (exchange, market, kind)."""

    contiguous = False

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        self.exchange = exchange
        self.market_type = market_type
        self.kind = kind_name
        self._out: dict[str, Gap] = {}
        self._closed_at = 0
        """When a gap was closed last, us: what is found from then on is no older report of it."""

    def _gap(self, line: Line, ts_from: int, cause: str, session: str | None, now: int) -> Gap:
        after = line.next - 1 if line.next >= 0 else None
        missing_from = line.next if line.next >= 0 and self.contiguous else None
        name = gap_id(self.exchange, self.market_type, self.kind, line.symbol, after, ts_from)
        return Gap(
            name, self.exchange, self.market_type, self.kind, line.symbol, ts_from, None,
            missing_from, None, cause, "interval", "open", session, self._found_at(now),
        )  # fmt: skip

    def _found_at(self, now: int) -> int:
        """When a gap is found, us: behind one event there may be several, and clocks may be set back."""
        return max(now, self._closed_at + 1) if now else 0

    def _between(self, line: Line, ts_from: int, ts_to: int, cause: str, session: str, now: int) -> Gap:
        """A gap of time that has its end already. What follows may be behind the same id: it is named by its time."""
        gap = self._gap(line, ts_from, cause, session, now)
        gap.id_from = None
        gap.gap_id = gap_id(self.exchange, self.market_type, self.kind, line.symbol, None, ts_from)
        gap.ts_to = max(ts_to, ts_from + 1)
        self._give(gap)
        return gap

    def _report(self, line: Line, hole: Hole, now: int) -> None:
        """Give out a hole's row, unless it was given out, is none of ours, or has been filled."""
        if hole.reported or hole.silent or hole.start >= hole.end:
            return
        hole.reported = True
        if hole.gap is None:
            name = gap_id(self.exchange, self.market_type, self.kind, line.symbol, hole.start - 1, hole.ts_from)
            hole.gap = Gap(
                name, self.exchange, self.market_type, self.kind, line.symbol, hole.ts_from, hole.ts_to,
                hole.start, hole.end, JUMP, "ids", "open", hole.session, self._found_at(now),
            )  # fmt: skip
        hole.gap.id_from, hole.gap.id_to = hole.start, hole.end
        self._give(hole.gap)

    def _doubtful(self, line: Line, doubt: Unsettled, cause: str, session: str, now: int) -> None:
        """Nobody has shown that nothing is missing: it has a row from now on, or already."""
        if doubt.gap is None:
            doubt.gap = self._between(line, doubt.ts_from, doubt.ts_to, cause, session, now)
        elif doubt.gap.ts_to is not None and doubt.gap.ts_to < doubt.ts_to:  # it took in an earlier one
            doubt.gap.ts_to = doubt.ts_to
            self._give(doubt.gap)

    def _settled(self, doubt: Unsettled, now: int, *, late: bool = True) -> None:
        """Nothing is missing after all."""
        doubt.settled = True
        if doubt.gap is not None:
            self._close(doubt.gap, now, late=late)

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
        self._closed_at = max(self._closed_at, now)
        gap.state, gap.source = ("repaired", "late") if late else ("empty", None)
        self._give(gap)
