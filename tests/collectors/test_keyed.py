"""Kinds without ids: what says the same is a copy, a candle that is told differently is a revision."""

import msgspec
import pytest

from collectors.holes import HANDOVER, IN_FLIGHT, SETTLED
from collectors.keyed import KEPT
from collectors.merger import KeyedMerger, MonotonicMerger, merger
from market.kinds import BookSnapshot, Contract, Kline, Liquidation, MarkPrice
from market.session import EVERY_SYMBOL, Resume
from market.times import MINUTE, MS, SECOND

T = 1_785_701_700_000_000


def place(session, n, at):
    return (at, None, at + 5, session, n, 0, "ws")


def mark(n, session="a-1-1"):
    return MarkPrice("A", "a@markPrice@1s", *place(session, n, T + n * SECOND), "1.5", "1.4", "0.0001", None)


def order(n, session="a-1-1", qty="2"):
    return Liquidation("A", "a@forceOrder", *place(session, n, T + n), "sell", "9", "9.1", qty)


def candle(n, session="a-1-1", close="2", interval="1m"):
    return Kline(
        "A", "a@kline_1m", *place(session, n, T + n), interval, T + n, "1", "2", "1", close, "5", "9", 3, "1", "2"
    )


def book(n, session="a-1-1", source="ws"):
    empty = msgspec.Raw(b"[]")
    event = BookSnapshot("A", "a@depth20@100ms", *place(session, n, T + n), empty, empty, n, 20)
    event.source = source
    return event


def notice(n, session="a-1-1", status="", symbol="A"):
    nothing = dict.fromkeys(field for field in Contract.__struct_fields__[9:])
    told = {"uid": f"binance:linear:{symbol}", "status": status or f"STATUS {n}", "known_from": T + n + len(session)}
    return Contract(symbol, "!contractInfo", *place(session, n, T + n), **(nothing | told))


def made(kind):
    return merger("binance", "linear", kind, contiguous=False)


@pytest.mark.parametrize(
    "kind,event",
    [("mark_price", mark), ("liquidation", order), ("kline", candle), ("book_snapshot", book), ("contract", notice)],
)
def test_what_two_connections_say_is_kept_once(kind, event):
    held = made(kind)
    assert isinstance(held, KeyedMerger)
    assert [held.merge(event(n, session)) for n in (1, 2) for session in ("a-1-1", "bb-1-1")] == [True, False] * 2
    assert held.duplicates == 2
    assert held.tick(T + 60 * SECOND) == []


def test_quotes_keep_their_merger():
    assert isinstance(made("quote"), MonotonicMerger)


def test_orders_of_one_moment_that_differ_are_two():
    held = made("liquidation")
    assert held.merge(order(1))
    assert held.merge(order(1, qty="3"))


def test_a_candle_told_differently_is_the_next_revision_and_told_the_same_is_a_copy():
    held = made("kline")
    events = [candle(1), candle(1), candle(1, close="3"), candle(1, close="3", session="b-1-1"), candle(1, close="4")]
    assert [held.merge(event) for event in events] == [True, False, True, False, True]
    assert [event.revision for event in events] == [0, 0, 1, 0, 2]
    assert held.merge(candle(1, interval="5m")), "another interval is another candle"


def test_a_snapshot_that_was_fetched_is_not_the_one_that_was_sent():
    held = made("book_snapshot")
    assert held.merge(book(1))
    assert held.merge(book(1, source="rest"))
    assert not held.merge(book(1, "b-1-1"))


def test_a_numbering_that_begins_anew_sends_other_books_and_a_quiet_one_that_is_asked_again_is_the_same():
    for source, new in (("ws", True), ("rest", False)):
        held = made("book_snapshot")
        assert held.merge(book(1, source=source))
        again = book(1, source=source)
        again.ts_event += SECOND
        assert held.merge(again) is new


