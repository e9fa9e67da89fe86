"""A job that asks a venue for its past, carried out: what is due of it, less what is held, until nothing is left.

A chunk that was interrupted is planned again: nothing of it that is held is asked for. One that failed for a passing
reason waits for its turn (`lake.job_plan`), and the others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from collectors import venues
from collectors.alone import alone as asking
from collectors.backfill import Failure, Report, Summary, Watcher, held, offers
from collectors.history_plan import Held, Plan, Refusal, Wish, plan
from collectors.service import CollectorsService
from daemon.backfilling import (
    WORK,
    Done,
    Wanted,
    chunks_of,
    closed,
    endpoint_of,
    planned,
    request_of,
    wanted_of,
)
from daemon.config import Config
from daemon.job_attempts import Ended, Todo, Watch
from daemon.jobs import Asked, JobsService
from lake import job_plan
from lake.job_book import JobBook
from lake.jobs import ChunkRow, JobRow
from lake.writer import LakeWriter
from market.history import Absent, Offer
from market.session import Endpoint, Exchange
from market.times import SECOND, Interval
from runtime.clock import Clock, pause

P = TypeVar("P", Wish, Refusal)
Ask = Callable[[Exchange, str, Endpoint, Sequence[Wish], Report, Watcher], Awaitable[Summary]]
"""Whoever asks the venue from here."""


def todo(chunks: Sequence[ChunkRow], offered: Mapping[str, Offer | Absent], known: Held, now: int) -> Todo:
    """What of these chunks is not held. Pure."""
    made = plan([Wish(one.kind, one.symbol, one.ts_from, one.ts_to) for one in chunks], offered, known, now)
    wishes, refused = _by_stream(made.chunks), _by_stream(made.refused)
    why = {one.chunk: [found.why for found, _ in _inside(one, refused)] for one in chunks}
    return Todo(
        {
            one.chunk: [Wish(one.kind, one.symbol, part.start, part.end) for _, part in _inside(one, wishes)]
            for one in chunks
        },
        {number: found[0] for number, found in why.items() if found},
    )


def _by_stream(found: Sequence[P]) -> dict[tuple[str, str], list[P]]:
    """By kind and symbol, each in the order of time: they do not overlap."""
    made: dict[tuple[str, str], list[P]] = {}
    for one in sorted(found, key=lambda one: one.start):
        made.setdefault((one.kind, one.symbol), []).append(one)
    return made


def _inside(chunk: ChunkRow, streams: Mapping[tuple[str, str], Sequence[P]]) -> Iterator[tuple[P, Interval]]:
    """Those that lie in a chunk, each with the part of it that does."""
    mine = streams.get((chunk.kind, chunk.symbol), ())
    for at in range(bisect.bisect_right(mine, chunk.ts_from, key=lambda one: one.end), len(mine)):
        one = mine[at]
        if one.start >= chunk.ts_to:
            return
        yield one, Interval(max(one.start, chunk.ts_from), min(one.end, chunk.ts_to))


class BackfillWork:
    """Carries out jobs of one kind of work: see `daemon.jobs.Work`."""

    def __init__(self, writer: LakeWriter, book: JobBook, config: Config, clock: Clock, ask: Ask) -> None:
        self._writer = writer
        self._book = book
        self._config = config
        self._clock = clock
        self._ask = ask

    async def plan(self, arguments: Mapping[str, Any], asked_by: str) -> Asked:
        """What of it is to be asked for; who asks is told the plan. Raises WrongQuestion, MarketError."""
        wanted = wanted_of(arguments)
        made = await asyncio.to_thread(planned, self._writer, wanted, self._clock.now())
        return Asked(request=request_of(wanted, asked_by), chunks=chunks_of(wanted, made), told=made)

    async def run(self, job: JobRow, report: Report, stop: asyncio.Event) -> Summary:
        """All that is left of the job, or as much as comes before `stop`. Raises StorageFailed, Fenced, MarketError."""
        return await self.carry(job, wanted_of(job.arguments), report, stop)

    async def carry(self, job: JobRow, wanted: Wanted, report: Report, stop: asyncio.Event) -> Summary:
        """The same where it is said otherwise what is `wanted`: of which market, and whether also what was deleted."""
        total = Summary()
        venue = venues.load(wanted.exchange)
        endpoint = endpoint_of(venue, wanted.market_type, self._config)
        ends: dict[int, Ended] = {}
        while not stop.is_set():
            chunks = await asyncio.to_thread(self._writer.manifest.job_chunks, job.job)
            now = self._clock.now()
            left = job_plan.left(chunks, now)
            if not left.due:
                if left.more_at is None:
                    break
                await self._wait(chunks, left.more_at, report, stop)
                continue
            asked = await asyncio.to_thread(self._todo, wanted, left.due)
            watch = Watch(self._book, self._clock, left.due, asked, ends)
            try:
                await watch.begin()
                wishes = sorted((one for each in asked.wishes.values() for one in each), key=lambda one: one.start)
                if wishes:
                    tell = _shifted(report, chunks, left.due, wishes)
                    _add(total, await self._ask(venue, wanted.market_type, endpoint, wishes, tell, watch))
            finally:
                await watch.end()
            if wishes and not watch.moved:
                break  # whoever asks from here is stopping
        return await asyncio.to_thread(self._summed, job, wanted, total, ends)

    def _todo(self, wanted: Wanted, due: Sequence[ChunkRow]) -> Todo:
        venue, writer = venues.load(wanted.exchange), self._writer
        known = held(writer.root, writer.manifest, venue.NAME, wanted.market_type, {one.symbol for one in due})
        known = msgspec.structs.replace(known, again=wanted.deleted)
        return todo(due, offers(venue, wanted.market_type), known, self._clock.now())

    async def _wait(self, chunks: Sequence[ChunkRow], until: int, report: Report, stop: asyncio.Event) -> None:
        waiting = [one for one in chunks if one.state == "queued"]
        total = sum(one.length for one in chunks)
        seconds = max(1.0, (until - self._clock.now()) / SECOND)
        left = sum(one.length for one in waiting)
        report((total - left) // SECOND, total // SECOND, f"{len(waiting)} parts are tried again in {seconds:.0f} s")
        await pause(self._clock, stop, seconds)

    def _summed(self, job: JobRow, wanted: Wanted, total: Summary, ends: Mapping[int, Ended]) -> Summary:
        chunks = self._writer.manifest.job_chunks(job.job)
        total.chunks, total.done = len(chunks), sum(one.state == "done" for one in chunks)
        total.failed = [
            Failure(
                Wish(one.kind, one.symbol, one.ts_from, one.ts_to), ends[one.chunk].reason, ends[one.chunk].permanent
            )
            for one in chunks
            if one.state == "failed" and one.chunk in ends
        ]
        total.repaired = closed(self._writer, wanted, self._clock.now())
        return total


def _shifted(report: Report, chunks: Sequence[ChunkRow], due: Sequence[ChunkRow], wishes: Sequence[Wish]) -> Report:
    """Progress of what is asked for now, as progress of the whole job."""
    total = sum(one.length for one in chunks)
    numbers = {one.chunk for one in due}
    waiting = sum(one.length for one in chunks if one.state == "queued" and one.chunk not in numbers)
    before = total - waiting - sum(one.end - one.start for one in wishes)

    def tell(done: int, _total: int, what: str) -> None:
        report(before // SECOND + done, total // SECOND, what)

    return tell


def _add(total: Summary, one: Summary) -> None:
    total.rows += one.rows
    total.requests += one.requests
    total.lacking += one.lacking


def beside(collectors: CollectorsService) -> Ask:
    """Asks beside what is collected, after it."""

    async def ask(
        venue: Exchange, market_type: str, endpoint: Endpoint, wishes: Sequence[Wish], report: Report, watch: Watcher
    ) -> Summary:
        return await collectors.backfill(venue, market_type, endpoint, wishes, report, watch=watch)

    return ask


def alone(writer: LakeWriter, config: Config, clock: Clock) -> Ask:
    """Asks where nobody else collects into the lake."""

    async def ask(
        venue: Exchange, market_type: str, endpoint: Endpoint, wishes: Sequence[Wish], report: Report, watch: Watcher
    ) -> Summary:
        stop = asyncio.Event()
        return await asking(
            venue, market_type, endpoint, writer, config.collectors, clock, wishes, report, stop, watch=watch
        )

    return ask


def control_job(jobs: JobsService) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """The control port's job `backfill`: a job that its asker waits for."""

    async def backfill(arguments: Mapping[str, Any], progress: Report) -> object:
        job, told = await jobs.start(WORK, arguments, "control port")
        done = Done(planned=msgspec.convert(told, Plan))
        if job is not None:
            done.job = job.job
            _, result = await jobs.follow(job.job, progress)
            done.fetched = None if result is None else msgspec.convert(result, Summary)
        return msgspec.to_builtins(done)

    return backfill
