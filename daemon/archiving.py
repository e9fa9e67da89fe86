"""`dl archive`: files that a venue publishes, planned, fetched, proven and taken in; also asked of the daemon.

Files are fetched side by side and taken in one after the other, oldest first. Whatever is refused is named, and the
others go on. Run again it goes on where it ended: what is there is told by its CHECKSUM, without being fetched.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from collectors.files.archive import memory, planning, taking
from collectors.files.archive.config import check_address
from collectors.files.archive.fetching import Host
from collectors.files.archive.getting import Folder, Got, Remote, Source
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Allowed
from collectors.files.archive.series import ArchiveFile, Series, load, series_of
from collectors.files.archive.taking import Outcome
from compactor.service import CompactorService
from compactor.summary import Summary
from daemon.archive_rest import Rest, rest_of
from daemon.archive_revision import replace
from daemon.config import Config
from daemon.reproducing import LOWEST
from lake import durable
from lake.errors import CommitConflict, CorruptFile, LakeError, VerifyFailed, WrongQuestion
from lake.writer import LakeWriter
from market.numbers import is_decimal
from market.times import DAY, Interval, date_of, day_start, parse
from runtime.clock import Clock
from runtime.slot import Slot
from runtime.workers import Workers

MOST_SYMBOLS = 1000
Report = Callable[[int, int, str], None]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files: of these symbols, of the dates `first` to `last`, both included. See `dl archive --help`."""

    market_type: str
    kind: str
    symbols: tuple[str, ...]
    first: str
    last: str
    exchange: str = "binance"
    interval: str | None = None
    source: str | None = None
    contract_size: str | None = None
    holes: bool = False
    any_unit: bool = False

    def series(self) -> list[Series]:
        """Raises WrongQuestion for what cannot be meant."""
        if not 0 < len(self.symbols) <= MOST_SYMBOLS:
            raise WrongQuestion(f"{len(self.symbols)} symbols", f"1 to {MOST_SYMBOLS:,} at a time")
        made = [series_of(self.exchange, self.market_type, self.kind, one, self.interval) for one in self.symbols]
        dataset, size = made[0].dataset, self.contract_size
        if size is not None and self.market_type not in (*dataset.sized, *dataset.sizeable):
            what = f"--contract-size {size}: the files of {self.exchange} {self.market_type} {self.kind} need none"
            raise WrongQuestion(what, "leave it out")
        if size is not None and (not is_decimal(size) or float(size) <= 0):
            raise WrongQuestion(f"--contract-size {size}", "the worth of one contract, e.g. 100 of BTCUSD_PERP")
        if size is None and self.market_type in dataset.sized:
            what = f"a quantity of {self.kind} is in contracts there, and the files do not say what one is worth"
            raise WrongQuestion(
                what, "say --contract-size, e.g. 100 of Binance's BTCUSD_PERP, 0.01 of OKX's BTC-USDT-SWAP"
            )
        return made

    @property
    def allowed(self) -> Allowed:
        return Allowed(self.holes, self.any_unit, self.contract_size)


