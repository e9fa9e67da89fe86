"""Parquet files of the lake: written as a stream of row groups, read back in pieces, verified page by page.

Only pyarrow verifies page checksums, so everything that must not read a flipped bit reads through here. No checksum is
of the footer, and one flipped bit there can end the whole process (pyarrow throws where nothing catches): what a
manifest names is hashed before it is read (`lake.reading.check`, `check_sha256`). Files are never memory-mapped:
Windows could not rename or unlink them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from lake import readback, refused, scaled, splicing, tables
from lake.errors import CorruptFile, MissingFile, VerifyFailed
from lake.merge import Key, duplicates, row_key
from lake.rising import Rising, symbol_runs
from lake.row_groups import regroup
from lake.sortedness import unsorted
from market import kinds

BROKEN = (OSError, pa.ArrowException, UnicodeDecodeError)  # of bytes that are no Parquet; the last of columns' names
_LOCAL = LocalFileSystem(use_mmap=False)
"""Given with each path, so that none is looked at twice, or taken for a URI."""
_PIECE_ROWS = 64 * 1024
_VERIFIED_ROWS = 2 * _PIECE_ROWS  # most parts have no more: their checks are asked once
_LEVELS_A_ROW = 4
"""So many book levels weigh as much as the other columns of a row."""


class Sink(Protocol):
    """What a file is written to: a binary file object, or `lake.durable.AppendFile`."""

    @property
    def closed(self) -> bool: ...
    def write(self, data: bytes, /) -> int: ...
    def tell(self) -> int: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Buffered:
    """A Sink that hands on what it is given in pieces of BUFFER bytes: Parquet writes hundreds of tiny ones a file.

    `flush` and `close` hand on the rest; the sink below is left open.
    """

    BUFFER = 1024 * 1024

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held = bytearray()
        self._size = sink.tell()
        self.closed = False

    def write(self, data: bytes, /) -> int:
        self._held += data
        self._size += len(data)
        if len(self._held) >= self.BUFFER:
            self.flush()
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        if self._held:
            self._sink.write(bytes(self._held))
            self._held.clear()

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self.closed = True


class Stats(msgspec.Struct):
    """What went into a file: times in us of `ts_event`, ids of the kind's `seq`, digits in use, inexact texts.

    `estimated` counts rows whose time the venue did not give.
    """

    rows: int = 0
    estimated: int = 0
    ts_min: int | None = None
    ts_max: int | None = None
    seq_min: int | None = None
    seq_max: int | None = None
    symbols: set[str] = msgspec.field(default_factory=set)
    decimals: dict[str, int] = {}
    inexact: dict[str, int] = {}

    def add(self, table: pa.Table, kind: str) -> None:
        """Counts one more table of the file."""
        self.count(table, kind)
        self.estimated += int(pc.sum(table.column("ts_estimated")).as_py() or 0)
        for batch in table.select(["symbol"]).to_batches():
            self.symbols.update(symbol_runs(batch)[0])
        decimals = ((n, table.column(n), table.column(tables.text_name(n))) for n in tables.decimal_columns(kind))
        for name, floats, texts in (*decimals, *tables.flat_levels(table, kind)):
            filled = len(texts) - texts.null_count
            if filled:
                self.inexact[name] = self.inexact.get(name, 0) + filled
            self.decimals[name] = max(self.decimals.get(name, 0), _decimals(floats, texts))

    def count(self, table: pa.Table, kind: str) -> None:
        """Counts rows and bounds only."""
        self.rows += table.num_rows
        low, high = _bounds(table.column("ts_event"))
        self.ts_min, self.ts_max = _least(self.ts_min, low), _most(self.ts_max, high)
        seq = kinds.kind(kind).seq
        if seq is not None:
            low, high = _bounds(table.column(seq))
            self.seq_min, self.seq_max = _least(self.seq_min, low), _most(self.seq_max, high)


def _decimals(floats: pa.ChunkedArray, texts: pa.ChunkedArray) -> int:
    values = _series(floats)
    if values.null_count() == values.len():
        return 0
    if values[0] is not None and values[0] == values[-1] and (values == values[0]).all():  # a multiplier mostly is
        floats, texts = floats.slice(0, 1), texts if texts.null_count < len(texts) else texts.slice(0, 1)
        values = values.head(len(texts))
    spelt = _series(texts) if texts.null_count < len(texts) else None
    if spelt is None and scaled.single(values):
        values = values.head(1)
    whole = scaled.whole_floats(values) if spelt is None else None
    try:
        return (whole or scaled.from_table(values, spelt)).exponent
    except scaled.Overflow:
        return scaled.exponent_of(scaled.texts_of(values, spelt))


def _series(column: pa.ChunkedArray) -> pl.Series:
    return pl.Series(pl.from_arrow(column))


def _bounds(column: pa.ChunkedArray) -> tuple[int | None, int | None]:
    ends = pc.min_max(column)
    low, high = (one.value if isinstance(one, pa.TimestampScalar) else one.as_py() for one in ends.values())
    return low, high


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _most(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def write(
    sink: Sink,
    kind: str,
    batches: Iterable[pa.Table],
    footer: Callable[[Stats], tables.Footer | None],
    *,
    lasting: bool = True,
) -> Stats:
    """Writes tables of `schema(kind)`, already in order, as row groups of ROW_GROUP_ROWS and ROW_GROUP_LEVELS at most.

    Holds one row group in memory. `footer` is asked once all rows are known; where it answers None the file gets no
    footer. `lasting` are daily files (`tables.parquet_options`). The sink is left open. Raises VerifyFailed where a
    table is not of the kind's schema.
    """
    stats = Stats()
    wanted = tables.schema(kind)
    buffered = Buffered(sink)
    groups = regroup(batches, tables.ROW_GROUP_ROWS, tables.ROW_GROUP_LEVELS)
    group = next(groups, None)
    with _writer(kind, group)(buffered, wanted, **tables.parquet_options(kind, lasting=lasting)) as writer:
        while group is not None:
            if not group.schema.equals(wanted):
                raise VerifyFailed(f"a table of {kind} does not have the kind's schema")
            tables.check_required(group, kind)
            stats.add(group, kind)
            # one dictionary a column chunk: with several the writer falls back to plain values
            writer.write_table(group.unify_dictionaries())
            group = next(groups, None)
        made = footer(stats)
        if made is not None:
            writer.add_key_value_metadata(tables.encode_footer(made))
    buffered.flush()
    return stats


def _writer(kind: str, first: pa.Table | None) -> type[pq.ParquetWriter | splicing.Writer]:
    """Who writes a file: another row group can follow one that is full."""
    several = first is not None and len(first) == tables.ROW_GROUP_ROWS
    return splicing.Writer if several and not tables.level_columns(kind) else pq.ParquetWriter


def open_file(path: Path) -> pq.ParquetFile:
    """The file, with every page's checksum verified as it is read. Raises CorruptFile where it is no Parquet."""
    try:
        return pq.ParquetFile(path, filesystem=_LOCAL, page_checksum_verification=True, pre_buffer=False)
    except FileNotFoundError as error:
        raise MissingFile(f"{path} is missing", "run: dl verify") from error
    except BROKEN as error:
        fix = refused.cure(error, "run: dl verify")
        raise CorruptFile(f"{path} is not a readable Parquet file: {error}", fix) from error


