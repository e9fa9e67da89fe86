"""Snapshots of Binance books: asked for under the budget, stored, joined to their updates, and replayed the same."""

import asyncio
import itertools
from collections import Counter

import msgspec
import pytest

from collectors.budget import Budget
from collectors.chain import ChainMerger
from collectors.config import WritingConfig
from collectors.exchanges import load
from collectors.intake import Intake
from collectors.merger import merger
from collectors.pipeline import Pipeline
from collectors.routes import merger_maker
from market.kinds import BookDelta, BookSnapshot
from market.session import Booked, Connection, Fetch, Rejected
from market.times import MINUTE, SECOND
from tests.support.clock import ManualClock
from tests.support.lines import events_of

T = 1_785_701_700_000_000
MS = T // 1000
BINANCE = load("binance")


def live(market="linear", symbols=("BTCUSDT",), levels=1000, kinds=("book_delta",)):
    """A session whose subscription was taken on."""
    streams = BINANCE.streams(market, list(kinds), list(symbols))
    (planned,) = BINANCE.connections(market, streams, BINANCE.ENDPOINTS[market])
    planned = msgspec.structs.replace(planned, rest="https://rest.test/", book_levels=levels)
    made = BINANCE.session(planned, "n-1-1")
    made.start(T)
    made.receive(b'{"result":null,"id":1}', T)
    return made


def update(first, last, before=0, symbol="BTCUSDT", bids='[["1","2"]]', market="linear"):
    data = (
        f'{{"e":"depthUpdate","E":{MS},"T":{MS},"s":"{symbol}","U":{first},"u":{last},"pu":{before},"b":{bids},"a":[]}}'
    )
    return f'{{"stream":"{symbol.lower()}@depth@100ms","data":{data}}}'.encode()


def answer(last, **more):
    return msgspec.json.encode({"lastUpdateId": last, "bids": [["1.0", "2"]], "asks": [["1.5", "1"]], **more})


def asked(made, now):
    return [out for out in made.tick(now) if isinstance(out, Fetch)]


@pytest.mark.parametrize(
    "market,levels,url,weight",
    [("spot", 1000, "/api/v3/depth?symbol=BTCUSDT&limit=1000", 50),
     ("spot", 5000, "/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
     ("linear", 1000, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20),
     ("linear", 5000, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20),
     ("inverse", 100, "/dapi/v1/depth?symbol=BTCUSDT&limit=100", 5)],
)  # fmt: skip
def test_the_snapshot_is_asked_for_once_the_stream_has_sent_something(market, levels, url, weight):
    made = live(market, levels=levels)
    assert asked(made, T) == []
    made.receive(update(10, 12), T)
    assert made.next_deadline() <= T
    (fetch,) = asked(made, T)
    assert (fetch.method, fetch.url, fetch.weight) == ("GET", "https://rest.test" + url, weight)
    assert asked(made, T + SECOND) == [], "one question at a time"


def test_a_stream_that_was_taken_on_and_is_quiet_is_asked_for_all_the_same():
    made = live()
    assert made.next_deadline() == T + 2 * SECOND
    assert len(asked(made, T + 2 * SECOND)) == 1


def test_an_answer_is_a_snapshot_row_and_the_row_the_book_begins_from():
    made = live()
    made.receive(update(10, 12, 5), T)
    assert made.books_out_of_sync() == ["BTCUSDT"]
    assert isinstance(made, Booked)
    (fetch,) = asked(made, T)
    snapshot, first = made.respond(fetch.tag, 200, {}, answer(11, T=MS - 1, E=MS), T + SECOND)
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.source, snapshot.last_id, snapshot.depth, snapshot.ts_event) == ("rest", 11, 1000, T - 1000)
    assert isinstance(first, BookDelta)
    assert (first.source, first.flags, first.last_id, first.first_id, first.prev_id) == (
        "rest", ("snapshot",), 11, None, None,
    )  # fmt: skip
    assert (bytes(first.bids), first.frame_no, first.stream) == (b'[["1.0","2"]]', 3, "btcusdt@depth@100ms")
    assert made.books_out_of_sync() == []
    assert asked(made, T + MINUTE) == []
    assert merger("binance", "linear", "book_delta", contiguous=True).merge(first)


def test_spots_snapshot_has_no_time_of_its_own():
    made = live("spot")
    (frame,) = made.receive(update(10, 12), T)
    (fetch,) = asked(made, T)
    for row in made.respond(fetch.tag, 200, {}, answer(11), T):
        assert (row.ts_event, row.skew_us) == (None, None)
    assert frame.flags == ()


