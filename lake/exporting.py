"""Days of a lake as files for other programs: CSV datasets of tardis.dev, or our own tables (CSV, Parquet, JSON Lines).

A file is of one day (of the venue's time, as in the lake), one symbol and one kind or data type. Rows are read a slice
at a time and written as they come; a file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import csv
import io
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lake import durable, sources, tables, tardis, tardis_books
from lake.arrivals import Arrived, Stream, by_arrival, in_order
from lake.asking import LAST
from lake.errors import WrongQuestion
from lake.layout import encode_name
from lake.reader import Lake
from lake.tardis import DataType
from market import times
from market.kinds import kind
from market.times import DAY, Interval, date_of

Format = Literal["tardis-csv", "csv", "parquet", "jsonl"]
FORMATS = get_args(Format)
_ENDINGS = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl"}
_PIECE = 1 << 20
_OWN_ROWS = 200_000
Namer = Callable[[str, str, str], str]
"""(exchange, market type, symbol) -> what tardis.dev calls that exchange."""


class Task(msgspec.Struct, frozen=True):
    """One file to make: `what` is a kind, or a data type of tardis.dev."""

    stream: Stream
    what: str
    day: Interval
    name: str
    venue: str = ""


class Exported(msgspec.Struct):
    """A file that was made: its rows, and what they say of those in the lake.

    `left_out` trades were none of the market, or updates of a book repeat what is known or join nothing; `unheard` rows
    were fetched long after they happened, so that their arrival is their own time; `disordered` ones stand behind rows
    that arrived later.
    """

    path: str
    what: str
    exchange: str
    market_type: str
    symbol: str
    date: str
    rows: int
    bytes: int
    left_out: int = 0
    unheard: int = 0
    disordered: int = 0


Writer = Callable[[Lake, Task, Exported, durable.AppendFile], None]
"""Puts the rows of a task into the file, and counts them."""


def data_types(names: list[str]) -> list[str]:
    """The names, known ones. Raises WrongQuestion."""
    for name in names:
        if tardis.data_type(name) is None:
            known = ", ".join((*tardis.DATA_TYPES, "book_snapshot_5", "book_snapshot_25"))
            raise WrongQuestion(
                f"{name} is no data type that is exported", f"use {known} (any book_snapshot_1 to _1000)"
            )
    return names


def plan(
    lake: Lake,
    form: Format,
    whats: list[str],
    exchange: str | None,
    market_type: str | None,
    symbols: list[str],
    span: Interval | None,
    namer: Namer,
) -> list[Task]:
    """The files of an export: every day, symbol and type of which something is stored.

    Raises WrongQuestion: nothing known by that name, two symbols of one file name.
    """
    made: dict[str, Task] = {}
    for what in whats:
        of = tardis.data_type(what) if form == "tardis-csv" else None
        kinds = sources.TRADES if of and of.kind == "trade" else (of.kind if of else what,)
        for stream, date in first_stored(lake, kinds, exchange, market_type, symbols, span):
            day = Interval(date, date + DAY) if span is None else Interval(date, date + DAY).clip(span)
            if day.empty:
                continue
            venue = namer(stream.exchange, stream.market_type, stream.symbol) if of else ""
            name = _name(stream, what, form, venue, date_of(date).isoformat())
            if name in made and made[name].stream != stream:
                raise WrongQuestion(f"{made[name].stream} and {stream} would both be {name}", "export one at a time")
            made[name] = Task(stream, what, day, name, venue)
    return list(made.values())


def _name(stream: Stream, what: str, form: Format, venue: str, date: str) -> str:
    if form == "tardis-csv":
        return tardis.file_name(venue, what, date, stream.symbol)
    parts = (stream.exchange, stream.market_type, what, date, encode_name(stream.symbol))
    return f"{'_'.join(parts)}.{_ENDINGS[form]}"


def first_stored(
    lake: Lake,
    kinds: Sequence[str],
    exchange: str | None,
    market_type: str | None,
    symbols: Collection[str] = (),
    span: Interval | None = None,
) -> Iterator[tuple[Stream, int]]:
    """Streams and days of the first of some kinds that a symbol has on a day: trades, or else aggregated ones."""
    seen: set[tuple[str, str, str, int]] = set()
    for name in kinds:
        found = [
            (stream, day)
            for stream, day in stored(lake, name, exchange, market_type, symbols, span)
            if (*stream[1:], day) not in seen
        ]
        seen |= {(*stream[1:], day) for stream, day in found}
        yield from found


def stored(
    lake: Lake,
    name: str,
    exchange: str | None,
    market_type: str | None,
    symbols: Collection[str] = (),
    span: Interval | None = None,
) -> Iterator[tuple[Stream, int]]:
    """Streams and days (us) of a kind, of all symbols where none is named. Files of all are asked which they hold."""
    dates = (None, None) if span is None else (_date(span.start), _date(span.end - 1))
    files = lake.manifest.files(
        kind(name).name, exchange=exchange, market_type=market_type, date_from=dates[0], date_to=dates[1]
    )
    found: dict[tuple[str, str, str], set[str]] = {}
    for file in files:
        day = found.setdefault((file.exchange, file.market_type, file.date), set())
        if file.symbol is not None:
            day.add(file.symbol)
    for (venue, market, date), held in sorted(found.items(), key=lambda item: item[0]):
        start = times.parse(date)
        rest = any(f.symbol is None and (f.exchange, f.market_type, f.date) == (venue, market, date) for f in files)
        if rest:
            rows = lake.scan(
                name, exchange=venue, market_type=market, start=start, end=start + DAY, across_listings=True
            )
            held |= set(rows.select(pl.col("symbol").cast(pl.String).unique()).collect().to_series())
        for symbol in sorted(held):
            if not symbols or symbol in symbols:
                yield Stream(name, venue, market, symbol), start


def _date(time: int) -> str | None:
    return date_of(time).isoformat() if 0 <= time < LAST else None


def export(lake: Lake, task: Task, form: Format, folder: Path) -> Exported:
    """Make one file in `folder`, which is made where it is missing; one of that name gives way when it is whole.

    Raises WrongQuestion (levels in CSV), StorageFailed, CorruptFile.
    """
    return written(lake, task, _WRITERS[form], folder)


def written(lake: Lake, task: Task, write: Writer, folder: Path) -> Exported:
    """`export` by another writer of rows. Raises StorageFailed, CorruptFile, what `write` raises."""
    target = folder / task.name
    durable.make_dirs(target.parent)
    temp = durable.temp_path(target, "export")
    durable.unlink(temp)
    made = Exported(
        path=str(target), what=task.what, exchange=task.stream.exchange, market_type=task.stream.market_type,
        symbol=task.stream.symbol, date=date_of(task.day.start).isoformat(), rows=0, bytes=0,
    )  # fmt: skip
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(durable.unlink, temp)
        with durable.AppendFile(temp) as file:
            write(lake, task, made, file)
            file.sync()
            made.bytes = file.size
        durable.rename(temp, target, replace=True)
        on_failure.pop_all()
    return made


# --- tardis.dev ---


class _Gzip:
    """A gz file without a time in it, so that equal rows make equal bytes."""

    def __init__(self, file: durable.AppendFile) -> None:
        self._file = file
        self._zlib = zlib.compressobj(6, zlib.DEFLATED, 31)
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._held.append(self._zlib.compress(data))
        self._size += len(self._held[-1])
        if self._size > _PIECE:
            self._flush()

    def close(self) -> None:
        self._held.append(self._zlib.flush())
        self._flush()

    def _flush(self) -> None:
        data, self._held, self._size = b"".join(self._held), [], 0
        if data:
            self._file.write(data)


def _tardis(lake: Lake, task: Task, made: Exported, file: durable.AppendFile) -> None:
    of = tardis.data_type(task.what)
    assert of is not None
    out = _Gzip(file)
    out.write(tardis.header_line(of))
    if of.kind == "book_delta":
        _book(lake, task, of, made, out)
    else:
        for frame in tardis_rows(lake, of, task.stream, task.venue, task.day, made):
            made.rows += frame.height
            out.write(tardis.csv_lines(frame))
    out.close()


def tardis_rows(
    lake: Lake,
    of: DataType,
    stream: Stream,
    venue: str,
    span: Interval,
    made: Exported | None = None,
    slice_rows: int | None = None,
) -> Iterator[pl.DataFrame]:
    """Rows of a data type, books apart, in order of arrival, `slice_rows` or so at a time."""
    found = _arrived(lake, of, stream, venue, span, made, slice_rows)
    if of.name == "derivative_ticker":
        return _with_interest(lake, stream, venue, span, found, slice_rows)
    return found


def _arrived(
    lake: Lake, of: DataType, stream: Stream, venue: str, span: Interval, made: Exported | None, slice_rows: int | None
) -> Iterator[pl.DataFrame]:
    counts = Arrived()
    given = 0
    for rows in by_arrival(lake, stream, span, counts, slice_rows):
        frame = tardis.columns(of, venue, rows)
        given += frame.height
        if frame.height:
            yield frame
    if made is not None:
        made.left_out, made.unheard, made.disordered = counts.rows - given, counts.unheard, counts.disordered


def _with_interest(
    lake: Lake, stream: Stream, venue: str, span: Interval, marks: Iterator[pl.DataFrame], slice_rows: int | None = None
) -> Iterator[pl.DataFrame]:
    """Marks, with the open interest that was polled among them, and beside those behind it."""
    polled = (
        tardis.open_interest(venue, rows.filter(pl.col("period").is_null()))
        for rows in by_arrival(lake, stream._replace(kind="open_interest"), span, None, slice_rows)
    )
    held = next(polled, None)
    newest: str | None = None
    for frame in marks:
        upto = int(frame.get_column("local_timestamp")[-1])
        while held is not None and (not held.height or held.get_column("local_timestamp")[-1] <= upto):
            following = next(polled, None)
            if following is None:
                break
            held = pl.concat([held, following])
        if held is None:
            yield frame
            continue
        both, held = tardis.joined(frame, held, upto, newest)
        newest = both.get_column("open_interest")[-1]
        yield both
    yield from (rest for rest in ([] if held is None else [held]) if rest.height)
    yield from (rest for rest in polled if rest.height)


def _book(lake: Lake, task: Task, of: DataType, made: Exported, out: _Gzip) -> None:
    counts = tardis_books.Counts()
    venue, symbol = _cell(task.venue), _cell(task.stream.symbol)
    top = tardis_books.Top(of.depth)
    held: list[str] = []
    before: tardis_books.Change | None = None
    for change in tardis_books.changes(lake, task.stream, task.day, counts):
        if not of.depth:
            told = change
            if before is not None and before.snapshot and change.snapshot:
                told = tardis_books.difference(before, change)  # where a second one follows, nobody clears the first
            held.append(tardis_books.change_lines(venue, symbol, told))
            made.rows += len(told.bids) + len(told.asks)
            before = change
        elif top.take(change):
            held.append(tardis_books.top_line(venue, symbol, change, top, of.depth))
            made.rows += 1
        if len(held) >= tardis_books.PIECE_ROWS:
            out.write("".join(held).encode())
            held.clear()
    out.write("".join(held).encode())
    made.left_out = max(0, counts.rows - counts.given)


def _cell(text: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["'" + text if text[:1] in "=+-@\t\r" else text])
    return line.getvalue()


# --- our own tables ---


def _own(lake: Lake, task: Task) -> Iterator[pa.Table]:
    return in_order(lake, task.stream, task.day, None, _OWN_ROWS if not _nested(task.what) else tardis_books.PIECE_ROWS)


def _nested(name: str) -> bool:
    return bool(tables.level_columns(name))


def _csv(lake: Lake, task: Task, made: Exported, file: durable.AppendFile) -> None:
    if _nested(task.what):
        raise WrongQuestion(f"{task.what} has levels, which no CSV of ours can hold", "use parquet or jsonl")
    for table in _own(lake, task):
        frame = pl.DataFrame(table)
        file.write(frame.write_csv(include_header=not made.rows).encode())
        made.rows += frame.height
    if not made.rows:
        file.write(pl.DataFrame(tables.empty(task.what)).write_csv().encode())


def _jsonl(lake: Lake, task: Task, made: Exported, file: durable.AppendFile) -> None:
    for table in _own(lake, task):
        file.write(msgspec.json.Encoder().encode_lines(table.to_pylist()))
        made.rows += table.num_rows


def _parquet(lake: Lake, task: Task, made: Exported, file: durable.AppendFile) -> None:
    writer: Any = None
    for table in _own(lake, task):
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table.cast(writer.schema))
        made.rows += table.num_rows
    if writer is None:
        writer = pq.ParquetWriter(file, tables.schema(task.what), compression="zstd")
    writer.close()


_WRITERS: dict[str, Writer] = {
    "tardis-csv": _tardis, "csv": _csv, "jsonl": _jsonl, "parquet": _parquet,
}  # fmt: skip
