"""Properties of bars: folding loses nothing, order does not matter, every sum is exact."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from lake.bars import bars_from_trades, fold
from market import numbers
from market.times import HOUR, MINUTE, SECOND, Interval, covers
from tests.support.market_rows import T0, quote, table, trade

tame = st.builds(numbers.unscale, st.integers(1, 10**9), st.integers(0, 8))
ugly = st.builds(numbers.unscale, st.integers(1, 10**19), st.integers(0, 19))
monstrous = st.builds(numbers.unscale, st.integers(1, 10**30 - 1), st.integers(0, 29))
moments = st.integers(0, 4 * 60 * 1000).map(lambda ms: T0 + ms * 500)
symbols = st.sampled_from(["AAA", "BBB"])
units = st.sampled_from([("linear", "base", "1"), ("linear", "contract", "0.001"), ("inverse", "contract", "100")])
spans = st.builds(lambda a, n: Interval(a, a + n), moments, st.integers(0, 200 * SECOND))


@st.composite
def markets(draw):
    """(trades, quotes, coverage, gaps) of two symbols over two minutes; one number style a case."""
    number = draw(st.sampled_from([tame, ugly, monstrous]))
    market_type, unit, multiplier = draw(units)
    fixed = {"market_type": market_type, "qty_unit": unit, "multiplier": multiplier}
    rows = [
        trade(at, price, qty, seq, symbol=symbol, side=side, condition=condition, ts_recv=at + delay, **fixed)
        for seq, (at, price, qty, symbol, side, condition, delay) in enumerate(
            draw(st.lists(st.tuples(moments, number, number, symbols, st.sampled_from(["buy", "sell", None]),
                                    st.sampled_from(["market", "market", "adl", "rpi", "history"]),
                                    st.integers(0, 8 * SECOND)), max_size=25))
        )
    ]  # fmt: skip
    seen = draw(st.lists(st.tuples(moments, number, number, symbols, st.booleans()), max_size=12))
    quoted = [
        quote(at, bid, ask, n, symbol=symbol, market_type=market_type, ts_estimated=estimated)
        for n, (at, bid, ask, symbol, estimated) in enumerate(seen)
    ]
    held = [draw(st.dictionaries(symbols, st.lists(spans, max_size=4))) for _ in range(2)]
    return rows, quoted, *held


@settings(max_examples=50, deadline=None)
@given(markets())
def test_minutes_folded_from_seconds_are_minutes_from_trades_bit_for_bit(market):
    rows, quoted, coverage, gaps = market
    trades, quotes = table("trade", rows), table("quote", quoted)
    minutes = bars_from_trades(trades, quotes, MINUTE, coverage=coverage, gaps=gaps)
    seconds = bars_from_trades(trades, quotes, SECOND, coverage=coverage, gaps=gaps)
    assert fold(seconds, MINUTE, quotes=quotes, coverage=coverage, gaps=gaps).equals(minutes)
    traded = ["symbol", "window_start", "open", "high", "low", "close", "volume_base", "volume_base_text",
              "volume_quote", "volume_quote_text", "trade_count", "vwap", "taker_buy_base", "taker_buy_base_text",
              "taker_buy_quote", "taker_buy_quote_text", "first_seq", "last_seq", "ts_first", "ts_last", "late",
              "revision"]  # fmt: skip
    assert fold(seconds, MINUTE).select(traded).equals(minutes.select(traded))
    assert fold(fold(seconds, 15 * SECOND), HOUR).select(traded).equals(fold(minutes, HOUR).select(traded))


@settings(max_examples=25, deadline=None)
@given(markets(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(market, random):
    rows, quoted, coverage, gaps = market
    made = bars_from_trades(table("trade", rows), table("quote", quoted), SECOND, coverage=coverage, gaps=gaps)
    random.shuffle(rows)
    random.shuffle(quoted)
    again = bars_from_trades(table("trade", rows), table("quote", quoted), SECOND, coverage=coverage, gaps=gaps)
    assert again.equals(made)


@settings(max_examples=25, deadline=None)
@given(markets())
def test_sums_and_flags_are_those_of_a_reader_with_paper_and_pencil(market):
    rows, _, coverage, gaps = market
    made = bars_from_trades(table("trade", rows), None, SECOND, coverage=coverage, gaps=gaps).to_pylist()
    first = {symbol: min(i.start for i in held) for symbol, held in coverage.items() if held}
    windows = {}
    for row in rows:
        if row["condition"] == "adl":
            continue
        if row["condition"] == "history" and row["ts_event"] < first.get(row["symbol"], HOUR + row["ts_event"]):
            continue
        windows.setdefault((row["symbol"], row["ts_event"] // SECOND * SECOND), []).append(row)
    assert [(bar["symbol"], round(bar["window_start"].timestamp()) * SECOND) for bar in made] == sorted(windows)
    for bar, key in zip(made, sorted(windows), strict=True):
        window, span = windows[key], Interval(key[1], key[1] + SECOND)
        sizes = [Fraction(row["qty"]) * Fraction(row["multiplier"]) for row in window]
        prices = [Fraction(row["price"]) for row in window]
        if window[0]["market_type"] == "inverse":
            base, money = [round(s / p * 10**12) / Fraction(10**12) for s, p in zip(sizes, prices, strict=True)], sizes
        else:
            base, money = sizes, [s * p for s, p in zip(sizes, prices, strict=True)]
        bought = [row["side"] == "buy" for row in window]
        wanted = {"volume_base": sum(base), "volume_quote": sum(money),
                  "taker_buy_base": sum(v for v, b in zip(base, bought, strict=True) if b),
                  "taker_buy_quote": sum(v for v, b in zip(money, bought, strict=True) if b)}  # fmt: skip
        for name, value in wanted.items():
            assert Fraction(bar[f"{name}_text"] or repr(bar[name])) == value
            assert bar[name] == float(value)
        assert (bar["high"], bar["low"]) == (float(max(prices)), float(min(prices)))
        assert bar["partial"] == (not covers(coverage.get(key[0], []), span))
        assert bar["gap"] == any(g.overlaps(span) for g in gaps.get(key[0], []) if not g.empty)
