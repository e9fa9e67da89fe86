"""The daemon's own repair as jobs, against a simulated venue: seen, killed, paused, cancelled, refused, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from collectors.backfill import Attempt, Summary
from collectors.exchanges.binance import history
from collectors.history_plan import Wish, hole
from collectors.repair_plan import ARCHIVE, REST, Hopeless, Known, Left, RepairPlan, Sources, Step
from daemon.config import Config
from daemon.job_attempts import Todo, Watch
from daemon.job_repair import OFF, parts_of, request_of, round_of
from daemon.jobs import JobsService
from daemon.repairing import Looked
from lake.errors import LakeError, WrongQuestion
from lake.job_book import JobBook
from lake.job_plan import INTERRUPTED
from lake.job_standing import GAPS, LONG, PARTS
from lake.jobs import ChunkRow, JobRow
from lake.writer import LakeWriter
from market.errors import MarketError
from market.session import Gap
from market.times import DAY, MINUTE, SECOND
from tests.cli.test_commands import ask as dl
from tests.collectors.test_repair import CUT, STILL, SYMBOL, Day, publish, still
from tests.support.clock import ManualClock
from tests.support.past import END, Killed, Quick, past
from tests.support.rounds import Rounds, never

MARKET = ("binance", "spot")
QUIET = range(STILL - 2 * SECOND, STILL + MINUTE + 2 * SECOND)


@pytest.fixture
async def day(tmp_path: Path) -> AsyncIterator[Day]:
    async with past(tmp_path, "spot", symbols=SYMBOL, rate="1", quiet=QUIET) as venue:
        made = Day(venue, CUT)
        await made.record(tmp_path)
        still(made)
        yield made


class Collectors:
    """Who collects: it asks the simulated venue, and can be held where one part has come and the others have begun."""

    outage = None

    def __init__(self, day: Day, writer: LakeWriter) -> None:
        self.asked: list[list[Wish]] = []
        self.one_came, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()
        self._day, self._writer = day, writer

    async def backfill(
        self, venue: Any, market: str, endpoint: Any, wishes: Sequence[Wish], report: Any, *, watch: Any, **_: Any
    ) -> Any:
        self.asked.append(list(wishes))
        begun, free = 0, self.go.is_set()

        async def begin(wish: Wish) -> None:
            nonlocal begun
            await watch.begun(wish)
            begun += 1
            if not free and wish != wishes[0]:
                await self.go.wait()

        async def ended(attempt: Attempt) -> None:
            await watch.ended(attempt)
            while begun < len(wishes) and not free:
                await asyncio.sleep(0.001)
            self.one_came.set()

        held = SimpleNamespace(begun=begin, ended=ended)
        return await self._day.ask(self._writer, venue, market, endpoint, wishes, report, held)


class Running:
    """The look, and the daemon's jobs, whose time stands still."""

    def __init__(self, day: Day, writer: LakeWriter) -> None:
        self.day, self.writer = day, writer
        self.collectors = Collectors(day, writer)
        self.rounds = Rounds(writer, day.venue.clock, self.collectors)
        self.jobs = JobsService(
            writer, self.rounds.book, ManualClock(day.venue.clock.now()), {GAPS: self.rounds.work}, lambda: False
        )
        self.rounds.service._queued = self.jobs.queued

    async def look(self) -> list[str]:
        """Why gaps are open still."""
        done = await self.rounds.service.once(asyncio.Event())
        return sorted({one.how for one in done.left})

    async def state(self, *states: str) -> JobRow:
        """The newest job, once it is so."""
        while (row := self.rounds.jobs()[-1]).state not in states:
            await asyncio.sleep(0.001)
        return row

    def parts(self, job: str) -> list[tuple[str, list[str | None]]]:
        """What became of each part, and of the attempts at it."""
        tried = self.writer.manifest.job_attempts(job)
        return [
            (one.state, [each.error for each in tried if each.chunk == one.chunk])
            for one in self.writer.manifest.job_chunks(job)
        ]


@contextlib.asynccontextmanager
async def running(day: Day) -> AsyncIterator[Running]:
    with day.venue.writer() as writer:
        made, stop = Running(day, writer), asyncio.Event()
        task = asyncio.ensure_future(made.jobs.run(stop))
        try:
            yield made
        finally:
            made.collectors.go.set()
            stop.set()
            await task


