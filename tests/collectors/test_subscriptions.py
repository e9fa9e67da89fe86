"""Subscription planning: groups, batches and pacing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.subscriptions import Pacer, batches, groups
from market.session import Stream
from market.times import SECOND


def stream(symbol, channel="trade"):
    return Stream(f"{symbol.lower()}@{channel}", channel, symbol, channel, contiguous=True)


def streams(count, *channels):
    return [stream(f"S{n:04}", channel) for n in range(count) for channel in channels or ("trade",)]


def test_few_streams_share_one_connection():
    assert groups(streams(3), 400) == [tuple(streams(3))]
    assert groups([], 400) == []


def test_a_symbols_streams_stay_together():
    for group in groups(streams(100, "trade", "quote", "agg"), 40):
        symbols = [s.symbol for s in group]
        assert all(symbols.count(symbol) == 3 for symbol in symbols)


def test_groups_are_about_equal():
    sizes = [len(group) for group in groups(streams(450), 400)]
    assert sizes == [225, 225]


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        groups(streams(1), 0)


@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 25), st.randoms(use_true_random=False))
def test_groups_carry_each_stream_once_within_the_size_in_any_order(count, channels, size, shuffle):
    wanted = streams(count, *("abcd"[:channels]))
    shuffled = wanted[:]
    shuffle.shuffle(shuffled)
    made = groups(shuffled + shuffled[:3], size)
    assert made == groups(wanted, size)
    assert sorted(s.name for group in made for s in group) == sorted(s.name for s in wanted)
    assert all(0 < len(group) <= size for group in made)


def test_batches_cut_a_list_in_order():
    assert [len(b) for b in batches(streams(250), 100)] == [100, 100, 50]
    assert [s for b in batches(streams(7), 3) for s in b] == streams(7)


def test_a_pacer_never_exceeds_its_rate_and_saves_no_burst():
    pacer = Pacer(4)
    taken = [now for now in range(0, 2 * SECOND, 10_000) if pacer.take(now)]
    assert taken == list(range(0, 2 * SECOND, SECOND // 4))
    assert pacer.take(100 * SECOND)
    assert not pacer.take(100 * SECOND + 1)
