"""What a reader of bars is shown: null over a gap, and on request a row for every window.

Storage never forward-fills; a window without a trade has no row. Asked for, such a window comes back as "empty"
(volumes zero, prices null) or "previous" (prices of the last close, never of one from before a hole), but only where
it was covered: what was not collected comes back null and `partial`, and what is missing null and `gap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import polars as pl

from lake.errors import WrongQuestion
from market.kinds import KINDS
from market.session import EVERY_SYMBOL
from market.times import Interval, floor_to, union

Fill: TypeAlias = Literal["none", "empty", "previous"]
SymbolKey: TypeAlias = tuple[str, str, str]
Spans: TypeAlias = Mapping[SymbolKey, Sequence[Interval]]
"""(exchange, market_type, symbol) -> intervals of event time, us."""

MARKET = ("exchange", "market_type", "symbol")
MAX_WINDOWS = 50_000_000
_PRICES = ("open", "high", "low", "close")
_ZERO = ("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote", "trade_count", "late")
NEEDED = (*MARKET, "window_start", "gap")
"""Columns without which nothing can be hidden."""
_KEPT = ("window_start", "partial", "gap", "late", "revision")
_VALUES = tuple(column.name for column in KINDS["bar_1m"].columns if column.name not in _KEPT)


def hide_gaps(bars: pl.DataFrame, width: int, gaps: Spans) -> pl.DataFrame:
    """Bars whose window was flagged as `gap` when they were made, or touches one of `gaps` now: values are null."""
    if gaps:
        bars = bars.with_columns(gap=pl.col("gap") | _touched(bars, width, gaps))
    if not bars["gap"].any():
        return bars
    names = [name for name in bars.columns if name.removesuffix("_text") in _VALUES]
    return bars.with_columns(pl.when(~pl.col("gap")).then(pl.col(name)).alias(name) for name in names)


def filled(  # the rows, what they are, and what is known about the windows without one
    bars: pl.DataFrame,
    width: int,
    fill: Fill,
    span: Interval,
    coverage: Spans,
    gaps: Spans,
    origin: int = 0,
    until: int | None = None,
) -> pl.DataFrame:
    """A row for every window of `span` (us), sorted by symbol and window.

    None is made that starts where a symbol has neither rows nor coverage any more and nothing is known: at or behind
    `until` (us), up to which the answer is complete. `origin` (us) is where a window begins.
    """
    grids = []
    total = 0
    named = {key for key in coverage if key[2] != EVERY_SYMBOL}
    for key in sorted({*named, *bars.select(pl.col(MARKET).cast(pl.String)).unique().iter_rows()}):
        grid = _grid(bars, key, (width, origin), span, coverage.get(key, ()), until)
        total += grid.len()
        _limit(total)
        names = [pl.lit(value).alias(name) for name, value in zip(MARKET, key, strict=True)]
        grids.append(grid.to_frame().select(*names, pl.col("window_start")))
    if not grids:
        return bars
    rows = bars.with_columns(pl.col(MARKET).cast(pl.String))
    whole = pl.concat(grids).join(rows, on=[*MARKET, "window_start"], how="left", maintain_order="left")
    made = pl.col("#made")
    covered, touched = _inside(whole, width, coverage), _touched(whole, width, gaps)
    whole = whole.with_columns(
        covered.alias("#covered"), touched.alias("#touched"), pl.col("revision").is_null().alias("#made")
    )
    empty = made & pl.col("#covered") & ~pl.col("#touched")
    whole = whole.with_columns(
        *(pl.when(empty).then(0).otherwise(pl.col(name)).alias(name) for name in _ZERO),
        pl.when(made).then(~pl.col("#covered")).otherwise(pl.col("partial")).alias("partial"),
        pl.when(made).then(pl.col("#touched")).otherwise(pl.col("gap")).alias("gap"),
        pl.when(made).then(0).otherwise(pl.col("revision")).alias("revision"),
        pl.when(made).then(pl.lit("derived")).otherwise(pl.col("source").cast(pl.String)).alias("source"),
        pl.col("ts_estimated").fill_null(value=False),
        pl.col("window_start").alias("ts_event"),
        pl.col("window_start").dt.date().alias("date"),
    )
    if fill == "previous":
        # the last trade before a hole need not be the last before the window behind it
        hole = pl.col("gap") | (made & ~pl.col("#covered"))
        whole = whole.with_columns(hole.cum_sum().over(MARKET).alias("#since"))
        close = pl.col("close").forward_fill().over(*MARKET, "#since")
        whole = whole.with_columns(pl.when(empty).then(close).otherwise(pl.col(name)).alias(name) for name in _PRICES)
    return whole.select(bars.columns)


def _limit(windows: int) -> None:
    if windows > MAX_WINDOWS:
        raise WrongQuestion(f"fill would make more than {MAX_WINDOWS:,} rows", "narrow the range or the symbols")


def _grid(
    bars: pl.DataFrame,
    key: SymbolKey,
    windows: tuple[int, int],
    span: Interval,
    covered: Sequence[Interval],
    until: int | None,
) -> pl.Series:
    """Starts of all windows (width, origin) of one symbol."""
    width, origin = windows
    mine = bars.filter(*(pl.col(name).cast(pl.String) == value for name, value in zip(MARKET, key, strict=True)))
    starts = mine["window_start"].cast(pl.Int64)
    first = [int(starts.min()), int(starts.max()) + width] if starts.len() else []  # type: ignore[arg-type] # ints
    edges = [*first, *(edge for interval in covered for edge in (interval.start, interval.end))]
    low = max(span.start, floor_to(min(edges) - origin, width) + origin) if span.start <= -(2**61) else span.start
    known = max(edges) if until is None or span.end >= 2**61 else max(*edges, until)
    high = min(span.end, known)
    first_window = floor_to(low - origin + width - 1, width) + origin
    _limit((high - first_window) // width)
    grid = pl.int_range(first_window, max(first_window, high), width, dtype=pl.Int64, eager=True)
    return grid.cast(pl.Datetime("us", "UTC")).alias("window_start")


def _latest(bars: pl.DataFrame, at: pl.Expr, spans: Spans) -> pl.Series:
    """For each bar the end (us) of its symbol's last interval that starts at or before `at`; null where none does."""
    rows = [(*key, i.start, i.end) for key in sorted(spans) for i in union(spans[key])]
    right = pl.DataFrame(
        rows, schema=dict.fromkeys(MARKET, pl.String) | {"#at": pl.Int64, "#to": pl.Int64}, orient="row"
    )
    left = bars.select(pl.col(MARKET).cast(pl.String), at.alias("#at")).with_row_index("#row").sort("#at")
    met = left.join_asof(right.sort("#at"), on="#at", by=list(MARKET), strategy="backward", check_sortedness=False)
    return met.sort("#row")["#to"]


def _inside(bars: pl.DataFrame, width: int, spans: Spans) -> pl.Series:
    """Which windows the intervals contain whole."""
    starts = pl.col("window_start").cast(pl.Int64)
    ends = bars.select(starts + width).to_series()
    return (_latest(bars, starts, spans) >= ends).fill_null(value=False)


def _touched(bars: pl.DataFrame, width: int, spans: Spans) -> pl.Series:
    """Which windows overlap one of the intervals, or one of EVERY_SYMBOL of their market."""
    if any(symbol == EVERY_SYMBOL for _, _, symbol in spans):
        spans = {
            key: [*spans.get(key, ()), *spans.get((*key[:2], EVERY_SYMBOL), ())]
            for key in bars.select(pl.col(MARKET).cast(pl.String)).unique().iter_rows()
        }
    starts = pl.col("window_start").cast(pl.Int64)
    return (_latest(bars, starts + (width - 1), spans) > bars.select(starts).to_series()).fill_null(value=False)
