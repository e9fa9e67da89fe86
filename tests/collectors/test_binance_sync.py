"""Books of Binance: the rules that join snapshots and updates, and the recordings that have a snapshot."""

import gzip
import os
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.exchanges import load
from collectors.exchanges.binance.sync import FUTURES, SPOT, BookSync, Ids, rule
from market.book import Book, levels
from market.kinds import BookDelta, Quote
from market.session import Connection

BINANCE = load("binance")
SAMPLES_DIR = (
    Path(os.environ.get("LAKE_SAMPLES") or Path(__file__).resolve().parents[2].parent / "shared" / "samples")
    / "binance"
)


def synced(rule, snapshot, *updates):
    """A book after `updates`, with the snapshot taken before them."""
    sync = BookSync(rule)
    assert sync.snapshot(snapshot)
    return [sync.update(Ids(*ids)) for ids in updates], sync


@pytest.mark.parametrize(
    "ids,joins",
    [((99, 101, None), True), ((101, 101, None), True), ((101, 105, None), True), ((102, 103, None), False)],
)
def test_spots_first_update_holds_the_id_after_the_snapshots(ids, joins):
    _, sync = synced(SPOT, 100, ids)
    assert sync.in_sync == joins
    assert sync.last == (ids[1] if joins else None)


@pytest.mark.parametrize(
    "ids,joins",
    [((90, 100, 80), True), ((100, 110, 80), True), ((95, 110, 90), True), ((105, 110, 100), True),
     ((101, 110, 99), False), ((105, 110, 101), False)],
)  # fmt: skip
def test_futures_first_update_spans_the_snapshot_or_continues_it(ids, joins):
    _, sync = synced(FUTURES, 100, ids)
    assert sync.in_sync == joins


@pytest.mark.parametrize("made,old", [(SPOT, (90, 100, None)), (FUTURES, (80, 99, 70))])
def test_what_the_snapshot_holds_already_is_dropped(made, old):
    whole, sync = synced(made, 100, old)
    assert (whole, sync.in_sync, sync.last) == ([True], True, 100)


def test_spot_chains_by_ids_and_futures_by_the_id_before():
    whole, sync = synced(SPOT, 100, (101, 103, None), (104, 104, None), (106, 107, None))
    assert (whole, sync.in_sync, sync.broken) == ([True, True, False], False, 1)
    whole, sync = synced(FUTURES, 100, (95, 103, 90), (150, 160, 103), (170, 180, 161))
    assert (whole, sync.in_sync, sync.broken) == ([True, True, False], False, 1)
    whole, sync = synced(SPOT, 100, (101, 103, None), (101, 103, None), (103, 105, None))
    assert (whole, sync.last) == ([True] * 3, 105), "what repeats or overlaps loses nothing"


@pytest.mark.parametrize(
    "made,held",
    [(SPOT, [(90, 95, None), (96, 105, None), (106, 109, None)]),
     (FUTURES, [(90, 95, 85), (99, 105, 95), (108, 109, 105)])],
)  # fmt: skip
def test_updates_are_held_until_the_snapshot_comes(made, held):
    sync = BookSync(made)
    for ids in held:
        assert sync.update(Ids(*ids))
    assert not sync.in_sync
    assert not sync.snapshot(50), "older than the first that is held: too old"
    assert sync.snapshot(100)
    assert (sync.in_sync, sync.last, sync.broken) == (True, 109, 0)


def test_a_break_while_waiting_leaves_only_what_came_after_it():
    sync = BookSync(SPOT)
    assert sync.update(Ids(90, 95, None))
    assert not sync.update(Ids(99, 105, None))
    assert not sync.snapshot(96), "97 and 98 are in neither"
    assert sync.snapshot(98)
    assert sync.last == 105


def test_after_a_break_the_book_is_unknown_until_another_snapshot():
    book = Book()
    sync = BookSync(SPOT, book)
    sync.snapshot(100, [("1", "1")], [("2", "1")])
    assert sync.update(Ids(101, 101, None), [("1", "5")])
    assert book.top() == ([("1", "5")], [("2", "1")])
    assert not sync.update(Ids(105, 106, None), [("1.5", "3")])
    assert (book.top(), sync.in_sync) == (([], []), False)
    assert sync.snapshot(104, [("1", "2")], [("2", "1")])
    assert book.top() == ([("1.5", "3"), ("1", "2")], [("2", "1")])
    assert not sync.snapshot(1), "one that does not join what is held is said to"
    assert sync.snapshot(105), "a book in sync goes on as it is"
    assert (sync.in_sync, sync.last) == (True, 106)


