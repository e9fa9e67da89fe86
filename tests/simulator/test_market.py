"""The simulated market itself: determinism, ids, numbers and candles."""

import itertools

import pytest

from market.numbers import scale
from simulator import candles
from simulator.events import Delta
from simulator.instruments import listing, names
from simulator.market import Aggregate, Fill, Market, Top
from simulator.venues.binance.wire import Wire

START = 1_795_132_800_000_000


def run(seed=1, rate=1000.0, step=20_000, seconds=4, markets=("spot", "linear"), symbols=5, first_id=0):
    market = Market(listing(list(markets), names(symbols), seed, first_id), seed, rate, START)
    events = []
    for now in range(START, START + seconds * 1_000_000 + 1, step):
        events += market.advance(now)
    return market, events


def told(event):
    """What of an event depends on the seed alone."""
    texts = tuple(getattr(event, f) for f in event.__struct_fields__ if f not in ("book", "ts"))
    return type(event).__name__, event.book.market, event.book.symbol, texts


def test_the_same_seed_tells_the_same_story_whatever_the_clock_does():
    _, one = run(step=20_000, seconds=5)
    _, two = run(step=7_001, seconds=5)
    shared = min(len(one), len(two))
    assert shared > 4000
    assert [told(e) for e in one[:shared]] == [told(e) for e in two[:shared]]


def test_another_seed_tells_another_story():
    assert [told(e) for e in run(seed=1)[1][:50]] != [told(e) for e in run(seed=2)[1][:50]]


def test_the_rate_counts_trades_and_quotes():
    market, events = run(rate=2000.0, seconds=2)
    counted = [e for e in events if not isinstance(e, Aggregate)]
    assert len(counted) == market.produced
    assert 4000 <= market.produced <= 4010


def test_trade_ids_follow_each_other_and_times_never_go_back():
    _, events = run()
    for key, group in itertools.groupby(
        sorted((e for e in events if isinstance(e, Fill)), key=lambda e: (e.book.market, e.book.symbol, e.id)),
        key=lambda e: (e.book.market, e.book.symbol),
    ):
        fills = list(group)
        assert [f.id for f in fills] == list(range(fills[0].id, fills[0].id + len(fills))), key
        assert [f.ts for f in fills] == sorted(f.ts for f in fills)
        assert all(f.ts % 1000 == 0 for f in fills)


def test_aggregates_hold_market_trades_only_and_sum_them():
    _, events = run(rate=20_000.0)
    fills = {(e.book.market, e.book.symbol, e.id): e for e in events if isinstance(e, Fill)}
    odd = [f for f in fills.values() if f.condition != "MARKET"]
    assert {f.condition for f in odd} == {"INSURANCE_FUND", "ADL", "NA"}
    assert {f.book.market for f in odd} == {"linear"}
    assert all((f.price, f.qty) == ("0", "0") for f in odd if f.condition == "NA")
    for one in (e for e in events if isinstance(e, Aggregate)):
        inside = [fills[one.book.market, one.book.symbol, i] for i in range(one.first_id, one.last_id + 1)]
        assert {f.condition for f in inside} == {"MARKET"}
        assert {f.price for f in inside} == {one.price}
        assert sum(scale(f.qty, 8) for f in inside) == scale(one.qty, 8)


def test_quotes_are_never_crossed_and_their_ids_rise():
    _, events = run()
    last = {}
    for top in (e for e in events if isinstance(e, Top)):
        assert scale(top.bid, 8) < scale(top.ask, 8)
        assert scale(top.bid_qty, 8) > 0
        assert top.id > last.get(id(top.book), 0)
        last[id(top.book)] = top.id


def test_trades_take_from_the_book_what_is_there_and_a_quote_tells_what_they_left():
    market, events = run(rate=20_000.0, seconds=3, markets=("spot", "linear", "inverse"), symbols=2)
    tops, taken = {}, {}
    emptied = reduced = 0
    for event in events:
        book = event.book
        decimals = 8 if book.market == "spot" else book.instrument.qty_decimals
        if isinstance(event, Fill) and event.condition == "MARKET":
            taken.setdefault(id(book), []).append(event)
        if not isinstance(event, Top):
            continue
        before, fills = tops.get(id(book)), taken.pop(id(book), [])
        tops[id(book)] = event
        if before is None or not fills:
            continue
        (maker,), (price,) = {f.maker for f in fills}, {f.price for f in fills}
        hit, there, after, left = (
            (before.bid, before.bid_qty, event.bid, event.bid_qty)
            if maker
            else (before.ask, before.ask_qty, event.ask, event.ask_qty)
        )
        assert price == hit
        rest = scale(there, decimals) - sum(scale(f.qty, decimals) for f in fills)
        assert rest >= 0, "no more than was there"
        if rest:
            assert (after, scale(left, decimals)) == (hit, rest)
            reduced += 1
        else:
            assert (scale(after, 8) < scale(hit, 8)) if maker else (scale(after, 8) > scale(hit, 8))
            emptied += 1
        other = (event.ask, event.ask_qty) if maker else (event.bid, event.bid_qty)
        assert other == ((before.ask, before.ask_qty) if maker else (before.bid, before.bid_qty))
        assert event.id > before.id
    assert min(reduced, emptied) > 100
    for book in market.books:
        assert (book.ladder.bids.top(), book.ladder.asks.top()) == (
            (book.top.bid, book.top.bid_qty),
            (book.top.ask, book.top.ask_qty),
        )
        assert book.last == book.trades[-1].price


