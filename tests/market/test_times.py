"""Times are microseconds, intervals are half-open, and text round-trips."""

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import times
from market.errors import Malformed
from market.times import Interval

INTERVALS = st.lists(st.builds(lambda a, n: Interval(a, a + n), st.integers(-50, 50), st.integers(0, 20)), max_size=8)


def points(intervals: list[Interval]) -> set[int]:
    return {p for i in intervals for p in range(i.start, i.end)}


@given(INTERVALS)
def test_a_union_holds_the_same_points_in_disjoint_sorted_intervals(intervals: list[Interval]) -> None:
    merged = times.union(intervals)
    assert points(merged) == points(intervals)
    assert all(a.end < b.start for a, b in itertools.pairwise(merged))


@given(INTERVALS, INTERVALS)
def test_subtract_and_intersect_are_set_operations(left: list[Interval], right: list[Interval]) -> None:
    assert points(times.subtract(left, right)) == points(left) - points(right)
    assert points(times.intersect(left, right)) == points(left) & points(right)


@given(INTERVALS, st.integers(-50, 50), st.integers(1, 20))
def test_covers_means_every_point_is_inside(intervals: list[Interval], start: int, length: int) -> None:
    wanted = Interval(start, start + length)
    assert times.covers(intervals, wanted) == (points([wanted]) <= points(intervals))


@given(st.integers(-(10**15), 4 * 10**15))
def test_text_parses_back_to_the_same_microsecond(time: int) -> None:
    assert times.parse(times.text(time)) == time


@pytest.mark.parametrize(
    "text,expected",
    [
        ("2024-07-19", 1721347200 * times.SECOND),
        ("2024-07-19T00:00:00Z", 1721347200 * times.SECOND),
        ("2024-07-19 00:00:00.123456789", 1721347200 * times.SECOND + 123456),
        ("2024-07-19T02:00:00+02:00", 1721347200 * times.SECOND),
        ("2024-07-18T19:30-0430", 1721347200 * times.SECOND),
    ],
)
def test_a_users_time_is_read_as_utc_unless_it_says_otherwise(text: str, expected: int) -> None:
    assert times.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2024-02-30",
        "2024-07-19T25:00",
        "1721347200",
        "٢٠٢٤-07-19",
        "2024-07-19T00:00:00+24:00",
        "2024-07-19T00:00:00-00:60",
    ],
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(Malformed, match="time"):
        times.parse(text)


def test_an_interval_contains_what_lies_in_it_and_whatever_is_empty() -> None:
    held = times.Interval(10, 20)
    assert held.contains(times.Interval(10, 20))
    assert held.contains(times.Interval(30, 30))
    assert not held.contains(times.Interval(9, 20))
    assert not held.contains(times.Interval(10, 21))


def test_a_day_starts_at_midnight_utc() -> None:
    start = times.day_start(dt.date(2024, 7, 19))
    assert times.date_of(start) == dt.date(2024, 7, 19)
    assert times.date_of(start - 1) == dt.date(2024, 7, 18)
    assert times.clock_text(start - 1) == "235959999"
    assert times.floor_to(-1, times.SECOND) == -times.SECOND
