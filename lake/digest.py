"""The content digest: SHA-256 over what a table's rows say, whatever file, encoding or run they are in.

Pure. One canonical line a row, in the file's order; docs/format/tables.md specifies it and a golden vector pins it.
Left out is everything about how a row came to us: receive and publish times, provenance, estimated times, the
snapshots of a book (they say when we asked, not what the venue did), and of a bar its quote columns where the quotes'
times are estimated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

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
_ODD = re.compile(r"[\\\t\n\r]")
_FEW = 16
"""Texts that are looked at one by one."""
_REMEMBERED = 16 * 1024
"""Floats of a column whose texts are remembered from table to table."""
_WRITTEN_AT_ONCE = 2 * 1024
"""Rows of which the lines stay in the cache."""


class ContentDigest:
    """Feed it the tables of one file in order; any cut into tables gives the same digest.

    `spec` asks for an earlier version of the kind's rules, for files whose certificates were made by it.
    """

    def __init__(self, exchange: str, market_type: str, kind: str, spec: int | None = None) -> None:
        self.kind = kind
        self.rows = 0
        self._spec = SPECS.get(kind, 1) if spec is None else spec
        self._known: dict[str, Known] = {}
        self._hash = hashlib.sha256(f"lake-content {self._spec}\t{exchange}\t{market_type}\t{kind}\n".encode())

    def update(self, table: pa.Table) -> None:
        """Adds the rows of a table of `schema(kind)`."""
        if self.kind == "book_delta":
            ours = pc.match_substring_regex(table.column("flags").cast(pa.string()), _LEFT_OUT[self._spec])
            table = table.filter(pc.invert(ours))
        if table.num_rows == 0:
            return
        self.rows += table.num_rows
        columns, first, last = _parted(_fields(table, self.kind, self._known), table.num_rows)
        if not columns:
            self._hash.update(((first + last) * table.num_rows).encode())
            return
        # by the writer of CSV, in half the time of making each line a text; what opens a line ends the one above it
        opening = first.encode()
        self._hash.update(opening)
        lines: Any = _Hashed(self._hash.update, len(opening))
        pl.DataFrame(columns).write_csv(
            lines,
            include_header=False,
            separator="\t",
            line_terminator=last + first,
            quote_style="never",
            batch_size=_WRITTEN_AT_ONCE,
        )

    def hexdigest(self) -> str:
        """The digest of the rows so far."""
        return self._hash.hexdigest()


class _Hashed:
    """A file of which all that is written goes into a hash as it comes, but for the last `behind` bytes."""

    def __init__(self, update: Callable[[bytes | memoryview], None], behind: int) -> None:
        self._update = update
        self._behind = behind
        self._held = b""

    def write(self, data: bytes) -> int:
        """Some more."""
        if len(data) < self._behind:
            self._end(self._held + data)
        else:
            self._update(self._held)
            self._end(data)
        return len(data)

    def _end(self, data: bytes) -> None:
        whole = max(0, len(data) - self._behind)
        self._update(memoryview(data)[:whole])
        self._held = data[whole:]

    def flush(self) -> None:
        """Nothing is kept that could go on."""


def content_digest(table: pa.Table, exchange: str, market_type: str, kind: str) -> str:
    """The content digest of one table."""
    digest = ContentDigest(exchange, market_type, kind)
    digest.update(table)
    return digest.hexdigest()


class Spelt(NamedTuple):
    """Texts that repeat, each held once: those of the rows are `texts` at `places`."""

    texts: pl.Series
    places: pl.Series


class Known(NamedTuple):
    """Floats, each once, and their texts."""

    floats: pa.Array
    texts: pl.Series


Field: TypeAlias = pl.Series | Spelt | str
"""What a column says in each row; a text that all rows have is held alone."""


def canonical_lines(table: pa.Table, kind: str) -> pl.Series:
    """One text a row: `symbol`, `ts_event`, then the kind's columns, parted by tabs and ended by a newline."""
    return _lines(_fields(table, kind, {}), table.num_rows)


