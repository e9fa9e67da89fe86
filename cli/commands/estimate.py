"""`dl estimate`: what a configuration will take a day, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ERR, OUT, print_json, print_table, size
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root

if TYPE_CHECKING:
    from daemon.estimating import Estimate, Line


@command
def estimate(
    config: ConfigOption = None,
    lake: LakeOption = None,
    by_symbol: Annotated[bool, typer.Option("--by-symbol", help="A line a symbol, not only a line a kind.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Say how many events and bytes a day a configuration's sources will take, and for how long the disk has room.

    Rates are the lake's own where it has collected a stream for ten minutes; else those of recordings, or a guess: each
    line says which, and from low to high what it may be as well. Nothing is collected or written. Exit code 1 where
    something will not do: too small a disk, too many connections or requests, what the venue does not have.
    """
    from daemon.config import load_config
    from daemon.estimating import estimate as work_out
    from daemon.measured import measured
    from lake import durable
    from runtime.clock import SystemClock

    loaded = load_config(config or Path("config.yml"))
    root = lake_root(lake or loaded.lake, None, must_exist=False)
    markets = {(source.exchange, source.market_type) for source in loaded.collectors.sources}
    found = work_out(loaded, measured(root, markets, SystemClock().now()), durable.room(_existing(root)))
    if as_json:
        print_json(found)
    else:
        _say(found, by_symbol=by_symbol)
    return 1 if found.warnings else 0


def _existing(root: Path) -> Path:
    """The lake's folder, or the nearest above it that is there."""
    return next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())


def _say(found: Estimate, *, by_symbol: bool) -> None:
    from daemon.estimating import totals

    names = ("exchange", "market_type", "kind", *(("symbol",) if by_symbol else ()))
    rows = [[*key, *_figures(line)] for key, line in totals(found.lines, *names).items()]
    heads = ["exchange", "market", "kind", *(("symbol",) if by_symbol else ())]
    columns = [*heads, "events/day", "low", "high", "raw/day", "frames/day", "hot/day", "tables/day", "rates from"]
    print_table("", columns, rows, "the configuration has no sources")
    if not rows:
        return
    disk, day = found.disk, 86_400
    OUT.print(
        f"\nin all {_count(found.events)} events a day ({_count(found.low)} to {_count(found.high)}),"
        f" {found.events / day:,.0f} a second in the mean, over {found.connections} connections"
        f" of at most {found.max_connections}, {found.streams:,} streams"
    )
    memory, cpu = found.memory_mb, found.cpu_cores
    OUT.print(
        f"memory of all processes {memory[0]:,.0f} to {memory[1]:,.0f} MB;"
        f" CPU {cpu[0]:.2f} to {cpu[1]:.2f} cores in the mean of a day"
    )
    OUT.print(
        f"disk: raw up to {size(round(disk.kept_raw))}, frames up to {size(round(disk.kept_frames))},"
        f" parts and hours up to {size(round(disk.kept_hot))};"
        f" daily files, ledger and manifest grow by {size(round(disk.grows_a_day))} a day"
    )
    OUT.print(
        f"that is {size(round(disk.after_30_days))} after 30 days and {size(round(disk.after_365_days))} after a year;"
        f" {size(disk.free)} are free, {size(disk.reserve)} of them in reserve: room for {_days(disk.lasts_days)}"
    )
    for note in found.notes:
        OUT.print(f"note: {note}", markup=False)
    for warning in found.warnings:
        ERR.print(f"warning: {warning}", markup=False)


def _figures(line: Line) -> list[object]:
    """The cells of a line behind its name."""
    sizes = (line.raw, line.frames, line.hot, line.tables)
    counts = [_count(one) for one in (line.events, line.low, line.high)]
    return [*counts, *(size(round(one)) if one else None for one in sizes), line.basis]


def _count(value: float) -> str:
    """A number of events with as many digits as an estimate has."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def _days(days: int | None) -> str:
    return "ten years at least" if days is None else f"{days:,} days"