def test_spot_pads_to_eight_decimals_and_linear_to_its_precision():
    _, events = run()
    for event in events:
        if isinstance(event, Fill) and event.condition == "MARKET":
            shown = event.book.instrument.price_decimals if event.book.market == "linear" else 8
            assert len(event.price.partition(".")[2]) == shown
            assert scale(event.price, event.book.instrument.price_decimals) == event.ticks


def test_candles_are_the_fold_of_the_market_trades():
    market, events = run(rate=3000.0, seconds=3, symbols=2)
    for book in market.books:
        fills = [e for e in events if isinstance(e, Fill) and e.book is book and e.condition == "MARKET"]
        seconds = book.candles.read("1s")
        assert sum(c.count for c in seconds) == len(fills)
        for candle in seconds:
            mine = [f for f in fills if f.ts // 1_000_000 * 1_000_000 == candle.open_time]
            assert (candle.open, candle.close) == (mine[0].ticks, mine[-1].ticks)
            assert (candle.low, candle.high) == (min(f.ticks for f in mine), max(f.ticks for f in mine))
            assert candle.base == sum(f.lots for f in mine)
            assert candle.quote == sum(f.lots * f.ticks for f in mine)
            assert candle.taker_base == sum(f.lots for f in mine if not f.maker)
            assert (candle.first_id, candle.last_id) == (mine[0].id, mine[-1].id)
        minutes = book.candles.read("1m")
        assert sum(c.quote for c in minutes) == sum(c.quote for c in seconds)


@pytest.mark.parametrize("interval", candles.INTERVALS)
def test_every_interval_tiles_time(interval):
    start = candles.open_of(START + 12_345_678_901, interval)
    after = candles.next_open(start, interval)
    assert start <= START + 12_345_678_901 < after
    assert candles.open_of(after, interval) == after
    assert candles.open_of(after - 1, interval) == start


def test_weeks_open_on_monday_and_months_on_the_first():
    assert candles.open_of(START, "1w") == START - 4 * 86_400_000_000  # 2026-11-20 is a Friday
    assert candles.open_of(START, "1M") == START - 19 * 86_400_000_000


def test_a_machine_that_slept_goes_on_from_now():
    market, _ = run(seconds=1)
    before = market.produced
    events = market.advance(START + 3_600_000_000)
    assert market.produced - before <= 2 * market.rate + 5
    assert min(e.ts for e in events) >= START + 3_597_900_000


def test_what_happens_seldom_happens():
    market, _ = run(rate=0.2, step=20_000, seconds=61)
    assert 12 <= market.produced <= 20


def test_first_ids_can_be_moved_for_a_second_run():
    one, two = (Market(listing(["spot"], ["BTCUSDT"], 1, shift), 1, 1.0, START) for shift in (0, 1000))
    assert two.books[0].trade_id == one.books[0].trade_id + 1000


def test_all_of_a_thousand_symbols_trade():
    market = Market(listing(["spot"], names(1000), 1), 1, 100_000.0, START)
    seen = set()
    for now in range(START, START + 1_000_000, 20_000):
        seen |= {e.book.symbol for e in market.advance(now)}
    assert len(seen) > 990


def test_futures_update_ids_jump_and_every_speed_chains_by_itself():
    market = Market(listing(["linear"], ["BTCUSDT"], 1), 1, 100.0, START)
    wire, streams = Wire(), ("btcusdt@depth@100ms", "btcusdt@depth", "btcusdt@depth@500ms")
    for stream in streams:
        assert market.watch("linear", stream, wire.wanted("linear", stream))
    events = [e for now in range(START, START + 10_000_001, 20_000) for e in market.advance(now)]
    for stream, count in zip(streams, (100, 40, 20), strict=True):
        mine = [e for e in events if isinstance(e, Delta) and e.stream == stream]
        assert count * 0.9 <= len(mine) <= count
        assert all(b.previous_id == a.id < b.first_id <= b.id for a, b in itertools.pairwise(mine))
        assert any(b.first_id > b.previous_id + 1 for b in mine)
