"""The book of jobs: asked for once, taken up again, moved by hand, and set right after a process died."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lake import job_book
from lake.errors import WrongQuestion
from lake.job_book import JobBook, Request
from lake.job_plan import ATTEMPTS, BACKFILL, INTERRUPTED, KEPT
from lake.jobs import ChunkRow
from lake.rebuild import rebuild
from lake.rows import SessionRow
from lake.writer import LakeWriter
from market.times import HOUR, SECOND
from tests.lake.test_jobs import ARGUMENTS, NOW, chunk

REQUEST = Request(work="backfill", what="klines", arguments=ARGUMENTS, priority=BACKFILL, asked_by="somebody")
CHUNKS = [chunk(number, "") for number in range(3)]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path, "box", NOW) as opened:
        yield opened


@pytest.fixture
def book(writer: LakeWriter) -> JobBook:
    return JobBook(writer)


def spans(chunks: list[ChunkRow]) -> list[tuple[int, int, int]]:
    return [(one.chunk, one.ts_from, one.ts_to) for one in chunks]


def test_a_request_is_a_job_with_its_chunks(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    assert (made.job, made.state, made.asked_by) == ("backfill-20260921-141320", "queued", "somebody")
    assert writer.manifest.jobs() == [made]
    assert spans(writer.manifest.job_chunks(made.job)) == spans(CHUNKS)
    other = book.ask(msgspec.structs.replace(REQUEST, arguments={"exchange": "okx"}), CHUNKS, NOW)
    assert other.job == "backfill-20260921-141320-2"


def test_a_job_is_found_by_its_words_until_it_is_over(book: JobBook, writer: LakeWriter) -> None:
    assert book.open(REQUEST) is None
    made = book.ask(REQUEST, CHUNKS, NOW)
    assert book.open(msgspec.structs.replace(REQUEST, asked_by="somebody else")) == made
    assert book.open(msgspec.structs.replace(REQUEST, arguments={"exchange": "okx"})) is None
    book.put(made.job, "done", NOW + 1)
    assert book.open(REQUEST) is None
    version = writer.manifest.version
    book.write_chunks([], NOW + 2)
    assert writer.manifest.version == version, "nothing is nothing to write down"


def test_many_chunks_are_written_some_at_a_time(
    book: JobBook, writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_book, "BATCH", 7)
    many = [chunk(0, "", ts_from=n * HOUR, ts_to=(n + 1) * HOUR, kind="trade") for n in range(30)]
    made = book.ask(REQUEST, many, NOW)
    assert [one.chunk for one in writer.manifest.job_chunks(made.job)] == list(range(30))


def test_asked_again_it_is_taken_up_with_what_it_lacks(book: JobBook, writer: LakeWriter) -> None:
    first = book.ask(REQUEST, CHUNKS[:2], NOW)
    book.move(first.job, "pause", NOW + 1)
    again = book.ask(REQUEST, CHUNKS, NOW + 2)
    assert (again.job, again.state) == (first.job, "queued")
    assert spans(writer.manifest.job_chunks(first.job)) == spans(CHUNKS)
    book.put(first.job, "running", NOW + 3)
    assert book.ask(REQUEST, [chunk(0, "", kind="trade")], NOW + 4).state == "running"
    assert len(writer.manifest.job_chunks(first.job)) == 3, "what runs is left alone"
    book.put(first.job, "done", NOW + 5)
    assert book.ask(REQUEST, CHUNKS, NOW + 6).job != first.job


def test_attempts_are_written_down_and_a_passing_reason_is_tried_again(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    book.put(made.job, "running", NOW)
    one, now = writer.manifest.job_chunks(made.job)[0], NOW
    for number in range(1, ATTEMPTS + 1):
        begun = book.begun(one, now)
        assert (begun.attempt, writer.manifest.job_chunks(made.job)[0].state) == (number, "running")
        failed = msgspec.structs.replace(begun, rows=3, requests=10, error="status 503", permanent=False)
        one = book.ended(one, failed, now + SECOND)
        assert (one.state, one.tries) == ("queued" if number < ATTEMPTS else "failed", number)
        now = one.due_at or now
    told = writer.manifest.job_attempts(made.job, 0)
    assert [(each.attempt, each.rows, each.error) for each in told] == [
        (number, 3, "status 503") for number in range(1, ATTEMPTS + 1)
    ]
    assert writer.manifest.job_attempts(made.job, 1) == []


def test_by_hand(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    with pytest.raises(WrongQuestion, match=r"is queued \(only one that is failed or paused can be resumed\)"):
        book.move(made.job, "resume", NOW)
    with pytest.raises(WrongQuestion, match="there is no job 'nothing'"):
        book.move("nothing", "pause", NOW)
    assert book.move(made.job, "pause", NOW).state == "paused"
    assert book.put(made.job, "done", NOW).state == "paused", "who worked on it has not heard of that yet"
    assert book.move(made.job, "resume", NOW).state == "queued"
    assert book.move(made.job, "cancel", NOW).state == "cancelled"
    with pytest.raises(WrongQuestion, match="is cancelled"):
        book.move(made.job, "resume", NOW)
    assert writer.manifest.jobs() == [book.one(made.job)]


def test_a_failed_job_is_resumed_with_what_can_be_tried_again(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS[:2], NOW)
    book.put(made.job, "running", NOW)
    first, second = writer.manifest.job_chunks(made.job)
    refused = msgspec.structs.replace(book.begun(first, NOW), error="no such symbol", permanent=True)
    book.ended(first, refused, NOW)
    book.write_chunks([msgspec.structs.replace(second, state="failed", tries=ATTEMPTS)], NOW)
    assert book.put(made.job, "failed", NOW, "no such symbol").error == "no such symbol"
    again = book.move(made.job, "resume", NOW)
    assert (again.state, again.error) == ("queued", None)
    states = [(one.state, one.tries) for one in writer.manifest.job_chunks(made.job)]
    assert states == [("failed", 0), ("queued", 0)]
    book.write_chunks([msgspec.structs.replace(second, state="done")], NOW)
    book.put(made.job, "failed", NOW)
    with pytest.raises(WrongQuestion, match="refused for good"):
        book.move(made.job, "resume", NOW)


def test_what_a_dead_process_left_running_goes_on(book: JobBook, writer: LakeWriter, tmp_path: Path) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    book.put(made.job, "running", NOW)
    book.begun(writer.manifest.job_chunks(made.job)[1], NOW)
    (found,) = book.settle(NOW + HOUR)
    assert (found.job, found.state) == (made.job, "queued")
    assert {one.state for one in writer.manifest.job_chunks(made.job)} == {"queued"}
    (attempt,) = writer.manifest.job_attempts(made.job)
    assert (attempt.error, attempt.permanent) == (INTERRUPTED, None)
    assert attempt.ended_at == attempt.started_at, "of a process that left no other row nothing is known but that"
    assert book.settle(NOW + HOUR) == []
    writer.close()
    assert rebuild(tmp_path, "box", NOW + 2 * HOUR, dry_run=True).differences == []


def session(name: str, opened: int, closed: int | None, cause: str | None) -> SessionRow:
    return SessionRow(
        session=f"box-{NOW}-{name}", exchange="binance", market_type="spot", source="rest", url="", opened_at=opened,
        closed_at=closed, close_cause=cause,
    )  # fmt: skip


def test_the_time_for_which_no_process_ran_is_no_time_of_work(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    book.put(made.job, "running", NOW)
    first, second, third = writer.manifest.job_chunks(made.job)
    done = book.begun(first, NOW + SECOND)
    book.begun(second, NOW + 2 * SECOND)
    book.ended(first, done, NOW + 10 * SECOND)
    book.begun(third, NOW + 11 * SECOND)  # and then it was killed
    writer.record_sessions([
        session("1", NOW - HOUR, NOW + 30 * SECOND, "crash"),
        session("2", NOW - HOUR, NOW + 20 * SECOND, "crash"),
        session("3", NOW + HOUR, NOW + HOUR + SECOND, "disconnect"),  # of the process that comes after it
    ])  # fmt: skip
    book.settle(NOW + 2 * HOUR)
    ends = {one.chunk: one.ended_at for one in writer.manifest.job_attempts(made.job)}
    assert ends == {0: NOW + 10 * SECOND, 1: NOW + 30 * SECOND, 2: NOW + 30 * SECOND}
    told = writer.manifest.job_status(made.job)
    assert told is not None
    assert told.progress.busy_seconds == 29.0


def test_what_was_cut_off_is_no_attempt_of_a_job_that_had_none_under_way(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    book.put(made.job, "running", NOW)
    first, *others = writer.manifest.job_chunks(made.job)
    book.ended(first, book.begun(first, NOW + SECOND), NOW + 10 * SECOND)
    book.write_chunks([msgspec.structs.replace(others[0], state="running")], NOW + 10 * SECOND)
    writer.record_sessions([session("1", NOW - HOUR, NOW + 30 * SECOND, "crash")])
    (found,) = book.settle(NOW + 2 * HOUR)
    assert (found.state, [one.ended_at for one in writer.manifest.job_attempts(made.job)]) == (
        "queued", [NOW + 10 * SECOND],
    )  # fmt: skip
    assert [one.state for one in writer.manifest.job_chunks(made.job)][1:] == ["queued", "queued"]


def test_a_pause_by_hand_ends_what_is_under_way_there_and_then(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    book.put(made.job, "running", NOW)
    book.begun(writer.manifest.job_chunks(made.job)[0], NOW)
    book.move(made.job, "pause", NOW + 5 * SECOND)
    (attempt,) = writer.manifest.job_attempts(made.job)
    assert attempt.ended_at == NOW + 5 * SECOND


def test_what_has_been_over_for_long_is_forgotten_when_the_next_is_asked_for(book: JobBook, writer: LakeWriter) -> None:
    made = book.ask(REQUEST, CHUNKS, NOW)
    book.move(made.job, "cancel", NOW)
    book.ask(REQUEST, CHUNKS, NOW + KEPT)
    assert made.job in {one.job for one in writer.manifest.jobs()}
    book.ask(msgspec.structs.replace(REQUEST, arguments={}), CHUNKS, NOW + KEPT + 1)
    assert made.job not in {one.job for one in writer.manifest.jobs()}
    assert writer.manifest.job_chunks(made.job) == []
