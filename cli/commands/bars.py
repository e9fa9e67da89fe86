"""`dl bars`: bars of any interval, folded from the stored ones."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.read import Fill, FillOption, nothing_of
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    SymbolsOption,
    command,
    lake_root,
    span_of,
)
from cli.rows import (
    AcrossOption,
    AsOfOption,
    ColumnsOption,
    LimitOption,
    MinStateOption,
    OutOption,
    VersionOption,
    check_target,
    columns_of,
    give,
)


@command
def bars(
    interval: Annotated[str, typer.Argument(help="90s, 15m, 4h, 1d, 1w, …: any number of whole seconds.")] = "1m",
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    offset: Annotated[str, typer.Option(help="Windows begin so much later: 8h, -30m, …")] = "0s",
    columns: ColumnsOption = None,
    limit: LimitOption = None,
    fill: FillOption = Fill.NONE,
    min_state: MinStateOption = "provisional",
    version: VersionOption = None,
    as_of: AsOfOption = None,
    across_listings: AcrossOption = False,
    out: OutOption = None,
) -> int:
    """Bars of any interval, each window whole; over a gap null, not covered whole partial. Exit code 1: there are none.

    Windows begin at 1970-01-01T00:00Z plus whole intervals plus --offset, weeks on Mondays.
    """
    from lake import Lake

    span_of(start, end)
    check_target(out, limit)
    with Lake(lake_root(lake, config)) as held:
        table = held.bars(
            interval,
            exchange=exchange,
            market_type=market_type,
            symbol=symbol,
            start=start,
            end=end,
            offset=offset,
            columns=columns_of(columns),
            fill=fill.value,
            min_state=min_state,  # type: ignore[arg-type] # Lake looks at it
            version=version,
            as_of=as_of,
            across_listings=across_listings,
        )
        nothing = "" if table.num_rows else nothing_of(held, "bar_1m", "bars")
    return give(table, nothing, out=out, as_json=as_json, limit=limit)
