"""Many small Parquet files as one in memory: the wanted columns of each, behind each other, and one footer for all.

A month of bars is thirty daily files, and half of what polars takes to read them is their thirty footers of 41 columns.
Those are read once (by pyarrow) for as long as the same files are asked for; from then on the pieces of the wanted
columns are read as they lie on the disk and handed to polars as one file of thirty row groups. Nothing that was decoded
is kept. A file here is one that was hashed (`lake.reading.check`), and is never changed under its name.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from functools import cache

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from lake import tables
from lake.thrift import list_head, varint, zigzag

FEWEST = 4
"""Files below which nothing is gained."""
MOST_BYTES = 48_000_000
"""Of all files together: the wanted columns of them are in memory at once."""
SMALL = 1_500_000
"""Bytes of a file, on average, above which its rows cost more than its footer."""
_HELD = 16
"""Questions whose footer is remembered."""
_TYPES = {"BOOLEAN": 0, "INT32": 1, "INT64": 2, "FLOAT": 4, "DOUBLE": 5, "BYTE_ARRAY": 6}
_ENCODINGS = {
    "PLAIN": 0, "PLAIN_DICTIONARY": 2, "RLE": 3, "BIT_PACKED": 4, "DELTA_BINARY_PACKED": 5,
    "DELTA_LENGTH_BYTE_ARRAY": 6, "DELTA_BYTE_ARRAY": 7, "RLE_DICTIONARY": 8, "BYTE_STREAM_SPLIT": 9,
}  # fmt: skip
_CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "ZSTD": 6}
_LOCAL = LocalFileSystem(use_mmap=False)
_MAGIC = b"PAR1"
_NO_ROWS = b"\x16\x00\x19\x0c"
"""In the footer of a file without rows: that it has none (field 3), and no row groups (field 4)."""


class Part(msgspec.Struct, frozen=True):
    """Where the wanted columns of a file lie."""

    path: str
    start: int
    size: int


class Head(msgspec.Struct, frozen=True):
    """What is known of some files: where to read, and the footer of what is read."""

    parts: tuple[Part, ...]
    footer: bytes
    false: frozenset[str]
    """Columns of which the footers tell that no row is true: they are not read."""


class Unjoined(Exception):
    """A file that this module does not understand: polars reads it as it is."""


_heads: dict[tuple[tuple[str, ...], tuple[str, ...]], Head] = {}


def read(kind: str, paths: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """All rows of these files of a kind, one file behind the other. Raises Unjoined, FileNotFoundError."""
    key = (tuple(paths), tuple(columns))
    head = _heads.get(key)
    if head is None:
        head = _head(kind, *key)
        for old in list(_heads)[: max(0, len(_heads) - _HELD + 1)]:
            _heads.pop(old, None)
        _heads[key] = head
    held = [_MAGIC]
    for part in head.parts:
        descriptor = os.open(part.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            data = _some(descriptor, part)
        finally:
            os.close(descriptor)
        held.append(data)
    held.append(head.footer)
    frame = pl.scan_parquet(b"".join(held), hive_partitioning=False, use_statistics=False).collect()
    if not head.false:
        return frame
    never = pl.Series([False]).new_from_index(0, frame.height)
    return pl.DataFrame([never.alias(name) if name in head.false else frame.get_column(name) for name in columns])


def _some(descriptor: int, part: Part) -> bytes:
    """The bytes of a part. Raises Unjoined where the file ends before."""
    os.lseek(descriptor, part.start, os.SEEK_SET)
    data = os.read(descriptor, part.size)
    if len(data) != part.size:
        raise Unjoined(part.path)
    return data


# -- the footer, in Thrift's compact form: the structs of parquet.thrift, fields in the order of their ids -------------


def _head(kind: str, paths: tuple[str, ...], columns: tuple[str, ...]) -> Head:
    """Raises Unjoined."""
    metas = [_footer(path) for path in paths]
    found = [_chunks(meta, columns) for meta in metas]
    false = frozenset(name for name in columns if all(_false(group[name]) for groups in found for group in groups))
    read = tuple(name for name in columns if name not in false)
    if not read or not any(found):
        raise Unjoined("nothing is left to be read")
    before, after = _schema(kind, read)
    parts: list[Part] = []
    groups: list[bytes] = []
    rows, at = 0, len(_MAGIC)
    for path, meta, held in zip(paths, metas, found, strict=True):
        edges = [_edges(group[name]) for group in held for name in read]
        if not edges:
            continue
        start, end = min(low for low, _ in edges), max(high for _, high in edges)
        for number, group in enumerate(held):
            groups.append(_group([group[name] for name in read], meta.row_group(number).num_rows, at - start))
        parts.append(Part(path, start, end - start))
        rows, at = rows + meta.num_rows, at + end - start
    body = b"\x16" + zigzag(rows) + b"\x19" + list_head(len(groups), 12) + b"".join(groups)
    footer = before + body + after
    return Head(tuple(parts), footer + len(footer).to_bytes(4, "little") + _MAGIC, false)


def _footer(path: str) -> pq.FileMetaData:
    """Raises Unjoined, FileNotFoundError."""
    try:
        with pq.ParquetFile(path, filesystem=_LOCAL) as file:
            return file.metadata
    except pa.ArrowInvalid as error:
        raise Unjoined(path) from error


def _chunks(meta: pq.FileMetaData, columns: Sequence[str]) -> list[dict[str, pq.ColumnChunkMetaData]]:
    """The wanted columns of each row group. Raises Unjoined where there is no such column."""
    places = {meta.schema.column(number).path: number for number in range(meta.num_columns)}
    if not all(name in places for name in columns):
        raise Unjoined("a column is not there")
    return [
        {name: meta.row_group(group).column(places[name]) for name in columns} for group in range(meta.num_row_groups)
    ]


def _false(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether the statistics tell that no row is true, and none unknown."""
    if chunk.physical_type != "BOOLEAN" or not chunk.is_stats_set:
        return False
    told = chunk.statistics
    return bool(told.has_min_max and told.has_null_count and told.null_count == 0 and told.max is False)


