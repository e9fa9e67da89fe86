"""Jobs of the daemon: they begin in their turn, are moved and followed by hand, and go on after a stop or a kill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daemon.jobs import LOOK_SECONDS, Asked, JobMoved, JobsService, Report
from lake.errors import LakeError, StorageFailed, WrongQuestion
from lake.job_book import JobBook, Request
from lake.job_plan import BACKFILL, REPAIR
from lake.jobs import ChunkRow, JobRow
from lake.writer import LakeWriter
from tests.lake.test_jobs import NOW, chunk
from tests.support.clock import ManualClock, settle


class Fake:
    """Work that says what it does and ends when it is told to."""

    def __init__(self, book: JobBook, writer: LakeWriter, clock: ManualClock) -> None:
        self.book, self.writer, self.clock = book, writer, clock
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self.fails: Exception | None = None

    async def plan(self, arguments: Mapping[str, Any], asked_by: str) -> Asked:
        if "parts" not in arguments:
            raise WrongQuestion("how many parts?")
        told = Request(work="fake", what="something", arguments=arguments, priority=arguments.get("priority", BACKFILL),
                       asked_by=asked_by)  # fmt: skip
        return Asked(
            request=told, chunks=[chunk(n, "") for n in range(arguments["parts"])], told={"parts": arguments["parts"]}
        )

    async def run(self, job: JobRow, report: Report, stop: asyncio.Event) -> object:
        self.begun.append(job.arguments.get("name", job.job))
        if self.fails is not None:
            raise self.fails
        for one in self.writer.manifest.job_chunks(job.job):
            if one.state == "queued":
                attempt = self.book.begun(one, self.clock.now())
                report(one.chunk, 3, "at work")
                await self.go.wait()
                self.book.ended(one, msgspec.structs.replace(attempt, rows=5), self.clock.now())
        return {"rows": 5}


class Running:
    """A service that runs, and what it works with."""

    def __init__(self, root: Path, writer: LakeWriter, clock: ManualClock) -> None:
        self.writer, self.clock, self.book = writer, clock, JobBook(writer)
        self.fake = Fake(self.book, writer, clock)
        self.full = False
        self.service = JobsService(writer, self.book, clock, {"fake": self.fake}, lambda: self.full)
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.stop.clear()
        self.task = asyncio.ensure_future(self.service.run(self.stop))
        await self.until(lambda: bool(self.clock.sleeping))  # it has looked

    async def end(self) -> None:
        self.stop.set()
        if self.task is not None:
            await self.task

    async def until(self, what: Callable[[], bool]) -> None:
        """Real threads write; until they have."""
        reached = False
        while not reached:
            await settle()
            await asyncio.sleep(0.001)
            reached = what()

    async def state(self, job: str, state: str) -> None:
        await self.until(lambda: self.book.one(job).state == state)

    async def ask(self, parts: int = 1, **more: Any) -> JobRow:
        job, _ = await self.service.start("fake", {"parts": parts, **more}, "a test")
        assert job is not None
        return job

    def chunks(self, job: str) -> list[ChunkRow]:
        return self.writer.manifest.job_chunks(job)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path, "box", NOW) as opened:
        yield opened


@pytest.fixture
async def running(tmp_path: Path, writer: LakeWriter) -> AsyncIterator[Running]:
    made = Running(tmp_path, writer, ManualClock(NOW))
    await made.start()
    yield made
    await made.end()


async def test_a_job_begins_is_followed_and_is_done(running: Running) -> None:
    job = await running.ask(3)
    told: list[tuple[int, int, str]] = []
    following = asyncio.ensure_future(running.service.follow(job.job, lambda *one: told.append(one)))
    await running.state(job.job, "running")
    await running.until(lambda: (0, 3, "at work") in told)
    assert running.service.status()["running"] == {job.job: {"done": 0, "total": 3, "what": "at work"}}
    running.fake.go.set()
    row, result = await following
    assert (row.state, result) == ("done", {"rows": 5})
    assert {one.state for one in running.chunks(job.job)} == {"done"}
    assert running.service.status() == {"running": {}}
    assert await running.service.follow(job.job, lambda *_: None) == (row, result), "who comes too late is told too"


async def test_priority_comes_first_and_one_lane_is_one_at_a_time(running: Running) -> None:
    running.full = True
    places = {"exchange": "binance", "market_type": "spot"}
    for name, priority in (("late", BACKFILL), ("repair", REPAIR), ("later", BACKFILL)):
        running.clock.step(1_000_000)
        await running.ask(name=name, priority=priority, **places)
    await running.ask(name="elsewhere", exchange="okx")
    assert running.fake.begun == [], "the disk is full"
    running.full = False
    running.fake.go.set()
    await running.clock.advance(LOOK_SECONDS + 1)
    await running.until(lambda: len(running.fake.begun) == 4)
    assert [name for name in running.fake.begun if name != "elsewhere"] == ["repair", "late", "later"]


async def test_pause_resume_and_cancel(running: Running) -> None:
    job = await running.ask(2)
    await running.state(job.job, "running")
    await running.until(lambda: any(one.state == "running" for one in running.chunks(job.job)))
    following = asyncio.ensure_future(running.service.follow(job.job, lambda *_: None))
    await settle()
    assert (await running.service.move(job.job, "pause")).state == "paused"
    with pytest.raises(JobMoved, match=rf"job {job.job} is paused \(dl jobs resume"):
        await following
    assert {one.state for one in running.chunks(job.job)} == {"queued"}
    (attempt,) = running.writer.manifest.job_attempts(job.job)
    assert (attempt.error, attempt.permanent) == ("interrupted", None)
    with pytest.raises(WrongQuestion, match="is paused"):
        await running.service.move(job.job, "pause")
    assert (await running.service.move(job.job, "resume")).state == "queued"
    await running.state(job.job, "running")
    assert (await running.service.move(job.job, "cancel")).state == "cancelled"
    with pytest.raises(JobMoved, match=r"is cancelled$"):
        await running.service.follow(job.job, lambda *_: None)
    with pytest.raises(WrongQuestion, match="there is no job"):
        await running.service.move("nothing", "cancel")


async def test_what_waits_for_its_turn_is_followed_and_can_be_cancelled(running: Running) -> None:
    first, second = await running.ask(name="a"), await running.ask(name="b")
    await running.state(first.job, "running")
    told: list[str] = []
    following = asyncio.ensure_future(running.service.follow(second.job, lambda _d, _t, what: told.append(what)))
    await running.until(lambda: told == ["waits for its turn"])
    await running.service.move(second.job, "cancel")
    with pytest.raises(JobMoved, match="is cancelled"):
        await following


async def test_asked_again_it_is_the_same_job_and_nothing_is_no_job(running: Running) -> None:
    job = await running.ask(1, name="x")
    assert (await running.ask(1, name="x")).job == job.job
    assert await running.service.start("fake", {"parts": 0}, "a test") == (None, {"parts": 0})
    for work, arguments, why in (("other", {}, "no job does 'other'"), ("fake", {}, "how many parts")):
        with pytest.raises(WrongQuestion, match=why):
            await running.service.start(work, arguments, "a test")


async def test_a_stop_leaves_it_queued_and_the_next_start_goes_on(running: Running) -> None:
    job = await running.ask(2)
    await running.until(lambda: bool(running.fake.begun))
    following = asyncio.ensure_future(running.service.follow(job.job, lambda *_: None))
    await settle()
    await running.end()
    with pytest.raises(JobMoved, match="goes on at its next start"):
        await following
    assert running.book.one(job.job).state == "queued"
    await running.start()
    running.fake.go.set()
    await running.state(job.job, "done")
    assert len(running.fake.begun) == 2


async def test_what_a_killed_process_left_running_goes_on_at_the_next_start(running: Running) -> None:
    running.full = True
    job = await running.ask(2)
    await running.end()
    running.book.put(job.job, "running", NOW)
    running.book.begun(running.chunks(job.job)[0], NOW)  # and then it was killed
    running.full = False
    running.fake.go.set()
    await running.start()
    await running.state(job.job, "done")
    ends = [(one.chunk, one.attempt, one.error) for one in running.writer.manifest.job_attempts(job.job)]
    assert ends == [(0, 1, "interrupted"), (0, 2, None), (1, 1, None)]


class Slow:
    """The first call with arguments that finds something: in its thread, it ends when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: object, name: str) -> None:
        self.begun, self.go = asyncio.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), getattr(held, name)

        def slow(*given: Any) -> Any:
            result = real(*given)
            if given and result and not self.begun.is_set():
                loop.call_soon_threadsafe(self.begun.set)
                self.go.wait(200)
            return result

        monkeypatch.setattr(held, name, slow)


