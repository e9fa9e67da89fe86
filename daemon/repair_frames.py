"""Gaps that nobody can be asked about, closed from what was kept: their days' frames are read again (`dl reparse`).

Lines may be lost that frames still tell: given up while the disk was slow, or spoiled on it. What frames make of them
becomes a revision of its day; which gaps that closes `repair_plan.read_again` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from collectors import repair
from collectors.history_plan import Wish
from collectors.repair_plan import OWN, Step, Tried
from lake.errors import LakeError
from lake.writer import LakeWriter
from market.errors import MarketError
from market.session import Gap
from market.times import date_of
from runtime.clock import Clock
from runtime.threads import to_the_end

LONG = 11
"""Attempts after which a gap rests for as long as any."""
Report = Callable[[int, int, str], None]
Read = Callable[[Mapping[str, Any], Report], Awaitable[object]]
"""`dl reparse`'s job."""


async def read_again(
    writer: LakeWriter, steps: Iterable[Step], read: Read, report: Report, clock: Clock, *,
    begun: Callable[[Wish], Awaitable[None]], why: dict[str, str],
) -> list[str]:  # fmt: skip
    """Carry out the steps that go this way, a day and kind once; what went wrong, which `why` tells by the names of the
    gaps too. `begun` is told of each part. Raises StorageFailed, Fenced.
    """
    work: dict[tuple[str, str, str, str, str], list[Gap]] = {}
    parts: dict[tuple[str, str, str, str, str], list[Wish]] = {}
    for step in steps:
        for wish in step.parts if step.road == OWN else ():
            first, last = (date_of(at).isoformat() for at in (wish.start, wish.end - 1))
            gap = step.gap
            day = (gap.exchange, gap.market_type, gap.kind, first, last)
            work.setdefault(day, []).append(gap)
            parts.setdefault(day, []).append(wish)
    problems: list[str] = []
    for day, gaps in work.items():
        exchange, market_type, kind, first, last = day
        for wish in dict.fromkeys(parts[day]):
            await begun(wish)
        wanted = {"first": first, "last": last, "exchange": exchange, "market_type": market_type, "kind": kind,
                  "examples": 0}  # fmt: skip
        try:
            before = await asyncio.to_thread(_counts, writer, gaps)
            told = await read(wanted, report)
            if refused := _refused(told, kind):
                problems.append(f"{kind} {first}: {refused}")
                why |= {gap.gap_id: refused for gap in gaps}
                continue
            after = await asyncio.to_thread(_counts, writer, gaps)
        except (LakeError, MarketError) as error:
            problems.append(f"{kind} {first}: {error}")
            why |= {gap.gap_id: str(error) for gap in gaps}
            continue
        came = {name: max(0, after[name] - rows) for name, rows in before.items()}
        await to_the_end(repair.note_reread, writer, came, clock.now())
    return problems


def patient(steps: Iterable[Step], tried: Mapping[str, Tried]) -> dict[str, Tried]:
    """Attempts before, as those count that go this way: a day that could not be read again rests for a day at once."""
    mine = (step.gap.gap_id for step in steps if step.road == OWN)
    return {**tried, **{name: tried.get(name, Tried(0, LONG)) for name in mine}}


def _counts(writer: LakeWriter, gaps: Iterable[Gap]) -> dict[str, int]:
    return {gap.gap_id: repair.count(writer.root, gap) for gap in gaps}


def _refused(told: Any, kind: str) -> str:
    """Why a day could not be read again, as the job tells it; "" where it was."""
    for day in told["days"]:
        said = [day["refused"], *day["failed"], *(one["refused"] for one in day["streams"] if one["kind"] == kind)]
        if why := next((text for text in said if text), ""):
            return str(why)
    return "" if told["days"] else "there is no such day"
