"""Bars from aggregated trades, where trades are not collected: which symbols those are, and what their bars say."""

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path

import msgspec
import polars as pl
import pytest

from lake import Lake, sources
from lake.bars import EVERY_SYMBOL, bars_from_trades, fold
from market.session import Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import STREAM, TestLake
from tests.support.market_rows import T0, quote, table, trade

SAMPLES = Path(os.environ.get("LAKE_SAMPLES", Path(__file__).parents[3] / "shared" / "samples")) / "binance"
ALWAYS = {"BTCUSDT": [Interval(T0 - DAY, T0 + DAY)]}


def covered(symbol, start, end, kind="trade"):
    return Coverage(**STREAM, kind=kind, symbol=symbol, session="n-1-1", ts_from=start, ts_to=end)


def gap(symbol, start, end, kind="trade"):
    return Gap(**STREAM, kind=kind, symbol=symbol, ts_from=start, ts_to=end, gap_id=f"{kind}-{symbol}-{start}",
               id_from=None, id_to=None, cause="cut", proof="p", state="open", session=None, detected_at=0)  # fmt: skip


def agg(at, price, qty, seq, first=None, last=None, **more):
    return trade(at, price, qty, seq, first_id=first, last_id=last, **more)


def bars(kind, rows, width=MINUTE, quotes=None, **options):
    made = bars_from_trades(table(kind, rows), quotes, width, **({"coverage": ALWAYS} | options))
    return pl.from_arrow(made).to_dicts()


def test_bars_of_aggregated_trades_equal_bars_of_the_trades_inside_them():
    fills, taken = [], []
    number = 100
    for n in range(200):
        at, price, side = T0 + n * 700_000, f"{10 + n % 3}.{n % 10}", ("buy", "sell")[n % 2]
        parts = [f"0.{1 + (n + part) % 9}" for part in range(1 + n % 4)]
        total = str(sum(map(Decimal, parts)))
        taken.append(agg(at, price, total, n, number, number + len(parts) - 1, side=side))
        fills += [trade(at, price, qty, number + part, side=side) for part, qty in enumerate(parts)]
        number += len(parts)
    quoted = table("quote", [quote(T0 + n * SECOND, "9.5", "13.5", n) for n in range(140)])
    holes = {"BTCUSDT": [Interval(T0 + 70 * SECOND, T0 + 71 * SECOND)]}
    for width in (SECOND, MINUTE):
        made = bars("agg_trade", taken, width, quoted, gaps=holes)
        assert made == bars("trade", fills, width, quoted, gaps=holes)
    seconds = bars_from_trades(table("agg_trade", taken), quoted, SECOND, coverage=ALWAYS)
    minutes = bars_from_trades(table("agg_trade", taken), quoted, MINUTE, coverage=ALWAYS)
    assert fold(seconds, MINUTE, quotes=quoted, coverage=ALWAYS).equals(minutes)


def test_an_aggregated_trade_that_does_not_say_its_ids_counts_as_one():
    (bar,) = bars(
        "agg_trade", [agg(T0, "1", "1", 7), agg(T0 + 1, "1", "1", 8, 50, None), agg(T0 + 2, "1", "1", 9, 51, 53)]
    )
    assert (bar["trade_count"], bar["first_seq"], bar["last_seq"]) == (5, 50, 53)
    (bar,) = bars("agg_trade", [agg(T0, "1", "1", 7)])
    assert (bar["trade_count"], bar["first_seq"], bar["last_seq"]) == (1, None, None)


def test_conditions_history_and_lateness_are_those_of_trades():
    rows = [agg(T0 + SECOND, "1", "1", 1, 1, 2), agg(T0 + SECOND, "5", "1", 2, 3, 5, condition="insurance_fund"),
            agg(T0, "7", "1", 3, 6, 7, condition="history"),
            agg(T0 + SECOND, "2", "1", 4, 8, 10, ts_recv=T0 + HOUR)]  # fmt: skip
    (bar,) = bars("agg_trade", rows, coverage={"BTCUSDT": [Interval(T0 + 1, T0 + DAY)]})
    assert (bar["trade_count"], bar["late"], bar["high"], bar["partial"]) == (5, 3, 2, True)


