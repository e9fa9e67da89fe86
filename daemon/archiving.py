"""`dl archive`: files that a venue publishes, planned, fetched, proven and taken in; also asked of the daemon.

Files are fetched side by side and taken in one after the other, oldest first. Whatever is refused is named, and the
others go on. Run again it goes on where it ended: what is there is told by its CHECKSUM, without being fetched.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from collectors.files.archive import memory, planning, taking
from collectors.files.archive.facts import Allowed
from collectors.files.archive.getting import Got, Source
from collectors.files.archive.refused import Refused
from collectors.files.archive.series import ArchiveFile, Series
from collectors.files.archive.taking import Outcome
from compactor.service import CompactorService
from compactor.summary import Summary
from daemon.archive_request import Wanted, lost, remembered, sizes, source_of, wanted_of
from daemon.archive_rest import Rest, rest_of
from daemon.archive_revision import replace
from daemon.config import Config
from daemon.reproducing import LOWEST
from lake import durable, layout
from lake.errors import CommitConflict, CorruptFile, LakeError, VerifyFailed
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.times import DAY, Interval, date_of, day_start, parse
from runtime.clock import Clock
from runtime.slot import Slot
from runtime.threads import Line
from runtime.workers import Workers

THERE = ("held", "changed", "lake")
"""Rules by which files are refused of whose time the lake has something."""
Report = Callable[[int, int, str], None]


class Done(msgspec.Struct):
    """What was found and done. `missing`: dates of files that are not published, by symbol; `rest`: what of the request
    no file brings, with the way to it.
    """

    dry_run: bool
    files: list[Outcome] = []
    missing: dict[str, list[str]] = {}
    rest: list[Rest] = []
    compacted: Summary | None = None

    @property
    def taken(self) -> int:
        return sum(one.state in ("taken", "replaced") for one in self.files)

    @property
    def ok(self) -> bool:
        bad = ("refused", "changed")
        return not self.missing and not any(one.state in bad or one.quarantined for one in self.files)

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}


def archive_job(
    writer: LakeWriter,
    workers: Executor,
    clock: Clock,
    arguments: Mapping[str, Any],
    config: Config,
    report: Report,
    stopping: Callable[[], bool] = lambda: False,
) -> Done:
    """What `dl archive` asks of who writes the lake. Blocks. Raises WrongQuestion, Refused, StorageFailed, Fenced."""
    wanted = wanted_of(arguments)
    return asyncio.run(_run(_Work(writer, workers, clock.now, config, report, stopping), wanted, clock))


def control_job(
    config: Config,
    writer: LakeWriter,
    clock: Clock,
    slot: Slot,
    compactor: CompactorService,
    pool: Callable[[], Executor] = Workers,
) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the daemon's control port runs. A file may take minutes: its reading has a process of its own (`pool`), so
    that what comes in live is not kept waiting.
    """
    line = Line()  # one at a time: two would fetch and name the same files

    async def archive(arguments: Mapping[str, Any], progress: Report) -> object:
        left, workers = threading.Event(), pool()
        try:
            done = await line.run(
                "another fetch of archives", partial(progress, 0, 1),
                _apart, slot, writer, workers, clock, arguments, config, progress, left.is_set,
            )  # fmt: skip
        finally:
            left.set()  # a thread cannot be cancelled: it is told, and what it waits for ends
            _end(workers)
        if done.taken:
            done.compacted = await compactor.compact(progress, again=True)
        return done.told()

    return archive


def _apart(
    slot: Slot, writer: LakeWriter, workers: Executor, clock: Clock, arguments: Mapping[str, Any], config: Config,
    report: Report, stopping: Callable[[], bool],
) -> Done:  # fmt: skip
    """`archive_job` with a process of its own, which gives way to all others."""
    workers.submit(_give_way).result()
    return archive_job(writer, slot.in_turn(workers), clock, arguments, config, report, stopping)


def _end(workers: Executor) -> None:
    """At once, where it can."""
    kill = getattr(workers, "kill", None)
    kill() if kill is not None else workers.shutdown()


def _give_way() -> None:
    if hasattr(os, "nice") and multiprocessing.parent_process() is not None:
        os.nice(LOWEST)


def look(root: Path, clock: Clock, arguments: Mapping[str, Any], config: Config) -> Done:
    """What it would do; nothing is fetched but lists, and nothing written. Blocks. Raises WrongQuestion, Refused."""
    wanted = wanted_of(arguments)
    if not wanted.recheck:
        sizes(root, wanted)

    async def plan(manifest: Manifest | None) -> Done:
        async with source_of(root, clock, wanted.exchange, wanted.source, config, lambda: False) as source:
            found = await _planned(source, wanted, clock)
        seen = [_seen(manifest, root, file) for file in found.files]
        return Done(True, [*seen, *found.unproven], found.missing, found.rest())

    held = closing(Manifest.read_only(root)) if (root / layout.MANIFEST).is_file() else nullcontext()
    with held as manifest:
        return asyncio.run(
            _compared(manifest, root, clock, wanted, config) if wanted.recheck else plan(manifest)
        )  # fmt: skip


