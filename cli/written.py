"""Rows into a file of the form that its ending names, batch by batch: memory does not grow with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    from lake.durable import AppendFile


def write_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: Path) -> int:
    """How many rows there were; the target appears whole or not at all. Raises StorageFailed, what `batches` raise."""
    from lake import durable

    temp = durable.temp_path(out, "rows")
    durable.unlink(temp)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(durable.unlink, temp)
        with durable.AppendFile(temp) as file:
            writer = {".parquet": _parquet, ".csv": _csv}.get(out.suffix, _lines)
            rows = writer(schema, batches, file)
            file.sync()
        durable.rename(temp, out, replace=True)
        on_failure.pop_all()
    return rows


def _parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: AppendFile) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lake.parquet import Buffered
    from lake.row_groups import regroup
    from lake.tables import ROW_GROUP_ROWS

    sink, rows = Buffered(file), 0
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in regroup((pa.Table.from_batches([batch]) for batch in batches), ROW_GROUP_ROWS):
            writer.write_table(group.unify_dictionaries())
            rows += group.num_rows
    sink.flush()
    return rows


def _csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: AppendFile) -> int:
    return _texts("csv", schema, batches, file)


def _lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: AppendFile) -> int:
    return _texts("jsonl", schema, batches, file)


def _texts(
    form: Literal["csv", "jsonl"], schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: AppendFile
) -> int:
    import pyarrow as pa

    from api import formats

    rows = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            yield pa.Table.from_batches([batch])

    for data in formats.encode(form, schema, counted(), {}):
        file.write(data)
    return rows
