"""The transformer's work in a worker process: segments into hot parts, hot parts into bars.

Functions of picklable arguments and results. They publish up to the durable name; whoever commits makes the rows
live. What is wrong with one segment is part of the result, never the end of the others.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import functools
import hashlib
import itertools
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import bars, durable, extents, identity, latency, layout, merge, parquet, sources, tables
from lake.checks import DUPLICATE, SEAL, Finding, check_table
from lake.clock_files import Latencies
from lake.errors import CorruptSegment, VerifyFailed
from lake.publish import Placement, discard, publish
from lake.rising import symbol_runs
from lake.rows import CheckRow, FileRow, QuarantineRow, SegmentRow
from market import times
from market.session import Gap
from market.times import HOUR, MINUTE, SECOND, Interval
from transformer.doubtful import gaps_of_altered
from transformer.ordering import ordered
from transformer.plan import BarJob, TransformJob
from transformer.reader import Read, read_segments

_TRADE_COLUMNS = ("exchange", "market_type", "symbol", "ts_event", "ts_recv", "session", "frame_no", "item",
                  "source", "seq", "condition", "side", "qty_unit", "price", "price_text", "qty", "qty_text",
                  "multiplier", "multiplier_text")  # fmt: skip
_COUNTED = {sources.TRADE: _TRADE_COLUMNS, sources.AGG_TRADE: (*_TRADE_COLUMNS, "first_id", "last_id")}
_QUOTE_COLUMNS = ("symbol", "ts_event", "ts_estimated", "session", "frame_no", "item", "update_id", "bid", "bid_text",
                  "ask", "ask_text", "bid_qty", "ask_qty")  # fmt: skip
_ROWS_AT_ONCE = 64 * 1024
"""Trades that are made into bars together, and more where one second of a symbol has more."""
_PIECE_ROWS = 16 * 1024
"""Rows of one part that are read at once for bars: all parts of an hour are read side by side."""
_SYMBOL = re.compile(rb'"symbol"\s*:\s*"((?:[^"\\]|\\.){1,200})"')


class TransformResult(msgspec.Struct, kw_only=True):
    """What became of a job's segments. Law: lines = rows + duplicates + quarantined lines.

    `failed`: segments that could not be read, with the reason; they are in none of the files.
    """

    files: tuple[FileRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    quarantine: tuple[QuarantineRow, ...] = ()
    gaps: tuple[Gap, ...] = ()
    latencies: tuple[Latencies, ...] = ()
    failed: dict[str, str] = {}
    lines: int = 0
    rows: int = 0
    duplicates: int = 0
    fast: int = 0
    """Segments that took the fast path."""


class BarResult(msgspec.Struct, kw_only=True):
    """Published bars; `rows` and `symbols` count those of one minute."""

    files: tuple[FileRow, ...] = ()
    rows: int = 0
    symbols: int = 0


def run_transform(root: str, job: TransformJob) -> TransformResult:
    """Reads the job's segments and publishes their rows as one part for each hour of event time.

    Raises StorageFailed, and VerifyFailed for what is a defect of ours.
    """
    base = Path(root)
    result = TransformResult()
    read: list[tuple[SegmentRow, Read]] = []
    for row, found in read_segments(base, job.segments):
        if isinstance(found, CorruptSegment):
            result.failed[row.path] = str(found)
        else:
            read.append((row, found))
    quarantined = [_set_aside(base, row, found, job.now) for row, found in read if found.bad]
    altered = [(row, found) for row, found in read if found.altered]
    result.quarantine = tuple(quarantined)
    result.gaps = tuple(gap for row, found in altered for gap in _gaps(row, found, job.now))
    result.latencies = tuple(_latencies(row, found.table) for row, found in read if found.table.num_rows)
    result.lines = sum(found.lines for _, found in read)
    result.fast = sum(found.fast for _, found in read)
    checks = [
        CheckRow(path=row.path, check=SEAL, symbol=bars.EVERY_SYMBOL, count=1, detail=found.altered or "")
        for row, found in altered
    ]
    parents = tuple(tables.Parent(row.path, row.sha256) for row, found in read if found.table.num_rows)
    made = [found.table for _, found in read]
    del read, altered  # what is in `made` is not held twice
    table, doubled = ordered(job.kind, made)
    _give_back()
    result.rows, result.duplicates = table.num_rows, doubled.total()
    files: list[FileRow] = []
    parts = deque(_hours(table))
    del table  # each part is let go of as it is written
    with _all_or_none(base, files):
        while parts:
            file, more = _next_part(base, job, parts, parents, doubled)
            files.append(file)
            checks += more
        accounted = sum(file.rows for file in files) + result.duplicates + sum(row.count for row in quarantined)
        if accounted != result.lines:
            raise VerifyFailed(f"{job.name}: {result.lines} lines, but {accounted} in parts, in quarantine or repeated")
    result.files, result.checks = tuple(files), tuple(checks)
    return result


@contextlib.contextmanager
def _all_or_none(root: Path, files: list[FileRow]) -> Iterator[None]:
    """What was published before a failure goes: nobody is told of it, and the next attempt may make other files."""
    try:
        yield
    except BaseException:
        discard(root, files)
        raise


def _next_part(
    root: Path,
    job: TransformJob,
    parts: deque[tuple[int, pa.Table]],
    parents: tuple[tables.Parent, ...],
    doubled: Counter[str],
) -> tuple[FileRow, list[CheckRow]]:
    """Publishes the first of `parts`, and takes its rows left out from `doubled`. What is written is read back without
    its rows being held beside it.
    """
    hour, part = parts.popleft()
    placement = _placement(job, job.kind, hour, parents, _late(part, job))
    findings = list(check_table(part, job.kind))
    # beside the rows that stayed: a day is told what was left out of its own symbols
    present = set(part.column("symbol").unique().to_pylist()) if doubled else set()
    rows = [part]
    del part
    file = publish(root, placement, _given(rows), run=job.run, now=job.now)
    checks = list(_findings(file.path, findings))
    checks += [
        CheckRow(path=file.path, check=DUPLICATE, symbol=symbol, count=doubled.pop(symbol))
        for symbol in sorted(present & doubled.keys())
    ]
    return file, checks


def _given(held: list[pa.Table]) -> Iterator[pa.Table]:
    """The tables, which are not held here any more."""
    while held:
        yield held.pop(0)


def _latencies(row: SegmentRow, table: pa.Table) -> Latencies:
    """What the rows of one segment tell: the same whenever it is transformed, whatever with."""
    minutes = tuple(latency.of_table(table))
    return Latencies(
        segment=row.path, exchange=row.exchange, market_type=row.market_type, kind=row.kind, minutes=minutes
    )


def _findings(path: str, findings: Iterable[Finding]) -> Iterator[CheckRow]:
    """One row a check, whatever the number of symbols: a part lives for minutes, and there are many of them."""
    for check, found in itertools.groupby(findings, key=lambda finding: finding.check):
        held = list(found)
        yield CheckRow(
            path=path,
            check=check,
            symbol=held[0].symbol if len(held) == 1 else bars.EVERY_SYMBOL,
            count=sum(finding.count for finding in held),
            detail=f"{held[0].symbol} {held[0].detail}",
        )


def _placement(
    job: TransformJob | BarJob, kind: str, hour: int, parents: tuple[tables.Parent, ...], late: int = 0
) -> Placement:
    return Placement(
        kind=kind,
        exchange=job.exchange,
        market_type=job.market_type,
        level="part",
        date=times.date_of(hour).isoformat(),
        hour=hour % times.DAY // HOUR,
        lake_id=job.lake_id,
        parents=parents,
        late=late,
    )


def _hours(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each hour of event time, by the hour's start (us); order inside is kept."""
    if not table.num_rows:
        return
    stamps = _times(table)
    hours = stamps - stamps % HOUR
    found = hours.unique().sort()
    for hour in found:
        yield hour, table if found.len() == 1 else table.filter((hours == hour).to_arrow())


