"""Books whose numbering goes back (OKX): what chains is no loss, whatever order two connections tell it in."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.merger import merger
from market.kinds import BookDelta
from market.times import MS, SECOND

T = 1_785_701_700_000_000
EMPTY = msgspec.Raw(b"[]")
LATER = T + 10**12


def change(before, last, at, session="a-1-1"):
    return BookDelta("A", "books:A", at, None, at, session, 1, 0, "ws", EMPTY, EMPTY, None, last, before)


def whole(last, at, session="a-1-1"):
    return BookDelta(
        "A", "books:A", at, None, at, session, 1, 0, "ws", EMPTY, EMPTY, None, last, None, None, ("snapshot",)
    )  # fmt: skip


def clear(at, session="a-1-1"):
    return BookDelta(
        "A", "books:A", at, None, at, session, 1, 0, "ws", EMPTY, EMPTY, None, None, None, None, ("clear",)
    )


def made():
    return merger("okx", "spot", "book_delta", contiguous=True)


def test_the_documented_chain_has_no_gap():
    held = made()
    rows = [
        whole(10, T),
        change(10, 15, T + MS),
        clear(T + 2 * MS),
        change(15, 3, T + 2 * MS),
        change(3, 5, T + 3 * MS),
    ]
    assert all(held.merge(row) for row in rows)
    assert held.tick(LATER) == []


def test_what_was_missing_before_the_numbering_went_back_is_a_gap_of_its_ids():
    held = made()
    assert all(held.merge(row) for row in (whole(10, T), change(12, 3, T + MS), change(3, 5, T + 2 * MS)))
    (gap,) = held.tick(LATER)
    assert (gap.id_from, gap.id_to, gap.state) == (11, 13, "open")


def test_a_numbering_that_goes_back_from_what_was_never_its_end_is_a_reset():
    held = made()
    assert all(held.merge(row) for row in (whole(100, T), change(50, 3, T + MS), change(3, 5, T + 2 * MS)))
    (gap,) = held.tick(LATER)
    assert (gap.cause, gap.id_from) == ("id_reset", None)


def test_a_loss_behind_it_is_a_gap_of_the_new_numbering():
    held = made()
    rows = [whole(100, T), change(100, 3, T + MS), change(7, 9, T + 2 * MS)]
    assert all(held.merge(row) for row in rows)
    (gap,) = held.tick(LATER)
    assert (gap.id_from, gap.id_to) == (4, 8)


steps = st.lists(
    st.one_of(st.integers(1, 50).map(lambda n: ("on", n)), st.integers(0, 9).map(lambda n: ("back", n))),
    min_size=1, max_size=25,
)  # fmt: skip


def told(taken):
    """The rows of one connection: a whole, then what follows, each at its time; and the changes among them."""
    rows, last, at = [whole(1000, T)], 1000, T
    for what, number in taken:
        at += 100 * MS
        if what == "on":
            rows.append(change(last, last + number, at))
            last += number
        elif last > 20:
            rows += [clear(at), change(last, number, at)]
            last = number
    return rows


@settings(max_examples=200, deadline=None)
@given(steps=steps, lag=st.integers(0, 12))
def test_two_connections_give_every_change_once_and_no_gap_however_far_one_is_behind(steps, lag):
    rows, held = told(steps), made()
    first = [(row.ts_event, 0, row) for row in rows]
    second = [(row.ts_event + lag * 100 * MS, 1, msgspec.structs.replace(row, session="b-1-1")) for row in rows]
    stored = [row for _, _, row in sorted((*first, *second), key=lambda one: one[:2]) if held.merge(row)]
    assert [(row.prev_id, row.last_id) for row in stored] == [(row.prev_id, row.last_id) for row in rows]
    assert held.tick(LATER) == []
    assert held.duplicates == len(rows)


@settings(max_examples=200, deadline=None)
@given(steps=steps, data=st.data())
def test_what_one_connection_lost_is_a_gap_of_exactly_its_ids(steps, data):
    rows, held = told(steps), made()
    places = [place for place, row in enumerate(rows) if row.prev_id is not None and row.last_id > row.prev_id]
    places = [place for place in places if place + 1 < len(rows)]
    lost = data.draw(st.sampled_from(places)) if places else None
    assert all(held.merge(row) for place, row in enumerate(rows) if place != lost)
    gaps = held.tick(LATER + SECOND)
    if lost is None:
        assert gaps == []
    else:
        (gap,) = gaps
        assert (gap.id_from, gap.id_to) == (rows[lost].prev_id + 1, rows[lost].last_id + 1)
