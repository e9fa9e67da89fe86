"""`dl ls`: what the lake holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ERR, OUT, print_json, print_table, size
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    KindOption,
    LakeOption,
    MarketTypeOption,
    SymbolsOption,
    UsageError,
    command,
    lake_root,
    reading,
    unmet,
)

if TYPE_CHECKING:
    from lake.held_files import Held


@command
def ls(
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    kind: KindOption = None,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolsOption = None,
    date: Annotated[str | None, typer.Option(help="Only this UTC day, YYYY-MM-DD.")] = None,
    files: Annotated[bool, typer.Option("--files", help="One line a file, with its SHA-256.")] = False,
) -> int:
    """List what is held: a line a kind, symbol and day, or (--files) a line a file."""
    from lake import held_files
    from market.kinds import kind as declared

    if kind is not None:
        declared(kind)
    if date is not None and not _is_day(date):
        raise UsageError(f"--date {date} is no day", "use YYYY-MM-DD")
    root = lake_root(lake, config)
    if symbol is None:
        with reading(root) as manifest, manifest.snapshot() as now:
            found = held_files.files(now, kind, exchange, market_type, dates=(date, date))
    else:
        asked = {"kind": kind, "exchange": exchange, "market_type": market_type, "date": date}
        found = _of_symbols(root, symbol, **asked)
        unknown = unmet(symbol, lambda one: bool(_of_symbols(root, [one], **asked))) if found else []
        if unknown:
            ERR.print(f"the lake holds nothing like that of {', '.join(unknown)}", markup=False)
    if as_json:
        print_json(found)
        return 0
    if files:
        for row in (one.file for one in found):
            OUT.print(f"{row.sha256}  {row.rows:>10,} rows  {size(row.bytes):>9}  {row.path}", markup=False)
        return 0
    groups: dict[tuple[str, ...], list[int]] = {}
    for one in found:
        row, told = one.file, one.certificate
        weaker = "" if told is None or told.guarantees == "full" else f", {told.guarantees}"
        state = row.level if told is None else f"{'verified' if told.verified else 'certified'}{weaker}"
        key = (row.exchange, row.market_type, row.kind, row.symbol or "(all)", row.date, state)
        total = groups.setdefault(key, [0, 0, 0])
        total[0] += 1
        total[1] += row.rows
        total[2] += row.bytes
    lines = [[*key, count, rows, size(count_bytes)] for key, (count, rows, count_bytes) in groups.items()]
    columns = ["exchange", "market", "kind", "symbol", "date", "state", "files", "rows", "bytes"]
    narrowed = any((kind, exchange, market_type, symbol, date))
    print_table("", columns, lines, "the lake holds nothing like that" if narrowed else "the lake holds no files yet")
    return 0


def _of_symbols(root: Path, symbols: list[str], **asked: str | None) -> list[Held]:
    """The files of some symbols, those of all symbols only of markets where it was collected."""
    from lake import Lake

    with Lake(root) as held:
        known = held.datasets(exchange=asked["exchange"], market_type=asked["market_type"], symbol=symbols)
        there = {(one.exchange, one.market_type) for one in known if one.symbol is not None}
        found = held.files(symbol=symbols, **asked)
    return [one for one in found if (one.file.exchange, one.file.market_type) in there]


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
