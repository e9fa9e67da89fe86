"""Snapshots of Binance books: asked for under the budget, stored, joined to their updates, and replayed the same."""

import asyncio

import msgspec
import pytest

from collectors.budget import Budget
from collectors.chain import ChainMerger
from collectors.merger import merger
from market.kinds import BookDelta, BookSnapshot
from market.session import Booked, Connection, Fetch, Rejected
from market.times import MINUTE, SECOND
from tests.support.clock import ManualClock
from tests.support.depth import BINANCE, MS, T, answer, update


def live(market="linear", symbols=("BTCUSDT",), levels=1000, kinds=("book_delta",)):
    """A session whose subscription was taken on."""
    streams = BINANCE.streams(market, list(kinds), list(symbols))
    (planned,) = BINANCE.connections(market, streams, BINANCE.ENDPOINTS[market])
    planned = msgspec.structs.replace(planned, rest="https://rest.test/", book_levels=levels)
    made = BINANCE.session(planned, "n-1-1")
    made.start(T)
    made.receive(b'{"result":null,"id":1}', T)
    return made


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


def test_a_replay_knows_the_book_of_an_answer_that_came_before_its_first_update():
    made = live()
    learning = BINANCE.session(Connection("binance", "linear", "x", "wss://x", ()), "n-1-1", learn=True)
    learning.frame_no = 1
    now = T + 2 * SECOND
    (fetch,) = asked(made, now)
    rows, again = (session.respond(fetch.tag, 200, {}, answer(11), now) for session in (made, learning))
    assert [type(row) for row in rows] == [BookSnapshot, BookDelta]
    assert again == rows
    assert learning.receive(update(12, 14, 11), now) == made.receive(update(12, 14, 11), now)
    for tag in ("", "depth 1000 ", "depth 1000 btcusdt@nothing", "depth 1000 btcusdt@trade"):
        (out,) = learning.respond(tag, 200, {}, answer(11), now)
        assert isinstance(out, Rejected)


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