def _parted(fields: Mapping[str, Field], rows: int) -> tuple[list[pl.Series], str, str]:
    """Columns between which there is a tab and nothing else, and the texts that open and end each line."""
    held: list[Field] = []
    first = between = ""
    for values in fields.values():
        if isinstance(values, str):
            between += values
        elif not _empty(values):
            if not held:
                first, between = between, "\t"
            held += _behind(between[1:], values)
            between = ""
        between += "\t"
    columns = [_column(values, rows).alias(str(place)) for place, values in enumerate(held)]
    return columns, first, between[:-1] + "\n"


def _behind(text: str, values: Field) -> list[Field]:
    """The field behind a text that is in all rows and, where there is any, ends with a tab."""
    if text and isinstance(values, Spelt) and not values.places.has_nulls():
        return [values._replace(texts=text + values.texts.fill_null(""))]
    return [text[:-1], values] if text else [values]


def _empty(values: pl.Series | Spelt) -> bool:
    """Whether no row says anything."""
    held = values.places if isinstance(values, Spelt) else values
    return held.null_count() == len(held)


def _fields(table: pa.Table, kind: str, known: dict[str, Known]) -> dict[str, Field]:
    """The fields of a line, in their order. `known` has the texts of floats by column, and gets those made here."""
    bar = kind in kinds.BARS
    estimated = _series(table.column("ts_estimated"))
    fields: dict[str, Field] = {
        "symbol": _names(table.column("symbol")),
        "ts_event": _series(table.column("ts_event")).cast(pl.Int64),
    }
    blank = [] if bar else ["ts_event"]
    for column in kinds.kind(kind).columns:
        if bar and column.name in _BAR_HOW:
            continue
        if bar and column.name in _BAR_QUOTES:
            blank.append(column.name)
        fields[column.name] = _texts(table, kind, column, known)
    if estimated.any():
        fields |= {name: _blanked(fields[name], estimated) for name in blank}
    return fields


def _lines(fields: Mapping[str, Field], rows: int) -> pl.Series:
    """The fields of each row joined: what is the same in all rows (a text here) goes into the text between others."""
    pieces: list[pl.Expr] = []
    held: list[pl.Series] = []
    between = ""
    for name, values in fields.items():
        if isinstance(values, str):
            between += values
        elif not _empty(values):
            pieces += [pl.lit(between), pl.col(name).cast(pl.String).fill_null("")]
            held.append(_column(values, rows).alias(name))
            between = ""
        between += "\t"
    last = between[:-1] + "\n"
    if not held:
        return pl.repeat(last, rows, eager=True)
    # three times as fast as joining them with a separator
    return pl.DataFrame(held).select(pl.concat_str([*pieces, pl.lit(last)]).alias("line")).to_series()


def _blanked(values: Field, blank: pl.Series) -> pl.Series:
    """The field with nothing in these rows."""
    frame = pl.DataFrame({"values": _column(values, len(blank)), "blank": blank})
    return frame.select(pl.when("blank").then(None).otherwise("values")).to_series()


def _column(values: Field, rows: int) -> pl.Series:
    """The field of every row."""
    if isinstance(values, Spelt):
        return values.texts.gather(values.places)
    return pl.Series([values]).new_from_index(0, rows) if isinstance(values, str) else values


def _texts(table: pa.Table, kind: str, column: kinds.Column, known: dict[str, Known]) -> Field:
    """The field in each row, or the text that all rows have; integers as they are."""
    values = table.column(column.name)
    match column.type:
        case "dict" | "text":
            names = _names(values)
            return _common_flags(_column(names, len(values))) if column.name == "flags" else names
        case "decimal":
            return _numbers(column.name, values, table.column(tables.text_name(column.name)), known)
        case "float":
            return _numbers(column.name, values, None, known)
        case "levels":
            flat = [held for held in tables.flat_levels(table, kind) if held[0].partition(".")[0] == column.name]
            return _levels(values.combine_chunks(), flat, known)
        case "bool":
            return _series(values).cast(pl.String)
        case _:
            return _series(values).to_physical()


