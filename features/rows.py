"""A source's pieces as rows of a set: typed, checked, in order, each with its own time and since when it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Plan, refuse_nothing
from features.requests import Limits, Put
from features.sources import Source
from features.times import as_times
from lake import feature_files
from lake.errors import WrongQuestion
from lake.feature_files import TYPES
from lake.feature_rows import KNOWN_AT, OWN_TIME
from market import times

Report = Callable[[int, int, str], None]


def rows_of(source: Source, plan: Plan, asked: Put, limits: Limits, report: Report) -> Iterator[pa.Table]:
    """Tables of the set's schema, in order. Raises WrongQuestion naming the row, the limit and the fix.

    Rows are counted from 1, as in a CSV behind its line of names.
    """
    made = _typed(source, plan, asked, limits, report)
    return _in_order(_sorted(made, limits) if asked.sort else made, sorted_here=asked.sort)


def _typed(source: Source, plan: Plan, asked: Put, limits: Limits, report: Report) -> Iterator[pa.Table]:
    schema = feature_files.schema(plan.values)
    row = 1
    for batch in source.batches():
        if not batch.num_rows:
            continue
        if row - 1 + batch.num_rows > limits.rows:
            raise WrongQuestion(f"{source.name} has more than {limits.rows:,} rows", "put it in as several sets")
        own = as_times(_plain(batch.column(plan.time)), plan.time, row)
        known = _known(batch, plan, own, row)
        values = [_value(_plain(batch.column(name)), name, word, asked, row) for name, word in plan.values.items()]
        yield pa.Table.from_arrays([own, known, *values], schema=schema)
        row += batch.num_rows
        report(row - 1, 0, "rows")


def _plain(column: pa.Array) -> pa.Array:
    """Texts as `string`, whatever they came as."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column


def _known(batch: pa.RecordBatch, plan: Plan, own: pa.Array, row: int) -> pa.Array:
    if plan.known is None:
        return pc.add(own.cast(pa.int64()), plan.delay).cast(feature_files.TIME)
    known = as_times(_plain(batch.column(plan.known)), plan.known, row)
    place = pc.index(pc.less(known, own), value=True).as_py()
    if place >= 0:
        early, late = (times.text(one[place].cast(pa.int64()).as_py()) for one in (known, own))
        raise WrongQuestion(
            f"row {row + place} is known at {early}, before its own time {late}",
            "a row is known at its own time or later: of a forecast the time is when it was made",
        )
    return known


def _value(column: pa.Array, name: str, word: str, asked: Put, row: int) -> pa.Array:
    to = TYPES[word]
    if word == "text" or column.type.equals(to):
        return _finite(column.cast(to), name, asked, row) if word == "float" else column.cast(to)
    if pa.types.is_string(column.type):
        column = _of_texts(column, word)
    try:
        if word == "time":
            valid = pc.fill_null(column, pa.scalar(0, pa.int64()).cast(column.type))
            made = pc.if_else(pc.is_valid(column), as_times(valid, name, row), pa.scalar(None, to))
        else:
            made = column.cast(to)
    except pa.ArrowInvalid as error:
        raise WrongQuestion(
            f"column {name}, from row {row}: {' '.join(str(error).split())[:200]}", "cast it"
        ) from error
    return _finite(made, name, asked, row) if word in ("float", "float32") else made


def _of_texts(texts: pa.Array, word: str) -> pa.Array:
    """Cells that were seen to be of the type, or nothing."""
    cells = pc.utf8_trim_whitespace(texts)
    if word == "bool":
        return cells
    pattern = r"^-?(\d|\.\d)"
    numbers = pc.fill_null(pc.match_substring_regex(cells, pattern), fill_value=False)
    return pc.if_else(numbers, cells, pa.scalar(None, pa.string()))


def _finite(column: pa.Array, name: str, asked: Put, row: int) -> pa.Array:
    wrong = pc.fill_null(pc.invert(pc.is_finite(column)), fill_value=False)
    place = pc.index(wrong, value=True).as_py()
    if place < 0:
        return column
    if asked.missing == "refuse":
        refuse_nothing(name, int(pc.sum(wrong).as_py()), row + place, column[place].as_py())
    return pc.if_else(wrong, pa.scalar(None, column.type), column)


def _sorted(tables: Iterable[pa.Table], limits: Limits) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        size += table.nbytes
        if rows > limits.sorted_rows or size > limits.sorted_bytes:
            what = f"{limits.sorted_rows:,} rows, or {limits.sorted_bytes >> 20:,} MiB of values,"
            raise WrongQuestion(f"more than {what} cannot be put in order here", "sort the file by its time first")
    if held:
        whole = pa.concat_tables(held)
        frame = pl.DataFrame(whole).sort(OWN_TIME, KNOWN_AT, maintain_order=True)
        yield frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(whole.schema)


def _in_order(tables: Iterable[pa.Table], *, sorted_here: bool) -> Iterator[pa.Table]:
    """Raises WrongQuestion at the first row that is not behind the one before it."""
    last: tuple[int, int] | None = None
    row = 1
    for table in tables:
        own, known = (_whole(table.column(name)) for name in (OWN_TIME, KNOWN_AT))
        before_own, before_known = (
            pa.concat_arrays([pa.array([-1 if last is None else last[place]], pa.int64()), key[:-1]])
            for place, key in enumerate((own, known))
        )
        same = pc.and_(pc.equal(own, before_own), pc.equal(known, before_known))
        back = pc.and_(pc.equal(own, before_own), pc.less(known, before_known))
        place = pc.index(pc.or_(pc.or_(same, back), pc.less(own, before_own)), value=True).as_py()
        if place >= 0:
            which = "" if sorted_here else f"row {row + place} "
            _refuse(which, own[place].as_py(), before_own[place].as_py(), twice=same[place].as_py())
        last = (own[-1].as_py(), known[-1].as_py())
        row += table.num_rows
        yield table


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Times as int64 us, in one piece."""
    return pa.concat_arrays(column.cast(pa.int64()).chunks)


def _refuse(which: str, own: int, before: int, *, twice: bool) -> None:
    if twice:
        raise WrongQuestion(
            f"{which}{'has the time of the row before it' if which else 'one time comes twice'}: {times.text(own)}",
            "one row a time; where the second corrects the first, say since when it is known (--known COLUMN)",
        )
    raise WrongQuestion(
        f"{which}is of {times.text(own)}, before the row in front of it ({times.text(before)})",
        "sort the rows by time, or let them be sorted with --sort",
    )
