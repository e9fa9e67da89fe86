"""`dl backfill`: what a venue's REST routes give of the past, into a lake."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, counted, print_json, print_table, progress
from cli.places import ConfigOption, JsonOption, LakeOption, NoDaemon, UsageError, command, lake_root
from lake.errors import LakeLocked
from lake.layout import MANIFEST

if TYPE_CHECKING:
    from collectors.backfill import Summary
    from collectors.history_plan import Plan, Refusal, Wish
    from daemon.backfilling import Done, Wanted
    from daemon.config import Config
    from lake.job_book import JobBook
    from lake.jobs import JobRow
    from lake.lock import LockInfo
    from lake.writer import LakeWriter

SHOWN = 20
MOST_DAYS = 36_500
EARLIEST = "2017-07-14"
"""Of --full, where a venue does not say when it began."""


@command
def backfill(
    exchange: Annotated[str, typer.Option(help="Which venue, e.g. binance.")],
    market_type: Annotated[str, typer.Option("--market", "--market-type", help="Which market: spot, linear, …")],
    symbol: Annotated[list[str], typer.Option(help="Which symbol, as the venue spells it; may be given often.")],
    kind: Annotated[list[str], typer.Option(help="Which kind, e.g. kline; may be given often.")],
    start: Annotated[str | None, typer.Option("--from", "--start", help="From this time on (UTC): 2026-11-01.")] = None,
    end: Annotated[str | None, typer.Option("--to", "--end", help="Before this time (UTC); now if not given.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=MOST_DAYS, help="The last so many days, in place of --from.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="As far back as the venue goes, in place of --from.")] = False,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Also what was deleted (dl delete): ask for it again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked for, and ask nothing.")] = False,
    background: Annotated[bool, typer.Option("--background", help="Hand it to the daemon and come back.")] = False,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Ask a venue for its past; the lake is made where there is none.

    Never asks for what the lake covers already: run it again after an interruption, or with another period, and it
    goes on where that ended; holes inside are filled as the ends are, and open gaps that it fills are closed. What was
    deleted is left alone, which is said; --deleted asks for it again. Candles are those of a minute, and never one
    that still forms. It is a job of the lake (dl jobs) from its beginning to its end: asked for again in the same words
    it goes on. Where a daemon writes the lake it does the work, beside what it collects; else what came is transformed,
    and days that are over are closed. --json tells progress as JSON lines on stderr. Exit code 1 where something was
    not brought in: the venue does not give it (said for each part), or it failed.
    """
    from collectors import venues
    from daemon.backfilling import Wanted
    from lake.lock import read_lock
    from market.times import parse
    from runtime.clock import SystemClock

    venue = venues.load(exchange)
    if market_type not in venue.ENDPOINTS:
        raise UsageError(f"{exchange} has no market {market_type!r}", f"one of {', '.join(venue.ENDPOINTS)}")
    began = getattr(venue, "BEGAN", parse(EARLIEST)) if full else None
    first, last, said = _span(start, end, days, SystemClock().now(), began)
    wanted = Wanted(exchange, market_type, tuple(kind), tuple(symbol), first, last, said, deleted)
    wanted.wishes()
    root = lake_root(lake, config, must_exist=False)
    if dry_run:
        return _dry(root, wanted, as_json=as_json)
    holder = read_lock(root)
    if holder is None and background:
        raise NoDaemon(
            f"no daemon writes {root}", "start one (python -m daemon), or leave out --background and wait here"
        )
    if holder is None:
        return _alone(root, wanted, config, as_json=as_json)
    return _asked(root, holder, wanted, as_json=as_json, background=background)


def _span(start: str | None, end: str | None, days: int | None, now: int, began: int | None) -> tuple[int, int, str]:
    """[from, to) us, and what was asked in words; `began` of --full is when the venue did."""
    from market.times import DAY, parse, text

    if [start is not None, days is not None, began is not None].count(True) != 1:
        raise UsageError(
            "one of --from, --days and --full is needed", "--days 30, or --from 2026-11-01 --to 2026-11-08"
        )
    to = now if end is None else min(parse(end), now)
    first = to - (days or 0) * DAY if start is None else parse(start)
    first = first if began is None else began
    if first >= to:
        raise UsageError(f"{text(first)} is not before {text(to)}", "--to itself is not included, and never after now")
    said = "as far back as it goes" if began is not None else f"since {text(first)}"
    said = f"the last {days} days" if days is not None else said
    return first, to, said if end is None else f"{said}, to {text(to)}"


