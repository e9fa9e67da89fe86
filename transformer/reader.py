"""A sealed segment as a table of its kind: every line becomes a row or goes to quarantine with its reason.

The fast path cuts the lines into columns at their commas (`transformer.cutting`). It is taken only for a segment whose
bytes are those of its seal, and its answer counts only where every value is of the type that the line's struct
declares, every key is there exactly once and every row passes the rules. On any doubt the segment is read line by line
with msgspec, which tells good lines from bad ones; both ways end in the same `_Columns`, so good lines give the same
bytes either way. Law: lines = rows + bad.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
import polars as pl
import pyarrow as pa

from lake import scaled, segments, tables
from lake.errors import CorruptSegment
from lake.rows import SegmentRow
from lake.segments import BadLine
from market import kinds
from market.instruments import MARKET_SIZING
from market.kinds import CONDITIONS, Event
from market.times import DAY
from transformer.cutting import AT_ONCE, Field, cut
from transformer.levels import Levels

EARLIEST = 365 * DAY
LATEST = 230 * 365 * DAY
"""Times outside [1971, 2199) are no times in us: seconds, ms and ns taken for us all fall out of it."""
SOURCES = ("ws", "rest", "archive", "import", "derived")
SIDES = ("buy", "sell")
_SIGNED = ("rate", "predicted_rate")
"""Numbers that may be below zero."""
_TIMES = ("ts_event", "ts_publish", "ts_recv")
_INT64 = 2**63
_NO_TIME = "no time in microseconds"
_ROWS_AT_ONCE = 32 * 1024
_BOOKS_AT_ONCE = 4 * 1024
"""A row of a book is dozens of levels."""


class Read(msgspec.Struct):
    """What a segment holds: `table` in schema order, rows in the order of their lines; `bad` lines with their place.

    `fast` says which way it was read. `altered` says how its bytes differ from its seal, None where they do not.
    """

    table: pa.Table
    bad: list[BadLine]
    lines: int
    fast: bool
    altered: str | None = None


def read_segment(root: Path, row: SegmentRow) -> Read:
    """Read the sealed segment of `row`. Raises CorruptSegment where there is nothing to read."""
    _, found = next(read_segments(root, [row]))
    if isinstance(found, CorruptSegment):
        raise found
    return found


def read_segments(root: Path, rows: Iterable[SegmentRow]) -> Iterator[tuple[SegmentRow, Read | CorruptSegment]]:
    """Read sealed segments of one stream, in their order; what is said of each is what `read_segment` says.

    Small ones are read together, since a call costs as much for ten rows as for a thousand.
    """
    plain: list[tuple[SegmentRow, bytes]] = []
    for row in rows:
        found: bytes | Read | CorruptSegment
        try:
            found = _opened(root, row)
        except CorruptSegment as error:
            found = error
        if isinstance(found, bytes) and sum(row.bytes for row, _ in plain) + len(found) <= AT_ONCE:
            plain.append((row, found))
            continue
        yield from _together(plain)
        plain = []
        if isinstance(found, bytes):
            plain.append((row, found))
        else:
            yield row, found
    yield from _together(plain)


def _opened(root: Path, row: SegmentRow) -> bytes | Read:
    """The bytes of a segment that may take the fast path, else what is read of it the other way."""
    if not row.bytes and not row.sha256:
        return Read(tables.empty(row.kind), [], 0, fast=True)
    data = _bytes(root, row)
    found = hashlib.sha256(data).hexdigest()
    if found != row.sha256:
        read = _slow(row, data)
        read.altered = f"sealed {row.rows} lines {row.sha256[:12]}, found {read.lines} lines {found[:12]}"
        return read
    simple = row.clean and not tables.level_columns(row.kind)
    return data if simple and data.endswith(b"\n") and data.count(b"\n") == row.rows else _slow(row, data)


def _together(held: Sequence[tuple[SegmentRow, bytes]]) -> Iterator[tuple[SegmentRow, Read]]:
    """Segments whose lines are as many as their seals say; on any doubt each of them by itself."""
    if len(held) > 1:
        table = _fast(held[0][0], b"".join(data for _, data in held))
        if table is not None:
            start = 0
            for row, _ in held:
                yield row, Read(table.slice(start, row.rows), [], row.rows, fast=True)
                start += row.rows
            return
    for row, data in held:
        table = _fast(row, data)
        yield row, _slow(row, data) if table is None else Read(table, [], row.rows, fast=True)


def _bytes(root: Path, row: SegmentRow) -> bytes:
    try:
        return (root / row.path).read_bytes()
    except OSError as error:
        raise CorruptSegment(f"{row.path} cannot be read: {error}", "run: dl verify") from error


@cache
def _fields(kind: str) -> tuple[Field, ...]:
    """The keys of the kind's line."""
    struct = kinds.kind(kind).struct
    assert struct is not None, f"{kind} is derived and has no lines"
    names = {column.name for column in tables.columns(kind) if column.type == "dict"} | {"stream"}
    found = []
    for field in msgspec.structs.fields(struct):
        options = get_args(field.type) if get_origin(field.type) in (Union, types.UnionType) else (field.type,)
        bare = next(option for option in options if option is not type(None))
        found.append(
            Field(
                field.name, bare, type(None) in options, not field.required,
                default=None if field.required or not isinstance(field.default, int | str) else field.default,
                repeats=field.name in names, checked=field.name in tables.decimal_columns(kind),
            )
        )  # fmt: skip
    return tuple(found)