# --- as it goes ---


async def test_what_is_repaired_unasked_is_a_job_that_anybody_sees(day: Day) -> None:
    async with running(day) as made:
        (how,) = await made.look()
        row = await made.state("done", "failed")
        assert how == f"job {row.job} asks for it"
        assert (row.state, row.what, row.asked_by) == ("done", "open gaps of binance spot, found by the daemon",
                                                       "the daemon")  # fmt: skip
        assert made.parts(row.job) == [("done", [None])] * 4
        tried = made.writer.manifest.job_attempts(row.job)
        assert all(one.requests and one.ended_at for one in tried)
        assert sum(one.rows for one in tried) >= len(CUT)
        await day.venue.clock.sleep(1)
        publish(made.writer, day.venue.clock.now())
        assert await made.look() == [], "the still minute is judged once its rows are in tables"
        assert {gap.state for gap in made.writer.manifest.gaps()} == {"repaired", "empty"}
        assert len(made.rounds.jobs()) == 1, "nothing is left to be asked for"
        said = (await asyncio.to_thread(dl, "jobs", "--lake", day.venue.root)).stdout
        assert "4 of 4 (100 %)" in said
        assert "found by the daemon" in " ".join(said.split())
        said = (await asyncio.to_thread(dl, "jobs", "show", row.job, "--lake", day.venue.root)).stdout
        assert "done, repair; asked" in said
        assert "by the daemon" in said


