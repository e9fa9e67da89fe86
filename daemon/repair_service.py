"""The daemon's own repair: a look at the open gaps every `repair.every_seconds`, a market after the other.

What is in tables by now is judged; what is to be asked for is added to the market's standing job (`lake.job_standing`),
which `daemon.jobs` begins in its turn and `daemon.job_repair` carries out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from collectors import repair
from collectors.repair import Scope
from collectors.repair_plan import Step
from daemon.config import Config
from daemon.job_repair import RepairWork, parts_of, request_of
from daemon.repairing import Brought, Done, Limits, Looked, Market, Told, look
from lake import job_standing
from lake.job_book import JobBook
from lake.writer import LakeWriter
from market.session import Gap
from market.times import HOUR, MINUTE
from runtime import mending
from runtime.clock import Clock, pause

SHOWN = 5
"""Reasons that `/status` names."""
WORKED_ON = "its market is being repaired"
FRESH_SECONDS = 20.0
"""How often it is looked, between two looks at all gaps, at those that are new: they are asked for before all of them
is final (`collectors.repair_plan`).
"""
FRESH = 3 * MINUTE
"""How long (us) after its end and its detection a gap counts as such a one: until it was asked for anew."""
LATE = HOUR
"""One that is found later than so long after its end is seen when all gaps are looked at."""


class RepairService:
    """Looks (runtime.service.Service). `queued` is told of a job that is to be worked on; nothing is done while it
    `waits`.
    """

    name = "repair"
    phase = 0

    def __init__(
        self,
        config: Config,
        writer: LakeWriter,
        book: JobBook,
        clock: Clock,
        work: RepairWork,
        queued: Callable[[str], None],
        waits: Callable[[], bool],
    ) -> None:
        self._config = config
        self._writer = writer
        self._book = book
        self._clock = clock
        self._work = work
        self._queued = queued
        self._waits = waits
        self._looks = 0
        self._last: dict[str, object] | None = None
        self._before: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Look until told to stop."""
        if not self._config.repair.enabled:
            return
        every, clock = self._config.repair.every_seconds, self._clock
        looked = whole = clock.monotonic()
        while True:
            due = min(looked + FRESH_SECONDS, whole + every)
            if await pause(clock, stop, max(due - clock.monotonic(), 1.0)):
                return
            looked = clock.monotonic()
            if self._waits():
                continue
            if looked < whole + every:
                await self.fresh(stop)
            else:
                whole = looked
                await self.once(stop)

    async def fresh(self, stop: asyncio.Event) -> None:
        """A look at the gaps that have just ended or been found, so that they need not wait: they are asked for, and
        judged when all are looked at. Raises StorageFailed, Fenced.
        """
        told, now = self._config.repair, self._clock.now()
        limits = Limits(told.gaps_at_once, round(told.longest_hours * HOUR))
        gaps = await asyncio.to_thread(Scope(start=now - LATE).gaps, self._writer.manifest)
        just = [gap for gap in gaps if gap.ts_to is not None and max(gap.ts_to, gap.detected_at) > now - FRESH]
        for market, mine in sorted(repair.markets(just).items()):
            turn = self._work.turns[market]
            if not stop.is_set() and not turn.locked():
                async with turn:
                    await self._plan(market, limits.some(mine), limits)

    async def once(self, stop: asyncio.Event) -> Done:
        """One look at all of them. Raises StorageFailed, Fenced."""
        done, told = Done(), self._config.repair
        limits = Limits(told.gaps_at_once, round(told.longest_hours * HOUR), self._looks)
        self._looks += 1
        self._before = Counter(self._work.rounds)
        gaps = await asyncio.to_thread(Scope().gaps, self._writer.manifest)
        for market, every in sorted(repair.markets(gaps).items()):
            mine, turn = limits.some(every), self._work.turns[market]
            if stop.is_set():
                break
            if turn.locked():
                done.left += [Told(gap, "wait", WORKED_ON) for gap in mine]
                continue
            async with turn:
                await self._one(market, mine, limits, done)
        if done.closed:
            mending.repaired(closed=len(done.closed), rows=0, requests=0, still_open=len(done.left))
        why = Counter(one.how for one in done.left)
        self._last = {
            "at": self._clock.now(), "closed": len(done.closed), "open": len(done.left),
            "why": dict(why.most_common(SHOWN)),
        }  # fmt: skip
        return done

    def status(self) -> Mapping[str, object]:
        """What the last look found and led to, and what was closed since the start, for /status."""
        last = self._last
        if last is not None:
            since = Counter(self._work.rounds)
            since.subtract(self._before)
            closed = last["closed"]
            assert isinstance(closed, int)
            last = {**last, "closed": closed + since["closed"], "rows": since["rows"], "requests": since["requests"]}
        return {"enabled": self._config.repair.enabled, "last": last, "closed": dict(self._work.closed)}

    async def _one(self, market: Market, gaps: Sequence[Gap], limits: Limits, done: Done) -> None:
        looked, asked, how = await self._plan(market, gaps, limits)
        first = len(done.left)
        await self._work.judge(looked, done, Brought())
        done.left[first:] = [
            msgspec.structs.replace(one, how=how) if one.gap.gap_id in asked else one for one in done.left[first:]
        ]

    async def _plan(self, market: Market, gaps: Sequence[Gap], limits: Limits) -> tuple[Looked, set[str], str]:
        """Have asked for what is to be asked for: what was found, which gaps that is, and what becomes of them."""
        manifest, told = self._writer.manifest, self._config.repair
        archive = told.archives and not manifest.meta().simulated
        made, sources, before = await asyncio.to_thread(
            look, manifest, market, gaps, self._clock.now(), limits, archive=archive
        )
        steps = made.steps[: limits.most]
        job, how = await asyncio.to_thread(self._ask, market, steps) if steps else (None, "")
        if job is not None:
            self._queued(job)
        looked = Looked(gaps, msgspec.structs.replace(made, steps=()), sources, before)
        return looked, {step.gap.gap_id for step in steps}, how

    def _ask(self, market: Market, steps: Sequence[Step]) -> tuple[str | None, str]:
        """Make them parts of the market's job, which is named; and what becomes of them, in words."""
        request, now = request_of(market), self._clock.now()
        job = self._book.round(request, parts_of(market, steps), now)
        if job is not None:
            return job.job, f"job {job.job} asks for it"
        mine = job_standing.of(self._writer.manifest.jobs(), request.work, request.arguments)
        return None, job_standing.held_up(mine, now) or "its turn has not come"
