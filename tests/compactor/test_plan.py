"""The compaction plan as a pure function: when an hour and a day close, in which order, and when nothing is to do."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.jobs import DayClose, FinalBars, HourBars, HourMerge, Progress, Rules, View, day_span
from compactor.plan import plan
from lake.rows import FileRow
from market.times import DAY, HOUR, MINUTE, SECOND

DATE = "2026-11-20"
START = day_span(DATE).start
END = START + DAY
RULES = Rules(hour_delay=MINUTE, close_delay=15 * MINUTE, revision=HOUR, max_inputs=8)
TRADE = ("binance", "spot", "trade")
QUOTE = ("binance", "spot", "quote")


def file(n=0, *, kind="trade", level="part", hour=0, symbol=None, date=DATE, **more):
    at = day_span(date).start + (hour or 0) * HOUR + n * SECOND
    held = {"revision": 0, "rows": 10, "bytes": 1, "sha256": f"{n:064d}", "ts_min": at, "ts_max": at + SECOND}
    held |= {"created_at": at}
    return FileRow(
        path=f"{level}/{kind}/{date}/{hour}/{symbol}/{n}", exchange="binance", market_type="spot", kind=kind,
        level=level, symbol=symbol, date=date, hour=None if level == "day" else hour, **(held | more),
    )  # fmt: skip


def passed(at=END + HOUR):
    return {TRADE: Progress(at, open=True), QUOTE: Progress(at, open=True)}


def test_nothing_to_do_is_an_empty_plan():
    assert plan(View(), END + DAY, RULES) == []


def test_the_parts_of_a_closed_hour_become_one_file():
    view = View([file(1), file(0)], progress=passed(START + 2 * HOUR))
    (job,) = plan(view, START + HOUR + MINUTE, RULES)
    assert isinstance(job, HourMerge)
    assert [row.path for row in job.inputs] == [file(0).path, file(1).path]
    assert job.revision == 1


@pytest.mark.parametrize(
    "now, progress",
    [
        (START + HOUR + MINUTE - 1, Progress(START + 2 * HOUR, open=True)),
        (START + HOUR + MINUTE, Progress(START + HOUR, open=True)),
        (START + HOUR + MINUTE, Progress(START + 2 * HOUR, open=True, waiting_from=START + HOUR - 1)),
    ],
    ids=["too early", "watermark not beyond", "a segment waits"],
)
def test_an_hour_waits_until_nothing_of_it_can_come(now, progress):
    assert plan(View([file(0), file(1)], progress={TRADE: progress}), now, RULES) == []


def test_a_single_part_is_left_as_it_is_until_the_day_closes():
    assert plan(View([file(0)], progress=passed()), START + 5 * HOUR, RULES) == []


def test_late_parts_of_a_merged_hour_wait_for_the_revision_interval():
    merged = file(0, level="hour", created_at=START + 2 * HOUR)
    view = View([merged, file(1)], progress=passed())
    assert plan(view, START + 3 * HOUR - 1, RULES) == []
    assert len(plan(view, START + 3 * HOUR, RULES)) == 1


@pytest.mark.parametrize(
    "now, progress, closes",
    [
        (END + 15 * MINUTE, Progress(END + 1, open=True), True),
        (END + 15 * MINUTE - 1, Progress(END + 1, open=True), False),
        (END + 15 * MINUTE, Progress(END, open=True), False),
        (END + 15 * MINUTE, Progress(END - 1, open=False), True),
        (END + 15 * MINUTE, Progress(None, open=False), True),
        (END + 15 * MINUTE, Progress(END + 1, open=True, waiting_from=END - 1), False),
    ],
    ids=["passed", "early", "at the end", "nobody writes", "imported", "a segment waits"],
)
def test_a_day_closes_after_its_delay_once_the_watermark_is_beyond(now, progress, closes):
    jobs = plan(View([file(0), file(1, hour=5)], progress={TRADE: progress}), now, RULES)
    assert [type(job) for job in jobs if not isinstance(job, HourMerge)] == [DayClose] * closes


def test_final_waits_for_no_delay_but_for_segments_that_are_not_read_yet():
    waiting = Progress(END, open=False, waiting_from=START)
    assert len(plan(View([file(0)], progress={TRADE: Progress(END)}), END, RULES, final=True)) == 1
    assert plan(View([file(0)], progress={TRADE: waiting}), END, RULES, final=True) == []
    assert plan(View([file(0)], progress={TRADE: Progress(END - 1)}), END - 1, RULES, final=True) == []
    assert plan(View([file(0)], progress={TRADE: Progress(END - 1, open=True)}), END, RULES, final=True) == []
    assert len(plan(View([file(0)], progress={TRADE: Progress(END, open=True)}), END, RULES, final=True)) == 1


def test_a_closed_day_is_revised_at_most_once_an_interval():
    day = file(0, level="day", symbol="A", created_at=END + HOUR)
    view = View([file(1)], [day], passed())
    assert plan(view, END + 2 * HOUR - 1, RULES) == []
    (job,) = plan(view, END + 2 * HOUR, RULES)
    assert isinstance(job, DayClose)
    assert job.base == (day,)


def test_a_day_of_too_many_files_has_its_hours_merged_first():
    parts = [file(n, hour=n % 3) for n in range(9)]
    jobs = plan(View(parts, progress=passed()), END + HOUR, RULES)
    assert [(type(job), job.hour) for job in jobs] == [(HourMerge, 0), (HourMerge, 1), (HourMerge, 2)]


def test_an_hour_of_too_many_files_takes_the_smallest_first():
    parts = [file(n, rows=100 - n) for n in range(12)]
    (job,) = plan(View(parts, progress=passed()), START + 2 * HOUR, RULES)
    assert {row.rows for row in job.inputs} == set(range(89, 97))


def test_final_bars_follow_when_trades_and_quotes_are_closed():
    trade, quote = file(0, kind="trade", level="day", symbol="A"), file(0, kind="quote", level="day", symbol="A")
    due = frozenset({("binance", "spot", DATE)})
    (job,) = plan(View([], [trade, quote], passed(), due), END + HOUR, RULES)
    assert isinstance(job, FinalBars)
    assert (job.trades, job.quotes) == ((trade,), (quote,))
    still_hot = View([file(1, kind="quote", created_at=END)], [trade], passed(), due)
    assert not any(isinstance(job, FinalBars) for job in plan(still_hot, END + HOUR, RULES))


def test_bars_that_are_hot_after_their_day_closed_are_made_final():
    trade, bar = file(0, level="day", symbol="A"), file(0, kind="bar_1s")
    (job,) = plan(View([bar], [trade], passed()), END + HOUR, RULES)
    assert isinstance(job, FinalBars)
    assert job.hot == (bar,)


def test_an_hours_bars_are_made_again_once_from_its_one_file_of_trades():
    trades = file(0, level="hour", revision=1)
    bars = [file(n, kind=kind) for kind in ("bar_1s", "bar_1m") for n in (1, 2)]
    until = {("binance", "spot"): START + HOUR}
    (job,) = plan(View([trades, *bars], progress=passed(), bars_until=until), START + 2 * HOUR, RULES)
    assert isinstance(job, HourBars)
    assert len(job.replaced) == 4
    made = [file(3, kind=kind, level="hour", parents=(trades.path,)) for kind in ("bar_1s", "bar_1m")]
    assert plan(View([trades, *made], progress=passed(), bars_until=until), START + 2 * HOUR, RULES) == []


def test_bars_that_the_transformer_made_of_a_whole_hour_that_was_over_are_not_made_again():
    trades, over = file(0), START + HOUR + RULES.hour_delay
    until = {("binance", "spot"): START + HOUR}

    def planned(parents: tuple[str, ...], at: int) -> list[type]:
        made = [file(3, kind=kind, parents=parents, created_at=at) for kind in ("bar_1s", "bar_1m")]
        view = View([trades, *made], progress=passed(), bars_until=until)
        return [type(job) for job in plan(view, START + 2 * HOUR, RULES)]

    assert planned((trades.path,), over) == []
    assert planned((trades.path,), over - 1) == [HourBars], "what was missing of the hour may have been told since"
    assert planned(("another",), over) == [HourBars]
    assert planned((), over) == [HourBars]


def test_an_hours_bars_wait_until_the_transformer_is_past_the_hour():
    view = View(
        [file(0), *(file(0, kind=kind) for kind in ("bar_1s", "bar_1m"))],
        progress=passed(),
        bars_until={("binance", "spot"): START + HOUR - 1},
    )
    assert plan(view, START + 2 * HOUR, RULES) == []


def test_a_job_that_failed_three_times_is_parked_until_its_inputs_change():
    view = View([file(0)], progress=passed())
    (job,) = plan(view, END + HOUR, RULES)
    assert plan(View([file(0)], progress=passed(), failures={job.key: 2}), END + HOUR, RULES) == [job]
    assert plan(View([file(0)], progress=passed(), failures={job.key: 3}), END + HOUR, RULES) == []
    changed = View([file(0), file(1, hour=3)], progress=passed(), failures={job.key: 3})
    assert len(plan(changed, END + HOUR, RULES)) == 1


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans())))
def test_the_order_of_rows_changes_nothing_and_every_file_is_in_at_most_one_merge(shuffle: random.Random, made):
    rows = {
        row.path: row
        for n, hour, quote in made
        for row in [file(n, hour=hour, kind="quote" if quote else "trade", date=f"2026-11-{18 + n % 3}")]
    }
    view = View(list(rows.values()), progress=passed(END + DAY))
    other = list(rows.values())
    shuffle.shuffle(other)
    jobs = plan(view, END - 2 * HOUR, RULES)
    assert plan(View(other, progress=passed(END + DAY)), END - 2 * HOUR, RULES) == jobs
    used = [row.path for job in jobs for row in job.inputs]
    assert len(used) == len(set(used))
    assert [job.date for job in jobs] == sorted(job.date for job in jobs)


def test_final_bars_are_made_of_one_file_a_symbol_of_trades_wherever_they_are_collected():
    traded = file(0, level="day", symbol="A")
    aggregated = [file(n, kind="agg_trade", level="day", symbol=symbol) for n, symbol in enumerate("ABC")]
    market = ("binance", "spot", DATE)
    view = View([], [*aggregated, traded], passed(), frozenset({market}), traded={market: frozenset({"C"})})
    (job,) = plan(view, END + HOUR, RULES)
    assert isinstance(job, FinalBars)
    assert job.trades == (traded, aggregated[1])


def test_final_bars_wait_for_the_aggregated_trades_too():
    due = frozenset({("binance", "spot", DATE)})
    day, part = file(0, level="day", symbol="A"), file(1, kind="agg_trade", created_at=END)
    progress = passed() | {("binance", "spot", "agg_trade"): Progress(END - 1, open=True)}
    assert plan(View([part], [day], progress, due), END + HOUR, RULES) == []
    assert plan(View([], [day], progress, due), END + HOUR, RULES) == []


def test_an_hours_bars_take_one_file_of_each_kind_and_wait_for_their_merge():
    bars = [file(0, kind=kind) for kind in ("bar_1s", "bar_1m")]
    until = {("binance", "spot"): START + HOUR}
    trades, quotes = file(0, level="hour", kind="agg_trade"), file(0, kind="quote")
    agg = passed() | {("binance", "spot", "agg_trade"): Progress(END, open=True)}
    (job,) = plan(View([quotes, trades, *bars], progress=agg, bars_until=until), START + 2 * HOUR, RULES)
    assert isinstance(job, HourBars)
    assert job.inputs == (trades, quotes)
    both = View([file(0), file(1), trades, *bars], progress=agg, bars_until=until)
    assert [type(job) for job in plan(both, START + 2 * HOUR, RULES)] == [HourMerge]
    closed = View([trades, *bars], [file(0, level="day", symbol="A")], progress=agg, bars_until=until)
    assert plan(closed, START + 2 * HOUR, RULES) == []
