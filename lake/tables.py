"""Schemas of the Parquet tables, how each column is encoded, and what a file's footer says about itself.

Pure: everything here follows from the declarations of `market.kinds`. All files of one kind and schema version have
the same columns in the same order: the common ones, then the kind's, each decimal beside its `<name>_text` sibling,
which is null except where the shortest float64 text is not the number the venue wrote. docs/format/tables.md is the
specification in prose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import CorruptFile, UnknownVersion, VerifyFailed
from market import kinds

SCHEMA_VERSION = 1
CODE_VERSION = "4"
"""Counts changes of the code that makes tables from lines: equal inputs and an equal version give equal bytes."""

ROW_GROUP_ROWS = 256 * 1024
ROW_GROUP_LEVELS = 500_000
"""Book levels in a row group: a message of some books has thousands, and a reader holds a group at a time."""
FOOTER_KEY = b"lake"
TEXT_SUFFIX = "_text"

TIME = pa.timestamp("us", tz="UTC")
DICT = pa.dictionary(pa.int32(), pa.string())
LEVELS = pa.list_(pa.struct([pa.field("price", pa.float64()), pa.field("qty", pa.float64())]))
LEVELS_TEXT = pa.list_(pa.struct([pa.field("price", pa.string()), pa.field("qty", pa.string())]))

_ARROW: dict[kinds.ColumnType, pa.DataType] = {
    "dict": DICT,
    "text": pa.string(),
    "int": pa.int64(),
    "time": TIME,
    "date": pa.date32(),
    "bool": pa.bool_(),
    "decimal": pa.float64(),
    "float": pa.float64(),
    "levels": LEVELS,
}
_COMPUTED = frozenset({"vwap", "volume_quote", "taker_buy_quote"})
"""Values of a bar that are computed and hardly ever repeat: a dictionary of them is waste, their bytes split well."""


class Parent(msgspec.Struct, frozen=True, order=True):
    """A direct input of a file: its path relative to the lake's root and its SHA-256."""

    path: str
    sha256: str


class Footer(msgspec.Struct, kw_only=True, frozen=True):
    """What a file says about itself, in the Parquet key/value metadata under `lake`, as JSON.

    Nothing in it depends on when or where the file was made, so that equal inputs give equal bytes. `symbol` is None
    where the file holds all symbols, `hour` None where it holds a day. `clock` says whose time orders the rows:
    `venue`, `receive` (all are estimated) or `mixed`. `decimals` are the digits after the point in use per column (of
    levels `bids.price` and its like), `inexact` counts the non-null texts. `root` is the SHA-256 over the parents'
    sorted lines.
    """

    kind: str
    schema_version: int
    lake_id: str
    exchange: str
    market_type: str
    symbol: str | None
    date: str
    hour: int | None
    level: str
    revision: int
    rows: int
    ts_min: int
    ts_max: int
    seq_min: int | None = None
    seq_max: int | None = None
    late: int = 0
    clock: str = "venue"
    decimals: dict[str, int] = {}
    inexact: dict[str, int] = {}
    parents: tuple[Parent, ...] = ()
    root: str = ""
    content_digest: str | None = None
    code_version: str = CODE_VERSION


def text_name(column: str) -> str:
    """The sibling that holds the venue's digits where the float does not."""
    return column + TEXT_SUFFIX


@cache
def columns(kind: str) -> tuple[kinds.Column, ...]:
    """Declared columns of the table, common ones first, without the text siblings. Raises UnknownKind."""
    return kinds.COMMON + kinds.kind(kind).columns


@cache
def schema(kind: str) -> pa.Schema:
    """The Arrow schema of every file of `kind`. All fields are nullable to Arrow; `check_required` says which are not.

    Raises UnknownKind.
    """
    fields: list[pa.Field] = []
    for column in columns(kind):
        fields.append(pa.field(column.name, _ARROW[column.type]))
        if column.type == "decimal":
            fields.append(pa.field(text_name(column.name), pa.string()))
        elif column.type == "levels":
            fields.append(pa.field(text_name(column.name), LEVELS_TEXT))
    return pa.schema(fields)


