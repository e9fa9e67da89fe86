"""Properties of two connections that carry the same: what either has is stored once, what neither has is the gaps."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.config import WritingConfig
from collectors.holes import HOLD
from collectors.intake import Intake
from collectors.merger import merger
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from market.kinds import BookDelta, Quote, Trade
from market.times import SECOND
from tests.support import toy
from tests.support.lines import events_of
from tests.support.toy import T0, ToySession, q, stream, t

BASE = 5_000_000
"""Ids are high, as a venue's are: the lowest ones look like a numbering that begins anew."""
EMPTY = msgspec.Raw(b"[]")
LENGTH = 40


def at(number):
    return T0 + number * 10_000


def place(kind, number, session):
    return ("AAA", kind, at(number), None, at(number) + 500, session, number, 0, "ws")


def trade(number, session):
    return Trade(
        *place("trade", number, session), price="1", qty="1", side="buy", seq=BASE + number, condition="market"
    )


def quote(number, session):
    return Quote(*place("quote", number, session), "1", "1", "2", "1", BASE + 3 * number)


def spot_delta(number, session):
    first = BASE + number * 3
    return BookDelta(*place("depth", number, session), EMPTY, EMPTY, first, first + 2, None)


def futures_delta(number, session):
    last = BASE + number * 7
    return BookDelta(*place("depth", number, session), EMPTY, EMPTY, last - 2, last, last - 7)


MAKERS = {
    "trade": ("trade", trade, lambda n: {BASE + n}),
    "spot book": ("book_delta", spot_delta, lambda n: set(range(BASE + 3 * n, BASE + 3 * n + 3))),
    "futures book": ("book_delta", futures_delta, lambda n: set(range(BASE + 7 * n - 6, BASE + 7 * n + 1))),
    "quote": ("quote", quote, lambda _n: set()),
}


@st.composite
def feeds(draw, *, both=True):
    """What reaches us of two connections, interleaved: (twin, number of its session, event), or a cut (event None)."""
    twins = []
    for twin in (0, 1):
        lost = draw(st.sets(st.integers(0, LENGTH - 1), max_size=15)) if both or twin else set()
        cuts = draw(st.sets(st.integers(1, LENGTH - 1), max_size=3)) if both or twin else set()
        steps, session = [], 0
        for number in range(LENGTH):
            if number in cuts:
                steps.append((twin, session, None))
                session += 1
            if number not in lost:
                steps.append((twin, session, number))
        twins.append(steps)
    merged = [] if both else [twins[0].pop(0)]
    for side in draw(st.lists(st.integers(0, 1), min_size=2 * LENGTH, max_size=2 * LENGTH)):
        if twins[side]:
            merged.append(twins[side].pop(0))
    return merged + twins[0] + twins[1]


def take(kind, make, steps):
    """(numbers that were kept, rows of gaps by id) after `steps`."""
    held = merger("binance", "linear", kind, contiguous=kind != "quote")
    kept, gaps = [], {}
    now = 0
    for twin, session, number in steps:
        name = f"{'ab'[twin]}-{session}-1"
        if number is None:
            found = held.interrupt(name, ["AAA"], "disconnect", at(LENGTH))
        else:
            if held.merge(make(number, name)):
                kept.append(number)
            now = max(now, at(number))
            found = held.tick(now)
        gaps |= {gap.gap_id: gap for gap in found}
    gaps |= {gap.gap_id: gap for gap in held.tick(at(LENGTH) + 10 * HOLD)}
    return kept, gaps


@pytest.mark.parametrize("what", list(MAKERS))
@given(st.data())
def test_what_either_has_is_kept_once_and_what_neither_has_is_in_the_gaps(what, data):
    kind, make, ids = MAKERS[what]
    steps = data.draw(feeds())
    kept, gaps = take(kind, make, steps)
    received = {number for _, _, number in steps if number is not None}
    assert len(kept) == len(set(kept))
    assert set(kept) == received
    if not received or what == "quote":
        return
    wanted = set().union(*(ids(n) for n in range(min(received), max(received) + 1) if n not in received), set())
    open_gaps = [gap for gap in gaps.values() if gap.state == "open" and gap.id_to is not None]
    named = [number for gap in open_gaps for number in range(gap.id_from, gap.id_to)]
    assert len(named) == len(set(named))
    assert set(named) == wanted


@pytest.mark.parametrize("what", list(MAKERS))
@given(st.data())
def test_losses_and_cuts_of_one_twin_leave_no_trace(what, data):
    kind, make, _ = MAKERS[what]
    steps = data.draw(feeds(both=False))
    kept, gaps = take(kind, make, steps)
    assert sorted(kept) == list(range(LENGTH))
    assert [gap for gap in gaps.values() if gap.state == "open"] == []


@given(st.data())
def test_frames_of_two_twins_in_any_order_store_the_keys_of_the_undisturbed_stream(data):
    """Through the pipeline: frames, sessions, coverage and all."""
    lost = data.draw(st.sets(st.integers(0, LENGTH - 1), max_size=10))
    pipeline = Pipeline("binance", "spot", intake := Intake(WritingConfig()), merger_maker(toy, "spot"))
    streams = [stream("trade", "AAA"), stream("quote", "AAA")]
    links = []
    for name in ("n-1-1", "n-1-2"):
        link, _ = pipeline.open(ToySession(name, streams), name=name, source="ws", url="", now=T0)
        links.append(link)
    queues = [list(range(LENGTH)), [n for n in range(LENGTH) if n not in lost]]
    closes = data.draw(st.integers(0, LENGTH))
    for side in [*data.draw(st.lists(st.integers(0, 1), max_size=2 * LENGTH)), *[0] * LENGTH, *[1] * LENGTH]:
        if not queues[side] or links[side].ended:
            continue
        number = queues[side].pop(0)
        pipeline.receive(links[side], [t(BASE + number, number), q(BASE + number, number)], at(number))
        if side == 1 and number >= closes:
            pipeline.close(links[1], "disconnect", at(number))
    pipeline.advance(at(LENGTH) + 10 * SECOND, covered=True)
    work = intake.collect(at(LENGTH) + 10 * SECOND)
    stored = {
        lane[2]: sorted(getattr(e, "seq", None) or e.update_id for e in events_of(lane, held))
        for lane, held in work.events
    }
    assert stored == {"trade": [BASE + n for n in range(LENGTH)], "quote": [BASE + n for n in range(LENGTH)]}
    last = {gap.gap_id: gap for gap in work.gaps}
    assert [gap for gap in last.values() if gap.state == "open"] == []
