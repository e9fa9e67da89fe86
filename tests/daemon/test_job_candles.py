"""The nightly audit asks for the candles that closed days lack: a job, seen, held and carried out after all else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compactor.audit import AuditService, nothing_more
from daemon import audit_fetch, job_backfill, wiring
from daemon.config import Config
from daemon.job_candles import OFF, CandlesWork
from daemon.jobs import carried
from daemon.safe_mode import SafeMode
from lake.errors import WrongQuestion
from lake.job_book import JobBook
from lake.job_plan import BACKFILL
from lake.job_standing import CANDLES
from lake.jobs import JobRow
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.clock import NOON, ManualClock
from tests.support.past import Past
from tests.support.unjudged import config_of, unjudged

MARKET = ("binance", "spot")
WEIGHT = 2
"""Of a page of candles of Binance's spot market."""


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[Past]:
    async with unjudged(tmp_path) as made:
        yield made


class Night:
    """What the daemon has for it, in one process."""

    def __init__(self, venue: Past, writer: LakeWriter, **more: Any) -> None:
        config = config_of(venue, audit=more.get("audit", {}))
        self.venue, self.writer, self.book = venue, writer, JobBook(writer)
        self.audit = AuditService(writer, InlineExecutor(), venue.clock, config.compactor.audit)
        self.published = 0
        self.woken: list[str] = []
        asking = job_backfill.BackfillWork(
            writer, self.book, config, venue.clock, job_backfill.alone(writer, config, venue.clock)
        )
        self._tools = audit_fetch.alone(writer, InlineExecutor(), venue.clock, config)
        self.work = CandlesWork(
            writer, self.book, venue.clock, asking, self.audit, self._publish, self.woken.append,
            more.get("markets", {MARKET}), enabled=config.compactor.audit.fetch,
        )  # fmt: skip
        self.audit.then = self.work.asked

    async def _publish(self, report: Any) -> None:
        self.published += 1
        await self._tools.publish(report)

    async def once(self) -> None:
        """A night, and what it asks for."""
        with self.venue._watched():
            await self.audit.night(asyncio.Event())
            await self.carry_out()

    async def carry_out(self) -> None:
        for job in self.writer.manifest.jobs("queued"):
            await carried(self.writer, self.book, self.venue.clock, job, self._running(job), lambda: "queued")

    def _running(self, job: JobRow) -> Any:
        return lambda: self.work.run(job, lambda *_: None, asyncio.Event())

    def jobs(self) -> list[JobRow]:
        return self.writer.manifest.jobs()

    def verified(self) -> list[bool]:
        """Of the newest certificate of each file of minutes."""
        told = {row.path: row.verified is not None for row in self.writer.manifest.certificates(kind="bar_1m")}
        return list(told.values())


@pytest.fixture
def writer(venue: Past) -> Iterator[LakeWriter]:
    with venue.writer() as made:
        yield made


