"""Windows against what they promise: nothing is lost, each ends before the next begins, in rows and in identities."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from lake.windows import Extent, follow, windows

MOST = 10


def extent(times, ids, rows=1, symbol="A"):
    return Extent(symbol, rows, rows, times, ids)


bounds = st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda b: (b[0], b[0] + b[1]))
extents = st.builds(extent, bounds, bounds, st.integers(1, 6))


@settings(max_examples=300, deadline=None)
@given(st.lists(extents, max_size=8))
def test_every_source_is_in_one_window_and_the_windows_follow_each_other(some):
    found = windows(some, MOST, MOST)
    assert sorted(place for window in found for place in window.places) == list(range(len(some)))
    for before, after in itertools.combinations(found, 2):
        for left, right in itertools.product(before.places, after.places):
            assert some[left].times[1] <= some[right].times[0]
            assert some[left].ids[1] < some[right].ids[0]
    for window in found:
        assert window.places
        assert list(window.places) == sorted(window.places)
        assert window.small == (sum(some[place].rows for place in window.places) <= MOST)


def test_small_sources_that_follow_each_other_share_windows_up_to_the_bounds():
    some = [extent((k, k), (k, k), rows=4) for k in range(5)]
    assert [window.places for window in windows(some, 10, 99)] == [(0, 1), (2, 3), (4,)]
    assert [window.places for window in windows(some, 99, 4)] == [(0,), (1,), (2,), (3,), (4,)]


def test_a_later_id_at_an_earlier_time_holds_its_neighbours_together():
    late = [extent((0, 9), (0, 9)), extent((10, 19), (30, 39)), extent((20, 29), (10, 19))]
    assert [window.places for window in windows(late, MOST, MOST)] == [(0, 1, 2)]
    assert [window.places for window in windows(late, 1, 1)] == [(0,), (1, 2)]


def test_without_bounds_or_with_several_symbols_there_is_one_window_that_is_not_small():
    one = extent((0, 1), (0, 1))
    for some in ([one, None], [one, extent((2, 3), (2, 3), symbol="B")]):
        (window,) = windows(some, MOST, MOST)
        assert window.places == (0, 1)
        assert not window.small
    assert windows([], MOST, MOST) == []


def test_tables_follow_each_other_where_no_time_and_no_id_goes_back():
    first, second = extent((0, 5), (0, 9)), extent((5, 8), (10, 12))
    assert follow([first, second])
    assert not follow([second, first])
    assert not follow([first, extent((4, 8), (10, 12))])
    assert not follow([first, extent((5, 8), (9, 12))])
    assert not follow([first, extent((5, 8), (10, 12), symbol="B")])
