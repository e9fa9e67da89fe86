"""`dl backfill --background` and `dl jobs` as a person meets them, with a daemon at the control port and without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.backfill import DONE, REFUSED, Attempt, Failure, Report, Summary, Watcher
from collectors.history_plan import Wish
from daemon.config import Config
from daemon.control import ControlService
from daemon.job_backfill import BackfillWork, control_job
from daemon.jobs import JobsService
from lake.job_book import JobBook, Request
from lake.job_plan import BACKFILL
from lake.lock import read_lock
from lake.writer import LakeWriter
from market.session import Endpoint, Exchange
from market.times import SECOND, parse
from runtime.clock import SystemClock
from tests.cli.test_commands import ask
from tests.lake.test_jobs import chunk
from tests.support.live import PATIENCE

ASKED = ("backfill", "--exchange", "binance", "--market", "spot", "--symbol", "BTCUSDT", "--kind", "kline")
PERIOD = ("--from", "2026-01-02", "--to", "2026-01-16")


class Daemon:
    """What of a daemon answers; the venue is one that gives everything at once, when it may."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.go = asyncio.Event()
        self.refuses = False
        self.stop = asyncio.Event()

    async def ask(
        self, _venue: Exchange, _market: str, _at: Endpoint, wishes: Sequence[Wish], report: Report, watch: Watcher
    ) -> Summary:
        done = Summary(chunks=len(wishes))
        for number, wish in enumerate(wishes):
            await watch.begun(wish)
            report(number, len(wishes), "at hand")
            await self.go.wait()
            outcome = REFUSED if self.refuses else DONE
            await watch.ended(Attempt(wish, outcome, "no such symbol" if self.refuses else "", 10, 1))
            done.rows += 10
            done.requests += 1
            done.failed += [Failure(wish, "no such symbol", permanent=True)] if self.refuses else []
        return done

    async def run(self) -> None:
        clock = SystemClock()
        with LakeWriter.open(self.root, "box", clock.now()) as writer:
            book = JobBook(writer)
            jobs = JobsService(
                writer, book, clock, {"backfill": BackfillWork(writer, book, Config(), clock, self.ask)}, lambda: False
            )
            control = ControlService({**jobs.control(), "backfill": control_job(jobs)}, writer.set_control, clock)
            async with asyncio.TaskGroup() as group:
                group.create_task(jobs.run(self.stop))
                group.create_task(control.run(self.stop))

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not what():
                await asyncio.sleep(0.002)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path / "lake")
    task = asyncio.ensure_future(made.run())
    await made.until(lambda: made.root.exists() and bool((held := read_lock(made.root)) and held.port))
    yield made
    made.go.set()
    made.stop.set()
    await task


async def run(*words: object, code: int = 0) -> Any:
    return await asyncio.to_thread(partial(ask, *words, expect=code))


async def told(*words: object, code: int = 0) -> Any:
    return json.loads((await run(*words, "--json", code=code)).stdout)


async def test_one_part_is_one_part(daemon: Daemon) -> None:
    said = await run(*ASKED, "--from", "2026-01-02", "--to", "2026-01-02T01:00", "--background", "--lake", daemon.root)
    assert ": 1 part; dl jobs show" in said.stdout


async def test_handed_to_the_daemon_paused_resumed_shown_and_followed(daemon: Daemon) -> None:
    lake = ("--lake", daemon.root)
    said = await run(*ASKED, *PERIOD, "--background", *lake)
    (only,) = (await told("jobs", *lake))["jobs"]
    name = only["job"]["job"]
    assert f"job {name}: 3 parts" in said.stdout, "at multiples of a week"
    assert only["job"]["what"].startswith("binance spot: kline of BTCUSDT, since 2026-01-02T00:00:00Z, to 2026-01-16")
    assert only["job"]["asked_by"].startswith("dl backfill")
    assert (await told(*ASKED, *PERIOD, "--background", *lake))["job"] == name, "the same words are the same job"
    assert "is paused" in (await run("jobs", "pause", name, *lake)).stdout
    shown = await told("jobs", "show", name[:12], *lake)
    assert (shown["job"]["state"], shown["progress"]["chunks"], len(shown["chunks"])) == ("paused", 3, 3)
    again = await run("jobs", "pause", name, *lake, code=2)
    assert f"job {name} is paused (only one that is queued or running can be paused)" in again.output
    assert "is queued" in (await run("jobs", "resume", name, *lake)).stdout
    daemon.go.set()
    followed = await run("jobs", "show", name, "--follow", "--json", *lake)
    assert json.loads(followed.stdout)["job"]["state"] == "done"
    lines = [json.loads(line)["progress"] for line in followed.stderr.splitlines() if line.startswith("{")]
    assert all(line["total"] >= line["done"] and "eta_seconds" in line for line in lines)
    listed = (await run("jobs", *lake)).stdout
    assert "done" in listed
    assert "3 of 3 (100 %)" in listed
    assert "30 rows" in (await run("jobs", "show", name, *lake)).stdout
    assert "is done" in (await run("jobs", "cancel", name, *lake, code=2)).output


