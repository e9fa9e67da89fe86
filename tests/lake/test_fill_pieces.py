"""Bars with a row for every window: the same rows in whatever pieces of time they are made, in bounded memory."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import rows
from lake import fill_pieces, fills
from lake.errors import WrongQuestion
from lake.fills import Filler, Known
from lake.reading import polars_schema
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

ROOT = Path(__file__).parents[2]
MARKET = ("binance", "linear")
SYMBOLS = ("AUSDT", "BUSDT")
MINUTES = 14


def some_bars(minutes: dict[str, set[int]], flagged: set[int]) -> pl.DataFrame:
    """A bar in each of these minutes, flagged as `gap` in some."""
    trades = [
        trade(T0 + minute * MINUTE, str(100 + minute), "1", minute + 1, symbol=symbol)
        for symbol in minutes for minute in sorted(minutes[symbol])
    ]  # fmt: skip
    if not trades:
        return pl.DataFrame(schema=polars_schema("bar_1m"))
    frame = pl.from_arrow(bar_table(trades))
    minute = (frame["window_start"].cast(pl.Int64) - T0) // MINUTE
    return fills.hide_gaps(frame.with_columns(gap=minute.is_in(list(flagged))), MINUTE, {})


intervals = st.lists(
    st.tuples(st.integers(0, MINUTES * 2), st.integers(1, 12)).map(
        lambda pair: Interval(T0 + pair[0] * MINUTE // 2, T0 + (pair[0] + pair[1]) * MINUTE // 2)
    ),
    max_size=3,
)  # fmt: skip
by_symbol = st.fixed_dictionaries({(*MARKET, symbol): intervals for symbol in SYMBOLS})


def expected(known: Known, frame: pl.DataFrame, fill: str, key: tuple, of: Interval) -> list[tuple]:
    """What a window is, one after the other: start, close, volume, partial, gap."""
    held = {int(row["window_start"].timestamp() * 1_000_000): row for row in frame.to_dicts()
            if row["symbol"] == key[2]}  # fmt: skip
    found, carried = [], None
    for start in range(of.start, of.end, MINUTE):
        window = Interval(start, start + MINUTE)
        if (row := held.get(start)) is not None:
            carried = row["close"] if row["close"] is not None or row["gap"] else carried
            found.append((start, row["close"], row["volume_base"], row["partial"], row["gap"]))
            continue
        covered = any(one.contains(window) for one in fills.union(known.coverage[key]))
        touched = any(one.overlaps(window) for one in known.gaps[key])
        if not covered or touched:
            carried = None
        empty = covered and not touched
        close = carried if empty and fill == "previous" else None
        found.append((start, close, 0.0 if empty else None, not covered, touched))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({symbol: st.sets(st.integers(0, MINUTES - 1)) for symbol in SYMBOLS}),
    st.sets(st.integers(0, MINUTES - 1), max_size=2), by_symbol, by_symbol,
    st.sets(st.integers(1, MINUTES - 1)), st.sampled_from(["empty", "previous"]),
)  # fmt: skip
def test_rows_are_the_same_wherever_time_is_cut(minutes, flagged, coverage, gaps, cuts, fill):
    frame = some_bars(minutes, flagged)
    known = Known(MINUTE, Interval(T0, T0 + MINUTES * MINUTE), coverage, gaps, until=T0 + 12 * MINUTE)
    edges = {
        (*MARKET, symbol): Interval(T0 + min(held) * MINUTE, T0 + (max(held) + 1) * MINUTE)
        for symbol, held in minutes.items() if held
    }  # fmt: skip
    coverage |= {key: coverage[key] or [Interval(T0, T0)] for key in coverage}
    of = fills.windows(known, edges)
    whole = Filler(known, fill).rows(frame, of)
    for key, mine in of.items():
        shown = whole.filter(symbol=key[2]).select(
            pl.col("window_start").cast(pl.Int64), "close", "volume_base", "partial", "gap"
        )  # fmt: skip
        assert shown.rows() == expected(known, frame, fill, key, mine)
    filler = Filler(known, fill)
    pieces = []
    for low, high in itertools.pairwise([0, *sorted(cuts), MINUTES]):
        span = Interval(T0 + low * MINUTE, T0 + high * MINUTE)
        times = pl.col("window_start").cast(pl.Int64)
        part = frame.filter(times >= span.start, times < span.end)
        pieces.append(filler.rows(part, {key: one.clip(span) for key, one in of.items() if one.overlaps(span)}))
    cut = pl.concat([piece for piece in pieces if piece.height] or [whole.clear()])
    assert cut.sort("symbol", "window_start", maintain_order=True).equals(whole)


def days_of(made: TestLake) -> None:
    """Three days of two symbols, hot ones behind them, a symbol without bars, holes and a gap."""
    light = Interval(T0, T0 + 4 * DAY)
    for symbol in SYMBOLS:
        made.cover(T0, T0 + DAY + 7 * HOUR, symbol=symbol)
        made.cover(T0 + DAY + 8 * HOUR, T0 + 3 * DAY + HOUR, symbol=symbol)
        for day in (0, 1, 2):
            at = T0 + day * DAY
            rows = [trade(at + n * 37 * MINUTE, f"{100 + n}.5", "1", n + 1, symbol=symbol) for n in range(30)]
            made.day("bar_1m", bar_table(rows, covered=light), symbol=symbol)
    hot = [trade(T0 + 3 * DAY + n * 5 * MINUTE, "9", "1", n + 1, symbol="AUSDT") for n in range(9)]
    made.part("bar_1m", bar_table(hot, covered=light))
    made.cover(T0, T0 + DAY, symbol="CUSDT")
    made.gap(T0 + HOUR, T0 + 2 * HOUR, symbol="AUSDT")


@pytest.mark.parametrize(
    "interval, offset, most", [("1m", 0, 1_500), ("7m", "2m", 150), ("7m", 0, 1_000), ("1d", "8h", 1), ("1w", 0, 1)]
)
def test_batches_give_the_windows_without_a_trade_as_the_whole_answer_does(
    made, lake, monkeypatch, interval, offset, most
):
    days_of(made)
    asked = [
        {"symbol": symbol, "start": start, "end": end, "fill": fill}
        for symbol in ("AUSDT", None)
        for start, end in ((None, None), (T0 + 90 * MINUTE + 5, T0 + 3 * DAY + 5 * HOUR))
        for fill in ("empty", "previous")
    ]
    whole = [lake.bars(interval, offset=offset, **one) for one in asked]
    assert any(one.num_rows for one in whole)
    monkeypatch.setattr(fill_pieces, "PIECE_WINDOWS", most)
    for one, wanted in zip(asked, whole, strict=True):
        assert lake.bars(interval, offset=offset, **one).equals(wanted), one
        found = lake.bar_batches(interval, offset=offset, batch_rows=500, **one)
        assert found.schema == wanted.schema
        assert found.read_all().to_pylist() == wanted.to_pylist(), one
    monkeypatch.setattr(fill_pieces, "PIECE_WINDOWS", 400)
    some = {"columns": ["close", "symbol"], "fill": "previous"}
    assert lake.batches("bar_5m", **some).read_all().to_pylist() == lake.read("bar_5m", **some).to_pylist()


def test_bars_that_are_replaced_and_deleted_before_their_turn_are_filled_all_the_same(made, lake, monkeypatch):
    monkeypatch.setattr(fill_pieces, "PIECE_WINDOWS", 300)
    made.cover(T0, T0 + DAY, symbol="AUSDT")
    rows = [trade(T0 + n * 50 * MINUTE, str(100 + n), "1", n + 1, symbol="AUSDT") for n in range(20)]
    data = bar_table(rows, covered=Interval(T0, T0 + DAY))
    part = made.part("bar_1m", data)
    asked = {"symbol": "AUSDT", "fill": "previous"}
    whole = lake.read("bar_1m", **asked).to_pylist()
    reader = lake.batches("bar_1m", batch_rows=100, **asked)
    first = [next(reader), next(reader)]
    made.day("bar_1m", data, symbol="AUSDT", remove=[part.path])
    (made.root / part.path).unlink()
    found = [row for batch in (*first, *reader) for row in batch.to_pylist()]
    assert found == whole
    assert len(found) == 24 * 60


def test_too_many_windows_are_refused_before_the_first_row(made, lake, monkeypatch):
    monkeypatch.setattr(fills, "MAX_WINDOWS", 60)
    made.cover(T0, T0 + HOUR, symbol="AUSDT")
    asked = {"fill": "empty", "end": T0 + DAY}
    assert lake.batches("bar_1m", **asked).read_all().num_rows == 60
    made.cover(T0, T0 + MINUTE, symbol="BUSDT")
    for verb in (lake.read, lake.batches):
        with pytest.raises(WrongQuestion, match="more than 60 rows"):
            verb("bar_1m", **asked)
    with pytest.raises(WrongQuestion, match="fill='empty' is not possible for trade"):
        lake.batches("trade", fill="empty")


def test_rows_over_http_make_no_more_windows_than_are_taken(made, lake, monkeypatch):
    monkeypatch.setattr(fill_pieces, "PIECE_WINDOWS", 60)
    made.cover(T0, T0 + DAY, symbol="AUSDT")
    made_at_once: list[int] = []
    real = Filler.rows

    def counted(*arguments):
        made_at_once.append(real(*arguments).height)
        return real(*arguments)

    monkeypatch.setattr(Filler, "rows", counted)
    _, pieces, told = rows.read(lake, rows.Asked(kind="bar_1m", fill="empty", symbol=("AUSDT",), limit=100))
    assert sum(piece.num_rows for piece in pieces) == 100
    assert made_at_once == [60, 60]
    assert "manifest_version" in told


MEASURE = """
import sys
import polars, pyarrow.parquet
from lake import Lake
with Lake(sys.argv[1]) as lake:
    asked = {"symbol": "AUSDT", "fill": "previous"}
    lake.batches("bar_1s", end=int(sys.argv[2]), **asked).read_all()
    peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
    before = peak()
    rows = sum(batch.num_rows for batch in lake.batches("bar_1s", **asked))
print(rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_windows(made):
    days = 12
    made.cover(T0, T0 + days * DAY, symbol="AUSDT")
    for day in range(days):
        rows = [trade(T0 + day * DAY + n * MINUTE, "10.5", "1", n + 1, symbol="AUSDT") for n in range(1_440)]
        made.day("bar_1s", bar_table(rows, SECOND, covered=Interval(T0, T0 + days * DAY)), symbol="AUSDT")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, made.root, str(T0 + DAY)], cwd=ROOT, capture_output=True, text=True,
        check=True, env=os.environ | {"POLARS_MAX_THREADS": "2"},
    )  # fmt: skip
    found, grown = map(int, done.stdout.split())
    assert found == days * DAY // SECOND
    assert grown < 150_000, f"kB, of 950,000 more windows: {grown}"
