"""`dl read`: rows of one kind, to the screen or to a file."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ERR, OUT, print_table, size, write_bytes
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    SymbolOption,
    UsageError,
    command,
    lake_root,
    span_of,
)
from market import times

if TYPE_CHECKING:
    import pyarrow as pa

    from lake import Lake

SHOWN = 20
ENDINGS = (".parquet", ".csv", ".jsonl")


class Fill(enum.Enum):
    """What `Lake.read` puts where a bar's window has no trade."""

    NONE = "none"
    EMPTY = "empty"
    PREVIOUS = "previous"


@command
def read(
    kind: Annotated[str, typer.Argument(help="trade, quote, bar_1s, bar_1m, bar_5m, …")],
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    start: StartOption = None,
    end: EndOption = None,
    columns: Annotated[str | None, typer.Option(help="Only these columns, parted by commas.")] = None,
    limit: Annotated[
        int, typer.Option(min=0, help=f"At most this many rows on the screen (0: all; default {SHOWN}).")
    ] = SHOWN,
    fill: Annotated[Fill, typer.Option(help="Bars: windows without a trade as none, empty or previous.")] = Fill.NONE,
    out: Annotated[
        Path | None, typer.Option(help="Write all rows to FILE.parquet, .csv or .jsonl instead of the screen.")
    ] = None,
) -> int:
    """Read rows from one snapshot, closed days and hot parts together. Exit code 1 where there are none."""
    from lake import Lake

    span_of(start, end)
    if out is not None:
        _check_target(out)
    held = Lake(lake_root(lake, config))
    table = held.read(
        kind,
        exchange=exchange,
        market_type=market_type,
        symbol=symbol,
        start=start,
        end=end,
        columns=None if columns is None else [name.strip() for name in columns.split(",")],
        fill=fill.value,
    )
    if not table.num_rows:
        ERR.print(_nothing(held, kind), markup=False)
    if out is not None:
        _export(table, out)
        ERR.print(f"{table.num_rows:,} rows written to {out} ({size(out.stat().st_size)})", markup=False)
    elif as_json:
        _print_lines(table if limit in (0, SHOWN) else table.slice(0, limit))
    elif table.num_rows:
        _show(table, limit)
    return 0 if table.num_rows else 1


def _check_target(out: Path) -> None:
    """What cannot be written is said before anything is read."""
    if out.suffix not in ENDINGS:
        raise UsageError(f"--out {out} has no known ending", f"use {', '.join(ENDINGS)}")
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"cannot be written: there is no folder {out.parent}"
        raise UsageError(f"--out {out} {what}", "name a file in an existing folder")


def _nothing(lake: Lake, kind: str) -> str:
    """That there are no rows, and what there are rows of."""
    streams = lake.manifest.streams()
    markets = sorted({f"{e} {m}" for e, m, k in streams if k == kind})
    if markets:
        return f"no rows of {kind} here; the lake has {kind} of {', '.join(markets)}"
    kinds = sorted({k for _, _, k in streams})
    return f"no rows of {kind} here; the lake has {', '.join(kinds) or 'no rows at all yet'}"


def _show(table: pa.Table, limit: int) -> None:
    """The first rows without columns that are null or the same everywhere, which are said once above them."""
    shown = table.slice(0, limit) if limit else table
    same, names = [], []
    for name in shown.column_names:
        values = {str(_text(value)) for value in shown.column(name).to_pylist()}
        if values == {"None"}:
            continue
        if len(values) == 1 and shown.num_rows > 1:
            same.append(f"{name}={values.pop()}")
        else:
            names.append(name)
    rows = [[_text(row[name]) for name in names] for row in shown.to_pylist()]
    if same and rows:
        OUT.print(" ".join(same), markup=False)
    print_table("", names, rows, "")
    if shown.num_rows < table.num_rows:
        OUT.print(f"{shown.num_rows:,} of {table.num_rows:,} rows; --limit 0 for all, --out FILE to write them")


def _text(value: object) -> object:
    """A value as a cell; times in the form that --start and --end take."""
    if isinstance(value, dt.datetime):
        return times.text(times.from_datetime(value))
    return value if value is None or isinstance(value, bool) else str(value)


def _print_lines(table: pa.Table) -> None:
    import msgspec

    for batch in table.to_batches(max_chunksize=10_000):
        write_bytes(msgspec.json.Encoder().encode_lines(batch.to_pylist()))


def _export(table: pa.Table, out: Path) -> None:
    """Write the rows in the form that the file's ending names; the target appears whole or not at all."""
    import msgspec
    import polars as pl

    from lake import durable

    frame = pl.DataFrame(table)
    match out.suffix:
        case ".parquet":
            import io

            held = io.BytesIO()
            frame.write_parquet(held, compression="zstd")
            data = held.getvalue()
        case ".csv":
            nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
            data = frame.drop(nested).write_csv().encode()
        case _:
            data = msgspec.json.Encoder().encode_lines(table.to_pylist())
    durable.write_file(out, data)
