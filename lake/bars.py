"""Bars: trades and quotes folded into fixed windows of event time, exactly; and bars folded into wider bars.

A bar counts trades of condition market, rpi and liquidation, as the venues' candles do, and a trade pushed on
subscribe (history) only from its symbol's first coverage on; aggregated trades take their place where trades are not
collected (`lake.sources`). Windows are half-open in event time; one without a counted trade has no row. The four sums
are exact (float64 beside `_text` where the float is not the number), so that 1m folded from 1s is 1m from trades, bit
for bit. Times are int us; intervals half-open.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from lake import bar_sums, heard, scaled, tables
from lake.ranges import Ranges
from market import numbers
from market.kinds import COUNTED_CONDITIONS, PROVENANCE
from market.times import MINUTE, SECOND, Interval, union

WIDTHS = {"bar_1s": SECOND, "bar_1m": MINUTE}
LATENESS = 5 * SECOND
PIECE_ROWS = 128 * 1024
"""Bars that are folded at once."""
_QUOTE = ("bid", "ask", "spread", "bid_qty", "ask_qty", "ts_quote", "ts_estimated")
_TIMES = ("ts_event", "ts_recv", "window_start", "ts_first", "ts_last", "ts_quote")
_FLAGS = ("partial", "gap", "revision")
"""What is mostly the same in all bars."""
_SEVERAL = ("high", "low", "trade_count", "late", "first_seq", "last_seq")
"""What more than one bar has a part in, beside the sums."""
_FOLDED = (
    "symbol", "window_start", "open", "high", "low", "close", "trade_count", "late", "first_seq", "last_seq",
    "ts_first", "ts_last", "partial", "gap", "revision", *_QUOTE,
    *bar_sums.SUMS, *(f"{name}_text" for name in bar_sums.SUMS),
)  # fmt: skip
_TRADED = (
    "exchange", "market_type", "symbol", "ts_event", "ts_recv", "seq", *PROVENANCE, "source", "condition", "side",
    "qty_unit", "price", "price_text", "qty", "qty_text", "multiplier", "multiplier_text", "first_id", "last_id",
)  # fmt: skip
_QUOTED = (
    "symbol", "ts_event", "ts_estimated", "update_id", *PROVENANCE, "bid", "bid_text", "ask", "ask_text", "bid_qty",
    "ask_qty",
)  # fmt: skip

EVERY_SYMBOL = "*"
"""The symbol of a gap that is known to be one of the whole market, and of no symbol in particular."""

Frame: TypeAlias = pl.DataFrame | pa.Table
Intervals: TypeAlias = Mapping[str, Sequence[Interval]]
"""Symbol -> intervals of event time."""


def bars_from_trades(
    trades: Frame,
    quotes: Frame | None,
    width: int,
    *,
    coverage: Intervals,
    begun: Mapping[str, int] | None = None,
    gaps: Intervals | None = None,
    span: Interval | None = None,
    revision: int = 0,
    lateness: int = LATENESS,
) -> pa.Table:
    """Bars of `width` us from rows of the tables `trade` and `quote` of one (exchange, market_type), any symbols.

    `trades` may be rows of `agg_trade` instead: each counts as the trades first_id..last_id that are in it, as one
    where the venue does not say, and `first_seq` and `last_seq` are trade ids all the same.
    `coverage` holds what was collected inside the span; a window that it does not contain is `partial`.
    `begun` is when each symbol's first coverage began (`lake.beginnings`); without it that is the first of `coverage`.
    A window that overlaps an interval of `gaps` (the open ones, those of EVERY_SYMBOL too) has `gap`.
    `span` limits the windows by their start.
    `late` counts trades received live more than `lateness` after the end of their second (of their second at every
    width, so that it folds); what an archive, an import or a later question brought was received when it was taken in,
    and is not late. Rows must be free of duplicates; they may come in any order.
    `ts_estimated` says that the bar's quote has no venue time. Sorted by (symbol, window_start).
    """
    if begun is None:
        begun = {symbol: min(i.start for i in held) for symbol, held in coverage.items() if held}
    rows = _counted(trades, begun, width, span)
    bars = pl.concat([_made(*piece, lateness) for piece in _pieces(rows)], how="diagonal")
    bars = bars.with_columns(pl.col("exchange", "market_type", "symbol").cast(pl.String))
    bars = _with_quotes(bars, quotes, width)
    bars = bars.with_columns(
        partial=~_inside(bars, coverage, width),
        gap=_touched(bars, gaps or {}, width),
        revision=pl.lit(revision, dtype=pl.Int64),
    )
    return _table(bars)


def fold(
    bars: Frame,
    width: int,
    *,
    quotes: Frame | None = None,
    coverage: Intervals | None = None,
    gaps: Intervals | None = None,
    origin: int = 0,
) -> pa.Table:
    """Bars of `width` us from narrower ones of one (exchange, market_type) whose width divides it.

    `origin` (us) is where a window begins; the narrow width divides it too.

    Everything that comes from trades equals bars made from the trades, bit for bit. A quote in a narrow window without
    a trade is in no bar, and neither is what was not covered there: give `quotes`, `coverage` and `gaps` to have those
    columns from the source too; without them they are folded from the rows (last quote, any partial, any gap).
    """
    rows = _in_order(_needed(bars, _FOLDED), "window_start")
    folded = bar_sums.spelt(_folded(piece, width, origin) for piece in _slices(rows))
    folded = _mended(folded, width, origin)
    market = (pl.lit(value).alias(name) for name, value in _market(bars).items())
    folded = folded.with_columns(*market, pl.col("symbol").cast(pl.String))
    if quotes is not None:
        folded = _with_quotes(folded.drop(_QUOTE), quotes, width, origin)
    if coverage is not None:
        folded = folded.with_columns(partial=~_inside(folded, coverage, width))
    if gaps is not None:
        folded = folded.with_columns(gap=_touched(folded, gaps, width))
    return _table(folded)


def _made(rows: pl.DataFrame, groups: Ranges, lateness: int) -> pl.DataFrame:
    """A bar of each group of counted trades, without what quotes, coverage and gaps say of it."""
    late = pl.col("ts_recv") > pl.col("ts_event") - pl.col("ts_event") % SECOND + (SECOND + lateness)
    if set(rows["source"].unique().to_list()) != {heard.STREAMED}:
        late &= heard.heard()
    rows = rows.with_columns_seq(late=pl.when(late).then("fills").otherwise(0))
    starts, ends = groups.starts, groups.ends - 1
    single = rows.select_seq(
        pl.col("exchange", "market_type", "symbol", "window_start").gather(starts),
        pl.col("price").gather(starts).alias("open"),
        pl.col("price").gather(ends).alias("close"),
        pl.col("ts_event").gather(starts).alias("ts_first"),
        pl.col("ts_event").gather(ends).alias("ts_last"),
    )
    several = groups.lists(rows[name] for name in ("price", "fills", "first_id", "last_id", "late")).select_seq(
        pl.col("price").list.max().alias("high"),
        pl.col("price").list.min().alias("low"),
        pl.col("fills").list.sum().alias("trade_count"),
        pl.col("first_id").list.min().alias("first_seq"),
        pl.col("last_id").list.max().alias("last_seq"),
        pl.col("late").list.sum(),
    )
    return single.hstack([*several, *bar_sums.amounts(rows, groups)])


def _pieces(rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, Ranges]]:
    """Rows in their order with their groups, whole groups at a time: what is made of them stays in the CPU's cache.

    There is a piece, without rows, where there are none.
    """
    start, length = 0, PIECE_ROWS
    while True:
        piece = rows.slice(start, length)
        groups = Ranges.of(piece["window_start"], piece["symbol"].to_physical())
        if start + piece.height < rows.height:  # the last group may go on
            if len(groups) == 1:
                length *= 2
                continue
            piece, groups = piece.head(groups.starts[-1]), Ranges(groups.starts)
        yield piece, groups
        start, length = start + piece.height, PIECE_ROWS
        if start >= rows.height:
            return


def _slices(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows in their order, at most PIECE_ROWS at a time, cut where they are cut in memory: what lies in two places
    would be copied. There is a piece, without rows, where there are none.
    """
    start = length = 0
    for more in rows["window_start"].chunk_lengths():
        if length and length + more > PIECE_ROWS:
            yield rows.slice(start, length)
            start, length = start + length, 0
        length += more
        while length > PIECE_ROWS:
            yield rows.slice(start, PIECE_ROWS)
            start, length = start + PIECE_ROWS, length - PIECE_ROWS
    yield rows.slice(start, length)


