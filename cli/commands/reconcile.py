"""`dl reconcile`: closed days held against what the venue itself says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, print_json, print_table, progress
from cli.places import (
    ConfigOption,
    ExchangeOption,
    JsonOption,
    LakeOption,
    SymbolOption,
    command,
    lake_root,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cli.jobs import Report, Work
    from daemon.auditing import Question
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers

SHOWN = 20
MarketOption = Annotated[
    str | None, typer.Option("--market", "--market-type", help="Only this market: spot, linear, …", show_default=False)
]
DayOption = Annotated[str | None, typer.Option(help="Only this date (UTC): 2026-11-20.", show_default=False)]
BooksOption = Annotated[
    bool, typer.Option("--books", help="Rebuild order books, and hold them against those that the venue told of, too.")
]
ArchiveOption = Annotated[
    bool, typer.Option("--archive", help="Hold trades against the file that the venue publishes of the day, too.")
]
SourceOption = Annotated[
    str | None,
    typer.Option(help="A folder or address with the archive's paths, with --archive.", show_default=False),
]
FetchOption = Annotated[
    bool, typer.Option("--fetch", help="Ask the venue for candles that the lake lacks, first (as dl backfill does).")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Compare and tell, and write nothing.")]


@command
def reconcile(
    lake: LakeOption = None,
    exchange: ExchangeOption = None,
    market: MarketOption = None,
    symbol: SymbolOption = None,
    day: DayOption = None,
    books: BooksOption = False,
    archive: ArchiveOption = False,
    source: SourceOption = None,
    fetch: FetchOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Hold the final bars of closed days against the venue's own candles, and certify the days that it confirms.

    Compares what the lake holds: rows of `kline`, streamed, backfilled or from an archive; with --books also order
    books, rebuilt, with those that the venue told of at the same update id; with --archive also trades with the
    published file of their day, by id both ways, which is fetched for that and enters no lake. With --fetch the venue
    is asked for the candles that are missing, which become rows of the lake; --dry-run asks for none. Each difference
    is told with its reason (late_print, off_book, missing_id, not_collected, venue_revision, rounding) or as
    unexplained. A day without an unexplained one, of which the venue tells everything, is verified: its certificate
    says so with the counts. Done by the daemon where one writes the lake. Exit code 1 where a day that was looked at
    is not verified.
    """
    from cli.jobs import run_job, settings
    from daemon.auditing import question_of

    root = lake_root(lake, config)
    told = {"exchange": exchange, "market": market, "symbol": symbol, "day": day, "books": books, "archive": archive,
            "source": source, "fetch": fetch or None}  # fmt: skip
    wanted = {name: value for name, value in told.items() if value is not None}
    asked = question_of(wanted)
    if dry_run:
        done = _look(root, asked, settings(config), quiet=as_json)
    else:
        done = run_job("reconcile", wanted, root, settings(config), as_json, work(asked))
    if as_json:
        print_json(done)
    else:
        _say(done, dry_run=dry_run)
    return 0 if done["ok"] else 1


def _look(root: Path, asked: Question, config: Config, *, quiet: bool) -> dict[str, Any]:
    """Beside whoever writes the lake."""
    from daemon.auditing import look
    from runtime.clock import SystemClock
    from runtime.workers import InlineExecutor

    with reading(root) as manifest, progress("comparing", quiet=quiet) as report:
        return look(root, manifest, InlineExecutor(), SystemClock(), asked, config, report).told()


def work(asked: Question) -> Work:
    """The job where nobody else writes the lake."""

    def run(writer: LakeWriter, workers: Workers, _now: int, config: Config, report: Report) -> dict[str, Any]:
        from daemon.auditing import reconcile_job
        from runtime.clock import SystemClock

        return reconcile_job(writer, workers, SystemClock(), asked, config, report).told()

    return run


def _say(done: Mapping[str, Any], *, dry_run: bool) -> None:
    rows = [
        (
            one["exchange"], one["market_type"], one["kind"], one["symbol"], one["date"], one["against"], one["total"],
            one["equal"], _counts(one["counts"]), one["untold"] or "-", "verified" if one["verified"] else "FINAL",
        )
        for one in done["audits"]
    ]  # fmt: skip
    columns = (
        "exchange", "market", "kind", "symbol", "day", "against", "compared", "the same", "differences", "not told",
        "state",
    )  # fmt: skip
    print_table("closed days against the venue", columns, rows, "nothing")
    _differences(done["audits"])
    hints = dict.fromkeys(one["hint"] for one in done["audits"] if one["hint"] and not one["verified"])
    for one in done["audits"]:
        if one["failed"]:
            ERR.print(f"{one['path']}: {one['failed']}", markup=False)
    for hint in list(hints)[:SHOWN]:
        ERR.print(f"  {hint}", markup=False)
    if len(hints) > SHOWN:
        ERR.print(f"  and {len(hints) - SHOWN:,} more (--json has all)", markup=False)
    if fetched := done.get("fetched"):
        OUT.print(
            f"{fetched['rows']:,} candles came in {fetched['requests']:,} requests, for {fetched['days']:,} symbol days"
        )
        for problem in fetched["problems"][:SHOWN]:
            ERR.print(f"  {problem}", markup=False)
    good = sum(one["verified"] is not None for one in done["audits"])
    kept = "nothing was written" if dry_run else f"{done['written']:,} certificates written"
    OUT.print(f"{good:,} of {len(done['audits']):,} daily files are verified; {kept}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "-"


def _differences(found: list[dict[str, Any]]) -> None:
    """Some of each sort, with what it means."""
    from lake.audit_words import MEANING
    from market.times import text

    shown = [(one, example) for one in found if one["kind"] != "bar_1s" for example in one["examples"]]
    rows = [
        (one["symbol"], text(example["at"]), example["what"], MEANING.get(example["what"], ""), example["detail"])
        for one, example in shown[:SHOWN]
    ]
    if rows:
        more = f" (the first {SHOWN} of {len(shown):,}; --json has more)" if len(shown) > SHOWN else ""
        print_table(f"differences{more}", ("symbol", "at", "difference", "which means", "values"), rows, "")