def test_bars_agree_with_those_that_another_program_made_of_real_aggregated_trades():
    files = [SAMPLES / f"freqtrade_XRP_ETH-{name}" for name in ("trades.json.gz", "1m.feather")]
    if not all(file.exists() for file in files):
        pytest.skip(f"the real recordings are not at {SAMPLES} (set LAKE_SAMPLES)")
    rows = [
        agg(at * 1000, f"{Decimal(repr(price)):f}", f"{Decimal(repr(qty)):f}", int(seq), side=side)
        for at, seq, _, side, price, qty, _ in json.loads(gzip.decompress(files[0].read_bytes()))
    ]
    theirs = pl.read_ipc(files[1])
    made = {bar["window_start"]: bar for bar in bars("agg_trade", rows, coverage={})}
    names = {"open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume_base"}
    # the other program sums floats
    assert len(made) == theirs.height
    for candle in theirs.to_dicts():
        bar = made[candle["date"]]
        assert all(bar[ours] == pytest.approx(candle[name], rel=1e-12) for name, ours in names.items())
    assert sum(bar["trade_count"] for bar in made.values()) == len(rows)


def test_a_symbol_is_traded_on_the_days_that_its_trade_coverage_touches():
    held = [covered("A", T0 + HOUR, T0 + 2 * HOUR), covered("B", T0, T0 + DAY, "agg_trade"),
            covered("C", T0 - HOUR, T0), covered("D", T0 - HOUR, T0 + 1)]  # fmt: skip
    assert sources.traded(held, T0) == {"A", "D"}
    assert sources.traded(held, T0 + DAY - 1) == {"A", "D"}
    assert sources.traded(held, T0 - 1) == {"C", "D"}
    assert sources.traded(held, T0 + DAY) == set()


def test_aggregated_trades_are_read_only_where_somebody_has_nothing_else():
    both = [covered("A", T0, T0 + DAY), covered("A", T0, T0 + DAY, "agg_trade")]
    assert not sources.aggregated(both, {"A"})
    assert sources.aggregated([*both, covered("B", T0, T0 + DAY, "agg_trade")], {"A"})
    assert sources.aggregated([], set())


def test_each_kind_speaks_of_the_symbols_whose_bars_are_made_from_it():
    rows = [gap(symbol, T0, T0 + 1, kind) for kind in sources.TRADES for symbol in ("A", "B", EVERY_SYMBOL)]

    def named(traded, others):
        return [(row.kind, row.symbol) for row in sources.chosen(rows, traded, others)]

    assert named({"A"}, ()) == [("trade", "A"), ("trade", "B"), ("trade", EVERY_SYMBOL), ("agg_trade", "B")]
    assert named({"A"}, {"B", "C"}) == [
        ("trade", "A"), ("trade", "A"), ("agg_trade", "B"), ("agg_trade", "B"), ("agg_trade", "C")]  # fmt: skip
    assert named((), {"B"}) == [("trade", "A"), ("agg_trade", "A"), ("agg_trade", "B"), ("agg_trade", EVERY_SYMBOL)]
    assert sources.chosen(rows, (), ()) == rows


def test_who_has_aggregated_trades_only_is_told_by_the_day():
    held = [covered("A", T0, T0 + HOUR), covered("A", T0, T0 + 2 * DAY, "agg_trade"),
            covered("B", T0 + DAY, T0 + 2 * DAY, "agg_trade")]  # fmt: skip
    assert sources.untraded(held, T0) == set()
    assert sources.untraded(held, T0 + DAY) == {"A", "B"}


def test_holes_are_cut_to_the_days_on_which_bars_are_made_from_their_kind():
    held = [covered("A", T0 + HOUR, T0 + 2 * HOUR), covered("A", T0 - 2 * DAY, T0 + 9 * DAY, "agg_trade")]
    assert sources.of_bars(held, held) == [held[0], *(
        msgspec.structs.replace(held[1], ts_from=start, ts_to=end)
        for start, end in ((T0 - 2 * DAY, T0), (T0 + DAY, T0 + 9 * DAY)))]  # fmt: skip
    grows = gap("A", T0 + HOUR, None, "agg_trade")
    assert sources.of_bars([grows], held) == [msgspec.structs.replace(grows, ts_from=T0 + DAY)]
    others = [gap("A", T0, T0 + 1), gap("B", T0, None, "agg_trade")]
    assert sources.of_bars(others, held) == others
    dead = gap("A", T0, T0 + 2 * DAY)
    assert sources.of_bars([dead], held) == [msgspec.structs.replace(dead, ts_to=T0 + DAY)], "his bars are of the other"
    assert sources.of_bars([gap("A", T0 + DAY, T0 + DAY)], held) == [], "of one moment too"
    assert sources.of_bars([gap("A", T0, T0 + 1, "agg_trade")], held[:1]) == [], "also where nobody collects them"


