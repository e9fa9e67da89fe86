"""Closed days read again from their frames by today's parsers: what would change, and its publication as a revision.

One market and day at a time. Frames are read in a process of its own, a slice at a time as the slot allows; rows are
compared hour by hour, and only files that change are written anew, by a job and commit of the compactor. A day is old
or new, whenever this ends; doing it again finds nothing to do.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from collectors import exchanges
from compactor.book_plan import day_before
from compactor.jobs import Revision, day_span, in_order
from compactor.reproduce import ROOM, SLICE_SECONDS, TooLarge
from compactor.service import CompactorService, revise
from compactor.summary import Summary
from daemon.config import Config
from daemon.reparser import ROWS, DayChange, Job, Step, advance, overlaps
from lake import durable
from lake.books import KIND as BOOKS
from lake.errors import CommitConflict, CorruptFile, VerifyFailed, WrongQuestion
from lake.manifest import Manifest
from lake.reparsed import FileChange, StreamChange
from lake.rows import FRAMES, SegmentRow
from lake.scratch import Scratch
from lake.writer import LakeWriter
from market import kinds
from market.times import date_of, parse
from runtime import reproducing
from runtime.clock import Clock
from runtime.slot import Slot
from runtime.threads import Line
from runtime.workers import Workers

MOST_DAYS = 400
"""Dates of one call."""
EXAMPLES = 5
TURN_SECONDS = 0.5
SPARE = 64 * 1024 * 1024
Report = Callable[[int, int, str], None]
Publish = Callable[[Job, DayChange, list[SegmentRow], Path], None]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which days, both ends included, and of what. `examples` rows of each sort of change are shown."""

    first: str
    last: str
    exchange: str | None = None
    market_type: str | None = None
    kind: str | None = None
    symbol: str | None = None
    examples: int = EXAMPLES

    def dates(self) -> tuple[str, ...]:
        """Raises Malformed, UnknownKind, WrongQuestion for what cannot be meant."""
        first, last = (date_of(parse(date)) for date in (self.first, self.last))
        days = (last - first).days + 1
        if days < 1:
            raise WrongQuestion(f"--from {first} is after --to {last}", "--to is the last date, included")
        if days > MOST_DAYS:
            raise WrongQuestion(f"{first} to {last} are {days} days, {MOST_DAYS} at a time are read", "ask for fewer")
        if self.kind is not None and kinds.kind(self.kind).derived:
            raise WrongQuestion(f"{self.kind} is made of other rows", "name the kind that it is made of")
        return tuple((first + dt.timedelta(days=n)).isoformat() for n in range(days))


class Tools(msgspec.Struct, frozen=True):
    """What a re-parse works with: `workers` makes a pool of one process, whose slices wait for `slot`."""

    config: Config
    workers: Callable[[], Executor]
    slot: Slot
    report: Report
    stopping: Callable[[], bool]


def jobs(manifest: Manifest, wanted: Wanted) -> list[Job]:
    """A job a market and day of which the lake has something, oldest first. Raises as `Wanted.dates`."""
    dates = wanted.dates()
    asked = (wanted.exchange, wanted.market_type, wanted.kind)
    streams = [one for one in manifest.streams() if all(a in (None, b) for a, b in zip(asked, one, strict=True))]
    found = [
        Job(*market, date, dates, wanted.kind, wanted.symbol, wanted.examples)
        for date in dates
        for market in sorted({stream[:2] for stream in streams})
        if _held(manifest, *market, date)
    ]
    if not found:
        raise WrongQuestion("the lake has nothing of that", "dl ls says what it has")
    return found


def _held(manifest: Manifest, exchange: str, market_type: str, date: str) -> bool:
    frames = manifest.segments(exchange, market_type, FRAMES)
    files = manifest.files(exchange=exchange, market_type=market_type, date_from=date, date_to=date)
    return bool(files) or any(row.rows and overlaps(row, date) for row in frames)


def reparse(
    root: Path, manifest: Manifest, wanted: Wanted, now: int, tools: Tools, publish: Publish | None
) -> list[DayChange]:
    """Every day that is wanted, looked at and, with `publish`, published. Blocks.

    Raises StorageFailed, Fenced, WrongQuestion, Malformed.
    """
    found: list[DayChange] = []
    todo = jobs(manifest, wanted)
    for place, job in enumerate(todo):
        if tools.stopping():
            break
        tools.report(place, len(todo), job.text)
        change = _one(root, manifest, job, now, tools, publish)
        for stream in change.streams:
            stream.files = [_told(one) for one in stream.files]
        found.append(change)
    tools.report(len(todo), len(todo), "re-parsed")
    return found


def _told(file: FileChange) -> FileChange:
    """Without its files, which are the job's own affair."""
    return msgspec.structs.replace(file, base=None, parts=[])


