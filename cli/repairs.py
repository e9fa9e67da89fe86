"""`dl gaps --repair`: asking for what is missing, here or through the daemon that writes the lake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.output import ERR, OUT, print_json, print_table, progress, when
from cli.places import UsageError, reading
from market import times

if TYPE_CHECKING:
    from collectors.repair import Scope
    from daemon.config import Config
    from daemon.repairing import Done, Told, Tools
    from lake.lock import LockInfo
    from lake.writer import LakeWriter
    from market.session import Gap

COLUMNS = ("exchange", "market", "kind", "symbol", "cause", "from", "to", "missing")
SHOWN = 40
WORDS = {"ask": "is asked for", "wait": "waits", "leave": "stays open", "give_up": "is given up"}


def times_of(start: str | None, end: str | None, day: str | None) -> tuple[int | None, int | None]:
    """From when and to when gaps are meant. Raises Malformed, UsageError."""
    if day is not None:
        if start is not None or end is not None:
            raise UsageError("--day says from when to when already", "leave out --start and --end, or --day")
        first = times.parse(day)
        if first % times.DAY:
            raise UsageError(f"--day {day} is no date", "use for example 2026-11-20")
        return first, first + times.DAY
    low, high = (None if value is None else times.parse(value) for value in (start, end))
    if low is not None and high is not None and low >= high:
        raise UsageError(f"--start {start} is not before --end {end}", "the end itself is not included")
    return low, high


def asked_for(
    root: Path, names: tuple[str | None, ...], span: tuple[int | None, ...], config: Path | None, dry_run: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Repair the open gaps of (exchange, market type, kind, symbol) in a span, or say what would be done."""
    from collectors.repair import Scope

    scope = Scope(*names, *span)  # type: ignore[arg-type] # four names, two times
    return dry(root, scope, as_json=as_json) if dry_run else carry_out(root, scope, config, as_json=as_json)


def dry(root: Path, scope: Scope, *, as_json: bool) -> int:
    """Say what would be done. Exit code 1 where a gap is open."""
    from daemon.repairing import planned
    from runtime.clock import SystemClock

    with reading(root) as manifest:
        found = planned(manifest, scope, SystemClock().now())
    if as_json:
        print_json({"planned": found})
    else:
        _show(found, "would repair")
    return 1 if found else 0


def carry_out(root: Path, scope: Scope, config: Path | None, *, as_json: bool) -> int:
    """Repair. Exit code 1 where a gap is open still."""
    from lake.lock import read_lock

    holder = read_lock(root)
    done, published = (
        _alone(root, scope, config, quiet=as_json)
        if holder is None
        else (_asked(root, holder, scope, quiet=as_json), dict[str, Any]())
    )
    if as_json:
        print_json({"ok": done.ok, "repaired": done, **published})
    else:
        _tell(done)
    compacted, transformed = published.get("compacted"), published.get("transformed")
    bad = bool(compacted and compacted.failures) or bool(transformed and transformed.failed)
    return 0 if done.ok and not bad else 1


def _asked(root: Path, holder: LockInfo, scope: Scope, *, quiet: bool) -> Done:
    """Let the daemon do it."""
    import msgspec

    from cli.jobs import ask
    from daemon.repairing import Done
    from lake.errors import LakeLocked

    if not holder.port:
        raise LakeLocked(f"{root} is being written by process {holder.pid}", "try again when that has ended")
    with progress("repairing", quiet=quiet) as report:
        return msgspec.convert(ask(holder, "repair", msgspec.to_builtins(scope), report), Done)


