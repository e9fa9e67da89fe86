"""Candles that the nightly audit lacks, asked of the venue: at night, or by day where a night would be too late.

What a night finds (`compactor.audit`) is added to the standing job of its market (`lake.job_standing`), a part a
stretch that is not held. The job asks as a backfill does, after everything else that the venue is asked for; what came
becomes rows, and days that are over are judged again, within the same job. A venue that tells its newest candles only
is asked some times in the span of those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from collectors import venues
from collectors.backfill import Report, Summary, offers
from collectors.history_plan import FOREVER
from compactor.audit import AuditService
from daemon.audit_fetch import CANDLES, lacking
from daemon.backfilling import Wanted, chunks_of, planned
from daemon.job_backfill import BackfillWork
from daemon.jobs import Asked
from daemon.repairing import Market
from lake import job_plan, job_standing, sources
from lake.audits import Audit
from lake.errors import WrongQuestion
from lake.job_book import JobBook, Request
from lake.jobs import ChunkRow, JobRow
from lake.writer import LakeWriter
from market.errors import MarketError
from market.history import Offer
from market.session import EVERY_SYMBOL
from market.times import DAY, MINUTE, Interval, date_of, floor_to
from runtime import auditing
from runtime.clock import Clock
from runtime.threads import to_the_end

BRIEF = 2 * DAY
"""Who tells less than so much of its past cannot be asked for a whole day in the night after it."""
LOOKS = 3
"""So often a venue is asked within what it tells: a time at which nobody could be asked may last two thirds of it."""
AGAIN = 10 * MINUTE
"""Between two attempts, where the market's job takes nothing just now."""
OFF = "the daemon asks for no candles by itself (compactor.audit.fetch): dl reconcile --fetch does"


def request_of(market: Market) -> Request:
    """The standing job of a market."""
    exchange, market_type = market
    return Request(
        work=job_standing.CANDLES,
        what=f"candles of {exchange} {market_type} to hold its days against, found by the daemon",
        arguments={"exchange": exchange, "market_type": market_type}, priority=job_plan.BACKFILL, asked_by="the daemon",
    )  # fmt: skip