def _common_flags(flags: pl.Series) -> pl.Series:
    """Flags without `gap_before`: what one connection missed another may have heard, and the book is the same."""
    return flags.str.replace_all(r"(^|,)gap_before", "").str.strip_prefix(",")


def _names(column: pa.ChunkedArray) -> Field:
    """Texts with backslash, tab, newline and return escaped, so that no text can forge a field or a line."""
    if column.null_count == len(column):
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(column))
    if pa.types.is_dictionary(column.type):
        whole = column.unify_dictionaries().combine_chunks()
        return _spelt(_escaped(_series(whole.dictionary)), whole.indices)
    return _escaped(_series(column))


def _spelt(texts: pl.Series, places: pa.Array) -> Spelt | str:
    """The texts of the rows, or the one that all rows have."""
    if len(texts) == 1 and not texts.null_count() and not places.null_count:
        return str(texts[0])
    return Spelt(texts, _series(places))


def _escaped(texts: pl.Series) -> pl.Series:
    if len(texts) <= _FEW and not any(_ODD.search(text) for text in texts if text):
        return texts
    if not texts.str.contains(_ODD.pattern).any():
        return texts
    for raw, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        texts = texts.str.replace_all(raw, escaped, literal=True)
    return texts


def _numbers(name: str, floats: pa.ChunkedArray, texts: pa.ChunkedArray | None, known: dict[str, Known]) -> Field:
    """Plain decimal texts; prices and quantities repeat, so each distinct float is spelt once."""
    if texts is not None and texts.null_count < len(texts):
        return scaled.texts_of(_series(floats), _series(texts))
    values = _series(floats)
    if scaled.single(values):
        return str(scaled.float_texts(values.head(1))[0])
    held, places = _looked_up(floats.combine_chunks(), known.get(name))
    known[name] = held
    return _spelt(held.texts, places)


def _looked_up(floats: pa.Array, known: Known | None) -> tuple[Known, pa.Array]:
    """The floats' places among those that are known afterwards."""
    if known is not None and len(known.floats) <= _REMEMBERED:  # else they hardly come again
        places = pc.index_in(floats, known.floats)
        if places.null_count == floats.null_count:
            return known, places
        lacking = places.is_null()
        fresh = floats.filter(lacking).dictionary_encode()
        if len(known.floats) + len(fresh.dictionary) <= _REMEMBERED:
            behind = pc.add(fresh.indices, pa.scalar(len(known.floats), pa.int32()))
            texts = pl.concat([known.texts, scaled.float_texts(_series(fresh.dictionary))], rechunk=True)
            known = Known(pa.concat_arrays([known.floats, fresh.dictionary]), texts)
            return known, pc.replace_with_mask(places, lacking, behind)
    encoded = floats.dictionary_encode()
    return Known(encoded.dictionary, scaled.float_texts(_series(encoded.dictionary))), encoded.indices


def _levels(
    lists: pa.ListArray, numbers: Sequence[tuple[str, pa.ChunkedArray, pa.ChunkedArray]], known: dict[str, Known]
) -> pl.Series:
    """`price:qty` of every level, best first, parted by `;`. Null where the list is empty."""
    price, qty = (_column(_numbers(name, floats, texts, known), len(floats)) for name, floats, texts in numbers)
    rows = _series(pc.list_parent_indices(lists)).cast(pl.Int64)
    frame = pl.DataFrame({"row": rows, "price": price, "qty": qty})
    joined = frame.group_by("row", maintain_order=True).agg((pl.col("price") + ":" + pl.col("qty")).str.join(";"))
    every = pl.DataFrame({"row": pl.int_range(len(lists), eager=True)})
    return every.join(joined, on="row", how="left", maintain_order="left").get_column("price")


def _series(column: pa.ChunkedArray | pa.Array) -> pl.Series:
    made = pl.from_arrow(column)
    assert isinstance(made, pl.Series)
    return made
