"""A Parquet file of many row groups, of which a column that says the same in all rows is encoded once.

Of a day of trades fifteen columns of twenty-three say the same from the first row to the last: exchange, symbol,
source, whatever the venue does not tell. They take 40 % of the time of encoding, for a hundredth of the bytes. Here
pyarrow writes each row group in memory; a column that says what it said in the group before is left out of it, and the
bytes that were made then are put in its place. Offsets in the footer and the page index are moved. The file is, byte
for byte, what pyarrow makes of the same groups.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import thrift
from lake.thrift import Field, Many, Struct

MAGIC = b"PAR1"
# ids of fields, by parquet.thrift
_ALL_ROWS, _GROUPS = 3, 4  # FileMetaData
_COLUMNS, _SIZE, _ROWS, _GROUP_AT, _COMPRESSED = 1, 2, 3, 5, 6  # RowGroup
_META, _OFFSETS_AT, _OFFSETS_SIZE, _INDEX_AT, _INDEX_SIZE = 3, 4, 5, 6, 7  # ColumnChunk
_CHUNK_SIZE, _CHUNK_COMPRESSED, _DATA_AT, _DICTIONARY_AT = 6, 7, 9, 11  # ColumnMetaData
_LOCATIONS = 1  # OffsetIndex
_PAGE_AT = 1  # PageLocation


class Chunk(NamedTuple):
    """A column of one row group: its pages, and what footer and page index say of them where they begin at `start`."""

    start: int
    pages: bytes
    head: Struct
    page_index: bytes
    offsets: Struct


class Writer:
    """Writes what `pq.ParquetWriter` with these options (a page index among them) writes, for schemas without lists.

    The sink is left open.
    """

    def __init__(self, sink: Any, schema: pa.Schema, **options: Any) -> None:
        self._sink = sink
        self._schema = schema
        self._options = options
        self._metadata: Mapping[bytes, bytes] = {}
        self._groups: list[Struct] = []
        self._chunks: list[Chunk] = []
        self._known: dict[str, tuple[object, Chunk]] = {}
        """Columns that said one thing in all rows of the last group: what, and their bytes."""
        self._at = 0

    def write_table(self, group: pa.Table) -> None:
        """One row group, of which each column has one dictionary at most."""
        if not self._groups:
            self._put(MAGIC)
        said = {name: _said(group.column(name)) for name in group.column_names}
        chunks = {name: chunk for name, (what, chunk) in self._known.items() if said[name] == what}
        if len(chunks) == len(said):
            chunks.popitem()  # a group has a column at least
        fresh, head = self._encoded(group.select([name for name in said if name not in chunks]))
        chunks |= fresh
        self._known = {name: (what, chunks[name]) for name, what in said.items() if what is not None}
        self._add(head, [chunks[name] for name in said])

    def add_key_value_metadata(self, metadata: Mapping[bytes, bytes]) -> None:
        """What the footer says beside what Parquet has it say."""
        self._metadata = metadata

    def close(self) -> None:
        """Write the page index and the footer."""
        for chunk in self._chunks:
            if chunk.page_index:  # of values that have no order there is none
                chunk.head[_INDEX_AT] = Field(thrift.I64, self._at)
                self._put(chunk.page_index)
        for chunk in self._chunks:
            data = thrift.encode(chunk.offsets)
            chunk.head[_OFFSETS_AT] = Field(thrift.I64, self._at)
            chunk.head[_OFFSETS_SIZE] = Field(thrift.I32, len(data))
            self._put(data)
        footer = _footer(self._made(self._schema.empty_table()))
        footer[_ALL_ROWS] = Field(thrift.I64, sum(group[_ROWS].value for group in self._groups))
        footer[_GROUPS] = Field(thrift.LIST, Many(thrift.STRUCT, list(self._groups)))
        data = thrift.encode(footer)
        self._put(data + len(data).to_bytes(4, "little") + MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def _made(self, group: pa.Table) -> memoryview:
        """The file that pyarrow makes of one row group."""
        made = io.BytesIO()
        with pq.ParquetWriter(made, group.schema, **self._options) as writer:
            writer.write_table(group)
            writer.add_key_value_metadata(self._metadata)
        return made.getbuffer()

    def _encoded(self, part: pa.Table) -> tuple[dict[str, Chunk], Struct]:
        """Columns of a row group, and what the footer says of the group."""
        made = self._made(part)
        (group,) = _footer(made)[_GROUPS].value.values
        chunks = [_chunk(made, head) for head in group[_COLUMNS].value.values]
        return dict(zip(part.column_names, chunks, strict=True)), group

    def _add(self, head: Struct, chunks: list[Chunk]) -> None:
        at, size, compressed = self._at, 0, 0
        placed = []
        for chunk in chunks:
            placed.append(_moved(chunk, self._at - chunk.start))
            self._put(chunk.pages)
            size += chunk.head[_META].value[_CHUNK_SIZE].value
            compressed += chunk.head[_META].value[_CHUNK_COMPRESSED].value
        self._chunks += placed
        self._groups.append(
            head
            | {
                _COLUMNS: Field(thrift.LIST, Many(thrift.STRUCT, [chunk.head for chunk in placed])),
                _SIZE: Field(thrift.I64, size), _GROUP_AT: Field(thrift.I64, at),
                _COMPRESSED: Field(thrift.I64, compressed),
            }
        )  # fmt: skip

    def _put(self, data: bytes | memoryview) -> None:
        self._sink.write(data)
        self._at += len(data)


def _said(column: pa.ChunkedArray) -> object:
    """What all rows of a column say, and how many they are; None where they differ, or it is not easily told."""
    rows = len(column)
    if column.null_count not in (0, rows):
        return None
    if pa.types.is_dictionary(column.type):
        words = column.chunk(0).dictionary
        return (rows, column.null_count, words.to_pylist()) if len(words) <= 1 else None
    if column.null_count == rows:
        return rows, None
    if not pa.types.is_primitive(column.type):
        return None
    bits = column if pa.types.is_boolean(column.type) else _as_integers(column)
    ends = (bits[0].as_py(), bits[-1].as_py())
    if ends[0] != ends[1] or tuple(pc.min_max(bits).as_py().values()) != ends:
        return None
    return rows, ends[0]


def _as_integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values' bits: a zero with a sign is another one, and what is no number equals itself."""
    integers = pa.int64() if column.type.bit_width == 64 else pa.int32()
    return pa.chunked_array([chunk.view(integers) for chunk in column.chunks])


