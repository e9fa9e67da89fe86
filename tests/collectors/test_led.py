"""Streams of which one connection leads: who leads, what waits, and what comes after a restart."""

from collectors.adapters.lifetime import LONGEST, lifetime
from collectors.holes import HANDOVER, STALLED
from collectors.led import LedMerger
from market.kinds import Liquidation, Quote
from market.session import Connection, Limits, Resume
from market.times import HOUR, MINUTE, SECOND
from tests.collectors.test_keyed import made as keyed

T = 1_785_701_700_000_000


def quote(at, session="a-1-1", bid=None):
    """A quote of the time `at` (s)."""
    time = T + round(at * SECOND)
    return Quote("A", "s", time, None, time + 500, session, 1, 0, "ws", bid or str(at), "1", "2000", "1", None)


def made():
    return LedMerger("kucoin", "spot", "quote")


def bids(events):
    return [event.bid for event in events]


def test_rows_are_those_of_the_leader_and_go_on_with_the_others_when_it_ends():
    held = made()
    assert bids(held.merge_all([quote(1), quote(2)])) == ["1", "2"]
    assert held.merge_all([quote(1, "b"), quote(2, "b"), quote(3, "b")]) == []
    assert held.joined("b", "A")
    assert held.interrupt("a-1-1", [], "disconnect", T + 3 * SECOND) == []
    assert bids(held.owed()) == ["3"]
    assert bids(held.merge_all([quote(3.5, "b")])) == ["3.5"]
    assert held.tick(T + 60 * SECOND) == []


def test_a_leader_that_is_behind_or_stalled_leads_no_more():
    held = made()
    held.merge_all([quote(1), quote(2), *(quote(at, "b") for at in (1, 2, 3))])
    assert bids(held.merge_all([quote(5, "b")])) == ["5", "3"], "the one that was received last comes first"
    assert held.merge_all([quote(3), quote(5)]) == []
    held.merge_all([quote(6)])
    held.interrupt("b", ["A"], STALLED, T + 7 * SECOND)
    assert bids(held.owed()) == ["6"]


def test_what_came_in_later_than_the_newest_row_of_a_lost_leader_is_behind_a_gap():
    for cause, gaps in (("disconnect", [(T + SECOND, T + 2 * SECOND, "disconnect")]), (HANDOVER, [])):
        held = made()
        held.merge_all([quote(1), quote(2, "b")])
        found = held.interrupt("a-1-1", [], cause, T + 3 * SECOND)
        assert bids(held.owed()) == ["2"]
        assert [(gap.ts_from, gap.ts_to, gap.cause) for gap in found] == gaps


def test_what_the_venue_says_to_who_subscribes_does_not_end_a_silence():
    held = made()
    held.merge_all([quote(1), quote(2)])
    found = held.interrupt("a-1-1", ["A"], STALLED, T + 62 * SECOND)
    assert bids(held.merge_all([quote(70, "b"), quote(90, "b"), quote(97, "b")])) == ["70", "90", "97"]
    spans = {gap.gap_id: (gap.ts_from, gap.ts_to) for gap in [*found, *held.tick(T + 99 * SECOND)]}
    assert sorted(spans.values()) == [(T + 2 * SECOND, T + 70 * SECOND), (T + 70 * SECOND, T + 90 * SECOND)]


def test_rows_go_on_where_the_venue_s_clock_has_gone_back():
    """Nobody else is there, and what comes stays behind the newest row: what is a row already is left out."""
    held = made()
    held.merge_all([quote(3), quote(11)])
    held.interrupt("a-1-1", [], "disconnect", T + 12 * SECOND)
    said = [quote(at, "b") for at in (1, 2, 3, 4)]
    for event, received in zip(said, (12, 20, 30, 43), strict=True):
        event.ts_recv = T + received * SECOND
    assert [bids(held.merge_all([event])) for event in said] == [[], [], [], ["4", "1", "2"]]
    assert bids(held.merge_all([quote(5, "b")])) == ["5"]


def test_what_comes_late_is_a_row_though_it_says_what_one_of_another_time_said():
    held = made()
    held.merge_all([quote(1), quote(2)])
    assert bids(held.merge_all([quote(1.5, bid="1")])) == ["1"]
    assert held.merge_all([quote(1.5, bid="1")]) == []


def test_after_a_restart_what_was_stored_last_is_not_stored_again():
    held = made()
    held.resume({"A": Resume(T + 2 * SECOND, 7, "a-1-1", "stopped")})
    again = quote(2, "b")
    again.update_id = 7
    assert held.merge_all([again]) == []
    assert bids(held.merge_all([quote(3, "b")])) == ["3"]
    assert [gap.state for gap in held.tick(T + 60 * SECOND)] == ["empty"]


def test_gaps_after_a_restart_have_names_of_their_own():
    """Else the later row would take the place of the earlier one, and nothing would tell what the crash had taken."""
    held = made()
    held.resume({"A": Resume(T + 2 * SECOND, T + 2 * SECOND, "a-1-1", "crash")})
    held.merge_all([quote(60, "b"), quote(70, "b")])
    rows = held.tick(T + 71 * SECOND)
    rows += held.interrupt("b", ["A"], "disconnect", T + 80 * SECOND)
    held.merge_all([quote(90, "c"), quote(91, "c")])
    rows += held.tick(T + 92 * SECOND)
    spans = {gap.gap_id: (gap.ts_from, gap.ts_to, gap.cause) for gap in rows}
    assert sorted(spans.values()) == [
        (T + 2 * SECOND, T + 60 * SECOND, "crash"), (T + 70 * SECOND, T + 90 * SECOND, "disconnect"),
    ]  # fmt: skip


def test_orders_of_one_message_that_say_the_same_are_as_many_on_every_connection():
    def order(item, session, frame):
        return Liquidation("A", "s", T, None, T + 5, session, frame, item, "ws", "sell", "9", None, "2")

    held = keyed("liquidation")
    assert [held.merge(order(item, "a", 1)) for item in (0, 1)] == [True, True]
    assert [held.merge(order(item, "b", 8)) for item in (0, 1, 2)] == [False, False, True]


def test_a_connection_lives_as_long_as_is_configured_and_the_venue_allows():
    def life(configured, allowed, age=0):
        limits = Limits(1, 1, 1.0, 1, SECOND, allowed, SECOND, SECOND)
        return lifetime(Connection("x", "spot", "c", "", (), age=age, life=configured), limits, "n-1-1")

    assert LONGEST - 10 * MINUTE <= life(0, None) <= LONGEST
    assert 23 * HOUR - 10 * MINUTE <= life(0, 23 * HOUR) <= 23 * HOUR
    assert life(24 * HOUR, 23 * HOUR) == life(0, 23 * HOUR)
    assert 9 * SECOND <= life(10 * SECOND, None) <= 10 * SECOND
    assert life(10 * SECOND, None, age=5 * SECOND) == life(10 * SECOND, None) - 5 * SECOND