def test_a_hole_of_every_symbol_is_one_of_those_whose_bars_are_made_from_its_kind():
    held = [
        covered("A", T0, T0 + 2 * DAY),
        covered("B", T0, T0 + 2 * DAY, "agg_trade"),
        covered("B", T0 + DAY, T0 + 2 * DAY),
    ]

    def of(kind, end=T0 + 3 * DAY, asked=()):
        made = sources.of_bars([gap(EVERY_SYMBOL, T0 - 5, end, kind)], held, asked)
        return [(row.symbol, row.ts_from - T0, row.ts_to and row.ts_to - T0) for row in made]

    assert of("agg_trade") == [("*", -5, 0), ("*", 2 * DAY, 3 * DAY), ("B", 0, DAY)], "A never, B before it was traded"
    assert of("agg_trade", None) == [("*", -5, 0), ("*", 2 * DAY, None), ("B", 0, DAY)]
    assert of("trade") == [("*", -5, 0), ("*", DAY, 3 * DAY), ("A", 0, DAY)], "B only since it was traded"
    assert of("agg_trade", T0 + 1, asked=("C", "*")) == [("*", -5, 0), ("B", 0, 1), ("C", 0, 1)], "who knows of C?"
    others = [msgspec.structs.replace(row, exchange="okx") for row in held]
    whole = gap(EVERY_SYMBOL, T0, T0 + 1, "agg_trade")
    assert sources.of_bars([whole], others) == [whole], "of another market nothing is said"


def test_tables_of_trades_come_symbol_by_symbol_each_from_its_source():
    def rows(kind, *symbols):
        return [table(kind, [trade(T0 + n, "1", "1", n, symbol=symbol) for symbol in symbols for n in range(3)])]

    found = {"trade": rows("trade", "B", "D"), "agg_trade": rows("agg_trade", "A", "B", "C", "D", "E", "F")}

    def made(traded, size):
        return [
            ("first_id" in t.column_names, sorted(set(t["symbol"].to_pylist())), t.num_rows)
            for t in sources.by_symbols(found, traded, size)
        ]

    assert made({"E"}, 100) == [
        (True, ["A"], 3), (False, ["B"], 3), (True, ["C"], 3), (False, ["D"], 3), (True, ["F"], 3)]  # fmt: skip
    del found["trade"]
    assert made({"E"}, 6) == [(True, ["A", "B"], 6), (True, ["C", "D"], 6), (True, ["F"], 3)]
    assert made({"A", "B", "C", "D", "E", "F"}, 6) == []


def test_tables_of_trades_end_inside_a_symbol_where_no_window_is_parted():
    def rows(symbol, *ats):
        return [trade(T0 + at, "1", "1", number, symbol=symbol) for number, at in enumerate(ats)]

    piece = [table("trade", rows("A", 0, 1, 2)), table("trade", rows("A", 3, 4, 10, 11)),
             table("trade", rows("A", 12, 25)), table("trade", rows("B", 30, 40))]  # fmt: skip

    def made(size, width):
        tables = sources.by_symbols({"trade": piece}, {"A", "B"}, size, width)
        return [[at.value - T0 for at in t.column("ts_event")] for t in tables]

    whole = [0, 1, 2, 3, 4, 10, 11, 12, 25]
    assert made(1, None) == [whole, [30, 40]]
    assert made(1, 10) == [[0, 1, 2, 3, 4], [10, 11, 12], [25], [30], [40]]
    assert made(6, 10) == [[0, 1, 2, 3, 4], [10, 11, 12, 25, 30], [40]]
    assert made(7, 1000) == [whole, [30, 40]]


def test_a_reader_sees_gaps_and_coverage_of_what_the_bars_were_made_from(tmp_path):
    held = TestLake(tmp_path)
    for symbol in ("AAA", "BBB"):
        rows = [agg(T0 + n * MINUTE, "1", "1", n, n, n, symbol=symbol) for n in (0, 1, 4)]
        made = bars_from_trades(table("agg_trade", rows), None, MINUTE, coverage={symbol: [Interval(T0, T0 + HOUR)]})
        held.day("bar_1m", made, symbol=symbol)
        held.cover(T0, T0 + 5 * MINUTE, symbol, kind="agg_trade")
        held.gap(T0 + MINUTE, T0 + 2 * MINUTE, symbol, kind="agg_trade", gap_id=f"agg-{symbol}")
    held.cover(T0 + 3 * MINUTE, T0 + 5 * MINUTE, "BBB")
    held.close()
    with Lake(tmp_path) as lake:
        shown = {
            symbol: [(row["trade_count"], row["partial"], row["gap"]) for row in
                     lake.read("bar_1m", symbol=symbol, start=T0, end=T0 + 5 * MINUTE, fill="empty").to_pylist()]
            for symbol in ("AAA", "BBB")
        }  # fmt: skip
    assert shown["AAA"] == [
        (1, False, False),
        (None, False, True),
        (0, False, False),
        (0, False, False),
        (1, False, False),
    ]
    assert shown["BBB"] == [
        (1, False, False),
        (1, False, False),
        (None, True, False),
        (0, False, False),
        (1, False, False),
    ]