def _folded(rows: pl.DataFrame, width: int, origin: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Bars in order, folded into wider ones; and the sums that are whole numbers yet, with the decimals of each."""
    rows = rows.rechunk()  # no copy of what lies in one place
    window = (rows["window_start"] - origin) // width
    groups = Ranges.of(window, rows["symbol"].to_physical())
    whole = bar_sums.whole(rows, groups.longest)
    exponents = {column.values.name: column.exponent for column in whole}
    same = [name for name in _FLAGS if _same(rows[name])]
    mixed = [name for name in _FLAGS if name not in same]
    single = rows.select_seq(
        pl.col("symbol", *same).gather(groups.starts),
        # a bar's times lie in its window, so that they rise from bar to bar
        *(pl.col(name).gather(groups.first(rows[name])) for name in ("open", "ts_first")),
        *(pl.col(name).gather(groups.last(rows[name])) for name in ("close", "ts_last")),
        pl.col(_QUOTE).gather(groups.last(rows["ts_quote"])),
    )
    lists = groups.lists([*(rows[name] for name in (*_SEVERAL, *mixed)), *(column.values for column in whole)])
    several = lists.select_seq(
        pl.col("high", "last_seq", *mixed).list.max(),
        pl.col("low", "first_seq").list.min(),
        pl.col("trade_count", "late", *exponents).list.sum(),
    )
    others = bar_sums.resummed(rows, groups, [name for name in bar_sums.SUMS if name not in exponents])
    folded = single.hstack([*several, *others]).with_columns_seq(
        (window.gather(groups.starts) * width + origin).alias("window_start"),
        pl.col("ts_estimated").fill_null(value=False),
    )
    return folded, exponents


def _mended(folded: pl.DataFrame, width: int, origin: int) -> pl.DataFrame:
    """One bar a window, also of windows that pieces have cut in two."""
    groups = Ranges.of(folded["window_start"], folded["symbol"].to_physical())
    return folded if len(groups) == folded.height else bar_sums.spelt([_folded(folded, width, origin)])


def _same(column: pl.Series) -> bool:
    """Whether there is one value in it."""
    return not column.null_count() and bool(column.min() == column.max())


def _polars(frame: Frame) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    converted = pl.from_arrow(frame)
    assert isinstance(converted, pl.DataFrame)
    return converted


def _market(bars: Frame) -> dict[str, str | None]:
    """Of the first row: bars that are folded are of one market."""
    first = _polars(bars[:1].select(["exchange", "market_type"])).cast(pl.String)
    return first.row(0, named=True) if first.height else dict.fromkeys(first.columns)


def _needed(rows: Frame, names: Sequence[str]) -> pl.DataFrame:
    """Those of the named columns that there are, their times as us; texts that no row has are not among them."""
    if isinstance(rows, pl.DataFrame):
        held = rows.select(name for name in names if name in rows.columns)
    else:
        there = [name for name in names if name in rows.column_names]
        empty = {name for name in there if name.endswith("_text") and rows.column(name).null_count == rows.num_rows}
        held = _polars(rows.select([name for name in there if name not in empty]))
    return held.with_columns(pl.col(name).cast(pl.Int64) for name in _TIMES if name in held.columns)


def _in_order(rows: pl.DataFrame, *times: str) -> pl.DataFrame:
    """Sorted by (symbol, these columns, provenance where it is among them); rows that are in order cost one look."""
    if _rising(rows, *times):
        return rows
    keys = ["symbol", *times, *(name for name in PROVENANCE if name in rows.columns)]
    return rows.sort(pl.col(key).cast(pl.String) if key in ("symbol", "session") else pl.col(key) for key in keys)


def _rising(rows: pl.DataFrame, *times: str) -> bool:
    """Whether symbols come in the order of their texts, each once, and these columns rise within each. Rows that tie in
    one column may come as they do: with nothing else to go by, sorting would not say more.
    """
    symbol = rows["symbol"]
    runs = (symbol if symbol.dtype == pl.String else symbol.to_physical()).rle().struct.unnest()
    lengths = runs["len"]
    if runs["value"].n_unique() < runs.height:
        return False
    starts = lengths.cum_sum() - lengths
    heads = symbol.gather(starts).cast(pl.String).to_list()
    if not all(before < after for before, after in itertools.pairwise(heads)):
        return False
    if len(times) == 1:
        column = rows[times[0]]
        return all(column.slice(*run).is_sorted() for run in zip(starts, lengths, strict=True))
    later = pl.lit(value=False)
    for time in reversed(times):
        before = pl.col(time).shift()
        later = (pl.col(time) > before) | ((pl.col(time) == before) & later)
    look = rows.select(later.fill_null(value=False).alias("later"))["later"]
    return int((~look).sum()) == int((~look.gather(starts)).sum())


def _counted(trades: Frame, begun: Mapping[str, int], width: int, span: Interval | None) -> pl.DataFrame:
    """The trades that bars count, in order, with their window."""
    rows = _needed(trades, _TRADED)
    rows = rows.with_columns(window_start=pl.col("ts_event") - pl.col("ts_event") % width)
    conditions = set(rows["condition"].unique().to_list())
    if not conditions <= set(COUNTED_CONDITIONS):
        rows = rows.filter(pl.col("condition").cast(pl.String).is_in([*COUNTED_CONDITIONS, "history"]))
    if span is not None:
        rows = rows.filter((pl.col("window_start") >= span.start) & (pl.col("window_start") < span.end))
    if "history" in conditions:
        since = pl.col("symbol").cast(pl.String).replace_strict(begun, default=None, return_dtype=pl.Int64)
        known = (pl.col("ts_event") >= since).fill_null(value=False)
        rows = rows.filter((pl.col("condition").cast(pl.String) != "history") | known)
    ids = ("first_id", "last_id") if "first_id" in rows.columns else ("seq", "seq")
    first, last = (pl.col(name) for name in ids)
    return _in_order(rows, "ts_event", "seq").with_columns(
        first.alias("first_id"),
        last.alias("last_id"),
        (last - first + 1).fill_null(1).alias("fills"),
        (pl.col("side") == "buy").fill_null(value=False).alias("buy"),
    )


def _with_quotes(bars: pl.DataFrame, quotes: Frame | None, width: int, origin: int = 0) -> pl.DataFrame:
    """Bars with the last quote inside each window; null columns where there is none."""
    if quotes is None:
        nulls = [pl.lit(None, dtype=pl.Float64).alias(name) for name in _QUOTE[:5]]
        return bars.with_columns(
            *nulls, pl.lit(None, dtype=pl.Int64).alias("ts_quote"), pl.lit(value=False).alias("ts_estimated")
        )
    rows = _needed(quotes, _QUOTED)
    rows = rows.with_columns(window_start=pl.col("ts_event") - (pl.col("ts_event") - origin) % width)
    ends = [pl.col(name).to_physical() for name in ("symbol", "window_start")]
    rows = _in_order(rows, "ts_event", "update_id")
    last = rows.filter(pl.any_horizontal(end.ne_missing(end.shift(-1)) for end in ends))
    last = last.with_columns(pl.col("symbol").cast(pl.String))
    last = last.with_columns(_spread(last).alias("spread"), ts_quote=pl.col("ts_event"))
    joined = bars.join(
        last.select("symbol", "window_start", *_QUOTE), on=["symbol", "window_start"], how="left", maintain_order="left"
    )
    return joined.with_columns(pl.col("ts_estimated").fill_null(value=False))


def _spread(rows: pl.DataFrame) -> pl.Series:
    """Ask - bid, exact and rounded once."""
    kept = {name: rows.get_column(f"{name}_text", default=None) for name in ("ask", "bid")}
    try:
        ask, bid = (scaled.from_table(rows[name], texts) for name, texts in kept.items())
        return scaled.to_table(scaled.narrow(scaled.difference(ask, bid)))[0]
    except scaled.Overflow:
        texts = [scaled.texts_of(rows[name], texts) for name, texts in kept.items()]
        exponent = max(scaled.exponent_of(column) for column in texts)
        asks, bids = (scaled.integers(column, exponent)[0] for column in texts)
        exact = [numbers.unscale(ask - bid, exponent) for ask, bid in zip(asks, bids, strict=True)]
        return pl.Series([float(text) for text in exact], dtype=pl.Float64)


def _disjoint(intervals: Intervals) -> pl.DataFrame:
    rows = [(symbol, i.start, i.end) for symbol in sorted(intervals) for i in union(intervals[symbol])]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "from": pl.Int64, "to": pl.Int64}, orient="row")


def _latest(bars: pl.DataFrame, at: pl.Expr, intervals: Intervals) -> pl.Series:
    """For each bar the end of the last interval that starts at or before `at`; null where none does."""
    left = bars.select("symbol", at.alias("at")).with_row_index("row").sort("at")
    right = _disjoint(intervals).sort("from")
    met = left.join_asof(right, left_on="at", right_on="from", by="symbol", strategy="backward", check_sortedness=False)
    return met.sort("row")["to"]


def _inside(bars: pl.DataFrame, coverage: Intervals, width: int) -> pl.Series:
    """Which windows coverage contains whole."""
    return (_latest(bars, pl.col("window_start"), coverage) >= bars["window_start"] + width).fill_null(value=False)


def _touched(bars: pl.DataFrame, gaps: Intervals, width: int) -> pl.Series:
    """Which windows overlap one of the intervals."""
    if everywhere := gaps.get(EVERY_SYMBOL):
        gaps = {symbol: [*gaps.get(symbol, ()), *everywhere] for symbol in bars["symbol"].unique()}
    return (_latest(bars, pl.col("window_start") + (width - 1), gaps) > bars["window_start"]).fill_null(value=False)


def _table(bars: pl.DataFrame) -> pa.Table:
    """Bars as a table in the schema of bars."""
    start = bars["window_start"]
    bars = bars.with_columns(
        vwap=pl.when(pl.col("volume_base") != 0).then(pl.col("volume_quote") / pl.col("volume_base")),
        ts_event=start,
        date=start.cast(pl.Datetime("us")).dt.date(),
        source=pl.lit("derived"),
    ).sort("symbol", "window_start")
    names = [name for name in tables.schema("bar_1m").names if name in bars.columns]
    return tables.conform(bars.select(names).to_arrow(compat_level=pl.CompatLevel.oldest()), "bar_1m")


def by_symbol(rows: Iterable[tuple[str, int, int]]) -> dict[str, list[Interval]]:
    """(symbol, from, to) rows as disjoint intervals a symbol: the form that `coverage` and `gaps` take."""
    held: dict[str, list[Interval]] = defaultdict(list)
    for symbol, start, end in rows:
        held[symbol].append(Interval(start, end))
    return {symbol: union(intervals) for symbol, intervals in held.items()}