def _fast(row: SegmentRow, data: bytes) -> pa.Table | None:
    """The table where nothing at all is doubtful, else None. Of `row` only the stream counts: a row a line it is."""
    made: list[pa.Table] = []
    for piece in cut(data, _fields(row.kind)):
        if piece is None:
            return None
        columns = _Columns(row, piece)
        if not columns.sound():
            return None
        made.append(columns.table())
    return _joined(row.kind, made)


def _joined(kind: str, made: Sequence[pa.Table]) -> pa.Table:
    """The pieces as one table with one dictionary a column, whose values come in order of their first row."""
    return pa.concat_tables([tables.empty(kind), *made]).unify_dictionaries().combine_chunks()


def _slow(row: SegmentRow, data: bytes) -> Read:
    bad: list[BadLine] = []
    made: list[pa.Table] = []
    events: list[tuple[int, Event]] = []
    count = 0
    at_once = _BOOKS_AT_ONCE if tables.level_columns(row.kind) else _ROWS_AT_ONCE
    for found in segments.read_lines(row.kind, data):
        count += 1
        if isinstance(found, BadLine):
            bad.append(found)
        elif too_big := _too_big(row.kind, found):
            bad.append(BadLine(-1, count, b"", too_big))
        else:
            events.append((count, found))
        if len(events) >= at_once:
            made.append(_sifted(row, events, bad))
            events = []
    made.append(_sifted(row, events, bad))
    bad = _located(data, sorted(bad, key=lambda line: line.number))
    return Read(_joined(row.kind, made), bad, count, fast=False)


def _sifted(row: SegmentRow, events: Sequence[tuple[int, Event]], bad: list[BadLine]) -> pa.Table:
    """The rows of the good ones among numbered events; the others are added to `bad`."""
    columns = _Columns(row, _frame(row.kind, [event for _, event in events]))
    faults = columns.faults()
    wrong = faults.is_not_null()
    bad += [BadLine(-1, events[at][0], b"", faults[at]) for at in wrong.arg_true()]
    columns.keep(~wrong)
    return columns.table()


def _located(data: bytes, bad: list[BadLine]) -> list[BadLine]:
    """The same, those without a place (offset -1) now with theirs."""
    if all(line.offset >= 0 for line in bad):
        return bad
    wanted = {line.number: line for line in bad}
    return [
        wanted[number]._replace(offset=offset, line=line) for number, offset, line in _lines(data) if number in wanted
    ]


