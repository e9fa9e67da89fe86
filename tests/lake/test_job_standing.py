"""Standing jobs: added to for a day, held by hand, and never more of them than are worth keeping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import WrongQuestion
from lake.job_book import JobBook, Request
from lake.job_plan import REPAIR
from lake.job_standing import GAPS, KEPT, LONG, PARTS, added, held_up, of, surplus, takes_more
from lake.jobs import OVER, ChunkRow, JobRow
from lake.rebuild import rebuild
from lake.writer import LakeWriter
from market.times import HOUR, MINUTE, text
from tests.lake.test_jobs import NOW, chunk, job

MARKET = {"exchange": "binance", "market_type": "spot"}
REQUEST = Request(
    work=GAPS, what="open gaps", arguments=MARKET, priority=REPAIR, asked_by="the daemon"
)  # fmt: skip


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path, "box", NOW) as opened:
        yield opened


@pytest.fixture
def book(writer: LakeWriter) -> JobBook:
    return JobBook(writer)


def parts(*numbers: int) -> list[ChunkRow]:
    return [chunk(n, "", ts_from=NOW + n * MINUTE, ts_to=NOW + n * MINUTE + 1) for n in numbers]


def one(name: str = "r", **changes: object) -> JobRow:
    return job(name, work=GAPS, arguments=MARKET, **changes)


# --- what is decided ---


def test_of_a_market_are_its_own_jobs_the_newest_first() -> None:
    mine = [one(f"r-{n}", created_at=NOW + n) for n in range(3)]
    others = [job("b"), one("elsewhere")]
    others[1].arguments = {**MARKET, "market_type": "linear"}
    assert [each.job for each in of([*mine, *others], GAPS, MARKET)] == ["r-2", "r-1", "r-0"]


def test_a_round_waits_for_the_one_before_it_and_for_who_holds_it_by_hand() -> None:
    for state, why in (
        ("queued", "job r is at work"), ("running", "job r is at work"),
        ("paused", "job r is paused: dl jobs resume r"), ("done", None), ("failed", None),
    ):  # fmt: skip
        assert held_up([one(state=state, updated_at=NOW - 9 * LONG)], NOW) == why, state
    cancelled = one(state="cancelled", updated_at=NOW)
    assert held_up([cancelled], NOW + LONG - 1) == f"job r was cancelled: its market rests until {text(NOW + LONG)}"
    assert held_up([cancelled], NOW + LONG) is None
    assert held_up([one("new", state="done"), one(state="paused")], NOW) is not None, "an older one holds too"


def test_a_job_takes_rounds_for_a_day_or_until_it_has_many_parts() -> None:
    for state in ("done", "failed"):
        assert takes_more(one(state=state, created_at=NOW), PARTS - 1, NOW + LONG - 1)
        assert not takes_more(one(state=state, created_at=NOW), PARTS, NOW)
        assert not takes_more(one(state=state, created_at=NOW), 0, NOW + LONG)
    assert not takes_more(one(state="cancelled", created_at=NOW), 0, NOW)


def test_a_gap_that_is_asked_for_again_is_the_same_part() -> None:
    known = [chunk(7, ts_from=NOW, ts_to=NOW + 1, state="failed", tries=2, due_at=NOW + 9), chunk(8, state="done")]
    new = added([*parts(0, 5), *parts(5)], known)
    assert [(each.chunk, each.ts_from, each.state, each.tries, each.due_at) for each in new] == [
        (7, NOW, "queued", 2, None), (9, NOW + 5 * MINUTE, "queued", 0, None),
    ]  # fmt: skip


@given(st.lists(st.sampled_from(["queued", "paused", "done", "failed", "cancelled"]), max_size=30))
def test_only_what_is_over_is_forgotten_and_the_newest_never(states: list[str]) -> None:
    jobs = [one(f"r-{n}", state=state) for n, state in enumerate(states)]
    gone = surplus(jobs)
    assert not {each.job for each in jobs[:KEPT]} & set(gone)
    assert {each.job for each in jobs[KEPT:]} - set(gone) == {
        each.job for each in jobs[KEPT:] if each.state not in OVER
    }


# --- what is written ---


def ended(book: JobBook, name: str, now: int, error: str | None = None) -> None:
    """Every part that is queued, asked for."""
    for each in book._writer.manifest.job_chunks(name):
        if each.state == "queued":
            attempt = book.begun(each, now)
            told = msgspec.structs.replace(attempt, error=error, permanent=None if error is None else False)
            book.ended(each, told, now, again=False)
    book.put(name, "failed" if error else "done", now)


def test_rounds_of_a_day_are_one_job_and_the_next_day_s_another(book: JobBook, writer: LakeWriter) -> None:
    first = book.round(REQUEST, parts(0, 1), NOW)
    assert first is not None
    assert (first.state, first.asked_by) == ("queued", "the daemon")
    assert book.round(REQUEST, parts(2), NOW) is None, "it has not begun"
    ended(book, first.job, NOW, "503")
    again = book.round(REQUEST, parts(1, 2), NOW + HOUR)
    assert again is not None
    assert (again.job, again.state, again.error, again.created_at) == (first.job, "queued", None, NOW)
    assert [(each.chunk, each.state) for each in writer.manifest.job_chunks(first.job)] == [
        (0, "failed"), (1, "queued"), (2, "queued"),
    ]  # fmt: skip
    ended(book, first.job, NOW + HOUR)
    later = book.round(REQUEST, parts(0), NOW + LONG)
    assert later is not None
    assert later.job != first.job
    assert len(writer.manifest.job_chunks(first.job)) == 3


def test_paused_and_cancelled_by_hand_nothing_is_added(book: JobBook) -> None:
    first = book.round(REQUEST, parts(0), NOW)
    assert first is not None
    book.move(first.job, "pause", NOW)
    assert book.round(REQUEST, parts(1), NOW + 9 * LONG) is None, "for as long as it takes"
    assert book.round(
        msgspec.structs.replace(REQUEST, arguments={**MARKET, "market_type": "linear"}), parts(1), NOW
    ) is not None, "another market goes on"  # fmt: skip
    book.move(first.job, "cancel", NOW + 9 * LONG)
    assert book.round(REQUEST, parts(1), NOW + 10 * LONG - 1) is None
    new = book.round(REQUEST, parts(1), NOW + 10 * LONG)
    assert new is not None
    assert new.job != first.job


@pytest.mark.parametrize("error", [None, "503"])
def test_between_two_rounds_it_is_held_by_hand_too(book: JobBook, writer: LakeWriter, error: str | None) -> None:
    first = book.round(REQUEST, parts(0), NOW)
    assert first is not None
    ended(book, first.job, NOW, error)
    assert book.move(first.job, "pause", NOW).state == "paused"
    assert book.round(REQUEST, parts(1), NOW + LONG) is None
    assert book.move(first.job, "resume", NOW).state == "queued"
    (part,) = writer.manifest.job_chunks(first.job)
    assert part.state == ("queued" if error else "done"), "what failed is asked for at once"
    ended(book, first.job, NOW, error)
    assert book.move(first.job, "cancel", NOW + HOUR).state == "cancelled"
    assert book.round(REQUEST, parts(1), NOW + HOUR + LONG - 1) is None
    with pytest.raises(WrongQuestion, match="is cancelled"):
        book.move(first.job, "pause", NOW)


def test_another_job_that_is_over_cannot_be_held(book: JobBook) -> None:
    other = book.ask(msgspec.structs.replace(REQUEST, work="backfill"), parts(0), NOW)
    ended(book, other.job, NOW)
    for action in ("pause", "cancel"):
        with pytest.raises(WrongQuestion, match="is done"):
            book.move(other.job, action, NOW)


def test_of_five_hundred_symbols_with_gaps_every_minute_only_the_newest_are_told(tmp_path: Path) -> None:
    """A round writes what it asks for and no more, and however many there are, so many rows stay."""
    a_round, minutes, number = 50, 140, 0
    with LakeWriter.open(tmp_path / "lake", "box", NOW) as writer:
        book = JobBook(writer)
        for minute in range(minutes):
            now, wanted = NOW + minute * MINUTE, []
            for _ in range(a_round):
                wanted.append(chunk(0, "", symbol=f"S{number % 500}", ts_from=NOW + number, ts_to=NOW + number + 1))
                number += 1
            before = {each.job: len(writer.manifest.job_chunks(each.job)) for each in writer.manifest.jobs()}
            found = book.round(REQUEST, wanted, now)
            assert found is not None
            assert len(writer.manifest.job_chunks(found.job)) == before.get(found.job, 0) + a_round
            ended_at_once(writer, book, found, now)
        jobs = writer.manifest.jobs()
        assert number > KEPT * PARTS + a_round, "more than is kept"
        assert len(jobs) == KEPT
        held = [len(writer.manifest.job_chunks(each.job)) for each in jobs]
        assert max(held) < PARTS + a_round
        assert writer.manifest.run(
            lambda conn: conn.exec_driver_sql("select count(*) from job_chunks").scalar_one()
        ) == sum(held)
        told = writer.manifest.job_statuses()
    rebuild(tmp_path / "lake", "box", NOW + LONG)
    with LakeWriter.open(tmp_path / "lake", "box", NOW + LONG) as writer:
        assert [each.job for each in writer.manifest.job_statuses()] == [each.job for each in told]


def ended_at_once(writer: LakeWriter, book: JobBook, row: JobRow, now: int) -> None:
    queued = [each for each in writer.manifest.job_chunks(row.job) if each.state == "queued"]
    book.write_chunks([msgspec.structs.replace(each, state="done") for each in queued], now)
    book.put(row.job, "done", now)
