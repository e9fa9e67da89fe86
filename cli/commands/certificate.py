"""`dl certificate`: the quality certificate of one day's file, and the revisions of that day."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from cli.output import OUT, counted, print_json, print_table, when
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

COLUMNS = ("revision", "state", "rows", "made", "replaced", "sha256")
TIMES = ("issued_at",)
DateArgument = Annotated[str, typer.Option(help="The day (UTC), YYYY-MM-DD.")]
RevisionOption = Annotated[int | None, typer.Option(min=0, help="Not the current revision but this one.")]


@command
def certificate(
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
    """What was proven of one closed day: rows, ids, missing, late, gaps, latency, digest. Exit code 1: nothing was."""
    from lake import Lake

    with Lake(lake_root(lake, config)) as held:
        found = held.certificate(
            kind, date=date, exchange=exchange, market_type=market_type, symbol=symbol, revision=revision
        )
        days = held.versions(kind, date=date, exchange=found.exchange, market_type=found.market_type)
    known = [one for one in days if one.symbol == found.symbol]
    if as_json:
        versions = [msgspec.structs.replace(one, certificate=None) for one in known]
        print_json({"certificate": found, "versions": versions})
        return 0
    for name, value in msgspec.structs.asdict(found).items():
        if value is not None and name != "inputs":
            OUT.print(f"  {name:16} {when(value) if name in TIMES else value}", markup=False)
    OUT.print(f"  {'inputs':16} {counted(len(found.inputs), 'file')} (dl lineage names them)", markup=False)
    rows = [
        [one.revision, one.state, one.rows, when(one.created_at), when(one.replaced_at), one.sha256[:16]]
        for one in known
    ]
    print_table("revisions", COLUMNS, rows, "")
    return 0
