"""Blocks of a file as batches of its kind: texts of numbers, times in us, each row with its line. Pure but for Parquet.

A row that cannot be one stays in the batch with its reason (`lake.typed.BAD`): it is set aside, counted, and not lost.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from collectors.files import changes, dialects, own, proven, quick, texts
from collectors.files.blocks import Block, tables_of
from collectors.files.reading import PRICES, Reading, Refused
from collectors.files.sniff import JSON, cells
from collectors.files.typed_columns import texts_of
from lake import tables, typed
from lake.adopting import BATCH_ROWS
from lake.typed import BAD, LINE
from market.times import MS

_NUMBER = "n"
_WHOLE = "^-?[0-9]{1,18}$"
_MAKERS = {"true": "sell", "false": "buy"}
_SIDES = {"b": "buy", "s": "sell", "unknown": None, "none": None, "null": None, "": None}


def batches(
    path: Path, reading: Reading, block: Block, *, verbatim: bool = False, other: list[int] | None = None
) -> Iterator[pl.DataFrame]:
    """The rows of a block; `verbatim`: numbers as their texts, whatever may be made of them, and every line.

    To `other` is added how many rows there were that tell nothing of the kind, and are left out.

    Raises Refused for what is no row of this file at all.
    """
    block = block.read(path)
    if reading.format in ("parquet", "feather"):
        first = block.first
        for table in tables_of(path, reading.format, block.group, BATCH_ROWS):
            if reading.dialect == own.DIALECT:
                yield own.of_table(reading, table, first)
            else:
                yield from _batches(reading, _counted(texts_of(table), first), other)
            first += table.num_rows
        return
    if reading.dialect == own.DIALECT and reading.format == "json":
        yield own.of_lines(reading, path.name, block.data, block.first)
        return
    quickly = _proven(reading, block) if reading.format == "csv" and not verbatim else None
    if quickly is not None:
        yield from (quickly.slice(start, BATCH_ROWS) for start in range(0, quickly.height, BATCH_ROWS))
        return
    cut = _of_csv(path, reading, block) if reading.format == "csv" else _of_json(path, reading, block)
    yield from _batches(reading, _counted(cut, block.first), other)


def _batches(reading: Reading, frame: pl.DataFrame, other: list[int] | None) -> Iterator[pl.DataFrame]:
    """Lines without anything are no rows."""
    first = frame["c0"]
    if first.dtype == pl.String and (first.null_count() or (first == "").any()):
        cells = [pl.col(name) for name in frame.columns if name != _NUMBER]
        frame = frame.filter(~pl.all_horizontal(cell.is_null() | (cell == "") for cell in cells))
    if reading.dialect in changes.DIALECTS:  # a block holds whole messages
        yield from [changes.batch(reading, frame)] if frame.height else []
        return
    for start in range(0, frame.height, BATCH_ROWS):
        cut = frame.slice(start, BATCH_ROWS)
        yield own.of_texts(reading, cut) if reading.dialect == own.DIALECT else _batch(reading, cut, other)


def _counted(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64, eager=True).alias(_NUMBER))


def _proven(reading: Reading, block: Block) -> pl.DataFrame | None:
    """The rows of a block of which nothing is to be doubted or refused, or None; other columns are not looked at."""
    if reading.comma or reading.scale or not (integers := _integers(reading)):
        return None
    types = {column.name: column.type for column in tables.columns(reading.kind)}
    wanted: dict[str, Any] = {f"c{place}": pl.String for place in reading.fields.values()}
    wanted |= {f"c{place}": pl.Float64 for name, place in reading.fields.items() if types[name] == "decimal"}
    wanted |= {f"c{place}": pl.String for stamp in reading.times.values() for place in stamp.columns}
    wanted |= dict.fromkeys(integers, pl.Int64)
    names = [f"c{place}" for place in range(len(reading.names))]
    found = proven.columns(block.data, names, wanted, reading.delimiter)
    if found is None:
        return None
    wrong: list[pl.Series] = []
    made = _columns(reading, _counted(found, block.first), wrong)
    if any(reasons.null_count() < reasons.len() for reasons in wrong):
        return None
    frame = pl.DataFrame({name: series.alias(name) for name, series in made.items()})
    return frame if typed.sound(reading.kind, frame) else None


def _of_csv(path: Path, reading: Reading, block: Block) -> pl.DataFrame:
    names = [f"c{place}" for place in range(len(reading.names))]
    quickly = quick.columns(block.data, names, _integers(reading), reading.delimiter)
    if quickly is not None:
        return quickly
    try:
        frame = pl.read_csv(
            block.data, has_header=False, separator=reading.delimiter, schema=dict.fromkeys(names, pl.String),
            empty_string_is_null=False, missing_columns="insert",
        )  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise _explained(path, reading, block, error) from error
    cuts = block.data.count(reading.delimiter.encode())
    if b'"' not in block.data and cuts == frame.height * (len(names) - 1):
        return frame
    return _shortened(frame, reading, block)


def _integers(reading: Reading) -> frozenset[str]:
    """Columns whose texts are nothing but whole numbers to what is made of them."""
    if reading.dialect == own.DIALECT or reading.dialect in changes.DIALECTS:
        return frozenset()  # they look at texts
    types = {column.name: column.type for column in tables.columns(reading.kind)}
    places = [place for name, place in reading.fields.items() if types[name] in ("int", "time")]
    counts = (stamp.columns for stamp in reading.times.values() if stamp.form in texts.UNITS)
    places += [columns[0] for columns in counts if len(columns) == 1]
    every = [*reading.fields.values(), *(place for stamp in reading.times.values() for place in stamp.columns)]
    return frozenset(f"c{place}" for place in places if every.count(place) == 1)


def _shortened(frame: pl.DataFrame, reading: Reading, block: Block) -> pl.DataFrame:
    """The last column as null in rows that have fewer columns than the others: it was filled up."""
    lines = block.data.decode(errors="replace").removesuffix("\n").split("\n")
    try:
        widths = [len(row) for row in csv.reader(lines, delimiter=reading.delimiter)]
    except csv.Error:
        return frame
    if len(widths) != frame.height:  # lines within quotes
        return frame
    short = pl.Series([width < len(reading.names) for width in widths])
    last = f"c{len(reading.names) - 1}"
    return frame.with_columns(pl.when(short).then(None).otherwise(pl.col(last)).alias(last))


def _explained(path: Path, reading: Reading, block: Block, error: Exception) -> Refused:
    """Which line it is that cannot be read."""
    try:
        lines = block.data.decode().split("\n")
    except UnicodeDecodeError as broken:
        number = block.first + block.data[: broken.start].count(b"\n")
        return Refused(f"{path.name}: line {number} is not UTF-8", "say --encoding, e.g. cp1252")
    with contextlib.suppress(csv.Error):
        for number, row in enumerate(csv.reader(lines, delimiter=reading.delimiter), block.first):
            if len(row) > len(reading.names):
                width = f"{len(row)} columns, the file has {len(reading.names)}"
                return Refused(f"{path.name}: line {number} has {width}", "columns are not guessed: put the file right")
    return Refused(f"{path.name} cannot be read behind line {block.first}: {str(error)[:200]}", "put the file right")


def _of_json(path: Path, reading: Reading, block: Block) -> pl.DataFrame:
    header = None if reading.names == tuple(str(n + 1) for n in range(len(reading.names))) else reading.names
    width = len(reading.names)
    try:
        # an array's elements have commas between them, lines have not
        values = _decoded(block.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(
            f"{path.name} is not readable JSON from row {block.first} on: {error}", "fetch it again"
        ) from error
    rows = [cells(value, header) for value in values]
    for number, row in enumerate(rows, block.first):
        if len(row) > width:
            raise Refused(f"{path.name}: row {number} has {len(row)} values, the first had {width}", "put it right")
    made: list[tuple[str | None, ...]] = [(*row, *(None,) * (width - len(row))) for row in rows]
    return pl.DataFrame(made, schema={f"c{place}": pl.String for place in range(width)}, orient="row")


def _decoded(data: bytes) -> list[object]:
    try:
        return list(JSON.decode(b"[" + data + b"]"))
    except msgspec.DecodeError:
        return [JSON.decode(line) if line.strip() else [] for line in data.splitlines()]


def _batch(reading: Reading, cut: pl.DataFrame, other: list[int] | None) -> pl.DataFrame:
    """Rows of texts c0, c1, … and their numbers as a batch of the kind."""
    last = f"c{len(reading.names) - 1}"
    wrong = [_reasons(cut[last].is_null(), "it has fewer columns than the others; it begins", cut["c0"])]
    made = _columns(reading, cut, wrong)
    line = pl.struct(pl.col(f"c{place}").alias(f"{reading.delimiter}{place}") for place in range(len(reading.names)))
    made[LINE] = cut.select(line).to_series()
    frame = pl.DataFrame({name: series.alias(name) for name, series in made.items()})
    reasons = pl.DataFrame([series.alias(f"r{place}") for place, series in enumerate(wrong)])
    frame = frame.with_columns(reasons.select(pl.coalesce(pl.all())).to_series().alias(BAD))
    if reading.kind == "mark_price":  # rows that tell of something else
        frame = frame.filter(pl.col("mark").is_not_null() | pl.col(BAD).is_not_null())
        if other is not None:
            other.append(cut.height - frame.height)
    return frame


def _columns(reading: Reading, cut: pl.DataFrame, wrong: list[pl.Series]) -> dict[str, pl.Series]:
    """The columns of the kind; what is wrong with rows is added to `wrong`."""
    made: dict[str, pl.Series] = {"frame_no": cut[_NUMBER].alias("frame_no")}
    if reading.symbol:
        made["symbol"] = pl.Series([reading.symbol]).new_from_index(0, cut.height)
    types = {column.name: column.type for column in tables.columns(reading.kind)}
    for name, place in reading.fields.items():
        made[name] = _values(reading, name, types[name], cut[f"c{place}"], wrong)
    for name, stamp in reading.times.items():
        columns = [cut[f"c{place}"] for place in stamp.columns]
        columns = [column if column.dtype == pl.Int64 else column.fill_null("") for column in columns]
        made[name] = texts.times(columns, stamp)
        if name != "next_funding":
            wrong.append(_reasons(made[name].is_null(), f"{name}: no time of the form {stamp.form}", columns[0]))
    if reading.kind == "kline":
        _candles(reading, made)
    return made


def _reasons(where: pl.Series, what: str, shown: pl.Series) -> pl.Series:
    if not where.any():
        return pl.Series([None], dtype=pl.String).new_from_index(0, where.len())
    told = pl.select(pl.concat_str(pl.lit(f"{what}: "), shown.cast(pl.String).str.head(60))).to_series()
    return pl.select(pl.when(where).then(told).otherwise(None)).to_series()


def _values(reading: Reading, name: str, kind: str, column: pl.Series, wrong: list[pl.Series]) -> pl.Series:
    if kind == "decimal":
        if column.dtype == pl.Float64:
            return column
        return texts.numbers(column, comma=reading.comma, scale=reading.scale if name in PRICES else 0)
    if kind in ("int", "time"):
        if column.dtype == pl.Int64 or column.str.contains(_WHOLE).all():
            return column.cast(pl.Int64)
        plain = column.str.strip_chars().str.replace(r"\.0+$", "")
        plain = plain.set(plain == "", None)
        made = plain.cast(pl.Int64, strict=False)
        wrong.append(_reasons(made.is_null() & plain.is_not_null(), f"{name}: no whole number", column))
        return made
    plain = column.str.strip_chars()
    if reading.dialect.startswith("tardis-"):
        plain = texts.unguarded(plain)
    if name == "side":
        lower = plain.str.to_lowercase()
        words = _MAKERS if reading.dialect.startswith(dialects.MAKERS) else _SIDES
        return lower.replace(list(words), list(words.values()))
    return plain.set(plain == "", None)


def _candles(reading: Reading, made: dict[str, pl.Series]) -> None:
    """When candles open, and the last millisecond of each, which is their time as it is of the venues' own."""
    zone = reading.times["open_time"].zone
    stamped = made["open_time"]
    if reading.label == "close":
        months = reading.interval == "1M"
        stamped = (
            texts.month_of(stamped - 1, zone) if months else texts.shifted(stamped, reading.interval, zone, back=True)
        )
    made["open_time"] = stamped
    made["ts_event"] = texts.shifted(stamped, reading.interval, zone) - MS
    made["interval"] = pl.Series([reading.interval]).new_from_index(0, stamped.len())
