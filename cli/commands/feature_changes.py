"""`dl features put | rollback | delete`: what changes feature sets, done by whoever may write the lake."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.commands.features import NameArgument, app, named
from cli.output import ERR, OUT, counted, print_json, progress, size
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    MarketTypeOption,
    SymbolOption,
    UsageError,
    command,
    lake_root,
    reading,
)
from market import times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.jobs import Report
    from daemon.config import Config
    from features.requests import Done, Put
    from lake.writer import LakeWriter
    from runtime.workers import Workers

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")]


class Missing(enum.Enum):
    """What becomes of NaN, infinities and words for nothing."""

    REFUSE, NULL = "refuse", "null"


@app.command("put")
@command
def put(
    file: Annotated[
        Path, typer.Argument(help="CSV (plain or gz), Parquet or Arrow; told by its content.", readable=False)
    ],
    exchange: Annotated[str, typer.Option(help="Of which exchange.")],
    market_type: Annotated[str, typer.Option("--market-type", "--market", help="Of which market: spot, linear, …")],
    symbol: Annotated[str, typer.Option(help="Of which symbol, as the venue spells it.")],
    name: Annotated[str, typer.Option("--set", "--feature-set", help="The set's name, e.g. momentum_1h.")],
    version: Annotated[str, typer.Option(help="Three numbers; a version never changes.")] = "1.0.0",
    time: Annotated[str | None, typer.Option(help="The column of a row's own time; found by its name.")] = None,
    known: Annotated[str | None, typer.Option(help="The column that says since when a row is known.")] = None,
    delay: Annotated[str, typer.Option(help="A row is known so much later than its time: 1m, 5s, 1h.")] = "0s",
    computed_on: Annotated[
        list[str] | None, typer.Option("--computed-on", help="A kind of this lake it was computed on; may be repeated.")
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="When that was read (UTC); now if nothing is said.")] = None,
    lookback: Annotated[str, typer.Option(help="How far before its first row the values reach back: 7d.")] = "0s",
    missing: Annotated[
        Missing, typer.Option(help="NaN, infinities, null and n/a in columns of numbers: refused, or no value.")
    ] = Missing.REFUSE,
    sort: Annotated[bool, typer.Option("--sort", help="Put the rows in the order of their time.")] = False,
    note: Annotated[str, typer.Option(help="A line to be kept with it.")] = "",
    dry_run: DryRunOption = False,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take in one version of a feature set, whole or not at all; the same values again change nothing.

    A row is known from its own time on, or by --delay or --known: joins look no further. Other values under a version
    that is there are refused with the next one (exit code 2). Run by the daemon where one writes the lake.
    docs/features.md says what files may hold.
    """
    from features.requests import Put
    from lake.asking import duration

    asked = Put(
        exchange=exchange, market_type=market_type, symbol=symbol, feature_set=name, version=version, time=time,
        known=known, delay=duration(delay, "--delay", "1m"), computed_on=tuple(computed_on or ()),
        as_of=None if as_of is None else times.parse(as_of), lookback=duration(lookback, "--lookback", "7d"),
        note=note, missing=missing.value, sort=sort,
    )  # fmt: skip
    root = lake_root(lake, config)
    done = _rehearsed(root, file, asked, as_json) if dry_run else _put(root, config, file, asked, as_json)
    if as_json:
        print_json({"dry_run": dry_run, **done})
        return 0
    row = done["rows"][0]
    said = "would be put in" if dry_run else "was put in" if done["changed"] else "is there already, nothing changed"
    OUT.print(
        f"{named(row)} {said}: {counted(row['rows'], 'row')}"
        f" from {times.text(row['ts_min'])} to {times.text(row['ts_max'])},"
        f" {counted(len(row['columns']), 'column')}, known by {row['known']}; latest is {done['latest']}",
        markup=False,
    )
    if row["inputs"]:
        OUT.print(f"computed on {', '.join(row['computed_on'])}: {counted(len(row['inputs']), 'file')}", markup=False)
    _hints(done)
    return 0


def _hints(done: Mapping[str, Any]) -> None:
    for hint in done["hints"]:
        ERR.print(f"note: {hint}", markup=False)


