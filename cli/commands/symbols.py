"""`dl symbols`: the instruments of a venue, as it says now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.output import ERR, OUT, print_json, print_table, when
from cli.places import ConfigOption, JsonOption, UsageError, command

if TYPE_CHECKING:
    from daemon.config import Config
    from market.session import Exchange

UNREACHABLE = 69


class Listed(msgspec.Struct, frozen=True):
    """One instrument. Times us."""

    exchange: str
    market_type: str
    symbol: str
    unified: str | None
    status: str
    tick: str | None
    lot: str | None
    listed: int | None
    expiry: int | None


@command
def symbols(
    exchange: Annotated[str, typer.Option(help="Which venue, e.g. binance.")],
    market_type: Annotated[
        str | None, typer.Option("--market", "--market-type", help="Only this market: spot, linear, …")
    ] = None,
    match: Annotated[str | None, typer.Option(help="Only symbols like this: BTC*, ?USDT.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Ask a venue for its instruments and list them; nothing is stored. Exit code 69 where a market does not answer."""
    from cli.jobs import settings
    from collectors import venues

    venue = venues.load(exchange)
    markets = [market for market, polls in venue.POLLS.items() if "contract" in polls]
    if market_type is not None and market_type not in markets:
        raise UsageError(f"{exchange} lists no market {market_type!r}", f"one of {', '.join(markets)}")
    chosen = [market_type] if market_type is not None else markets
    found, failed = asyncio.run(_ask(venue, chosen, settings(config)))
    pattern = match.upper() if match is not None else "*"
    shown = [one for one in found if fnmatchcase(one.symbol.upper(), pattern)]
    if as_json:
        print_json({"symbols": shown, "failed": failed})
    else:
        rows = [
            (
                one.market_type,
                one.symbol,
                one.unified,
                one.status,
                one.tick,
                one.lot,
                when(one.listed),
                when(one.expiry),
            )
            for one in shown
        ]
        columns = ("market", "symbol", "unified", "status", "tick", "lot", "listed", "expiry")
        if found or not failed:
            print_table("", columns, rows, "no instrument is like that")
            OUT.print(f"{len(shown):,} of {len(found):,} instruments")
        for market, reason in failed.items():
            ERR.print(f"{exchange} {market}: {reason}", markup=False)
    return UNREACHABLE if failed else 0


async def _ask(venue: Exchange, markets: Sequence[str], told: Config) -> tuple[list[Listed], dict[str, str]]:
    """The instruments of the markets that answered, and why the others did not."""
    from collectors.budget import Budget
    from collectors.instruments import instruments
    from collectors.reaching import ask
    from daemon.backfilling import endpoint_of
    from runtime.clock import SystemClock

    clock, found, failed = SystemClock(), list[Listed](), dict[str, str]()
    budget = Budget(clock)
    for market in markets:
        async with AsyncExitStack() as stack:
            http = await ask(venue, market, clock, budget, stack)
            said, reason = await instruments(venue, market, endpoint_of(venue, market, told), http, clock.now())
        if reason:
            failed[market] = reason
        found += [
            Listed(venue.NAME, market, one.symbol, one.unified, one.status, one.tick, one.lot, one.listed, one.expiry)
            for one in said
        ]
    return sorted(found, key=lambda one: (one.market_type, one.symbol)), failed