def test_an_interruption_ends_with_the_next_event_and_is_empty_where_the_new_session_repeats_one():
    for repeated, state in ((mark(1, "b-1-1"), "empty"), (mark(5, "b-1-1"), "open")):
        held = made("mark_price")
        held.merge(mark(1))
        (begun,) = held.interrupt("a-1-1", ["A"], "disconnect", T + 2 * SECOND)
        held.merge(repeated)
        (gap,) = held.tick(T + 60 * SECOND)
        assert (gap.gap_id, gap.state) == (begun.gap_id, state)
        assert gap.ts_to is not None


def test_the_interruption_of_a_stream_of_all_symbols_ends_with_any_symbol():
    held = made("contract")
    held.merge(notice(1))
    (begun,) = held.interrupt("a-1-1", [EVERY_SYMBOL], "disconnect", T + SECOND)
    assert begun.symbol == EVERY_SYMBOL
    held.merge(notice(2, "b-1-1", symbol="B"))
    (gap,) = held.tick(T + 60 * SECOND)
    assert gap.gap_id == begun.gap_id
    assert gap.ts_to is not None


def test_memory_is_bounded_and_the_newest_stay_in_it():
    held = made("mark_price")
    for n in range(10_000):
        held.merge(mark(n))
    least, most = KEPT
    assert least <= len(held._told["A"]) <= most
    assert [held.merge(mark(n)) for n in range(10_000 - least, 10_000)] == [False] * least


def test_one_mark_behind_a_silence_does_not_show_that_the_stream_flows():
    held = made("mark_price")
    held.merge(mark(1))
    found = held.interrupt("a-1-1", ["A"], "stalled", T + 62 * SECOND)
    for n in (70, 90, 93, 96, 110):
        held.merge(mark(n, "b-1-1"))
    spans = {gap.gap_id: (gap.ts_from, gap.ts_to) for gap in [*found, *held.tick(T + 111 * SECOND)]}
    assert sorted(spans.values()) == [(T + SECOND, T + 70 * SECOND), (T + 70 * SECOND, T + 90 * SECOND)]


def test_an_interruption_of_a_stream_that_is_silent_by_nature_ends_when_the_venue_takes_it_on_again():
    held = made("liquidation")
    held.merge(order(1))
    (begun,) = held.interrupt("a-1-1", ["A"], "disconnect", T + SECOND)
    assert held.acknowledged("b-1-1", ["A"], T + 2 * SECOND) == []
    assert held.interrupt("b-1-1", ["A"], "disconnect", T + 3 * SECOND) == [], "one interruption, however often cut"
    assert held.acknowledged("c-1-1", ["A"], T + 3 * SECOND) == []
    assert held.tick(T + 3 * SECOND + SETTLED - 1) == []
    (ended,) = held.tick(T + 3 * SECOND + SETTLED)
    assert (ended.gap_id, ended.ts_to) == (begun.gap_id, T + 3 * SECOND)
    assert held.merge(order(9, "c-1-1"))
    assert held.tick(T + 60 * SECOND) == []


def test_a_stream_that_was_taken_on_again_and_cut_before_anything_came_is_missing_since_then_and_no_longer():
    """Found by the virtual soak: the second interruption began with the last order, hours before, over time that was
    covered; where both began with the same order, the row of the first said that it was over while the second went on.
    """
    held = made("liquidation")
    held.merge(order(1))
    (first,) = held.interrupt("a-1-1", ["A"], "disconnect", T + 3600 * SECOND)
    held.acknowledged("b-1-1", ["A"], T + 3700 * SECOND)
    held.tick(T + 3700 * SECOND + SETTLED)
    (second,) = held.interrupt("b-1-1", ["A"], "disconnect", T + 7200 * SECOND)
    assert (second.ts_from, second.ts_to) == (T + 3700 * SECOND, None)
    assert second.gap_id != first.gap_id