def _times(table: pa.Table) -> pl.Series:
    made = pl.from_arrow(table.column("ts_event"))
    assert isinstance(made, pl.Series)
    return made.to_physical()


def _late(part: pa.Table, job: TransformJob) -> int:
    if job.bars_until is None or job.kind not in sources.INPUTS:
        return 0
    return int((_times(part) < job.bars_until).sum())


class _SetAside(msgspec.Struct, omit_defaults=True):
    """One line of a quarantine file."""

    number: int
    offset: int
    reason: str
    line: str | None = None
    line_b64: str | None = None


def _set_aside(root: Path, row: SegmentRow, read: Read, now: int) -> QuarantineRow:
    """Writes a segment's bad lines with their place and reason; the same lines are always the same file."""
    lines = []
    for bad in read.bad:
        try:
            held = _SetAside(bad.number, bad.offset, bad.reason, line=bad.line.decode())
        except UnicodeDecodeError:
            held = _SetAside(bad.number, bad.offset, bad.reason, line_b64=base64.b64encode(bad.line).decode())
        lines.append(held)
    data = msgspec.json.Encoder().encode_lines(lines)
    path = layout.quarantine_path(row.path, f"lines-{hashlib.sha256(data).hexdigest()[:8]}")
    durable.make_dirs((root / path).parent)
    durable.write_file(root / path, data)
    first = read.bad[0]
    more = f" (and {len(read.bad) - 1} more lines)" if len(read.bad) > 1 else ""
    return QuarantineRow(
        path=path,
        origin=row.path,
        reason=f"line {first.number}: {first.reason}"[:300] + more,
        count=len(read.bad),
        bytes=sum(len(bad.line) for bad in read.bad),
        at=now,
    )


