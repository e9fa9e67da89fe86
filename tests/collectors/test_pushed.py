"""What a venue pushes when it is subscribed to: history before what is covered, late trades and orders inside it."""

import pytest

from collectors.merger import HOLD
from collectors.pushed import MET, pushed
from market.kinds import Liquidation, Trade
from market.session import EVERY_SYMBOL, Resume
from market.times import SECOND

T = 1_785_701_700_000_000


def trade(number, condition="market", session="a-1-1", named=False):
    time = T + number * SECOND
    return Trade(
        "A", "trade.A", time, None, time, session, 1, 0, "ws", "1", "1", "buy", None if named else number, condition,
        f"id-{number}" if named else None,
    )  # fmt: skip


@pytest.mark.parametrize("named", [False, True])
def test_what_was_traded_before_the_first_subscription_is_history_and_what_fills_a_hole_is_not(named):
    held = pushed("kraken", "spot", "trade", contiguous=not named)
    first = [trade(number, "history", named=named) for number in (1, 2, 3)]
    live = [trade(number, named=named) for number in (4, 5)]
    assert held.merge_all(first) == first
    assert held.merge_all(live) == live
    held.interrupt("a-1-1", ["A"], "disconnect", T + 6 * SECOND)
    again = [trade(number, "history", "b-1-1", named) for number in range(4, 9)]
    new = held.merge_all(again)
    assert [(one.condition, one.seq or int((one.trade_id or "")[3:])) for one in new] == [
        ("market", 6), ("market", 7), ("market", 8),
    ]  # fmt: skip
    assert {one.condition for one in first} == {"history"}
    assert {gap.state for gap in held.tick(T + 60 * SECOND)} == {"empty"}, "what was pushed overlaps"


def test_a_hole_that_was_reported_is_filled_by_what_is_pushed():
    held = pushed("kraken", "spot", "trade", contiguous=True)
    assert held.merge_all([trade(1), trade(4)])
    (gap,) = held.tick(T + 4 * SECOND + HOLD)
    assert (gap.id_from, gap.id_to) == (2, 4)
    late = held.merge_all([trade(number, "history", "b-1-1") for number in range(1, 6)])
    assert [(one.seq, one.condition) for one in late] == [(2, "market"), (3, "market"), (5, "market")]
    assert [gap.state for gap in held.tick(T + 60 * SECOND)] == ["repaired"]


def test_other_conditions_stay_and_a_restart_counts_as_covered():
    held = pushed("kraken", "linear", "trade", contiguous=False)
    held.resume({"A": Resume(T + 5 * SECOND, None, "a-1-1", "stopped")})
    found = held.merge_all([trade(n, c, "b-1-1", True) for n, c in ((3, "history"), (6, "history"), (7, "adl"))])
    assert [one.condition for one in found] == ["history", "market", "adl"]
    assert held.merge(trade(8, "history", "b-1-1", True))


def test_a_forced_trade_of_the_past_is_history_as_those_of_its_frame_and_stays_one_where_it_is_covered():
    held = pushed("kraken", "linear", "trade", contiguous=False)
    first = held.merge_all([trade(n, c, named=True) for n, c in ((1, "history"), (2, "liquidation"), (3, "adl"))])
    assert [one.condition for one in first] == ["history", "history", "adl"]
    assert [one.condition for one in held.merge_all([trade(5, "liquidation", named=True)])] == ["liquidation"]
    again = [trade(n, c, "b-1-1", True) for n, c in ((0, "liquidation"), (-1, "history"), (6, "liquidation"))]
    assert [one.condition for one in held.merge_all(again)] == ["history", "history", "liquidation"]


def test_what_a_restart_is_told_again_of_covered_time_is_no_history_though_it_lies_before_the_newest_row():
    held = pushed("kraken", "linear", "trade", contiguous=False)
    held.resume({"A": Resume(T + 5 * SECOND, None, "a-1-1", "stopped", since=T + 2 * SECOND)})
    found = held.merge_all([trade(n, "history", "b-1-1", True) for n in (1, 3, 6)])
    assert [one.condition for one in found] == ["history", "market", "market"]


def order(at, frame=1, *, session="a-1-1", symbol="A", qty="2", late=0):
    time = T + at * SECOND
    return Liquidation(
        symbol,
        "liquidation-orders:SWAP",
        time,
        None,
        time + late * SECOND,
        session,
        frame,
        0,
        "ws",
        "sell",
        "9",
        None,
        qty,
    )


def orders():
    return pushed("okx", "linear", "liquidation", contiguous=False)


def test_forced_orders_that_are_told_again_on_subscribing_do_not_show_that_nothing_was_missed():
    held = orders()
    assert held.merge(order(-60, late=60)), "before the first subscription"
    assert held.merge(order(1, 2))
    (begun,) = held.interrupt("a-1-1", [EVERY_SYMBOL], "disconnect", T + 10 * SECOND, T + 9 * SECOND)
    held.acknowledged("b-1-1", [EVERY_SYMBOL], T + 40 * SECOND)
    assert not held.merge(order(1, session="b-1-1", late=39))
    assert held.merge(order(20, session="b-1-1", late=20)), "what was missed is stored"
    (gap,) = held.tick(T + 60 * SECOND)
    assert (gap.gap_id, gap.ts_to, gap.state) == (begun.gap_id, T + 40 * SECOND, "open"), "others may have been as well"


def test_forced_orders_of_before_a_restart_are_not_stored_twice():
    held = orders()
    held.resume({EVERY_SYMBOL: Resume(T + 5 * SECOND, None, "a-1-1", "stopped")})
    again = [order(at, session="b-1-1", late=60 - at) for at in (1, 5, 6)]
    assert [held.merge(one) for one in again] == [False, False, True]


def test_a_forced_order_of_another_frame_or_of_now_is_told_by_what_it_says():
    held = orders()
    held.resume({EVERY_SYMBOL: Resume(T + 30 * SECOND, None, "a-1-1", "stopped")})
    assert held.merge(order(29, session="b-1-1", late=1)), "it is of now, by a clock that is ahead"
    assert held.merge(order(28, 2, session="b-1-1", late=9)), "it came late"
    assert not held.merge(order(28, 3, session="b-1-1", late=9)), "it was told"
    assert held.merge(order(28, 4, session="b-1-1", qty="3", late=9))


def test_first_frames_of_long_gone_sessions_are_forgotten():
    held = orders()
    for number in range(1000):
        held.merge(order(number, session=f"s-1-{number}"))
    assert len(held._first) <= MET
