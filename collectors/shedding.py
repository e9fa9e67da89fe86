"""Shedding: events given up under pressure are counted, and each symbol's episode of it is a gap."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.merger import gap_id, venue_time
from market.kinds import Event
from market.session import Gap
from runtime import telemetry

SHED = "shed"


class Shedding:
    """The episodes of one kind: true while any symbol's events are being given up."""

    def __init__(self, exchange: str, market_type: str, kind: str) -> None:
        self._exchange = exchange
        self._market_type = market_type
        self._kind = kind
        self._episodes: dict[str, Gap] = {}

    def __bool__(self) -> bool:
        return bool(self._episodes)

    def give_up(self, batch: Sequence[Event], waiting_bytes: int) -> list[Gap]:
        """These events are not kept, since so many bytes wait for the disk. Returns the gaps that begin with them."""
        reason = f"{waiting_bytes:,} bytes are waiting for the disk"
        telemetry.shed(
            exchange=self._exchange, market_type=self._market_type, kind=self._kind, events=len(batch), reason=reason
        )
        begun = []
        for event in batch:
            time = venue_time(event)
            gap = self._episodes.get(event.symbol)
            if gap is None:
                gap = self._episodes[event.symbol] = self._gap(event, time, reason)
                begun.append(msgspec.structs.replace(gap))
            gap.ts_from = min(gap.ts_from, time)
            gap.ts_to = max(gap.ts_to or 0, time + 1)
        return begun

    def end(self) -> list[Gap]:
        """There is room again: every episode with its end."""
        ended = list(self._episodes.values())
        self._episodes.clear()
        return ended

    def _gap(self, event: Event, time: int, reason: str) -> Gap:
        name = gap_id(self._exchange, self._market_type, f"{self._kind}|{SHED}", event.symbol, None, time)
        return Gap(
            name, self._exchange, self._market_type, self._kind, event.symbol, time, None, None, None, SHED,
            "counted", "open", event.session, event.ts_recv, detail=reason,
        )  # fmt: skip