class CandlesWork:
    """Makes those jobs of what a night found (`asked`), and carries them out (see `daemon.jobs.Work`).

    Only `markets` that are collected are asked, and none where that is not `enabled`. `publish` makes rows of what
    came; `queued` is told of a job that is to be worked on.
    """

    def __init__(
        self,
        writer: LakeWriter,
        book: JobBook,
        clock: Clock,
        asking: BackfillWork,
        audit: AuditService,
        publish: Callable[[Report], Awaitable[None]],
        queued: Callable[[str], None],
        markets: Collection[Market],
        *,
        enabled: bool,
    ) -> None:
        self._writer = writer
        self._book = book
        self._clock = clock
        self._asking = asking
        self._audit = audit
        self._publish = publish
        self._queued = queued
        self._markets = markets
        self._enabled = enabled
        self._brief = {one: span for one in sorted(markets) if (span := _told_for(one)) < BRIEF}
        """Market -> how much of its past (us) the venue tells."""
        self._due_at: dict[Market, int] = {}

    async def asked(self, found: Sequence[Audit]) -> None:
        """Queue what these days lack. Raises StorageFailed, Fenced."""
        by_market: dict[Market, list[Wanted]] = {}
        for wanted in lacking(found) if self._enabled else ():
            by_market.setdefault((wanted.exchange, wanted.market_type), []).append(wanted)
        for market, every in by_market.items():
            if market not in self._markets:
                continue
            try:
                parts = [one for wanted in every for one in await asyncio.to_thread(self._parts, wanted)]
            except MarketError as error:  # a venue of whose past nothing can be asked
                auditing.candles_wait(exchange=market[0], market_type=market[1], reason=str(error))
                continue
            why = await asyncio.to_thread(self._round, market, parts) if parts else None
            if why is not None:
                auditing.candles_wait(exchange=market[0], market_type=market[1], reason=why)

    async def by_day(self) -> None:
        """Queue what the lake lacks of what a venue soon tells no more; called often. Raises StorageFailed, Fenced."""
        now = self._clock.now()
        for market, told in self._brief.items() if self._enabled else ():
            if now >= self._due_at.get(market, 0):
                taken = await asyncio.to_thread(self._ask_in_time, market, Interval(now - told, now))
                self._due_at[market] = now + (told // LOOKS if taken else AGAIN)

    def _ask_in_time(self, market: Market, span: Interval) -> bool:
        """Whether all candles of the span are held, or asked for, of each symbol whose trades were collected in it."""
        rows = [
            one
            for kind in (sources.TRADE, sources.AGG_TRADE)
            for one in self._writer.manifest.coverage(*market, kind, overlapping=span)
        ]
        symbols = tuple(sorted({one.symbol for one in rows} - {EVERY_SYMBOL}))
        parts = self._parts(Wanted(*market, (CANDLES,), symbols, span.start, span.end)) if symbols else []
        return not parts or self._round(market, parts) is None

    def _parts(self, wanted: Wanted) -> list[ChunkRow]:
        return chunks_of(wanted, planned(self._writer, wanted, self._clock.now()))

    def _round(self, market: Market, parts: Sequence[ChunkRow]) -> str | None:
        """Add a round to the market's job; why that has to wait, None where it need not."""
        request, now = request_of(market), self._clock.now()
        job = self._book.round(request, parts, now)
        if job is None:
            mine = job_standing.of(self._writer.manifest.jobs(), request.work, request.arguments)
            return job_standing.held_up(mine, now) or "its turn has not come"
        auditing.candles_asked(exchange=market[0], market_type=market[1], job=job.job, parts=len(parts))
        self._queued(job.job)
        return None

    async def plan(self, _arguments: Mapping[str, Any], _asked_by: str) -> Asked:
        """Nobody else asks for it. Raises WrongQuestion."""
        raise WrongQuestion(
            f"{job_standing.CANDLES} is what the daemon asks for by itself", "by hand it is dl reconcile --fetch"
        )

    async def run(self, job: JobRow, report: Report, stop: asyncio.Event) -> Summary:
        """Ask, make rows of what came, judge the days again. Raises StorageFailed, Fenced, LakeError, MarketError."""
        market = job.arguments["exchange"], job.arguments["market_type"]
        if not self._enabled:
            await to_the_end(self._switched_off, job.job)
            return Summary()
        chunks = await asyncio.to_thread(self._writer.manifest.job_chunks, job.job)
        due = [one for one in chunks if one.state == "queued"]
        span = min(one.ts_from for one in chunks), max(one.ts_to for one in chunks)
        wanted = Wanted(*market, (CANDLES,), tuple(dict.fromkeys(one.symbol for one in chunks)), *span)
        done = await self._asking.carry(job, wanted, report, stop)
        today = floor_to(self._clock.now(), DAY)
        days = sorted({date_of(one.ts_from).isoformat() for one in due or chunks if one.ts_from < today})
        if days and (done.rows or not due) and not stop.is_set():  # nothing due: it ended before what came was judged
            await self._publish(report)
            for day in days:
                await self._audit.judge(*market, day, report, stop)
        return done

    def _switched_off(self, name: str) -> None:
        now = self._clock.now()
        for one in job_plan.left(self._writer.manifest.job_chunks(name), now).due:
            told = msgspec.structs.replace(self._book.begun(one, now), error=OFF, permanent=False)
            self._book.ended(one, told, now, again=False)


def _told_for(market: Market) -> int:
    """How much of its past (us) the venue tells candles of; FOREVER where all of it, or none is asked for."""
    exchange, market_type = market
    try:
        offer = offers(venues.load(exchange), market_type).get(CANDLES)
    except MarketError:
        return FOREVER
    return offer.reach if isinstance(offer, Offer) and offer.reach is not None else FOREVER
