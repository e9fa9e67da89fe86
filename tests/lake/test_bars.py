"""lake.bars: against the venue's own candles, and rule by rule."""

import csv
import gzip
import json
import os
from decimal import Decimal, localcontext
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lake import tables
from lake.bar_sums import SUMS
from lake.bars import bars_from_trades, by_symbol, fold
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.market_rows import T0, quote, table, trade

SAMPLES = Path(os.environ.get("LAKE_SAMPLES", Path(__file__).parents[3] / "shared" / "samples")) / "binance"
ALWAYS = {"BTCUSDT": [Interval(T0 - DAY, T0 + DAY)]}


def trades(rows):
    return table("trade", rows)


def quotes(rows):
    return table("quote", rows)


def bars(rows, width=SECOND, quoted=None, coverage=ALWAYS, **more):
    made = bars_from_trades(trades(rows), quotes(quoted) if quoted else None, width, coverage=coverage, **more)
    return pl.from_arrow(made).with_columns(pl.col("window_start").cast(pl.Int64)).to_dicts()


@pytest.fixture(scope="module")
def recording():
    """The trades that the venue's candles count, their quotes, and the minutes that are there in full."""
    files = [SAMPLES / f"hft_um_btcusdt_2024071{day}.gz" for day in (8, 9)]
    if not all(file.exists() for file in files):
        pytest.skip(f"the real recordings are not at {SAMPLES} (set LAKE_SAMPLES)")
    sold, quoted, seen = [], [], []
    for file in files:
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            recv, text = line.split(" ", 1)
            data = json.loads(text).get("data", {})
            at = data.get("T", 0) * 1000
            if data.get("e") == "trade":
                seen.append(at)
                if data["X"] == "MARKET" and float(data["p"]) and float(data["q"]):
                    side = "sell" if data["m"] else "buy"
                    sold.append(trade(at, data["p"], data["q"], data["t"], ts_recv=int(recv) // 1000, side=side))
            elif data.get("e") == "bookTicker":
                quoted.append(quote(at, data["b"], data["a"], data["u"], bid_qty=data["B"], ask_qty=data["A"]))
    covered = {"BTCUSDT": [Interval(min(seen), max(seen))]}
    return trades(sold), quotes(quoted), covered


def test_minutes_of_a_real_recording_equal_the_venues_candles_in_all_nine_values(recording):
    sold, _, covered = recording
    made = pl.from_arrow(bars_from_trades(sold, None, MINUTE, coverage=covered)).to_dicts()
    found = {int(bar["window_start"].timestamp() * 1000): bar for bar in made}
    equal = 0
    columns = {"open": "open", "high": "high", "low": "low", "close": "close", "volume_base": "volume",
               "volume_quote": "quote_volume", "trade_count": "count", "taker_buy_base": "taker_buy_volume",
               "taker_buy_quote": "taker_buy_quote_volume"}  # fmt: skip
    for candle in csv.DictReader((SAMPLES / "klines_um_btcusdt_1m_20240718-19.csv").read_text().splitlines()):
        bar = found.get(int(candle["open_time"]))
        if bar is None or bar["partial"]:
            continue
        for ours, theirs in columns.items():
            exact = bar.get(f"{ours}_text") or repr(bar[ours])
            assert Decimal(exact) == Decimal(candle[theirs]), (candle["open_time"], ours)
        equal += 1
    assert equal == 7
    assert [bar["partial"] for bar in made] == [True, *[False] * 7, True]


def test_a_wide_bar_has_the_last_quote_of_its_window_also_where_nothing_was_traded_then():
    """Of minutes that begin at :30; the last quote is of a second without a trade."""
    sold = trades([trade(T0 + n * SECOND, "1", "1", n + 1) for n in (5, 31, 40, 89, 95)])
    told = {2: "1.1", 29: "1.2", 33: "1.3", 88: "1.4", 90: "1.5"}
    quoted = quotes([quote(T0 + n * SECOND, bid, "2", n) for n, bid in told.items()])
    seconds = bars_from_trades(sold, quoted, SECOND, coverage=ALWAYS)
    whole, later = (fold(seconds, MINUTE, quotes=quoted, origin=origin) for origin in (0, 30 * SECOND))
    assert [whole["bid"].to_pylist(), later["bid"].to_pylist()] == [[1.3, 1.5], [1.2, 1.4, 1.5]]
    assert (whole.schema, fold(seconds, MINUTE)["bid"].to_pylist()) == (tables.schema("bar_1m"), [None, None])


def test_real_minutes_folded_from_seconds_equal_minutes_from_trades_bit_for_bit(recording):
    sold, quoted, covered = recording
    hole = {"BTCUSDT": [Interval(T0 + 90 * SECOND, T0 + 91 * SECOND)]}
    minutes = bars_from_trades(sold, quoted, MINUTE, coverage=covered, gaps=hole)
    seconds = bars_from_trades(sold, quoted, SECOND, coverage=covered, gaps=hole)
    assert fold(seconds, MINUTE, quotes=quoted, coverage=covered, gaps=hole).equals(minutes)
    alone = fold(seconds, MINUTE)
    same = [n for n in minutes.column_names if n not in ("bid", "ask", "spread", "bid_qty", "ask_qty", "ts_quote")]
    assert alone.select(same).equals(minutes.select(same))
    assert sum(minutes["gap"].to_pylist()) == 1


def test_a_window_without_a_counted_trade_has_no_row():
    made = bars([trade(T0, "1", "1", 1), trade(T0 + 3 * SECOND, "1", "1", 2),
                 trade(T0 + 5 * SECOND, "1", "1", 3, condition="insurance_fund")])  # fmt: skip
    assert [bar["window_start"] - T0 for bar in made] == [0, 3 * SECOND]


def test_market_rpi_and_liquidation_count_and_nothing_else():
    names = ["market", "insurance_fund", "adl", "block", "rfq", "auction", "liquidation", "rpi", "void", "history"]
    made = bars([trade(T0, "1", "1", n, condition=name) for n, name in enumerate(names)],
                coverage={"BTCUSDT": [Interval(T0 + 1, T0 + DAY)]})  # fmt: skip
    assert made[0]["trade_count"] == 3


def test_history_counts_from_the_first_coverage_on():
    rows = [trade(T0 + n * SECOND, "1", "1", n, condition="history") for n in range(4)]
    covered = {"BTCUSDT": [Interval(T0 + 2 * SECOND, T0 + HOUR)]}
    assert [bar["window_start"] - T0 for bar in bars(rows, coverage=covered)] == [2 * SECOND, 3 * SECOND]
    assert bars(rows, coverage={}) == []


def test_open_and_close_follow_event_time_then_id_then_provenance():
    rows = [trade(T0 + 2, "5", "1", 12), trade(T0 + 2, "4", "1", 11), trade(T0, "3", "1", 10), trade(T0, "2", "1", 9)]
    bar = bars(rows)[0]
    assert (bar["open"], bar["close"], bar["high"], bar["low"]) == (2, 5, 5, 2)
    assert (bar["first_seq"], bar["last_seq"]) == (9, 12)
    unnumbered = [trade(T0, p, "1", None, frame_no=n, item=i) for p, n, i in (("3", 2, 0), ("1", 1, 0), ("2", 1, 1))]
    bar = bars(unnumbered)[0]
    assert (bar["open"], bar["close"]) == (1, 3)


def test_sums_are_exact_and_carry_their_text_where_the_float_does_not():
    bar = bars([trade(T0, "12345678.123456789", "9876543.987654321", 1),
                trade(T0, "0.000000000000000001", "3", 2, side="sell")])[0]  # fmt: skip
    with localcontext() as context:
        context.prec = 100
        exact = Decimal("12345678.123456789") * Decimal("9876543.987654321")
        assert Decimal(bar["volume_quote_text"]) == exact + Decimal("0.000000000000000003")
        assert Decimal(bar["taker_buy_quote_text"]) == exact
    assert bar["taker_buy_base"] == 9876543.987654321
    assert bar["volume_quote"] == float(bar["volume_quote_text"])
    assert bar["vwap"] == bar["volume_quote"] / bar["volume_base"]


@pytest.mark.parametrize("last", ["9999996", "9999999.5", "90071988.54740991"])
def test_a_total_of_more_digits_than_its_parts_is_folded_as_it_is(last):
    rows = trades([trade(T0, "1", "4.00000001", 1), trade(T0 + SECOND, "1", last, 2)])
    made = [bars_from_trades(rows, None, width, coverage=ALWAYS, gaps={}) for width in (SECOND, MINUTE)]
    assert fold(made[0], MINUTE, coverage=ALWAYS, gaps={}).select(SUMS).equals(made[1].select(SUMS))
    assert made[1]["volume_base"].to_pylist() == [float(Decimal(last) + Decimal("4.00000001"))]


def test_ten_tenths_are_one():
    bar = bars([trade(T0, "1", "0.1", n) for n in range(10)])[0]
    assert (bar["volume_base"], bar["volume_base_text"]) == (1.0, None)


@pytest.mark.parametrize("extra", ["", "9" * 28])
def test_inverse_base_is_rounded_a_trade_half_to_even_and_then_summed(extra):
    rows = [
        trade(T0, "3", "1", 1, market_type="inverse", qty_unit="contract", multiplier="100"),
        trade(T0, "7", "2", 2, market_type="inverse", qty_unit="contract", multiplier="100", side="sell"),
    ]
    if extra:
        rows.append(trade(T0 + SECOND, extra, extra, 3, market_type="inverse", qty_unit="contract", multiplier="100"))
    bar = bars(rows)[0]
    assert (bar["volume_quote"], bar["taker_buy_quote"]) == (300, 100)
    assert Decimal(bar["volume_base_text"] or repr(bar["volume_base"])) == Decimal("61.904761904762")
    assert Decimal(bar["taker_buy_base_text"] or repr(bar["taker_buy_base"])) == Decimal("33.333333333333")


def test_linear_contracts_are_worth_their_multiplier_of_the_base():
    bar = bars([trade(T0, "20000", "3", 1, qty_unit="contract", multiplier="0.001")])[0]
    assert (bar["volume_base"], bar["volume_quote"]) == (0.003, 60)


def test_units_may_differ_between_and_within_symbols():
    rows = [
        trade(T0, "20000", "3", 1, qty_unit="contract", multiplier="0.001"),
        trade(T0, "20000", "40", 2, qty_unit="quote"),
        trade(T0, "10", "1", 1, symbol="ETHUSDT"),
        trade(T0, "1" * 25, "1" * 25, 1, symbol="HUGE"),
    ]
    made = {bar["symbol"]: bar for bar in bars(rows)}
    assert (made["BTCUSDT"]["volume_base"], made["BTCUSDT"]["volume_quote"]) == (0.005, 100)
    assert made["ETHUSDT"]["volume_quote"] == 10
    assert made["HUGE"]["volume_quote_text"] == str(int("1" * 25) ** 2)


def test_bid_and_ask_are_the_last_quote_inside_the_window_and_are_not_carried():
    rows = [trade(T0 + n * SECOND + 10, "1", "1", n) for n in range(3)]
    quoted = [quote(T0 - 1, "8", "9", 1), quote(T0 + 20, "1.1", "1.4", 3, ts_estimated=True),
              quote(T0 + 20, "0.1", "0.2", 2), quote(T0 + 2 * SECOND, "0.1", "0.3", 4)]  # fmt: skip
    made = bars(rows, quoted=quoted)
    assert [(b["bid"], b["ask"], b["spread"], b["ts_estimated"]) for b in made] == [
        (1.1, 1.4, 0.3, True), (None, None, None, False), (0.1, 0.3, 0.2, False)]  # fmt: skip
    seconds = bars_from_trades(trades(rows), quotes(quoted), SECOND, coverage=ALWAYS)
    assert [fold(seconds[:count], MINUTE)["bid"].to_pylist() for count in (1, 2, 3)] == [[1.1], [1.1], [0.1]]


def test_partial_is_what_coverage_does_not_contain_and_gap_what_an_open_gap_touches():
    rows = [trade(T0 + n * SECOND, "1", "1", n) for n in range(6)]
    covered = by_symbol([("BTCUSDT", T0, T0 + SECOND), ("BTCUSDT", T0 + SECOND, T0 + 2 * SECOND + 5),
                         ("BTCUSDT", T0 + 3 * SECOND, T0 + HOUR)])  # fmt: skip
    holes = by_symbol([("BTCUSDT", T0 + 4 * SECOND - 1, T0 + 4 * SECOND), ("ETHUSDT", T0, T0 + HOUR),
                       ("BTCUSDT", T0 + 4 * SECOND, T0 + 4 * SECOND)])  # fmt: skip
    made = bars(rows, coverage=covered, gaps=holes)
    assert [bar["partial"] for bar in made] == [False, False, True, False, False, False]
    assert [bar["gap"] for bar in made] == [False, False, False, True, False, False]
    assert all(bar["partial"] for bar in bars(rows, coverage={}))
    for end, last in ((2 * SECOND, False), (2 * SECOND - 1, True)):
        made = bars(rows[:2], coverage=by_symbol([("BTCUSDT", T0, T0 + end)]))
        assert [bar["partial"] for bar in made] == [False, last]


def test_a_gap_of_every_symbol_touches_every_symbol():
    rows = [trade(T0, "1", "1", 1), trade(T0, "1", "1", 1, symbol="AAA"), trade(T0 + SECOND, "1", "1", 2)]
    made = bars(rows, gaps={"*": [Interval(T0, T0 + 1)], "BTCUSDT": [Interval(T0 + DAY, T0 + DAY + 1)]})
    assert [bar["gap"] for bar in made] == [True, True, False]


def test_span_limits_windows_and_revision_is_kept():
    rows = [trade(T0 + n * SECOND, "1", "1", n) for n in range(6)]
    made = bars(rows, span=Interval(T0 + SECOND, T0 + 3 * SECOND), revision=4)
    assert [(bar["window_start"] - T0, bar["revision"]) for bar in made] == [(SECOND, 4), (2 * SECOND, 4)]


def test_late_counts_what_came_after_its_second_and_the_lateness():
    rows = [trade(T0, "1", "1", 1, ts_recv=T0 + 6 * SECOND), trade(T0, "1", "1", 2, ts_recv=T0 + 6 * SECOND + 1),
            trade(T0, "1", "1", 3, ts_recv=None)]  # fmt: skip
    assert bars(rows)[0]["late"] == 1
    assert bars(rows, MINUTE)[0]["late"] == 1


@pytest.mark.parametrize("source", ["archive", "import", "rest"])
def test_what_was_fetched_long_after_it_happened_is_not_late(source):
    rows = [trade(T0, "1", "1", 1, ts_recv=T0 + DAY, source=source),
            trade(T0, "1", "1", 2, ts_recv=T0 + 7 * SECOND)]  # fmt: skip
    assert [bar["late"] for bar in bars(rows)] == [1], "the stream's own trade is, beside it"
    assert [bar["late"] for bar in bars(rows[:1])] == [0]
    assert [bar["late"] for bar in bars(rows[:1], MINUTE)] == [0]


def test_a_trade_pushed_on_subscribing_of_covered_time_is_late():
    rows = [trade(T0, "1", "1", 1, ts_recv=T0 + 10 * SECOND, condition="history")]
    assert [(bar["trade_count"], bar["late"]) for bar in bars(rows)] == [(1, 1)]


def test_symbols_do_not_mix_and_rows_come_sorted():
    rows = [trade(T0 + SECOND, "1", "1", 2), trade(T0, "2", "1", 1), trade(T0, "7", "1", 1, symbol="AAA")]
    made = bars(rows)
    found = [(bar["symbol"], bar["window_start"] - T0, bar["close"]) for bar in made]
    assert found == [("AAA", 0, 7), ("BTCUSDT", 0, 2), ("BTCUSDT", SECOND, 1)]


@pytest.mark.parametrize("rows", [29, 61, 200])
def test_folding_in_pieces_is_folding_at_once(rows, monkeypatch):
    sizes = ("0.1", "0.12345678901234567", "7", "12345678901234.5", "900719925474099.3")
    sold = [
        trade(T0 + n * 700_000, f"{100 + n % 9}.{n % 10}", sizes[n % len(sizes) if n > 150 else 0], n, symbol=symbol,
              ts_recv=T0 + n * 700_000 + (9 * SECOND if n == 77 else 0))
        for symbol in ("AUSDT", "BUSDT")
        for n in range(300)
    ]  # fmt: skip
    quoted = [quote(T0 + n * 3 * SECOND, "99.5", "100.5", n, symbol="AUSDT") for n in range(60)]
    seconds = bars_from_trades(
        trades(sold), quotes(quoted), SECOND, coverage={"AUSDT": [Interval(T0, T0 + MINUTE)]},
        gaps={"BUSDT": [Interval(T0 + MINUTE, T0 + MINUTE + 1)]},
    )  # fmt: skip
    whole = fold(seconds, MINUTE)
    monkeypatch.setattr("lake.bars.PIECE_ROWS", rows)
    assert fold(seconds, MINUTE).equals(whole)
    parts = [seconds.slice(at, 30) for at in range(0, seconds.num_rows, 30)]
    assert fold(pa.concat_tables(parts), MINUTE).equals(whole), "wherever it lies in memory"
    places = list(range(seconds.num_rows))
    half = len(places) // 2
    for order in (places[::-1], places[::2] + places[1::2], places[half:] + places[:half]):
        assert fold(seconds.take(order), MINUTE).equals(whole), "in whatever order they come"
    made = bars_from_trades(
        trades(sold), quotes(quoted), MINUTE, coverage={"AUSDT": [Interval(T0, T0 + MINUTE)]},
        gaps={"BUSDT": [Interval(T0 + MINUTE, T0 + MINUTE + 1)]},
    )  # fmt: skip
    names = [*SUMS, *(f"{name}_text" for name in SUMS), "open", "high", "low", "close", "trade_count", "late", "vwap"]
    assert made.select(names).equals(whole.select(names))
    assert {bool(value) for value in made.column("volume_base_text").to_pylist()} == {True, False}


def test_no_trades_make_no_bars_in_the_right_schema():
    empty = bars_from_trades(tables.empty("trade"), tables.empty("quote"), SECOND, coverage={})
    assert empty.num_rows == 0
    assert empty.schema == tables.schema("bar_1s")
    assert fold(empty, MINUTE).schema == tables.schema("bar_1m")


def test_required_columns_of_bars_are_never_null(recording):
    sold, quoted, covered = recording
    tables.check_required(bars_from_trades(sold, quoted, SECOND, coverage=covered), "bar_1s")
    assert set(SUMS) <= set(tables.schema("bar_1s").names)
