"""The content digest: SHA-256 over what a table's rows say, whatever file, encoding or run they are in.

Pure. One canonical line a row, in the file's order; docs/format/tables.md specifies it and a golden vector pins it.
Left out is everything about how a row came to us: receive and publish times, provenance, estimated times, the
snapshots of a book (they say when we asked, not what the venue did), and of a bar its quote columns where the quotes'
times are estimated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import scaled, tables
from market import kinds

SPECS: Mapping[str, int] = {"book_delta": 2}
"""Version of the rules a kind is digested by, where that is not 1; it stands in the digest's first line."""
_LEFT_OUT = {1: "carried", 2: "snapshot|carried"}
"""Of `book_delta`, by version: rows with one of these flags are no content."""
_BAR_QUOTES = frozenset({"bid", "ask", "spread", "bid_qty", "ask_qty", "ts_quote"})
_BAR_HOW = frozenset({"late", "revision"})
"""Of a bar: how it came to be, not what it says."""


class ContentDigest:
    """Feed it the tables of one file in order; any cut into tables gives the same digest.

    `spec` asks for an earlier version of the kind's rules, for files whose certificates were made by it.
    """

    def __init__(self, exchange: str, market_type: str, kind: str, spec: int | None = None) -> None:
        self.kind = kind
        self.rows = 0
        self._spec = SPECS.get(kind, 1) if spec is None else spec
        self._hash = hashlib.sha256(f"lake-content {self._spec}\t{exchange}\t{market_type}\t{kind}\n".encode())

    def update(self, table: pa.Table) -> None:
        """Adds the rows of a table of `schema(kind)`."""
        if self.kind == "book_delta":
            ours = pc.match_substring_regex(table.column("flags").cast(pa.string()), _LEFT_OUT[self._spec])
            table = table.filter(pc.invert(ours))
        if table.num_rows == 0:
            return
        self.rows += table.num_rows
        lines = canonical_lines(table, self.kind).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        for chunk in lines.chunks if isinstance(lines, pa.ChunkedArray) else [lines]:
            plain = chunk.cast(pa.large_binary())
            start, end = plain.offset, plain.offset + len(plain)
            offsets = memoryview(plain.buffers()[1]).cast("q")
            self._hash.update(memoryview(plain.buffers()[2])[offsets[start] : offsets[end]])

    def hexdigest(self) -> str:
        """The digest of the rows so far."""
        return self._hash.hexdigest()


def content_digest(table: pa.Table, exchange: str, market_type: str, kind: str) -> str:
    """The content digest of one table."""
    digest = ContentDigest(exchange, market_type, kind)
    digest.update(table)
    return digest.hexdigest()


def canonical_lines(table: pa.Table, kind: str) -> pl.Series:
    """One text a row: `symbol`, `ts_event`, then the kind's columns, parted by tabs and ended by a newline."""
    bar = kind in kinds.BARS
    estimated = _series(table.column("ts_estimated"))
    fields: dict[str, pl.Series | str] = {
        "symbol": _names(table.column("symbol")),
        "ts_event": _series(table.column("ts_event")).to_physical(),
    }
    blank = [] if bar else ["ts_event"]
    for column in kinds.kind(kind).columns:
        if bar and column.name in _BAR_HOW:
            continue
        if bar and column.name in _BAR_QUOTES:
            blank.append(column.name)
        fields[column.name] = _texts(table, kind, column)
    if estimated.any():
        fields |= {name: _blanked(fields[name], estimated) for name in blank}
    return _lines(fields, table.num_rows)


def _lines(fields: Mapping[str, pl.Series | str], rows: int) -> pl.Series:
    """The fields of each row joined: what is the same in all rows (a text here) goes into the text between others."""
    pieces: list[pl.Expr] = []
    held: list[pl.Series] = []
    between = ""
    for name, values in fields.items():
        if isinstance(values, str):
            between += values
        elif values.null_count() < rows:
            pieces += [pl.lit(between), pl.col(name).cast(pl.String).fill_null("")]
            held.append(values.alias(name))
            between = ""
        between += "\t"
    last = between[:-1] + "\n"
    if not held:
        return pl.repeat(last, rows, eager=True)
    # three times as fast as joining them with a separator
    return pl.DataFrame(held).select(pl.concat_str([*pieces, pl.lit(last)]).alias("line")).to_series()


