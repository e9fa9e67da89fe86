"""Any book at any time: what is rebuilt from the stored rows is what a plain replay of the messages comes to."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compactor.sampler import Sampler
from lake import books
from lake.errors import BookUnknown
from market.book import Book
from market.chain import Chain
from market.session import Coverage, Gap
from tests.support.book_rows import delta, plain, scaled_text, table, whole
from tests.support.market_rows import T0

sizes = st.sampled_from(["0", "0.00", "1.5", "2.50", "3.14159265358979323846"])


def sides(low, high):
    prices = st.integers(low, high).map(lambda n: f"{n / 10:.1f}")
    return st.lists(st.tuples(prices, sizes), max_size=5, unique_by=lambda level: level[0])


messages = st.lists(
    st.tuples(sides(1, 50), sides(51, 99), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=25
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages, st.data())
def test_a_rebuilt_book_is_the_replayed_one_whatever_came_twice_late_or_out_of_place(said, data):
    spot = data.draw(st.booleans())
    book, truth, rows, at, last = Book(), {}, [], T0, 100
    start = ([("5.0", "1"), ("4.0", "2")], [("5.1", "1"), ("6.0", "2"), ("9.9", "1")])
    book.load(*start, 3)
    rows.append(whole(at, last, *start))
    truth[last] = (book.top(), at)
    whole_at = data.draw(st.integers(0, len(said) - 1))
    for n, (bids, asks, later, ids) in enumerate(said):
        at, before, last = at + later, last, last + ids
        book.apply(bids, asks)
        chain = {"first": before + 1, "prev": None} if spot else {"first": before + 1, "prev": before}
        rows.append(delta(at, last, bids, asks, **chain))
        if data.draw(st.booleans()):  # another connection's copy
            rows.append(delta(at, last, bids, asks, frame_no=9_000 + n, **chain))
        truth[last] = (book.top(), at)
        if n == whole_at and all(book.top()):  # a snapshot of here, that may be told some updates early or late
            late = data.draw(st.integers(0, 6))
            held = ([*book.bids.items()], [*book.asks.items()])
            rows.append(whole(at + late, last, *held, frame_no=8_000))
    stored = table(rows)

    def pieces(columns, *_):
        step = data.draw(st.integers(1, 7))
        for cut in range(0, stored.num_rows, step):
            yield stored.slice(cut, step).select(list(columns))

    asked = data.draw(st.integers(T0, at + 2))
    chain = Chain()
    books.walk(chain, pieces(books.ID_COLUMNS), asked)
    assert chain.in_sync
    rebuilt = books.rebuild(pieces, chain, asked)
    (bids, asks), _ = truth[chain.last]
    newest = max(last for last, (_, time) in truth.items() if time <= asked)
    assert chain.last == newest
    if rebuilt.valid_low is None and rebuilt.valid_high == "9.9":
        assert (rebuilt.bids, rebuilt.asks) == (plain(bids), plain(asks))
    low, high = float(rebuilt.valid_low or 0), float(rebuilt.valid_high or 1e9)
    assert rebuilt.bids == plain(level for level in bids if float(level[0]) >= low)
    assert rebuilt.asks == plain(level for level in asks if float(level[0]) <= high)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=2)


def observed(holes, light):
    where = ("binance", "linear", "book_delta", "BTCUSDT")
    gaps = [
        Gap(f"g{n}", *where, T0 + at, T0 + at + size, None, None, "cut", "interval", "open", None, T0)
        for n, (at, size) in enumerate(holes)
    ]
    return books.Observed(gaps, [Coverage(*where, "n-1-1", T0 + at, T0 + at + size) for at, size in light])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages, spans, spans, st.data())
def test_samples_are_the_books_at_their_times_and_absent_where_those_are_refused(said, holes, light, data):
    rows, at, last = [], T0, 100
    for bids, asks, later, ids in said:
        at, before, last = at + later, last, last + ids
        match data.draw(st.integers(0, 5)):
            case 0:
                start = [("5.0", "1"), ("4.0", "2")], [("5.1", "1"), ("6.0", "2")]
                rows.append(whole(at, data.draw(st.integers(last - 3, last)), *start, frame_no=last))
            case 1:
                continue  # lost
            case _:
                rows.append(delta(at, last, bids, asks, first=before + 1, prev=before))
    stored, every, watch = table(rows), data.draw(st.integers(1, 4)), observed(holes, light)
    exact = any(stored.column(name).null_count < stored.num_rows for name in ("bids_text", "asks_text"))
    where = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT"}
    sampler = Sampler(where, T0, every, 2, watch, exact=exact)
    sampler._end = end = at + 3
    made = [row for n in range(0, stored.num_rows, 3) for t in sampler.add(stored.slice(n, 3)) for row in t.to_pylist()]
    made += [row for t in sampler.finish() for row in t.to_pylist()]
    shown = {T0 + row["ts_event"].microsecond: row for row in made}
    dark = False
    for time in range(T0, end, every):
        chain = Chain()
        after = books.walk(chain, [stored], time)
        try:
            books.known("the book", chain, after, time, watch)
            book = books.rebuild(lambda *_: [stored], chain, time)
            books.sound("the book", book, time)
        except BookUnknown:
            assert (time in shown) == (not dark)
            dark = True
            assert time not in shown or not shown[time]["in_sync"]
            continue
        dark = False
        for side in ("bids", "asks"):
            row = shown[time]
            texts = row[f"{side}_text"] or [{"price": None, "qty": None}] * 2
            said_levels = [
                (text["price"] or scaled_text(repr(level["price"])), text["qty"] or scaled_text(repr(level["qty"])))
                for level, text in zip(row[side], texts, strict=False)
            ]
            assert plain(said_levels) == getattr(book, side)[:2]
    assert len(shown) == len(made)
