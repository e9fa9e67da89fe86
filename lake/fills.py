"""What a reader of bars is shown: null over a gap, and on request a row for every window.

Storage never forward-fills; a window without a trade has no row. Asked for, such a window comes back as "empty"
(volumes zero, prices null) or "previous" (prices of the last close, never of one from before a hole), but only where
it was covered: what was not collected comes back null and `partial`, and what is missing null and `gap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import polars as pl

from lake.errors import WrongQuestion
from market.kinds import KINDS
from market.session import EVERY_SYMBOL
from market.times import Interval, floor_to, union

Fill: TypeAlias = Literal["none", "empty", "previous"]
SymbolKey: TypeAlias = tuple[str, str, str]
Spans: TypeAlias = Mapping[SymbolKey, Sequence[Interval]]
"""(exchange, market_type, symbol) -> intervals of event time, us."""
Windows: TypeAlias = Mapping[SymbolKey, Interval]
"""From the first window of a symbol to behind its last, us."""

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


class Known(msgspec.Struct, frozen=True):
    """What is known about the windows of an answer: of which width (us), where one begins (`origin`), which of them are
    asked for (`span`), what covers them, and up to where the answer is complete (`until`; None: nothing says so).
    """

    width: int
    span: Interval
    coverage: Spans
    gaps: Spans
    origin: int = 0
    until: int | None = None


def windows(known: Known, edges: Windows) -> dict[SymbolKey, Interval]:
    """From the first to behind the last window of each symbol, sorted; `edges` are those of its bars.

    None is made that starts where a symbol has neither bars nor coverage any more and nothing is known: at or behind
    `until`. Raises WrongQuestion (there are too many).
    """
    made: dict[SymbolKey, Interval] = {}
    total = 0
    named = {key for key in known.coverage if key[2] != EVERY_SYMBOL}
    for key in sorted({*named, *edges}):
        made[key] = _windows(known, [*([edges[key]] if key in edges else []), *known.coverage.get(key, ())])
        total += (made[key].end - made[key].start) // known.width
        if total > MAX_WINDOWS:
            raise WrongQuestion(f"fill would make more than {MAX_WINDOWS:,} rows", "narrow the range or the symbols")
    return made


def _windows(known: Known, there: Sequence[Interval]) -> Interval:
    """Whole windows of one symbol, which has bars and coverage `there`."""
    span, width, origin = known.span, known.width, known.origin
    edges = [edge for interval in there for edge in (interval.start, interval.end)]
    low = span.start
    if low <= -(2**61):
        low = max(low, floor_to(min(edges) - origin, width) + origin)
    last = max(edges)
    high = min(span.end, last if known.until is None or span.end >= 2**61 else max(last, known.until))
    first = -floor_to(origin - low, width) + origin
    return Interval(first, first + max(0, -(-(high - first) // width)) * width)


class Filler:
    """Makes a row for every window, a piece of time after the other of each symbol: it carries the last close."""

    def __init__(self, known: Known, fill: Fill) -> None:
        self._known, self._fill = known, fill
        self._closes: dict[SymbolKey, float] = {}

    def rows(self, bars: pl.DataFrame, of: Windows) -> pl.DataFrame:
        """The windows `of` some symbols, sorted by symbol and window; `bars` are those that are there."""
        grids = [_grid(key, of[key], self._known.width) for key in sorted(of)]
        if not grids:
            return bars.clear()
        known = self._known
        rows = bars.with_columns(pl.col(MARKET).cast(pl.String))
        whole = pl.concat(grids).join(rows, on=[*MARKET, "window_start"], how="left", maintain_order="left")
        coverage = {key: spans for key, spans in known.coverage.items() if key in of}
        gaps = {key: spans for key, spans in known.gaps.items() if key in of or key[2] == EVERY_SYMBOL}
        covered, touched = _inside(whole, known.width, coverage), _touched(whole, known.width, gaps)
        whole = whole.with_columns(
            covered.alias("#covered"), touched.alias("#touched"), pl.col("revision").is_null().alias("#made")
        )
        made = pl.col("#made")
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
        if self._fill == "previous":
            # the last trade before a hole need not be the last before the window behind it
            hole = pl.col("gap") | (made & ~pl.col("#covered"))
            close = self._carried(whole.with_columns(hole.cum_sum().over(MARKET).alias("#since")))
            whole = whole.with_columns(
                pl.when(empty).then(close).otherwise(pl.col(name)).alias(name) for name in _PRICES
            )
        return whole.select(bars.columns)

    def _carried(self, whole: pl.DataFrame) -> pl.Series:
        """Of each window the last close since a hole, that of the piece before it included."""
        before = pl.DataFrame(
            [(*key, close) for key, close in self._closes.items()],
            schema=dict.fromkeys(MARKET, pl.String) | {"#before": pl.Float64}, orient="row",
        )  # fmt: skip
        whole = whole.select(*MARKET, "close", "#since").join(before, on=MARKET, how="left", maintain_order="left")
        inside = pl.col("close").forward_fill().over(*MARKET, "#since")
        carried = pl.when(pl.col("#since") == 0).then(inside.fill_null(pl.col("#before"))).otherwise(inside)
        whole = whole.select(*MARKET, carried.alias("#close"))
        for *key, close in whole.group_by(MARKET).agg(pl.col("#close").last()).iter_rows():
            market = (key[0], key[1], key[2])
            self._closes.pop(market, None)
            if close is not None:
                self._closes[market] = close
        return whole["#close"]


def _grid(key: SymbolKey, windows: Interval, width: int) -> pl.DataFrame:
    """A row for each window of a symbol."""
    starts = pl.int_range(windows.start, windows.end, width, dtype=pl.Int64, eager=True)
    names = [pl.lit(value).alias(name) for name, value in zip(MARKET, key, strict=True)]
    return starts.cast(pl.Datetime("us", "UTC")).alias("window_start").to_frame().select(*names, "window_start")


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