def _blanked(values: pl.Series | str, blank: pl.Series) -> pl.Series:
    """The field with nothing in these rows."""
    frame = pl.DataFrame({"values": _column(values, len(blank)), "blank": blank})
    return frame.select(pl.when("blank").then(None).otherwise("values")).to_series()


def _column(values: pl.Series | str, rows: int) -> pl.Series:
    return pl.repeat(values, rows, eager=True) if isinstance(values, str) else values


def _texts(table: pa.Table, kind: str, column: kinds.Column) -> pl.Series | str:
    """The field in each row, or the text that all rows have; integers as they are."""
    values = table.column(column.name)
    match column.type:
        case "dict" | "text":
            names = _names(values)
            return _common_flags(_column(names, len(values))) if column.name == "flags" else names
        case "decimal":
            return _numbers(values, table.column(tables.text_name(column.name)))
        case "float":
            return _numbers(values, None)
        case "levels":
            flat = [held for held in tables.flat_levels(table, kind) if held[0].partition(".")[0] == column.name]
            return _levels(values.combine_chunks(), flat)
        case "bool":
            return _series(values).cast(pl.String)
        case _:
            return _series(values).to_physical()


def _common_flags(flags: pl.Series) -> pl.Series:
    """Flags without `gap_before`: what one connection missed another may have heard, and the book is the same."""
    return flags.str.replace_all(r"(^|,)gap_before", "").str.strip_prefix(",")


def _names(column: pa.ChunkedArray) -> pl.Series | str:
    """Texts with backslash, tab, newline and return escaped, so that no text can forge a field or a line."""
    if column.null_count == len(column):
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(column))
    if pa.types.is_dictionary(column.type):
        whole = column.unify_dictionaries().combine_chunks()
        return _gathered(_escaped(_series(whole.dictionary)), whole.indices)
    return _escaped(_series(column))


def _gathered(texts: pl.Series, places: pa.Array) -> pl.Series | str:
    """The text of each row, or the one that all rows have."""
    if len(texts) == 1 and not texts.null_count() and not places.null_count:
        return str(texts[0])
    return texts.gather(_series(places))


def _escaped(texts: pl.Series) -> pl.Series:
    odd = texts.str.contains(r"[\\\t\n\r]")
    if not odd.any():
        return texts
    for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        texts = texts.str.replace_all(raw, escaped, literal=True)
    return texts


def _numbers(floats: pa.ChunkedArray, texts: pa.ChunkedArray | None) -> pl.Series | str:
    """Plain decimal texts; prices and quantities repeat, so each distinct float is spelt once."""
    if texts is not None and texts.null_count < len(texts):
        return scaled.texts_of(_series(floats), _series(texts))
    values = _series(floats)
    if scaled.single(values):
        return str(scaled.float_texts(values.head(1))[0])
    encoded = floats.combine_chunks().dictionary_encode()
    return _gathered(scaled.float_texts(_series(encoded.dictionary)), encoded.indices)


def _levels(lists: pa.ListArray, numbers: Sequence[tuple[str, pa.ChunkedArray, pa.ChunkedArray]]) -> pl.Series:
    """`price:qty` of every level, best first, parted by `;`. Null where the list is empty."""
    price, qty = (_column(_numbers(floats, texts), len(floats)) for _, floats, texts in numbers)
    rows = _series(pc.list_parent_indices(lists)).cast(pl.Int64)
    frame = pl.DataFrame({"row": rows, "price": price, "qty": qty})
    joined = frame.group_by("row", maintain_order=True).agg((pl.col("price") + ":" + pl.col("qty")).str.join(";"))
    every = pl.DataFrame({"row": pl.int_range(len(lists), eager=True)})
    return every.join(joined, on="row", how="left", maintain_order="left").get_column("price")


def _series(column: pa.ChunkedArray | pa.Array) -> pl.Series:
    made = pl.from_arrow(column)
    assert isinstance(made, pl.Series)
    return made