@cache
def sort_columns(kind: str) -> tuple[str, ...]:
    """Columns that order the rows of a file: symbol, then the kind's order; nulls first, text by its UTF-8 bytes."""
    return ("symbol", *kinds.kind(kind).order)


@cache
def identity_columns(kind: str) -> tuple[str, ...]:
    """Ids inside the kind's key (integers and text). A row with all of them null is identified by its provenance.

    Empty where the key is made of times and names only: then the key always identifies.
    """
    types = {column.name: column.type for column in columns(kind)}
    return tuple(name for name in kinds.kind(kind).key if types[name] in ("int", "text"))


@cache
def decimal_columns(kind: str) -> tuple[str, ...]:
    """Names of the columns that have a `<name>_text` sibling of plain text."""
    return tuple(column.name for column in columns(kind) if column.type == "decimal")


@cache
def level_columns(kind: str) -> tuple[str, ...]:
    """Names of the columns that hold book levels."""
    return tuple(column.name for column in columns(kind) if column.type == "levels")


def flat_levels(table: pa.Table, kind: str) -> Iterator[tuple[str, pa.ChunkedArray, pa.ChunkedArray]]:
    """(`bids.price` and its like, every level's number, its text where the float is inexact) of all rows together."""
    for name in level_columns(kind):
        lists, texts = table.column(name).combine_chunks(), table.column(text_name(name)).combine_chunks()
        levels = lists.flatten()
        for field in ("price", "qty"):
            spelt = _texts_of_levels(lists, texts, field)
            yield f"{name}.{field}", pa.chunked_array([pc.struct_field(levels, field)]), pa.chunked_array([spelt])


def _texts_of_levels(lists: pa.ListArray, texts: pa.ListArray, field: str) -> pa.Array:
    """In the order of the flattened lists: a list of texts is null or as long as its list."""
    if texts.null_count == len(texts):
        return pa.nulls(len(lists.flatten()), pa.string())
    held = pc.take(texts.is_valid(), pc.list_parent_indices(lists))
    places = pc.subtract(pc.cumulative_sum(held.cast(pa.int64())), 1)
    return pc.take(pc.struct_field(texts.flatten(), field), pc.if_else(held, places, None))


@cache
def empty(kind: str) -> pa.Table:
    """A table of that kind without rows."""
    return schema(kind).empty_table()


def conform(table: pa.Table, kind: str, constants: Mapping[str, Any] | None = None) -> pa.Table:
    """`table` with exactly the columns, order and types of `schema(kind)`.

    `constants` are values of columns that are the same in every row (exchange, market_type, source). A column that
    is missing becomes null, a column the kind does not know is an error. Raises VerifyFailed where a value does not
    fit its column.
    """
    wanted = schema(kind)
    given = dict(constants or {})
    unknown = (set(table.column_names) | set(given)) - set(wanted.names)
    if unknown:
        raise VerifyFailed(f"{kind} has no column {', '.join(sorted(unknown))}")
    made: list[pa.ChunkedArray] = []
    for field in wanted:
        if field.name in given:
            made.append(constant(given[field.name], table.num_rows, field.type))
        elif field.name in table.column_names:
            made.append(_cast(table.column(field.name), field, kind))
        else:
            made.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)], type=field.type))
    return pa.table(made, schema=wanted)


def constant(value: Any, rows: int, to: pa.DataType) -> pa.ChunkedArray:
    """A column of that type with the same value in all rows. Times are us, dates days."""
    if pa.types.is_dictionary(to) and value is not None:
        indices = _zeros().slice(0, rows) if rows <= ROW_GROUP_ROWS else pa.repeat(pa.scalar(0, pa.int32()), rows)
        return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))], type=to)
    return pa.chunked_array([pa.repeat(pa.scalar(value, to), rows)], type=to)