def _lines(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        yield number, offset, line
        offset += len(line) + 1


def _too_big(kind: str, event: Event) -> str | None:
    for name, bare, *_ in _fields(kind):
        if bare is int:
            value = getattr(event, name)
            if value is not None and not -_INT64 <= value < _INT64:
                return f"{name}: no 64-bit integer: {str(value)[:40]}"
    return None


def _frame(kind: str, events: Sequence[Event]) -> pl.DataFrame:
    """Columns of the lines' fields: integers as Int64, all else as text (a flags tuple joined by commas)."""
    columns: dict[str, pl.Series] = {}
    for name, bare, *_ in _fields(kind):
        values: list[Any] = [getattr(event, name) for event in events]
        if bare is msgspec.Raw:
            values = [bytes(value).decode(errors="replace") for value in values]  # what is no UTF-8 is no level either
        elif bare not in (int, str):
            values = [",".join(value) for value in values]
        columns[name] = pl.Series(name, values, dtype=pl.Int64 if bare is int else pl.String)
    return pl.DataFrame(columns)


class _Columns:
    """The fields of the lines on their way to the table: the rules they must pass, then the table's columns."""

    def __init__(self, row: SegmentRow, frame: pl.DataFrame) -> None:
        self.row = row
        self.kind = row.kind
        self.frame = frame
        sizing = MARKET_SIZING[row.market_type]
        if "multiplier" in frame.columns and self.kind != "contract":
            self.frame = frame.with_columns(
                pl.col("qty_unit").fill_null(sizing.qty_unit), pl.col("multiplier").fill_null(sizing.multiplier)
            )
        self.levels = {name: Levels(self.frame[name]) for name in tables.level_columns(self.kind)}

    def sound(self) -> bool:
        """Whether no row breaks a rule."""
        if self.frame.is_empty():
            return True
        broken = [rule.broken.fill_null(value=False).any() for rule in self._rules()]
        return not self.frame.select(pl.any_horizontal(broken)).item()

    def faults(self) -> pl.Series:
        """For each row the first rule it breaks, null where it breaks none."""
        if self.frame.is_empty():
            return pl.Series([], dtype=pl.String)
        return self.frame.select(pl.coalesce(rule.reason() for rule in self._rules())).to_series()

    def _rules(self) -> list[_Rule]:
        rules = [_Rule(~pl.col(name).is_between(EARLIEST, LATEST), name, _NO_TIME) for name in _TIMES]
        rules += [_Rule(~pl.col(name).is_between(0, LATEST), name, _NO_TIME) for name in self._named("time")]
        if "skew_us" in self.frame.columns:
            rules.append(_Rule(~pl.col("skew_us").is_between(-DAY, DAY), "skew_us", "more than a day"))
        for name in tables.decimal_columns(self.kind):
            rules.append(_Rule(~pl.col(name).str.contains(scaled.STRICT), name, "no plain decimal"))
            if name not in _SIGNED:
                rules.append(_Rule(pl.col(name).str.starts_with("-"), name, "below zero"))
        rules.append(_Rule(pl.col("symbol") == "", "symbol", "empty"))
        rules.append(_Rule(~pl.col("source").is_in(SOURCES), "source", "unknown"))
        for name, allowed in (("side", SIDES), ("condition", CONDITIONS), ("qty_unit", ("base", "quote", "contract"))):
            if name in self.frame.columns:
                rules.append(_Rule(~pl.col(name).is_in(allowed), name, "unknown"))
        for name, parsed in self.levels.items():
            broken = pl.lit(pl.Series([reason is not None for reason in parsed.wrong], dtype=pl.Boolean))
            rules.append(_Rule(broken, name, "no list of [price, quantity, ...] texts"))
        return rules

    def keep(self, wanted: pl.Series) -> None:
        """Go on with these rows only."""
        self.frame = self.frame.filter(wanted)
        for parsed in self.levels.values():
            parsed.keep(wanted)

    def table(self) -> pa.Table:
        """The rows in the schema of their kind. All of them have passed the rules."""
        frame = self.frame
        skew = pl.col("skew_us").fill_null(0) if "skew_us" in frame.columns else 0
        frame = frame.with_columns(
            ts_event=pl.col("ts_event").fill_null(pl.col("ts_recv") - skew), ts_estimated=pl.col("ts_event").is_null()
        ).with_columns(date=pl.col("ts_event").cast(pl.Datetime("us")).dt.date())
        for name in tables.decimal_columns(self.kind):
            floats, texts = scaled.split(frame[name])
            frame = frame.with_columns(floats.alias(name), texts.alias(tables.text_name(name)))
        if "condition" in frame.columns:
            nothing = (pl.col("price") == 0) | (pl.col("qty") == 0)
            condition = pl.when(nothing).then(pl.lit("void")).otherwise(pl.col("condition"))
            frame = frame.with_columns(condition.alias("condition"))
        names = [name for name in tables.schema(self.kind).names if name in frame.columns and name not in self.levels]
        arrow = frame.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
        for name, parsed in self.levels.items():
            for column, values in zip((name, tables.text_name(name)), parsed.columns(), strict=True):
                arrow = arrow.append_column(pa.field(column, values.type), values)
        constants = {"exchange": self.row.exchange, "market_type": self.row.market_type}
        return tables.conform(arrow, self.kind, constants)

    def _named(self, type_: str) -> Iterator[str]:
        for column in kinds.kind(self.kind).columns:
            if column.type == type_ and column.name in self.frame.columns:
                yield column.name


class _Rule(NamedTuple):
    """`broken` is true for the rows that break it; a null value breaks no rule but those of its struct."""

    broken: pl.Expr
    name: str
    what: str

    def reason(self) -> pl.Expr:
        """What is wrong with the row, null where nothing is."""
        shown = pl.col(self.name).cast(pl.String).str.head(60)
        return pl.when(self.broken).then(pl.concat_str(pl.lit(f"{self.name}: {self.what}: "), shown)).otherwise(None)
