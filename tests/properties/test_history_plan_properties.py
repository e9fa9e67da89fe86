"""What of the past is asked for: never what is held, holes inside as the ends, the same whatever the rows' order."""

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.history_plan import SETTLE, Held, Stream, Wish, plan, repaired
from market.history import Absent, Offer
from market.session import Coverage, Gap
from market.times import HOUR, MINUTE, MS, Interval, covers, intersect, subtract, union
from tests.support.faults import FULL

SETTINGS = settings(max_examples=2_000 if FULL else 60, deadline=None, print_blob=True)
T0 = 1_795_000_000_000_000 - 1_795_000_000_000_000 % HOUR
NOW = T0 + 100 * MINUTE
OFFERS = {
    "trade": Offer(), "kline": Offer(width=7 * MINUTE, grain=MINUTE), "agg_trade": Offer(reach=60 * MINUTE),
    "funding_rate": Absent("spot has none"),
}  # fmt: skip
STREAM = ("binance", "spot")
minutes = st.integers(0, 120)
moments = st.builds(
    lambda minute, odd: T0 + minute * MINUTE + odd, minutes, st.sampled_from([0, 0, 0, 1, 30 * MS, 777])
)
kinds = st.sampled_from(sorted(OFFERS))
symbols = st.sampled_from(["A", "B"])


@st.composite
def spans(draw):
    low, high = sorted((draw(moments), draw(moments)))
    return low, high + 1


wishes = st.lists(st.builds(lambda kind, symbol, span: Wish(kind, symbol, *span), kinds, symbols, spans()), max_size=5)
coverage = st.builds(
    lambda kind, symbol, session, span: Coverage(*STREAM, kind, symbol, session, *span), kinds, symbols,
    st.sampled_from(["ws-1", "ws-2", "past-1"]), spans(),
)  # fmt: skip
gaps = st.builds(
    lambda kind, symbol, span, state, grows: Gap(
        f"{kind}{symbol}{span}", *STREAM, kind, symbol, span[0], None if grows else span[1], None, None, "disconnect",
        "interval", state, "ws-1", NOW,
    ),
    kinds, symbols, spans(), st.sampled_from(["open", "empty", "void", "unrepairable"]),
    st.sampled_from([False, False, True]),
)  # fmt: skip
helds = st.builds(
    lambda rows, holes, listed: Held(rows, holes, frozenset({"past-1"}), listed), st.lists(coverage, max_size=6),
    st.lists(gaps, max_size=4),
    st.dictionaries(symbols, st.lists(spans().map(lambda s: Interval(*s)), max_size=2), max_size=1),
)  # fmt: skip


def of(chunks, kind, symbol):
    return [Interval(one.start, one.end) for one in chunks if (one.kind, one.symbol) == (kind, symbol)]


def streams():
    return [(kind, symbol) for kind in OFFERS for symbol in ("A", "B")]


@SETTINGS
@given(wanted=wishes, held=helds, seed=st.integers(0, 9))
def test_the_order_of_rows_changes_nothing(wanted, held, seed):
    mixed = [list(rows) for rows in (wanted, held.coverage, held.gaps)]
    for rows in mixed:
        Random(seed).shuffle(rows)
    other = msgspec.structs.replace(held, coverage=mixed[1], gaps=mixed[2])
    assert plan(mixed[0], OFFERS, other, NOW) == plan(wanted, OFFERS, held, NOW)


@SETTINGS
@given(wanted=wishes, held=helds)
def test_exactly_what_is_wanted_and_not_held_is_asked_for_or_refused(wanted, held):
    made = plan(wanted, OFFERS, held, NOW)
    for kind, symbol in streams():
        asked = of(made.chunks, kind, symbol)
        assert sum(one.length for one in union(asked)) == sum(one.length for one in asked), "chunks overlap"
        mine = [Interval(one.start, one.end) for one in wanted if (one.kind, one.symbol) == (kind, symbol)]
        listed = intersect(mine, held.listed[symbol]) if symbol in held.listed else mine
        stream = held.streams().get((kind, symbol), Stream())
        missing = subtract(listed, stream.held())
        offer = OFFERS[kind]
        if isinstance(offer, Absent):
            assert asked == []
            assert covers(of(made.refused, kind, symbol), mine[0]) if mine else True
            continue
        over = intersect(missing, [Interval(0, NOW - SETTLE - offer.grain)])
        answered = [*asked, *of(made.refused, kind, symbol)]
        assert all(covers(answered, one) for one in over)
        for one in asked:  # no more than the rest of a grain at either side
            near = [Interval(hole.start - offer.grain, hole.end + offer.grain) for hole in missing]
            assert covers(near, one)
            assert one.end <= NOW - SETTLE
            assert not one.start % offer.grain
            assert not one.end % offer.grain
            assert offer.width is None or one.length <= offer.width


