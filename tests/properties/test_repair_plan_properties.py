"""What is done about open gaps: asked for once, in an order that the rows' order does not change; closed by proof."""

import itertools
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.history_plan import SETTLE, hole
from collectors.repair_plan import (
    CALM,
    LATEST,
    OWN,
    SOONEST,
    Asked,
    Known,
    Left,
    Sources,
    Tried,
    asked_of,
    plan,
)
from collectors.repair_proofs import Found, given_up, read_again, verdict
from market.history import Absent, Offer
from market.session import Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, covers, floor_to, text, union
from tests.support.faults import FULL

SETTINGS = settings(max_examples=2_000 if FULL else 60, deadline=None, print_blob=True)
T0 = floor_to(1_795_000_000_000_000, DAY)
NOW = T0 + 2 * DAY
MARKET = ("binance", "spot")
SOURCES = Sources(
    offers={
        "trade": Offer(prompt=True), "kline": Offer(width=7 * MINUTE, grain=MINUTE),
        "agg_trade": Offer(reach=30 * HOUR), "open_interest": Offer(same=False),
        "funding_rate": Absent("spot has none"),
    },
    archive=frozenset({"agg_trade"}), fleeting={"quote": "told when it happens"},
)  # fmt: skip
KINDS = ("trade", "kline", "agg_trade", "open_interest", "funding_rate", "quote", "liquidation")
moments = st.builds(lambda minute, odd: T0 + minute * MINUTE + odd, st.integers(0, 2_880), st.sampled_from([0, 0, 777]))
kinds = st.sampled_from(KINDS)
symbols = st.sampled_from(["A", "B", "*"])
MINUTES = frozenset({"1m"})


@st.composite
def spans(draw):
    low, high = sorted((draw(moments), draw(moments)))
    return Interval(low, high + 1)


@st.composite
def gaps_(draw):
    span, kind, number = draw(spans()), draw(kinds), draw(st.integers(0, 99))
    ids = (number * 10, number * 10 + 5) if kind in ("trade", "agg_trade") and draw(st.booleans()) else (None, None)
    end = None if draw(st.integers(0, 9)) == 0 else span.end
    state = draw(st.sampled_from(["open", "open", "open", "empty", "unrepairable"]))
    cause = draw(st.sampled_from(["disconnect", "jump", "bitrot", "crash"]))
    symbol = draw(symbols)
    name = f"{kind}{symbol}{span.start}-{end}-{ids}"
    return Gap(name, *MARKET, kind, symbol, span.start, end, *ids, cause, "ids", state, "n-1-1", span.start)


asked = st.builds(
    lambda kind, symbol, span, at: Asked(kind, symbol, span, "rest", f"past-{at}", at),
    kinds, st.sampled_from(["A", "B"]), spans(), moments,
)  # fmt: skip
streamed = st.builds(
    lambda kind, symbol, span: Coverage(*MARKET, kind, symbol, "n-1-1", span.start, span.end), kinds, symbols, spans()
)
knowns = st.builds(
    lambda a, s, f: Known(asked=a, streamed=s, frames=f, widths={(one, "n-1-1"): MINUTES for one in "AB"}),
    st.lists(asked, max_size=5), st.lists(streamed, max_size=5), st.lists(spans(), max_size=2),
)  # fmt: skip
many = st.lists(gaps_(), max_size=8, unique_by=lambda gap: gap.gap_id)


@SETTINGS
@given(gaps=many, known=knowns, seed=st.integers(0, 9))
def test_every_open_gap_has_one_answer_in_an_order_of_its_own(gaps, known, seed):
    made = plan(gaps, SOURCES, known, NOW)
    told = [*(s.gap for s in made.steps), *made.asked, *(o.gap for o in made.left), *(h.gap for h in made.hopeless)]
    assert sorted(gap.gap_id for gap in told) == sorted(gap.gap_id for gap in gaps if gap.state == "open")
    mixed = list(gaps)
    Random(seed).shuffle(mixed)
    assert plan(mixed, SOURCES, known, NOW) == made
    order = [(-floor_to(hole(s.gap).start, DAY), hole(s.gap).length) for s in made.steps]
    assert order == sorted(order)


