"""A backfill as a job, against a simulated venue: killed, stopped, refused, tried again, and never asked twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from collectors.adapters.paging import TRIES
from collectors.alone import alone
from collectors.backfill import Report, Summary, Watcher, offers
from collectors.exchanges import binance
from collectors.exchanges.binance import history
from collectors.history_plan import Held, Wish
from daemon.backfilling import Wanted, chunks_of, planned, request_of, wanted_of
from daemon.config import Config
from daemon.job_backfill import BackfillWork, todo
from daemon.jobs import carried
from lake.errors import WrongQuestion
from lake.job_book import JobBook
from lake.job_plan import ATTEMPTS, FIRST_PAUSE
from lake.jobs import AttemptRow, ChunkRow, JobRow, JobState
from lake.writer import LakeWriter
from market.errors import MarketError
from market.session import Coverage, Endpoint, Exchange
from market.times import DAY, HOUR, MINUTE, SECOND
from simulator import venues
from tests.support.past import BEGAN, CONFIG, END, Killed, Past, past

SPAN = (BEGAN + 10 * MINUTE, END - 10 * MINUTE)


class Job:
    """`dl backfill` from its beginning to its end, as often as it takes."""

    def __init__(self, venue: Past, kinds: Sequence[str], *more: str) -> None:
        self.venue = venue
        symbols = (*(book.symbol for book in venue.books("spot")), *more)
        self.wanted = Wanted("binance", "spot", tuple(kinds), symbols, *SPAN, "an hour")
        self.then: JobState = "paused"
        self.told: list[tuple[int, int, str]] = []
        self.stop = asyncio.Event()

    async def run(self) -> tuple[JobRow, Summary | None]:
        """One run. Raises Killed."""
        clock = self.venue.clock
        with self.venue.writer() as writer:
            book = JobBook(writer)
            book.settle(clock.now())
            made = planned(writer, self.wanted, clock.now())
            job = book.ask(request_of(self.wanted, "a test"), chunks_of(self.wanted, made), clock.now())
            work = BackfillWork(writer, book, Config(), clock, self._ask(writer))
            with self.venue._watched():
                done = await carried(
                    writer, book, clock, job,
                    lambda: work.run(job, lambda *one: self.told.append(one), self.stop), lambda: self.then,
                )  # fmt: skip
            return book.one(job.job), done

    def _ask(self, writer: LakeWriter) -> Any:
        rest = Endpoint(rest=venues.load("binance").bases("spot", self.venue.host)[0], ws={})

        async def ask(
            venue: Exchange, market: str, _: Endpoint, wishes: Sequence[Wish], report: Report, watch: Watcher
        ) -> Summary:
            return await alone(
                venue, market, rest, writer, CONFIG, self.venue.clock, wishes, report, self.stop, watch=watch
            )

        return ask

    def rows(self, job: str) -> tuple[list[ChunkRow], list[AttemptRow]]:
        with self.venue.writer() as writer:
            return writer.manifest.job_chunks(job), writer.manifest.job_attempts(job)


def held(venue: Past, kind: str) -> set[int]:
    (book,) = venue.books("spot")
    return {one.seq for one in venue.events(kind, book.symbol)}  # type: ignore[attr-defined]


async def test_killed_in_the_middle_of_a_chunk_it_goes_on_as_the_same_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE", 60)
    random, kills, names = Random(7), 0, set()
    async with past(tmp_path, "spot", symbols="1") as venue:
        mine = Job(venue, ["trade"])
        for _ in range(50):
            venue.kill_after = random.choice([3, 5, 8])
            with venue.writer() as writer:
                before, covered = len(venue.asked), writer.manifest.coverage()
            try:
                row, done = await mine.run()
            except Killed:
                kills += 1
                with venue.writer() as writer:
                    (row,) = writer.manifest.jobs()
                    names.add((row.job, row.state))
            else:
                break
            for one in venue.asked[before:]:
                if one.query.get("limit") != "1":
                    again = [
                        row["time"]
                        for row in msgspec.json.decode(one.body)
                        if any(c.ts_from <= row["time"] * 1000 < c.ts_to for c in covered)
                    ]
                    assert len(again) <= 2, "of what is held only borders"
        assert kills > 3
        assert {name for name, _ in names} == {row.job}
        assert row.state == "done"
        assert done is not None
        assert (done.chunks, done.done, done.failed) == (1, 1, [])
        (book,) = venue.books("spot")
        assert held(venue, "trade") == {one.id for one in book.trades if one.ts in range(*SPAN)}
        (only,), attempts = mine.rows(row.job)
        assert only.state == "done"
        assert [one.attempt for one in attempts] == list(range(1, len(attempts) + 1))
        assert {one.error for one in attempts[:-1]} == {"interrupted"}
        assert attempts[-1].error is None
        asked = len(venue.asked)
        venue.kill_after = None
        other, done = await mine.run()
        assert (other.state, len(venue.asked)) == ("done", asked), "nothing is asked for once all is held"


async def test_a_passing_reason_is_tried_again_with_growing_pauses_and_a_permanent_one_is_not(tmp_path: Path) -> None:
    async with past(tmp_path, "spot", symbols="1") as venue:
        for _ in range(25):  # more than two attempts' worth
            await venue.fault(fault="http_status", status=503)
        mine = Job(venue, ["kline"], "NOPE")
        row, done = await mine.run()
        chunks, attempts = mine.rows(row.job)
        (failed,) = [one for one in chunks if one.state == "failed"]
        assert failed.symbol == "NOPE"
        assert row.state == "failed"
        assert "1 of 2 parts failed: kline NOPE: " in (row.error or "")
        assert done is not None
        assert [(one.chunk.symbol, one.permanent) for one in done.failed] == [("NOPE", True)]
        (good,) = [one for one in chunks if one.state == "done"]
        tries = [one for one in attempts if one.chunk == good.chunk]
        assert [one.permanent for one in tries] == [False] * (len(tries) - 1) + [None]
        assert 1 < len(tries) <= ATTEMPTS
        for number, (one, later) in enumerate(itertools.pairwise(tries)):
            due = (one.ended_at or 0) + FIRST_PAUSE * 4**number
            beside = [other.ended_at or 0 for other in attempts if other.chunk != good.chunk and other.started_at < due]
            assert due <= later.started_at <= max(due, *beside) + 5 * SECOND, "what else is asked for comes to its end"
        assert [one.permanent for one in attempts if one.chunk == failed.chunk][-1] is True
        again, _ = await mine.run()
        assert again.job != row.job, "a job that failed is over: asked again it is another one"


async def test_a_venue_that_never_answers_is_given_up_after_so_many_attempts(tmp_path: Path) -> None:
    async with past(tmp_path, "spot", symbols="1") as venue:
        for _ in range(ATTEMPTS * TRIES):
            await venue.fault(fault="http_status", status=503)
        mine = Job(venue, ["kline"])
        row, _ = await mine.run()
        assert row.state == "failed"
        assert "1 of 1 parts failed" in (row.error or "")
        waits = [what for _, _, what in mine.told if what.startswith("1 parts are tried again in ")]
        assert len(waits) == ATTEMPTS - 1, "nothing else is asked for meanwhile"
        with venue.writer() as writer:
            assert len(writer.manifest.job_attempts(row.job)) == ATTEMPTS
            JobBook(writer).move(row.job, "resume", venue.clock.now())
        again, _ = await mine.run()
        assert (again.job, again.state) == (row.job, "done")


async def test_stopped_it_is_paused_and_the_same_asking_resumes_it(tmp_path: Path) -> None:
    async with past(tmp_path, "spot", symbols="1") as venue:
        mine = Job(venue, ["trade", "kline"])
        mine.stop.set()
        row, done = await mine.run()
        assert (row.state, done.requests if done else None) == ("paused", 0)
        mine.stop.clear()
        again, _ = await mine.run()
        assert (again.job, again.state) == (row.job, "done")
        done_at, total, _ = mine.told[-1]
        assert 0 < done_at <= total == 2 * (SPAN[1] - SPAN[0]) // SECOND
        with venue.writer() as writer:
            progress = writer.manifest.job_status(row.job)
        assert progress is not None
        assert (progress.progress.done_us, progress.progress.eta_seconds) == (2 * (SPAN[1] - SPAN[0]), 0.0)


def chunk(number: int, start: int, end: int, kind: str = "kline", symbol: str = "A") -> ChunkRow:
    return ChunkRow(
        job="j", chunk=number, exchange="binance", market_type="spot", kind=kind, symbol=symbol, ts_from=start,
        ts_to=end,
    )  # fmt: skip


def test_of_a_chunk_is_asked_what_is_not_held_and_no_chunk_asks_for_its_neighbour() -> None:
    day = END - END % DAY - 30 * DAY
    chunks = [chunk(0, day, day + HOUR), chunk(1, day + HOUR, day + 2 * HOUR), chunk(2, day, day + HOUR, symbol="B")]
    known = Held(
        [Coverage("binance", "spot", "kline", "A", "n-1-1", day + 10 * MINUTE, day + 20 * MINUTE),
         Coverage("binance", "spot", "kline", "B", "n-1-1", day, day + HOUR)],
        past=frozenset({"n-1-1"}),
    )  # fmt: skip
    made = todo(chunks, offers(binance, "spot"), known, END)
    assert {number: [(one.start - day, one.end - day) for one in each] for number, each in made.wishes.items()} == {
        0: [(0, 10 * MINUTE), (20 * MINUTE, HOUR)], 1: [(HOUR, 2 * HOUR)], 2: [],
    }  # fmt: skip
    assert made.refused == {}


def test_what_has_become_too_old_meanwhile_is_refused_and_the_rest_asked_for() -> None:
    now = END
    chunks = [
        chunk(0, now - 40 * DAY, now - 35 * DAY, "open_interest"),
        chunk(1, now - 31 * DAY, now - 20 * DAY, "open_interest"),
    ]
    made = todo(chunks, offers(binance, "linear"), Held(), now)
    assert sorted(made.refused) == [0, 1]
    assert "last 720 hours" in made.refused[0]
    assert made.wishes[0] == []
    assert sum(one.end - one.start for one in made.wishes[1]) > 9 * DAY


def test_each_of_many_chunks_gets_what_lies_in_it() -> None:
    week, first = 7 * DAY, END - END % DAY - 1000 * DAY
    chunks = [
        chunk(symbol * 50 + at, first + at * week, first + (at + 1) * week, symbol=f"S{symbol}")
        for symbol in range(10) for at in range(50)
    ]  # fmt: skip
    made = todo(chunks, offers(binance, "spot"), Held(), END)
    for one in chunks:
        mine = made.wishes[one.chunk]
        assert {wish.symbol for wish in mine} == {one.symbol}
        assert (mine[0].start, mine[-1].end, sum(w.end - w.start for w in mine)) == (one.ts_from, one.ts_to, week)


@pytest.mark.parametrize(
    "changed", [{"start": 5, "end": 5}, {"kinds": []}, {"symbols": []}, {"more": 1}, {"start": "yesterday"}]
)
def test_what_cannot_be_meant_is_no_job(changed: dict[str, Any]) -> None:
    told = {"exchange": "binance", "market_type": "spot", "kinds": ["kline"], "symbols": ["A"], "start": 1, "end": 2}
    assert wanted_of(told).said == (
        "binance spot: kline of A, 1970-01-01T00:00:00.000001Z to 1970-01-01T00:00:00.000002Z"
    )
    with pytest.raises((WrongQuestion, MarketError), match="what is to be brought in"):
        wanted_of({**told, **changed})


def test_many_symbols_are_counted_in_words() -> None:
    wanted = Wanted("binance", "spot", ("kline",), tuple(f"S{n}" for n in range(9)), 1, 2, "the last 3 days")
    assert wanted.said == "binance spot: kline of S0, S1, S2, S3, S4 and 4 more, the last 3 days"
