"""Rows of an answer, to the screen or to a file: what `dl read` and `dl bars` do with theirs."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ERR, OUT, cell, print_table, size, write_bytes
from cli.places import UsageError
from cli.written import write_batches
from market import times
from market.kinds import KINDS

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 20
ENDINGS = (".parquet", ".csv", ".jsonl")
_SAID = frozenset(column.name for kind in KINDS.values() for column in kind.columns if column.type == "decimal")
LimitOption = Annotated[
    int | None,
    typer.Option(min=0, help=f"At most this many rows (0: all; default {SHOWN} on the screen, all as JSON)."),
]
ColumnsOption = Annotated[str | None, typer.Option(help="Only these columns, parted by commas.")]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Write all rows to FILE.parquet, .csv or .jsonl instead of the screen.", readable=False),
]
MinStateOption = Annotated[
    str, typer.Option(help="provisional (all), final (closed days only) or verified (by the venue's own data).")
]
VersionOption = Annotated[int | None, typer.Option("--revision", help="Of closed days only this revision.")]
AsOfOption = Annotated[str | None, typer.Option(help="What was live at this time (UTC).")]
AcrossOption = Annotated[bool, typer.Option("--across-listings", help="Join two listings of one ticker.")]


def columns_of(columns: str | None) -> list[str] | None:
    """What --columns names. Raises UsageError."""
    if columns is None:
        return None
    names = [name.strip() for name in columns.split(",")]
    if not all(names):
        raise UsageError(f"--columns {columns!r} has a column without a name", "part names by one comma: price,qty")
    return names


def give(table: pa.Table, nothing: str, *, out: Path | None, as_json: bool, limit: int | None) -> int:
    """The exit code: 1 where there are no rows, which `nothing` then says."""
    if not table.num_rows:
        ERR.print(nothing, markup=False)
    if out is not None:
        _said(write_batches(table.schema, table.to_batches(), out), out)
    elif as_json:
        _print_lines(table.slice(0, min(limit, table.num_rows)) if limit else table)
    elif table.num_rows:
        _show(table, SHOWN if limit is None else limit)
    _tell(table, table.num_rows)
    return 0 if table.num_rows else 1


def give_batches(reader: pa.RecordBatchReader, nothing: Callable[[], str], out: Path) -> int:
    """The same of rows that come in batches, all of them into a file; memory does not grow with them."""
    rows = write_batches(reader.schema, reader, out)
    if not rows:
        ERR.print(nothing(), markup=False)
    _said(rows, out)
    _tell(reader, rows)
    return 0 if rows else 1


def _said(rows: int, out: Path) -> None:
    ERR.print(f"{rows:,} rows written to {out} ({size(out.stat().st_size)})", markup=False)


def _tell(table: pa.Table | pa.RecordBatchReader, rows: int) -> None:
    """How complete the answer is, beside it, whether it has rows or not."""
    from lake import completeness

    told = completeness.of(table)
    if told is None or (not rows and told.complete_until is None and not told.unknown):
        return
    until = "not complete: what was collected first is not in it"
    if told.complete_until is not None:
        until = f"complete until {times.text(told.complete_until)}"
    if told.unknown:
        until = f"not complete: nothing is known of {', '.join(told.unknown)} in this time"
    missing = ""
    if told.gaps:
        first = told.gaps[0]
        what = f"{times.text(first.ts_from)} ({first.symbol}, {first.cause})"
        missing = f"; gaps in it: {told.gap_count:,}, the first at {what}"
    ERR.print(f"{until}{missing}", markup=False)


def check_target(out: Path | None, limit: int | None) -> None:
    """What cannot be written is said before anything is read. Raises UsageError."""
    if out is None:
        return
    if limit:
        raise UsageError("--out writes all rows, and --limit wants some", "leave one of them out; --end ends sooner")
    if out.suffix not in ENDINGS:
        raise UsageError(f"--out {out} has no known ending", f"use {', '.join(ENDINGS)}")
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"cannot be written: there is no folder {out.parent}"
        raise UsageError(f"--out {out} {what}", "name a file in an existing folder")


def _show(table: pa.Table, limit: int) -> None:
    """The first rows without columns that are null or the same everywhere, which are said once above them."""
    shown = table.slice(0, min(limit, table.num_rows)) if limit else table
    same, names = [], []
    for name in shown.column_names:
        values = {cell(spelt(value, name)) for value in shown.column(name).to_pylist()}
        if shown.column(name).null_count == shown.num_rows:
            continue
        if len(values) == 1 and shown.num_rows > 1:
            same.append(f"{name}={values.pop()}")
        else:
            names.append(name)
    rows = [[spelt(row[name], name) for name in names] for row in shown.to_pylist()]
    if same and rows:
        OUT.print(" ".join(same), markup=False)
    print_table("", names, rows, "")
    if shown.num_rows < table.num_rows:
        OUT.print(f"{shown.num_rows:,} of {table.num_rows:,} rows; --limit 0 for all, --out FILE to write them")


def spelt(value: object, name: str = "") -> object:
    """A value as a cell; times in the form that --start and --end take, numbers without an exponent, levels of a book
    as quantity@price. What a venue may have said keeps all of its digits, what is computed has 15.
    """
    if isinstance(value, dt.datetime):
        return times.text(times.from_datetime(value))
    if isinstance(value, float) and math.isfinite(value):
        return format(Decimal(repr(value) if name in _SAID else f"{value:.15g}").normalize(), "f")
    if isinstance(value, list) and all(isinstance(one, dict) and one.keys() == {"price", "qty"} for one in value):
        return ", ".join(f"{spelt(one['qty'], 'qty')}@{spelt(one['price'], 'price')}" for one in value)
    return value if value is None or isinstance(value, bool) else str(value)


def _print_lines(table: pa.Table) -> None:
    import msgspec

    for batch in table.to_batches(max_chunksize=10_000):
        write_bytes(msgspec.json.Encoder().encode_lines(batch.to_pylist()))