@SETTINGS
@given(ids=st.booleans(), past=st.integers(0, 90), long=st.integers(1, 200), tried=st.sampled_from([None, 0, 1]))
def test_where_pages_say_what_is_final_a_gap_is_asked_for_once_before_it_is(ids, past, long, tried):
    end = NOW - past * SECOND
    gap = Gap("g", *MARKET, "trade", "A", end - long * SECOND, end - 1, *((1, 5) if ids else (None, None)), "jump",
              "ids", "open", "n-1-1", NOW)  # fmt: skip
    before = {} if tried is None else {"g": Tried(NOW - 70 * SECOND, tried)}
    made = plan([gap], Sources(offers={"trade": Offer(prompt=True)}), Known(tried=before), NOW)
    when = end + ((10 if ids else 30) if tried is None else 60) * SECOND
    assert bool(made.steps) == (when <= NOW)
    assert [one.again for one in made.left] == ([] if made.steps else [when])
    assert [("asked for before" in one.why) for one in made.left] == ([] if made.steps else [tried is not None])
    assert [(one.start, one.end) for one in made.wishes()] == [(end - long * SECOND, end)] * len(made.steps)


@SETTINGS
@given(past=st.integers(0, 200), long=st.integers(1, 600), odd=st.integers(0, 59))
def test_of_candles_what_is_final_comes_first_and_the_rest_once_it_is(past, long, odd):
    now = NOW + 12 * HOUR + odd * SECOND
    end = now - past * SECOND
    start = end - long * SECOND
    gap = Gap("g", *MARKET, "kline", "A", start, end - 1, None, None, "disconnect", "interval", "open", "n-1-1", now)
    sources = Sources(offers={"kline": Offer(width=DAY, grain=MINUTE)})
    held = Known(
        streamed=[Coverage(*MARKET, "kline", "A", "n-1-1", start - HOUR, end)], widths={("A", "n-1-1"): MINUTES}
    )
    first, last = floor_to(start, MINUTE), floor_to(end + MINUTE - 1, MINUTE)
    made = plan([gap], sources, held, now)
    final = floor_to(now - MINUTE, MINUTE)
    due = final > first and now >= min(end + 30 * SECOND, last + MINUTE)
    wanted = [Interval(first, min(final, last))] if due else []
    assert [Interval(one.start, one.end) for one in made.wishes()] == wanted
    if not wanted or wanted[0].end == last:
        return
    came = [Asked("kline", "A", wanted[0], "rest", "p", now)]
    then = msgspec.structs.replace(held, asked=came)
    (left,) = plan([gap], sources, then, last + MINUTE - 1).left
    assert left.again == last + MINUTE
    (rest,) = plan([gap], sources, then, last + MINUTE).wishes()
    assert (rest.start, rest.end) == (wanted[0].end, last)


@SETTINGS
@given(gaps=many, known=knowns)
def test_what_is_asked_for_covers_the_gaps_once_and_is_final(gaps, known):
    made = plan(gaps, SOURCES, known, NOW)
    wishes = made.wishes()
    for kind in KINDS:
        for symbol in ("A", "B"):
            mine = [Interval(one.start, one.end) for one in wishes if (one.kind, one.symbol) == (kind, symbol)]
            assert sum(one.length for one in union(mine)) == sum(one.length for one in mine), "asked for twice"
    for one in wishes:
        offer = SOURCES.offers[one.kind]
        assert one.end <= NOW - (0 if offer.prompt else SETTLE)
        assert not one.start % offer.grain
        assert not one.end % offer.grain
        assert offer.width is None or one.end - one.start <= offer.width
    brought = [
        Asked(w.kind, w.symbol, Interval(w.start, w.end), road, "new", NOW)
        for road in ("rest", "archive") for w in made.wishes(road)
    ]  # fmt: skip
    reread = {step.gap.gap_id: 1 for step in made.steps if step.road == OWN}
    then = msgspec.structs.replace(known, asked=[*known.asked, *brought], reread=reread)
    after = plan(gaps, SOURCES, then, NOW)
    assert after.steps == ()
    told = {step.gap.gap_id for step in made.steps if step.road != OWN}
    part = {one.gap.gap_id for one in after.left} & told
    assert {gap.gap_id for gap in after.asked} == (told - part) | {gap.gap_id for gap in made.asked}
    assert all(hole(step.gap).end > NOW - 2 * MINUTE for step in made.steps if step.gap.gap_id in part)
    for gap in (step.gap for step in made.steps if step.road == OWN):
        closed = read_again(gap, then, NOW)
        assert (closed is not None) == (gap.cause == "bitrot" and covers(known.frames, hole(gap)))


