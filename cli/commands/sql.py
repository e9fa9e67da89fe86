"""`dl sql`: one SELECT over a lake, to the screen, to a pipe or to a file."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ERR, OUT, counted, print_cells, size, write_bytes
from cli.places import ConfigOption, LakeOption, UsageError, command, lake_root
from lake.errors import LakeError
from lake.refused import cure
from market import times
from runtime.service import EXIT_NO_INPUT

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 100
MOST = 1_000_000
MOST_SECONDS, MOST_MEMORY = 7 * 86_400, 100_000_000
WIDE = 60
"""Characters of a value on the screen."""


@command
def sql(
    query: Annotated[
        str | None, typer.Argument(help="One SELECT; left out or -, it is read from stdin.", show_default=False)
    ] = None,
    lake: LakeOption = None,
    config: ConfigOption = None,
    file: Annotated[Path | None, typer.Option(help="Read the query from this file.", readable=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    parquet: Annotated[
        Path | None, typer.Option(help="Write the rows to this Parquet file instead.", readable=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help=f"At most this many rows (0: all; default {SHOWN} on the screen, else {MOST:,})."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, max=MOST_SECONDS, help="Seconds that the query may take (0: any).")
    ] = 60,
    memory: Annotated[int, typer.Option(min=50, max=MOST_MEMORY, help="MB of memory that the query may take.")] = 1000,
) -> int:
    """Ask one SELECT of DuckDB's SQL; docs/sql.md says what can be asked. Exit code 1 where it takes too long.

    Every kind is a view (trade, bar_1m, …), so are gaps, coverage, files, certificates and sessions, and feature sets
    (features.momentum). Say exchange, symbol and date in WHERE, and only those files are opened: or
    trades('binance', 'BTCUSDT', '2026-11-20').
    """
    from lake.manifest import Manifest
    from lake.sql import Asking, Limits

    if sum((as_json, csv, parquet is not None)) > 1:
        raise UsageError("--json, --csv and --parquet are three forms of one answer", "give one of them")
    if parquet is not None and (parquet.is_dir() or not parquet.parent.is_dir()):
        raise UsageError(f"--parquet {parquet} cannot be written there", "name a file in an existing folder")
    asked = _query(query, file)
    on_screen = not (as_json or csv or parquet)
    most = (SHOWN if on_screen else MOST) if limit is None else limit
    manifest = Manifest.read_only(lake_root(lake, config))
    asking = Asking(manifest.root, manifest, memory)
    try:
        answer = asking.ask(asked, Limits(seconds=timeout or None, rows=most or None))
    finally:
        asking.close()
        manifest.close()
    if parquet is not None:
        _write(answer.table, parquet)
        ERR.print(f"{answer.table.num_rows:,} rows written to {parquet} ({size(parquet.stat().st_size)})", markup=False)
    elif on_screen:
        _show(answer.table)
    else:
        _print(answer.table, csv=csv)
    if answer.capped is not None:
        ERR.print(f"{answer.capped}: --limit 0 for all of them", markup=False)
    return 0


class NoQuery(LakeError):
    exit_code = EXIT_NO_INPUT


def _query(given: str | None, file: Path | None) -> str:
    """The text of the query, from where it was said to be."""
    if given not in (None, "-"):
        if file is not None:
            raise UsageError("there are two queries: one written out, one in --file", "give one of them")
        return str(given)
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"--file {file} is not UTF-8 text", "name a file with one SELECT") from error
        except OSError as error:
            raise NoQuery(
                f"--file {file} cannot be read: {error.strerror or error}", cure(error, "check its name")
            ) from error
    if given is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("there is no query", 'dl sql "SELECT …", dl sql --file FILE, or a query on stdin')
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError("the query on stdin is not UTF-8 text", "write one SELECT") from error


def _show(table: pa.Table) -> None:
    """Rows as they are, and the count below them."""
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    print_cells(table.column_names, [[_text(value) for value in row] for row in rows])
    OUT.print(f"({counted(table.num_rows, 'row')})", markup=False)


def _text(value: object) -> str:
    """A value as a cell: times to the last digit, lists and long texts shortened."""
    import msgspec

    if value is None:
        return "-"
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return times.text(times.from_datetime(value))
    if isinstance(value, list | dict | tuple):
        value = msgspec.json.encode(value, enc_hook=str).decode()
    text = " ".join(str(value).split()) if isinstance(value, str) else str(value)
    return text if len(text) <= WIDE else f"{text[:WIDE]}…"


def _print(table: pa.Table, *, csv: bool) -> None:
    from api.formats import encode

    for piece in encode("csv" if csv else "jsonl", table.schema, [table], {}):
        write_bytes(piece)


def _write(table: pa.Table, target: Path) -> None:
    from api.formats import encode
    from lake import durable

    durable.write_file(target, b"".join(encode("parquet", table.schema, [table], {})))
