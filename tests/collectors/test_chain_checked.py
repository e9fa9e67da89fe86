"""Books that are proven by checksums: copies, breaks, and that rows and gaps together are the truth."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import recovery
from collectors.chain_checked import CHECKSUM, CheckedMerger
from collectors.holes import HANDOVER, STALLED
from market.chain import Chain, Link
from market.kinds import BookDelta
from market.session import Resume
from market.times import SECOND

T = 1_785_701_700_000_000
EMPTY = msgspec.Raw(b"[]")


def row(at, before=None, session="a-1-1", flags=(), checksum=None):
    """A message at a time: its place is the time, its checksum too unless said."""
    place = None if "clear" in flags else at
    said = at if checksum is None else checksum
    return BookDelta(
        "A", "book.10.A", T + at, None, T + at + 1, session, 1, 0, "ws", EMPTY, EMPTY, None, place, before, said, flags
    )


def whole(at, session="a-1-1", checksum=None):
    return row(at, None, session, ("snapshot",), checksum)


def clear(at, session="a-1-1"):
    return row(at, None, session, ("clear",))


def made():
    return CheckedMerger("kraken", "spot", "book_delta")


def test_a_book_that_is_wrong_from_the_start_is_missing_from_then_on():
    held = made()
    held.merge(clear(50))
    (gap,) = held.tick(T + 60 * SECOND)
    assert (gap.ts_from, gap.ts_to) == (T + 50, None)


def test_who_has_stopped_knows_no_book_any_more_and_who_comes_after_it_tells_the_gap():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10)))
    assert held.let_go("a-1-1", ["A"], "stopped", T + 30) == [] == held.tick(T + 60 * SECOND)
    assert held.merge(whole(100, "b-2-1"))
    assert held.merge(clear(120, "b-2-1"))
    gaps = [(gap.cause, gap.session, gap.ts_from - T, gap.ts_to) for gap in held.tick(T + 60 * SECOND)]
    assert gaps == [("stopped", "a-1-1", 20, T + 100), (CHECKSUM, "b-2-1", 100, None)]


def test_what_a_second_connection_says_again_is_a_copy():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10), row(30, 20)))
    assert not any(held.merge(one) for one in (whole(10, "b-1-1"), row(20, 10, "b-1-1"), row(30, 20, "b-1-1")))
    assert held.duplicates == 3
    assert held.joined("b-1-1", "A")
    assert held.tick(T + 60 * SECOND) == []


def test_a_whole_of_another_connection_is_kept_where_changes_go_on_from_it():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10), whole(25, "b-1-1"), row(30, 25, "b-1-1")))
    assert not held.merge(row(30, 20))
    assert held.tick(T + 60 * SECOND) == []


def test_what_two_sessions_lost_before_a_whole_came_is_a_gap_once_nobody_can_say_more():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10), whole(40, "b-1-1")))
    assert held.tick(T) == []
    assert not held.merge(clear(50)), "b serves the book"
    (gap,) = held.tick(T)
    assert (gap.cause, gap.ts_from, gap.ts_to, gap.state) == (CHECKSUM, T + 20, T + 40, "open")


def test_a_change_that_reaches_over_a_whole_proves_that_nothing_lies_before_it():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10), whole(40, "b-1-1"), row(30, 20), row(50, 30)))
    assert not held.merge(clear(60, "b-1-1"))
    assert held.interrupt("b-1-1", ["A"], "disconnect", T + 100) == []


def test_a_break_of_the_only_session_is_a_gap_from_the_last_proven_row_to_the_next_whole():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10), clear(40)))
    (gap,) = held.tick(T)
    assert (gap.cause, gap.proof, gap.ts_from, gap.ts_to, gap.state) == (CHECKSUM, CHECKSUM, T + 20, None, "open")
    assert (gap.id_from, gap.id_to) == (None, None)
    assert held.merge(whole(90))
    (ended,) = held.tick(T)
    assert (ended.gap_id, ended.ts_to, ended.state) == (gap.gap_id, T + 90, "open")


def test_a_break_of_one_of_two_sessions_is_no_gap_and_no_row():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10)))
    held.merge(whole(20, "b-1-1", 20))
    assert not held.merge(clear(30, "b-1-1"))
    assert held.merge(row(40, 20))
    assert held.tick(T) == []


@pytest.mark.parametrize("cause", ["disconnect", HANDOVER])
@pytest.mark.parametrize("same", [True, False])
def test_after_an_interruption_the_same_book_by_time_and_checksum_proves_that_nothing_is_missing(cause, same):
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10)))
    held.interrupt("a-1-1", ["A"], cause, T + 100)
    held.merge(whole(20, "b-1-1", 20) if same else whole(25, "b-1-1"))
    (gap,) = held.tick(T + 200)
    assert gap.cause == cause
    assert gap.state == ("empty" if same else "open")
    if same:
        assert gap.proof == CHECKSUM


def test_a_stream_that_stalled_and_goes_on_where_it_was_missed_nothing():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10)))
    assert [gap.state for gap in held.interrupt("a-1-1", ["A"], STALLED, T + 100)] == ["open"]
    assert held.merge(row(200, 20))
    assert [gap.state for gap in held.tick(T + 300)] == ["empty"]


def test_a_restart_goes_on_from_what_is_stored():
    held = made()
    held.resume({"A": Resume(T + 20, 20, "a-1-1", "stopped")})
    assert [gap.ts_from for gap in held.tick(T)] == [T + 20]
    assert held.merge(whole(50, "b-1-1"))
    assert [(gap.ts_to, gap.state) for gap in held.tick(T)] == [(T + 50, "open")]


def test_what_was_not_stored_is_news_when_it_is_told_again():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10)))
    held.lose("A")
    assert held.merge(whole(20))


def test_after_a_crash_a_gap_is_ended_by_the_whole_that_its_own_session_began_anew_with():
    held = made()
    assert all(held.merge(one) for one in (whole(10), row(20, 10), clear(40)))
    (gap,) = held.tick(T)
    resumed = {}
    recovery._note_resumption(resumed, gap, row(20, 10))
    assert resumed == {}
    assert all(recovery._spoke(gap, event) for event in (clear(40), row(50, 20))), "and that ended nothing"
    assert not recovery._spoke(gap, whole(90))
    recovery._note_resumption(resumed, gap, whole(90))
    assert resumed == {gap.gap_id: (None, T + 90)}
    assert recovery._ended(gap, *resumed[gap.gap_id], T + 100).ts_to == T + 90


class Feed:
    """One connection to a book of which every message is one more: what it heard tells whether its checksum holds."""

    def __init__(self, name):
        self.name, self.last, self.known, self.lost = name, None, False, False

    def say(self, at, *, heard):
        """What its session makes of the message `at`."""
        if not self.known:
            return []
        if not heard:
            self.lost = True
            return []
        if self.lost:
            self.known, self.lost = False, False
            return [clear(at, self.name)]
        before, self.last = self.last, at
        return [row(at, before, self.name)]

    def begin(self, at):
        self.last, self.known, self.lost = at, True, False
        return [whole(at, self.name, at)]


steps = st.lists(
    st.tuples(
        st.booleans(), st.booleans(), st.sampled_from(("", "", "", "whole a", "whole b", "cut a", "cut b", "swap"))
    ),
    min_size=3,
    max_size=40,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_rows_and_gaps_together_are_the_truth(script):
    """Who follows the stored rows knows the book at every message outside of the gaps."""
    held, feeds = made(), {name: Feed(f"{name}-1-1") for name in "ab"}
    stored, gaps, order, told = [], {}, ["a", "b"], []

    def take(events):
        stored.extend(event for event in events if held.merge(event))
        gaps.update((gap.gap_id, gap) for gap in held.tick(T))

    take(feeds["a"].begin(5))
    told.append(5)
    for number, (a_hears, b_hears, what) in enumerate(script, 1):
        at = 10 * number
        told.append(at)
        hears = {"a": a_hears or number % 3 > 0, "b": b_hears}
        for name in order:
            take(feeds[name].say(at, heard=hears[name]))
        kind, _, name = what.partition(" ")
        if kind == "swap":
            order.reverse()
        elif kind == "whole" and not feeds[name].known:
            take(feeds[name].begin(at))
        elif kind == "cut" and feeds[name].known:
            feeds[name].known = feeds[name].lost = False
            for gap in held.interrupt(feeds[name].name, ["A"], "cut", T + at):
                gaps[gap.gap_id] = gap
            feeds[name].name = f"{name}-1-{number + 1}"
    told.append(at := 10 * len(script) + 10)
    for name in order:
        take(feeds[name].say(at, heard=True))
    chain, after = Chain(), {}
    for event in sorted(stored, key=lambda one: (one.ts_event, one.last_id or -1)):
        if event.last_id is None:
            chain.unknown(event.ts_event, "cleared")
        else:
            link = Link(event.last_id, None, event.prev_id, event.ts_event, None)
            (chain.snapshot if "snapshot" in event.flags else chain.update)(link)
        after[event.ts_event - T] = chain.last if chain.in_sync else None
    newest = None
    for at in told:
        newest = after.get(at, newest)
        missing = any(
            gap.state == "open" and gap.ts_from < T + at and (gap.ts_to is None or T + at < gap.ts_to)
            for gap in gaps.values()
        )
        assert missing or newest == at, (at, newest, gaps)