def _one(root: Path, manifest: Manifest, job: Job, now: int, tools: Tools, publish: Publish | None) -> DayChange:
    refused = DayChange(exchange=job.exchange, market_type=job.market_type, date=job.date)
    files = manifest.files(exchange=job.exchange, market_type=job.market_type, date_from=job.date, date_to=job.date)
    if now < day_span(job.date).end:
        refused.refused = "the day is not over"
        return refused
    with Scratch("lake-reparse-", tools.config.compactor.reproduce.folder) as scratch:
        free, needed = durable.room(scratch.path).free, 2 * ROOM * sum(row.bytes for row in files) + SPARE
        if free < needed:
            hint = "name another one in compactor.reproduce.folder"
            refused.refused = f"{scratch.path} has {free:,} bytes free, {needed:,} are needed: {hint}"
            return refused
        try:
            step = _read(root, job, now, tools, scratch.path, publishing=publish is not None)
        except (CorruptFile, TooLarge) as error:
            refused.refused = str(error)
            return refused
        change = step.change if step is not None else None
        if step is None or change is None:
            refused.refused = "stopped before it was read"
            return refused
        if publish is not None and change.changes and not change.refused:
            publish(job, change, step.frames, scratch.path / ROWS)
        return change


def _read(root: Path, job: Job, now: int, tools: Tools, folder: Path, *, publishing: bool) -> Step | None:
    """Slices until it is over; None where it was told to stop."""
    memory = tools.config.compactor.reproduce.max_mb * 1024 * 1024
    workers = tools.workers()
    fresh = True
    try:
        while not tools.stopping():
            if not tools.slot.wait(TURN_SECONDS):
                continue
            try:
                step = workers.submit(
                    advance, tools.config.collectors, str(root), job, str(folder), now, SLICE_SECONDS, memory,
                    fresh=fresh, publishing=publishing,
                ).result()  # fmt: skip
            finally:
                tools.slot.end()
            fresh = False
            if step.change is not None:
                return step
            tools.report(step.done, step.total, f"{job.text}: files of frames")
        return None
    finally:
        kill = getattr(workers, "kill", None)
        kill() if kill is not None else workers.shutdown()


class Done(msgspec.Struct):
    """What a re-parse found and did; `compacted` is what was made anew behind it (bars, books of the day after)."""

    dry_run: bool
    days: list[DayChange]
    compacted: Summary | None = None

    @property
    def published(self) -> bool:
        return any(day.published for day in self.days)

    @property
    def ok(self) -> bool:
        """Whether all that was wanted could be looked at, and done."""
        return all(day.ok for day in self.days) and not (self.compacted is not None and self.compacted.failures)

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}


def reparse_job(writer: LakeWriter, executor: Executor, now: int, arguments: Mapping[str, Any], tools: Tools) -> Done:
    """What `dl reparse` asks of who writes the lake. Blocks. Raises Malformed, WrongQuestion, StorageFailed, Fenced."""
    try:
        wanted = msgspec.convert(dict(arguments), Wanted)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"what is to be re-parsed: {error}", "see dl reparse --help") from error
    publish = publisher(writer, executor, now, tools.config)
    return Done(dry_run=False, days=reparse(writer.root, writer.manifest, wanted, now, tools, publish))


def control_job(
    config: Config, writer: LakeWriter, executor: Executor, clock: Clock, slot: Slot, compactor: CompactorService
) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the daemon's control port runs: one at a time, since each holds a market's day in a process of its own."""
    line = Line()

    async def reparse(arguments: Mapping[str, Any], progress: Report) -> object:
        left = threading.Event()
        tools = Tools(config, Workers, slot, progress, left.is_set)
        what = f"the re-parse of {arguments.get('first')} to {arguments.get('last')}"
        try:
            done = await line.run(
                what, partial(progress, 0, 1), lambda: reparse_job(writer, executor, clock.now(), arguments, tools)
            )
        finally:
            left.set()  # a thread cannot be cancelled: it is told
        if done.published:
            done.compacted = await compactor.compact(progress, again=True)
        return done.told()

    return reparse


def publisher(writer: LakeWriter, executor: Executor, now: int, config: Config) -> Publish:
    """What makes a day's changes its next revision, a kind at a time."""

    def publish(job: Job, change: DayChange, frames: list[SegmentRow], folder: Path) -> None:
        for stream in change.streams:
            if not stream.files:
                continue
            try:
                revision = _revision(writer, stream, frames, folder)
                revise(writer, executor, now, config.compactor, revision, exchanges.parsers)
            except (CommitConflict, CorruptFile, VerifyFailed) as error:
                change.failed.append(f"{stream.kind}: {error.message}; run it again")
                reproducing.reparse_failed(
                    exchange=job.exchange, market_type=job.market_type, kind=stream.kind, date=job.date, error=error
                )
                continue
            change.published.append(stream.kind)
            reproducing.day_reparsed(
                exchange=job.exchange, market_type=job.market_type, kind=stream.kind, date=job.date,
                files=len(stream.files), changed=stream.changed, added=stream.added, removed=stream.removed,
            )  # fmt: skip

    return publish


def _revision(writer: LakeWriter, stream: StreamChange, frames: list[SegmentRow], folder: Path) -> Revision:
    yesterday = day_before(stream.date)
    before = writer.manifest.files(
        BOOKS, exchange=stream.exchange, market_type=stream.market_type, level="day", date_from=yesterday,
        date_to=yesterday,
    )  # fmt: skip
    return Revision(
        (stream.exchange, stream.market_type, stream.kind),
        stream.date,
        (),
        in_order(one.base for one in stream.files if one.base is not None),
        in_order(before) if stream.kind == BOOKS else (),
        folder=str(folder),
        parts=tuple(part for one in stream.files for part in one.parts),
        frames=tuple(frames),
        revised={one.symbol: (one.changed, one.added, one.removed) for one in stream.files},
    )