@SETTINGS
@given(wanted=wishes, held=helds)
def test_what_was_brought_in_is_never_asked_for_again(wanted, held):
    made = plan(wanted, OFFERS, held, NOW)
    rows = [Coverage(*STREAM, one.kind, one.symbol, "past-1", one.start, one.end) for one in made.chunks]
    again = msgspec.structs.replace(held, coverage=[*held.coverage, *rows])
    assert plan(wanted, OFFERS, again, NOW).chunks == ()


@SETTINGS
@given(wanted=wishes, held=helds, parts=st.lists(st.floats(0, 1), min_size=40, max_size=40))
def test_after_an_interruption_the_rest_is_asked_for(wanted, held, parts):
    made = plan(wanted, OFFERS, held, NOW)
    rows = []
    for one, part in zip(made.chunks, parts, strict=False):
        end = one.start + round((one.end - one.start) * part)
        rows.append(Coverage(*STREAM, one.kind, one.symbol, "past-1", one.start, end))
    rest = plan(wanted, OFFERS, msgspec.structs.replace(held, coverage=[*held.coverage, *rows]), NOW)
    for kind, symbol in streams():
        brought = [Interval(row.ts_from, row.ts_to) for row in rows if (row.kind, row.symbol) == (kind, symbol)]
        both = union([*of(rest.chunks, kind, symbol), *brought])
        mine = [Interval(one.start, one.end) for one in wanted if (one.kind, one.symbol) == (kind, symbol)]
        listed = intersect(mine, held.listed[symbol]) if symbol in held.listed else mine
        missing = subtract(listed, held.streams().get((kind, symbol), Stream()).held())
        assert all(covers(both, one) for one in intersect(of(made.chunks, kind, symbol), missing))


def test_an_open_gap_is_asked_for_and_closed_once_it_is_held():
    live = Coverage(*STREAM, "trade", "A", "ws-1", T0, NOW)
    gap = Gap("g", *STREAM, "trade", "A", T0 + 5 * MINUTE, T0 + 6 * MINUTE, 70, 75, "jump", "ids", "open", "ws-1", NOW)
    held = Held([live], [gap], frozenset({"past-1"}))
    (chunk,) = plan([Wish("trade", "A", T0, NOW)], OFFERS, held, NOW).chunks
    assert (chunk.start, chunk.end) == (gap.ts_from, gap.ts_to + MS)
    assert repaired(OFFERS, held, NOW) == []
    whole = msgspec.structs.replace(
        held, coverage=[live, Coverage(*STREAM, "trade", "A", "past-1", chunk.start, chunk.end)]
    )
    (closed,) = repaired(OFFERS, whole, NOW + 1)
    assert (closed.gap_id, closed.state, closed.closed_at, closed.source) == ("g", "repaired", NOW + 1, "rest")
    lacking = msgspec.structs.replace(gap, gap_id="l", state="unrepairable")
    assert repaired(OFFERS, msgspec.structs.replace(whole, gaps=[gap, lacking]), NOW) == []


def test_what_is_another_thing_than_the_stream_brings_neither_holds_nor_repairs():
    offers = {"open_interest": Offer(same=False)}
    live = Coverage(*STREAM, "open_interest", "A", "ws-1", T0, NOW)
    gap = Gap(
        "g", *STREAM, "open_interest", "A", T0, T0 + MINUTE, None, None, "stopped", "interval", "open", "ws-1", NOW
    )
    held = Held([live], [gap], frozenset({"past-1"}))
    (chunk,) = plan([Wish("open_interest", "A", T0, T0 + HOUR)], offers, held, NOW).chunks
    brought = Coverage(*STREAM, "open_interest", "A", "past-1", chunk.start, chunk.end)
    whole = msgspec.structs.replace(held, coverage=[live, brought])
    assert plan([Wish("open_interest", "A", T0, T0 + HOUR)], offers, whole, NOW).chunks == ()
    assert repaired(offers, whole, NOW) == []