async def test_waited_for_it_is_a_job_too_and_its_refusals_are_told(daemon: Daemon) -> None:
    lake = ("--lake", daemon.root)
    daemon.refuses = True
    daemon.go.set()
    done = await run(*ASKED, *PERIOD, *lake, code=1)
    assert "0 of 3 parts whole" in done.stdout
    assert "no such symbol (asking again changes nothing)" in done.stderr
    (only,) = (await told("jobs", *lake))["jobs"]
    shown = await run("jobs", "show", only["job"]["job"], *lake, code=1)
    assert "3 of 3 parts failed: kline BTCUSDT: no such symbol" in shown.output
    assert "no such symbol (for good)" in shown.stdout
    assert "refused for good" in (await run("jobs", "resume", only["job"]["job"], *lake, code=2)).output
    daemon.refuses = False
    made = await told(*ASKED, *PERIOD, *lake)
    assert (made["fetched"]["done"], made["fetched"]["rows"], made["fetched"]["failed"]) == (3, 30, [])
    assert made["job"] != only["job"]["job"]


def test_without_a_daemon_it_is_not_handed_over_and_jobs_are_moved_here(tmp_path: Path) -> None:
    lake = ("--lake", tmp_path)
    refused = ask(*ASKED, *PERIOD, "--background", *lake, expect=69)
    assert f"no daemon writes {tmp_path} (start one (python -m daemon), or leave out --background" in refused.output
    now = SystemClock().now()
    with LakeWriter.open(tmp_path, "box", now) as writer:
        book = JobBook(writer)
        asked = Request(work="backfill", what="some klines", arguments={}, priority=BACKFILL)
        name = book.ask(asked, [chunk(0, "")], now).job
        book.put(name, "running", now)
        book.begun(writer.manifest.job_chunks(name)[0], now)  # and then it died
    assert "interrupted" in ask("jobs", *lake).stdout
    assert "interrupted, backfill; asked" in ask("jobs", "show", name, *lake).stdout
    assert "is paused" in ask("jobs", "pause", name, *lake).stdout
    assert "the next daemon goes on with it" in ask("jobs", "resume", name, *lake).stdout
    assert json.loads(ask("jobs", "cancel", name, *lake, "--json").stdout)["state"] == "cancelled"
    assert "is cancelled" in ask("jobs", "resume", name, *lake, expect=2).output


def test_the_time_that_is_left_is_told_by_the_lake_s_own_clock(tmp_path: Path) -> None:
    """A simulated lake lives on another day than who looks at it; one that nobody writes any more stands still."""
    lake, then = tmp_path / "lake", parse("2020-01-01T00:00:00Z")
    with LakeWriter.open(lake, "box", then, simulated=True) as writer:
        book = JobBook(writer)
        request = Request(work="backfill", what="x", arguments={}, priority=BACKFILL, asked_by="somebody")
        one, two = (msgspec.structs.replace(chunk(number), job="") for number in (0, 1))
        job = book.ask(request, [one, two], then)
        book.put(job.job, "running", then)
        one, two = writer.manifest.job_chunks(job.job)
        book.ended(one, book.begun(one, then), then + 90 * SECOND)
        book.begun(two, then + 90 * SECOND)
    (shown,) = json.loads(ask("jobs", "--json", "--lake", lake).stdout)["jobs"]
    assert (shown["progress"]["busy_seconds"], shown["progress"]["eta_seconds"]) == (90.0, 90.0)
    assert "0:01:30" in ask("jobs", "--lake", lake).stdout


@pytest.mark.parametrize(
    "words, why",
    [
        (("jobs", "show"), "name what to do and with which job"),
        (("jobs", "show", "nothing"), "there is no job 'nothing'"),
        (("jobs", "pause", "nothing", "--follow"), "--follow goes with show"),
        (("jobs", "--follow"), "--follow goes with show"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    LakeWriter.open(tmp_path, "box", SystemClock().now()).close()
    assert why in ask(*words, "--lake", tmp_path, expect=2).output
    assert ask("jobs", "--lake", tmp_path).stdout == "no jobs\n"
