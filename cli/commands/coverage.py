"""`dl coverage`: when each stream was collected, and what is missing in it."""

from __future__ import annotations

from typing import Any

from cli.output import ERR, print_json, print_table, when
from cli.places import (
    ConfigOption,
    EndOption,
    ExchangeOption,
    JsonOption,
    KindOption,
    LakeOption,
    MarketTypeOption,
    StartOption,
    SymbolsOption,
    command,
    lake_root,
    span_of,
    unmet,
)

COLUMNS = (
    "exchange",
    "market",
    "kind",
    "symbol",
    "from",
    "to",
    "pieces",
    "hours",
    "gaps",
    "missing s",
    "deleted s",
    "complete",
)


@command
def coverage(
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    kind: KindOption = None,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
) -> int:
    """When each kind of each symbol was collected, and what gaps take of it; of bars that of their trades.

    Of what is missing `deleted s` was deleted (dl delete); dl gaps --state all says why all of it is.
    With --start and --end it also says whether all of that time is there: exit code 1 where some of it is not.
    """
    from lake import Lake

    span_of(start, end)
    with Lake(lake_root(lake, config)) as held:
        asked: dict[str, Any] = {
            "kind": kind, "exchange": exchange, "market_type": market_type, "start": start, "end": end,
        }  # fmt: skip
        found = held.coverage(symbol=symbol, **asked)
        unknown = unmet(symbol, lambda one: bool(held.coverage(symbol=one, **asked))) if found else []
    if unknown:
        ERR.print(f"nothing of {', '.join(unknown)} was collected", markup=False)
    bounded = start is not None and end is not None
    if as_json:
        print_json(found)
    else:
        rows = [
            [
                one.exchange, one.market_type, one.kind, one.symbol, when(one.intervals[0].start),
                when(one.intervals[-1].end), len(one.intervals), one.covered / 3.6e9, one.gaps, one.missing / 1e6,
                one.deleted / 1e6, one.complete,
            ]
            for one in found
        ]  # fmt: skip
        print_table("", COLUMNS, rows, "nothing of that was collected")
    return 1 if bounded and (not found or unknown or not all(one.complete for one in found)) else 0
