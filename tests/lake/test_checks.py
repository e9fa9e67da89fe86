"""Integrity checks, runs of ids and exact sums, in one piece and in many."""

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import checks, tables
from market.times import Interval
from tests.support.market_rows import T0, quote, table, trade


def found(rows, kind="trade", piece=1000):
    whole = table(kind, rows)
    made = checks.Checks(kind)
    for start in range(0, whole.num_rows, piece):
        made.add(whole.slice(start, piece))
    return {(f.check, f.symbol): f.count for f in made.findings()}


def test_clean_rows_break_nothing():
    assert found([trade(T0 + i, "1", "1", i) for i in range(5)]) == {}


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_violations_are_counted_by_symbol_across_pieces(piece):
    rows = [
        trade(T0, "0", "1", 1, symbol="A"),
        trade(T0 + 1, "1", "0", 2, symbol="A"),
        trade(T0 + 2, "1", "1", 9, symbol="A"),
        trade(T0 + 3, "1", "1", 50, symbol="B", ts_recv=T0 + 90),
        trade(T0 + 4, "1", "1", 51, symbol="B", ts_recv=T0 + 80),
    ]
    assert found(rows, piece=piece) == {
        ("positive_price", "A"): 1,
        ("positive_qty", "A"): 1,
        ("contiguous", "A"): 1,
        ("out_of_order", "B"): 1,
    }


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_what_was_not_received_live_is_out_of_no_order(piece):
    came = [("ws", 100), ("archive", 900), ("ws", 110), ("archive", 50), ("ws", 105), ("archive", 40), ("ws", 106)]
    rows = [trade(T0 + n, "1", "1", n, source=source, ts_recv=T0 + at) for n, (source, at) in enumerate(came)]
    rows.append(trade(T0 + 7, "1", "1", 7, condition="history", ts_recv=T0 + 30))
    assert found(rows, piece=piece) == {("out_of_order", "BTCUSDT"): 1}


ODD = st.tuples(st.sampled_from("AAAB"), st.sampled_from([1, 1, 1, 2]), st.sampled_from("1110"), st.integers(-1, 3))


@settings(max_examples=40)
@given(st.lists(st.lists(ODD, min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_quick_look_finds_what_a_close_one_finds(pieces):
    quick, close = checks.Checks("trade"), checks.Checks("trade")
    close._sound = lambda *_, **_more: False
    at = number = 0
    for symbol in ("A", "B"):  # in the order of a file, every piece with a dictionary of its own
        for piece in pieces:
            rows = []
            for _, step, price, wait in (row for row in piece if row[0] == symbol):
                at, number = at + wait, number + step
                rows.append(trade(T0 + number, price, "1", number, symbol=symbol, ts_recv=T0 + 100 + at))
            if rows:
                quick.add(table("trade", rows))
                close.add(table("trade", rows))
    assert quick.findings() == close.findings()


def test_crossed_quotes_are_counted_with_their_first_example():
    rows = [quote(T0, "2", "1", 1), quote(T0 + 1, "1", "1", 2), quote(T0 + 2, "1", "2", 3)]
    (finding,) = checks.check_table(table("quote", rows), "quote")
    assert (finding.check, finding.count) == (checks.CROSSED, 2)
    assert finding.detail == "2024-07-19T00:00:00Z bid=2.0 ask=1.0"


def test_bars_whose_prices_contradict_each_other_are_counted_and_empty_ones_are_not():
    raw = pa.table(
        {
            "symbol": ["A"] * 3, "ts_event": [T0, T0 + 1, T0 + 2], "ts_recv": pa.nulls(3, pa.int64()),
            "open": [1.0, 1.0, None], "high": [2.0, 0.5, None], "low": [0.5, 0.25, None], "close": [1.0, 0.5, None],
        }
    )  # fmt: skip
    assert [(f.check, f.count) for f in checks.check_table(tables.conform(raw, "bar_1m"), "bar_1m")] == [
        ("ohlc_sane", 1)
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 40)), max_size=12), max_size=6))
def test_runs_of_ids_are_the_ids(pieces):
    ids = checks.Ids()
    for piece in pieces:
        ids.add(
            pl.Series(piece, dtype=pl.Int64), pl.Series([None if i is None else i * 10 for i in piece], dtype=pl.Int64)
        )
    every = sorted({i for piece in pieces for i in piece if i is not None})
    assert [i for run in ids.runs() for i in range(run.start, run.end)] == every
    assert ids.stored == len(every)
    assert (ids.first, ids.last) == ((every[0], every[-1]) if every else (None, None))
    missing = [i for hole in ids.holes() for i in range(hole.id_from, hole.id_to)]
    assert missing == sorted(set(range(every[0], every[-1] + 1)) - set(every)) if every else missing == []
    for hole in ids.holes():
        assert (hole.ts_from, hole.ts_to) == ((hole.id_from - 1) * 10, hole.id_to * 10)


def test_ids_stay_small_however_many_pieces_come():
    ids = checks.Ids()
    for start in range(0, 9_000, 2):
        ids.add(pl.Series([start, start + 1]), pl.Series([start, start + 1]))
    assert ids.runs() == [Interval(0, 9_000)]


def spelt(number, decimals):
    whole, fraction = divmod(number, 10**decimals)
    return f"{whole}.{fraction:0{decimals}d}" if decimals else str(whole)


numbers = st.builds(spelt, st.integers(0, 10**12), st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20), st.integers(1, 20))
def test_exact_sums_do_not_depend_on_how_rows_are_cut(values, cut):
    rows = table("trade", [trade(T0 + i, p, q, i) for i, (p, q) in enumerate(values)])
    whole, parts = checks.totals([rows], "trade"), checks.totals([rows.slice(cut), rows.slice(0, cut)], "trade")
    assert whole.same(parts)
    whole.add(rows, -1)
    assert (whole.rows, whole.texts()) == (0, {})


def test_a_lost_digit_is_another_sum():
    one = checks.totals([table("trade", [trade(T0, "0.1", "1", 1), trade(T0, "0.2", "1", 2)])], "trade")
    other = checks.totals(
        [table("trade", [trade(T0, "0.1", "1", 1), trade(T0, "0.20000000000000001", "1", 2)])], "trade"
    )
    assert one.texts()["price"] == "0.3"
    assert not one.same(other)


def test_sums_beyond_what_floats_count_are_exact_too():
    prices = [*["375299968947541"] * 23, "375299968947550"]
    sums = checks.totals([table("trade", [trade(T0, price, "1", n) for n, price in enumerate(prices)])], "trade")
    assert sums.texts()["price"] == str(2**53 + 1)


def test_sums_beyond_int128_are_exact_too():
    huge = "9" * 30 + "." + "9" * 30
    sums = checks.totals([table("trade", [trade(T0, huge, "1", 1)])], "trade")
    assert sums.texts()["price"].replace(".", "") == "9" * 60


def test_a_void_trade_may_be_zero_and_any_other_may_not():
    rows = [trade(T0, "0", "0", 1, condition="void"), trade(T0 + 1, "0", "1", 2)]
    assert found(rows) == {("positive_price", "BTCUSDT"): 1}
