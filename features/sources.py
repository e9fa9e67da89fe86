"""Where values come from: CSV, Parquet and Arrow files, told by their content, and frames in memory.

A source is read twice or more, a piece at a time: first to see what its columns are, then to take them.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from features.requests import Limits
from lake import parquet
from lake.errors import WrongQuestion

PIECE_ROWS = 64 * 1024
INDEX = "__index_level_0__"
"""What pyarrow calls the index of a pandas frame that has no name."""


class Source(NamedTuple):
    """Columns and pieces of one table; `batches` begins anew each time. `texts`: every value is text (a CSV)."""

    name: str
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    texts: bool = False


def open_source(given: Any, limits: Limits) -> Source:
    """A path, or a DataFrame of pandas or polars, or whatever offers Arrow. Raises WrongQuestion."""
    source = _of_file(Path(given), limits) if isinstance(given, str | Path) else _of_frame(given)
    names = source.schema.names
    if len(names) > limits.columns:
        fix = "put them into several sets"
        raise WrongQuestion(f"{source.name} has {len(names):,} columns, {limits.columns:,} are the limit", fix)
    twice = sorted({name for name in names if [one.lower() for one in names].count(name.lower()) > 1})
    if twice:
        raise WrongQuestion(f"{source.name} has the column {twice[0]} twice (in any case)", "rename one of them")
    return source


def _of_frame(given: Any) -> Source:
    module = type(given).__module__.partition(".")[0]
    if module == "pandas":
        table = pa.Table.from_pandas(given)  # NaN is its way to say nothing, and becomes null
    elif hasattr(given, "collect_schema") and hasattr(given, "collect"):
        table = given.collect().to_arrow()
    elif module == "polars":
        table = given.to_arrow()
    elif hasattr(given, "__arrow_c_stream__"):
        table = pa.table(given)
    else:
        raise WrongQuestion(
            f"{type(given).__name__} is no table", "give a path, or a DataFrame of pandas or polars, or an Arrow table"
        )
    return Source("the table", table.schema, lambda: iter(table.to_batches(max_chunksize=PIECE_ROWS)))


def _of_file(path: Path, limits: Limits) -> Source:
    if not path.is_file():
        raise WrongQuestion(f"{path} is {'a folder' if path.is_dir() else 'not there'}", "name a file")
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise WrongQuestion(f"{path.name} is empty", "a file of features begins with the names of its columns")
    if head.startswith(b"PAR1"):
        return _parquet(path)
    if head.startswith(b"ARROW1"):
        return _arrow(path)
    if head.startswith((b"PK\x03\x04", b"(\xb5/\xfd", b"BZh", b"\xfd7zXZ")):
        raise WrongQuestion(f"{path.name} is packed", "unpack it first; a CSV may be packed by gzip")
    return _csv(path, limits, "gzip" if head.startswith(b"\x1f\x8b") else None)


def _parquet(path: Path) -> Source:
    def batches() -> Iterator[pa.RecordBatch]:
        with _told(path), parquet.open_file(path) as file:
            yield from file.iter_batches(PIECE_ROWS, use_threads=False)

    with _told(path):
        schema = pq.read_schema(path)
    return Source(path.name, schema, batches)


def _arrow(path: Path) -> Source:
    def batches() -> Iterator[pa.RecordBatch]:
        with _told(path), pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            for place in range(reader.num_record_batches):
                batch = reader.get_batch(place)
                batch.validate(full=True)  # Arrow checks nothing by itself: a damaged offset reads foreign memory
                yield from pa.Table.from_batches([batch]).to_batches(max_chunksize=PIECE_ROWS)

    with _told(path), pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        schema = reader.schema
        _ = schema.names  # they are decoded when they are asked for
    return Source(path.name, schema, batches)


def _csv(path: Path, limits: Limits, compression: str | None) -> Source:
    names, delimiter = _header(path, limits, compression)

    def batches() -> Iterator[pa.RecordBatch]:
        with _told(path), pa.input_stream(str(path), compression=compression) as data:
            reader = pa_csv.open_csv(
                data,
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=limits.line_bytes),
                parse_options=pa_csv.ParseOptions(delimiter=delimiter),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )  # fmt: skip
            yield from reader

    return Source(path.name, pa.schema([(name, pa.string()) for name in names]), batches, texts=True)


def _header(path: Path, limits: Limits, compression: str | None) -> tuple[list[str], str]:
    """Names of the columns, and what stands between them."""
    with _told(path), pa.input_stream(str(path), compression=compression) as data:
        head = data.read(limits.line_bytes)
    line, ended, _ = head.partition(b"\n")
    if not ended and len(head) >= limits.line_bytes:
        raise WrongQuestion(f"{path.name}: its first line is longer than {limits.line_bytes:,} bytes", "is it a CSV?")
    try:
        text = line.decode("utf-8-sig").rstrip("\r")
    except UnicodeDecodeError as error:
        raise WrongQuestion(f"{path.name} is no UTF-8 text", "write it as UTF-8, or as Parquet") from error
    if "\0" in text or not text.strip():
        raise WrongQuestion(f"{path.name} has no line of column names", "begin it with the names of its columns")
    delimiter = max(",;\t|", key=text.count)
    with _told(path):
        said = next(csv.reader([text], delimiter=delimiter))
    names = [name.strip() for name in said]
    if names != said:
        raise WrongQuestion(f"{path.name}: names of columns have blanks around them", "leave those out")
    return names, delimiter


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What pyarrow says of a file that it cannot read, as a sentence."""
    try:
        yield
    except (pa.ArrowException, csv.Error, EOFError, UnicodeDecodeError) as error:  # the last of columns' names
        said = " ".join(str(error).split())[:300]
        raise WrongQuestion(
            f"{path.name} cannot be read: {said}", "put its lines right, or write it as Parquet"
        ) from error
    except OSError as error:
        if error.filename is not None or error.errno is not None:
            raise
        raise WrongQuestion(f"{path.name} cannot be read: {error}", "is it whole?") from error
