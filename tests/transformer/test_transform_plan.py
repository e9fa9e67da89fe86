"""transformer.plan: what is transformed, and up to where bars may be written."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from lake.rows import FileRow, SegmentRow
from market.session import Coverage, Gap
from market.times import HOUR, MINUTE, SECOND, Interval
from tests.support.market_rows import T0
from transformer import plan
from transformer.plan import Run, Stream

RUN = Run(lake_id="l", run="r", now=T0, max_bytes=100, lateness=5 * SECOND)
SPOT = ("binance", "spot")


def segment(n, *, kind="trade", state="sealed", size=10, failures=0, market_type="spot", **more):
    return SegmentRow(
        path=f"{market_type}-{kind}-{n}", exchange="binance", market_type=market_type, kind=kind, state=state,
        period_start=T0 + n * MINUTE, period_end=T0 + (n + 1) * MINUTE, bytes=size, failures=failures, **more,
    )  # fmt: skip


def file(first, last, kind="trade"):
    return FileRow(
        path=f"{kind}-{first}-{last}", exchange="binance", market_type="spot", kind=kind, level="part", symbol=None,
        date="2024-07-19", hour=0, revision=0, rows=1, bytes=1, sha256="0" * 64, ts_min=T0 + first, ts_max=T0 + last,
    )  # fmt: skip


def jobs(cursor, ready, trades, quotes=(), coverage=(), gaps=()):
    found = plan.bar_jobs(SPOT, cursor, ready, trades, quotes, coverage=coverage, begun={}, gaps=gaps, run=RUN)
    return [(job.start - T0, job.end - T0, [row.path for row in job.trades]) for job in found]


def test_only_sealed_segments_are_transformed_and_frames_are_none():
    rows = [segment(0), segment(1, state="open"), segment(2, state="transformed"), segment(3, state="quarantined"),
            segment(4, kind="frames")]  # fmt: skip
    assert [[r.path for r in job.segments] for job in plan.transforms(rows, {}, RUN)] == [["spot-trade-0"]]


def test_a_job_holds_one_stream_oldest_first_and_not_more_than_its_bytes():
    rows = [segment(2, size=50), segment(0, size=60), segment(1, size=40), segment(0, kind="quote", size=500)]
    found = plan.transforms(rows, {SPOT: 77}, RUN)
    assert [(job.kind, [r.path[-1] for r in job.segments], job.bars_until) for job in found] == [
        ("quote", ["0"], 77), ("trade", ["0", "1"], 77), ("trade", ["2"], 77)]  # fmt: skip


def test_a_segment_that_failed_goes_alone():
    rows = [segment(0), segment(1, failures=1), segment(2), segment(3)]
    found = plan.transforms(rows, {}, RUN)
    assert [[r.path[-1] for r in job.segments] for job in found] == [["0"], ["1"], ["2", "3"]]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(["trade", "quote"]), st.integers(0, 9), st.integers(0, 120), st.booleans()),
             max_size=20),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_plan_loses_nothing_repeats_nothing_and_does_not_depend_on_order(rows, shuffle):
    segments = [segment(n, kind=kind, size=size, failures=int(failed)) for kind, n, size, failed in rows]
    for place, row in enumerate(segments):
        row.path += f"-{place:03d}"
    found = plan.transforms(segments, {}, RUN)
    planned = [row.path for job in found for row in job.segments]
    assert sorted(planned) == sorted(row.path for row in segments)
    again = list(segments)
    shuffle.shuffle(again)
    assert plan.transforms(again, {}, RUN) == found
    assert random is not shuffle


def test_bars_wait_for_trades_and_quotes_plus_lateness_plus_skew():
    trade = Stream(T0 + 10 * MINUTE, None)
    assert plan.bars_ready(trade, None, 5 * SECOND, 0) == T0 + 9 * MINUTE
    assert plan.bars_ready(trade, Stream(T0 + 8 * MINUTE + 4 * SECOND, None), 5 * SECOND, 0) == T0 + 7 * MINUTE
    assert plan.bars_ready(Stream(T0 + 10 * MINUTE + 6 * SECOND, None), None, 5 * SECOND, 0) == T0 + 10 * MINUTE
    assert plan.bars_ready(Stream(T0 + 10 * MINUTE + 6 * SECOND, None), None, 5 * SECOND, 2 * SECOND) == T0 + 9 * MINUTE
    assert plan.bars_ready(Stream(None, None), None, 0, 0) is None


def test_a_segment_that_is_not_transformed_yet_holds_bars_back():
    assert plan.bars_ready(Stream(T0 + 10 * MINUTE, T0 + 3 * MINUTE), None, 0, 0) == T0 + 3 * MINUTE


def test_quotes_that_are_not_collected_any_more_hold_nothing_back():
    trade = Stream(T0 + HOUR, None)
    assert plan.bars_ready(trade, Stream(T0 + MINUTE, None), 0, 0) == T0 + HOUR
    assert plan.bars_ready(trade, Stream(T0 + MINUTE, T0 + MINUTE), 0, 0) == T0 + MINUTE
    assert plan.bars_ready(trade, Stream(None, None), 0, 0) == T0 + HOUR


def test_skew_is_how_far_receive_time_runs_ahead_and_never_below_zero():
    def ahead(us):
        return segment(0, recv_max=T0 + us, event_max=T0)

    assert plan.skew_of([ahead(10), ahead(30), ahead(20), segment(1)]) == 20
    assert plan.skew_of([ahead(10), segment(0, recv_max=T0 + 99)]) == 10, "without a time of the venue's"
    assert plan.skew_of([ahead(-1_500_000)]) == 0
    assert plan.skew_of([]) == 0


def test_bar_jobs_are_one_an_hour_between_the_cursor_and_what_is_ready():
    trades = [file(0, 10 * SECOND), file(30 * MINUTE, HOUR + 5), file(2 * HOUR, 2 * HOUR + MINUTE)]
    assert jobs(None, T0 + 3 * HOUR, trades) == [
        (0, HOUR, ["trade-0-10000000", "trade-1800000000-3600000005"]),
        (HOUR, 2 * HOUR, ["trade-1800000000-3600000005"]),
        (2 * HOUR, 3 * HOUR, ["trade-7200000000-7260000000"]),
    ]
    assert jobs(T0 + 45 * MINUTE, T0 + 50 * MINUTE, trades) == [
        (45 * MINUTE, 50 * MINUTE, ["trade-1800000000-3600000005"])]  # fmt: skip
    assert jobs(T0 + 5 * MINUTE, T0 + 10 * MINUTE, trades) == []
    assert jobs(T0 + 10 * HOUR, T0 + 11 * HOUR, trades) == []


def test_a_gap_that_grows_reaches_to_the_end_and_one_between_two_ids_has_an_extent():
    def gap(start, end):
        return Gap(gap_id=f"{start}", exchange="binance", market_type="spot", kind="trade", symbol="A", ts_from=start,
                   ts_to=end, id_from=None, id_to=None, cause="c", proof="p", state="open", session=None,
                   detected_at=0)  # fmt: skip

    covered = [Coverage("binance", "spot", "trade", "A", s, a, b) for s, a, b in (("x", 1, 5), ("y", 5, 9))]
    found = plan.bar_jobs(SPOT, None, T0 + HOUR, [file(0, 1)], [], coverage=covered, gaps=[gap(3, 3), gap(7, None)],
                          begun={}, run=RUN)[0]  # fmt: skip
    assert found.gaps == {"A": [Interval(3, 4), Interval(7, plan.FAR)]}
    assert found.coverage == {"A": [Interval(1, 9)]}


def covered(kind, symbol, start=0, end=HOUR):
    return Coverage("binance", "spot", kind, symbol, "s", T0 + start, T0 + end)


def test_bars_follow_aggregated_trades_where_there_is_nothing_else_and_both_where_both_are_collected():
    none, agg = Stream(None, None), Stream(T0 + 10 * MINUTE, None)
    assert plan.bars_ready(none, None, 0, 0, agg) == T0 + 10 * MINUTE
    assert plan.bars_ready(none, Stream(T0 + 8 * MINUTE, None), 0, 0, agg) == T0 + 8 * MINUTE
    assert plan.bars_ready(Stream(T0 + 9 * MINUTE, None), None, 0, 0, agg) == T0 + 9 * MINUTE
    assert plan.bars_ready(Stream(T0 + HOUR, None), None, 0, 0, agg) == T0 + HOUR
    assert plan.bars_ready(Stream(T0 - HOUR, None), None, 0, 0, agg) == T0 + 10 * MINUTE


def test_aggregated_trades_are_read_where_a_symbol_has_no_others():
    files = [file(0, 5), file(0, 5, "agg_trade")]
    assert jobs(None, T0 + HOUR, files[1:]) == [(0, HOUR, ["agg_trade-0-5"])]
    assert jobs(None, T0 + HOUR, files) == [(0, HOUR, ["agg_trade-0-5", "trade-0-5"])]
    both = [covered("trade", "A"), covered("agg_trade", "A")]
    assert jobs(None, T0 + HOUR, files, coverage=both) == [(0, HOUR, ["trade-0-5"])]
    assert jobs(None, T0 + HOUR, files[1:], coverage=both) == []
    other = [*both, covered("agg_trade", "B")]
    assert jobs(None, T0 + HOUR, files, coverage=other) == [(0, HOUR, ["agg_trade-0-5", "trade-0-5"])]


def test_coverage_and_gaps_of_a_symbol_are_those_of_its_source():
    def gap(kind, symbol):
        return Gap(gap_id=kind + symbol, exchange="binance", market_type="spot", kind=kind, symbol=symbol, ts_from=T0,
                   ts_to=T0 + (5 if kind == "trade" else 7), id_from=None, id_to=None, cause="c", proof="p",
                   state="open", session=None, detected_at=0)  # fmt: skip

    held = [covered("trade", "A", 3), covered("agg_trade", "A"), covered("agg_trade", "B", 8)]
    (job,) = plan.bar_jobs(SPOT, None, T0 + HOUR, [file(0, 5), file(0, 5, "agg_trade")], [], coverage=held, run=RUN,
                           gaps=[gap("trade", "A"), gap("agg_trade", "A"), gap("agg_trade", "B")],
                           begun={})  # fmt: skip
    assert job.traded == {"A"}
    assert job.coverage == {"A": [Interval(T0 + 3, T0 + HOUR)], "B": [Interval(T0 + 8, T0 + HOUR)]}
    assert job.gaps == {"A": [Interval(T0, T0 + 5)], "B": [Interval(T0, T0 + 7)]}
    (job,) = plan.bar_jobs(SPOT, None, T0 + HOUR, [file(0, 5), file(0, 5, "agg_trade")], [], coverage=held, run=RUN,
                           begun={}, gaps=[gap("trade", "*"), gap("agg_trade", "*")])  # fmt: skip
    assert job.gaps == {"A": [Interval(T0, T0 + 5)], "B": [Interval(T0, T0 + 7)]}, "nothing that both have"
