"""`dl archive`: history as files that a venue publishes, proven line by line and taken into the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, print_json, print_table, size
from cli.places import ConfigOption, JsonOption, LakeOption, UsageError, command, lake_root

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cli.jobs import Report
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers

SHOWN = 20
SymbolsOption = Annotated[
    list[str] | None, typer.Option("--symbol", help="A symbol as the venue spells it; more than once.")
]
FromOption = Annotated[str | None, typer.Option("--from", help="The first date (UTC), e.g. 2026-05-08.")]
ToOption = Annotated[
    str | None, typer.Option("--to", help="The last date, included (default: the first).", show_default=False)
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        help="A folder or an https:// address with the archive's own paths, in place of the venue's own address."
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--contract-size", help="What one contract is worth, where files count contracts and the lake does not say it."
    ),
]
VenueOption = Annotated[
    str | None, typer.Option("--exchange", help="Whose archive (default: binance): docs/archives.md has the list.")
]
MarketOption = Annotated[
    str | None, typer.Option("--market-type", "--market", help="spot (default), linear or inverse.")
]
KindOption = Annotated[
    str | None,
    typer.Option("--kind", help="trade (default), kline, …; a wrong one is answered with those there are."),
]
UnitOption = Annotated[
    bool, typer.Option("--any-unit", help="Take times in another unit than documented, told by their size.")
]
RestOption = Annotated[
    bool, typer.Option("--rest", help="Then ask the venue's REST routes for what no file holds (dl backfill).")
]
RecheckOption = Annotated[
    bool, typer.Option("--recheck", help="Look at files again that the lake took in: all, or what is named.")
]


@command
def archive(
    symbols: SymbolsOption = None,
    first: FromOption = None,
    last: ToOption = None,
    lake: LakeOption = None,
    exchange: VenueOption = None,
    market_type: MarketOption = None,
    kind: KindOption = None,
    interval: Annotated[str | None, typer.Option(help="Of candles: 1m, 1h, 1d, …")] = None,
    source: SourceOption = None,
    contract_size: SizeOption = None,
    holes: Annotated[bool, typer.Option("--holes", help="Take files whose ids have holes.")] = False,
    any_unit: UnitOption = False,
    rest: RestOption = False,
    recheck: RecheckOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which files it would take.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take history from a venue's archive: whole months as monthly files, daily ones at the edges.

    A file must be what its CHECKSUM says, where the venue has them, hold one CSV, and lines of its own day or month,
    with ids that go on where they follow each other; anything else is refused by name, and nothing of it is in the
    lake. A file that is there already changes nothing. Downloads go on where they ended. What no file holds is named,
    with the command that asks the venue's REST routes for it; --rest does that. The lake is made where there is none;
    where a daemon writes it, that does the work.

    Publishers change files: --recheck asks for each that was taken in whether it is the same still, and takes those
    that are not as new revisions of their days, with a report of what changed; --dry-run only names them.

    Exit code 1 where a file was refused or (with --dry-run) has changed, lines went to quarantine, or dates are not
    published.
    """
    if not recheck and (not symbols or first is None):
        raise UsageError("which files: --symbol and --from are needed", "--symbol BTCUSDT --from 2026-05-08")
    if rest and (recheck or dry_run or as_json):
        raise UsageError("--rest goes with none of --recheck, --dry-run, --json", "`rest` of --json has the commands")
    root = lake_root(lake, config, must_exist=recheck)
    told = {
        "exchange": exchange, "market_type": market_type, "kind": kind, "symbols": symbols or None, "first": first,
        "last": last or first, "interval": interval, "source": _place(source), "contract_size": contract_size,
        "holes": holes, "any_unit": any_unit, "recheck": recheck,
    }  # fmt: skip
    wanted = {name: value for name, value in told.items() if value is not None}
    wanted = wanted if recheck else {"exchange": "binance", "market_type": "spot", "kind": "trade"} | wanted
    _check(root, wanted)
    done = _look(root, config, wanted) if dry_run else _take(root, config, wanted, as_json)
    if as_json:
        print_json(done)
    else:
        _say(done)
    if rest and (symbols := [one["symbol"] for one in done["rest"] if one["command"]]):
        return max(_refused(done), _ask(root, config, wanted, symbols, done["rest"]))
    return 0 if done["ok"] else 1


def _refused(done: Mapping[str, Any]) -> int:
    """The exit code of what files there were."""
    return int(any(one["state"] == "refused" or one["quarantined"] for one in done["files"]))


def _ask(root: Path, config: Path | None, wanted: Mapping[str, Any], symbols: list[str], rest: list[Any]) -> int:
    """`dl backfill` over what is in no file; it never asks for what is held. The exit code."""
    from cli.commands.backfill import backfill

    begin, end = min(one["start"] for one in rest), max(one["end"] for one in rest)
    named = list(dict.fromkeys(symbols))
    OUT.print(f"asking REST for {', '.join(named)}, {begin} to {end}", markup=False)
    try:
        backfill(
            wanted["exchange"], wanted["market_type"], named, [wanted["kind"]], begin, end, lake=root, config=config
        )
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def _check(root: Path, wanted: Mapping[str, Any]) -> None:
    """Before a lake is made for what cannot be meant. Raises WrongQuestion."""
    from pathlib import Path

    from collectors.files.archive.getting import Folder
    from collectors.files.archive.series import load
    from daemon.archive_request import sizes, wanted_of

    meant = wanted_of(wanted)
    if not meant.recheck:
        sizes(root, meant)
    if meant.source and "://" not in meant.source and not root.exists():  # else its daemon may see other folders
        Folder(Path(meant.source), load(meant.exchange))