@pytest.mark.parametrize("alive", [3600, 3580, 3000])
def test_what_was_handed_over_after_an_interruption_was_there_as_long_as_anything_came(alive):
    """Found by a soak of 105 minutes: a venue fell silent in the middle of a handover, and orders of the time until the
    handover's end were in no gap.
    """
    held = made("liquidation")
    held.merge(order(1))
    held.interrupt("a-1-1", ["A"], "disconnect", T + 60 * SECOND)
    held.acknowledged("b-1-1", ["A"], T + 70 * SECOND)
    held.tick(T + 70 * SECOND + SETTLED)
    held.acknowledged("c-1-1", ["A"], T + 3500 * SECOND)
    assert held.passed_on("b-1-1", {}, T + alive * SECOND, T + alive * SECOND, T + 3600 * SECOND) == []
    assert held.interrupt("b-1-1", ["A"], HANDOVER, T + 3600 * SECOND) == []
    (begun,) = held.interrupt("c-1-1", ["A"], "silence", T + 3620 * SECOND)
    assert begun.ts_from == T + alive * SECOND - IN_FLIGHT


def minute(n, session="a-1-1"):
    """The candle of the minute `n`; its event is at its last millisecond."""
    start = T - T % MINUTE + n * MINUTE
    at = (start + MINUTE - MS, None, start + MINUTE + 100 * MS, session, n, 0, "ws")
    return Kline("A", "a@kline_1m", *at, "1m", start, "1", "2", "1", "2", "5", "9", 3, "1", "2")


@pytest.mark.parametrize(
    "seen,next_one,state", [(5, 6, "empty"), (5, 7, "open"), (None, 6, "empty"), (None, 7, "open")]
)
def test_an_interruption_between_two_closings_of_candles_lost_none_and_one_over_a_closing_did(seen, next_one, state):
    held = made("kline")
    if seen is not None:
        held.merge(minute(seen))
    cut = minute(5).ts_recv + 20 * SECOND
    (begun,) = held.interrupt("a-1-1", ["A"], "silence", cut)
    held.merge(minute(next_one, "b-1-1"))
    (gap,) = held.tick(minute(9).ts_recv)
    assert (gap.gap_id, gap.state, gap.ts_to) == (begun.gap_id, state, minute(next_one).ts_event)


@pytest.mark.parametrize("told", [(1, 3, 5, 8), (5, 8), (3, 6, 8), (8,)])
def test_a_whole_of_candles_after_a_restart_shows_that_none_is_missing_where_it_begins_before_the_stop(told):
    """Coinbase tells the last hundred to who subscribes, those without a trade not; the memory of what was told before
    the restart is gone. One that begins behind the stop leaves out what is between.
    """
    held = KeyedMerger("coinbase", "spot", "kline", by_next=True)
    held.resume({"A": Resume(minute(5).ts_event, None, "a-1-1", "stopped")})
    (begun,) = held.tick(minute(8).ts_recv)
    assert (begun.state, begun.ts_to) == ("open", None)
    for n in told:
        assert held.merge(minute(n, "b-1-1"))
    (gap,) = held.tick(minute(9).ts_recv)
    assert (gap.gap_id, gap.state) == (begun.gap_id, "open" if told == (8,) else "empty")
    assert told != (8,) or gap.ts_to == minute(8).ts_event


def test_the_mark_that_was_stored_last_is_a_copy_where_a_venue_says_it_again_after_a_restart():
    held = made("mark_price")
    held.resume({"A": Resume(mark(1).ts_event, None, "a-1-1", "stopped")})
    (begun,) = held.tick(T + 2 * SECOND)
    assert not held.merge(mark(1, "b-1-1"))
    assert held.merge(mark(2, "b-1-1"))
    (gap,) = held.tick(T + 60 * SECOND)
    assert (gap.gap_id, gap.state) == (begun.gap_id, "empty")


def test_an_interruption_of_candles_begins_where_its_session_was_last_heard():
    for shown, since in ((20, 18), (90, 23), (0, 0)):
        held = made("kline")
        held.merge(minute(5))
        end = minute(5).ts_event
        (gap,) = held.interrupt("a-1-1", ["A"], "cut", end + 25 * SECOND, end + shown * SECOND if shown else 0)
        assert gap.ts_from == end + since * SECOND
        held.merge(minute(6, "b-1-1"))
        (ended,) = held.tick(minute(9).ts_recv)
        assert (ended.gap_id, ended.state) == (gap.gap_id, "empty")


