"""`dl reparse`: stored frames of closed days through today's parsers, and what changes as a new revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, counted, print_json, print_table, progress
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    KindOption,
    LakeOption,
    MarketTypeOption,
    SymbolOption,
    command,
    lake_root,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cli.jobs import Report
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers

SORTS = ("changed", "added", "removed")
FromOption = Annotated[str, typer.Option("--from", help="The first date (UTC), e.g. 2026-11-20.")]
ToOption = Annotated[
    str | None, typer.Option("--to", help="The last date, included (default: the first).", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
ExamplesOption = Annotated[int, typer.Option(min=0, max=1000, help="Rows shown of each sort of change and stream.")]


@command
def reparse(
    first: FromOption,
    last: ToOption = None,
    lake: LakeOption = None,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    kind: KindOption = None,
    symbol: SymbolOption = None,
    dry_run: DryRunOption = False,
    examples: ExamplesOption = 5,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Read the stored frames of closed days again with today's parsers, and publish what changes as a new revision.

    A frame is read by the parser that holds for the day on which it came. Rows that frames make otherwise now are
    changed, those that they make and the lake lacks are added, those that they do not make are removed; rows whose
    frames are not there (other sources, frames let go of) stay. Bars are made again. A second run changes nothing.
    Done by the daemon where one writes the lake, one re-parse at a time: the next waits for its turn, and says so.
    Exit code 1 where a day was refused (no frames, not over, damaged).
    """
    root = lake_root(lake, config)
    told = {"first": first, "last": last or first, "exchange": exchange, "market_type": market_type, "kind": kind,
            "symbol": symbol, "examples": examples}  # fmt: skip
    wanted = {name: value for name, value in told.items() if value is not None}
    done = _look(root, config, wanted, as_json) if dry_run else _publish(root, config, wanted, as_json)
    if as_json:
        print_json(done)
    else:
        _say(done)
    return 0 if done["ok"] else 1


def _publish(root: Path, config: Path | None, wanted: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    from cli.jobs import run_job, settings

    def work(writer: LakeWriter, workers: Workers, now: int, told: Config, report: Report) -> dict[str, Any]:
        from collectors import exchanges
        from compactor.service import compact_once
        from daemon.reparsing import Tools, reparse_job
        from runtime.slot import Slot
        from runtime.workers import Workers as Pool

        done = reparse_job(writer, workers, now, wanted, Tools(told, Pool, Slot(), report, lambda: False))
        if done.published:
            done.compacted = compact_once(
                writer, workers, now, told.compactor, report, retention=False, parsers=exchanges.parsers
            )
        return done.told()

    made: dict[str, Any] = run_job("reparse", wanted, root, settings(config), quiet, work)
    return made


def _look(root: Path, config: Path | None, wanted: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    """Without writing: no lock is needed, and no daemon asked."""
    import msgspec

    from cli.jobs import settings
    from daemon.reparsing import Done, Tools, Wanted
    from daemon.reparsing import reparse as read_again
    from runtime.clock import SystemClock
    from runtime.slot import Slot
    from runtime.workers import Workers

    with reading(root) as manifest, progress("re-parsing", quiet=quiet) as report:
        tools = Tools(settings(config), Workers, Slot(), report, lambda: False)
        asked = msgspec.convert(wanted, Wanted)
        days = read_again(root, manifest, asked, SystemClock().now(), tools, None)
        return Done(dry_run=True, days=days).told()


def _say(done: Mapping[str, Any]) -> None:
    rows, notes = [], []
    for day in done["days"]:
        market = f"{day['exchange']} {day['market_type']} {day['date']}"
        notes += [f"{market}: {text}" for text in (day["refused"], *day["warnings"], *day["failed"]) if text]
        for one in day["streams"]:
            name = f"{market} {one['kind']}"
            notes += [f"{name}: {one['refused']}"] if one["refused"] else []
            lost = ", ".join(f"{count:,} ({cause})" for cause, count in sorted(one["recovered"].items()))
            notes += [f"{name}: added rows that gap rows say are lost: {lost}"] if lost else []
            notes += [f"{name}: frames tell no row of {symbol}: its file stays" for symbol in one["spared"]]
            counts = (one["rows"], one["same"], *(one[sort] for sort in SORTS), one["kept"])
            published = "yes" if one["kind"] in day["published"] else "-"
            if not one["refused"]:
                rows.append((day["exchange"], day["market_type"], day["date"], one["kind"], *counts, published))
    columns = ("exchange", "market", "date", "kind", "rows", "same", *SORTS, "kept", "published")
    print_table("rows by what their frames make now", columns, rows, "no rows were looked at")
    for day in done["days"]:
        for one in day["streams"]:
            for row in one["examples"]:
                _example(one["kind"], row)
    for text in notes:
        ERR.print(text, markup=False)
    _end(done)


def _example(kind: str, row: Mapping[str, Any]) -> None:
    place = f"{row['session']} frame {row['frame_no']} item {row['item']}"
    OUT.print(f"{row['what']} {kind} {row['symbol']} {row['ts_event']} ({place})", markup=False, highlight=False)
    for name, (old, new) in row["columns"].items():
        value = {"changed": f"{old} -> {new}", "added": new, "removed": old}[row["what"]]
        OUT.print(f"    {name}: {value}", markup=False, highlight=False)


def _end(done: Mapping[str, Any]) -> None:
    changes = sum(one[sort] for day in done["days"] for one in day["streams"] for sort in SORTS)
    published = sum(len(day["published"]) for day in done["days"])
    if done["dry_run"]:
        OUT.print(f"{counted(changes, 'row')} would change" if changes else "nothing would change")
        return
    OUT.print(
        f"{counted(changes, 'row')}, {counted(published, 'new revision')} of a kind's day"
        if published
        else "nothing changed"
    )
    made = done["compacted"] or {}
    if made.get("bars"):
        OUT.print(f"bars of {made['bars']:,} days made again")
    for failure in made.get("failures", ()):
        ERR.print(f"failed: {failure}", markup=False)