def _gaps(row: SegmentRow, read: Read, now: int) -> Iterator[Gap]:
    """Of the symbols that an altered segment still has lines of."""
    symbols = set(read.table.column("symbol").unique().to_pylist()) or {bars.EVERY_SYMBOL}
    return gaps_of_altered(row, symbols, read.altered or "", now)


def run_autopsy(root: str, row: SegmentRow) -> list[str]:
    """The symbols that a segment which cannot be transformed seems to hold, as far as its bytes tell."""
    try:
        data = (Path(root) / row.path).read_bytes()
    except OSError:
        return []
    found: set[str] = set()
    for raw in {match[1] for match in _SYMBOL.finditer(data)}:
        try:
            found.add(msgspec.json.decode(b'"' + raw + b'"', type=str))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return sorted(found)


def run_bars(root: str, job: BarJob) -> BarResult:
    """Makes the job's bars of one second and one minute and publishes a part of each.

    Raises CorruptFile where an input is not what the manifest says, StorageFailed.
    """
    base = Path(root)
    for row in (*job.trades, *job.quotes):
        parquet.check_sha256(base / row.path, row.sha256)
    span = Interval(job.start, job.end)
    _give_back()
    quotes = _last_quotes(base, job, span)
    symbols = _Symbols(quotes)
    seconds: list[pa.Table] = []
    for trades in _trades(base, job, span):
        _give_back()
        seconds.append(
            bars.bars_from_trades(
                trades, symbols.of(trades), SECOND,
                coverage=job.coverage, begun=job.begun, gaps=job.gaps, span=span, lateness=job.lateness,
            )
        )  # fmt: skip
        del trades  # not held beside the next symbols' ones
    made = pa.concat_tables(seconds) if seconds else tables.empty("bar_1s")
    if not made.num_rows:
        return BarResult()
    minutes = bars.fold(made, MINUTE, quotes=quotes, coverage=job.coverage, gaps=job.gaps)
    parents = tuple(tables.Parent(row.path, row.sha256) for row in (*job.trades, *job.quotes))
    hour = times.floor_to(job.start, HOUR)
    files: list[FileRow] = []
    with _all_or_none(base, files):
        for kind, table in (("bar_1s", made), ("bar_1m", minutes)):
            files.append(publish(base, _placement(job, kind, hour, parents), [table], run=job.run, now=job.now))
    count = len(minutes.column("symbol").unique())
    return BarResult(files=tuple(files), rows=minutes.num_rows, symbols=count)


