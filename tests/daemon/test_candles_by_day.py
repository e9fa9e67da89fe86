"""Candles that a venue tells for half a day are asked for by day, so that the night can judge all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compactor.audit import AuditService
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon import audit_fetch, job_backfill
from daemon.config import Config
from daemon.job_candles import AGAIN, LOOKS, CandlesWork
from daemon.jobs import carried
from lake.job_book import JobBook
from lake.jobs import JobRow
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, covers, floor_to, union
from runtime.workers import InlineExecutor
from simulator import venues
from tests.support.past import END, Past, past
from transformer.config import TransformerConfig
from transformer.service import transform_once

MARKET = ("kraken", "spot")
TOLD = 12 * HOUR
"""How much of its past Kraken's spot market tells candles of."""
BETWEEN = TOLD // LOOKS


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[Past]:
    async with past(tmp_path, "spot", symbols="1", rate="1", venue="kraken") as made:
        await made.bring("spot", ["trade"])
        made.asked.clear()
        yield made


@pytest.fixture
def writer(venue: Past) -> Iterator[LakeWriter]:
    with venue.writer() as made:
        yield made


class Days:
    """What the daemon has for it, in one process."""

    def __init__(
        self, venue: Past, writer: LakeWriter, markets: tuple[tuple[str, str], ...] = (MARKET,), **audit: Any
    ) -> None:
        self.venue, self.writer, self.book = venue, writer, JobBook(writer)
        source = {"exchange": "kraken", "market_type": "spot", "symbols": ["*"], "kinds": ["trade"],
                  "endpoint": {"rest": venues.load("kraken").bases("spot", venue.host)[0]}}  # fmt: skip
        told = {
            "lake": str(venue.root),
            "collectors": {"node": "n", "sources": [source]},
            "compactor": {"audit": audit},
        }
        config = Config.model_validate(told)
        self.audit = AuditService(writer, InlineExecutor(), venue.clock, config.compactor.audit)
        asking = job_backfill.BackfillWork(
            writer, self.book, config, venue.clock, job_backfill.alone(writer, config, venue.clock)
        )
        self.tools = audit_fetch.alone(writer, InlineExecutor(), venue.clock, config)
        self.published = 0
        self.work = CandlesWork(
            writer, self.book, venue.clock, asking, self.audit, self._publish, lambda _job: None, set(markets),
            enabled=config.compactor.audit.fetch,
        )  # fmt: skip
        self.audit.then, self.audit.meanwhile = self.work.asked, self.work.by_day

    async def _publish(self, report: Any) -> None:
        self.published += 1
        await self.tools.publish(report)

    async def look(self) -> int:
        """One look by day, and what it queued carried out; how many requests that were."""
        before = len(self.venue.asked)
        with self.venue._watched():
            await self.work.by_day()
            for job in self.writer.manifest.jobs("queued"):
                await carried(self.writer, self.book, self.venue.clock, job, self._running(job), lambda: "queued")
        return len(self.venue.asked) - before

    def _running(self, job: JobRow) -> Any:
        return lambda: self.work.run(job, lambda *_: None, asyncio.Event())

    async def until(self, time: int) -> None:
        """Trades are collected meanwhile, of which there are none."""
        await self.venue.clock.sleep((time - self.venue.clock.now()) / SECOND)
        last = self.writer.manifest.coverage(*MARKET, "trade")[-1]
        self.writer.record(coverage=[msgspec.structs.replace(last, ts_to=self.venue.clock.now())])

    def told(self) -> list[Interval]:
        """When candles are held of."""
        return union(Interval(one.ts_from, one.ts_to) for one in self.writer.manifest.coverage(*MARKET, "kline"))

    def verified(self) -> list[bool]:
        """Of the newest certificate of each file of minutes."""
        told = {row.path: row.verified is not None for row in self.writer.manifest.certificates(kind="bar_1m")}
        return list(told.values())


def closed(days: Days) -> None:
    """Everything that was received as certified days."""
    now = days.venue.clock.now()
    assert transform_once(days.writer, InlineExecutor(), now, TransformerConfig()).failed == 0
    assert not compact_once(days.writer, InlineExecutor(), now, CompactorConfig(), final=True).failures


DAY_START = floor_to(END, DAY)


async def test_what_the_venue_would_not_tell_at_night_is_asked_for_by_day(venue: Past, writer: LakeWriter) -> None:
    days = Days(venue, writer)
    while venue.clock.now() < DAY_START + DAY + HOUR:
        assert await days.look() > 0
        assert await days.look() == 0, "and not again before a third of what it tells has passed"
        await days.until(venue.clock.now() + BETWEEN)
    assert await days.look() > 0
    assert covers(days.told(), Interval(DAY_START, DAY_START + DAY))
    closed(days)
    asked = len(venue.asked)
    await days.audit.night(asyncio.Event())
    assert (days.verified(), len(venue.asked)) == ([True], asked)


async def test_a_day_of_which_nothing_was_asked_in_time_stays_final(venue: Past, writer: LakeWriter) -> None:
    days = Days(venue, writer, fetch=False)
    assert await days.look() == 0
    await days.until(DAY_START + DAY + HOUR)
    assert await days.look() == 0
    days = Days(venue, writer)
    closed(days)
    await days.look()
    assert not covers(days.told(), Interval(DAY_START, DAY_START + DAY))
    assert days.verified() == [False]


async def test_a_day_that_is_not_over_is_not_published_for_it(venue: Past, writer: LakeWriter) -> None:
    days = Days(venue, writer)
    await days.until(DAY_START + DAY - 2 * HOUR)
    await days.look()
    assert days.published == 0
    await days.until(DAY_START + DAY + 2 * HOUR)
    await days.look()
    assert days.published == 1


async def test_where_its_job_takes_nothing_it_is_tried_again_soon(venue: Past, writer: LakeWriter) -> None:
    days = Days(venue, writer)
    await days.look()
    [job] = writer.manifest.jobs()
    days.book.move(job.job, "pause", venue.clock.now())
    await days.until(venue.clock.now() + BETWEEN)
    assert await days.look() == 0
    days.book.move(job.job, "resume", venue.clock.now())
    assert await days.look() == 0
    await days.until(venue.clock.now() + AGAIN)
    assert await days.look() > 0


async def test_a_venue_that_tells_all_of_its_past_is_asked_at_night(venue: Past, writer: LakeWriter) -> None:
    days = Days(venue, writer, markets=(("kraken", "linear"), ("binance", "spot"), ("elsewhere", "spot")))
    assert await days.look() == 0
    assert writer.manifest.jobs() == []


async def test_of_a_symbol_whose_trades_are_not_collected_nothing_is_asked(tmp_path: Path) -> None:
    async with past(tmp_path, "spot", symbols="1", rate="1", venue="kraken") as made:
        with made.writer() as writer:
            assert await Days(made, writer).look() == 0


@pytest.mark.parametrize("audit, looks", [({}, 3), ({"days": 0}, 0)])
async def test_the_daemon_looks_every_minute_unless_no_day_is_judged(
    venue: Past, writer: LakeWriter, audit: dict[str, int], looks: int
) -> None:
    days = Days(venue, writer, **audit)
    stop, seen = asyncio.Event(), list[int]()

    async def looked() -> None:
        seen.append(venue.clock.now())

    days.audit.meanwhile = looked
    running = asyncio.create_task(days.audit.run(stop))
    began = venue.clock.now()
    while venue.clock.now() < began + 3 * MINUTE + SECOND and len(seen) < 3:
        await asyncio.sleep(0)
    stop.set()
    await running
    assert len(seen) == looks