@given(
    st.sampled_from([SPOT, FUTURES]),
    st.lists(
        st.tuples(
            st.sampled_from(["next", "next", "next", "odd", "snapshot", "lost"]),
            st.integers(0, 30),
            st.integers(0, 3),
            st.integers(0, 30),
        ),
        max_size=30,
    ),
)
def test_a_step_is_an_update_of_a_book_that_is_not_kept(made, doings):
    one, other = BookSync(made, held=3), BookSync(made, held=3)
    for what, number, more, before in doings:
        if what == "lost":
            one.lose()
            other.lose()
        elif what == "snapshot":
            assert one.snapshot(number) == other.snapshot(number)
        else:
            first, last = (one.seen + 1, one.seen) if what == "next" else (number, before)
            ids = (first, first + more, None if made is SPOT else last)
            assert one.update(Ids(*ids)) == other.step(*ids)
        assert (one.in_sync, one.last, one.seen, one.broken) == (other.in_sync, other.last, other.seen, other.broken)


# Recordings that have a snapshot


def lines(name):
    path = SAMPLES_DIR / name
    if not path.exists():
        pytest.skip(f"recorded frames are not here: {path} (set LAKE_SAMPLES)")
    return gzip.decompress(path.read_bytes()).splitlines()


def cryptofeed(name):
    """(time us, symbol of a depth answer or None, bytes) of a recording, answers in their place by time."""
    found = []
    for line in lines(f"{name}.ws.txt.gz"):
        if line.strip() and not line.startswith(b"wss:"):
            text, frame = line.split(b": ", 1)
            found.append((int(float(text) * 1_000_000), None, frame))
    for line in lines(f"{name}.http.txt.gz"):
        match = re.match(rb"https://\S*/depth\?symbol=(\w+)&limit=(\d+) -> ([\d.]+): ", line)
        if match:
            found.append((int(float(match[3]) * 1_000_000), match[1].decode(), line[match.end() :]))
    return sorted(found, key=lambda one: one[0])


def hftbacktest(*names):
    """The same for a recorder that mixes the answers into its frames."""
    for name in names:
        for line in lines(name):
            text, frame = line.split(b" ", 1)
            yield int(text) // 1000, None if b'"stream"' in frame[:20] else "BTCUSDT", frame


def replayed(market, found, depth=1000):
    """(book by symbol, number of tickers compared by symbol) of a recording."""
    made = BINANCE.session(Connection("binance", market, "x", "wss://x", ()), "n-1-1", learn=True)
    quotes, steps = {}, []
    for time, symbol, data in found:
        if symbol is not None:
            steps.append((symbol, msgspec.json.decode(data, type=dict[str, msgspec.Raw])))
            continue
        for event in made.receive(data, time):
            if isinstance(event, BookDelta):
                steps.append((event.symbol, event))
            elif isinstance(event, Quote):
                top = ((event.bid, event.bid_qty), (event.ask, event.ask_qty))
                quotes[event.symbol, event.update_id] = top
    books, equal = {}, set()
    for symbol, step in steps:
        sync = books.setdefault(symbol, BookSync(rule(market), Book(), held=100_000))
        if isinstance(step, BookDelta):
            ids = Ids(step.first_id, step.last_id, step.prev_id)
            assert sync.update(ids, levels(step.bids), levels(step.asks)), step
        else:
            bids, asks = levels(step["bids"]), levels(step["asks"])
            assert sync.snapshot(msgspec.json.decode(step["lastUpdateId"]), bids, asks, depth)
        said = quotes.get((symbol, sync.last))
        if said is not None:
            assert (sync.book.best_bid(), sync.book.best_ask()) == said
            assert not sync.book.crossed
            equal.add((symbol, sync.last))
    return books, Counter(symbol for symbol, _ in equal)


@pytest.mark.parametrize(
    "market,name,symbols",
    [("spot", "cf_spot_20211012", {"NKNUSDT": 19, "BLZETH": 1, "LRCBTC": 6, "RUNEEUR": 0}),
     ("linear", "cf_um_20210417", {"DENTUSDT": 20, "KSMUSDT": 22, "XMRUSDT": 12, "YFIUSDT": 33})],
)  # fmt: skip
def test_recorded_snapshots_join_their_updates_and_the_best_prices_are_the_tickers(market, name, symbols):
    books, equal = replayed(market, cryptofeed(name))
    assert set(books) == set(symbols)
    assert {(sync.in_sync, sync.broken, sync.book.crossed) for sync in books.values()} == {(True, 0, False)}
    assert equal == Counter(symbols)


def test_two_recorded_days_are_one_chain_from_one_snapshot():
    books, equal = replayed("linear", hftbacktest("hft_um_btcusdt_20240718.gz", "hft_um_btcusdt_20240719.gz"))
    sync = books["BTCUSDT"]
    assert (sync.in_sync, sync.broken, sync.book.crossed) == (True, 0, False)
    assert equal == {"BTCUSDT": 625}
