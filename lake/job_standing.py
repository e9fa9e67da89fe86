"""Decisions on standing jobs: what the daemon asks for by itself, one job a market, added to round after round. Pure.

A round's parts are added to the market's newest job, which is worked on again, until that is a day old or has many
parts: then another one begins. Of a market only the newest jobs are kept, however often it is asked. By hand such a job
is paused (nothing of its market is asked for until it is resumed) or cancelled (nothing is for a day).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from lake.jobs import OVER, Action, ChunkRow, JobRow, JobState
from market.times import DAY, text

GAPS: Final = "auto_repair"
"""The work of such jobs: open gaps."""
CANDLES: Final = "auto_candles"
"""The same of candles that closed days lack."""
WORKS: Final = (GAPS, CANDLES)
_HELD: Final[Mapping[str, JobState]] = {"pause": "paused", "cancel": "cancelled"}
LONG: Final = DAY
"""How long (us) parts are added to a job, and how long one that was cancelled holds."""
PARTS: Final = 500
"""A job with so many parts takes no more."""
KEPT: Final = 5
"""Jobs of a market that are remembered."""


def of(jobs: Iterable[JobRow], work: str, arguments: Mapping[str, Any]) -> list[JobRow]:
    """The standing jobs of a market, the newest first."""
    mine = [one for one in jobs if one.work == work and one.arguments == arguments]
    return sorted(mine, key=lambda one: (one.created_at, len(one.job), one.job), reverse=True)


def held_up(jobs: Iterable[JobRow], now: int) -> str | None:
    """Why a market's next round has to wait; None where it need not."""
    for one in jobs:
        if one.state in ("queued", "running"):
            return f"job {one.job} is at work"
        if one.state == "paused":
            return f"job {one.job} is paused: dl jobs resume {one.job}"
        if one.state == "cancelled" and now < one.updated_at + LONG:
            return f"job {one.job} was cancelled: its market rests until {text(one.updated_at + LONG)}"
    return None


def after(job: JobRow, action: Action) -> JobState | None:
    """What follows where it is held by hand between two rounds: it is over, but for the next one; None: it is not."""
    if job.work not in WORKS or job.state not in ("done", "failed"):
        return None
    return _HELD.get(action)


def takes_more(job: JobRow, parts: int, now: int) -> bool:
    """Whether a round is added to a job of so many parts."""
    return job.state in ("done", "failed") and parts < PARTS and job.created_at > now - LONG


def added(wanted: Iterable[ChunkRow], chunks: Iterable[ChunkRow]) -> list[ChunkRow]:
    """The parts of a round as chunks of a job that has `chunks`: the same one again, or numbered behind them."""
    held = {_place(one): one for one in chunks}
    behind = max((one.chunk for one in held.values()), default=-1) + 1
    made: dict[tuple[str, str, int, int], ChunkRow] = {}
    for one in wanted:
        if _place(one) in made:
            continue
        known = held.get(_place(one))
        if known is None:
            known, behind = msgspec.structs.replace(one, chunk=behind), behind + 1
        made[_place(one)] = msgspec.structs.replace(known, state="queued", due_at=None)
    return list(made.values())


def _place(one: ChunkRow) -> tuple[str, str, int, int]:
    return one.kind, one.symbol, one.ts_from, one.ts_to


def surplus(jobs: Sequence[JobRow]) -> tuple[str, ...]:
    """Those of a market's jobs, the newest first, that are forgotten."""
    return tuple(one.job for one in jobs[KEPT:] if one.state in OVER)
