"""`dl book`: the order book of one symbol at a time, rebuilt from what is stored."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import OUT, print_json, print_table
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    UsageError,
    command,
    lake_root,
)
from market import times

if TYPE_CHECKING:
    from lake.books import OrderBook

SHOWN = 10
COLUMNS = ("bid qty", "bid", "ask", "ask qty")


@command
def book(
    at: Annotated[str, typer.Option(help="At this time (UTC): 2026-11-20T13:45:00Z, or microseconds.")],
    symbol: Annotated[
        str | None, typer.Argument(help="The symbol, as the venue or as ccxt spells it; or say it with --symbol.")
    ] = None,
    named: Annotated[str | None, typer.Option("--symbol", help="The same, as other commands are told it.")] = None,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help=f"Levels a side (default: {SHOWN} on the screen, all with --json).")
    ] = None,
) -> int:
    """Show an order book as it was at a time. Exit code 1 where the stored rows do not prove it, with the reason."""
    from lake import Lake

    if (symbol is None) == (named is None):
        raise UsageError("which symbol is not said, or said twice", "dl book BTCUSDT --at …, or --symbol BTCUSDT")
    wanted = depth if depth is not None or as_json else SHOWN
    time = int(at) if at.isdigit() and len(at) > len("20261120") else at
    with Lake(lake_root(lake, config)) as held:
        found = held.book(symbol or named or "", at=time, exchange=exchange, market_type=market_type, depth=wanted)
    if as_json:
        print_json(found)
    else:
        _show(found)
    return 0


def _show(found: OrderBook) -> None:
    OUT.print(f"{found.exchange} {found.market_type} {found.symbol} at {times.text(found.at)}", markup=False)
    rows = [
        [*reversed(found.bids[n] if n < len(found.bids) else (None, None)),
         *(found.asks[n] if n < len(found.asks) else (None, None))]
        for n in range(max(len(found.bids), len(found.asks)))
    ]  # fmt: skip
    print_table("", COLUMNS, rows, "no levels on either side")
    spread = ""
    if found.bids and found.asks:
        spread = f"spread {Decimal(found.asks[0][0]) - Decimal(found.bids[0][0]):f}, "
    base = found.snapshot
    known = f"{found.valid_low or 'the lowest bid'} to {found.valid_high or 'the highest ask'}"
    OUT.print(f"{spread}known from {known}", markup=False)
    OUT.print(
        f"last update {found.last_id} of {times.text(found.ts_event)}, built on the {base.flags} row {base.last_id} of"
        f" {times.text(base.ts_event)}",
        markup=False,
    )
