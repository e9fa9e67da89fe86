"""`dl lineage`: what one day's file was made from, down to the raw segments."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.certificate import DateArgument, RevisionOption
from cli.output import OUT, print_json
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    SymbolOption,
    command,
    lake_root,
)

SESSIONS_SHOWN = 5


@command
def lineage(
    kind: Annotated[str, typer.Argument(help="trade, quote, bar_1m, …")],
    date: DateArgument,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    revision: RevisionOption = None,
) -> int:
    """Every file that a closed day was made from, with its hash. Exit code 1: there is no such day. `dl trace` does so
    for one row, down to the frame.
    """
    from lake import Lake

    with Lake(lake_root(lake, config)) as held:
        found = held.lineage(
            kind, date=date, exchange=exchange, market_type=market_type, symbol=symbol, revision=revision
        )
    if as_json:
        print_json(found)
        return 0
    file = found.file
    OUT.print(f"{file.path}  revision {file.revision}, {file.state}, {file.rows:,} rows", markup=False)
    OUT.print(f"sha256 {file.sha256}", markup=False)
    for one in found.ancestors:
        gone = "" if one.present else "  (deleted by retention; its hash stays)"
        rows = "" if one.rows is None else f"  {one.rows:,} rows"
        OUT.print(f"{'  ' * one.depth}{one.what:9} {one.path}{rows}{gone}", markup=False)
        OUT.print(f"{'  ' * one.depth}          sha256 {one.sha256 or 'not known any more'}", markup=False)
    more = len(found.sessions) - SESSIONS_SHOWN
    names = ", ".join(found.sessions[:SESSIONS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    OUT.print(f"sessions: {names or 'none is known'}", markup=False)
    return 0
