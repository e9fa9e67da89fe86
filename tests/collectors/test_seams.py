"""Updates of a recorded book around the times that a file tells of: what is left, and what stands at the borders."""

import random
from decimal import Decimal

import msgspec
import pytest

from collectors.holes import venue_time
from collectors.seams import SHOWN, Seams
from market.book import Book, levels
from market.kinds import BookDelta
from market.times import DAY, SECOND
from tests.support.bought_books import Market
from tests.support.market_rows import T0


def update(n, bids=(), asks=(), at=None, session="tardis-1-1", **more):
    """The n-th second's update of Binance's futures, of one frame."""
    sides = [msgspec.Raw(msgspec.json.encode([*side])) for side in (bids, asks)]
    at = T0 + n * SECOND if at is None else at
    return BookDelta(
        symbol="BTCUSDT", stream="depth", ts_event=at, ts_publish=at, ts_recv=T0 + n * SECOND + 9, session=session,
        frame_no=n + 1, item=0, source="ws", bids=sides[0], asks=sides[1], first_id=100 + n, last_id=100 + n,
        prev_id=99 + n, **more,
    )  # fmt: skip


def whole(n, bids, asks):
    return msgspec.structs.replace(
        update(n, bids, asks), source="rest", flags=("snapshot",), first_id=None, prev_id=None, item=1
    )


def told(market, n, wholes=()):
    made = [update(n, *market.changes[n])]
    return [*made, whole(n, *market.whole(n))] if n in wholes else made


def passed(seams, events):
    """What becomes rows, in the order in which they stand."""
    seams.read(events)
    return [*seams.made(), *(event for event in events if not seams.left_out(event))]


def spans_of(*seconds):
    return [(T0 + first * SECOND, T0 + last * SECOND) for first, last in seconds]


class Reader:
    """Whoever rebuilds the book of rows, the slow way."""

    def __init__(self):
        self.book, self.last = Book(), None

    def take(self, row):
        sides = levels(row.bids), levels(row.asks)
        if "clear" in row.flags:
            self.last = None
        elif "snapshot" in row.flags:
            if self.last is None:
                self.book.load(*sides, depth=max(map(len, sides)))
                self.last = row.last_id
        elif self.last is not None and row.last_id > self.last:
            assert row.prev_id == self.last, "none is missing"
            self.book.apply(*sides)
            self.last = row.last_id

    def wrong(self, truth):
        """Levels of the range that it knows which are not those of the truth."""
        low, high = (None if one is None else Decimal(one) for one in (self.book.valid_low, self.book.valid_high))
        found = []
        for held, side, edge, falling in (
            (self.book.bids, truth[0], low, True),
            (self.book.asks, truth[1], high, False),
        ):
            ours = {(Decimal(price), int(qty)) for price, qty in held.items()}
            found += [
                one for one in ours ^ set(side.items())
                if edge is None or (one[0] >= edge if falling else one[0] <= edge)
            ]  # fmt: skip
        return found


@pytest.mark.parametrize("seed", range(20))
def test_the_book_of_what_is_left_is_right_wherever_it_is_known(seed):
    made = random.Random(seed)
    market = Market(seed, 200)
    cuts = sorted(made.sample(range(1, 200), 6))
    parts = [*zip(cuts[::2], cuts[1::2], strict=True)]
    seams = Seams(lambda _: spans_of(*parts))
    reader, known = Reader(), 0
    for n in range(200):
        rows = passed(seams, told(market, n, wholes=(made.choice((0, 90, 150)), 0)))
        inside = any(first <= n < last for first, last in parts)
        assert inside == (not [row for row in rows if "clear" not in row.flags])
        for row in rows:
            reader.take(row)
        if reader.last is not None:
            assert reader.wrong(market.books[n]) == [], n
            known += 1
    assert known > 200 - sum(last - first for first, last in parts) - 30


def test_a_time_without_an_update_has_its_borders_too():
    market = Market(1, 9)
    seams = Seams(lambda _: spans_of((3, 4), (5, 6)))
    for n in (0, 1, 2):
        passed(seams, told(market, n, wholes=(0,)))
    rows = passed(seams, [update(3, *market.changes[3], at=T0 + 8 * SECOND)])
    assert [(row.ts_event - T0, row.flags, row.source, row.last_id) for row in rows] == [
        (3 * SECOND, ("clear",), "derived", None), (6 * SECOND, ("clear",), "derived", None),
        (6 * SECOND, ("snapshot",), "derived", 102), (8 * SECOND, (), "ws", 103),
    ]  # fmt: skip
    assert len({(row.session, row.frame_no, row.item) for row in rows}) == 4
    assert seams.told() == []


