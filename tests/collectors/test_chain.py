"""Books: updates that chain, breaks that are gaps, copies of two connections, and what came late."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.chain import ChainMerger, ids_of
from collectors.merger import HOLD, merger
from market.kinds import BookDelta
from market.session import Resume
from market.times import SECOND

T = 1_785_701_700_000_000
EMPTY = msgspec.Raw(b"[]")


def spot(first, last, session="a-1-1", at=None):
    return delta(first, last, None, session, at)


def futures(before, last, session="a-1-1", at=None, first=None):
    return delta(before + 3 if first is None else first, last, before, session, at)


def delta(first, last, before, session, at):
    time = T + last * 1000 if at is None else at
    return BookDelta("A", "a@depth", time, None, time, session, 1, 0, "ws", EMPTY, EMPTY, first, last, before)


def made():
    return merger("binance", "linear", "book_delta", contiguous=True)


def gaps(held, now=T + 10**9):
    return held.tick(now + HOLD)


def test_the_kind_of_books_has_a_merger_that_chains():
    assert isinstance(made(), ChainMerger)


@pytest.mark.parametrize(
    "events",
    [[spot(1, 4), spot(5, 5), spot(6, 20)], [futures(1, 4), futures(4, 90), futures(90, 91)]],
    ids=["spot", "futures"],
)
def test_a_chain_has_no_gap(events):
    held = made()
    assert all(held.merge(event) for event in events)
    assert gaps(held) == []


@pytest.mark.parametrize(
    "row,ids",
    [
        (spot(5, 9), (5, 10)),
        (futures(4, 9), (5, 10)),
        (futures(50, 12, first=10), (12, 13)),
        (delta(None, 3, 90, "a-1-1", None), (91, 92)),
        (delta(None, 7, None, "a-1-1", None), (0, 0)),
        (msgspec.structs.replace(delta(None, 7, None, "a-1-1", None), flags=("snapshot",)), (8, 8)),
        (msgspec.structs.replace(delta(None, 7, None, "a-1-1", None), flags=("snapshot",), source="rest"), (0, 0)),
        (msgspec.structs.replace(delta(None, None, None, "a-1-1", T), flags=("clear",)), (0, 0)),
    ],
)
def test_a_row_covers_the_ids_with_which_it_ends_a_gap(row, ids):
    """As the merger counts them: what a start reads from the disk after a crash ends gaps as the stream would have."""
    assert ids_of(row) == ids
    held = made()
    held.resume({"A": Resume(T, 0, "b-1-1", "crash")})
    held.merge(row)
    assert [(gap.id_from, gap.id_to) for gap in gaps(held)] == ([(1, ids[0])] if ids[1] else [(1, None)])


def test_an_update_that_claims_to_follow_a_later_one_covers_its_own_last_id():
    held = made()
    assert all(held.merge(event) for event in (futures(1, 4), futures(4, 9), futures(50, 12, first=10)))
    (gap,) = gaps(held)
    assert (gap.id_from, gap.id_to) == (10, 12)


@pytest.mark.parametrize(
    "events,span",
    [([spot(1, 4), spot(7, 9)], (5, 7)), ([futures(1, 4), futures(80, 90)], (5, 81))],
    ids=["spot", "futures"],
)
def test_a_break_is_a_gap_of_the_ids_that_no_update_covers(events, span):
    held = made()
    assert all(held.merge(event) for event in events)
    assert held.tick(events[-1].ts_recv + HOLD - 1) == []
    (gap,) = gaps(held)
    assert (gap.id_from, gap.id_to) == span
    assert (gap.cause, gap.proof, gap.state) == ("jump", "ids", "open")
    assert (gap.ts_from, gap.ts_to) == (events[0].ts_event, events[1].ts_event + 1)


def test_updates_of_a_second_connection_are_copies_and_fill_what_the_first_lost():
    held = made()
    first = [futures(1, 4), futures(4, 9), futures(30, 35)]
    second = [futures(1, 4, "b-1-1"), futures(4, 9, "b-1-1"), futures(9, 20, "b-1-1"), futures(20, 30, "b-1-1"),
              futures(30, 35, "b-1-1")]  # fmt: skip
    assert [held.merge(event) for event in first] == [True] * 3
    assert [held.merge(event) for event in second] == [False, False, True, True, False]
    assert gaps(held) == []
    assert held.duplicates == 3


def test_what_fills_a_hole_after_its_row_was_given_repairs_it():
    held = made()
    for event in (spot(1, 4), spot(10, 12)):
        held.merge(event)
    (opened,) = gaps(held)
    assert held.merge(spot(5, 7, "b-1-1"))
    (smaller,) = gaps(held)
    assert (smaller.gap_id, smaller.id_from, smaller.id_to) == (opened.gap_id, 8, 10)
    assert held.merge(spot(6, 11, "b-1-1"))
    (closed,) = gaps(held)
    assert (closed.gap_id, closed.state, closed.source) == (opened.gap_id, "repaired", "late")


def test_an_update_that_overlaps_the_newest_goes_on_from_it():
    held = made()
    assert [held.merge(e) for e in (futures(1, 10), futures(5, 15, "b-1-1"), futures(10, 20), futures(20, 25))]
    assert gaps(held) == []
    assert not held.merge(futures(15, 20, "b-1-1"))


def test_an_interruption_ends_with_the_next_update_and_names_the_ids_between():
    held = made()
    held.merge(futures(1, 10))
    (begun,) = held.interrupt("a-1-1", ["A"], "disconnect", T + SECOND)
    assert begun.ts_to is None
    held.merge(futures(50, 60, "a-2-1"))
    (ended,) = gaps(held)
    assert (ended.gap_id, ended.cause, ended.id_from, ended.id_to) == (begun.gap_id, "disconnect", 11, 51)


def test_an_interruption_without_a_lost_update_is_empty():
    held = made()
    held.merge(futures(1, 10))
    held.interrupt("a-1-1", ["A"], "disconnect", T + SECOND)
    assert held.merge(futures(10, 20, "a-2-1"))
    (gap,) = gaps(held)
    assert (gap.state, gap.proof) == ("empty", "ids")


def test_a_copy_from_the_new_connection_proves_that_nothing_was_lost():
    held = made()
    held.merge(futures(1, 10))
    held.interrupt("a-1-1", ["A"], "disconnect", T + SECOND)
    assert not held.merge(futures(1, 10, "a-2-1"))
    (gap,) = gaps(held)
    assert gap.state == "empty"


def test_a_restart_joins_what_was_stored():
    held = made()
    held.resume({"A": Resume(T, 10, "a-1-1", "stopped")})
    (begun,) = held.tick(T)
    assert not held.merge(futures(5, 10, "b-1-1", at=T))
    assert held.merge(futures(10, 12, "b-1-1"))
    (gap,) = gaps(held)
    assert (gap.gap_id, gap.state) == (begun.gap_id, "empty")


def test_ids_that_start_anew_are_taken_after_three_and_never_dropped():
    held = made()
    for n in range(10):
        held.merge(futures(10**9 + n, 10**9 + n + 1, at=T + n))
    later = T + 60 * SECOND
    assert all(held.merge(futures(n, n + 1, at=later + n)) for n in range(1, 8))
    (gap,) = gaps(held)
    assert (gap.cause, gap.id_from) == ("id_reset", None)
    assert held.merge(futures(8, 9, at=later + 8))
    assert not held.merge(futures(8, 9, "b-1-1", at=later + 8))


def test_two_speeds_of_one_book_lose_nothing():
    held = made()
    fast = [spot(n * 10 + 1, n * 10 + 10, at=T + n * 100_000) for n in range(10)]
    assert all(held.merge(event) for event in fast)
    assert held.merge(spot(1, 100, at=T + 905_000)), "newer than the newest: the table's key decides"
    assert held.merge(spot(101, 110, at=T + 1_000_000))
    assert gaps(held) == []


@given(st.data())
def test_every_id_is_covered_by_a_kept_update_or_named_in_a_gap(data):
    """Two connections send cuts of one stream, each losing some: what nobody sent is exactly what the gaps name."""
    cuts = sorted(data.draw(st.sets(st.integers(2, 60), min_size=1, max_size=25)) | {1, 61})
    updates = list(itertools.pairwise(cuts))
    feeds = [data.draw(st.lists(st.sampled_from(range(len(updates))), unique=True).map(sorted)) for _ in "ab"]
    order = data.draw(st.lists(st.booleans(), min_size=120, max_size=120))
    held, kept = made(), []
    for side in order:
        if feeds[side]:
            start, end = updates[feeds[side].pop(0)]
            event = spot(start, end - 1, f"{'ab'[side]}-1-1")
            if held.merge(event):
                kept.append((start, end))
    covered = {number for start, end in kept for number in range(start, end)}
    assert len({start for start, _ in kept}) == len(kept), "no update twice"
    missing = {n for gap in gaps(held) if gap.state == "open" for n in range(gap.id_from, gap.id_to)}
    if kept:  # what lies before the lowest update that was seen is no loss of ours
        assert missing == set(range(min(covered), max(covered) + 1)) - covered


# Up to where stored rows tell a book


def snapshot(last, session="a-1-1", source="rest", at=None):
    row = delta(None, last, None, session, at)
    row.flags = ("snapshot",)
    row.source = source
    return row


def known_after(*events):
    held = made()
    for event in events:
        held.merge(event)
    return held, held.known("A")


def test_a_snapshot_of_the_same_id_that_another_session_asked_for_is_a_copy():
    held = made()
    rows = [spot(1, 4), snapshot(4), snapshot(4, "b-1-1"), spot(5, 6), snapshot(6, "b-1-1"), snapshot(4, "c-1-1")]
    assert [held.merge(row) for row in rows] == [True, True, False, True, True, True]
    assert (held.duplicates, held.known("A")) == (1, 6)


@pytest.mark.parametrize(
    "events,known",
    [([spot(1, 4)], None), ([spot(1, 4), snapshot(2)], 4), ([spot(1, 4), snapshot(9)], 9),
     ([spot(1, 4), snapshot(9), spot(5, 12)], 12), ([spot(1, 4), snapshot(2), spot(7, 9)], None),
     ([spot(1, 4), spot(7, 9), snapshot(6)], 9), ([spot(1, 4), spot(7, 9), snapshot(3)], None),
     ([spot(1, 4), snapshot(2), spot(7, 9), spot(5, 6, "b-1-1")], 9),
     ([spot(1, 4), snapshot(2), spot(7, 9), snapshot(8)], 9),
     ([spot(1, 4), snapshot(2), spot(7, 9), snapshot(8), spot(20, 21)], None),
     ([futures(90, 100), snapshot(100), futures(100, 107)], 107),
     ([futures(90, 100), snapshot(95), futures(103, 107)], None),
     ([snapshot(5)], 5), ([], None)],
)  # fmt: skip
def test_a_book_is_known_as_far_as_nothing_is_missing_since_its_snapshot(events, known):
    assert known_after(*events)[1] == known


def test_an_interruption_does_not_make_a_book_unknown_but_what_was_lost_in_it_does():
    held, _ = known_after(spot(1, 4), snapshot(2))
    held.interrupt("a-1-1", ["A"], "disconnect", T + SECOND)
    assert held.known("A") == 4
    held.merge(spot(5, 6, "a-2-1"))
    assert held.known("A") == 6
    held.interrupt("a-2-1", ["A"], "disconnect", T + SECOND)
    held.merge(spot(9, 10, "a-3-1"))
    assert held.known("A") is None


def test_a_numbering_that_begins_anew_makes_a_book_unknown():
    held, _ = known_after(*(spot(10**9 + n, 10**9 + n, at=T + n) for n in range(9)), snapshot(10**9 + 4))
    assert held.known("A") == 10**9 + 8
    for n in range(1, 8):
        held.merge(spot(n, n, at=T + 60 * SECOND + n))
    assert held.known("A") is None


def test_twins_change_places_without_a_hole_and_copies_are_dropped():
    held = made()
    for n in range(1, 50):
        pair = [futures(10 * n, 10 * n + 10, name) for name in (("a", "b") if n % 3 else ("b", "a"))]
        assert [held.merge(event) for event in pair] == [True, False]
    assert (gaps(held), held.duplicates) == ([], 49)


def whole(last, session="a-1-1", at=None):
    """A whole book in the stream, as venues send it that give no other."""
    return snapshot(last, session, "ws", at)


def test_a_whole_book_in_the_stream_tells_it_and_what_was_missed_before_it_is_a_gap_of_ids():
    held = made()
    rows = [whole(100), spot(101, 101), spot(103, 103), whole(105), spot(106, 106)]
    assert [held.merge(row) for row in rows] == [True] * 5
    assert [(gap.id_from, gap.id_to, gap.cause) for gap in gaps(held)] == [(102, 103, "jump"), (104, 106, "jump")]
    assert held.known("A") == 106


def test_an_update_behind_the_first_whole_book_that_does_not_follow_it_is_a_gap():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(102, 102)))
    (gap,) = gaps(held)
    assert (gap.id_from, gap.id_to) == (101, 102)


def test_a_whole_book_that_says_what_is_stored_is_a_copy_and_shows_that_nothing_was_missed():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 101)))
    (gap,) = held.interrupt("a-1-1", ["A"], "cut", T + 101_500)
    assert gap.ts_to is None
    assert not held.merge(whole(101, "b-1-1"))
    (gap,) = gaps(held)
    assert (gap.state, held.duplicates, held.known("A")) == ("empty", 1, 101)


def test_a_whole_book_ends_an_interruption_and_says_which_updates_lie_in_it():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 101)))
    held.interrupt("a-1-1", ["A"], "cut", T + 101_500)
    assert held.merge(whole(110, "b-1-1"))
    (gap,) = gaps(held)
    assert (gap.cause, gap.id_from, gap.id_to, gap.state) == ("cut", 102, 111, "open")
    assert held.known("A") == 110


def test_an_interruption_in_which_the_update_of_the_wholes_id_alone_was_lost_is_no_empty_one():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 101)))
    held.interrupt("a-1-1", ["A"], "cut", T + 101_500)
    assert held.merge(whole(102, "b-1-1"))
    (gap,) = gaps(held)
    assert (gap.id_from, gap.id_to, gap.state) == (102, 103, "open")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_update_is_a_row_though_a_whole_of_its_id_came_first_and_is_one_once(order):
    """A connection joins with its whole; those that were there tell the update of the same id."""
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 101), spot(102, 102)))
    coming = [whole(103, "b-1-1"), spot(103, 103), spot(103, 103, "c-1-1")]
    rows = [event for event in (coming[n] for n in order) if held.merge(event)]
    rows += [row for row in (spot(104, 104), spot(104, 104, "b-1-1"), spot(104, 104, "c-1-1")) if held.merge(row)]
    assert [row.last_id for row in rows if not row.flags] == [103, 104]
    assert sum(bool(row.flags) for row in rows) == (order[0] == 0), "a whole that tells nothing new is no row"
    assert (gaps(held), held.known("A")) == ([], 104)


def test_the_update_of_the_first_wholes_id_is_a_row_once_and_a_second_whole_of_it_none():
    held = made()
    rows = [whole(100), spot(100, 100, "b-1-1"), whole(100, "c-1-1"), spot(100, 100, "c-1-1"), spot(101, 101)]
    assert [held.merge(row) for row in rows] == [True, True, False, False, True]
    assert (gaps(held), held.known("A")) == ([], 101)


def test_who_joins_with_a_whole_has_joined_once_its_update_is_there():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 101), whole(102, "b-1-1")))
    assert not held.joined("b-1-1", "A")
    assert held.merge(spot(102, 102))
    assert held.joined("b-1-1", "A")


def test_a_whole_that_says_what_is_stored_is_a_row_where_no_book_can_be_told_from_the_rows():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(103, 103)))
    assert held.known("A") is None
    assert held.merge(whole(103, "b-1-1"))
    assert held.known("A") == 103
    assert not held.merge(whole(103, "c-1-1"))


def test_a_whole_book_far_below_what_was_seen_is_a_new_numbering():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 101)))
    later = T + 500_000
    assert all(held.merge(row) for row in (whole(1, at=later), spot(2, 2, at=later + 100), spot(3, 3, at=later + 200)))
    (gap,) = gaps(held)
    assert (gap.cause, gap.ts_from, gap.ts_to) == ("id_reset", T + 101_000, later + 1)
    assert held.known("A") == 3


def test_a_whole_book_a_little_behind_what_was_seen_is_no_new_numbering_though_its_time_is_later():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(101, 130)))
    assert not held.merge(whole(120, "b-1-1", at=T + 500_000))
    assert gaps(held) == []


def test_a_whole_book_inside_a_hole_of_the_others_is_kept():
    held = made()
    assert all(held.merge(row) for row in (whole(100), spot(105, 105)))
    assert held.merge(whole(103, "b-1-1"))