@cache
def _zeros() -> pa.Array:
    """What points to the first entry of a dictionary, for any number of rows."""
    return pa.repeat(pa.scalar(0, pa.int32()), ROW_GROUP_ROWS)


def _cast(column: pa.ChunkedArray, field: pa.Field, kind: str) -> pa.ChunkedArray:
    if column.type.equals(field.type):
        return column
    try:
        if pa.types.is_dictionary(field.type):
            plain = column.cast(pa.string())
            return pa.chunked_array([c.dictionary_encode() for c in plain.chunks], type=field.type)
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise VerifyFailed(f"{kind}.{field.name} cannot become {field.type}: {error}") from error


def check_required(table: pa.Table | pa.RecordBatch, kind: str) -> None:
    """Raises VerifyFailed naming the first required column that holds a null."""
    for column in columns(kind):
        if column.required:
            nulls = table.column(column.name).null_count
            if nulls:
                raise VerifyFailed(f"{kind}.{column.name} is required and null in {nulls} of {table.num_rows} rows")


@cache
def parquet_options(kind: str, *, lasting: bool = True) -> dict[str, Any]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for this kind; not `lasting` are parts and hours.

    Times and ids are DELTA_BINARY_PACKED, prices, quantities and names dictionaries, computed floats split by byte
    (measured: 7.4 bytes a trade, a third less than the defaults, read twice as fast); page checksums, page index and
    statistics. What lasts is zstd 3; what is merged within a day is LZ4, of which small files take half the time.
    """
    delta: list[str] = []
    split: list[str] = []
    dictionary: list[str] = []
    for column in columns(kind):
        if column.type in ("int", "time", "date"):
            delta.append(column.name)
        elif column.name in _COMPUTED and kind in kinds.BARS:
            split.append(column.name)
            dictionary.append(text_name(column.name)) if column.type == "decimal" else None
        elif column.type == "levels":
            for name in (column.name, text_name(column.name)):
                dictionary += [f"{name}.list.element.price", f"{name}.list.element.qty"]
        elif column.type == "decimal":
            dictionary += [column.name, text_name(column.name)]
        elif column.type != "bool":
            dictionary.append(column.name)
    return {
        "version": "2.6",
        **({"compression": "zstd", "compression_level": 3} if lasting else {"compression": "lz4"}),
        "use_dictionary": dictionary,
        "column_encoding": dict.fromkeys(delta, "DELTA_BINARY_PACKED") | dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
        "write_statistics": True,
        "write_page_index": True,
        "write_page_checksum": True,
        # values that are handed on at once: the same bytes, a tenth less time than at 1,024
        "write_batch_size": 16 * 1024,
    }


def root_hash(parents: Iterable[Parent]) -> str:
    """SHA-256 over the sorted lines `path sha256` of the parents, each ended by a newline; "" without parents."""
    lines = sorted({f"{parent.path} {parent.sha256}\n" for parent in parents})
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""


def encode_footer(footer: Footer) -> dict[bytes, bytes]:
    """The key/value metadata of a file."""
    return {FOOTER_KEY: msgspec.json.encode(footer)}


def decode_footer(metadata: Mapping[bytes, bytes] | None, name: str) -> Footer:
    """The footer of the file `name` (for messages).

    Raises CorruptFile where there is none or it cannot be read, UnknownVersion where this program is older than it.
    """
    data = (metadata or {}).get(FOOTER_KEY)
    if data is None:
        raise CorruptFile(f"{name} has no lake footer", "it was not written by this program")
    try:
        version = msgspec.json.decode(data)["schema_version"]
        if version > SCHEMA_VERSION:
            raise UnknownVersion(
                f"{name} has table schema {version}, this program knows {SCHEMA_VERSION}", "use a newer program"
            )
        return msgspec.json.decode(data, type=Footer)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CorruptFile(f"{name} has an unreadable lake footer: {error}") from error