def _rehearsed(root: Path, file: Path, asked: Put, quiet: bool) -> dict[str, Any]:
    from features.store import rehearse
    from runtime.clock import SystemClock

    with reading(root) as manifest, progress("reading", quiet=quiet) as report:
        return _plain(rehearse(manifest, file, asked, SystemClock().now(), report))


def _plain(done: Done) -> dict[str, Any]:
    import msgspec

    made: dict[str, Any] = msgspec.to_builtins(done)
    return made


def _put(root: Path, config: Path | None, file: Path, asked: Put, quiet: bool) -> dict[str, Any]:
    import msgspec

    told = {"action": "put", "path": str(file.absolute()), "asked": msgspec.to_builtins(asked)}
    return _changed(root, config, told, quiet)


def _changed(root: Path, config: Path | None, told: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    """The change, carried out by whoever may write the lake."""
    from cli.jobs import run_job, settings

    def work(writer: LakeWriter, _workers: Workers, now: int, _config: Config, report: Report) -> dict[str, Any]:
        from features.jobs import job_of, run

        return _plain(run(writer, job_of(told), now, report))

    done: dict[str, Any] = run_job("features", told, root, settings(config), quiet, work)
    return done


@app.command("rollback")
@command
def rollback(
    name: NameArgument,
    version: Annotated[str | None, typer.Option(help="Which version (default: the one before the latest).")] = None,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    dry_run: DryRunOption = False,
) -> int:
    """Let latest mean an earlier version again, until the next is put in. Nothing is deleted."""
    from features.store import plan_rollback
    from runtime.clock import SystemClock

    root = lake_root(lake, config)
    if dry_run:
        with reading(root) as manifest:
            now = SystemClock().now()
            done = _plain(plan_rollback(manifest, name, version, exchange, market_type, symbol, now))
    else:
        done = _changed(
            root, config, {"action": "rollback", **_which(name, version, exchange, market_type, symbol)}, as_json
        )
    if as_json:
        print_json({"dry_run": dry_run, **done})
        return 0
    row = done["rows"][0]
    OUT.print(f"{named(row)} {'would be' if dry_run else 'is'} the latest", markup=False)
    _hints(done)
    return 0


def _which(
    name: str, version: str | None, exchange: str | None, market_type: str | None, symbol: str | None
) -> dict[str, Any]:
    return {
        "feature_set": name, "version": version, "exchange": exchange, "market_type": market_type, "symbol": symbol,
    }  # fmt: skip


@app.command("delete")
@command
def delete(
    name: NameArgument,
    version: Annotated[str, typer.Option(help="Which version: 1.0.0, …, latest, or all of them.")],
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    exchange: ExchangeOption = None,
    market_type: MarketTypeOption = None,
    symbol: SymbolOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> int:
    """Delete one version of a set, or all: the file is gone at once, and the version is never used for other values.

    Asks first; where nobody can be asked it wants --yes. Exit code 2 where nothing is there by that name.
    """
    from features.store import plan_delete
    from runtime.clock import SystemClock

    root = lake_root(lake, config)
    with reading(root) as manifest:
        planned = _plain(plan_delete(manifest, name, version, exchange, market_type, symbol, SystemClock().now()))
    if dry_run:
        done = planned
    else:
        if not yes:
            _confirmed(planned["rows"])
        done = _changed(
            root, config, {"action": "delete", **_which(name, version, exchange, market_type, symbol)}, as_json
        )
    if as_json:
        print_json({"dry_run": dry_run, **done})
        return 0
    for row in done["rows"]:
        OUT.print(f"{named(row)} {'would be' if dry_run else 'was'} deleted ({size(row['bytes'])})", markup=False)
    OUT.print(f"latest is {done['latest'] or 'none: no version is left'}", markup=False)
    return 0


def _confirmed(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises UsageError for a no and where nobody can be asked, KeyboardInterrupt where the terminal goes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this deletes values, and nobody can be asked", "give --yes, or --dry-run to see what it is")
    what = named(rows[0]) if len(rows) == 1 else f"{len(rows)} versions of {rows[0]['feature_set']}"
    try:
        if not typer.confirm(f"Delete {what}?", err=True):
            raise UsageError("nothing was deleted", "--yes does not ask")
    except typer.Abort:
        raise KeyboardInterrupt from None