@SETTINGS
@given(gaps=many, known=knowns, new=st.integers(0, 3))
def test_a_gap_is_closed_only_where_all_of_it_was_asked_for_and_never_by_what_was_there_before_it_was_lost(
    gaps, known, new
):
    for gap in plan(gaps, SOURCES, known, NOW).asked:
        for symbol in ["A", "B"] if gap.symbol == "*" else [gap.symbol]:
            spans = asked_of(gap, symbol, known)
            if gap.symbol != "*":
                assert covers(spans, hole(gap))
            late = [row for row in known.asked if row.at >= gap.detected_at]
            if gap.cause == "bitrot":
                assert spans == asked_of(gap, symbol, msgspec.structs.replace(known, asked=late))
        closed = verdict(gap, SOURCES, known, Found(new), NOW)
        if gap.missing is None:
            assert isinstance(closed, Gap)
            assert closed.state == ("repaired" if new else "empty")
            assert closed.closed_at == NOW


def test_what_no_source_tells_is_given_up_after_an_hour_unless_frames_are_kept():
    gap = Gap("q", *MARKET, "quote", "A", T0, T0 + MINUTE, None, None, "crash", "interval", "open", "n-1-1", T0)
    (one,) = plan([gap], SOURCES, Known(), T0 + MINUTE + CALM).left
    assert one.again == T0 + MINUTE + CALM + 1
    (hopeless,) = plan([gap], SOURCES, Known(), T0 + MINUTE + CALM + 1).hopeless
    written = given_up(hopeless, NOW)
    assert (written.state, written.detail, written.closed_at) == ("unrepairable", "told when it happens", NOW)
    (kept,) = plan([gap], SOURCES, Known(frames=[Interval(T0, T0 + HOUR)]), NOW).steps
    assert (kept.road, [(one.start, one.end) for one in kept.parts]) == (OWN, [(T0, T0 + DAY)])
    (nobody,) = plan([gap], Sources(), Known(), NOW).left
    assert "not asked for yet" in nobody.why
    other = msgspec.structs.replace(gap, kind="liquidation")
    assert plan([other], SOURCES, Known(), NOW).hopeless == ()


