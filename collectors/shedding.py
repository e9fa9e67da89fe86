"""Shedding: what is given up under pressure, in one declared order; counted, and each symbol's episode of it a gap.

Two things press: memory, where a disk is too slow for what comes, and the disk itself, where it has no room or takes
nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.merger import gap_id, venue_time
from market.kinds import KINDS, Contiguous, Event
from market.session import Gap
from runtime import telemetry

SHED = "shed"
ORDER: tuple[tuple[str, ...], ...] = (
    ("book_snapshot", "book_delta"),
    ("quote",),
    ("agg_trade",),
    ("kline", "mark_price", "open_interest"),
    ("liquidation", "funding_rate"),
)
"""Kinds in the order in which they stop where the disk has no room: what weighs most for what it is worth first."""
LAST = ("trade", "contract")
"""Given up only where nothing can be written at all."""
RUNS = 64
"""Runs of ids of one symbol that are told apart; beyond them the last one takes in what lies between."""


def stopped_kinds(groups: int) -> frozenset[str]:
    """The kinds of the first so many groups of `ORDER`."""
    return frozenset(kind for group in ORDER[:groups] for kind in group)


def rank(kind: str) -> float:
    """Part of the memory for kinds that may be shed which must be in use before `kind` is: a half for the first."""
    place = next((n for n, group in enumerate(ORDER) if kind in group), len(ORDER) - 1)
    return 0.5 + 0.5 * place / (len(ORDER) - 1)


def numbered(kind: str) -> bool:
    """Whether the venue numbers the events of a kind one by one."""
    return any(isinstance(check, Contiguous) for check in KINDS[kind].checks)


class Shedding:
    """The episodes of one kind: true while any symbol's events are being given up."""

    def __init__(self, exchange: str, market_type: str, kind: str) -> None:
        self._exchange = exchange
        self._market_type = market_type
        self._kind = kind
        self._numbered = numbered(kind)
        self._episodes: dict[str, list[Gap]] = {}
        """Symbol -> the gaps of its episode: one, or one a run of ids where ids between were not there to give up."""

    def __bool__(self) -> bool:
        return bool(self._episodes)

    def give_up(self, batch: Sequence[Event], cause: str, reason: str) -> list[Gap]:
        """These events are not kept, for this `cause`. Returns the gaps that begin with them."""
        telemetry.shed(
            exchange=self._exchange, market_type=self._market_type, kind=self._kind, events=len(batch), reason=reason
        )
        begun = []
        for event in batch:
            time = venue_time(event)
            seq: int | None = getattr(event, "seq", None) if self._numbered else None
            runs = self._episodes.setdefault(event.symbol, [])
            gap = runs[-1] if runs else None
            if gap is None or (seq is not None and gap.id_to != seq and len(runs) < RUNS):
                gap = self._gap(event, time, seq, runs[0].cause if runs else cause, reason)
                runs.append(gap)
                # It grows: what is recorded now has no end, and a restart in the middle of it finds one.
                begun.append(msgspec.structs.replace(gap, ts_to=None, id_to=None))
            gap.ts_from = min(gap.ts_from, time)
            gap.ts_to = max(gap.ts_to or 0, time + 1)
            if seq is not None and gap.id_from is not None and gap.id_to is not None:
                gap.id_from, gap.id_to = min(gap.id_from, seq), max(gap.id_to, seq + 1)
        return begun

    def end(self) -> list[Gap]:
        """There is room again: every episode with its end."""
        ended = [gap for runs in self._episodes.values() for gap in runs]
        self._episodes.clear()
        return ended

    def _gap(self, event: Event, time: int, seq: int | None, cause: str, reason: str) -> Gap:
        after = seq - 1 if seq is not None else None
        name = gap_id(self._exchange, self._market_type, f"{self._kind}|{SHED}", event.symbol, after, time)
        return Gap(
            name, self._exchange, self._market_type, self._kind, event.symbol, time, time + 1, seq,
            seq + 1 if seq is not None else None, cause, "ids" if seq is not None else "counted", "open",
            event.session, event.ts_recv, detail=reason,
        )  # fmt: skip