class Done(msgspec.Struct):
    """What was found and done. `missing`: dates of files that are not published, by symbol; `rest`: what of the request
    no file holds, with the way to it.
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
        return not self.missing and not any(one.state == "refused" or one.quarantined for one in self.files)

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}


def wanted_of(arguments: Mapping[str, Any]) -> Wanted:
    """Raises WrongQuestion."""
    try:
        return msgspec.convert(dict(arguments), Wanted)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"what is wanted of the archive: {error}", "see dl archive --help") from error


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
    return asyncio.run(_run(writer, workers, clock, wanted, config, report, stopping))


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
    one = asyncio.Lock()

    async def archive(arguments: Mapping[str, Any], progress: Report) -> object:
        left, workers = threading.Event(), pool()
        async with one:  # two would fetch and name the same files
            try:
                done = await asyncio.to_thread(
                    _apart, slot, writer, workers, clock, arguments, config, progress, left.is_set
                )
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

    async def run() -> Done:
        async with source_of(root, clock, wanted, config, lambda: False) as source:
            found = await _planned(source, wanted, clock)
        return Done(True, [_seen(root, file) for file in found.files], found.missing, found.rest)

    return asyncio.run(run())


def _seen(root: Path, file: ArchiveFile) -> Outcome:
    known = memory.recall(root, file)
    if known is None:
        return Outcome(name=file.name, path=file.path, state="wanted")
    return Outcome(
        name=file.name, path=file.path, state="known", rows=known.rows, bytes=known.had.bytes,
        sha256=known.had.sha256, session=known.session,
    )  # fmt: skip


@asynccontextmanager
async def source_of(
    root: Path, clock: Clock, wanted: Wanted, config: Config, stopping: Callable[[], bool]
) -> AsyncIterator[Source]:
    """The configured archive, or what --source names."""
    settings, archive = config.archives, load(wanted.exchange)
    place, usual = wanted.source, config.archives.place(wanted.exchange)
    if place is not None and "://" not in place:
        yield Folder(Path(place), archive)
        return
    base, listing = place or usual.base, usual.listing
    if place is not None and place.rstrip("/") != usual.base.rstrip("/"):
        listing = None  # a mirror lists its own, if any
    try:
        check_address(base)
    except ValueError as error:
        raise WrongQuestion(f"--source: {error}", "name a folder, or an https:// address") from error
    allowed = settings.allowed(wanted.exchange)
    if urlsplit(base).netloc not in allowed:
        raise WrongQuestion(f"--source {base}: its host is not allowed", "name it in archives.hosts of config.yml")
    async with Host(clock, allowed, settings.caps.packed, stopping) as host:
        yield Remote(host, archive, base, listing, root)


class _Planned(msgspec.Struct):
    files: list[ArchiveFile] = []
    missing: dict[str, list[str]] = {}
    rest: list[Rest] = []


async def _planned(source: Source, wanted: Wanted, clock: Clock) -> _Planned:
    archive, now = load(wanted.exchange), clock.now()
    begin, end = planning.span(archive, wanted.first, wanted.last, date_of(now))
    first, last = planning.file_dates(archive, begin, end)
    asked = Interval(day_start(begin), day_start(end) + DAY)
    running = Interval(asked.end, min(parse(wanted.last) + DAY, now))
    found = _Planned(files=[], missing={}, rest=[])
    for series in wanted.series():
        plan = planning.plan(series, first, last, await source.published(series, first, last))
        found.files += plan.files
        if plan.missing:
            found.missing[series.symbol] = list(plan.missing)
        found.rest += rest_of(series, plan.missing, asked, running)
    return found


async def _run(
    writer: LakeWriter, workers: Executor, clock: Clock, wanted: Wanted, config: Config, report: Report,
    stopping: Callable[[], bool],
) -> Done:  # fmt: skip
    wanted.series()  # before anything is asked
    async with source_of(writer.root, clock, wanted, config, stopping) as source:
        found = await _planned(source, wanted, clock)
        files, done = found.files, Done(False, [], found.missing, found.rest)
        room = asyncio.Semaphore(config.archives.parallel)
        least = config.disk.limits().low
        failed: LakeError | None = None
        async with asyncio.TaskGroup() as group:
            # in the order of the files, so that the next one to be taken in is never the one that waits for room
            tasks = [group.create_task(_fetch(writer.root, source, file, room, least)) for file in files]
            try:
                for place, (file, task) in enumerate(zip(files, tasks, strict=True)):
                    report(place, len(files), file.name)
                    if stopping():
                        break
                    fetched = await task
                    done.files.append(await _taken(writer, workers, clock, wanted, config, file, fetched))
                    room.release()
            except LakeError as error:
                failed = error
            except asyncio.CancelledError:
                _end(workers)  # the thread that waits for a file would be waited for
                raise
            finally:
                for task in tasks:
                    task.cancel()
        if failed is not None:
            raise failed
        report(len(files), len(files), "taken in")
    return done


async def _fetch(
    root: Path, source: Source, file: ArchiveFile, room: asyncio.Semaphore, least: int
) -> Got | Outcome | LakeError:
    """A file that is here, or that it is in the lake as its CHECKSUM says, or why it is neither.

    Who takes it releases `room`.
    """
    await room.acquire()
    try:
        free = durable.room(root).free
        if free < least:
            raise Refused(file.name, "size", f"the disk has {free:,} bytes free, less than disk.low_mb", "make room")
        said = await source.stamp(file)
        known = memory.recall(root, file)
        if known is not None and said.is_of(known.had):
            return _seen(root, file)
        return await source.get(file, said)
    except LakeError as error:
        return error


async def _taken(
    writer: LakeWriter,
    workers: Executor,
    clock: Clock,
    wanted: Wanted,
    config: Config,
    file: ArchiveFile,
    found: Got | Outcome | LakeError,
) -> Outcome:
    """What became of a file. Raises what is no fault of the file: StorageFailed, Fenced."""
    if isinstance(found, Outcome):
        return found
    try:
        if isinstance(found, LakeError):
            raise found
        try:
            return await asyncio.to_thread(_into_lake, writer, workers, clock, wanted, config, file, found)
        finally:
            if found.ours and not config.archives.keep:
                durable.unlink(found.path)
    except Refused as error:
        return taking.refused(file, error)
    except (CommitConflict, CorruptFile, VerifyFailed) as error:
        return taking.refused(file, Refused(file.name, "lake", error.message, error.hint or "run it again"))


def _into_lake(
    writer: LakeWriter, workers: Executor, clock: Clock, wanted: Wanted, config: Config, file: ArchiveFile, got: Got
) -> Outcome:
    """A file that is new to the lake, or another version of one that is not."""
    before = memory.recall(writer.root, file)
    if before is not None and before.had.sha256 != got.had.sha256:
        return replace(writer, workers, config, file, got, before, wanted.allowed, clock.now)
    node, caps = config.collectors.node, config.archives.caps
    return taking.take(writer, workers, node, file, got, wanted.allowed, caps, clock.now)
