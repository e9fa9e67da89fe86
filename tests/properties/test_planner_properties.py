"""Plans as pure functions: order changes nothing, nothing is lost, jobs are disjoint, done work is not planned again.

`LAKE_FAULTS=full` takes 2,000 examples of each.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import exchanges
from collectors.planning import Want, changes, plan
from compactor import plan as compaction
from compactor import retention
from compactor.jobs import BookSamples, DayClose, FinalBars, HourBars, HourMerge, Job, Progress, Rules, View, day_span
from lake.rows import FRAMES, FileRow, SegmentRow
from market import kinds
from market.kinds import KINDS
from market.session import Connection, Gap
from market.times import DAY, HOUR, MINUTE, SECOND
from tests.support.faults import FULL
from transformer import plan as transformation

SETTINGS = settings(max_examples=2_000 if FULL else 40, deadline=None, print_blob=True)
DATES = ("2026-11-19", "2026-11-20", "2026-11-21")
NOW = day_span(DATES[-1]).end + 2 * HOUR
RULES = Rules(hour_delay=MINUTE, close_delay=15 * MINUTE, revision=HOUR, max_inputs=6)
KEEP = retention.Keep(grace=15 * MINUTE, forget=7 * DAY, rehash=DAY, raw=2 * DAY, frames=30 * DAY)
COMPACTED = ("trade", "agg_trade", "quote", "mark_price", "book_delta", "bar_1s", "bar_1m")
SYMBOLS = ("A", "B")
MARKET = ("binance", "spot")
RUN = transformation.Run(lake_id="l", run="r", now=NOW, max_bytes=1_000, lateness=5 * SECOND)


def file(
    number: int, kind: str, level: str, date: str, hour: int | None, symbol: str | None, parents: Sequence[str] = ()
) -> FileRow:
    start = day_span(date).start + (hour or 0) * HOUR + number * SECOND
    return FileRow(
        path=f"{level}/{kind}/{date}/{hour}/{symbol}/{number}", exchange=MARKET[0], market_type=MARKET[1], kind=kind,
        level=level, symbol=symbol, date=date, hour=hour, revision=0, rows=10 + number, bytes=1,
        sha256=f"{number:064d}", ts_min=start, ts_max=start + SECOND, created_at=start, parents=tuple(parents),
    )  # fmt: skip


hot_files = st.builds(
    lambda n, kind, date, hour: file(n, kind, "part", date, hour, None), st.integers(0, 30), st.sampled_from(COMPACTED),
    st.sampled_from(DATES), st.integers(0, 23),
)  # fmt: skip
day_files = st.builds(
    lambda kind, date, symbol: file(99, kind, "day", date, None, symbol if KINDS[kind].grain == "symbol" else None),
    st.sampled_from(COMPACTED), st.sampled_from(DATES), st.sampled_from(SYMBOLS),
)  # fmt: skip


@st.composite
def views(draw: st.DrawFn) -> View:
    """What the manifest may hold: any hot files, any daily ones, everything received long ago."""
    hot = {row.path: row for row in draw(st.lists(hot_files, max_size=25))}
    days = {row.path: row for row in draw(st.lists(day_files, max_size=8))}
    due = draw(st.frozensets(st.sampled_from([(*MARKET, date) for date in DATES])))
    progress = {(*MARKET, kind): Progress(NOW, open=draw(st.booleans())) for kind in COMPACTED}
    carry = frozenset(key for key in due if draw(st.booleans()))
    return View(
        list(hot.values()), list(days.values()), progress, due, {MARKET: NOW}, carry_due=carry,
        before=[row for row in days.values() if row.kind == "book_delta"],
    )  # fmt: skip


def shuffled(view: View, random: Random) -> View:
    mixed = []
    for rows in (view.hot, view.days, view.before):
        other = list(rows)
        random.shuffle(other)
        mixed.append(other)
    return msgspec.structs.replace(view, hot=mixed[0], days=mixed[1], before=mixed[2])


def taken(job: Job) -> tuple[FileRow, ...]:
    """The files that a job replaces: no other may."""
    match job:
        case HourMerge():
            return job.inputs
        case DayClose():
            return (*job.inputs, *job.base)
        case HourBars():
            return job.replaced
        case FinalBars():
            return (*job.held, *job.hot)
        case BookSamples():
            return () if job.held is None else (job.held,)


@SETTINGS
@given(views(), st.randoms(use_true_random=False), st.booleans())
def test_a_compaction_plan_does_not_depend_on_the_order_of_rows_and_no_file_is_in_two_jobs(
    view: View, random: Random, final: bool
) -> None:
    jobs = compaction.plan(view, NOW, RULES, final=final)
    assert compaction.plan(shuffled(view, random), NOW, RULES, final=final) == jobs
    used = [row.path for job in jobs for row in taken(job)]
    assert len(used) == len(set(used))
    assert {row.path for job in jobs for row in taken(job)} <= {row.path for row in (*view.hot, *view.days)}


def carried_out(view: View, jobs: Sequence[Job], number: int) -> View:
    """What the manifest holds once these jobs are committed."""
    hot, days = {row.path: row for row in view.hot}, {row.path: row for row in view.days}
    due, carry = set(view.bars_due), set(view.carry_due)
    for at, job in enumerate(jobs):
        serial = 1_000 * number + at
        for row in taken(job):
            hot.pop(row.path, None)
            days.pop(row.path, None)
        match job:
            case HourMerge(stream, date, hour):
                made = file(serial, stream[2], "hour", date, hour, None, [row.path for row in job.inputs])
                hot[made.path] = msgspec.structs.replace(made, rows=sum(row.rows for row in job.inputs), created_at=NOW)
            case HourBars(_, _, date, hour):
                for kind in kinds.BARS:
                    made = file(serial, kind, "hour", date, hour, None, [row.path for row in job.inputs])
                    hot[made.path] = made
            case DayClose(stream, date):
                for symbol in SYMBOLS if KINDS[stream[2]].grain == "symbol" else (None,):
                    made = file(serial, stream[2], "day", date, None, symbol, [row.path for row in job.inputs])
                    days[made.path] = msgspec.structs.replace(made, created_at=NOW)
                carry.discard((*stream[:2], date))
                if stream[2] in ("trade", "agg_trade", "quote"):
                    due.add((*MARKET, date))
            case FinalBars(_, _, date):
                for kind, symbol in itertools.product(kinds.BARS, SYMBOLS):
                    made = file(serial, kind, "day", date, None, symbol, [row.path for row in job.trades])
                    days[made.path] = made
                due.discard((*MARKET, date))
            case BookSamples():
                raise AssertionError("these rules sample nothing")
    return msgspec.structs.replace(
        view, hot=list(hot.values()), days=list(days.values()), bars_due=frozenset(due), carry_due=frozenset(carry),
    )  # fmt: skip


@SETTINGS
@given(views())
def test_when_plans_have_been_carried_out_nothing_is_left_hot_of_days_that_have_ended_and_nothing_to_plan(
    view: View,
) -> None:
    rows = {kind: sum(row.kind == kind for row in view.hot) for kind in COMPACTED if kind not in kinds.BARS}
    for number in range(1, 60):
        jobs = compaction.plan(view, NOW + 2 * HOUR, RULES, final=True)
        if not jobs:
            break
        view = carried_out(view, jobs, number)
    else:
        raise AssertionError(f"planning never ends: {jobs}")
    left = [row.path for row in view.hot if row.kind not in kinds.BARS]
    assert left == [], f"{rows} were hot"


segments = st.builds(
    lambda n, kind, state, failures, size, market: SegmentRow(
        path=f"raw/{market}/{kind}/{n}", exchange=MARKET[0], market_type=market, kind=kind, state=state,
        period_start=NOW - DAY + n * MINUTE, period_end=NOW - DAY + (n + 1) * MINUTE, rows=size, bytes=size,
        failures=failures, recorded_at=NOW - DAY, event_min=NOW - DAY + n * MINUTE,
        event_max=NOW - DAY + (n + 1) * MINUTE,
    ),
    st.integers(0, 200), st.sampled_from(["trade", "quote", FRAMES]),
    st.sampled_from(["open", "sealed", "transformed", "quarantined", "deleted"]), st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([0, 1, 400, 999, 5_000]), st.sampled_from(["spot", "linear"]),
)  # fmt: skip


@SETTINGS
@given(st.lists(segments, max_size=40, unique_by=lambda row: row.path), st.randoms(use_true_random=False))
def test_every_sealed_segment_is_in_one_transform_job_whatever_the_order_and_afterwards_in_none(
    rows: list[SegmentRow], random: Random
) -> None:
    jobs = transformation.transforms(rows, {}, RUN)
    other = list(rows)
    random.shuffle(other)
    assert transformation.transforms(other, {}, RUN) == jobs
    used = [row.path for job in jobs for row in job.segments]
    assert sorted(used) == sorted(row.path for row in rows if row.state == "sealed" and row.kind != FRAMES)
    for job in jobs:
        assert {(row.market_type, row.kind) for row in job.segments} == {(job.market_type, job.kind)}
        assert len(job.segments) == 1 or sum(row.bytes for row in job.segments) <= RUN.max_bytes
        assert len(job.segments) == 1 or not any(row.failures for row in job.segments)
        assert [row.period_start for row in job.segments] == sorted(row.period_start for row in job.segments)
    done = [msgspec.structs.replace(row, state="transformed") if row.path in set(used) else row for row in rows]
    assert transformation.transforms(done, {}, RUN) == []


gaps = st.builds(
    lambda at, wide, market: Gap(
        gap_id=f"{at}", exchange=MARKET[0], market_type=market, kind="trade", symbol="A",
        ts_from=NOW - DAY + at * MINUTE,
        ts_to=None if wide is None else NOW - DAY + (at + wide) * MINUTE, id_from=None, id_to=None, cause="cut",
        proof="interval", state="open", session=None, detected_at=NOW,
    ),
    st.integers(0, 200), st.sampled_from([0, 1, 30, None]), st.sampled_from(["spot", "linear"]),
)  # fmt: skip


@SETTINGS
@given(
    st.lists(segments, max_size=30, unique_by=lambda row: row.path), st.lists(gaps, max_size=4),
    st.integers(0, 40 * DAY), st.randoms(use_true_random=False), st.booleans(),
)  # fmt: skip
def test_retention_lets_go_of_the_same_in_any_order_never_of_what_a_gap_needs_and_of_more_as_time_passes(
    rows: list[SegmentRow], open_gaps: list[Gap], later: int, random: Random, rehashed: bool
) -> None:
    streams = {((row.exchange, row.market_type, row.kind), date) for row in rows for date in retention.dates(row)}
    days = {key: retention.DayState(NOW - HOUR, rehashed) for key in streams}
    gone = retention.plan([], rows, days, open_gaps, NOW + later, KEEP).segments
    other, mixed = list(rows), list(open_gaps)
    random.shuffle(other)
    random.shuffle(mixed)
    assert sorted(retention.plan([], other, days, mixed, NOW + later, KEEP).segments) == sorted(gone)
    assert len(gone) == len(set(gone))
    held = {row.path: row for row in rows}
    for row in (held[path] for path in gone):
        assert row.state == "transformed" or (row.kind == FRAMES and row.state not in ("open", "deleted"))
        assert row.kind == FRAMES or row.rows == 0 or rehashed
        for gap in open_gaps:
            if gap.market_type == row.market_type:
                end = NOW + later if gap.ts_to is None else gap.ts_to
                assert row.period_end is not None
                assert end < row.period_start or gap.ts_from > max(row.period_end, row.event_max or 0)
    sooner = retention.plan([], rows, days, open_gaps, NOW, KEEP).segments
    if not any(gap.ts_to is None for gap in open_gaps):
        assert set(sooner) <= set(gone)
    left = [row for row in rows if row.path not in set(gone)]
    assert retention.plan([], left, days, open_gaps, NOW + later, KEEP).segments == []


wanted_sources = st.lists(
    st.tuples(
        st.sampled_from(["spot", "linear"]), st.lists(st.sampled_from(["trade", "quote", "agg_trade"]), min_size=1,
                                                      max_size=3, unique=True),
        st.lists(st.integers(0, 120), min_size=1, max_size=60, unique=True), st.sampled_from([1, 1, 2]),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def planned(sources: Sequence[tuple[str, list[str], list[int], int]]) -> list[Connection]:
    venue = exchanges.load("binance")
    return plan(
        Want(venue, market, found, [f"S{n}" for n in symbols], venue.ENDPOINTS[market], redundancy=twins)
        for market, found, symbols, twins in sources
    )


def carried(connections: Sequence[Connection]) -> dict[tuple[str, str], set[str]]:
    """(market, stream) -> who carries it, twins as one."""
    found: dict[tuple[str, str], set[str]] = {}
    for connection in connections:
        for stream in connection.streams:
            name = connection.name.removesuffix("-a").removesuffix("-b")
            found.setdefault((connection.market_type, stream.name), set()).add(name)
    return found


@SETTINGS
@given(wanted_sources, wanted_sources)
def test_connections_carry_each_wanted_stream_once_within_limits_and_the_same_plan_twice_changes_nothing(
    old: list[tuple[str, list[str], list[int], int]], new: list[tuple[str, list[str], list[int], int]]
) -> None:
    venue = exchanges.load("binance")
    before, after = planned(old), planned(new)
    assert changes(before, before, lambda _: venue).nothing
    made = changes(before, after, lambda _: venue)
    result = carried(made.result)
    assert set(result) == set(carried(after)), "nothing that is wanted is lost, nothing else is carried"
    assert {len(names) for names in result.values()} <= {1}
    assert all(len(c.streams) <= venue.LIMITS[c.market_type].streams_per_connection for c in made.result)
    assert len({c.name for c in made.result}) == len(made.result)
    assert {c.name for c in made.keep} | set(made.replan) | set(made.retire) == {c.name for c in before}
    assert changes(made.result, after, lambda _: venue).nothing