def test_the_archive_is_the_road_to_what_the_venue_gives_no_more():
    gap = Gap("a", *MARKET, "agg_trade", "A", T0 + HOUR, T0 + 2 * HOUR, 5, 7, "jump", "ids", "open", "n-1-1", T0)
    (step,) = plan([gap], SOURCES, Known(), NOW).steps
    assert (step.road, step.by) == ("archive", "ids")
    assert [(one.start, one.end) for one in step.parts] == [(T0, T0 + DAY)]
    (left,) = plan([gap], msgspec.structs.replace(SOURCES, archive=frozenset()), Known(), NOW).left
    assert "the last 30 hours only" in left.why
    only = msgspec.structs.replace(SOURCES, offers={})
    (early,) = plan([gap], only, Known(), T0 + DAY).left
    assert text(T0 + DAY + DAY // 2) in early.why


def test_attempts_that_failed_make_it_wait_longer_each_time_and_a_long_gap_is_left_to_a_person():
    gap = Gap("t", *MARKET, "trade", "A", T0, T0 + 3 * HOUR, 5, 7, "jump", "ids", "open", "n-1-1", T0)
    waits = [Tried(0, times).again for times in range(1, 30)]
    assert waits[:4] == [SOONEST, 2 * SOONEST, 4 * SOONEST, 8 * SOONEST]
    assert max(waits) == waits[-1] == LATEST
    (left,) = plan([gap], SOURCES, Known(tried={"t": Tried(NOW, 2)}), NOW + 1).left
    assert (left.again, "2 attempts" in left.why) == (NOW + 2 * SOONEST, True)
    assert len(plan([gap], SOURCES, Known(tried={"t": Tried(NOW, 2)}), NOW + 2 * SOONEST).steps) == 1
    (long,) = plan([gap], SOURCES, Known(), NOW, longest=2 * HOUR).left
    assert "dl gaps --repair" in long.why
    assert len(plan([gap], SOURCES, Known(), NOW, longest=4 * HOUR).steps) == 1


def test_ids_that_did_not_come_are_no_repair():
    by_time = msgspec.structs.replace(SOURCES, offers={"trade": Offer(width=HOUR)})
    gap = Gap("t", *MARKET, "trade", "A", T0, T0 + MINUTE, 5, 9, "jump", "ids", "open", "n-1-1", T0)
    known = Known(asked=[Asked("trade", "A", Interval(T0, T0 + HOUR), "rest", "p", NOW)])
    assert isinstance(verdict(gap, by_time, known, None, NOW), Left)
    told = verdict(gap, by_time, known, Found(2, [Interval(3, 7)]), NOW)
    assert isinstance(told, Left)
    assert "2 of its ids did not come" in told.why
    assert verdict(gap, by_time, known, Found(4, [Interval(0, 20)]), NOW).state == "repaired"
    lost = msgspec.structs.replace(gap, gap_id="l", id_from=5, id_to=7, cause="venue_lacks", state="unrepairable")
    partly = verdict(gap, SOURCES, msgspec.structs.replace(known, lacking=[lost]), None, NOW)
    assert (partly.state, "2 of its ids" in partly.detail) == ("repaired", True)
    wholly = msgspec.structs.replace(known, lacking=[msgspec.structs.replace(lost, id_to=9)])
    assert verdict(gap, SOURCES, wholly, None, NOW).state == "unrepairable"


def test_candles_of_another_width_are_not_asked_for():
    gap = Gap("k", *MARKET, "kline", "A", T0, T0 + HOUR, None, None, "disconnect", "interval", "open", "n-1-1", T0)
    streamed = [Coverage(*MARKET, "kline", "A", session, T0 - HOUR, T0 + DAY) for session in ("n-1-1", "n-1-2")]
    wide = Known(streamed=streamed, widths={("A", "n-1-1"): frozenset({"5m"}), ("A", "n-1-2"): MINUTES})
    (left,) = plan([gap], SOURCES, wide, NOW).left
    assert (left.rests, "another width" in left.why) == (True, True)
    (step,) = plan([msgspec.structs.replace(gap, session="n-1-2")], SOURCES, wide, NOW).steps
    assert step.by == "time"


@pytest.mark.parametrize("missing, came", list(itertools.product(["1m", "5m", "1h"], repeat=2)))
def test_candles_of_one_width_close_no_gap_of_another(missing, came):
    gap = Gap("k", *MARKET, "kline", "A", T0, T0 + HOUR, None, None, "disconnect", "interval", "open", "n-1-1", T0)
    streamed = [Coverage(*MARKET, "kline", "A", "n-1-1", T0 - HOUR, T0)]
    past = [Asked("kline", "A", Interval(T0, T0 + DAY), "archive", "past", NOW, frozenset({came}))]
    held = Known(streamed=streamed, widths={("A", "n-1-1"): frozenset({missing})}, asked=past)
    assert asked_of(gap, "A", held) == ([Interval(T0, T0 + DAY)] if missing == came else [])
    made = plan([gap], SOURCES, held, NOW)
    assert bool(made.asked) == (missing == came)
    assert bool(made.steps) == (missing == "1m" != came), "the venue is asked for minutes"
    assert [one.rests for one in made.left] == [True] * (missing not in ("1m", came))
    unknown = msgspec.structs.replace(held, widths={})
    assert asked_of(gap, "A", unknown) == []


def test_candles_that_the_disk_lost_are_asked_for_where_those_that_came_were_minutes():
    """Nobody streamed them: what had been asked for tells how wide they were."""
    gap = Gap("k", *MARKET, "kline", "A", T0, T0 + DAY, None, None, "bitrot", "checksum", "open", None, NOW)
    for width, steps in (("1m", 1), ("1h", 0)):
        had = Asked("kline", "A", Interval(T0, T0 + DAY), "archive", "past", NOW - HOUR, frozenset({width}))
        made = plan([gap], SOURCES, Known(asked=[had]), NOW)
        assert (len(made.steps), len(made.left)) == (steps, 1 - steps)
        again = msgspec.structs.replace(had, session="again", at=NOW)
        assert plan([gap], SOURCES, Known(asked=[had, again]), NOW).asked == (gap,)


def test_what_the_disk_lost_of_all_symbols_is_of_those_that_had_been_asked_for():
    gap = Gap("f", *MARKET, "agg_trade", "*", T0, T0 + HOUR, None, None, "bitrot", "checksum", "open", None, NOW)
    had = Asked("agg_trade", "A", Interval(T0 - HOUR, T0 + DAY), "archive", "past", NOW - HOUR)
    (step,) = plan([gap], SOURCES, Known(asked=[had]), NOW).steps
    assert [part.symbol for part in step.parts] == ["A"]
    again = msgspec.structs.replace(had, session="again", at=NOW)
    assert plan([gap], SOURCES, Known(asked=[had, again]), NOW).asked == (gap,)
    cut = msgspec.structs.replace(gap, cause="disconnect")
    assert "cannot be told" in plan([cut], SOURCES, Known(asked=[had]), NOW).left[0].why