def test_an_interruption_of_candles_that_were_about_to_come_is_one():
    held = made("kline")
    held.merge(minute(5))
    other = minute(6)
    other.symbol = "B"
    held.merge(other)
    (begun,) = held.interrupt("a-1-1", ["A"], "silence", other.ts_recv)
    held.merge(minute(7, "b-1-1"))
    (gap,) = held.tick(minute(9).ts_recv)
    assert (gap.state, gap.ts_from) == ("open", begun.ts_from)
    assert gap.ts_from <= minute(6).ts_event < gap.ts_to


def test_a_candle_that_only_the_next_one_tells_is_missing_from_the_last_that_was_told():
    """Its symbol was still, and others were told long after it: they do not show that it was told."""
    held = KeyedMerger("kraken", "spot", "kline", by_next=True)
    held.merge(minute(5))
    other = minute(30)
    other.symbol = "B"
    held.merge(other)
    (begun,) = held.interrupt("a-1-1", ["A"], "disconnect", other.ts_recv)
    assert begun.ts_from == minute(5).ts_event
    held.merge(minute(40, "b-1-1"))
    (gap,) = held.tick(minute(50).ts_recv)
    assert (gap.state, gap.ts_to) == ("open", minute(40).ts_event)
    (missed,) = held.missed("a-1-1", "A", minute(45).ts_recv, minute(50).ts_recv, "disconnect", minute(50).ts_recv)
    assert missed.ts_from == minute(40).ts_event


@pytest.mark.parametrize("next_one,state", [(6, "empty"), (9, "open")])
def test_who_hands_over_may_hold_a_candle_that_only_the_next_one_tells(next_one, state):
    """The new connection was told of nothing yet: of a candle whose last trade was before it, it hears no more."""
    held = KeyedMerger("kucoin", "spot", "kline", by_next=True)
    held.merge(minute(5))
    held.acknowledged("b-1-1", ["A"], minute(5).ts_recv)
    assert held.interrupt("a-1-1", ["A"], HANDOVER, minute(7).ts_recv) == []
    held.merge(minute(next_one, "b-1-1"))
    (gap,) = held.tick(minute(9).ts_recv)
    assert (gap.cause, gap.state) == (HANDOVER, state)
    assert (gap.ts_from, gap.ts_to) == (minute(5).ts_event, minute(next_one).ts_event)


def test_a_connection_that_has_told_a_candle_holds_the_one_that_forms():
    held = KeyedMerger("kucoin", "spot", "kline", by_next=True)
    held.merge(minute(5))
    held.merge(minute(5, "b-1-1"))
    assert held.interrupt("a-1-1", ["A"], HANDOVER, minute(7).ts_recv) == []
    held.merge(minute(9, "b-1-1"))
    assert held.tick(minute(9).ts_recv) == []


@pytest.mark.parametrize("after", [None, "handover"])
def test_of_a_symbol_that_is_wanted_no_more_the_candle_that_nobody_will_tell_is_missing(after):
    held = KeyedMerger("kucoin", "spot", "kline", by_next=True)
    held.merge(minute(5))
    if after:
        assert held.interrupt("a-1-1", ["A"], HANDOVER, minute(5).ts_recv + 1) == []
    (gap,) = held.forget(["A"], minute(6).ts_event + MS)
    assert (gap.cause, gap.state, gap.ts_from) == ("retired", "open", minute(5).ts_event)
    assert gap.ts_from <= minute(6).ts_event < gap.ts_to
    held.merge(minute(15))
    assert held.forget(["A"], minute(15).ts_event + 50 * SECOND) == [], "none has ended since"
    held.merge(minute(25))
    (begun,) = held.interrupt("a-1-1", ["A"], "disconnect", minute(27).ts_recv)
    (ended,) = held.forget(["A"], minute(28).ts_recv)
    assert (ended.gap_id, ended.cause, ended.ts_to) == (begun.gap_id, "disconnect", minute(28).ts_recv)


