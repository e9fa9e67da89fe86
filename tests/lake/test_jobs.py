"""Jobs in the manifest: written by key, read by anybody, restored from the ledger, and what their rows say together."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import migrations
from lake.jobs import AttemptRow, ChunkRow, JobChange, JobProgress, JobRow, after, eta, possible, progress_of
from lake.manifest import Manifest
from lake.rebuild import rebuild
from lake.writer import LakeWriter
from market.times import HOUR, SECOND
from tests.support import golden

NOW = 1_790_000_000_000_000
ARGUMENTS = {"exchange": "binance", "symbols": ["BTCUSDT"], "start": NOW - 3 * HOUR}


def job(name: str = "backfill-1", **changes: object) -> JobRow:
    told = {"job": name, "what": "klines of BTCUSDT", "work": "backfill", "arguments": ARGUMENTS, "priority": 3,
            "created_at": NOW, "updated_at": NOW, "asked_by": "somebody"}  # fmt: skip
    return JobRow(**(told | changes))  # type: ignore[arg-type]


def chunk(number: int, name: str = "backfill-1", **changes: object) -> ChunkRow:
    told = {"job": name, "chunk": number, "exchange": "binance", "market_type": "spot", "kind": "kline",
            "symbol": "BTCUSDT", "ts_from": NOW - (3 - number) * HOUR, "ts_to": NOW - (2 - number) * HOUR}  # fmt: skip
    return ChunkRow(**(told | changes))  # type: ignore[arg-type]


def attempt(number: int, of: int = 0, name: str = "backfill-1", **changes: object) -> AttemptRow:
    told = {"job": name, "chunk": of, "attempt": number, "started_at": NOW + number * SECOND}
    return AttemptRow(**(told | changes))  # type: ignore[arg-type]


WHOLE = JobChange(jobs=(job(),), chunks=(chunk(0), chunk(1), chunk(2)))
LATER = JobChange(
    jobs=(job(state="failed", updated_at=NOW + 9, error="the venue has no such symbol"),),
    chunks=(chunk(0, state="done"), chunk(1, state="failed")),
    attempts=(
        attempt(1, 0, ended_at=NOW + 2 * SECOND, rows=60, requests=2),
        attempt(1, 1, ended_at=NOW + 3 * SECOND, requests=1, error="status 400", permanent=True),
    ),
)


def test_the_last_word_on_a_key_counts_and_telling_it_twice_is_telling_it_once(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "box", NOW) as writer:
        writer.record(jobs=[WHOLE])
        before = writer.manifest.version
        for _ in range(2):
            writer.record(jobs=[LATER])
        held = writer.manifest
        assert held.version > before
        assert held.jobs() == list(LATER.jobs)
        assert held.job("backfill-1") == LATER.jobs[0]
        assert held.job("backfill-2") is None
        assert held.job_chunks("backfill-1") == [*LATER.chunks, WHOLE.chunks[2]]
        assert held.job_attempts("backfill-1") == list(LATER.attempts)
        assert held.jobs("queued") == []
        assert held.jobs(("queued", "failed"), work="backfill") == list(LATER.jobs)
        assert held.jobs(work="repair") == []


def test_jobs_come_in_the_order_in_which_they_were_asked_for_each_with_how_far_it_is(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "box", NOW) as writer:
        writer.record(jobs=[JobChange(jobs=(job("b", created_at=NOW + 1), job("a", created_at=NOW + 1)))])
        writer.record(jobs=[WHOLE, LATER])
        found = writer.manifest.job_statuses()
        assert [one.job.job for one in found] == ["backfill-1", "a", "b"]
        assert writer.manifest.job_statuses("queued") == found[1:]
        assert writer.manifest.job_status("backfill-1") == found[0]
        assert writer.manifest.job_status("c") is None
        assert found[0].progress == JobProgress(
            chunks=3, chunks_done=1, chunks_failed=1, done_us=HOUR, total_us=3 * HOUR, rows=60, requests=3, attempts=2,
            busy_seconds=2.0, eta_seconds=1.0,
        )  # fmt: skip


def test_a_forgotten_job_is_gone_with_all_that_is_its_own(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "box", NOW) as writer:
        writer.record(jobs=[WHOLE, LATER, JobChange(jobs=(job("other"),), chunks=(chunk(0, "other"),))])
        writer.record(jobs=[JobChange(forget=("backfill-1",))])
        assert [one.job for one in writer.manifest.jobs()] == ["other"]
        assert writer.manifest.job_chunks("backfill-1") == writer.manifest.job_attempts("backfill-1") == []
        assert len(writer.manifest.job_chunks("other")) == 1


def test_a_rebuild_restores_them_from_the_ledger(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path, "box", NOW) as writer:
        writer.record(jobs=[WHOLE])
        writer.record(
            jobs=[JobChange(jobs=(job("gone"),), chunks=(chunk(0, "gone"),), attempts=(attempt(1, 0, "gone"),))]
        )
        writer.record(jobs=[LATER])
        writer.record(jobs=[JobChange(forget=("gone",))])
        was = writer.manifest.job_statuses()
    made = rebuild(tmp_path, "box", NOW + SECOND, dry_run=True)
    assert (made.differences, made.contradictions) == ([], [])
    (tmp_path / "manifest.db").unlink()
    rebuild(tmp_path, "box", NOW + SECOND)
    anew = Manifest.read_only(tmp_path)
    assert (anew.job_statuses(), anew.job_chunks("backfill-1")) == (was, [*LATER.chunks, WHOLE.chunks[2]])
    assert anew.job_attempts("gone") == []
    anew.close()


@pytest.mark.parametrize("name", golden.NAMES)
def test_an_older_lake_has_none_and_takes_some_once_it_is_written_to(tmp_path: Path, name: str) -> None:
    lake = golden.unpack(name, tmp_path / "lake")
    reader = Manifest.read_only(lake)
    assert reader.meta().schema_version == golden.VERSIONS[name] < 5
    assert (reader.jobs(), reader.job("a"), reader.job_statuses(), reader.job_chunks("a")) == ([], None, [], [])
    reader.close()
    with LakeWriter.open(lake, golden.NODE, golden.NOW, simulated=None) as writer:
        writer.record(jobs=[WHOLE])
        assert writer.manifest.jobs() == list(WHOLE.jobs)
    assert golden.version_of(lake) == migrations.VERSION


def test_a_state_that_there_is_not_is_refused_by_the_database(tmp_path: Path) -> None:
    LakeWriter.open(tmp_path, "box", NOW).close()
    db = sqlite3.connect(tmp_path / "manifest.db")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        db.execute("INSERT INTO jobs VALUES ('a', 'b', 'c', '{}', 3, 'resting', 1, 1, 'd', NULL)")
    db.close()


def test_which_state_follows_which_action() -> None:
    states = ("queued", "running", "paused", "done", "failed", "cancelled")
    assert [after(state, "pause") for state in states] == ["paused", "paused", None, None, None, None]
    assert [after(state, "resume") for state in states] == [None, None, "queued", None, "queued", None]
    assert [after(state, "cancel") for state in states] == ["cancelled", "cancelled", "cancelled", None, None, None]
    assert possible("resume") == "failed or paused"


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e6))
def test_an_eta_is_told_once_something_is_done_and_is_never_negative(done: int, total: int, seconds: float) -> None:
    found = eta(done, total, seconds)
    if done >= total:
        assert found == 0.0
    elif done and seconds:
        assert found is not None
        assert found >= 0.0
    else:
        assert found is None


@given(st.lists(st.sampled_from(["queued", "running", "done", "failed"]), max_size=8), st.permutations(range(4)))
def test_progress_counts_each_chunk_once_and_time_that_attempts_share_once(states: list[str], order: list[int]) -> None:
    chunks = [chunk(number, state=state) for number, state in enumerate(states)]
    attempts = [attempt(one, ended_at=NOW + (one + 2) * SECOND, rows=2) for one in order]
    found = progress_of(chunks, attempts)
    assert found.total_us == len(states) * HOUR
    assert found.done_us == states.count("done") * HOUR
    assert (found.chunks_done, found.chunks_failed) == (states.count("done"), states.count("failed"))
    assert (found.rows, found.busy_seconds) == (8, 5.0), "attempts of two seconds that begin a second apart"
    assert progress_of(chunks, reversed(attempts)) == found


def test_of_what_is_under_way_no_clock_is_asked() -> None:
    """That of who looks may be a simulated lake's by a day, or years behind a job that nobody works on any more."""
    chunks = [chunk(0, state="done"), chunk(1, state="running"), chunk(2)]
    found = progress_of(chunks, [attempt(0, ended_at=NOW + 2 * SECOND), attempt(1, 1)])
    assert (found.busy_seconds, found.eta_seconds, found.attempts) == (2.0, 4.0, 2)