def _dry(root: Path, wanted: Wanted, *, as_json: bool) -> int:
    from collectors import venues
    from collectors.backfill import offers
    from collectors.history_plan import Held, plan
    from lake.manifest import Manifest
    from runtime.clock import SystemClock

    known = Held()
    if (root / MANIFEST).is_file():
        manifest = Manifest.read_only(root)
        try:
            known = wanted.known(root, manifest)
        finally:
            manifest.close()
    made = plan(wanted.wishes(), offers(venues.load(wanted.exchange), wanted.market_type), known, SystemClock().now())
    if as_json:
        print_json({"planned": made})
    else:
        _show_plan(made)
    return 1 if made.refused else 0


def _asked(root: Path, holder: LockInfo, wanted: Wanted, *, as_json: bool, background: bool) -> int:
    """Let the daemon do it."""
    import msgspec

    from cli.jobs import ask, asker
    from collectors.backfill import Summary
    from collectors.history_plan import Plan
    from daemon.backfilling import WORK, Done

    if not holder.port:
        raise LakeLocked(f"{root} is being written by process {holder.pid}", "try again when that has ended")
    start = {"work": WORK, "arguments": msgspec.to_builtins(wanted), "asked_by": asker("dl backfill")}
    answer = ask(holder, "job_start", start, lambda *_: None)
    done = Done(planned=msgspec.convert(answer["planned"], Plan))
    if answer["job"] is None:
        return _tell(done, {}, as_json=as_json)
    done.job = str(answer["job"]["job"])
    if background:
        return _handed(done, as_json=as_json)
    ERR.print(f"job {done.job} of the daemon: it goes on when you leave", markup=False)
    with progress("asking", quiet=False, lines=as_json) as report:
        told = ask(holder, "job_follow", {"job": done.job}, report)
    done.fetched = msgspec.convert(told["result"], Summary) if told["result"] is not None else None
    return _tell(done, {}, as_json=as_json)


def _handed(done: Done, *, as_json: bool) -> int:
    if as_json:
        print_json({"job": done.job, "planned": done.planned})
    else:
        OUT.print(
            f"job {done.job}: {counted(len(done.planned.chunks), 'part')}; dl jobs show {done.job} says how far it is"
        )
        _refusals(done.planned)
    return 1 if done.planned.refused else 0


def _alone(root: Path, wanted: Wanted, config: Path | None, *, as_json: bool) -> int:
    from cli.jobs import asker, publish, settings, tell
    from collectors.recovery import settle
    from collectors.repair import Scope
    from daemon.backfilling import Done, chunks_of, planned, request_of
    from daemon.repairing import judged
    from lake.job_book import JobBook
    from lake.place import shut_out_others
    from lake.writer import LakeWriter
    from runtime.clock import SystemClock

    shut_out_others()
    told, clock = settings(config), SystemClock()
    with LakeWriter.open(root, told.collectors.node, clock.now(), simulated=None) as writer:
        found = writer.recover(clock.now())
        tell(found)
        settle(writer, found, clock.now())
        book = JobBook(writer)
        book.settle(clock.now())
        done = Done(planned=planned(writer, wanted, clock.now()))
        request = request_of(wanted, asker("dl backfill"))
        if done.planned.chunks or book.open(request):
            job = book.ask(request, chunks_of(wanted, done.planned), clock.now())
            done.job = job.job
            done.fetched = _fetch(job, writer, book, told, as_json=as_json)
        published = publish(writer, told, quiet=as_json)
        scope = Scope(wanted.exchange, wanted.market_type)
        if done.fetched is not None and (more := judged(writer, scope, clock.now())):
            done.fetched.repaired += more
            publish(writer, told, quiet=as_json)  # bars of what is no gap any more
    return _tell(done, published, as_json=as_json)


