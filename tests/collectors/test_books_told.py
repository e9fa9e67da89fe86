"""What sessions of Binance books know of each other's and of what is stored, and asking again."""

import itertools
from collections import Counter

import pytest

from market.session import Connection
from market.times import MINUTE, SECOND
from tests.support.depth import BINANCE, Market, T, update


def test_of_twins_one_asks_and_both_are_in_sync():
    market = Market()
    one, two = market.open(1), market.open(2)
    for link in (one, two):
        market.pipeline.receive(link, [update(10, 12, 5)], T)
    (fetch,) = market.asked(one, T)
    assert market.asked(two, T) == []
    assert market.asked(two, T + SECOND) == []
    market.pipeline.receive(one, [update(13, 14, 12)], T + SECOND)
    market.answer(one, fetch, 12, T + SECOND)
    assert market.asked(two, T + SECOND) == [], "it is told that what is stored tells the book"
    assert (one.session.books_out_of_sync(), two.session.books_out_of_sync()) == ([], [])
    market.pipeline.receive(two, [update(13, 14, 12), update(15, 19, 14)], T + SECOND)
    assert two.session.books_out_of_sync() == []
    assert market.flags(T) == [(), (), ("snapshot",), ()]


def test_where_the_asking_twin_is_gone_the_other_asks():
    market = Market()
    one, two = market.open(1), market.open(2)
    for link in (one, two):
        market.pipeline.receive(link, [update(10, 12, 5)], T)
    assert len(market.asked(one, T)) == 1
    market.pipeline.close(one, "disconnect", T + SECOND)
    assert market.asked(two, T + SECOND) == []
    assert len(market.asked(two, two.session.next_deadline())) == 1


