"""Trades that a venue pushes when it is subscribed to: history before what is covered, late ones inside it."""

import pytest

from collectors.merger import HOLD
from collectors.pushed import pushed
from market.kinds import Trade
from market.session import Resume
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
