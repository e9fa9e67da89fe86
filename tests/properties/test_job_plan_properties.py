"""Decisions on jobs: what begins, what is asked for now, what follows; nothing is lost, nothing is tried for ever."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lake.job_plan import (
    AT_ONCE,
    ATTEMPTS,
    BACKFILL,
    INTERRUPTED,
    KEPT,
    LONGEST_PAUSE,
    REPAIR,
    after_attempt,
    beyond,
    choose,
    forgettable,
    interrupted,
    lane,
    left,
    name_of,
    outcome,
    pause_after,
    same,
)  # fmt: skip
from lake.jobs import AttemptRow, ChunkRow, JobRow
from market.times import DAY, HOUR, MINUTE, Interval, intersect, union
from tests.lake.test_jobs import NOW, attempt, chunk, job

STATES = st.sampled_from(["queued", "running", "paused", "done", "failed", "cancelled"])
CHUNK_STATES = st.sampled_from(["queued", "running", "done", "failed"])
DUE = st.one_of(st.none(), st.integers(NOW - HOUR, NOW + HOUR))
MARKETS = st.sampled_from([("binance", "spot"), ("binance", "linear"), ("okx", "spot"), ("okx", "linear")])


@st.composite
def jobs(draw: st.DrawFn) -> list[JobRow]:
    told = draw(
        st.lists(st.tuples(STATES, st.sampled_from([REPAIR, BACKFILL]), st.integers(0, 5), MARKETS), max_size=9)
    )
    return [
        job(f"j{number}", state=state, priority=priority, created_at=NOW + at, work="backfill",
            arguments={"exchange": market[0], "market_type": market[1]})
        for number, (state, priority, at, market) in enumerate(told)
    ]  # fmt: skip


@st.composite
def chunks(draw: st.DrawFn) -> list[ChunkRow]:
    told = draw(st.lists(st.tuples(CHUNK_STATES, DUE), max_size=8))
    return [chunk(number, state=state, due_at=due) for number, (state, due) in enumerate(told)]


@given(jobs(), st.randoms(use_true_random=False))
def test_what_begins_is_queued_first_in_its_lane_and_not_too_much_at_once(held: list[JobRow], random: object) -> None:
    running = [one.job for one in held if one.state == "running"][:AT_ONCE]
    found = choose(held, running)
    assert {one.state for one in found} <= {"queued"}
    assert len(found) + len(running) <= AT_ONCE
    lanes = [lane(one) for one in held if one.job in running] + [lane(one) for one in found]
    assert len(set(lanes) - {lane(one) for one in held if one.job in running}) == len(found)
    place = {one.job: (one.priority, one.created_at, one.job) for one in held}
    chosen = {one.job for one in found}
    for one in held:
        if one.state == "queued" and one.job not in chosen and len(found) + len(running) < AT_ONCE:
            assert lane(one) in lanes, "it waits for one of its own lane only"
            before = [place[other.job] for other in found if lane(other) == lane(one)]
            assert all(other < place[one.job] for other in before)
    shuffled = list(held)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, running) == found
    after = [msgspec.structs.replace(one, state="running") if one.job in chosen else one for one in held]
    assert choose(after, [*running, *chosen]) == [], "asking twice begins nothing twice"


def test_jobs_that_wait_for_those_of_another_work_do_not_keep_them_from_beginning() -> None:
    held = [
        job(f"r{n}", work="reconcile", state="running", arguments={"exchange": f"e{n}"}, priority=REPAIR)
        for n in range(AT_ONCE)
    ]
    held += [job("r", work="reconcile", arguments={"exchange": "e"}, priority=REPAIR), job("b", work="backfill")]
    assert [one.job for one in choose(held, [one.job for one in held[:AT_ONCE]])] == ["b"]


@given(chunks())
def test_every_queued_chunk_is_due_or_waits_for_a_time_that_is_told(held: list[ChunkRow]) -> None:
    found = left(held, NOW)
    queued = [one for one in held if one.state == "queued"]
    assert all(one in queued for one in found.due)
    waiting = [one for one in queued if one not in found.due]
    assert (found.more_at is None) == (not waiting)
    if found.more_at is not None:
        assert found.more_at > NOW
        assert len(left(held, found.more_at).due) > len(found.due)
    assert left(reversed(held), NOW) == found


@given(chunks())
def test_a_job_has_ended_when_nothing_of_it_is_left(held: list[ChunkRow]) -> None:
    states = {one.state for one in held}
    ended = outcome(held)
    assert (ended is None) == bool(states & {"queued", "running"})
    assert ended in (None, "failed" if "failed" in states else "done")


@given(st.lists(st.sampled_from(["passing", "permanent", "interrupted", "done"]), max_size=12))
def test_a_passing_reason_is_tried_again_so_often_and_a_permanent_one_never(ends: list[str]) -> None:
    one, passing, at = chunk(0), 0, NOW
    for end in ends:
        if one.state != "queued":
            break
        error = {"passing": "status 503", "permanent": "no such symbol", "interrupted": INTERRUPTED, "done": None}[end]
        permanent = {"passing": False, "permanent": True, "interrupted": None, "done": None}[end]
        at = max(at, one.due_at or 0)
        one = after_attempt(one, attempt(1, error=error, permanent=permanent), at)
        passing += end == "passing"
        if end == "done":
            assert one.state == "done"
        elif end == "permanent" or passing == ATTEMPTS:
            assert one.state == "failed"
        else:
            assert one.state == "queued"
            assert one.due_at == (at + pause_after(passing) if end == "passing" else None)
        assert one.tries == passing + (end == "permanent") * 0


def test_pauses_grow_to_an_hour() -> None:
    assert [pause_after(tries) // MINUTE for tries in range(6)] == [0, 1, 4, 16, 60, 60]
    assert pause_after(10**9) == LONGEST_PAUSE


@given(chunks(), st.lists(st.tuples(st.integers(0, 10), st.integers(1, 5)), max_size=4))
def test_what_is_added_to_a_job_is_what_no_open_chunk_of_it_has(
    held: list[ChunkRow], spans: list[tuple[int, int]]
) -> None:
    wanted = [
        chunk(0, ts_from=NOW + (start - 5) * HOUR, ts_to=NOW + (start - 5 + length) * HOUR) for start, length in spans
    ]
    found = beyond(wanted, held)
    numbers = [one.chunk for one in found]
    assert numbers == list(range(len(held), len(held) + len(found)))
    open_ = union(Interval(one.ts_from, one.ts_to) for one in held if one.state in ("queued", "running"))
    new = [Interval(one.ts_from, one.ts_to) for one in found]
    assert intersect(open_, union(new)) == []
    assert union([*open_, *new]) == union([*open_, *(Interval(one.ts_from, one.ts_to) for one in wanted)])


@given(st.lists(CHUNK_STATES, max_size=6), st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=6))
def test_what_a_dead_process_left_under_way_is_queued_and_ended(states: list[str], ends: list[int | None]) -> None:
    held = [chunk(number, state=state) for number, state in enumerate(states)]
    tried = [attempt(n + 1, ended_at=None if end is None else NOW + end) for n, end in enumerate(ends)]
    queued, ended = interrupted(held, tried, NOW + HOUR)
    assert [one.chunk for one in queued] == [one.chunk for one in held if one.state == "running"]
    assert {one.state for one in queued} <= {"queued"}
    assert [one.attempt for one in ended] == [one.attempt for one in tried if one.ended_at is None]
    assert all((one.error, one.permanent, one.ended_at) == (INTERRUPTED, None, NOW + HOUR) for one in ended)


def test_the_same_asking_is_the_same_job_until_that_is_over() -> None:
    asked = {"exchange": "binance", "symbols": ["A", "B"], "start": 1, "end": 2, "span": "the last 3 days"}
    held = [job("old", arguments=asked, state="done"), job("open", arguments=asked, state="paused")]
    again = {**asked, "symbols": ["B", "A"], "start": 5, "end": 6}
    assert same(held, "backfill", again) == held[1]
    assert same(held, "backfill", {**again, "span": "the last 4 days"}) is None
    assert same(held, "backfill", {**again, "symbols": ["A"]}) is None
    assert same(held, "archive", again) is None
    assert same(held[:1], "backfill", again) is None
    assert same([job("a", arguments={"start": 1})], "backfill", {"start": 2}) is None, "a period without words counts"


@given(STATES, st.integers(0, 60))
def test_only_what_is_over_for_long_is_forgotten(state: str, days: int) -> None:
    held = job(state=state, updated_at=NOW)
    gone = forgettable([held], NOW + days * DAY)
    assert gone == (("backfill-1",) if state in ("done", "failed", "cancelled") and days * DAY > KEPT else ())


@given(st.integers(0, 5))
def test_a_name_is_one_that_no_job_has(count: int) -> None:
    taken: list[str] = []
    for _ in range(count + 1):
        taken.append(name_of("backfill", NOW, taken))
    assert len(set(taken)) == len(taken)
    assert taken[0] == "backfill-20260921-141320"
    assert taken[1:2] == ["backfill-20260921-141320-2"][:count]


def test_an_attempt_that_was_never_ended_is_the_only_one_that_is_set_right() -> None:
    assert interrupted([], [attempt(1, ended_at=NOW)], NOW) == ([], [])
    late = AttemptRow(job="a", chunk=0, attempt=1, started_at=NOW + HOUR)
    assert interrupted([], [late], NOW)[1][0].ended_at == NOW + HOUR, "a clock that was set back makes no time negative"