def test_a_snapshot_that_is_too_old_is_stored_and_asked_again_with_patience():
    made = live()
    made.receive(update(10, 12, 5), T)
    now, waits = T, []
    for _ in range(8):
        (fetch,) = asked(made, now)
        (row,) = made.respond(fetch.tag, 200, {}, answer(4), now)
        assert isinstance(row, BookSnapshot)
        waits.append((made.next_deadline() - now) // SECOND)
        assert asked(made, made.next_deadline() - 1) == []
        now = made.next_deadline()
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_break_of_one_book_resyncs_that_book():
    made = live(symbols=("BTCUSDT", "ETHUSDT"))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        made.receive(update(10, 12, 5, symbol), T)
    for fetch in asked(made, T):
        made.respond(fetch.tag, 200, {}, answer(11), T)
    (event,) = made.receive(update(30, 32, 25), T)
    assert event.flags == ("gap_before",)
    assert made.books_out_of_sync() == ["BTCUSDT"]
    (event,) = made.receive(update(13, 15, 12, "ETHUSDT"), T)
    assert event.flags == ()
    (fetch,) = asked(made, made.next_deadline())
    assert "BTCUSDT" in fetch.url
    assert len(made.respond(fetch.tag, 200, {}, answer(31), T)) == 2
    (event,) = made.receive(update(40, 41, 32), T)
    assert (event.flags, made.books_out_of_sync()) == ((), [])


@pytest.mark.parametrize(
    "status,body",
    [(429, b"{}"), (418, b""), (500, b""), (0, b""), (200, b"<html>"), (200, answer(11)[:20]),
     (200, b'{"lastUpdateId":-1}'),
     (200, answer(11, bids=[["1", 2]])), (200, answer(11, T=1))],
)  # fmt: skip
def test_what_is_no_book_is_never_data(status, body):
    made = live()
    made.receive(update(10, 12, 5), T)
    (fetch,) = asked(made, T)
    (out,) = made.respond(fetch.tag, status, {}, body, T)
    assert isinstance(out, Rejected)
    assert made.books_out_of_sync() == ["BTCUSDT"]
    assert len(asked(made, T + 2 * SECOND)) == 1


@pytest.mark.parametrize(
    "tag", ["", "depth", "depth 1000 x", "depth x btcusdt@depth@100ms", "info 1000 btcusdt@depth@100ms"]
)
def test_an_answer_that_nobody_asked_for_is_rejected(tag):
    made = live()
    (out,) = made.respond(tag, 200, {}, answer(11), T)
    assert isinstance(out, Rejected)
    (out,) = made.respond("depth 1000 btcusdt@depth@100ms", 200, {}, answer(11), T)
    assert isinstance(out, Rejected)


def test_replay_makes_the_rows_of_the_live_session():
    made = live()
    learning = BINANCE.session(Connection("binance", "linear", "x", "wss://x", ()), "n-1-1", learn=True)
    steps = [
        update(10, 12, 5),
        3,
        11,
        update(13, 14, 12),
        update(20, 21, 19),
        25,
        update(22, 30, 21),
        update(31, 31, 30),
    ]
    rows, again = [], []
    learning.frame_no = 1
    for number, step in enumerate(steps):
        now = T + number * 10 * SECOND
        if isinstance(step, int):
            (fetch,) = asked(made, now)
            rows += made.respond(fetch.tag, 200, {}, answer(step), now)
            again += learning.respond(fetch.tag, 200, {}, answer(step), now)
        else:
            rows += made.receive(step, now)
            again += learning.receive(step, now)
        assert learning.tick(now) == ()
    assert rows == again
    assert [row.flags for row in rows if isinstance(row, BookDelta)] == [
        (), ("snapshot",), (), ("gap_before",), ("snapshot",), (), (),
    ]  # fmt: skip


def test_a_snapshot_row_is_not_part_of_the_chain():
    made, held = live(), ChainMerger("binance", "linear", "book_delta")
    for frame in (update(10, 12, 5), update(13, 14, 12)):
        (event,) = made.receive(frame, T)
        assert held.merge(event)
    (fetch,) = asked(made, T)
    for row in made.respond(fetch.tag, 200, {}, answer(50), T):
        assert not isinstance(row, BookDelta) or held.merge(row)
    (event,) = made.receive(update(20, 21, 14), T)
    assert held.merge(event)
    assert held.tick(T + MINUTE) == []


async def test_markets_of_one_pool_share_half_of_what_the_venue_allows():
    clock = ManualClock(T)
    budget, began, done = Budget(clock), clock.monotonic(), []

    async def ask(market, weight):
        await budget.spend(BINANCE.LIMITS[market], weight)
        done.append((market, clock.monotonic() - began))

    tasks = [asyncio.create_task(ask(m, w)) for m, w in [("linear", 20), ("inverse", 20), ("linear", 20), ("spot", 50)]]
    for _ in range(3):
        await asyncio.sleep(0)
        await clock.advance(1)
    await asyncio.gather(*tasks)
    assert sorted(done) == [("inverse", 1.0), ("linear", 0.0), ("linear", 2.0), ("spot", 0.0)]


# What other sessions know, and asking again


class Market:
    """A pipeline with live sessions of one market, so that they are told of each other's books."""

    def __init__(self, market="linear", symbols=("BTCUSDT",), refresh=0):
        self.market, self.symbols, self.refresh = market, symbols, refresh
        self.intake = Intake(WritingConfig())
        self.pipeline = Pipeline("binance", market, self.intake, merger_maker(BINANCE, market))

    def open(self, number, now=T, **more):
        streams = BINANCE.streams(self.market, ["book_delta"], list(self.symbols))
        (planned,) = BINANCE.connections(self.market, streams, BINANCE.ENDPOINTS[self.market])
        planned = msgspec.structs.replace(planned, rest="https://rest.test", book_refresh=self.refresh, **more)
        session = BINANCE.session(planned, f"n-{number}-1")
        link, _ = self.pipeline.open(session, name=str(number), source="ws", url="", now=now)
        self.pipeline.receive(link, [b'{"result":null,"id":1}'], now)
        return link

    def asked(self, link, now):
        return [task for task in self.pipeline.tick(link, now) if isinstance(task, Fetch)]

    def answer(self, link, fetch, last, now):
        self.pipeline.respond(link, fetch, 200, {}, answer(last), now)

    def flags(self, now):
        self.pipeline.advance(now + MINUTE, covered=True)
        work = self.intake.collect(now)
        return [
            event.flags for lane, events in work.events if lane[2] == "book_delta" for event in events_of(lane, events)
        ]


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