def test_what_was_asked_for_is_no_sign_that_the_socket_lived():
    """Answers of REST come while it is silent."""
    held = made("book_snapshot")
    other = book(2)
    other.symbol = "B"
    feed = [book(1), other, book(3 * SECOND, source="rest"), book(9 * SECOND, "a-1-1", source="rest")]
    assert all(held.merge(event) for event in feed)
    gaps = held.interrupt("a-1-1", ["A", "B"], "silence", T + 9 * SECOND)
    assert sorted((gap.symbol, gap.ts_from) for gap in gaps) == [("A", T + 1), ("B", T + 2)]


@pytest.mark.parametrize("late,state", [(SECOND // 10, "open"), (10 * SECOND, "empty")])
def test_the_first_candle_of_a_symbol_is_missing_where_the_cut_fell_among_the_closings(late, state):
    """Candles of all symbols are sent together: the connection was cut when some of them had come."""
    held = made("kline")
    other = minute(5)
    other.symbol = "B"
    held.merge(other)
    closed = minute(6).open_time
    (begun,) = held.interrupt("a-1-1", ["A"], "disconnect", closed + late + SECOND, shown=closed + late)
    assert begun.ts_from < closed + late
    held.merge(minute(6, "b-1-1"))
    (gap,) = held.tick(minute(9).ts_recv)
    assert (gap.gap_id, gap.state) == (begun.gap_id, state)


@pytest.mark.parametrize("heard,begins", [(T - 30 * SECOND, T - 32 * SECOND), (0, T - 62 * SECOND)])
def test_orders_of_all_symbols_are_missing_since_their_socket_was_last_heard(heard, begins):
    held = made("liquidation")
    held.merge(order(-60 * SECOND))
    (begun,) = held.interrupt("a-1-1", [EVERY_SYMBOL], "silence", T, heard)
    assert (begun.symbol, begun.ts_from, begun.ts_to) == (EVERY_SYMBOL, begins, None), "not since that was noticed"


def test_a_symbol_of_which_nothing_is_stored_is_missing_since_its_socket_was_last_heard():
    held = merger("bybit", "spot", "trade", contiguous=False)
    (begun,) = held.interrupt("a-1-1", ["A"], "silence", T, T - 30 * SECOND)
    assert begun.ts_from == T - 30 * SECOND


def test_partial_books_without_times_of_the_venue_leave_no_gap_where_one_of_two_connections_is_cut():
    made = merger("binance", "spot", "book_snapshot", contiguous=False)

    def told(n, session, late):
        event = book(n, session)
        event.ts_event, event.ts_recv = None, T + n * 100 * MS + late
        return event

    for n in range(1, 40):
        for session, late in (("a-1-1", 3 * MS), ("b-1-1", n % 7 * MS)):
            if not (session == "b-1-1" and n < 20):
                made.merge(told(n, session, late))
    found = made.interrupt("a-1-1", [], "disconnect", T + 4 * SECOND)
    for n in range(40, 50):
        made.merge(told(n, "b-1-1", 0))
    assert found + made.tick(T + MINUTE) == []


def test_what_comes_late_on_its_own_connection_does_not_show_that_this_one_was_mute():
    held = made("liquidation")
    assert [held.merge(order(n)) for n in (1, 3, 2, 4)] == [True] * 4
    assert held.tick(T + 60 * SECOND) == []


def test_an_interruption_goes_on_where_the_connection_that_was_to_end_it_does_not_last():
    held = made("liquidation")
    held.merge(order(1))
    (gap,) = held.interrupt("a-1-1", ["A"], "disconnect", T + SECOND)
    held.acknowledged("b-1-1", ["A"], T + 2 * SECOND)
    held.interrupt("b-1-1", ["A"], "disconnect", T + 3 * SECOND)
    assert [one for one in held.tick(T + 2 * SECOND + SETTLED) if one.ts_to is not None] == []
    held.acknowledged("c-1-1", ["A"], T + 20 * SECOND)
    ended = [one for one in held.tick(T + 20 * SECOND + SETTLED) if one.ts_to is not None]
    assert [(one.gap_id, one.ts_to) for one in ended] == [(gap.gap_id, T + 20 * SECOND)]