async def test_killed_in_the_middle_it_goes_on_as_the_same_job(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE", 5)
    end, kills, names = Watch.end, 0, set()

    async def nothing(_watch: Watch) -> None:
        """A process that is killed writes down no end."""

    for after in (2, 4, 7, None):
        day.venue.kill_after = after
        monkeypatch.setattr(Watch, "end", end if after is None else nothing)
        with day.venue.writer() as writer, day.venue._watched():
            covered = [(one.ts_from, one.ts_to) for one in writer.manifest.coverage() if one.session.startswith("n-")]
            rounds, before = Rounds(writer, day.venue.clock, Collectors(day, writer)), len(day.venue.asked)
            rounds.begin()
            try:
                await (rounds.once() if not kills else rounds.carry_out())
            except* Killed:
                kills += 1
            (row,) = rounds.jobs()
            names.add(row.job)
            assert row.state == ("done" if after is None else "running")
            for one in day.venue.asked[before:]:
                if one.query.get("limit") != "1" and one.route == "historicalTrades":
                    times = [each["time"] * 1000 for each in msgspec.json.decode(one.body)]
                    again = [at for at in times if any(first <= at < last for first, last in covered)]
                    assert len(again) <= 2, "of what came only borders"
    assert kills == 3
    assert len(names) == 1
    with day.venue.writer() as writer:
        rounds = Rounds(writer, day.venue.clock, Collectors(day, writer))
        assert {one.state for one in writer.manifest.job_chunks(row.job)} == {"done"}
        errors = [one.error for one in writer.manifest.job_attempts(row.job)]
        assert set(errors) == {None, INTERRUPTED}
        assert errors.count(INTERRUPTED) >= 3
        await day.venue.clock.sleep(1)
        publish(writer, day.venue.clock.now())
        await rounds.once()
        assert {gap.state for gap in writer.manifest.gaps()} == {"repaired", "empty"}
        publish(writer, day.venue.clock.now())
    assert sorted(day.stored()) == [fill.id for fill in day.fills]


async def test_paused_it_rests_until_it_is_resumed_and_goes_on_where_it_was(day: Day) -> None:
    async with running(day) as made:
        made.collectors.go.clear()
        await made.look()
        await made.collectors.one_came.wait()
        row = await made.state("running")
        (how,) = await made.look()
        assert how == "its market is being repaired"
        assert (await made.jobs.move(row.job, "pause")).state == "paused"
        parts = made.parts(row.job)
        assert ("done", [None]) in parts
        assert ("queued", [INTERRUPTED]) in parts
        asked = len(day.venue.asked)
        await day.venue.clock.sleep(3 * LONG / SECOND)
        assert f"job {row.job} is paused: dl jobs resume {row.job}" in await made.look()
        assert (len(day.venue.asked), len(made.rounds.jobs())) == (asked, 1)
        made.collectors.go.set()
        await made.jobs.move(row.job, "resume")
        await made.state("done")
        assert {state for state, _ in made.parts(row.job)} == {"done"}
        first, rest = made.collectors.asked
        assert len(rest) < len(first), "what came is not asked for again"


async def test_cancelled_its_market_rests_for_a_day(day: Day) -> None:
    async with running(day) as made:
        made.collectors.go.clear()
        await made.look()
        await made.collectors.one_came.wait()
        row = await made.state("running")
        assert (await made.jobs.move(row.job, "cancel")).state == "cancelled"
        made.collectors.go.set()
        assert any("was cancelled: its market rests until" in why for why in await made.look())
        assert len(made.collectors.asked) == 1
        told = await made.rounds.work.by_hand({"kind": "quote"}, lambda *_: None)
        assert told["left"] == [], "by hand it is not held"  # type: ignore[index]
        await day.venue.clock.sleep(LONG / SECOND)
        await made.look()
        assert made.rounds.jobs()[-1].job != row.job
        await made.state("done")
        assert len(made.collectors.asked) == 2


async def test_a_stop_waits_for_nobody_and_the_next_start_goes_on(day: Day) -> None:
    async with running(day) as made:
        made.collectors.go.clear()
        await made.look()
        await made.collectors.one_came.wait()
    with day.venue.writer() as writer:
        (row,) = writer.manifest.jobs()
        assert row.state == "queued"
        assert all(writer.manifest.cursor(f"repair/{gap.gap_id}") is None for gap in writer.manifest.gaps())
    async with running(day) as made:
        assert (await made.state("done")).job == row.job


# --- what fails ---


async def test_what_a_venue_refuses_is_told_apart_from_what_may_come_another_time(day: Day) -> None:
    at = day.fills[30].ts
    odd = Gap("odd", *MARKET, "trade", "NOPE", at, at + SECOND, None, None, "stalled", "interval", "open", "n-1-1", at)
    with day.venue.writer() as writer:
        writer.record(gaps=[odd], now=day.venue.clock.now())
        rounds = Rounds(writer, day.venue.clock, Collectors(day, writer))
        await rounds.once()
        (row,) = rounds.jobs()
        assert row.state == "failed"
        assert (row.error or "").startswith("1 of 5 parts failed: trade NOPE: ")
        (part,) = [one for one in writer.manifest.job_chunks(row.job) if one.state == "failed"]
        (tried,) = writer.manifest.job_attempts(row.job, part.chunk)
        assert tried.permanent is True
        assert tried.ended_at is not None
        assert part.due_at is not None
        assert tried.ended_at + MINUTE <= part.due_at <= tried.ended_at + 2 * MINUTE, "when it is asked for again"


@contextlib.asynccontextmanager
async def alone(folder: Path, backfill: Any = never, **config: Any) -> AsyncIterator[Rounds]:
    """A lake with one gap, and no venue."""
    clock = Quick()
    at = clock.now() - DAY
    with LakeWriter.open(folder / "lake", "n", clock.now()) as writer:
        one = Gap("g", *MARKET, "trade", "A", at, at + SECOND, None, None, "cut", "interval", "open", None, at)
        writer.record(gaps=[one], now=at)
        told = Config.model_validate({"repair": config})
        yield Rounds(writer, clock, SimpleNamespace(outage=None, backfill=backfill), config=told)


async def test_broken_off_by_who_collects_it_is_no_attempt_in_vain(tmp_path: Path) -> None:
    async def stopping(_venue: Any, _market: Any, _endpoint: Any, wishes: Sequence[Wish], *_: Any, **__: Any) -> Any:
        return Summary(chunks=len(wishes))

    async with alone(tmp_path, stopping) as rounds:
        await rounds.once()
        (row,) = rounds.jobs()
        assert row.state == "queued"
        assert {one.state for one in rounds.writer.manifest.job_chunks(row.job)} == {"queued"}
        assert rounds.writer.manifest.cursor("repair/g") is None


async def test_what_nobody_can_be_asked_for_now_says_why(tmp_path: Path) -> None:
    async with alone(tmp_path) as rounds:
        await rounds.service.once(asyncio.Event())
        rounds.clock.turn_back(rounds.clock.now() - DAY)  # it is not over any more
        await rounds.carry_out()
        (row,) = rounds.jobs()
        assert (row.error or "").startswith("1 of 1 parts failed: trade A: it has just ended: asked for from")


async def test_switched_off_what_was_left_is_not_asked_for(tmp_path: Path) -> None:
    async with alone(tmp_path, enabled=False) as rounds:
        gaps = rounds.writer.manifest.gaps(state="open")
        rounds.book.round(request_of(MARKET), parts_of(MARKET, [Step(gap, REST, "time") for gap in gaps]), END)
        await rounds.carry_out()
        (row,) = rounds.jobs()
        assert row.state == "failed"
        assert (row.error or "").endswith(OFF)


async def test_resumed_with_nothing_left_of_it_a_job_is_over_at_once(tmp_path: Path) -> None:
    async with alone(tmp_path) as rounds:
        gaps = rounds.writer.manifest.gaps(state="open")
        row = rounds.book.round(request_of(MARKET), parts_of(MARKET, [Step(gap, REST, "time") for gap in gaps]), END)
        assert row is not None
        done = [msgspec.structs.replace(one, state="done") for one in rounds.writer.manifest.job_chunks(row.job)]
        rounds.book.write_chunks(done, END)
        rounds.book.put(row.job, "done", END)
        rounds.book.move(row.job, "pause", END)
        await rounds.once()
        assert [one.state for one in rounds.jobs()] == ["paused"]
        rounds.book.move(row.job, "resume", END)
        await rounds.carry_out()
        assert [one.state for one in rounds.jobs()] == ["done"]


async def test_a_defect_is_told_and_asked_for_again(tmp_path: Path) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise LakeError("no file can be opened", "close some")

    async with alone(tmp_path, broken) as rounds:
        for _ in range(2):
            with pytest.raises(LakeError, match="no file"):
                await rounds.once()
            (row,) = rounds.jobs()
            assert (row.state, row.error) == ("failed", "no file can be opened (close some)")
            assert {one.state for one in rounds.writer.manifest.job_chunks(row.job)} == {"queued"}


async def test_nobody_else_asks_for_it(tmp_path: Path) -> None:
    clock = Quick()
    with LakeWriter.open(tmp_path / "lake", "n", clock.now()) as writer:
        work = Rounds(writer, clock, SimpleNamespace(outage=None)).work
        queue = JobsService(writer, work._book, clock, {GAPS: work}, lambda: False)
        with pytest.raises(WrongQuestion, match="asks for by itself"):
            await queue.start(GAPS, {"exchange": "binance", "market_type": "spot"}, "a test")


# --- how much is written ---


def rows_of(writer: LakeWriter) -> int:
    def count(conn: Any) -> int:
        tables = ("jobs", "job_chunks", "job_attempts")
        return sum(conn.exec_driver_sql(f"select count(*) from {one}").scalar_one() for one in tables)

    return writer.manifest.run(count)


async def test_of_thousands_of_gaps_a_look_writes_about_those_that_it_asks_for(tmp_path: Path) -> None:
    async def down(*_: Any, **__: Any) -> Any:
        raise MarketError("the venue is down")

    async with alone(tmp_path, down, gaps_at_once=20) as rounds:
        writer, at = rounds.writer, rounds.clock.now() - DAY
        gaps = [
            Gap(f"{symbol}-{number}", *MARKET, "trade", f"S{symbol}", at + number * MINUTE, at + number * MINUTE + 1,
                None, None, "stalled", "interval", "open", None, at)
            for symbol in range(500) for number in range(4)
        ]  # fmt: skip
        writer.record(gaps=gaps, now=at)
        for _ in range(2):
            before = rows_of(writer)
            await rounds.once()
            assert 0 < rows_of(writer) - before <= 2 * 20 + 1, "a part and an attempt each, and the job"
        (row,) = rounds.jobs()
        assert (row.error or "").endswith("the venue is down")
        assert len(writer.manifest.job_chunks(row.job)) <= 40 < PARTS


# --- what is decided ---


def gap(name: str, start: int, end: int, symbol: str = "A", kind: str = "trade") -> Gap:
    return Gap(name, *MARKET, kind, symbol, start, end - 1, None, None, "cut", "interval", "open", None, 0)


def chunks(gaps: Sequence[Gap], **states: str) -> list[ChunkRow]:
    made = parts_of(MARKET, [Step(one, REST, "time") for one in gaps])
    return [
        msgspec.structs.replace(one, job="j", state=states.get(gap.gap_id, "queued"))
        for one, gap in zip(made, gaps, strict=True)
    ]


def looked(gaps: Sequence[Gap], made: RepairPlan) -> Looked:
    return Looked(gaps, made, Sources(), Known())


def place(one: Gap) -> tuple[str, str, int, int]:
    return one.kind, one.symbol, hole(one).start, hole(one).end


def test_a_round_asks_for_what_is_left_and_says_why_not_the_rest() -> None:
    gaps = [gap(name, at * MINUTE, at * MINUTE + SECOND) for at, name in enumerate(("ask", "rest", "lost", "wait"))]
    asked, rest, lost, wait = gaps
    gone, failed, before = (gap(name, at, at + 1) for at, name in enumerate(("gone", "failed", "before")))
    wish = Wish("trade", "A", 0, SECOND)
    plan = RepairPlan((Step(asked, REST, "time", (wish,)),), (wait,), (Left(rest, "later"),), (Hopeless(lost, "no"),))
    known = chunks([*gaps, gone, failed, before], failed="failed", before="failed")
    made = round_of(known, looked(gaps, plan), {place(one) for one in [*gaps, failed]}, 0)
    assert [one.chunk for one in made.asked] == [0]
    assert made.wishes == {0: [wish]}
    assert [(one.chunk, why, good) for one, why, good in made.left] == [(1, "later", False), (2, "no", True)]
    assert sorted(one.chunk for one in made.idle) == [3, 4, 6], "asked already; closed meanwhile; closed since"


def test_a_part_that_another_gap_asks_for_is_of_both() -> None:
    wide, narrow, all_ = gap("wide", 0, 9), gap("narrow", 2, 4), gap("all", 2, 4, "*")
    other = gap("other", 2, 4, "B")
    wishes = [Wish("trade", "A", 0, 9), Wish("trade", "B", 2, 4)]
    steps = (
        Step(narrow, REST, "time"), Step(wide, REST, "time", (wishes[0],)), Step(all_, REST, "time"),
        Step(other, REST, "time", (wishes[1],)), Step(gap("archived", 3, 5), ARCHIVE, "time", (wishes[0],)),
    )  # fmt: skip
    gaps = [step.gap for step in steps]
    made = round_of(chunks(gaps), looked(gaps, RepairPlan(steps)), {place(one) for one in gaps}, 0)
    assert made.wishes == {0: [wishes[0]], 1: [wishes[0]], 2: wishes, 3: [wishes[1]], 4: [wishes[0]]}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path, "box", END) as opened:
        yield opened


async def test_what_two_parts_share_ends_both_and_is_told_of_one(writer: LakeWriter) -> None:
    book, clock, wish = JobBook(writer), ManualClock(END), Wish("trade", "A", 0, 9)
    job = book.round(request_of(MARKET), chunks([gap("a", 0, 9), gap("b", 2, 4)]), END)
    assert job is not None
    watch = Watch(book, clock, writer.manifest.job_chunks(job.job), Todo({0: [wish], 1: [wish]}, {}), {}, again=False)
    await watch.begun(wish)
    assert {one.state for one in writer.manifest.job_chunks(job.job)} == {"running"}
    await watch.ended(Attempt(wish, "failed", "503", rows=7, requests=2))
    assert {(one.state, one.due_at) for one in writer.manifest.job_chunks(job.job)} == {("failed", None)}
    assert [(one.rows, one.requests, one.error) for one in writer.manifest.job_attempts(job.job)] == [
        (7, 2, "503"), (0, 0, "503"),
    ]  # fmt: skip