def _place(source: str | None) -> str | None:
    """A folder as the daemon sees it, which runs elsewhere."""
    from pathlib import Path

    return source if source is None or "://" in source else str(Path(source).expanduser().resolve())


def _take(root: Path, config: Path | None, wanted: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    from cli.jobs import run_job, settings

    def work(writer: LakeWriter, workers: Workers, now: int, told: Config, report: Report) -> dict[str, Any]:
        from collectors import exchanges
        from compactor.service import compact_once
        from daemon.archiving import archive_job
        from runtime.clock import SystemClock

        done = archive_job(writer, workers, SystemClock(), wanted, told, report)
        if done.taken:
            done.compacted = compact_once(
                writer, workers, now, told.compactor, report, retention=False, parsers=exchanges.parsers
            )
        return done.told()

    made: dict[str, Any] = run_job("archive", wanted, root, settings(config), quiet, work, create=True)
    return made


def _look(root: Path, config: Path | None, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Without writing: no lock is needed, and no daemon asked."""
    from cli.jobs import settings
    from daemon.archiving import look
    from runtime.clock import SystemClock

    return look(root, SystemClock(), wanted, settings(config)).told()


def _say(done: Mapping[str, Any]) -> None:
    rows = [
        (
            one["exchange"], _named(one), one["state"], one["rows"], one["duplicates"] + one["repeated"],
            one["quarantined"],
            one["missing_ids"], {True: "yes", False: "NO", None: None}[one["joined"]], size(one["bytes"]),
            one["sha256"][:12] or None,
        )
        for one in done["files"]
    ]  # fmt: skip
    counts = ("state", "rows", "repeated", "quarantined", "ids missing", "goes on", "bytes", "sha256")
    print_table("", ("exchange", "file", *counts), rows, "no files of that")
    for one in done["files"]:
        if one["state"] == "refused":
            ERR.print(f"refused: {_named(one)}: {one['rule']}: {one['what']} ({one['fix']})", markup=False)
        elif one["what"]:
            ERR.print(f"quarantined: {_named(one)}: {one['what']}", markup=False)
        if one["others"] and not one["rows"]:
            OUT.print(f"not traded then: {_named(one)}: its {one['others']:,} lines are of others", markup=False)
        if one["replaces"]:
            lost = one["replaces"] == one["sha256"]  # the same bytes as before
            why = "had rows that the disk has lost since" if lost else "was changed by its publisher"
            OUT.print(f"{_named(one)} {why}: {_changes(one)}", markup=False)
            for text in one["examples"]:
                OUT.print(f"    {text}", markup=False)
    for symbol, dates in done["missing"].items():
        shown = ", ".join(dates[:5]) + (f" and {len(dates) - 5:,} more" if len(dates) > 5 else "")
        ERR.print(f"not published: {symbol} {shown}", markup=False)
    for one in done["rest"][:SHOWN]:
        way = f"ask REST: {one['command']}" if one["command"] else f"not over REST either: {one['why']}"
        ERR.print(f"not from files: {one['symbol']} {one['start']} to {one['end']}; {way}", markup=False)
    if len(done["rest"]) > SHOWN:
        ERR.print(f"and {len(done['rest']) - SHOWN:,} more periods that are not from files (--json lists all)")
    _end(done)


def _named(one: Mapping[str, Any]) -> str:
    """The file; of one that holds a family, of which symbol too."""
    return f"{one['name']} {one['symbol']}".rstrip()


def _changes(one: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{one[sort]:,} rows {sort}" for sort in ("added", "changed", "removed"))
    return f"{counts}; new revisions of {len(one['revised']):,} days" if one["revised"] else "no row is otherwise"


def _end(done: Mapping[str, Any]) -> None:
    states = [one["state"] for one in done["files"]]
    if done["dry_run"]:
        changed = f", {states.count('changed'):,} were changed by their publisher" if "changed" in states else ""
        OUT.print(
            f"{states.count('wanted'):,} files would be fetched, {states.count('known'):,} are in the lake{changed}"
        )
        return
    rows = sum(one["rows"] for one in done["files"] if one["state"] == "taken")
    counts = ", ".join(f"{states.count(state):,} {state}" for state in ("taken", "replaced", "known", "refused"))
    OUT.print(f"{counts}; {rows:,} rows")
    made = done["compacted"] or {}
    if made.get("days"):
        OUT.print(f"{made['days']:,} days closed")
    for failure in made.get("failures", ()):
        ERR.print(f"failed: {failure}", markup=False)