def _fetch(job: JobRow, writer: LakeWriter, book: JobBook, told: Config, *, as_json: bool) -> Summary | None:
    """Carry out a job. Ctrl-C ends it in order: what came is kept, and the job is paused."""
    from daemon.job_backfill import BackfillWork, alone
    from daemon.jobs import carried
    from runtime.clock import SystemClock

    clock = SystemClock()
    work = BackfillWork(writer, book, told, clock, alone(writer, told, clock))
    with progress("asking", quiet=False, lines=as_json) as report:
        try:
            return asyncio.run(
                carried(writer, book, clock, job, lambda: work.run(job, report, asyncio.Event()), lambda: "paused")
            )
        except KeyboardInterrupt:
            ERR.print(f"job {job.job} is paused: the same command goes on with it", markup=False)
            raise


def _tell(done: Done, published: Mapping[str, Any], *, as_json: bool) -> int:
    """The end of the command: its exit code. `published` is empty where the daemon sees to that."""
    transformed, compacted = published.get("transformed"), published.get("compacted")
    if as_json:
        print_json({"planned": done.planned, "fetched": done.fetched, "job": done.job, **published})
    else:
        if done.fetched is None:
            OUT.print(_nothing(done.planned))
        else:
            _show(done.fetched)
        if transformed is not None and compacted is not None:
            OUT.print(
                f"  transformed {transformed.rows:,} rows · {compacted.files} daily files, "
                f"{len(compacted.certificates)} certificates"
            )
            for line in compacted.failures:
                _say(line)
        _refusals(done.planned)
    bad = transformed is not None and any(
        (transformed.failed, transformed.parked, transformed.altered, transformed.quarantined)
    )
    return 1 if not done.ok or bad or (compacted is not None and compacted.failures) else 0


def _show_plan(made: Plan) -> None:
    from market.times import text

    rows = [(one.kind, one.symbol, text(one.start), text(one.end)) for one in made.chunks[:SHOWN]]
    print_table("would ask for", ("kind", "symbol", "from", "to"), rows, _nothing(made))
    if len(made.chunks) > SHOWN:
        OUT.print(f"and {len(made.chunks) - SHOWN:,} more parts (--json lists all)")
    _refusals(made)


def _nothing(made: Plan) -> str:
    """Why there is nothing to ask for."""
    if made.deleted and not made.held:
        return "nothing to ask for: it was deleted from this lake"
    given = made.held or not made.refused
    return "nothing to ask for: what the venue gives of it is held already" if given else "nothing to ask for"


def _show(fetched: Summary) -> None:
    OUT.print(
        f"{fetched.rows:,} rows in {fetched.requests:,} requests; {fetched.done:,} of {fetched.chunks:,} parts whole"
    )
    if fetched.repaired:
        OUT.print(f"  {fetched.repaired:,} open gaps are closed")
    if fetched.lacking:
        OUT.print(f"  {fetched.lacking:,} ids are in no answer of the venue: dl gaps names them")
    for one in fetched.failed[:SHOWN]:
        again = "asking again changes nothing" if one.permanent else "run it again to go on"
        _say(f"{_part(one.chunk)}: {one.reason} ({again})")
    if len(fetched.failed) > SHOWN:
        _say(f"and {len(fetched.failed) - SHOWN:,} more parts that failed (--json lists all)")


def _refusals(made: Plan) -> None:
    if made.deleted:
        hours = made.deleted / 3.6e9
        _say(f"{hours:,.1f} hours of it were deleted from this lake (cause deleted in dl gaps --state unrepairable);")
        _say("they are left alone: --deleted asks for them again")
    for one in made.refused[:SHOWN]:
        _say(f"not given: {_part(one)}: {one.why}")
    if len(made.refused) > SHOWN:
        _say(f"and {len(made.refused) - SHOWN:,} more parts that are not given (--json lists all)")


def _part(one: Wish | Refusal) -> str:
    from collectors.history_plan import said

    return said(one)


def _say(line: str) -> None:
    ERR.print(f"  {line}", markup=False)
