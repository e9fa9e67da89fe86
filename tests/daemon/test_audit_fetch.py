"""`dl reconcile --fetch`: what the venue has and the lake lacks is asked for, and the day can be judged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compactor.audit import AuditService
from compactor.config import AuditConfig
from daemon import audit_fetch
from daemon.audit_fetch import Fetched, Reconciled, lacking
from daemon.auditing import control_job, question_of, reconcile_job
from daemon.backfilling import wanted_of
from daemon.config import Config
from lake.audits import Audit
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, date_of
from runtime.workers import InlineExecutor
from tests.support.past import BEGAN, Past
from tests.support.unjudged import config_of, unjudged

MINUTES = DAY // MINUTE
FETCH = question_of({"fetch": True})


def audit(**more: Any) -> Audit:
    told: dict[str, Any] = {"exchange": "binance", "market_type": "spot", "kind": "bar_1m", "symbol": "A", "path": "p",
                            "date": "2026-11-18", "against": "candles"}  # fmt: skip
    return Audit(**(told | more))


def test_what_is_asked_for_is_what_is_not_told_a_request_a_market_and_day() -> None:
    found = [
        audit(untold=3, symbol="B"), audit(untold=1), audit(kind="bar_1s", untold=3), audit(symbol="C"),
        audit(symbol="D", untold=9, failed="its file is damaged"), audit(untold=2, date="2026-11-17"),
        audit(untold=1, market_type="linear"),
    ]  # fmt: skip
    told = [(one.exchange, one.market_type, one.kinds, one.symbols, one.span) for one in lacking(found)]
    assert told == [
        ("binance", "spot", ("kline",), ("A",), "2026-11-17"),
        ("binance", "linear", ("kline",), ("A",), "2026-11-18"),
        ("binance", "spot", ("kline",), ("A", "B"), "2026-11-18"),
    ]
    assert {one.end - one.start for one in lacking(found)} == {DAY}


async def test_who_cannot_be_asked_is_told_and_the_others_are_asked() -> None:
    async def nobody(*_: Any) -> Any:
        raise AssertionError("an exchange that nobody knows is asked for nothing")

    tools = audit_fetch.Tools(nobody, nobody)
    made = await audit_fetch.fetch([audit(exchange="elsewhere", untold=3)], tools, lambda *_: None)
    assert (made.days, made.rows, len(made.problems)) == (1, 0, 1)
    assert "elsewhere" in made.problems[0]


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[Past]:
    async with unjudged(tmp_path) as made:
        yield made


async def reconciled(venue: Past, writer: LakeWriter) -> Reconciled:
    """What the command does where no daemon runs."""
    work = (reconcile_job, writer, InlineExecutor(), venue.clock, FETCH, config_of(venue), lambda *_: None)
    with venue._watched():
        return await asyncio.to_thread(*work)


def checked(venue: Past, done: Reconciled) -> None:
    (minutes,) = [one for one in done.audits if one.kind == "bar_1m"]
    assert (minutes.date, minutes.untold) == (date_of(BEGAN).isoformat(), 0)
    assert minutes.verified is not None
    assert f"candles 1m: {minutes.total} of {minutes.total} the same" in minutes.verified
    assert minutes.total == HOUR // MINUTE, "in the others nothing was traded, and no candle is told"
    assert done.fetched is not None
    assert done.fetched.rows == HOUR // MINUTE
    assert (done.fetched.days, done.fetched.problems) == (1, [])
    assert {one.route for one in venue.asked} == {"klines"}
    assert len(venue.asked) == done.fetched.requests > 0


async def test_candles_that_are_missing_are_asked_for_and_the_day_is_verified(venue: Past) -> None:
    with venue.writer() as writer:
        before = reconcile_job(writer, InlineExecutor(), venue.clock, question_of({}), Config(), lambda *_: None)
        assert (before.fetched, before.audits[0].untold, venue.asked) == (None, MINUTES, [])
        checked(venue, await reconciled(venue, writer))
        assert writer.manifest.certificates(kind="bar_1m")[-1].verified is not None
        asked = len(venue.asked)
        again = await reconciled(venue, writer)
        assert (again.fetched, again.written) == (Fetched(), 0)
        assert again.ok
        assert len(venue.asked) == asked


async def test_the_daemon_does_it_by_its_own_jobs(venue: Past) -> None:
    with venue.writer() as writer, venue._watched():
        executor, config = InlineExecutor(), config_of(venue)
        tools, ran = audit_fetch.alone(writer, executor, venue.clock, config), []

        async def backfill(arguments: Mapping[str, Any], report: Any) -> object:
            import msgspec

            return msgspec.to_builtins(await tools.bring(wanted_of(arguments), report))

        async def transform(_: Mapping[str, Any], report: Any) -> object:
            ran.append("transform")
            await tools.publish(report)
            return {}

        async def compact(*_: Any) -> object:
            ran.append("compact")
            return {}

        service = AuditService(writer, executor, venue.clock, AuditConfig())
        jobs = {"backfill": backfill, "transform": transform, "compact": compact}
        job = control_job(config, writer, venue.clock, service, executor, jobs)
        told: Any = await job({"fetch": True}, lambda *_: None)
        assert ran == ["transform", "compact"]
        assert told["ok"]
        assert told["written"] == 2, "the minutes and the seconds"
        assert told["fetched"]["rows"] == HOUR // MINUTE
