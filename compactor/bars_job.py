"""Final bars: 1s and 1m of one market and day, made again from its complete, deduplicated daily trades and quotes.

Where `lake.sources` says so, aggregated trades are meant by trades everywhere here.

Runs in a worker process. Trades and quotes go by in spans of whole minutes that are as long as memory allows, so no
day is ever held at once; 1m is folded from 1s, which equals 1m from trades bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from compactor import certificate
from compactor.jobs import FinalBars, HourBars, day_span
from compactor.merge_job import Made, Place, check_inputs, parents_of
from lake import bars, merge, parquet, sources, tables
from lake.bars import EVERY_SYMBOL
from lake.errors import VerifyFailed
from lake.publish import Placement, discard, publish
from lake.rows import CertificateRow, FileRow
from market import kinds, times
from market.session import Coverage, Gap
from market.times import Interval

SPAN_ROWS = 256 * 1024
_QUOTE_COLUMNS = (
    "exchange", "market_type", "symbol", "date", "ts_event", "ts_estimated", "ts_recv", "session", "frame_no", "item",
    "source", "bid", "bid_text", "bid_qty", "bid_qty_text", "ask", "ask_text", "ask_qty", "ask_qty_text", "update_id",
)  # fmt: skip


class Feed:
    """A daily file read forward: rows up to a time, as much as was asked for and no more."""

    def __init__(self, root: Path, file: FileRow | None, kind: str, columns: Sequence[str] | None) -> None:
        self.empty = tables.empty(kind) if columns is None else tables.empty(kind).select(list(columns))
        self._pieces: Iterator[pa.Table] = iter(()) if file is None else parquet.iterate(root / file.path, columns)
        self._held: list[pa.Table] = []
        self._rows = 0
        self.done = file is None

    def fill(self, rows: int) -> None:
        """Reads on until `rows` rows are held or the file ends."""
        while self._rows < rows and not self.done:
            piece = next(self._pieces, None)
            if piece is None:
                self.done = True
            elif piece.num_rows:
                self._held.append(piece)
                self._rows += piece.num_rows

    @property
    def held(self) -> int:
        """Rows in memory."""
        return self._rows

    @property
    def last(self) -> int:
        """The newest event time (us) in memory."""
        return int(self._held[-1].column("ts_event")[-1].value)

    def take(self, before: int) -> pa.Table:
        """Rows in memory whose event time is below `before` (us), taken out of it."""
        table = pa.concat_tables([self.empty, *self._held])
        inside = pc.sum(pc.less(table.column("ts_event").cast(pa.int64()), before)).as_py() or 0
        rest = table.slice(inside)
        self._held, self._rows = ([rest] if rest.num_rows else []), rest.num_rows
        return table.slice(0, inside)


def final_bars(
    place: Place,
    job: FinalBars,
    gaps: Sequence[Gap],
    coverage: Sequence[Coverage],
    begun: Mapping[str, int],
    told: Mapping[str, CertificateRow],
) -> Made:
    """Bars of every symbol whose trades, quotes or gaps changed since its bars were made.

    `gaps` are the market's open or unrepairable gaps and `coverage` its coverage rows that touch the day, of both kinds
    of trades; `begun` says since when symbols are collected (`lake.beginnings`), `told` are the certificates of the
    bars so far. Raises CorruptFile, VerifyFailed, StorageFailed.
    """
    root = place.path
    quotes = {row.symbol: row for row in job.quotes}
    held = {(row.kind, row.symbol): row for row in job.held}
    made = Made(remove=[row.path for row in job.hot])
    traded, untraded = ({row.symbol or "" for row in job.trades if row.kind == kind} for kind in sources.TRADES)
    gaps, coverage = sources.chosen(gaps, traded, untraded), sources.chosen(coverage, traded, untraded)
    dark = _intervals(gaps, day_span(job.date))
    light = bars.by_symbol([(row.symbol, row.ts_from, row.ts_to) for row in coverage])
    stale = {row.path for row in job.held if row.path in told and _told_otherwise(told[row.path], gaps, place.now)}
    try:
        for trades in job.trades:
            parents = [row for row in (trades, quotes.get(trades.symbol)) if row is not None]
            old = {kind: held.get((kind, trades.symbol)) for kind in kinds.BARS}
            kept = [row for row in old.values() if row is not None and row.path not in stale]
            if len(kept) == len(old) and all(set(row.parents) == {p.path for p in parents} for row in kept):
                continue
            check_inputs(root, parents)
            _one_symbol(place, job, parents, old, _only(light, trades.symbol), _only(dark, trades.symbol), begun, made)
    except BaseException:
        discard(root, made.add)
        raise
    _certify(place, made, gaps, coverage)
    return made


def _told_otherwise(row: CertificateRow, gaps: Sequence[Gap], now: int) -> bool:
    """Whether bars were made with other gaps than these: one that is closed without a row changes no file of trades."""
    mine = [gap for gap in gaps if gap.symbol in (row.symbol, EVERY_SYMBOL)]
    return certificate.retold(row, mine, now) is not None


def _only(intervals: Mapping[str, list[Interval]], symbol: str | None) -> dict[str, list[Interval]]:
    """What concerns one symbol: its own intervals, and those of every symbol."""
    held = [*intervals.get(symbol or "", []), *intervals.get(EVERY_SYMBOL, [])]
    return {symbol: times.union(held)} if symbol is not None and held else {}


def _intervals(gaps: Iterable[Gap], day: Interval) -> dict[str, list[Interval]]:
    """Open holes by symbol. One between two events of the same microsecond still touches the window that holds it."""
    rows = []
    for gap in gaps:
        end = day.end if gap.ts_to is None else gap.ts_to
        rows.append((gap.symbol, gap.ts_from, max(end, gap.ts_from + 1)))
    return bars.by_symbol(rows)


def _one_symbol(
    place: Place,
    job: FinalBars,
    parents: Sequence[FileRow],
    old: Mapping[str, FileRow | None],
    coverage: Mapping[str, Sequence[Interval]],
    gaps: Mapping[str, Sequence[Interval]],
    begun: Mapping[str, int],
    made: Made,
) -> None:
    trades = parents[0]
    quotes = parents[1] if len(parents) > 1 else None
    revision = 1 + max((row.revision for row in old.values() if row is not None), default=-1)
    seconds: list[pa.Table] = []
    minutes: list[pa.Table] = []
    for span, trade_rows, quote_rows in spans(place.path, trades, quotes, day_span(job.date)):
        asked = quote_rows if quotes is not None else None
        narrow = bars.bars_from_trades(
            trade_rows, asked, times.SECOND, coverage=coverage, begun=begun, gaps=gaps, span=span, revision=revision
        )
        seconds.append(narrow)
        minutes.append(bars.fold(narrow, times.MINUTE, quotes=asked, coverage=coverage, gaps=gaps))
    for kind, pieces in (("bar_1s", seconds), ("bar_1m", minutes)):
        before = old[kind]
        if sum(piece.num_rows for piece in pieces) == 0:  # no trade of that day counts
            made.remove += [before.path] if before is not None else []
            continue
        placement = Placement(
            kind=kind,
            exchange=job.exchange,
            market_type=job.market_type,
            level="day",
            date=job.date,
            symbol=trades.symbol,
            revision=revision,
            lake_id=place.lake_id,
            parents=parents_of(parents),
        )
        file = publish(place.path, placement, pieces, run=place.run, now=place.now)
        made.add.append(file)
        made.remove += [before.path] if before is not None else []
    _conserved(trades, seconds, minutes)


def _conserved(trades: FileRow, seconds: Sequence[pa.Table], minutes: Sequence[pa.Table]) -> None:
    """Raises VerifyFailed where bars count more trades than there are, or the two widths do not agree."""
    counts = [sum(pc.sum(t.column("trade_count")).as_py() or 0 for t in pieces) for pieces in (seconds, minutes)]
    too_many = trades.kind == sources.TRADE and counts[0] > trades.rows  # an aggregated trade counts as several
    if counts[0] != counts[1] or too_many:
        raise VerifyFailed(f"bars of {trades.path} count {counts[0]} (1s) and {counts[1]} (1m) of {trades.rows} trades")


def spans(
    root: Path, trades: FileRow, quotes: FileRow | None, day: Interval
) -> Iterator[tuple[Interval, pa.Table, pa.Table]]:
    """The day in spans of whole minutes with their trades and quotes, each span about SPAN_ROWS rows or one minute."""
    feeds = [Feed(root, trades, trades.kind, None), Feed(root, quotes, "quote", _QUOTE_COLUMNS)]
    start = day.start
    rows = SPAN_ROWS
    while start < day.end:
        for feed in feeds:
            feed.fill(rows)
        ends = [times.floor_to(feed.last, times.MINUTE) for feed in feeds if not feed.done]
        end = min([day.end, *ends])
        if end <= start:  # one minute holds more than that: read on until it is complete
            rows += SPAN_ROWS
            continue
        rows = SPAN_ROWS
        yield Interval(start, end), feeds[0].take(end), feeds[1].take(end)
        start = end


def hour_bars(
    place: Place, job: HourBars, gaps: Sequence[Gap], coverage: Sequence[Coverage], begun: Mapping[str, int]
) -> Made:
    """Provisional bars of one hour, all symbols, made again from its complete trades and quotes.

    `gaps`, `coverage` and `begun` as for `final_bars`. Raises CorruptFile, VerifyFailed, StorageFailed.
    """
    root = place.path
    check_inputs(root, job.inputs)
    start = day_span(job.date).start + job.hour * times.HOUR
    span = Interval(start, start + times.HOUR)
    traded, untraded = sources.traded(coverage, start), sources.untraded(coverage, start)
    gaps, coverage = sources.chosen(gaps, traded, untraded), sources.chosen(coverage, traded, untraded)
    dark = _intervals(gaps, day_span(job.date))
    light = bars.by_symbol([(row.symbol, row.ts_from, row.ts_to) for row in coverage])
    files = {row.kind: row for row in job.inputs}
    quotes = _last_quotes(root, files["quote"]) if "quote" in files else None
    found = {kind: parquet.iterate(root / files[kind].path) for kind in sources.TRADES if kind in files}
    made: dict[str, list[pa.Table]] = {kind: [] for kind in kinds.BARS}
    for trades in sources.by_symbols(found, traded, SPAN_ROWS):
        symbols = trades.column("symbol").unique().to_pylist()
        covered = {symbol: light[symbol] for symbol in symbols if symbol in light}
        holes = {symbol: held for name in symbols for symbol, held in _only(dark, name).items()}
        narrow = bars.bars_from_trades(
            trades, quotes, times.SECOND, coverage=covered, begun=begun, gaps=holes, span=span, revision=job.revision
        )
        made["bar_1s"].append(narrow)
        made["bar_1m"].append(bars.fold(narrow, times.MINUTE, quotes=quotes, coverage=covered, gaps=holes))
    result = Made(remove=[row.path for row in job.replaced])
    try:
        for kind, pieces in made.items():
            if any(piece.num_rows for piece in pieces):
                placement = Placement(
                    kind=kind,
                    exchange=job.exchange,
                    market_type=job.market_type,
                    level="hour",
                    date=job.date,
                    hour=job.hour,
                    revision=job.revision,
                    lake_id=place.lake_id,
                    parents=parents_of(job.inputs),
                )
                result.add.append(publish(root, placement, pieces, run=place.run, now=place.now))
    except BaseException:
        discard(root, result.add)
        raise
    return result


def _last_quotes(root: Path, file: FileRow) -> pl.DataFrame:
    """The last quote of each symbol and second: all that bars need of an hour of quotes."""
    second = pl.col("ts_event").dt.truncate("1s").alias("second")
    kept = [
        merge.plain_frame(piece).group_by("symbol", second, maintain_order=True).last()
        for piece in parquet.iterate(root / file.path, _QUOTE_COLUMNS)
    ]
    return pl.concat(kept).group_by("symbol", "second", maintain_order=True).last().drop("second")


def _certify(place: Place, made: Made, gaps: Sequence[Gap], coverage: Sequence[Coverage]) -> None:
    for file in made.add:
        measure = certificate.Measure(file.kind)
        for piece in parquet.iterate(place.path / file.path):
            measure.add(piece)
        inputs = [tables.Parent(p.path, p.sha256) for p in parquet.read_footer(place.path / file.path).parents]
        mine = [gap for gap in gaps if gap.symbol in (file.symbol, EVERY_SYMBOL)]
        covered = [row for row in coverage if row.symbol == file.symbol]
        made.certificates.append(certificate.certify(file, measure, mine, covered, inputs, 0, place.now))