async def _compared(manifest: Manifest | None, root: Path, clock: Clock, wanted: Wanted, config: Config) -> Done:
    """What the lake has taken in before, and whether its publishers say the same of it still."""
    done, known = Done(True, []), remembered(root, wanted)
    for exchange in dict.fromkeys(file.series.exchange for file, _ in known):
        async with source_of(root, clock, exchange, wanted.source, config, lambda: False) as source:
            for file, one in known:
                if file.series.exchange != exchange:
                    continue
                try:
                    same = (await source.stamp(file)).is_of(one.had)
                    seen = _seen(manifest, root, file)
                    done.files.append(msgspec.structs.replace(seen, state="known" if same else "changed"))
                except Refused as error:
                    done.files.append(taking.refused(file, error))
    return done


def _seen(manifest: Manifest | None, root: Path, file: ArchiveFile) -> Outcome:
    known = memory.recall(root, file)
    if known is None or manifest is None or lost(manifest, file, known) is not None:
        return taking.became(file, "wanted")
    had = known.had
    return taking.became(file, "known", rows=known.rows, bytes=had.bytes, sha256=had.sha256, session=known.session)


class _Work(NamedTuple):
    """Who does it, and for whom."""

    writer: LakeWriter
    workers: Executor
    now: Callable[[], int]
    config: Config
    report: Report
    stopping: Callable[[], bool]

    @property
    def root(self) -> Path:
        return self.writer.root


class _Planned(msgspec.Struct):
    """`asked`: the days that are over; `running`: what was asked for of those that are not. `unproven`: files that are
    there without their CHECKSUM, `bare` the dates that they would have brought, by symbol.
    """

    series: list[Series]
    asked: Interval
    running: Interval
    files: list[ArchiveFile] = []
    missing: dict[str, list[str]] = {}
    unproven: list[Outcome] = []
    bare: dict[str, list[str]] = {}

    def rest(self, refused: Collection[ArchiveFile] = ()) -> list[Rest]:
        """What files do not bring."""
        made: list[Rest] = []
        for of in self.series:
            dates = [*self.missing.get(of.symbol, ()), *self.bare.get(of.symbol, ())]
            dates += [file.date for file in refused if file.series == of]
            made += rest_of(of, dates, self.asked, self.running)
        return made


class _Fetched(NamedTuple):
    """A file that is here, or why not; None where all that is asked of it is `seen`: in the lake, as its CHECKSUM or
    host says.
    """

    seen: Mapping[ArchiveFile, Outcome]
    found: Got | LakeError | None


async def _planned(source: Source, wanted: Wanted, clock: Clock) -> _Planned:
    every, now = wanted.series(), clock.now()
    begin, end = planning.span(every[0], wanted.first, wanted.last, date_of(now))
    first, last = planning.file_dates(every[0], begin, end)
    asked = Interval(day_start(begin), day_start(end) + DAY)
    running = Interval(asked.end, min(parse(wanted.last) + DAY, now))
    found = _Planned(every, asked, running)
    there: dict[str, planning.There] = {}
    for series in found.series:
        place = series.path(series.periods[0], "")  # one of all symbols of a family
        if place not in there:
            there[place] = await source.published(series, first, last)
        plan = planning.plan(series, first, last, there[place])
        found.files += plan.files
        if plan.missing:
            found.missing[series.symbol] = list(plan.missing)
        found.bare[series.symbol] = list(plan.bare)
        found.unproven += [taking.refused(file, source.unproven(file)) for file in dict.fromkeys(plan.bare.values())]
    firsts = {file.path: place for place, file in reversed([*enumerate(found.files)])}
    found.files.sort(key=lambda file: firsts[file.path])  # what is in one file stands together: see _carry_out
    return found


async def _run(work: _Work, wanted: Wanted, clock: Clock) -> Done:
    if wanted.recheck:
        return await _recheck(work, wanted, clock)
    worth = sizes(work.root, wanted)
    async with source_of(work.root, clock, wanted.exchange, wanted.source, work.config, work.stopping) as source:
        found = await _planned(source, wanted, clock)
        done = Done(False, [], found.missing)
        files = [(file, wanted.allowed(worth.get(file.series.symbol))) for file in found.files]
        await _carry_out(work, source, files, done)
    pairs = zip(found.files, done.files, strict=False)  # it may have been stopped
    done.rest = found.rest([file for file, one in pairs if one.state == "refused" and one.rule not in THERE])
    done.files += found.unproven
    return done


