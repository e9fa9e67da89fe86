"""Certificates: what the receive times say is said of rows that were received live, and of no others."""

import itertools
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor import certificate
from compactor.certificate import Measure
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import checks
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, quote, table, trade

MS = 1_000
LATER = T0 + 400 * DAY
SOURCES = ("ws", "rest", "archive", "import", "derived")


def row(number, source="ws", wait=5 * MS, **more):
    at = T0 + number * MINUTE
    return trade(at, "100.5", "2", number, frame_no=number, source=source, ts_recv=at + wait, **more)


def measured(rows, kind="trade", piece=None):
    whole, made = table(kind, rows), Measure(kind)
    for start in range(0, whole.num_rows, piece or whole.num_rows):
        made.add(whole.slice(start, piece))
    return made


def said(measure):
    return measure.late, measure.latency(0.5), measure.latency(0.99), measure.skew, measure.checks.count("out_of_order")


@pytest.mark.parametrize("source", ["archive", "import", "rest"])
def test_a_day_that_was_taken_in_later_has_no_latency_and_nothing_late(tmp_path, source):
    lake = TestLake(tmp_path)
    lake.part("trade", [row(n, source, LATER - T0 - 2 * n * MINUTE) for n in range(50)])
    compact_once(lake.writer, InlineExecutor(), LATER + HOUR, CompactorConfig())
    (file,) = lake.writer.manifest.files("trade", level="day")
    (held,) = lake.writer.manifest.certificates(file.path)
    assert (held.rows, file.late, held.late, held.latency_p50, held.latency_p99) == (50, 0, 0, None, None)
    assert held.out_of_order == 0, "pages are asked for in any order"
    lake.close()


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_of_a_mixed_day_only_what_was_received_live_counts(piece):
    live = [row(n, wait=7 * SECOND if n == 30 else n * MS) for n in range(20, 40)]
    live[4]["ts_recv"] = live[3]["ts_recv"] - 1
    past = [row(n, "archive", LATER - T0) for n in range(20)] + [row(n, "import", LATER - T0) for n in range(40, 60)]
    between = [row(100 + n, "archive", LATER - T0) | {"ts_event": T0 + n * MINUTE + 1} for n in range(20, 40)]
    mixed = sorted([*live, *past, *between], key=lambda one: one["ts_event"])
    made = measured(mixed, piece=piece)
    assert (made.rows, said(made)) == (80, said(measured(live)))
    assert said(made) == (1, 29 * MS, 7 * SECOND, None, 1)


def test_an_answer_counts_where_it_came_within_a_minute():
    made = measured([row(1, "rest", 3 * SECOND), row(2, "rest", MINUTE + 1), row(3, "rest", -MINUTE - 1)])
    assert said(made) == (0, 3 * SECOND, 3 * SECOND, None, 0)


def test_what_a_venue_sends_of_the_past_on_subscribing_was_not_received_live():
    made = measured([row(1, wait=HOUR, condition="history"), row(2, wait=9 * MS)])
    assert said(made) == (0, 9 * MS, 9 * MS, None, 0)


def test_estimated_times_are_counted_whoever_brought_them_and_tell_the_skew_of_live_ones():
    rows = [quote(T0, "99", "100", 1, ts_estimated=True, ts_recv=T0 + 40)]
    rows += [quote(T0 + 1, "99", "100", 2, ts_estimated=True, ts_recv=LATER, source="import")]
    made = measured(rows, "quote")
    assert (made.estimated, made.skew, made.late) == (2, 40, 0)


WAITS = st.one_of(st.integers(-2_000, 20_000), st.integers(4_900 * MS, 6_100 * MS))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), WAITS), min_size=1, max_size=12), st.integers(1, 12))
def test_latency_and_lateness_are_those_of_each_row_wherever_the_day_is_cut(waits, piece):
    rows = [trade(T0 + at, "1", "1", number, ts_recv=T0 + at + wait) for number, (at, wait) in enumerate(sorted(waits))]
    with patch.object(certificate._Tally, "_HELD", 3):
        made = measured(rows, piece=piece)
    rounded = sorted(int(wait / 10 ** (shift := max(0, len(str(abs(wait))) - 3))) * 10**shift for _, wait in waits)
    assert made.late == sum(wait > SECOND - at % SECOND + 5 * SECOND for at, wait in waits)
    assert made.latency(1.0) == rounded[-1]
    assert made.latency(0.5) == rounded[-(-len(rounded) // 2) - 1]


ODD = st.tuples(st.sampled_from(SOURCES), st.integers(-2, 3), st.sampled_from(["market", "market", "history"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(ODD, min_size=1, max_size=12), st.integers(1, 5))
def test_the_order_of_what_was_received_live_is_that_of_those_rows_alone(told, piece):
    rows, at = [], 0
    for number, (source, step, condition) in enumerate(told):
        at += step
        rows.append(row(number, source, at - number * MINUTE + 50 * MS, condition=condition))
    live = [one for one in rows if one["condition"] == "market" and is_live(one)]
    before = sum(two["ts_recv"] < one["ts_recv"] for one, two in itertools.pairwise(live))
    made, whole = checks.Checks("trade"), table("trade", rows)
    for start in range(0, whole.num_rows, piece):
        made.add(whole.slice(start, piece))
    assert made.count(checks.OUT_OF_ORDER) == before


def is_live(one):
    polled = one["source"] == "rest" and abs(one["ts_recv"] - one["ts_event"]) <= MINUTE
    return one["source"] == "ws" or polled
