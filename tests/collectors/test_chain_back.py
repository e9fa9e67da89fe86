"""Books whose numbering goes back (OKX): what chains is no loss, whatever order two connections tell it in."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors import exchanges
from collectors.merger import merger
from market.book import Book, levels
from market.chain import Chain, Link
from market.kinds import BookDelta
from market.session import Send
from market.times import MS, SECOND

T = 1_785_701_700_000_000
EMPTY = msgspec.Raw(b"[]")
LATER = T + 10**12
FARTHEST = 12
"""Changes that one connection may be behind another."""


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
    min_size=1, max_size=80,
)  # fmt: skip


def told(taken):
    """The rows of one connection: a whole, then what follows, each at its time. Maintenance is rare: a numbering lasts
    longer than connections differ by.
    """
    rows, last, at, begun = [whole(1000, T)], 1000, T, T
    for what, number in taken:
        at += 100 * MS
        if what == "on":
            rows.append(change(last, last + number, at))
            last += number
        elif last > 20 and at - begun > FARTHEST * 100 * MS:
            rows += [clear(at), change(last, number, at)]
            last, begun = number, at
    return rows


@settings(max_examples=200, deadline=None)
@given(steps=steps, lag=st.integers(0, FARTHEST))
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


class Venue:
    """A book, and what its channel says of it: every message changes one price."""

    def __init__(self):
        self.held, self.last, self.at, self.count = {"1": "1"}, 1000, T, 0

    def frame(self, action, before, sides):
        data = {"asks": [], "bids": sides, "ts": str(self.at // MS), "prevSeqId": before, "seqId": self.last}
        head = {"arg": {"channel": "books", "instId": "A-B"}, "action": action, "data": [data]}
        return json.dumps(head, separators=(",", ":")).encode()

    def whole(self):
        return self.frame("snapshot", -1, [[price, qty, "0", "1"] for price, qty in self.held.items()])

    def change(self, last):
        self.count += 1
        before, self.last = self.last, last
        price, qty = str(1 + self.count % 3), str(self.count)
        self.held[price] = qty
        return self.frame("update", before, [[price, qty, "0", "1"]])


class Reader:
    """A book as readers tell it from the rows."""

    def __init__(self):
        self.chain, self.book = Chain(), Book()

    def take(self, row):
        if row.flags == ("clear",):
            self.chain.unknown(row.ts_event, "begins anew")
            return
        link = Link(row.last_id, row.first_id, row.prev_id, row.ts_event, row)
        if "snapshot" in row.flags:
            later = self.chain.snapshot(link)
            if later is None:
                return
            self.book = Book()
            self.book.load(levels(row.bids), levels(row.asks))
        else:
            later = self.chain.update(link)
        for one in later:
            self.book.apply(levels(one.bids), levels(one.asks))


happenings = st.lists(st.sampled_from(["on", "on", "on", "back", "idle", "lost"]), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(happenings=happenings, leap=st.integers(1, 50))
def test_a_reader_never_takes_a_wrong_book_for_known_and_knows_it_again_in_the_end(happenings, leap):
    adapter = exchanges.load("okx")
    (plan,) = adapter.connections("spot", adapter.streams("spot", ["book_delta"], ["A-B"]), adapter.ENDPOINTS["spot"])
    session, venue, reader, held = adapter.session(plan, "a-1-1"), Venue(), Reader(), made()
    session.start(T)
    frames, told = [venue.whole()], True
    for what in [*happenings, *["on", "idle"] * 1300]:
        venue.at += 100 * MS
        if what == "idle":
            frames.append(venue.frame("update", venue.last, []))
        else:
            frames.append(venue.change(3 if what == "back" and venue.last > 20 else venue.last + leap))
        if what == "lost" or not told:
            frames.pop()
        for frame in frames:
            for row in session.receive(frame, venue.at):
                assert isinstance(row, BookDelta)
                if held.merge(row):
                    reader.take(row)
        sent = [out.text for out in session.tick(venue.at) if isinstance(out, Send)]
        frames = [venue.whole() for text in sent if '"subscribe"' in text]
        told = bool(frames) or (told and not any('"unsubscribe"' in text for text in sent))
        if reader.chain.in_sync and reader.chain.last == venue.last:
            assert reader.book.bids == venue.held
        if not frames and session.books_out_of_sync() == [] and venue.at > T + 150 * SECOND:
            break
    assert session.books_out_of_sync() == []
    assert reader.chain.in_sync
    assert reader.book.bids == venue.held


def test_the_change_that_goes_back_is_a_row_though_a_whole_of_the_lower_numbering_came_first():
    held = made()
    assert all(held.merge(row) for row in (whole(100, T), change(100, 105, T + MS)))
    joins = [clear(T + 2 * MS, "b-1-1"), whole(3, T + 2 * MS, "b-1-1")]
    assert all(held.merge(row) for row in joins)
    assert not held.merge(clear(T + 2 * MS))
    assert held.merge(change(105, 3, T + 2 * MS))
    assert not held.merge(change(105, 3, T + 2 * MS, "c-1-1"))
    assert held.merge(change(3, 5, T + 3 * MS))
    assert {gap.cause for gap in held.tick(LATER)} <= {"id_reset"}
    assert held.known("A") == 5
