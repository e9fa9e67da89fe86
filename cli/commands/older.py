"""Commands by the names and options that other lakes gave them: each is one of ours, which its help names."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from cli.commands.backfill import MOST_DAYS, backfill
from cli.output import ERR, print_json
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root

DAYS = 30


class Timeframe(enum.Enum):
    """Widths of candles."""

    M1, M5, M15, M30 = "1m", "5m", "15m", "30m"
    H1, H4, D1, W1 = "1h", "4h", "1d", "1w"


@command
def init(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Make an empty lake; nothing where there is one. Any command that writes does it by itself."""
    from cli.jobs import settings
    from lake.layout import MANIFEST
    from lake.place import shut_out_others
    from lake.writer import LakeWriter
    from runtime.clock import SystemClock

    shut_out_others()
    root = lake_root(lake, config, must_exist=False)
    there = (root / MANIFEST).is_file()
    if not there:
        with LakeWriter.open(root, settings(config).collectors.node, SystemClock().now(), simulated=None):
            pass
    if as_json:
        print_json({"lake": str(root), "made": not there})
        return 0
    ERR.print(f"{root} {'is a lake already' if there else 'is an empty lake'}", markup=False)
    return 0


def download_history(
    exchange: Annotated[str, typer.Option(help="Which venue, e.g. binance.")],
    symbol: Annotated[list[str], typer.Option(help="Which symbol, as the venue spells it; may be given often.")],
    days: Annotated[
        int | None, typer.Option(min=1, max=MOST_DAYS, help=f"The last so many days ({DAYS} if nothing is said).")
    ] = None,
    start: Annotated[str | None, typer.Option("--start-date", "--from", help="From this day on (UTC).")] = None,
    end: Annotated[str | None, typer.Option("--end-date", "--to", help="Before this day (UTC).")] = None,
    full: Annotated[bool, typer.Option("--full-history", "--full", help="As far back as the venue goes.")] = False,
    market: Annotated[str | None, typer.Option(help="Which market: spot (the default), linear, inverse.")] = None,
    futures: Annotated[bool, typer.Option("--futures", help="The same as --market linear.")] = False,
    funding: Annotated[bool, typer.Option("--funding", help="Settled rates too.")] = False,
    timeframe: Annotated[Timeframe, typer.Option(help="Those of 1m are stored; others fold from them.")] = Timeframe.M1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked for, and ask nothing.")] = False,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Candles of a venue's past: `dl backfill --kind kline`, with its rules and its exit codes."""
    if futures and market not in (None, "linear"):
        raise typer.BadParameter(f"--futures and --market {market} are two markets: give one of them")
    if timeframe is not Timeframe.M1:
        ERR.print(f"candles of 1m are stored; those of {timeframe.value} fold from them", markup=False)
    if not full and start is None and days is None:
        days = DAYS
    backfill(
        exchange=exchange, market_type="linear" if futures else market or "spot", symbol=symbol,
        kind=["kline", *(["funding_rate"] if funding else [])], start=start, end=end, days=days, full=full,
        dry_run=dry_run, lake=lake, config=config, as_json=as_json,
    )  # fmt: skip
