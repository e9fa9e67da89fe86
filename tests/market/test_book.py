"""The order book: absolute quantities, exact texts, and what a snapshot of limited depth leaves unknown."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.book import Book, levels
from market.errors import Malformed


def loaded(depth=None):
    book = Book()
    book.load([("100.0", "1.500"), ("99.5", "2"), ("9.5", "3")], [("100.5", "1"), ("101.0", "4")], depth)
    return book


def test_best_levels_are_by_value_and_keep_the_venues_texts():
    book = loaded()
    assert book.top(2) == ([("100.0", "1.500"), ("99.5", "2")], [("100.5", "1"), ("101.0", "4")])
    assert (book.best_bid(), book.best_ask()) == (("100.0", "1.500"), ("100.5", "1"))
    assert book.top()[0][-1] == ("9.5", "3"), "9.5 is text above 100.0 and value below"


def test_an_update_replaces_adds_and_takes_away():
    book = loaded()
    book.apply([("100.0", "0.000"), ("99.5", "7"), ("98.0", "1")], [("100.5", "0"), ("500.0", "0.00000000")])
    assert book.top() == ([("99.5", "7"), ("98.0", "1"), ("9.5", "3")], [("101.0", "4")])


def test_a_snapshot_replaces_everything():
    book = loaded()
    book.load([("1.0", "1")], [])
    assert book.top() == ([("1.0", "1")], [])
    book.clear()
    assert (book.best_bid(), book.best_ask(), book.crossed) == (None, None, False)


def test_what_lies_beyond_the_snapshots_levels_is_unknown():
    book = loaded(depth=3)
    assert (book.valid_low, book.valid_high) == ("9.5", None), "the asks were all there: fewer than asked for"
    book.apply([("9.4", "1"), ("9.6", "1")], [("900.0", "1")])
    assert book.top()[0] == [("100.0", "1.500"), ("99.5", "2"), ("9.6", "1"), ("9.5", "3")]
    assert book.top()[1][-1] == ("900.0", "1")
    book.apply([(price, "0") for price in ("100.0", "99.5", "9.6", "9.5")], [])
    assert book.best_bid() is None, "9.4 is there, but what lies above it may be too"


@pytest.mark.parametrize("bid,crossed", [("100.49", False), ("100.5", True), ("100.50", True), ("200", True)])
def test_a_crossed_book_is_told(bid, crossed):
    book = loaded()
    book.apply([(bid, "1")], [])
    assert book.crossed == crossed


def test_prices_that_no_float_tells_apart_are_ordered_all_the_same():
    book, near = Book(), ["1.0000000000000000001", "1.0000000000000000003", "1.0000000000000000002"]
    book.load([(price, "1") for price in near], [("1.00000000000000000030", "1")])
    assert [price for price, _ in book.top()[0]] == [near[1], near[2], near[0]]
    assert book.crossed


def test_levels_of_a_message():
    assert levels(b'[["1.0","2"],["3","4.50"]]') == [("1.0", "2"), ("3", "4.50")]
    assert levels(msgspec.Raw(b'[["1.0","2",[]]]')) == [("1.0", "2")], "older recordings have an empty third"
    for bad in (b"", b"{}", b'[["1"]]', b"[[1,2]]", b'["1","2"]', b"\xff"):
        with pytest.raises(Malformed):
            levels(bad)


prices = st.integers(1, 30).map(lambda n: f"{n / 10:.1f}")
changes = st.lists(st.tuples(prices, st.sampled_from(["0", "0.00", "1.5", "2.50"])), max_size=8)


@given(st.lists(st.tuples(changes, changes), max_size=12))
def test_the_book_is_the_last_word_on_every_price(updates):
    book, bids, asks = Book(), {}, {}
    for b, a in updates:
        book.apply(b, a)
        bids.update(b)
        asks.update(a)
    want = [
        sorted(((p, q) for p, q in side.items() if Decimal(q)), key=lambda level: Decimal(level[0]), reverse=down)
        for side, down in ((bids, True), (asks, False))
    ]
    assert list(book.top()) == want
    assert list(book.top(3)) == [side[:3] for side in want]
    assert [book.best_bid(), book.best_ask()] == [next(iter(side), None) for side in want]
