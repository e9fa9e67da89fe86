"""A file read back: every page of it, decoded against its checksum.

A column that says the same in every row has, row group for row group, the same bytes. What is one byte the same decodes
to the same, so that pages like those of the row group before are compared with them, and not decoded once more: of a
day of trades that is half the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

SMALL = 4096
"""Bytes of a column of a row group up to which it is looked at whether they repeat."""


class _Held(NamedTuple):
    """Pages, and what they decode to."""

    pages: _Pages | None
    column: pa.ChunkedArray


_Pages: TypeAlias = tuple[str, bytes]
"""Codec and bytes: with the schema all that decoding knows of."""


def pieces(file: pq.ParquetFile, path: Path, rows: int) -> Iterator[pa.Table]:
    """The rows of the `file` at `path` in pieces of at most so many. Raises what pyarrow raises."""
    schema = file.schema_arrow
    if file.metadata.num_row_groups == 1 or any(pa.types.is_nested(field.type) for field in schema):
        for batch in file.iter_batches(rows, use_threads=False):
            yield pa.Table.from_batches([batch])
        return
    held: dict[str, _Held] = {}
    with path.open("rb") as raw:
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            small = {name: _pages(raw, group.column(place)) for place, name in enumerate(schema.names)}
            held = {name: known for name, known in held.items() if known.pages == small[name]}
            fresh = [name for name in schema.names if name not in held]
            kept: dict[str, list[pa.Array]] = {name: [] for name in fresh if small[name] is not None}
            at = 0
            for batch in file.iter_batches(rows, row_groups=[number], columns=fresh, use_threads=False):
                columns = {name: known.column.slice(at, batch.num_rows) for name, known in held.items()}
                columns |= {name: batch.column(name) for name in fresh}
                for name, arrays in kept.items():
                    arrays.append(batch.column(name))
                yield pa.table([columns[name] for name in schema.names], schema=schema)
                at += batch.num_rows
            held |= {name: _Held(small[name], pa.chunked_array(arrays)) for name, arrays in kept.items()}


def _pages(raw: BinaryIO, chunk: pq.ColumnChunkMetaData) -> _Pages | None:
    """The pages of a column of a row group, None where they are too large to be the same again and again."""
    size = chunk.total_compressed_size
    if size > SMALL:
        return None
    raw.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
    return chunk.compression, raw.read(size)