async def test_stopped_while_it_is_written_down_as_running_it_is_queued_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, running.book, "put")
    job = await running.ask()
    await slow.begun.wait()
    running.stop.set()
    await settle()
    assert running.task is not None
    assert not running.task.done(), "what the thread writes comes before what is written of the stop"
    slow.go.set()
    await running.task
    assert (running.book.one(job.job).state, running.fake.begun) == ("queued", [])


async def test_paused_and_resumed_while_it_was_about_to_begin_it_is_followed_to_its_end(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found queued is paused by then: it does not begin, and who follows it waits for when it does."""
    slow = Slow(monkeypatch, running.writer.manifest, "jobs")
    job = await running.ask()
    await slow.begun.wait()
    assert (await running.service.move(job.job, "pause")).state == "paused"
    begin = Slow(monkeypatch, running.book, "put")
    slow.go.set()
    await begin.begun.wait()
    assert (await running.service.move(job.job, "resume")).state == "queued"
    following = asyncio.ensure_future(running.service.follow(job.job, lambda *_: None))
    await settle()
    running.fake.go.set()
    begin.go.set()
    row, result = await following
    assert (row.state, result) == ("done", {"rows": 5})


async def test_done_while_it_is_looked_what_can_begin_it_does_not_begin_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.fake.go.set()
    job = await running.ask(name="first")
    row, result = await running.service.follow(job.job, lambda *_: None)
    read, before = running.writer.manifest.jobs, [[job]]
    monkeypatch.setattr(
        running.writer.manifest, "jobs", lambda *given: before.pop() if given and before else read(*given)
    )
    other = await running.ask(name="other", exchange="okx")
    await running.state(other.job, "done")
    assert running.fake.begun == ["first", "other"]
    assert before == []
    assert await running.service.follow(job.job, lambda *_: None) == (row, result)


async def test_a_job_that_fails_says_why_and_the_others_go_on(running: Running) -> None:
    running.fake.fails = LakeError("the venue has no such market", "use another")
    job = await running.ask()
    with pytest.raises(LakeError, match="no such market"):
        await running.service.follow(job.job, lambda *_: None)
    assert (running.book.one(job.job).state, running.book.one(job.job).error) == (
        "failed", "the venue has no such market (use another)",
    )  # fmt: skip
    running.fake.fails = None
    running.fake.go.set()
    other = await running.ask(name="other")
    await running.state(other.job, "done")


async def test_a_defect_fails_its_own_job_and_no_other(running: Running) -> None:
    other = await running.ask(name="other", exchange="okx")
    await running.until(lambda: running.fake.begun == ["other"])
    running.fake.fails = ZeroDivisionError("division by zero")
    job = await running.ask(name="broken")
    await running.state(job.job, "failed")
    assert running.book.one(job.job).error == "internal error: ZeroDivisionError: division by zero"
    running.fake.go.set()
    await running.state(other.job, "done")


async def test_storage_that_fails_ends_the_service_and_the_job_is_found_running(running: Running) -> None:
    running.fake.fails = StorageFailed("no space left")
    job = await running.ask()
    assert running.task is not None
    with pytest.raises(StorageFailed):
        await running.task
    running.task = None
    assert running.book.one(job.job).state == "running"


async def test_the_control_ports_calls(running: Running) -> None:
    control: dict[str, Any] = running.service.control()

    async def call(name: str, **arguments: Any) -> Any:
        return await control[name](arguments, lambda *_: None)

    told = await call("job_start", work="fake", arguments={"parts": 2}, asked_by="somebody")
    name = told["job"]["job"]
    assert (told["job"]["asked_by"], told["planned"]) == ("somebody", {"parts": 2})
    assert (await call("job_pause", job=name))["state"] == "paused"
    assert (await call("job_resume", job=name))["state"] == "queued"
    running.fake.go.set()
    done = await call("job_follow", job=name)
    assert (done["job"]["state"], done["result"]) == ("done", {"rows": 5})
    with pytest.raises(WrongQuestion, match="is done"):
        await call("job_cancel", job=name)
    for wrong in ({}, {"job": 5}, {"job": name, "more": 1}):
        with pytest.raises(WrongQuestion, match="this names no job"):
            await call("job_pause", **wrong)


async def test_a_daemon_that_does_not_collect_begins_none(writer: LakeWriter) -> None:
    service = JobsService(writer, JobBook(writer), ManualClock(NOW), {}, lambda: False)
    with pytest.raises(LakeError, match="does not collect"):
        await service.start("backfill", {}, "a test")
