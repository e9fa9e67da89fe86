"""Files of the feature store: one Parquet file a version, published as every file of a lake is.

`ts_event` and `known_at` come first (both in every row), then the values in their own order; rows are sorted by
(ts_event, known_at), and no two have both alike. The footer says what the manifest's row says, so that the row can be
made from the file. See docs/features.md.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import durable, layout, parquet
from lake.errors import CorruptFile, StorageFailed, UnknownVersion, VerifyFailed
from lake.feature_rows import KNOWN_AT, OWN_TIME, FeatureRow, id_of
from lake.row_groups import regroup

FOOTER_KEY = b"lake.feature"
FORMAT_VERSION = 1
TIME = pa.timestamp("us", "UTC")
TYPES: dict[str, pa.DataType] = {
    "float": pa.float64(), "float32": pa.float32(), "int": pa.int64(), "bool": pa.bool_(), "text": pa.string(),
    "time": TIME, "date": pa.date32(),
}  # fmt: skip
"""What a value may be, by the word that rows and footers say."""
ROW_GROUP_ROWS = 256 * 1024
_PIECE_ROWS = 64 * 1024
_BEGINNING = (pa.field(OWN_TIME, TIME, nullable=False), pa.field(KNOWN_AT, TIME, nullable=False))


class Footer(msgspec.Struct, kw_only=True, frozen=True):
    """What a file says of itself, as JSON in its metadata: nothing of it depends on when it was made."""

    format: int = FORMAT_VERSION
    lake_id: str
    exchange: str
    market_type: str
    symbol: str
    feature_set: str
    version: str
    rows: int
    ts_min: int
    ts_max: int
    columns: dict[str, str]
    known: str
    computed_on: tuple[str, ...] = ()
    as_of: int | None = None
    inputs: dict[str, str] = {}
    note: str = ""
    content_digest: str


def schema(columns: dict[str, str]) -> pa.Schema:
    """Of a set whose values have these types, by their words."""
    return pa.schema([*_BEGINNING, *(pa.field(name, TYPES[word]) for name, word in columns.items())])


class Content:
    """The content digest of a set and its bounds, taken in piece by piece; see docs/features.md.

    SHA-256 over one line a column, `<name> <type> <SHA-256 of its values>`, name as JSON, each ended by a newline. The
    values of a column are those of its rows one after the other: a byte 1 and the value, or a byte 0 for none. All the
    bytes of a piece of 65,536 rows that say whether there is one stand before all its values, little-endian in 8 bytes
    (bool 1, float32 and date 4), text as its length in 8 and its UTF-8; of none the value is 0.
    """

    def __init__(self, columns: dict[str, str]) -> None:
        self.rows = 0
        self.ts_min: int | None = None
        self.ts_max: int | None = None
        self._wanted = schema(columns)
        self._words = {OWN_TIME: "time", KNOWN_AT: "time"} | columns
        self._hashes = {name: hashlib.sha256() for name in self._words}
        self._last: tuple[int, int] | None = None
        self._held: list[pa.Table] = []
        self._waiting = 0

    def add(self, table: pa.Table) -> None:
        """The next rows. Raises VerifyFailed where they are not of the schema, or not behind the ones before."""
        if not table.schema.equals(self._wanted):
            raise VerifyFailed("a piece of the feature set has other columns than it should")
        if not table.num_rows:
            return
        self._check_order(table)
        self.rows += table.num_rows
        self._held.append(table)
        self._waiting += table.num_rows
        while self._waiting >= _PIECE_ROWS:
            whole = pa.concat_tables(self._held)
            self._hash(whole.slice(0, _PIECE_ROWS))
            self._held = [whole.slice(_PIECE_ROWS)]
            self._waiting -= _PIECE_ROWS

    def _check_order(self, table: pa.Table) -> None:
        own, known = (_numbers(table.column(name)) for name in (OWN_TIME, KNOWN_AT))
        if own.null_count or known.null_count:
            raise VerifyFailed("a row of the feature set has no time")
        first = (own[0].as_py(), known[0].as_py())
        rising = pc.greater(own[1:], own[:-1])
        equal = pc.and_(pc.equal(own[1:], own[:-1]), pc.greater(known[1:], known[:-1]))
        if not (pc.all(pc.or_(rising, equal)).as_py() in (True, None) and (self._last is None or first > self._last)):
            raise VerifyFailed("rows of the feature set are not in order, or one comes twice")
        if pc.any(pc.less(known, own)).as_py():
            raise VerifyFailed("a row of the feature set is known before its own time")
        self._last = (own[-1].as_py(), known[-1].as_py())
        self.ts_min = first[0] if self.ts_min is None else self.ts_min
        self.ts_max = self._last[0]

    def _hash(self, table: pa.Table) -> None:
        for name, hasher in self._hashes.items():
            for part in _bytes_of(table.column(name).combine_chunks()):
                hasher.update(part)

    def hexdigest(self) -> str:
        """Once all rows were added."""
        if self._waiting:
            self._hash(pa.concat_tables(self._held))
            self._held, self._waiting = [], 0
        lines = hashlib.sha256()
        for name, word in self._words.items():
            lines.update(msgspec.json.encode(name) + f" {word} {self._hashes[name].hexdigest()}\n".encode())
        return lines.hexdigest()


def _numbers(column: pa.ChunkedArray) -> pa.Array:
    """Times as int64 us, in one piece."""
    made = column.cast(pa.int64()).combine_chunks()
    return pa.concat_arrays(made.chunks) if isinstance(made, pa.ChunkedArray) else made


def _bytes_of(column: pa.ChunkedArray | pa.Array) -> Iterator[bytes]:
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    yield _fixed(pc.is_valid(array).cast(pa.uint8()))
    if pa.types.is_string(array.type):
        texts = pc.fill_null(array, "").cast(pa.binary())
        yield _fixed(pc.binary_length(texts).cast(pa.int64()))
        yield b"".join(texts.to_pylist())
        return
    if pa.types.is_boolean(array.type):
        yield _fixed(pc.fill_null(array, fill_value=False).cast(pa.uint8()))
        return
    width = pa.int32() if array.type.bit_width == 32 else pa.int64()
    yield _fixed(pc.fill_null(array.view(width), 0))


def _fixed(array: pa.Array) -> bytes:
    """The values of an array without nulls, wherever in its buffer they begin."""
    width = array.type.bit_width // 8
    data: pa.Buffer = array.buffers()[1]
    return bytes(data.slice(array.offset * width, len(array) * width))


def publish(root: Path, row: FeatureRow, batches: Iterable[pa.Table], *, lake_id: str, run: str) -> FeatureRow:
    """Writes `batches` (of `schema(row.columns)`, in order) as one verified file; the row with all that follows.

    Of `row` the names, `columns`, `known`, and where the values came from are taken; the rest is filled in. Nobody sees
    the file before `LakeWriter.publish` has committed the row. Raises VerifyFailed (no rows, not in order),
    StorageFailed, and what `batches` raises; nothing is left behind then.
    """
    where = (row.exchange, row.market_type, row.symbol, row.feature_set, row.version)
    folder = (root / layout.feature_path(*where, "0" * 64)).parent
    durable.make_dirs(folder)
    temp = durable.temp_path(folder / f"{row.feature_set}-{row.version}", run)
    durable.unlink(temp)
    try:
        footer = _write(temp, row, batches, lake_id)
        _check_written(temp, footer)
        sha256 = parquet.file_sha256(temp)
        durable.fsync_file(temp)
        size = temp.stat().st_size
        path = layout.feature_path(*where, sha256)
        durable.rename(temp, root / path)
    except BaseException:
        with contextlib.suppress(StorageFailed):
            durable.unlink(temp)
        raise
    return _row(footer, path, sha256, size)


def _check_written(temp: Path, footer: Footer) -> None:
    if verify(temp) != footer:
        raise VerifyFailed(f"{temp.name} does not say what was written")


def _write(temp: Path, row: FeatureRow, batches: Iterable[pa.Table], lake_id: str) -> Footer:
    content = Content(row.columns)
    words = {OWN_TIME: "time", KNOWN_AT: "time"} | row.columns
    texts = [name for name, word in words.items() if word == "text"]
    delta = [name for name, word in words.items() if word in ("time", "date", "int")]
    with durable.AppendFile(temp) as sink:
        buffered = parquet.Buffered(sink)
        with pq.ParquetWriter(
            buffered, schema(row.columns), version="2.6", compression="zstd", compression_level=3,
            use_dictionary=texts, column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
            write_statistics=True, write_page_index=True, write_page_checksum=True,
        ) as writer:  # fmt: skip
            for group in regroup(batches, ROW_GROUP_ROWS):
                content.add(group)
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
            if content.ts_min is None or content.ts_max is None:
                raise VerifyFailed(f"{row.feature_set} {row.version} would have no rows")
            footer = Footer(
                lake_id=lake_id, exchange=row.exchange, market_type=row.market_type, symbol=row.symbol,
                feature_set=row.feature_set, version=row.version, rows=content.rows, ts_min=content.ts_min,
                ts_max=content.ts_max, columns=row.columns, known=row.known, computed_on=row.computed_on,
                as_of=row.as_of, inputs=dict(sorted(row.inputs.items())), note=row.note,
                content_digest=content.hexdigest(),
            )  # fmt: skip
            writer.add_key_value_metadata({FOOTER_KEY: msgspec.json.encode(footer)})
        buffered.flush()
    return footer


def _row(footer: Footer, path: str, sha256: str, size: int) -> FeatureRow:
    said: dict[str, Any] = {
        name: getattr(footer, name) for name in footer.__struct_fields__ if name not in ("format", "lake_id")
    }
    names = (footer.exchange, footer.market_type, footer.symbol, footer.feature_set, footer.version)
    return FeatureRow(feature_id=id_of(*names), path=path, bytes=size, sha256=sha256, **said)


def row_of(root: Path, path: str) -> tuple[FeatureRow, str]:
    """The row that a file makes by itself, and the lake that it is of. Raises CorruptFile, UnknownVersion."""
    with parquet.open_file(root / path) as file:
        footer = _footer(file, path)
    size = (root / path).stat().st_size
    row = _row(footer, path, parquet.file_sha256(root / path), size)
    names = (row.exchange, row.market_type, row.symbol, row.feature_set, row.version)
    if layout.feature_path(*names, row.sha256) != path:
        raise CorruptFile(f"{path} is not what its name says", "no row names it: look at it, then move it away")
    return row, footer.lake_id


def _footer(file: pq.ParquetFile, name: str) -> Footer:
    data = (file.metadata.metadata or {}).get(FOOTER_KEY)
    if data is None:
        raise CorruptFile(f"{name} has no footer of a feature set", "it was not written by this program")
    try:
        version = msgspec.json.decode(data)["format"]
        if version > FORMAT_VERSION:
            raise UnknownVersion(f"{name} has format {version}, this program knows {FORMAT_VERSION}", "update it")
        return msgspec.json.decode(data, type=Footer)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CorruptFile(f"{name} has an unreadable footer: {error}") from error


def verify(path: Path) -> Footer:
    """Decodes every page against its checksum, and proves what the footer says. Raises CorruptFile, VerifyFailed."""
    with parquet.open_file(path) as file:
        footer = _footer(file, path.name)
        content = Content(footer.columns)
        for table in _pieces(file, path):
            content.add(table)
    found = (content.rows, content.ts_min, content.ts_max, content.hexdigest())
    if found != (footer.rows, footer.ts_min, footer.ts_max, footer.content_digest):
        raise VerifyFailed(f"{path.name} does not hold what its footer says")
    return footer


def clear(root: Path, gone: Iterable[FeatureRow]) -> int:
    """Remove the files of deleted versions, where they are still there; how many. Raises StorageFailed."""
    there = [root / row.path for row in gone if (root / row.path).exists()]
    removed = sum(durable.unlink(path) for path in there)
    for folder in sorted({path.parent for path in there}):
        durable.fsync_dir(folder)
    return removed


def iterate(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The file in pieces, checksums verified. Raises CorruptFile."""
    with parquet.open_file(path) as file:
        yield from _pieces(file, path, columns)


def _pieces(file: pq.ParquetFile, path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    try:
        for batch in file.iter_batches(_PIECE_ROWS, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])
    except parquet.BROKEN as error:
        raise CorruptFile(f"{path} cannot be read: {error}", "run: dl verify") from error