def _alone(root: Path, scope: Scope, config: Path | None, *, quiet: bool) -> tuple[Done, dict[str, Any]]:
    import asyncio

    from msgspec import to_builtins

    from cli.jobs import noted, publish, settings, tell
    from collectors.recovery import settle
    from daemon.repairing import judge, mend
    from lake.place import shut_out_others
    from lake.writer import LakeWriter
    from runtime.clock import SystemClock

    shut_out_others()
    told, clock = settings(config), SystemClock()
    with LakeWriter.open(root, told.collectors.node, clock.now(), simulated=None, create=False) as writer:
        found = writer.recover(clock.now())
        tell(found)
        settle(writer, found, clock.now())
        with noted(writer, "repair", to_builtins(scope)) as note:
            with progress("repairing", quiet=quiet) as report:
                tools = _tools(writer, told, clock)
                done = asyncio.run(mend(writer, told, clock, scope, tools, report))
            published = publish(writer, told, quiet=quiet)
            before = len(done.closed)
            done = judge(writer, scope, done, clock.now())
            note(to_builtins(done))
        if len(done.closed) > before:  # bars of what is no gap any more
            publish(writer, told, quiet=quiet)
        return done, published


def _tools(writer: LakeWriter, told: Config, clock: Any) -> Tools:
    import asyncio
    import threading

    from collectors.alone import alone
    from collectors.budget import REPAIR
    from daemon.archiving import archive_job
    from daemon.repairing import Tools
    from daemon.reparsing import Tools as Reading
    from daemon.reparsing import reparse_job
    from runtime.slot import Slot
    from runtime.workers import Workers

    async def ask(venue: Any, market_type: str, endpoint: Any, wishes: Any, report: Any) -> Any:
        return await alone(
            venue, market_type, endpoint, writer, told.collectors, clock, wishes, report, asyncio.Event(), REPAIR
        )

    async def archive(wanted: Any, report: Any) -> object:
        left, workers = threading.Event(), Workers(told.workers.processes, recycle_after=told.workers.recycle_after)
        try:
            return await asyncio.to_thread(archive_job, writer, workers, clock, wanted, told, report, left.is_set)
        finally:
            left.set()  # a thread cannot be cancelled: it is told, and what it waits for ends
            workers.kill()

    async def read(wanted: Any, report: Any) -> object:
        left, workers = threading.Event(), Workers(told.workers.processes, recycle_after=told.workers.recycle_after)
        tools = Reading(told, Workers, Slot(), report, left.is_set)
        try:
            done = await asyncio.to_thread(reparse_job, writer, workers, clock.now(), wanted, tools)
            return done.told()
        finally:
            left.set()
            workers.kill()

    return Tools(ask, archive, read)


def _tell(done: Done) -> None:
    if done.requests:
        OUT.print(f"{done.rows:,} rows in {done.requests:,} requests")
    states = Counter(gap.state for gap in done.closed)
    for state in ("repaired", "empty", "unrepairable"):
        if states[state]:
            OUT.print(f"  {states[state]:,} {state}")
            mine = [gap for gap in done.closed if gap.state == state]
            for gap in mine[:SHOWN]:
                OUT.print(f"    {_words(gap)}: {gap.detail or ''}", markup=False)
            _more(len(mine))
    for problem in done.problems[:SHOWN]:
        ERR.print(f"  {problem}", markup=False)
    if not done.closed and not done.left:
        OUT.print("no open gap")
    if done.left:
        _show(done.left, "open still")


def _show(found: Sequence[Told], title: str) -> None:
    rows = [
        [g.exchange, g.market_type, g.kind, g.symbol, g.cause, when(g.ts_from), when(g.ts_to), g.missing,
         f"{WORDS[one.will]}: {one.how}"]
        for one in found[:SHOWN] for g in (one.gap,)
    ]  # fmt: skip
    print_table(title, [*COLUMNS, "what"], rows, "no open gap")
    _more(len(found))


def _more(count: int) -> None:
    if count > SHOWN:
        OUT.print(f"and {count - SHOWN:,} more (--json lists all)")


def _words(gap: Gap) -> str:
    return f"{gap.exchange} {gap.market_type} {gap.kind} {gap.symbol} {when(gap.ts_from)} to {when(gap.ts_to)}"
