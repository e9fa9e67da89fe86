"""`dl delete`: closed days of a symbol out of the lake, for ever, with gaps that say so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, counted, print_json, print_table, size
from cli.places import ConfigOption, JsonOption, LakeOption, UsageError, command, lake_root, reading
from lake.errors import LakeError

if TYPE_CHECKING:
    from cli.jobs import Report
    from compactor.deleting import Deletion, Planned
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers


class Declined(LakeError):
    """The person at the terminal does not want it."""


@command
def delete(
    symbol: Annotated[str, typer.Option(help="Which symbol, as the venue spells it.")],
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    market_type: Annotated[
        str | None, typer.Option("--market", "--market-type", help="Only this market: spot, linear, …")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", "--data-type", help="Only this kind, e.g. trade; all if not given.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it is done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted.")] = False,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Delete the closed days of one symbol, of all kinds or of one. Exit code 1 where there are none.

    What is gone is told as unrepairable gaps with the cause `deleted`, so that nothing brings it back by itself; dl
    backfill --deleted does, where the venue gives it. Bars that were made of deleted trades stay readable, unless they
    are deleted too; deleted bars are missing, not without trades, until their day is made again. The disk is freed
    after compactor.grace_seconds. Days that are not closed are in files of all symbols, and are left. Where a daemon
    writes the lake it does the work.
    """
    root = lake_root(lake, config)
    found = _planned(root, exchange, market_type, kind, symbol)
    if not as_json:
        rows = [(one.exchange, one.market_type, one.kind, one.symbol, len(told.days), told.rows, size(told.bytes))
                for one, told in found]  # fmt: skip
        columns = ("exchange", "market", "kind", "symbol", "days", "rows", "bytes")
        title = "would delete" if dry_run else "to delete"
        print_table(title, columns, rows, f"there is no closed day of {symbol} like that")
    if found and not dry_run and not yes:
        _confirmed()
    done = [] if dry_run else [_deleted(root, config, one, quiet=as_json) for one, _ in found]
    if as_json:
        print_json(
            {"dry_run": dry_run, "planned": [{"of": one, "files": told} for one, told in found], "deleted": done}
        )
    elif done:
        files, rows = (sum(one[name] for one in done) for name in ("files", "rows"))
        OUT.print(f"deleted: {counted(files, 'file')} with {counted(rows, 'row')}")
    return 0 if found else 1


def _planned(
    root: Path, exchange: str | None, market_type: str | None, kind: str | None, symbol: str
) -> list[tuple[Deletion, Planned]]:
    """Raises UnknownKind."""
    from compactor.deleting import Deletion, plan
    from market.kinds import kind as declared

    if kind is not None:
        declared(kind)
    with reading(root) as manifest, manifest.snapshot() as now:
        held = now.files(kind, exchange=exchange, market_type=market_type, symbol=symbol, level="day")
        names = sorted({(row.exchange, row.market_type, row.kind) for row in held if row.symbol == symbol})
        made = [(name, plan(now, *name, symbol)) for name in names]
    return [
        (Deletion(exchange=name[0], market_type=name[1], kind=name[2], symbol=symbol, digest=told.digest), told)
        for name, told in made
    ]


def _confirmed() -> None:
    """Raises Declined for a no, UsageError where nobody can be asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this deletes data, and nobody can be asked", "give --yes, or --dry-run to see what it is")
    try:
        if not typer.confirm("Delete this?", err=True):
            raise Declined("nothing was deleted")
    except typer.Abort:
        raise KeyboardInterrupt from None


def _deleted(root: Path, config: Path | None, asked: Deletion, *, quiet: bool) -> dict[str, Any]:
    import msgspec

    from cli.jobs import run_job, settings
    from compactor.deleting import delete as carry_out

    def work(writer: LakeWriter, _workers: Workers, now: int, _config: Config, _report: Report) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.to_builtins(carry_out(writer, asked, now))
        return told

    done: dict[str, Any] = run_job("delete", msgspec.to_builtins(asked), root, settings(config), quiet, work)
    if not quiet:
        told = f"told by {counted(done['gaps'], 'gap')}" if done["gaps"] else "made of other rows, no gap tells of it"
        ERR.print(f"{asked.exchange} {asked.market_type} {asked.kind}: {told}", markup=False)
    return done