def read_footer(path: Path) -> tables.Footer:
    """What the file says about itself. Raises CorruptFile, UnknownVersion."""
    with open_file(path) as file:
        return tables.decode_footer(file.metadata.metadata, path.name)


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The whole file, or some columns of it, with checksums verified. Raises CorruptFile."""
    with open_file(path) as file:
        try:
            # one thread: handing columns around costs more than small ones, and the other cores have work
            return file.read(columns=None if columns is None else list(columns), use_threads=False)
        except BROKEN as error:
            raise CorruptFile(f"{path} cannot be read: {error}", "run: dl verify") from error


def iterate(
    path: Path,
    columns: Sequence[str] | None = None,
    rows: int = _PIECE_ROWS,
    symbols: frozenset[str] | None = None,
    between: tuple[int, int] | None = None,
) -> Iterator[pa.Table]:
    """The file in pieces of at most `rows` rows, checksums verified; of fewer where they hold many book levels.

    With `symbols`, row groups whose statistics hold none of them are not read, with `between` (us, both included) those
    whose event times lie outside; pieces may still hold others. Raises CorruptFile.
    """
    with open_file(path) as file:
        groups = [group for group in _groups(file, symbols) if between is None or _touches(file, group, *between)]
        try:
            wanted = None if columns is None else list(columns)
            for batch in file.iter_batches(
                _lighter(file, columns, rows), row_groups=groups, columns=wanted, use_threads=False
            ):
                yield pa.Table.from_batches([batch])
        except BROKEN as error:
            raise CorruptFile(f"{path} cannot be read: {error}", "run: dl verify") from error


def _lighter(file: pq.ParquetFile, columns: Sequence[str] | None, rows: int) -> int:
    """So many rows of this file as weigh what `rows` rows without book levels weigh."""
    held = file.metadata
    fields = [field for field in file.schema_arrow if columns is None or field.name in columns]
    if not held.num_rows or not any(field.type == tables.LEVELS for field in fields):
        return rows
    paths = [file.schema.column(place).path for place in range(held.num_columns)]
    prices = [place for place, path in enumerate(paths) if path.endswith(".price") and "_text" not in path]
    levels: int = sum(held.row_group(g).column(p).num_values for g in range(held.num_row_groups) for p in prices)
    return max(1, min(rows, rows * _LEVELS_A_ROW * int(held.num_rows) // max(1, levels)))


def _groups(file: pq.ParquetFile, symbols: frozenset[str] | None) -> list[int]:
    if symbols is None:
        return list(range(file.metadata.num_row_groups))
    place = file.schema_arrow.get_field_index("symbol")  # no nested column comes before it
    kept: list[int] = []
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(place).statistics
        if (
            statistics is None
            or not statistics.has_min_max
            or any(statistics.min <= symbol <= statistics.max for symbol in symbols)
        ):
            kept.append(group)
    return kept


def _touches(file: pq.ParquetFile, group: int, start: int, end: int) -> bool:
    """Whether a row group may hold event times of [start, end]."""
    place = file.schema_arrow.get_field_index("ts_event")  # no nested column comes before it
    statistics = file.metadata.row_group(group).column(place).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = statistics.min_raw, statistics.max_raw  # us: as datetimes they would come by way of pandas
    return bool(low <= end and high >= start)


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes on disk. Raises CorruptFile where the file is missing or unreadable."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingFile(f"{path} is missing", "run: dl verify") from error
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error}", refused.cure(error, "run: dl verify")) from error


def check_sha256(path: Path, expected: str) -> None:
    """Raises CorruptFile where the bytes on disk are not those of the manifest, or there are none."""
    if not path.exists():
        raise MissingFile(f"{path} is missing", "run: dl verify")
    found = file_sha256(path)
    if found != expected:
        raise CorruptFile(f"{path} has SHA-256 {found[:16]}…, the manifest says {expected[:16]}…", "run: dl verify")


def verify(path: Path, seen: Callable[[pa.Table], None] | None = None) -> tables.Footer:
    """Decodes every page of the file against its checksum and proves what its footer says.

    Rows, bounds of time and id, schema, required columns, order of rows, and that no identity comes twice. `seen` is
    given the rows as they are read. Raises CorruptFile for bytes that do not decode, VerifyFailed for a file that
    decodes to something else than it says.
    """
    with open_file(path) as file:
        footer = tables.decode_footer(file.metadata.metadata, path.name)
        if not file.schema_arrow.equals(tables.schema(footer.kind)):
            raise VerifyFailed(f"{path.name} does not have the schema of {footer.kind} version {footer.schema_version}")
        stats = Stats()
        order = _OrderCheck(footer.kind, path.name)
        rising = Rising(footer.kind)
        try:
            for table in readback.pieces(file, path, _lighter(file, None, _VERIFIED_ROWS)):
                tables.check_required(table, footer.kind)
                stats.count(table, footer.kind)
                order.add(table)
                rising.add(table)
                if seen is not None:
                    seen(table)
                del table  # not held beside the next one
        except BROKEN as error:
            raise CorruptFile(f"{path} cannot be read: {error}", "run: dl verify") from error
    if not rising.certain:
        twice = duplicates(footer.kind, [lambda columns: iterate(path, columns)])
        if twice:
            raise VerifyFailed(f"{path.name} holds {twice[0].len()} rows with the identity of another row")
    found = (stats.rows, stats.ts_min, stats.ts_max, stats.seq_min, stats.seq_max)
    said = (footer.rows, footer.ts_min, footer.ts_max, footer.seq_min, footer.seq_max)
    if found != said:
        raise VerifyFailed(f"{path.name} holds (rows, ts, seq) {found}, its footer says {said}")
    return footer


class _OrderCheck:
    """Whether rows come in order. Holds the place of the last row of what it was given."""

    def __init__(self, kind: str, name: str) -> None:
        self.name = name
        self.order = tables.sort_columns(kind)
        self.last: Key | None = None

    def add(self, table: pa.Table) -> None:
        """One more piece of the file. Raises VerifyFailed where its rows are not in order."""
        late = self.last is not None and row_key(table, 0, self.order) < self.last
        if late or unsorted(table, self.order):
            raise VerifyFailed(f"{self.name} is not sorted by {', '.join(self.order)}")
        self.last = row_key(table, table.num_rows - 1, self.order)
