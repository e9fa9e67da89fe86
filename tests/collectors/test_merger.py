"""Mergers: what is new, what is missing, and what an interruption left behind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.merger import CONFIRM, HOLES, IdMerger, MonotonicMerger, gap_id, merger
from market.kinds import Quote, Trade
from market.session import Resume
from market.times import SECOND

T = 1_785_701_700_000_000
MS = 1_000


def trade(seq, at=None, session="n-1-1", symbol="BTCUSDT", recv=None):
    """A trade of id `seq`, one millisecond of venue time an id unless told otherwise."""
    time = T + seq * MS if at is None else at
    return Trade(symbol, "x@trade", time, time, recv or time + 5 * MS, session, 1, 0, "ws", "1", "1", "buy", seq,
                 "market")  # fmt: skip


def quote(number, at, session="n-1-1", timed=True, skew=None):
    time = at if timed else None
    return Quote("BTCUSDT", "x@bookTicker", time, time, at + 5 * MS, session, 1, 0, "ws", "1", "1", "2", "1", number,
                 skew)  # fmt: skip


def ids():
    return IdMerger("binance", "spot", "trade")


def quotes():
    return MonotonicMerger("binance", "spot", "quote")


def feed(made, *events):
    return [made.merge(event) for event in events]


def test_contiguous_ids_are_all_new_and_leave_no_gap():
    made = ids()
    assert all(feed(made, *(trade(n) for n in range(100, 200))))
    assert made.tick(T + 60 * SECOND) == []
    assert (made.duplicates, made.out_of_order) == (0, 0)


def test_a_jump_is_a_gap_with_the_missing_ids_found_within_five_seconds():
    made = ids()
    feed(made, trade(100), trade(101), trade(105))
    found = made.tick(trade(105).ts_recv + 5 * SECOND)
    assert [(g.id_from, g.id_to, g.missing, g.cause, g.proof, g.state) for g in found] == [
        (102, 105, 3, "jump", "ids", "open")
    ]
    (gap,) = found
    assert (gap.ts_from, gap.ts_to) == (trade(101).ts_event, trade(105).ts_event + 1)
    assert (gap.exchange, gap.market_type, gap.kind, gap.symbol) == ("binance", "spot", "trade", "BTCUSDT")
    assert gap.detected_at == trade(105).ts_recv + 5 * SECOND
    assert gap.session == "n-1-1"
    assert made.tick(T + 3600 * SECOND) == []


def test_a_jump_is_held_for_two_seconds():
    made = ids()
    feed(made, trade(100), trade(102))
    assert made.tick(trade(102).ts_recv + 2 * SECOND - 1) == []
    assert len(made.tick(trade(102).ts_recv + 2 * SECOND)) == 1


def test_reordering_inside_two_seconds_is_no_gap_but_counted():
    made = ids()
    assert feed(made, trade(100), trade(103), trade(101), trade(102), trade(104)) == [True] * 5
    assert made.tick(T + 60 * SECOND) == []
    assert made.out_of_order == 2


def test_reordering_at_the_very_start_is_no_gap_and_no_loss():
    made = ids()
    assert feed(made, trade(103), trade(100), trade(101), trade(102), trade(104)) == [True] * 5
    assert feed(made, trade(101), trade(103)) == [False, False]
    assert made.tick(T + 60 * SECOND) == []


@pytest.mark.parametrize("cause", ["disconnect", "handover"])
def test_what_was_under_way_before_the_first_event_is_missing_unless_it_comes_soon(cause):
    made = ids()
    feed(made, trade(104, session="n-1-2"), trade(101), trade(102))
    assert made.tick(trade(101).ts_recv + 2 * SECOND - 1) == []
    (gap,) = made.tick(T + 60 * SECOND)
    assert (gap.id_from, gap.id_to, gap.state, gap.session) == (103, 104, "open", "n-1-1")
    assert gap.ts_from <= trade(103).ts_event < gap.ts_to
    assert made.interrupt("n-1-1", [], cause, T + 61 * SECOND) == []
    assert feed(made, trade(103, session="n-1-2")) == [True]
    assert [(one.gap_id, one.state, one.source) for one in made.tick(T + 62 * SECOND)] == [
        (gap.gap_id, "repaired", "late")
    ]


def test_repeated_ids_are_dropped_and_counted():
    made = ids()
    assert feed(made, trade(100), trade(100), trade(101), trade(100)) == [True, False, True, False]
    assert made.duplicates == 2


def test_two_connections_give_each_trade_once_and_hide_each_others_losses():
    made = ids()
    first = [n for n in range(100, 200) if n % 7]
    second = [n for n in range(100, 200) if n % 5]
    new = []
    for n in range(100, 200):
        for session, held in (("n-1-1", first), ("n-1-2", second)):
            if n in held:
                new += [n] if made.merge(trade(n, session=session)) else []
    lost = [n for n in range(100, 200) if n % 35 == 0]
    assert new == [n for n in range(100, 200) if n not in lost]
    found = made.tick(T + 60 * SECOND)
    assert [(g.id_from, g.id_to) for g in found] == [(n, n + 1) for n in lost]


def test_what_comes_after_the_gap_was_told_repairs_it():
    made = ids()
    feed(made, trade(100), trade(104))
    (gap,) = made.tick(T + 10 * SECOND)
    late = T + 20 * SECOND
    assert feed(made, trade(102, recv=late)) == [True]
    told = {g.gap_id: (g.state, g.id_from, g.id_to) for g in made.tick(late)}
    assert told[gap.gap_id] == ("open", 101, 102)
    assert sorted(told.values()) == [("open", 101, 102), ("open", 103, 104)]
    feed(made, trade(101, recv=late), trade(103, recv=late))
    closed = made.tick(late)
    assert {g.gap_id for g in closed} == set(told)
    assert {(g.state, g.source, g.closed_at) for g in closed} == {("repaired", "late", late)}


def test_a_cut_opens_a_gap_at_once_that_contiguous_ids_close_as_empty():
    made = ids()
    feed(made, trade(100), trade(101))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    assert (gap.id_from, gap.id_to, gap.ts_to, gap.cause, gap.state) == (102, None, None, "cut", "open")
    assert (gap.ts_from, gap.detected_at, gap.session) == (trade(101).ts_event, T + SECOND, "n-1-1")
    after = trade(102, at=T + 9 * SECOND, session="n-2-1")
    assert made.merge(after)
    (closed,) = made.tick(T + 10 * SECOND)
    assert closed.gap_id == gap.gap_id
    assert (closed.state, closed.proof, closed.missing) == ("empty", "ids", 0)
    assert (closed.ts_to, closed.closed_at) == (after.ts_event + 1, after.ts_recv)


def test_a_cut_that_lost_ids_ends_with_exactly_those():
    made = ids()
    feed(made, trade(100), trade(101))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    back = T + 9 * SECOND
    feed(made, trade(110, at=back, session="n-2-1"), trade(111, at=back + MS, session="n-2-1"))
    (closed,) = made.tick(back + 3 * SECOND)
    assert closed.gap_id == gap.gap_id
    assert (closed.id_from, closed.id_to, closed.state, closed.cause, closed.proof) == (102, 110, "open", "cut", "ids")
    assert (closed.ts_from, closed.ts_to) == (trade(101).ts_event, back + 1)


def test_ids_reordered_right_after_a_cut_leave_it_empty():
    made = ids()
    feed(made, trade(100))
    made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    feed(made, trade(103, session="n-2-1"), trade(101, session="n-2-1"), trade(102, session="n-2-1"))
    assert [g.state for g in made.tick(T + 2 * SECOND)] == ["empty"]
    assert made.tick(T + 60 * SECOND) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_what_comes_late_from_before_a_restart_makes_no_gap_of_what_was_stored_then(restarted):
    """On a connection that is the first of all it shows that more was to come; of a stored stream it does not."""
    made = ids()
    if restarted:
        made.resume({"BTCUSDT": Resume(trade(110).ts_event, 110, "n-0-1", "stopped")})
    feed(made, trade(111), trade(104))
    told = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND) + made.tick(T + 60 * SECOND)
    assert [(g.id_from, g.id_to) for g in told if g.cause == "jump"] == ([] if restarted else [(105, 111)])


def test_a_second_interruption_before_the_stream_resumed_is_the_same_gap():
    made = ids()
    feed(made, trade(100))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    assert made.interrupt("n-2-1", ["BTCUSDT"], "cut", T + 2 * SECOND) == []
    assert made.interrupt("n-3-1", ["BTCUSDT"], "refused", T + 3 * SECOND) == []
    feed(made, trade(105, session="n-4-1"))
    told = made.tick(T + 60 * SECOND)
    assert [(g.gap_id, g.cause, g.id_from, g.id_to) for g in told] == [(gap.gap_id, "cut", 101, 105)]


def test_a_second_cut_tells_held_holes_at_once():
    made = ids()
    feed(made, trade(100))
    made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    feed(made, trade(105, session="n-2-1"), trade(107, session="n-2-1"))
    told = made.interrupt("n-2-1", ["BTCUSDT"], "cut", T + 2 * SECOND)
    assert sorted((g.id_from, g.id_to, g.cause) for g in told if g.id_to) == [(101, 105, "cut"), (106, 107, "jump")]
    assert [(g.id_from, g.cause) for g in told if not g.id_to] == [(108, "cut")]


def test_a_stream_that_another_connection_carries_is_not_interrupted():
    made = ids()
    feed(made, trade(100), trade(100, session="n-1-2"), trade(101))
    assert made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND) == []
    assert feed(made, trade(102, session="n-1-2")) == [True]
    assert made.tick(T + 60 * SECOND) == []
    assert len(made.interrupt("n-1-2", ["BTCUSDT"], "cut", T + 61 * SECOND)) == 1


@pytest.mark.parametrize("timed", [True, False])
def test_copies_that_come_behind_their_leaders_end_prove_that_the_other_one_was_there_when_a_third_comes_in(timed):
    """One of two is cut; the other one's copies are read after that, and its successor's first event before the
    other one's: what the two had in common is known, so that nothing is missing.
    """
    made = quotes()

    def said(number, session):
        return quote(number, T + number * MS, session, timed=timed)

    feed(made, *(said(number, session) for number in (10, 20) for session in ("n-1-1", "n-1-2")))
    feed(made, said(30, "n-1-1"), said(33, "n-1-1"))
    gaps = made.interrupt("n-1-1", ["BTCUSDT"], "disconnect", said(33, "n-1-1").ts_recv)
    assert feed(made, said(30, "n-1-2"), said(33, "n-1-2")) == [False, False]
    assert feed(made, said(49, "n-1-3"), said(63, "n-1-3")) == [True, True]
    assert feed(made, said(49, "n-1-2"), said(63, "n-1-2"), said(67, "n-1-2")) == [False, False, True]
    assert [*gaps, *made.tick(T + 60 * SECOND)] == []


def test_a_connection_has_not_taken_over_while_another_one_may_fill_a_hole():
    made = ids()
    feed(made, trade(100), trade(105, session="n-1-2"), trade(105, session="n-1-3"))
    assert not made.joined("n-1-3", "BTCUSDT"), "101 to 104 may be under way on the first one"
    feed(made, *(trade(number) for number in range(101, 106)))
    assert made.joined("n-1-3", "BTCUSDT")
    feed(made, trade(108, session="n-1-3"))
    assert not made.joined("n-1-3", "BTCUSDT")
    made.tick(trade(108).ts_recv + 60 * SECOND)
    assert made.joined("n-1-3", "BTCUSDT"), "it was said to be missing: nobody waits any longer"


def test_a_dead_connections_end_is_not_taken_from_what_another_carried_on():
    made = ids()
    feed(made, trade(5, symbol="QUIET"), trade(10), trade(10, session="n-1-2"))
    feed(made, trade(900_000, session="n-1-2"))
    (gap,) = made.interrupt("n-1-1", ["QUIET", "BTCUSDT"], "cut", trade(900_000).ts_recv)
    assert (gap.symbol, gap.ts_from) == ("QUIET", trade(5).ts_event)


def test_a_session_whose_streams_were_taken_over_is_forgotten():
    made = ids()
    feed(made, trade(100), trade(100, session="n-2-1"))
    assert made.interrupt("n-1-1", [], "planned", T + SECOND) == []
    assert [g.cause for g in made.interrupt("n-2-1", ["BTCUSDT"], "cut", T + 2 * SECOND)] == ["cut"]


def test_a_quiet_symbol_was_covered_until_its_connection_was_cut():
    made = ids()
    quiet, busy = trade(5, symbol="QUIET"), trade(900_000)
    feed(made, quiet, busy)
    told = {g.symbol: g for g in made.interrupt("n-1-1", ["QUIET", "BTCUSDT"], "cut", busy.ts_recv)}
    assert told["BTCUSDT"].ts_from == busy.ts_event
    assert told["QUIET"].ts_from == busy.ts_event - 2 * SECOND


def test_a_silent_stream_of_a_living_connection_is_missed_since_its_last_event():
    made = ids()
    quiet, busy = trade(5, symbol="QUIET"), trade(900_000)
    feed(made, quiet, busy)
    (gap,) = made.interrupt("n-1-1", ["QUIET"], "stalled", busy.ts_recv)
    assert (gap.ts_from, gap.cause) == (quiet.ts_event, "stalled")
    feed(made, trade(6, at=busy.ts_event, symbol="QUIET"))
    assert [g.state for g in made.tick(T + 10_000 * SECOND)] == ["empty"]


def test_a_stream_cut_before_its_first_event_is_an_interval():
    made = ids()
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T)
    assert (gap.ts_from, gap.id_from) == (T, None)
    feed(made, trade(7_000, session="n-2-1"))
    (closed,) = made.tick(T + 60 * SECOND)
    assert (closed.gap_id, closed.ts_to, closed.state, closed.missing) == (gap.gap_id, T + 7_000_001, "open", None)


@pytest.mark.parametrize("cause", ["crash", "shutdown"])
def test_after_a_restart_the_stored_end_seeds_the_memory(cause):
    made = ids()
    made.resume({"BTCUSDT": Resume(trade(100).ts_event, 100, "n-1-1", cause, "frames 7..9")})
    (gap,) = made.tick(T + SECOND)
    assert (gap.cause, gap.id_from, gap.ts_from, gap.session) == (cause, 101, trade(100).ts_event, "n-1-1")
    assert (gap.detected_at, gap.detail) == (T + SECOND, "frames 7..9")
    assert feed(made, trade(100, session="n-2-1"), trade(101, session="n-2-1")) == [False, True]
    assert [(g.gap_id, g.state) for g in made.tick(T + 2 * SECOND)] == [(gap.gap_id, "empty")]


def test_the_gap_of_a_shutdown_is_the_gap_of_the_next_start():
    before, after = ids(), ids()
    feed(before, trade(100))
    (told,) = before.interrupt("n-1-1", ["BTCUSDT"], "shutdown", T + SECOND)
    after.resume({"BTCUSDT": Resume(trade(100).ts_event, 100, "n-1-1", "shutdown")})
    (seeded,) = after.tick(T + 9 * SECOND)
    assert seeded.gap_id == told.gap_id
    one, other = quotes(), quotes()
    one.merge(quote(8, T))
    (told,) = one.interrupt("n-1-1", ["BTCUSDT"], "shutdown", T + SECOND)
    other.resume({"BTCUSDT": Resume(T, 8, "n-1-1", "shutdown")})
    assert other.tick(T + 9 * SECOND)[0].gap_id == told.gap_id


def test_older_events_after_a_restart_are_let_through():
    made = ids()
    made.resume({"BTCUSDT": Resume(trade(100_000).ts_event, 100_000, "n-1-1", "shutdown")})
    old = [trade(n, session="import") for n in range(5, 50)]
    assert feed(made, *old) == [True] * 45
    assert feed(made, *old) == [False] * 45
    assert feed(made, trade(100_001, session="n-2-1")) == [True]
    assert [g.state for g in made.tick(T + 600 * SECOND)] == ["empty"]


def test_a_restarted_numbering_is_recognised_and_nothing_is_dropped():
    made = ids()
    feed(made, trade(50_000), trade(50_001))
    later = trade(50_001).ts_event + SECOND
    fresh = [trade(n, at=later + n * MS) for n in (1, 2, 4, 5)]
    assert feed(made, *fresh) == [True] * 4
    told = made.tick(later + 60 * SECOND)
    assert [(g.cause, g.proof, g.missing) for g in told if g.cause == "id_reset"] == [("id_reset", "interval", None)]
    (reset,) = [g for g in told if g.cause == "id_reset"]
    assert (reset.ts_from, reset.ts_to) == (trade(50_001).ts_event, fresh[0].ts_event + 1)
    assert "50001 to 1" in (reset.detail or "")
    assert [(g.id_from, g.id_to) for g in told if g.cause == "jump"] == [(3, 4)]
    assert feed(made, trade(6, at=later + 6 * MS), trade(6, at=later + 6 * MS)) == [True, False]


def test_one_damaged_id_far_away_starts_no_new_numbering():
    made = ids()
    feed(made, trade(50_000))
    later = trade(50_000).ts_event + SECOND
    assert feed(made, trade(3, at=later), trade(2**62, at=later), trade(50_001, at=later + MS)) == [True] * 3
    assert made.tick(later + 60 * SECOND) == []
    assert CONFIRM > 2


def test_damaged_ids_between_good_ones_never_add_up_to_a_new_numbering():
    made = ids()
    for n in range(CONFIRM + 2):
        at = T + (60 + n) * SECOND
        assert feed(made, trade(50_000 + n, at=at), trade(3 + n, at=at + MS)) == [True, True]
    assert made.merge(trade(50_000 + CONFIRM + 2))
    assert made.tick(T + 3600 * SECOND) == []


def test_an_id_that_fits_nothing_is_told_as_a_new_numbering_until_what_follows_shows_that_it_was_none():
    made = ids()
    feed(made, trade(50_000), trade(50_001))
    later = trade(50_001).ts_event + SECOND
    feed(made, trade(1, at=later))
    assert made.tick(later + SECOND) == []
    (told,) = made.tick(later + 5 * SECOND)
    assert (told.cause, told.state, told.missing) == ("id_reset", "open", None)
    assert (told.ts_from, told.ts_to) == (trade(50_001).ts_event, later + 1)
    feed(made, trade(50_002, at=later + 9 * SECOND))
    (over,) = made.tick(later + 20 * SECOND)
    assert (over.gap_id, over.state) == (told.gap_id, "empty")


def test_a_young_numbering_that_begins_anew_repeats_nothing():
    made = ids()
    feed(made, *(trade(n) for n in range(1, 901)))
    later = trade(900).ts_event
    assert all(feed(made, *(trade(n, later + n) for n in range(1, 5)))), "these ids were seen, of other trades"


def test_what_was_stored_before_a_restart_is_no_hole_though_some_of_it_comes_again():
    made = ids()
    made.resume({"BTCUSDT": Resume(T + 1_000 * MS, 1_000, "n-1-1", "crash")})
    feed(made, *(trade(n, session="n-2-1") for n in (1_001, 900, 950)))
    assert [(gap.id_from, gap.id_to, gap.state) for gap in made.tick(T + 60 * SECOND)] == [(1_001, 1_001, "empty")]


def test_damaged_ids_that_fall_are_no_new_numbering():
    made, last = ids(), 9_000_002
    feed(made, *(trade(n) for n in range(9_000_000, last + 1)))
    later = trade(last).ts_event
    feed(made, *(trade(n, later + place) for place, n in enumerate((30, 20, 10), 1)), trade(last + 1, later + 9))
    assert made.seen("BTCUSDT") == (later + 9, last + 1)
    assert [gap for gap in made.tick(later + 60 * SECOND) if gap.state == "open"] == []


def test_a_stream_that_its_heir_never_sent_is_missing_since_it_was_handed_over():
    made, other = quotes(), quote(9, T + 55 * SECOND, "n-1-2")
    other.symbol = "ETHUSDT"
    feed(made, quote(1, T))
    made.interrupt("n-1-1", ["BTCUSDT"], "handover", T + SECOND)
    feed(made, other)
    (gap,) = made.interrupt("n-1-2", ["BTCUSDT"], "disconnect", T + 60 * SECOND)
    assert (gap.symbol, gap.ts_from, gap.ts_to) == ("BTCUSDT", T, None)


def test_a_new_numbering_behind_a_handover_is_one_gap():
    made = ids()
    feed(made, *(trade(n) for n in range(9_000_000, 9_000_003)))
    later = trade(9_000_002).ts_event
    assert made.interrupt("n-1-1", ["BTCUSDT"], "handover", later) == []
    feed(made, *(trade(n, later + n, "n-1-2") for n in range(20, 23)))
    assert {(gap.cause, gap.ts_from) for gap in made.tick(later + 60 * SECOND)} == {("id_reset", later)}


@pytest.mark.parametrize("known", [True, False], ids=["behind an id", "behind nothing"])
def test_an_interruption_that_ends_with_an_earlier_time_is_no_empty_interval(known):
    made = ids()
    if known:
        feed(made, trade(100, T + 50 * MS))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "disconnect", T + 60 * MS)
    feed(made, trade(105, T + 10 * MS, "n-1-2"))
    (ended,) = (one for one in made.tick(T + 60 * SECOND) if one.gap_id == gap.gap_id)
    assert (ended.ts_from, ended.ts_to) == (gap.ts_from, gap.ts_from + 1)


def test_a_new_numbering_that_was_told_before_it_was_certain_keeps_its_row():
    made = ids()
    feed(made, trade(50_000), trade(50_001))
    later = trade(50_001).ts_event + SECOND
    feed(made, trade(1, at=later))
    (told,) = made.tick(later + 5 * SECOND)
    feed(made, trade(2, at=later + MS), trade(4, at=later + 2 * MS))
    found = {gap.gap_id: gap for gap in made.tick(later + 20 * SECOND)}
    assert [gap.cause for gap in found.values()] == ["id_reset", "jump"]
    assert (found[told.gap_id].ts_to, found[told.gap_id].detail) == (later + 1, "ids went from 50001 to 1")


def test_a_new_numbering_is_told_at_once_where_its_session_ends_and_beside_the_interruption():
    made = ids()
    feed(made, trade(50_000), trade(50_001))
    later = trade(50_001).ts_event + SECOND
    feed(made, trade(1, at=later))
    told = made.interrupt("n-1-1", ["BTCUSDT"], "disconnect", later + SECOND)
    assert [(gap.cause, gap.ts_from, gap.ts_to) for gap in told] == [
        ("id_reset", trade(50_001).ts_event, later + 1),
        ("disconnect", trade(50_001).ts_event, None),
    ]
    feed(made, *(trade(n, at=later + n * SECOND, session="n-1-2") for n in (2, 3)))
    ended = {gap.cause: gap for gap in made.tick(later + 20 * SECOND)}
    assert ended.keys() == {"id_reset", "disconnect"}
    assert all(gap.missing is None and gap.ts_to == later + 1 for gap in ended.values())


def test_ids_of_the_old_numbering_that_come_late_leave_the_row_of_the_new_one_as_it_is():
    made = ids()
    feed(made, trade(50_000), trade(50_001))
    later = trade(50_001).ts_event + SECOND
    feed(made, *(trade(n, at=later + n * MS) for n in range(1, 5)), trade(50_004))
    found = made.tick(later + 20 * SECOND)
    assert [(gap.cause, gap.id_from, gap.id_to) for gap in found] == [
        ("id_reset", None, None),
        ("jump", 50_002, 50_004),
    ]
    assert len({gap.gap_id for gap in found}) == 2


def test_a_gap_that_was_given_out_does_not_change_in_the_receivers_hands():
    made = ids()
    feed(made, trade(100))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    feed(made, trade(105, session="n-2-1"))
    assert (gap.ts_to, gap.id_to) == (None, None)


def test_memory_stays_bounded_however_many_holes():
    made = ids()
    for n in range(0, 10 * HOLES, 2):
        assert made.merge(trade(n))
        made.tick(trade(n).ts_recv)
    line = made._lines["BTCUSDT"]
    assert len(line.holes) <= HOLES
    assert made.merge(trade(1)), "what lies below forgotten holes was never proven to be stored"


def test_gap_ids_are_stable_and_tell_holes_apart():
    assert gap_id("binance", "spot", "trade", "X", 5, 1) == gap_id("binance", "spot", "trade", "X", 5, 2)
    names = {
        gap_id("binance", market, kind, symbol, after, time)
        for market in ("spot", "linear") for kind in ("trade", "quote") for symbol in ("X", "Y")
        for after, time in ((5, 1), (6, 1), (None, 1), (None, 2))
    }  # fmt: skip
    assert len(names) == 32


def test_trades_without_an_id_pass():
    made = ids()
    nameless = trade(1)
    nameless.seq = None
    assert feed(made, nameless, nameless) == [True, True]


# Quotes


def test_quotes_rise_and_repeats_are_dropped():
    made = quotes()
    assert feed(made, quote(5, T), quote(9, T), quote(9, T), quote(5, T), quote(12, T)) == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert made.duplicates == 2
    assert feed(made, quote(7, T)) == [True], "an id that was never seen is no copy"
    assert made.out_of_order == 1
    assert made.tick(T + 60 * SECOND) == []


def test_a_quote_gap_is_an_interval_in_venue_time():
    made = quotes()
    feed(made, quote(5, T))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    assert (gap.ts_from, gap.ts_to, gap.id_from, gap.proof) == (T, None, None, "interval")
    feed(made, quote(90, T + 7 * SECOND, session="n-2-1"))
    (closed,) = made.tick(T + 8 * SECOND)
    assert (closed.gap_id, closed.ts_to, closed.state) == (gap.gap_id, T + 7 * SECOND, "open")


def test_untimed_quotes_bound_gaps_by_their_sessions_skew():
    made = quotes()
    untimed = quote(5, T, timed=False, skew=3 * MS)
    feed(made, untimed)
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "cut", T + SECOND)
    assert gap.ts_from == untimed.ts_recv - 3 * MS


def ahead(number, at, session, skew=None):
    """A quote of a venue whose clock is ten seconds ahead of ours."""
    return quote(number, at - 10 * SECOND, session, timed=False, skew=skew)


@pytest.mark.parametrize("together", [True, False])
def test_a_new_session_that_knows_no_skew_yet_shortens_no_gap_of_a_venue_whose_clock_is_ahead(together):
    held = quotes()
    first = [ahead(n, T + n * SECOND, "a-1-1", -10 * SECOND) for n in range(1, 60)]
    held.merge_all(first) if together else feed(held, *first)
    held.interrupt("a-1-1", ["BTCUSDT"], "disconnect", T + 50 * SECOND)
    held.merge_all([ahead(500, T + 65 * SECOND, "b-1-1")])
    (gap,) = held.tick(T + 300 * SECOND)
    assert (gap.ts_from, gap.ts_to) == (first[-1].ts_recv + 10 * SECOND, T + 65 * SECOND + 5 * MS)


def test_after_a_restart_the_clock_of_a_venue_is_as_far_ahead_as_it_was():
    held = quotes()
    held.resume({"BTCUSDT": Resume(T, 7, "a-1-1", "crash", ahead=10 * SECOND)})
    held.merge_all([ahead(500, T + 6 * SECOND, "b-1-1")])
    (gap,) = held.tick(T + 300 * SECOND)
    assert (gap.ts_from, gap.ts_to) == (T, T + 6 * SECOND + 5 * MS)


def test_overlapping_update_ids_prove_a_quote_handover():
    made = quotes()
    feed(made, quote(5, T), quote(6, T))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "planned", T + SECOND)
    feed(made, quote(6, T, session="n-2-1"))
    (closed,) = made.tick(T + 2 * SECOND)
    assert (closed.gap_id, closed.state, closed.proof) == (gap.gap_id, "empty", "ids")


def test_restarted_update_ids_are_followed():
    made = quotes()
    feed(made, quote(50_000, T))
    assert feed(made, *(quote(n, T + n) for n in range(1, 9))) == [True] * 8
    assert feed(made, quote(8, T + 8)) == [False]


def test_a_young_numbering_of_quotes_that_begins_anew_repeats_nothing_but_signs_of_life_do():
    made, last = quotes(), T + 100 * MS
    feed(made, *(quote(n, T + n * MS) for n in range(1, 101)))
    assert feed(made, quote(100, last + MS), quote(99, last, session="n-2-1"), quote(98, last)) == [False] * 3
    later = [quote(n, last + n * MS) for n in range(1, 51)]
    assert feed(made, *later[:20], *later[:20]) == [True] * 20 + [False] * 20
    assert made.merge_all(later[20:]) == later[20:], "whoever reads many at once hears the same"
    assert feed(made, *(quote(n, last + n * MS, session="n-2-1") for n in range(40, 51))) == [False] * 11
    assert made.merge(quote(51, last + 51 * MS))


def test_lone_low_update_ids_start_no_new_numbering():
    made = quotes()
    for n in range(10):
        assert feed(made, quote(50_000 + n, T), quote(3 + n, T)) == [True, True]
    assert made.out_of_order == 10
    assert feed(made, quote(50_009, T), quote(50_000, T)) == [False, False]


def test_reordered_update_ids_start_no_new_numbering():
    made = quotes()
    feed(made, *(quote(n, T) for n in range(2, 102, 2)))
    assert feed(made, *(quote(n, T) for n in (91, 93, 95, 97))) == [True] * 4
    assert feed(made, quote(100, T), quote(2, T)) == [False, False]


def test_a_copy_on_the_interrupted_session_itself_ends_no_gap():
    made = quotes()
    feed(made, quote(5, T), quote(6, T + MS))
    (gap,) = made.interrupt("n-1-1", ["BTCUSDT"], "stalled", T + 90 * SECOND)
    feed(made, quote(6, T + MS), quote(9, T + 95 * SECOND))
    (closed,) = made.tick(T + 96 * SECOND)
    assert (closed.gap_id, closed.ts_to, closed.state) == (gap.gap_id, T + 95 * SECOND, "open")


@pytest.mark.parametrize("cause", ["stalled", "disconnect"])
def test_every_hole_between_connections_that_fell_silent_in_turn_is_a_gap(cause):
    """A is silent, B sends one quote and is silent, A another: what both then leave behind are three gaps."""
    held = quotes()
    feed(held, quote(1, T), quote(90, T + 17 * SECOND, "b-1-1"))
    first = held.interrupt("n-1-1", ["BTCUSDT"], "silent_stream", T + 20 * SECOND)
    feed(held, quote(120, T + 22 * SECOND, "a-1-2"))
    last = held.interrupt("a-1-2", ["BTCUSDT"], "silent_stream", T + 60 * SECOND)
    last += held.interrupt("b-1-1", ["BTCUSDT"], cause, T + 80 * SECOND)
    spans = {gap.gap_id: (gap.ts_from, gap.ts_to) for gap in [*first, *last]}
    assert sorted(spans.values(), key=str) == [
        (T, T + 17 * SECOND), (T + 17 * SECOND, T + 22 * SECOND), (T + 22 * SECOND, None),
    ]  # fmt: skip


def test_a_handover_from_a_connection_on_which_the_stream_had_fallen_silent_is_a_gap():
    held = quotes()
    feed(held, quote(1, T), quote(90, T + 17 * SECOND, "b-1-1"))
    (gap,) = held.interrupt("n-1-1", ["BTCUSDT"], "handover", T + 40 * SECOND, T + 39 * SECOND)
    assert (gap.ts_from, gap.ts_to, gap.state, gap.cause) == (T, T + 17 * SECOND, "open", "silent_stream")


def test_a_handover_from_a_connection_that_had_not_come_so_far_shows_no_gap():
    held = quotes()
    feed(held, quote(1, T), quote(90, T + 17 * SECOND, "b-1-1"))
    assert held.interrupt("n-1-1", ["BTCUSDT"], "handover", T + 18 * SECOND, T + 17 * SECOND) == []


def test_what_comes_late_on_its_own_connection_does_not_show_that_this_one_was_mute():
    held = quotes()
    assert feed(held, *(quote(n, T + n * MS) for n in (1, 3, 2, 4))) == [True] * 4
    assert held.tick(T + 60 * SECOND) == []


def intervals(*found):
    return sorted((gap.ts_from, gap.ts_to) for gap in {gap.gap_id: gap for gap in found}.values())


def test_what_the_venue_says_to_who_subscribes_does_not_end_a_silence():
    """A falls mute, its successor B says what is and nothing more, then both go on with the very same quote."""
    held = quotes()
    feed(held, quote(1, T, "a-1-1"), quote(90, T + 60 * SECOND, "b-1-1"))
    found = held.interrupt("a-1-1", ["BTCUSDT"], "stalled", T + 61 * SECOND)
    feed(held, quote(130, T + 77 * SECOND, "a-1-1"), quote(130, T + 77 * SECOND, "b-1-1"))
    feed(held, *(quote(131 + n, T + (78 + n) * SECOND, "b-1-1") for n in range(3)))
    found += held.tick(T + 90 * SECOND)
    assert intervals(*found) == [(T, T + 60 * SECOND), (T + 60 * SECOND, T + 77 * SECOND)]
    assert {gap.cause for gap in found} == {"stalled"}


@pytest.mark.parametrize("cause", ["stalled", "silent_stream"])
def test_a_stream_that_goes_on_after_a_silence_leaves_one_gap(cause):
    held = quotes()
    feed(held, quote(1, T))
    found = held.interrupt("n-1-1", ["BTCUSDT"], cause, T + 61 * SECOND)
    feed(held, *(quote(90 + n, T + (70 + 4 * n) * SECOND) for n in range(5)), quote(99, T + 120 * SECOND))
    assert intervals(*found, *held.tick(T + 130 * SECOND)) == [(T, T + 70 * SECOND)]


def test_a_connection_that_ends_after_one_word_behind_a_silence_was_silent_until_its_end():
    held = quotes()
    feed(held, quote(1, T), quote(2, T + SECOND))
    found = held.interrupt("n-1-1", ["BTCUSDT"], "stalled", T + 61 * SECOND)
    feed(held, quote(90, T + 70 * SECOND, "b-1-1"))
    found += held.interrupt("b-1-1", ["BTCUSDT"], "disconnect", T + 80 * SECOND, T + 80 * SECOND)
    feed(held, quote(120, T + 82 * SECOND, "c-1-1"))
    found += held.tick(T + 90 * SECOND)
    assert intervals(*found) == [(T + SECOND, T + 70 * SECOND), (T + 70 * SECOND, T + 82 * SECOND)]


def test_quote_memory_is_bounded():
    made = quotes()
    for n in range(1, 20_000):
        made.merge(quote(n, T))
    assert len(made._lines["BTCUSDT"].seen) <= 4_096


def test_the_factory_goes_by_what_ids_promise():
    assert isinstance(merger("binance", "spot", "trade", contiguous=True), IdMerger)
    assert isinstance(merger("binance", "spot", "quote", contiguous=False), MonotonicMerger)


# Properties


@settings(max_examples=60, deadline=None)
@given(
    lost=st.sets(st.integers(101, 198), max_size=30),
    twice=st.sets(st.integers(100, 199), max_size=30),
    cuts=st.sets(st.integers(101, 198), max_size=6),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_ledger_law_holds_whatever_is_lost_repeated_reordered_or_cut(lost, twice, cuts, shuffle):
    """last - first + 1 = stored + missing, each id stored once, and the missing ids are exactly those lost."""
    made, stored, gaps, session = ids(), [], {}, 1
    sent = [n for n in range(100, 200) if n not in lost]
    block = []

    def flush():
        shuffle.shuffle(block)
        for n in block:
            for _ in range(2 if n in twice else 1):
                if made.merge(trade(n, session=f"n-{session}-1")):
                    stored.append(n)
        block.clear()

    for n in sent:
        block.append(n)
        if len(block) >= shuffle.randint(1, 4) or n in (100, 199):
            flush()
        if n in cuts:
            flush()
            gaps |= {g.gap_id: g for g in made.interrupt(f"n-{session}-1", ["BTCUSDT"], "cut", trade(n).ts_recv)}
            session += 1
        gaps |= {g.gap_id: g for g in made.tick(trade(n).ts_recv)}
    gaps |= {g.gap_id: g for g in made.tick(T + 60 * SECOND)}
    assert sorted(stored) == sent
    missing = [g for g in gaps.values() if g.state == "open"]
    assert all(g.ts_to is not None and g.ts_from < g.ts_to for g in missing)
    assert sorted(n for g in missing for n in range(g.id_from, g.id_to)) == sorted(lost)
    assert len(stored) + sum(gap.missing or 0 for gap in missing) == 199 - 100 + 1
    for n in lost:
        assert any(g.ts_from <= trade(n).ts_event < g.ts_to for g in missing)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 50), st.sampled_from("abc")), max_size=60))
def test_no_event_of_an_unseen_id_is_ever_dropped(events):
    made, seen = ids(), set()
    for seq, at, session in events:
        new = made.merge(trade(seq, at=T + at * SECOND, session=session))
        assert new or seq in seen
        seen.add(seq)
        made.tick(T + at * SECOND)


# Handovers and twins


@pytest.mark.parametrize(
    "made,first,then",
    [(ids, 3, ()), (ids, 2, ()), (ids, 6, (3, 4, 5)), (quotes, 1, ()), (quotes, 2, ()), (quotes, 6, (7,))],
)
def test_a_session_is_joined_by_a_copy_the_next_id_or_once_the_others_get_to_where_it_came_in(made, first, then):
    def event(number, session):
        return trade(number, session=session) if made is ids else quote(number, T + number * MS, session)

    held = made()
    feed(held, *(event(n, "a-1-1") for n in (1, 2)))
    feed(held, event(first, "b-1-1"))
    assert held.joined("b-1-1", "BTCUSDT") == (not then)
    feed(held, *(event(n, "a-1-1") for n in then))
    assert held.joined("b-1-1", "BTCUSDT")
    held.interrupt("b-1-1", ["BTCUSDT"], "disconnect", T)
    assert not held.joined("b-1-1", "BTCUSDT")


@pytest.mark.parametrize("made", [ids, quotes])
def test_what_is_forgotten_begins_anew_without_a_loss(made):
    held = made()
    event = trade(1) if made is ids else quote(1, T)
    feed(held, event)
    assert held.forget(["BTCUSDT", "NEVER"], T) == []
    assert feed(held, trade(50, session="b-1-1") if made is ids else quote(50, T + 50, "b-1-1")) == [True]
    assert held.tick(T + 60 * SECOND) == []


def test_a_handover_that_lost_ids_is_a_gap_with_them_and_any_other_says_only_what_is_covered():
    for first, state in ((3, "empty"), (2, "empty"), (7, "open")):
        held = ids()
        feed(held, trade(1), trade(2))
        assert held.interrupt("n-1-1", ["BTCUSDT"], "handover", T) == []
        feed(held, trade(first, session="b-1-1"), trade(first + 1, session="b-1-1"))
        (gap,) = held.tick(T + 60 * SECOND)
        assert (gap.state, gap.cause, gap.id_to) == (state, "handover", max(first, 3))


def test_a_cut_after_a_handover_that_nothing_came_of_is_said_as_what_it_is():
    held = quotes()
    feed(held, quote(1, T))
    assert held.interrupt("n-1-1", ["BTCUSDT"], "handover", T + SECOND) == []
    (gap,) = held.interrupt("b-1-1", ["BTCUSDT"], "disconnect", T + 9 * SECOND)
    assert (gap.cause, gap.session, gap.ts_to) == ("disconnect", "b-1-1", None)


@pytest.mark.parametrize("made", [ids, quotes])
def test_a_copy_of_a_twin_is_dropped_wherever_the_other_one_is(made):
    def event(number, session):
        return trade(10**6 + number, session=session) if made is ids else quote(number, T + number * MS, session)

    held, kept = made(), 0
    for n in range(300):
        order = ("a-1-1", "b-1-1") if n // 7 % 2 else ("b-1-1", "a-1-1")
        assert feed(held, *(event(n, session) for session in order)) == [True, False]
        kept += 1
    assert held.duplicates == kept
    assert held.interrupt("a-1-1", ["BTCUSDT"], "disconnect", T) == [], "the other one serves it"
    assert feed(held, event(300, "b-1-1"), event(301, "b-1-1")) == [True, True]
    (gap,) = held.interrupt("b-1-1", ["BTCUSDT"], "disconnect", T)
    assert gap.ts_to is None


# A venue that numbers anew, and repeats


@settings(max_examples=300, deadline=None)
@given(
    first=st.sampled_from([1, 7, 400, 100_000, 5_000_000_000]),
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("trades"), st.integers(1, 12)),
            st.tuples(st.just("unheard"), st.integers(1, 12)),
            st.tuples(st.just("restart"), st.just(0)),
            st.tuples(st.just("cut"), st.sampled_from([0, 3, 10, 1000])),
            st.tuples(st.just("repeat"), st.integers(1, 20)),
        ),
        max_size=14,
    ),
)
def test_ids_that_restart_and_are_repeated_by_new_sessions_are_let_through_once(first, acts):
    """Nothing is let through twice, and nothing that was not seen is dropped, whatever is repeated after a cut.

    The venue numbers anew once, and not from a number near 1: of two numberings that begin within a dozen trades some
    copies are left to the table's key.
    """
    made, sent, kept = ids(), [], set()
    number, at, session = first, 0, 1
    restart = next((place for place, act in enumerate(acts) if act[0] == "restart" and first > 400), None)
    acts = [act for place, act in enumerate(acts) if act[0] != "restart" or place == restart]

    def receive(told, session):
        new = made.merge(trade(told[0], at=T + told[1], session=f"n-{session}-1", recv=T + at + 5))
        assert not (new and told in kept), f"twice: id {told[0]} of {told[1]} us"
        assert new or told[0] in {number for number, _ in kept}, f"never seen: id {told[0]}"
        kept.update([told] * new)

    for act, count in acts:
        if act in ("trades", "unheard"):
            for _ in range(count):
                at += MS
                sent.append((number, at))
                number += 1
                if act == "trades":
                    receive(sent[-1], session)
                    made.tick(T + at + 5)
        elif act == "restart":
            number = 1
        else:
            made.interrupt(f"n-{session}-1", ["BTCUSDT"], "disconnect", T + at)
            session += 1
            for told in sent[-count:] if count else ():
                receive(told, session)


def test_a_stray_that_was_taken_is_known_behind_the_restart_that_follows():
    made = ids()
    assert feed(made, trade(7)) == [True]
    late = {n: T + SECOND + n * MS for n in range(1, 9)}
    assert feed(made, trade(1, at=late[1])) == [True]
    made.interrupt("a-1-1", ["BTCUSDT"], "disconnect", T + 2 * SECOND)
    feed(made, *(trade(n, at=late[n], session="b-1-1") for n in (6, 7, 8)))
    anew = {n: T + 3 * SECOND + n * MS for n in range(1, 4)}
    assert feed(made, *(trade(n, at=anew[n], session="b-1-1") for n in anew)) == [True, True, True]
    assert feed(made, trade(6, at=late[6], session="c-1-1")) == [False]


def test_strays_before_a_cut_are_known_when_they_are_repeated_among_those_before_them():
    made = ids()
    feed(made, trade(5_000), trade(5_001))
    late = {n: T + 9 * SECOND + n * MS for n in range(1, 30)}
    assert feed(made, *(trade(n, at=late[n], session="b-1-1") for n in (8, 9))) == [True, True]
    made.interrupt("b-1-1", ["BTCUSDT"], "disconnect", T + 10 * SECOND)
    again = feed(made, *(trade(n, at=late[n], session="c-1-1") for n in range(1, 30)))
    assert [n for n, new in enumerate(again, 1) if not new] == [8, 9]


def test_ids_of_the_numbering_before_a_restart_are_known():
    made = ids()
    feed(made, *(trade(n) for n in (*range(100, 120), *range(122, 130))))
    feed(made, *(trade(n, at=T + SECOND + n * MS) for n in range(1, 10)))
    made.interrupt("n-1-1", ["BTCUSDT"], "disconnect", T + 2 * SECOND)
    old = feed(made, *(trade(n, session="b-1-1") for n in range(90, 130)))
    assert [n for n, new in enumerate(old, 90) if new] == [*range(90, 100), 120, 121], "what was missing is not"
    assert not any(feed(made, *(trade(n, at=T + SECOND + n * MS, session="b-1-1") for n in range(1, 10))))
    assert feed(made, trade(10, at=T + 2 * SECOND, session="b-1-1")) == [True]
    gaps = {gap.gap_id: gap for gap in made.tick(T + 60 * SECOND)}.values()
    assert {(gap.id_from, gap.state) for gap in gaps if gap.id_from == 10} == {(10, "empty")}
