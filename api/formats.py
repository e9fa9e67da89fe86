"""Rows as bytes, batch by batch: JSON, JSON lines, CSV, Parquet and the Arrow stream; nothing is held as a whole.

Times are ISO 8601 (UTC) in text formats, microseconds in the others. In CSV lists are JSON, and a text that a
spreadsheet would take for a formula gets an apostrophe before it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

Format: TypeAlias = Literal["json", "jsonl", "csv", "parquet", "arrow"]
MEDIA: dict[Format, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
_ENDINGS: dict[Format, str] = {"json": "json", "jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "arrow": "arrows"}
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?[0-9]+(?:\.[0-9]+)?$"
_TEXT_ROWS = 10_000
"""Rows that are text at the same time."""


def file_name(stem: str, form: Format) -> str:
    """A name to save an answer by: letters, digits, dots, - and _ only."""
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in stem)
    return f"{safe.lstrip('.') or 'rows'}.{_ENDINGS[form]}"


def encode(form: Format, schema: pa.Schema, batches: Iterable[pa.Table], head: Mapping[str, Any]) -> Iterator[bytes]:
    """The rows of `batches`, all of `schema`. `head` is what a JSON answer says before them."""
    return _ENCODERS[form](schema, batches, head)


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON values: times as text, NaN as null."""
    held: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(table.to_pylist()))
    return held


def _json(_schema: pa.Schema, batches: Iterable[pa.Table], head: Mapping[str, Any]) -> Iterator[bytes]:
    encoder, count = msgspec.json.Encoder(), 0
    yield msgspec.json.encode(head)[:-1] + (b', "rows":[' if head else b'"rows":[')
    for part in _parts(batches):
        rows = part.to_pylist()
        yield (b"," if count else b"") + b",".join(map(encoder.encode, rows))
        count += len(rows)
    yield b'],"count":%d}\n' % count


def _jsonl(_schema: pa.Schema, batches: Iterable[pa.Table], _head: Mapping[str, Any]) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    for part in _parts(batches):
        yield encoder.encode_lines(part.to_pylist())


def _parts(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in batches:
        for start in range(0, table.num_rows, _TEXT_ROWS):
            yield table.slice(start, _TEXT_ROWS)


def _csv(schema: pa.Schema, batches: Iterable[pa.Table], _head: Mapping[str, Any]) -> Iterator[bytes]:
    yield _frame(schema.empty_table()).write_csv(include_header=True).encode()
    for part in _parts(batches):
        yield _frame(part).write_csv(include_header=False).encode()


def _frame(table: pa.Table) -> pl.DataFrame:
    """What a line of CSV can hold."""
    frame = pl.DataFrame(table)
    made: list[pl.Series | pl.Expr] = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if dtype.is_nested():
            texts = [None if value is None else msgspec.json.encode(value).decode() for value in frame[name].to_list()]
            made.append(pl.Series(name, texts, dtype=pl.String))
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            text = column.cast(pl.String)
            formula = text.str.contains(_FORMULA) & ~text.str.contains(_NUMBER)
            made.append(pl.when(formula).then(pl.lit("'") + text).otherwise(text).alias(name))
        elif dtype == pl.Datetime:
            made.append(column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").alias(name))
    return frame.with_columns(made)


class _Sink(io.RawIOBase):
    """What a writer of files writes to: taken from here as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._held.append(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


def _parquet(schema: pa.Schema, batches: Iterable[pa.Table], _head: Mapping[str, Any]) -> Iterator[bytes]:
    sink = _Sink()
    schema = schema.remove_metadata()  # under the key that our own files have something else
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in batches:
            writer.write_table(table.replace_schema_metadata())
            yield sink.taken()
    yield sink.taken()


def _arrow(schema: pa.Schema, batches: Iterable[pa.Table], _head: Mapping[str, Any]) -> Iterator[bytes]:
    sink = _Sink()
    with pa.ipc.new_stream(sink, schema) as writer:
        for table in batches:
            writer.write_table(table)
            yield sink.taken()
    yield sink.taken()


_ENCODERS: dict[Format, Callable[[pa.Schema, Iterable[pa.Table], Mapping[str, Any]], Iterator[bytes]]] = {
    "json": _json, "jsonl": _jsonl, "csv": _csv, "parquet": _parquet, "arrow": _arrow,
}  # fmt: skip
