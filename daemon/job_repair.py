"""A job that closes the open gaps of a market, carried out: what a round of the daemon's own repair found to be asked.

Its parts are gaps, each from the beginning of its hole to the end. A part that a kill interrupted is planned again:
nothing of it that came is asked for. One that came to nothing has failed; the gap is asked for again by a later round,
after a rest (`collectors.repair_plan.Tried`), and is a part of the same job or of the next one (`lake.job_standing`).
Repair by hand is another work (`daemon.job_calls`), done here too, a market at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from collectors import repair
from collectors.backfill import Report, Summary, Watcher
from collectors.budget import REPAIR
from collectors.history_plan import Wish, hole
from collectors.repair import Scope
from collectors.repair_plan import ARCHIVE, OWN, REST, Road, Step
from collectors.service import CollectorsService
from daemon.config import Config
from daemon.job_attempts import Todo, Watch
from daemon.jobs import Asked
from daemon.repairing import Brought, Done, Fetch, Looked, Market, Tools, carry_out, look, mend, settle
from lake import job_plan, job_standing
from lake.errors import WrongQuestion
from lake.job_book import JobBook, Request
from lake.jobs import ChunkRow, JobRow
from lake.writer import LakeWriter
from market.session import EVERY_SYMBOL, Endpoint, Exchange, Gap
from runtime import mending
from runtime.clock import Clock, pause
from runtime.threads import to_the_end

BROKEN_OFF = 5.0
"""Seconds after which a round goes on that was broken off by who collects."""
OFF = "the daemon repairs nothing by itself (repair.enabled): dl gaps --repair does"
Place = tuple[str, str, int, int]


def request_of(market: Market) -> Request:
    """The standing job of a market."""
    exchange, market_type = market
    return Request(
        work=job_standing.GAPS, what=f"open gaps of {exchange} {market_type}, found by the daemon",
        arguments={"exchange": exchange, "market_type": market_type}, priority=job_plan.REPAIR, asked_by="the daemon",
    )  # fmt: skip


def parts_of(market: Market, steps: Iterable[Step]) -> list[ChunkRow]:
    """Gaps that are to be asked for, as parts of a job."""
    return [
        ChunkRow(job="", chunk=number, exchange=market[0], market_type=market[1], kind=place[0], symbol=place[1],
                 ts_from=place[2], ts_to=place[3])
        for number, place in enumerate(dict.fromkeys(_place(step.gap) for step in steps))
    ]  # fmt: skip


def _place(gap: Gap) -> Place:
    span = hole(gap)
    return gap.kind, gap.symbol, span.start, span.end


def _part(one: ChunkRow) -> Place:
    return one.kind, one.symbol, one.ts_from, one.ts_to


class Round(msgspec.Struct, frozen=True):
    """What is due of a job: the plan for its gaps, the parts that are asked for and what of each, those of which
    nothing is left to be asked for, and those that cannot be asked for now: why, and whether that is so for good.
    """

    looked: Looked
    asked: Sequence[ChunkRow]
    wishes: Mapping[int, Sequence[Wish]]
    idle: Sequence[ChunkRow]
    left: Sequence[tuple[ChunkRow, str, bool]]


def round_of(chunks: Sequence[ChunkRow], looked: Looked, open_: Collection[Place], now: int) -> Round:
    """`looked` is the plan for those of the gaps that are `open_` of which a queued chunk is. Pure."""
    due, made = job_plan.left(chunks, now).due, looked.made
    steps: dict[Place, list[Step]] = {}
    for step in made.steps:
        steps.setdefault(_place(step.gap), []).append(step)
    why = {_place(one.gap): (one.why, False) for one in made.left}
    why |= {_place(one.gap): (one.why, True) for one in made.hopeless}
    asked = [one for one in due if _part(one) in steps]
    left = [(one, *why[_part(one)]) for one in due if _part(one) in why and _part(one) not in steps]
    told = {one.chunk for one in asked} | {one.chunk for one, _, _ in left}
    over = [one for one in chunks if one.state == "failed" and _part(one) not in open_]
    pools = {road: made.wishes(road) for road in (REST, ARCHIVE, OWN)}
    return Round(
        looked=looked,
        asked=asked,
        wishes={
            one.chunk: list(dict.fromkeys(wish for step in steps[_part(one)] for wish in _wishes(step, pools)))
            for one in asked
        },
        idle=[*(one for one in due if one.chunk not in told), *over],
        left=left,
    )


def _wishes(step: Step, pools: Mapping[Road, Sequence[Wish]]) -> list[Wish]:
    """What is asked for of a gap: its own parts, and those of the steps before it that it shares."""
    gap, span, mine = step.gap, hole(step.gap), set(step.parts)
    return [
        one
        for one in pools[step.road]
        if one in mine
        or (one.kind == gap.kind and gap.symbol in (one.symbol, EVERY_SYMBOL)
            and one.start < span.end and span.start < one.end)
    ]  # fmt: skip


class RepairWork:
    """Carries out those jobs (see `daemon.jobs.Work`), and what is asked for by hand."""

    def __init__(
        self,
        config: Config,
        writer: LakeWriter,
        book: JobBook,
        clock: Clock,
        collectors: CollectorsService,
        archive: Fetch,
        read: Fetch,
    ) -> None:
        self.turns: defaultdict[Market, asyncio.Lock] = defaultdict(asyncio.Lock)
        """A market is repaired by one at a time."""
        self.closed: Counter[str] = Counter()
        """Gaps that were closed since the start, by their state."""
        self.rounds = Counter[str]()
        """Rows and requests of rounds since the start, and gaps that they closed."""
        self._config = config
        self._writer = writer
        self._book = book
        self._clock = clock
        self._collectors = collectors
        self._archive = archive
        self._read = read
        self._judging = asyncio.Lock()

    async def plan(self, _arguments: Mapping[str, Any], _asked_by: str) -> Asked:
        """Nobody else asks for it. Raises WrongQuestion."""
        raise WrongQuestion(
            f"{job_standing.GAPS} is what the daemon asks for by itself", "by hand it is the work repair"
        )

    async def run(self, job: JobRow, report: Report, stop: asyncio.Event) -> Done:
        """Ask for the parts that are due, each once, and judge. Raises StorageFailed, Fenced, LakeError."""
        market, done = (job.arguments["exchange"], job.arguments["market_type"]), Done()
        if not self._config.repair.enabled:
            await to_the_end(self._switched_off, job.job)
            return done
        async with self.turns[market]:
            made = await to_the_end(self._due, job.job, market)
            watch = Watch(self._book, self._clock, made.asked, Todo(made.wishes, {}), {}, again=False)
            try:
                tools = self._tools(watch)
                brought = await carry_out(
                    self._writer, self._config, self._clock, market, made.looked.made, tools, report, done
                )
                if brought.broken_off:
                    await pause(self._clock, stop, BROKEN_OFF)
                    return done
                vain = await self.judge(made.looked, done, brought)
                for one in made.asked:
                    names = [gap.gap_id for gap in made.looked.gaps if _place(gap) == _part(one)]
                    why = next((vain[name] for name in names if name in vain), "")
                    await watch.close(one.chunk, sum(brought.rows.get(name, 0) for name in names), why)
            finally:
                await watch.end()
            await to_the_end(self._rest, job.job, made.looked.gaps)
        if done.closed or done.requests:
            mending.repaired(closed=len(done.closed), rows=done.rows, requests=done.requests, still_open=len(done.left))
        self.rounds.update(rows=done.rows, requests=done.requests, closed=len(done.closed))
        return done

    async def judge(self, looked: Looked, done: Done, brought: Brought) -> dict[str, str]:
        """Verdicts, one market's at a time: they read tables. Raises StorageFailed, Fenced."""
        before = len(done.closed)
        async with self._judging:
            vain = await to_the_end(settle, self._writer, looked, brought, self._clock.now(), done)
        self.closed.update(gap.state for gap in done.closed[before:])
        return vain

    async def by_hand(self, arguments: Mapping[str, Any], progress: Report) -> object:
        """What `dl gaps --repair` asks for."""
        try:
            scope = msgspec.convert(dict(arguments), Scope)
        except msgspec.ValidationError as error:
            raise WrongQuestion(f"which gaps are to be repaired: {error}", "see dl gaps --help") from error
        tools = Tools(partial(self._ask, None, None), self._archive, self._read)
        done = await mend(
            self._writer, self._config, self._clock, scope, tools, progress, turn=lambda market: self.turns[market]
        )
        self.closed.update(gap.state for gap in done.closed)
        return msgspec.to_builtins(done)

    def _tools(self, watch: Watch) -> Tools:
        archive = self._archive if self._config.repair.archives else None
        return Tools(partial(self._ask, watch, 1), archive, self._read, watch.begun)

    async def _ask(
        self, watch: Watcher | None, at_once: int | None, venue: Exchange, market_type: str, endpoint: Endpoint,
        wishes: Sequence[Wish], report: Report,
    ) -> Summary:  # fmt: skip
        # who asks by hand waits until what he asks for is final; the daemon looks again once it is
        more: dict[str, Any] = {} if at_once is None else {"at_once": at_once, "patient": False}
        return await self._collectors.backfill(
            venue, market_type, endpoint, wishes, report, priority=REPAIR, watch=watch, **more
        )

    def _due(self, name: str, market: Market) -> Round:
        """What is asked for now, without a rest: the turn of these has come, or somebody resumed the job by hand."""
        manifest, now = self._writer.manifest, self._clock.now()
        chunks, every = manifest.job_chunks(name), Scope(*market).gaps(manifest)
        wanted = {_part(one) for one in chunks if one.state == "queued"}
        gaps = [gap for gap in every if _place(gap) in wanted]
        archive = self._config.repair.archives and not manifest.meta().simulated
        plan, sources, before = look(manifest, market, gaps, now, None, archive=archive)
        before = msgspec.structs.replace(before, tried=repair.tried(manifest, gaps))
        made = round_of(chunks, Looked(gaps, plan, sources, before), {_place(gap) for gap in every}, now)
        self._book.write_chunks([msgspec.structs.replace(one, state="done", due_at=None) for one in made.idle], now)
        for one, why, permanent in made.left:
            self._fail(one, why, now, permanent=permanent)
        return made

    def _fail(self, one: ChunkRow, why: str, now: int, *, permanent: bool = False) -> None:
        told = msgspec.structs.replace(self._book.begun(one, now), error=why, permanent=permanent)
        self._book.ended(one, told, now, again=False)

    def _rest(self, name: str, gaps: Sequence[Gap]) -> None:
        """When parts that came to nothing are asked for again, for who looks at the job."""
        manifest = self._writer.manifest
        tried = repair.tried(manifest, gaps)
        again = {_place(gap): tried[gap.gap_id].again for gap in gaps if gap.gap_id in tried}
        failed = [one for one in manifest.job_chunks(name) if one.state == "failed" and _part(one) in again]
        rests = [msgspec.structs.replace(one, due_at=again[_part(one)]) for one in failed]
        self._book.write_chunks(rests, self._clock.now())

    def _switched_off(self, name: str) -> None:
        now = self._clock.now()
        for one in job_plan.left(self._writer.manifest.job_chunks(name), now).due:
            self._fail(one, OFF, now)