async def test_candles_that_a_night_lacks_come_by_a_job_and_the_day_is_judged_in_it(
    venue: Past, writer: LakeWriter
) -> None:
    night = Night(venue, writer)
    await night.once()
    [job] = night.jobs()
    assert (job.work, job.state, job.priority, job.asked_by) == (CANDLES, "done", BACKFILL, "the daemon")
    assert job.what == "candles of binance spot to hold its days against, found by the daemon"
    assert night.woken == [job.job]
    assert [one.symbol for one in writer.manifest.job_chunks(job.job)] == ["BTCUSDT"]
    [attempt] = writer.manifest.job_attempts(job.job)
    assert (attempt.rows, attempt.error) == (HOUR // MINUTE, None)
    assert night.verified() == [True]
    assert {one.route for one in venue.asked} == {"klines"}
    assert len(venue.asked) * WEIGHT <= 6, "two pages of the day, and one that says when it was listed"
    asked = len(venue.asked)
    await night.once()
    assert (len(night.jobs()), len(venue.asked)) == (1, asked), "a day that is verified is not asked for"


async def test_where_nothing_is_collected_or_it_is_switched_off_nobody_is_asked(
    venue: Past, writer: LakeWriter
) -> None:
    for more in ({"markets": set()}, {"audit": {"fetch": False}}):
        night = Night(venue, writer, **more)
        await night.once()
        assert (night.jobs(), venue.asked, night.verified()) == ([], [], [False])


async def test_a_job_from_before_it_was_switched_off_ends_with_the_reason(venue: Past, writer: LakeWriter) -> None:
    before = Night(venue, writer)
    with venue._watched():
        await before.audit.night(asyncio.Event())
    after = Night(venue, writer, audit={"fetch": False})
    await after.carry_out()
    [job] = after.jobs()
    assert job.state == "failed"
    assert job.error is not None
    assert OFF in job.error
    assert venue.asked == []


@pytest.mark.parametrize("action, rests", [("pause", 9 * DAY), ("cancel", DAY)])
async def test_by_hand_a_market_is_held_between_two_nights(
    venue: Past, writer: LakeWriter, action: Any, rests: int
) -> None:
    night = Night(venue, writer)
    job = await over(night)
    night.book.move(job.job, action, venue.clock.now())
    await night.once()
    assert (len(night.jobs()), venue.asked) == (1, [])
    if action == "cancel":
        await venue.clock.sleep((rests + HOUR) / SECOND)
    else:
        night.book.move(job.job, "resume", venue.clock.now())
        await night.carry_out()
    await night.once()
    assert night.jobs()[-1].state == "done"
    assert night.verified() == [True]


async def over(night: Night) -> JobRow:
    """The job of a night before, of which nothing is left."""
    with night.venue._watched():
        await night.audit.night(asyncio.Event())
    [job] = night.jobs()
    done = [msgspec.structs.replace(one, state="done") for one in night.writer.manifest.job_chunks(job.job)]
    night.book.write_chunks(done, night.venue.clock.now())
    return night.book.put(job.job, "done", night.venue.clock.now())


async def test_what_was_killed_before_the_days_were_judged_is_judged_at_the_next_start(
    venue: Past, writer: LakeWriter
) -> None:
    night = Night(venue, writer)

    async def killed(_report: Any) -> None:
        raise asyncio.CancelledError

    night.work._publish = killed
    with pytest.raises(asyncio.CancelledError):
        await night.once()
    [job] = night.jobs()
    assert (job.state, night.verified()) == ("queued", [False])
    asked = len(venue.asked)
    anew = Night(venue, writer)
    await anew.carry_out()
    assert (anew.jobs()[-1].state, anew.verified(), len(venue.asked)) == ("done", [True], asked)


async def test_an_exchange_that_nobody_knows_is_asked_for_nothing(venue: Past, writer: LakeWriter) -> None:
    night = Night(venue, writer, markets={MARKET, ("elsewhere", "spot")})
    found = night.audit._look(*only(night))
    for one in found:
        one.exchange = "elsewhere"
    await night.work.asked(found)
    assert night.jobs() == []


def only(night: Night) -> tuple[Any, bool]:
    from lake.audits import Wanted

    return Wanted(*MARKET), False


async def test_it_is_asked_for_by_the_daemon_alone(venue: Past, writer: LakeWriter) -> None:
    with pytest.raises(WrongQuestion, match="dl reconcile --fetch"):
        await Night(venue, writer).work.plan({}, "somebody")


@pytest.mark.parametrize("only, asks", [(("collectors", "compactor"), True), (("compactor",), False)])
async def test_a_daemon_asks_at_night_where_it_collects(tmp_path: Path, only: tuple[str, ...], asks: bool) -> None:
    source = {"exchange": "binance", "market_type": "spot", "symbols": ["BTCUSDT"], "kinds": ["trade"]}
    config = Config.model_validate({"lake": str(tmp_path), "collectors": {"node": "n", "sources": [source]}})
    clock = ManualClock(NOON)
    with LakeWriter.open(tmp_path, "n", NOON) as writer:
        safe = SafeMode(writer.root, config.safe_mode, clock)
        parts = await wiring.build(config, only, clock, writer, InlineExecutor(), safe)
        made: dict[str, Any] = {one.name: one for one in parts.services}
        assert (made["audit"]._service.then is not nothing_more) == asks
        assert (CANDLES in made["jobs"]._service._works) == asks