async def _recheck(work: _Work, wanted: Wanted, clock: Clock) -> Done:
    """What the lake has taken in before, against what its publishers say of it now."""
    done, known = Done(False, []), remembered(work.root, wanted)
    for exchange in dict.fromkeys(file.series.exchange for file, _ in known):
        mine = [(file, wanted.allowed(one.contract_size)) for file, one in known if file.series.exchange == exchange]
        async with source_of(work.root, clock, exchange, wanted.source, work.config, work.stopping) as source:
            await _carry_out(work, source, mine, done)
    for one in done.files:
        if one.rule == "missing":
            one.what, one.fix = f"{one.what} any more", "its rows stay"
    return done


async def _carry_out(work: _Work, source: Source, files: Sequence[tuple[ArchiveFile, Allowed]], done: Done) -> None:
    """Fetch files side by side and take them in one after the other; what stands together and is in one file is taken
    out of that, fetched once.
    """
    room = asyncio.Semaphore(work.config.archives.parallel)
    failed: LakeError | None = None
    shared = [list(same) for _, same in itertools.groupby(files, lambda one: one[0].path)]
    async with asyncio.TaskGroup() as group:
        # in the order of the files, so that the next one to be taken in is never the one that waits for room
        tasks = [group.create_task(_fetch(work, source, [file for file, _ in same], room)) for same in shared]
        try:
            for same, task in zip(shared, tasks, strict=True):
                work.report(len(done.files), len(files), same[0][0].name)
                if work.stopping():
                    break
                await _taken(work, same, await task, done)
                room.release()
        except LakeError as error:
            failed = error
        except asyncio.CancelledError:
            _end(work.workers)  # the thread that waits for a file would be waited for
            raise
        finally:
            for task in tasks:
                task.cancel()
    if failed is not None:
        raise failed
    work.report(len(files), len(files), "taken in")


async def _fetch(work: _Work, source: Source, same: Sequence[ArchiveFile], room: asyncio.Semaphore) -> _Fetched:
    """What is in one file; who takes it releases `room`."""
    await room.acquire()
    file, seen = same[0], dict[ArchiveFile, Outcome]()
    try:
        free = durable.room(work.root).free
        if free < work.config.disk.limits().low:
            raise Refused(file.name, "size", f"the disk has {free:,} bytes free, less than disk.low_mb", "make room")
        said = await source.stamp(file)
        for one in same:
            known = memory.recall(work.root, one)
            if known is not None and said.is_of(known.had) and lost(work.writer.manifest, one, known) is None:
                seen[one] = _seen(work.writer.manifest, work.root, one)
        return _Fetched(seen, await source.get(file, said) if len(seen) < len(same) else None)
    except LakeError as error:
        return _Fetched(seen, error)


async def _taken(work: _Work, same: Sequence[tuple[ArchiveFile, Allowed]], fetched: _Fetched, done: Done) -> None:
    """What became of each. Raises what is no fault of the file: StorageFailed, Fenced."""
    found = fetched.found
    try:
        for file, allowed in same:
            if work.stopping():
                break
            known = fetched.seen.get(file)
            done.files.append(known if known is not None else await _one(work, file, allowed, found))
    finally:
        if isinstance(found, Got) and found.ours and not work.config.archives.keep:
            durable.unlink(found.path)


async def _one(work: _Work, file: ArchiveFile, allowed: Allowed, found: Got | LakeError | None) -> Outcome:
    assert found is not None, file
    try:
        if isinstance(found, LakeError):
            raise found
        return await asyncio.to_thread(_into_lake, work, file, allowed, found)
    except Refused as error:
        return taking.refused(file, error)
    except (CommitConflict, CorruptFile, VerifyFailed) as error:
        return taking.refused(file, Refused(file.name, "lake", error.message, error.hint or "run it again"))


def _into_lake(work: _Work, file: ArchiveFile, allowed: Allowed, got: Got) -> Outcome:
    """A file that is new to the lake, or another version of one that is not, or one of which the disk lost rows."""
    before, config = memory.recall(work.root, file), work.config
    manifest = work.writer.manifest
    if before is not None and (before.had.sha256 != got.had.sha256 or lost(manifest, file, before) is not None):
        return replace(work.writer, work.workers, config, file, got, before, allowed, work.now)
    node, caps = config.collectors.node, config.archives.caps
    return taking.take(work.writer, work.workers, node, file, got, allowed, caps, work.now)