@pytest.mark.parametrize("market", ["linear", "spot"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_connection_that_is_made_again_asks_only_for_what_it_lost(market, lost):
    books = Market(market)
    old = books.open(1)
    books.pipeline.receive(old, [update(10, 12, 9)], T)
    (fetch,) = books.asked(old, T)
    books.answer(old, fetch, 11, T)
    books.pipeline.close(old, "disconnect", T + SECOND)
    new = books.open(2, T + 2 * SECOND)
    assert new.session.books_out_of_sync() == ["BTCUSDT"]
    first = update(20, 22, 19) if lost else update(13, 15, 12)
    books.pipeline.receive(new, [first], T + 2 * SECOND)
    assert len(books.asked(new, T + 2 * SECOND)) == lost
    assert new.session.books_out_of_sync() == ["BTCUSDT"] * lost


def test_a_quiet_book_goes_on_from_what_is_stored_too():
    books = Market()
    old = books.open(1)
    books.pipeline.receive(old, [update(10, 12, 9)], T)
    (fetch,) = books.asked(old, T)
    books.answer(old, fetch, 11, T)
    heir = books.open(2, T + SECOND)
    books.pipeline.close(old, "handover", T + 2 * SECOND)
    assert books.asked(heir, T + 3 * SECOND) == []
    assert heir.session.books_out_of_sync() == []
    books.pipeline.receive(heir, [update(20, 22, 19)], T + 4 * SECOND)
    assert heir.session.books_out_of_sync() == ["BTCUSDT"], "the next update does not go on from there"


def test_a_twin_that_lost_updates_goes_on_with_what_the_other_one_had():
    books = Market()
    one, two = books.open(1), books.open(2)
    for link in (one, two):
        books.pipeline.receive(link, [update(10, 12, 9)], T)
    (fetch,) = books.asked(one, T)
    books.answer(one, fetch, 11, T)
    assert books.asked(two, T) == []
    books.pipeline.receive(one, [update(13, 15, 12), update(16, 18, 15)], T)
    books.pipeline.receive(two, [update(16, 18, 15)], T)
    assert two.session.books_out_of_sync() == ["BTCUSDT"]
    assert books.asked(two, T + SECOND) == []
    assert two.session.books_out_of_sync() == []
    books.pipeline.receive(two, [update(19, 22, 18)], T)
    assert (two.session.books_out_of_sync(), books.flags(T)) == ([], [(), ("snapshot",), (), (), ()])


def synced(books, *numbers):
    """Sessions whose book is known up to 18, by one snapshot."""
    links = [books.open(number) for number in numbers]
    for link in links:
        books.pipeline.receive(link, [update(10, 12, 9)], T)
    (fetch,) = books.asked(links[0], T)
    books.answer(links[0], fetch, 11, T)
    for link in links:
        books.pipeline.receive(link, [update(13, 18, 12)], T)
        assert books.asked(link, T) == []
        assert link.session.books_out_of_sync() == []
    return links


def test_a_book_whose_updates_were_given_up_is_out_of_sync_and_asked_for_as_soon_as_they_are_stored_again():
    books = Market()
    (link,) = synced(books, 1)
    books.intake.press(frozenset({"book_delta", "book_snapshot"}))
    books.pipeline.receive(link, [update(19, 22, 18)], T)
    assert books.pipeline.totals.shed["book_delta"] == 1
    assert link.session.books_out_of_sync() == ["BTCUSDT"]
    for seconds in (1, 60, 3600):
        assert books.asked(link, T + seconds * SECOND) == [], "what came of it would be given up too"
    now = T + 3601 * SECOND
    books.intake.press(frozenset())
    books.pipeline.relieve()
    assert link.session.books_out_of_sync() == ["BTCUSDT"]
    assert link.session.next_deadline() <= now
    (fetch,) = books.asked(link, now)
    books.answer(link, fetch, 20, now)
    assert link.session.books_out_of_sync() == ["BTCUSDT"], "22 was given up: a snapshot at 20 tells no stored book"
    books.pipeline.receive(link, [update(23, 25, 22)], now)
    (fetch,) = books.asked(link, now + 10 * SECOND)
    books.answer(link, fetch, 24, now)
    assert link.session.books_out_of_sync() == []
    assert books.asked(link, now + MINUTE) == []


def test_where_memory_is_short_the_end_of_it_is_seen_with_the_next_update():
    books = Market()
    (link,) = synced(books, 1)
    lane = books.intake.lane(("binance", "linear", "book_delta"))
    whole, lane.max_bytes = lane.max_bytes, 0
    books.pipeline.receive(link, [update(19, 22, 18)], T)
    assert link.session.books_out_of_sync() == ["BTCUSDT"]
    lane.max_bytes = whole
    books.pipeline.receive(link, [update(23, 25, 22)], T + SECOND)
    assert len(books.asked(link, T + SECOND)) == 1


def test_twins_learn_together_that_updates_were_given_up_and_one_of_them_asks():
    books = Market()
    one, two = synced(books, 1, 2)
    books.intake.press(frozenset({"book_delta"}))
    books.pipeline.receive(two, [update(19, 22, 18)], T)
    books.pipeline.receive(one, [update(19, 22, 18)], T)
    late = books.open(3, T)
    for link in (one, two, late):
        assert books.asked(link, T + MINUTE) == []
        assert link.session.books_out_of_sync() == ["BTCUSDT"]
    books.intake.press(frozenset())
    books.pipeline.relieve()
    now = T + 2 * MINUTE
    books.pipeline.close(late, "retired", now)
    (fetch,) = books.asked(one, now)
    assert books.asked(two, now) == [], "what was merged before does not tell the book, and one has asked"
    for link in (one, two):
        books.pipeline.receive(link, [update(23, 25, 22)], now)
    books.answer(one, fetch, 24, now)
    assert books.asked(two, now) == []
    assert [link.session.books_out_of_sync() for link in (one, two)] == [[], []]


def test_what_sessions_are_told_replays_the_same():
    books, again = Market(), Market()
    steps = [
        (1, update(10, 12, 9)), (2, update(10, 12, 9)), (1, 11), (2, update(20, 22, 19)), (1, update(13, 19, 12)),
        (2, update(23, 24, 22)), (1, update(30, 31, 29)), (2, update(25, 29, 24)), (1, update(40, 41, 39)),
        (2, update(50, 51, 49)), (1, update(42, 43, 41)), (1, 42), (2, update(52, 53, 51)),
    ]  # fmt: skip
    live = {number: books.open(number) for number in (1, 2)}
    replayed = {}
    for number in (1, 2):
        learning = BINANCE.session(Connection("binance", "linear", "x", "wss://x", ()), f"n-{number}-1", learn=True)
        replayed[number], _ = again.pipeline.open(learning, name="", source="ws", url="", now=T)
        learning.frame_no = 1
    asked = {}
    for place, (number, step) in enumerate(steps):
        now = T + place * 10 * SECOND
        for each, link in live.items():
            for fetch in books.asked(link, now):
                asked[each] = fetch
        if isinstance(step, int):
            fetch = asked.pop(number)
            books.answer(live[number], fetch, step, now)
            again.answer(replayed[number], fetch, step, now)
        else:
            books.pipeline.receive(live[number], [step], now)
            again.pipeline.receive(replayed[number], [step], now)
    rows = books.flags(now)
    assert rows == again.flags(now)
    assert rows.count(("snapshot",)) == 2


def test_books_in_sync_are_asked_for_again_spread_over_the_interval():
    every = 60 * MINUTE
    books = Market(symbols=[f"S{n}USDT" for n in range(60)], refresh=every)
    link = books.open(1)
    books.pipeline.receive(link, [update(10, 12, 9, symbol) for symbol in books.symbols], T)
    for fetch in books.asked(link, T):
        books.answer(link, fetch, 11, T)
    times = []
    for minute in range(1, 181):
        now = T + minute * MINUTE
        books.pipeline.receive(
            link, [update(12 + minute, 12 + minute, 11 + minute, each) for each in books.symbols], now
        )
        for fetch in books.asked(link, now):
            times.append((minute, fetch.url))
            books.answer(link, fetch, 12 + minute, now)
    counts = Counter(minute for minute, _ in times)
    assert max(counts.values()) <= 2
    by_book = {}
    for minute, url in times:
        by_book.setdefault(url, []).append(minute)
    assert len(by_book) == 60
    assert all(30 <= held[0] <= 90 for held in by_book.values())
    assert all(59 <= b - a <= 61 for held in by_book.values() for a, b in itertools.pairwise(held))
    assert books.flags(T).count(("snapshot",)) == 60 + len(times), "each renews the range that is known"


def test_twins_ask_again_in_turns_and_not_both():
    every = 60 * MINUTE
    books = Market(refresh=every)
    links = [books.open(1), books.open(2, T + 13 * MINUTE)]
    for link in links:
        books.pipeline.receive(link, [update(10, 12, 9)], T + 13 * MINUTE)
    asked = []
    for minute in range(13, 13 + 6 * 60):
        now = T + minute * MINUTE
        for link in links:
            for fetch in books.asked(link, now):
                asked.append(minute)
                books.answer(link, fetch, 12, now)
    assert 5 <= len(asked) <= 8
    assert all(30 <= b - a <= 90 for a, b in itertools.pairwise(asked))


def test_an_answer_that_does_not_join_is_asked_for_again_while_the_book_goes_on():
    books = Market(refresh=60 * MINUTE)
    link = books.open(1)
    books.pipeline.receive(link, [update(10, 12, 9)], T)
    (fetch,) = books.asked(link, T)
    books.answer(link, fetch, 11, T)
    at = link.session.books.deadline()
    (fetch,) = books.asked(link, at)
    books.answer(link, fetch, 3, at)
    assert link.session.books_out_of_sync() == []
    (fetch,) = books.asked(link, at + MINUTE)
    books.answer(link, fetch, 12, at + MINUTE)
    assert books.flags(T) == [(), ("snapshot",), ("snapshot",)]


def test_without_an_interval_a_book_in_sync_is_left_alone():
    books = Market()
    link = books.open(1)
    books.pipeline.receive(link, [update(10, 12, 9)], T)
    (fetch,) = books.asked(link, T)
    books.answer(link, fetch, 11, T)
    assert books.asked(link, T + 10_000 * MINUTE) == []