@cache
def _schema(kind: str, columns: tuple[str, ...]) -> tuple[bytes, bytes]:
    """What a footer says of these columns, before and after its rows. Raises Unjoined."""
    held = tables.schema(kind)
    wanted = pa.schema([held.field(name) for name in columns])
    if any(pa.types.is_nested(field.type) for field in wanted):
        raise Unjoined(kind)
    sink = io.BytesIO()
    pq.ParquetWriter(sink, wanted).close()
    whole = sink.getvalue()
    footer = whole[-8 - int.from_bytes(whole[-8:-4], "little") : -8]
    before, found, after = footer.partition(_NO_ROWS)
    if not found or _NO_ROWS in after:
        raise Unjoined(kind)
    return before, after


def _edges(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """From where to where the pages of a column are. Raises Unjoined."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def _group(chunks: Sequence[pq.ColumnChunkMetaData], rows: int, shift: int) -> bytes:
    """A RowGroup whose pages lie `shift` bytes further on."""
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    held = b"".join(_chunk(chunk, shift) for chunk in chunks)
    return b"\x19" + list_head(len(chunks), 12) + held + b"\x16" + zigzag(size) + b"\x16" + zigzag(rows) + b"\x00"


def _chunk(chunk: pq.ColumnChunkMetaData, shift: int) -> bytes:
    """A ColumnChunk with its ColumnMetaData, without statistics. Raises Unjoined."""
    try:
        kind, codec = _TYPES[chunk.physical_type], _CODECS[chunk.compression]
        encodings = [_ENCODINGS[name] for name in chunk.encodings]
    except KeyError as error:
        raise Unjoined(str(error)) from error
    name = chunk.path_in_schema.encode()
    start, _ = _edges(chunk)
    pages = b"\x26" + zigzag(chunk.data_page_offset + shift)
    if start < chunk.data_page_offset:
        pages += b"\x26" + zigzag(start + shift)
    return b"".join((
        b"\x26", zigzag(start + shift), b"\x1c",
        b"\x15", zigzag(kind),
        b"\x19", list_head(len(encodings), 5), *map(zigzag, encodings),
        b"\x19", list_head(1, 8), varint(len(name)), name,
        b"\x15", zigzag(codec),
        b"\x16", zigzag(chunk.num_values),
        b"\x16", zigzag(chunk.total_uncompressed_size),
        b"\x16", zigzag(chunk.total_compressed_size),
        pages, b"\x00\x00",
    ))  # fmt: skip