def test_a_time_that_goes_back_behind_the_border_is_that_of_the_border():
    market = Market(2, 10)
    seams = Seams(lambda _: spans_of((2, 5)))
    for n in range(6):
        passed(seams, told(market, n, wholes=(0,)))
    (row,) = passed(seams, [update(6, *market.changes[6], at=T0 + 4 * SECOND)])
    assert (row.ts_event, row.ts_recv - row.skew_us) == (None, T0 + 5 * SECOND)


@pytest.mark.parametrize(
    "received, placed",
    [(DAY, 5 * SECOND), (DAY + 1, 5 * SECOND + DAY + 1), (-DAY, 5 * SECOND), (-DAY - 1, 5 * SECOND - DAY - 1)],
)
def test_what_was_received_more_than_a_day_off_is_of_its_receipt(received, placed):
    """As where a session knows no time: more than a day is no clock's skew, and the row would be no good one."""
    market = Market(2, 10)
    seams = Seams(lambda _: spans_of((2, 5)))
    for n in range(6):
        passed(seams, told(market, n, wholes=(0,)))
    late = update(6, *market.changes[6], at=T0 + 4 * SECOND)
    late.ts_recv = T0 + 5 * SECOND + received
    (row,) = passed(seams, [late])
    assert (row.ts_event, venue_time(row)) == (None, T0 + placed)
    assert -DAY <= (row.skew_us or 0) <= DAY


@pytest.mark.parametrize("lost", [(0, 1, 2, 4, 5), (0, 1, 2, 3, 4)])
def test_a_book_whose_ids_leave_some_out_is_not_told_as_whole(lost):
    market = Market(3, 10)
    seams = Seams(lambda _: spans_of((2, 6)))
    for n in lost:
        passed(seams, told(market, n, wholes=(0,)))
    assert [row.flags for row in passed(seams, [update(6)])] == [("clear",), ()]
    assert seams.told()[0].endswith("behind it the book is unknown until the recording tells a whole one")


@pytest.mark.parametrize(
    "sides, added, shown",
    [
        ((3, 5), 0, (3, 5)),  # bids are all there, and fewer still
        ((3, 5), 4, (5, 5)),  # there are more of them than asks, of which nobody knows the rest
        ((5, 3), 0, (5, 3)),
        ((5, 5), 0, (5, 5)),
        ((5, 5), 4, (5, 5)),
    ],
)
def test_a_whole_book_at_a_border_says_no_more_than_is_known(sides, added, shown):
    """Who reads a whole book takes its longer side for cut and a shorter one for complete."""
    bids, asks = (
        [(str(100 + sign * (n + 1)), "1") for n in range(count)] for sign, count in zip((-1, 1), sides, strict=True)
    )
    seams = Seams(lambda _: spans_of((2, 4)))
    passed(seams, [update(0), whole(0, bids, asks)])
    passed(seams, [update(1, [(f"99.{n + 1}", "1") for n in range(added)])])
    *_, made, _ = passed(seams, [update(2), update(3), update(4)])
    assert (len(levels(made.bids)), len(levels(made.asks))) == shown
    assert levels(made.bids)[0] == (f"99.{added}" if added else "99", "1")


def test_levels_beyond_what_the_whole_book_showed_are_not_told():
    bids, asks = [("99", "1"), ("98", "1")], [("101", "1"), ("102", "1")]
    seams = Seams(lambda _: spans_of((2, 4)))
    passed(seams, [update(0), whole(0, bids, asks), update(1, [("90", "5")], [("110", "5")])])
    *_, made, _ = passed(seams, [update(2), update(3), update(4)])
    assert (levels(made.bids), levels(made.asks)) == (bids, asks)


def test_a_book_whose_known_range_was_left_is_not_told_as_whole():
    seams = Seams(lambda _: spans_of((2, 4)))
    passed(seams, [update(0), whole(0, [("99", "1")], [("101", "1")]), update(1, [("99", "0")], [("100", "1")])])
    rows = passed(seams, [update(2), update(3), update(4)])
    assert [row.flags for row in rows] == [("clear",), ("clear",), ()]


def test_levels_that_are_none_leave_the_book_unknown():
    seams = Seams(lambda _: spans_of((2, 4)))
    passed(seams, [update(0), whole(0, [("99", "1")], [("101", "1")])])
    passed(seams, [msgspec.structs.replace(update(1), bids=msgspec.Raw(b'[{"price":1}]'))])
    rows = passed(seams, [update(2), update(3), update(4)])
    assert [row.flags for row in rows] == [("clear",), ("clear",), ()]


def test_many_times_are_told_by_the_first_of_them():
    seams = Seams(lambda _: spans_of(*((n, n + 1) for n in range(0, 100, 2))))
    for n in range(100):
        passed(seams, [update(n)])
    said = seams.told()
    assert (len(said), said[-1]) == (SHOWN + 1, f"and the same {50 - SHOWN} times more")