def _give_back() -> None:
    """What one stage has freed is not kept for the next, which needs pieces of other sizes."""
    pa.default_memory_pool().release_unused()


def _merged(root: Path, kind: str, files: Sequence[FileRow], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of some hot files in order and without duplicates."""
    rows = min(_PIECE_ROWS, merge.piece_rows(len(files)))
    needed = list(dict.fromkeys((*columns, *tables.sort_columns(kind), *identity.columns(kind))))

    def source(path: Path, look: extents.Look, wanted: Sequence[str] | None) -> Iterator[pa.Table]:
        return extents.iterate(path, kind, look, rows, needed if wanted is None else wanted)

    paths = [(root / row.path, row.bytes) for row in files]
    held = [functools.partial(source, path, extents.look(path, kind, size)) for path, size in paths]
    return merge.merge(kind, held, merge.Merged())


def _in_span(table: pa.Table, span: Interval) -> pa.Table:
    ends = pc.min_max(table.column("ts_event"))
    if span.start <= ends["min"].value and ends["max"].value < span.end:
        return table
    return table.filter(_times(table).is_between(span.start, span.end, closed="left").to_arrow())


def _trades(root: Path, job: BarJob, span: Interval) -> Iterator[pa.Table]:
    """The trades of the span, in the order of symbols and time, in tables of moderate size that part no second."""

    def found(kind: str) -> Iterator[pa.Table]:
        files = [row for row in job.trades if row.kind == kind]
        return (_in_span(piece, span) for piece in _merged(root, kind, files, _COUNTED[kind]))

    return sources.by_symbols({kind: found(kind) for kind in sources.TRADES}, job.traded, _ROWS_AT_ONCE, SECOND)


def _last_quotes(root: Path, job: BarJob, span: Interval) -> pa.Table | None:
    """The last quote of each symbol and second: all that bars need of them. None where there are none."""
    pieces = _merged(root, "quote", job.quotes, _QUOTE_COLUMNS) if job.quotes else ()
    kept = [_last_of_seconds(_in_span(piece.select(list(_QUOTE_COLUMNS)), span)) for piece in pieces]
    return _last_of_seconds(merge.joined(kept)) if kept else None


class _Symbols:
    """A sorted table, or none, of which rows are wanted symbol by symbol."""

    def __init__(self, table: pa.Table | None) -> None:
        self._table = table
        self._names: list[str] = []
        self._starts = [0]
        if table is not None and table.num_rows:
            (batch,) = table.select(["symbol"]).combine_chunks().to_batches()
            self._names, self._starts, ends = symbol_runs(batch)
            self._starts.append(ends[-1])

    def of(self, other: pa.Table) -> pa.Table | None:
        """The rows of the symbols that another sorted table reaches over; None where there is no table."""
        if self._table is None:
            return None
        first, last = (other.column("symbol")[place].as_py() for place in (0, -1))
        low, high = bisect.bisect_left(self._names, first), bisect.bisect_right(self._names, last)
        return self._table.slice(self._starts[low], self._starts[high] - self._starts[low])


def _last_of_seconds(table: pa.Table) -> pa.Table:
    """The last row of each symbol and second of a sorted table."""
    symbols = pl.Series(pl.from_arrow(table.column("symbol").unify_dictionaries().combine_chunks().indices))
    frame = pl.DataFrame({"symbol": symbols, "second": _times(table) // SECOND})
    last = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(-1)) for name in frame.columns)
    return table.filter(frame.select(last).to_series().to_arrow())