def _footer(data: memoryview) -> Struct:
    size = int.from_bytes(data[-8:-4], "little")
    footer, _ = thrift.decode(bytes(data[-8 - size : -8]))
    return footer


def _chunk(data: memoryview, head: Struct) -> Chunk:
    """A column of the one row group of a file."""
    meta = head[_META].value
    start = min(meta[place].value for place in (_DICTIONARY_AT, _DATA_AT) if place in meta)
    pages = bytes(data[start : start + meta[_CHUNK_COMPRESSED].value])
    page_index = b""
    if _INDEX_AT in head:
        page_index = bytes(data[head[_INDEX_AT].value :][: head[_INDEX_SIZE].value])
    offsets, _ = thrift.decode(bytes(data[head[_OFFSETS_AT].value :][: head[_OFFSETS_SIZE].value]))
    return Chunk(start, pages, head, page_index, offsets)


def _moved(chunk: Chunk, by: int) -> Chunk:
    """What is said of the chunk where its pages lie so many bytes further on."""
    meta = dict(chunk.head[_META].value)
    for place in (_DICTIONARY_AT, _DATA_AT):
        if place in meta:
            meta[place] = Field(thrift.I64, meta[place].value + by)
    pages = chunk.offsets[_LOCATIONS].value.values
    pages = [page | {_PAGE_AT: Field(thrift.I64, page[_PAGE_AT].value + by)} for page in pages]
    return chunk._replace(
        start=chunk.start + by,
        pages=b"",  # they are written: what waits for the end is small
        head=chunk.head | {_META: Field(thrift.STRUCT, meta)},
        offsets=chunk.offsets | {_LOCATIONS: Field(thrift.LIST, Many(thrift.STRUCT, pages))},
    )
