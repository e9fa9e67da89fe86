"""Jobs that are one call of what the control port offered before there were jobs: archives, repair and reconciling.

Each of them goes on by itself where it ended (files are told by their checksums, gaps and days by the manifest), so a
job of theirs that was interrupted is carried out again. What failed is not tried again by itself: asked for again, or
resumed, it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from collectors.files.archive import planning
from collectors.repair import Scope
from daemon import archive_request, auditing
from daemon.came import Came, files_came
from daemon.jobs import Asked, JobsService, Report
from daemon.repairing import Done
from lake import job_plan
from lake.errors import LakeError, WrongQuestion
from lake.job_book import JobBook, Request
from lake.job_plan import BACKFILL, REPAIR
from lake.jobs import AttemptRow, ChunkRow, JobRow
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.errors import MarketError
from market.times import DAY, date_of, parse
from runtime.clock import Clock
from runtime.threads import to_the_end

ANY: Final = "*"
"""What a part is of where nothing narrower was asked for."""
NAMED = 5
Job = Callable[[Mapping[str, Any], Report], Awaitable[object]]
Result = Mapping[str, Any]


def _something(_manifest: Manifest, _arguments: Mapping[str, Any]) -> None:
    """Only asking tells what there is."""


class Call(msgspec.Struct, frozen=True):
    """One of them: what was asked in words and its parts (raises WrongQuestion), what of it is to be asked for again,
    what came of each part, and what came of it where there is nothing to do, None where there may be (may raise
    WrongQuestion): of that no job is made.
    """

    priority: int
    read: Callable[[Mapping[str, Any], int], tuple[str, list[ChunkRow]]]
    narrowed: Callable[[Mapping[str, Any], Sequence[ChunkRow]], Mapping[str, Any]]
    came: Callable[[ChunkRow, Result, Sequence[ChunkRow]], Came]
    idle: Callable[[Manifest, Mapping[str, Any]], object | None] = _something


def _part(number: int, exchange: str | None, market: str | None, kind: str | None, symbol: str | None,
          start: int, end: int) -> ChunkRow:  # fmt: skip
    return ChunkRow(
        job="", chunk=number, exchange=exchange or ANY, market_type=market or ANY, kind=kind or ANY,
        symbol=symbol or ANY, ts_from=start, ts_to=end,
    )  # fmt: skip


def _same(arguments: Mapping[str, Any], _parts: Sequence[ChunkRow]) -> Mapping[str, Any]:
    return arguments


def _names(*words: str | None) -> str:
    return " ".join(word for word in words if word is not None)


# --- archives: a part a symbol ---


def _archive(arguments: Mapping[str, Any], now: int) -> tuple[str, list[ChunkRow]]:
    wanted = archive_request.wanted_of(arguments)
    if wanted.recheck:
        of = _names(wanted.exchange or None, wanted.market_type or None, wanted.kind or None, *wanted.symbols[:NAMED])
        whole = _part(0, wanted.exchange, wanted.market_type, wanted.kind, None, 0, now)
        return f"files that were taken in{f' of {of}' if of else ''}, looked at again", [whole]
    first, last = planning.span(wanted.series()[0], wanted.first, wanted.last, date_of(now))
    start, end = parse(first.isoformat()), parse(last.isoformat()) + DAY
    few = wanted.symbols[:NAMED]
    more = f" and {len(wanted.symbols) - len(few):,} more" if len(wanted.symbols) > len(few) else ""
    said = f"archive of {wanted.exchange} {wanted.market_type}: {wanted.kind} of {', '.join(few)}{more}"
    parts = [
        _part(number, wanted.exchange, wanted.market_type, wanted.kind, symbol, start, end)
        for number, symbol in enumerate(wanted.symbols)
    ]
    return f"{said}, {wanted.first} to {wanted.last}", parts


def _symbols(arguments: Mapping[str, Any], parts: Sequence[ChunkRow]) -> Mapping[str, Any]:
    if arguments.get("recheck"):
        return arguments
    return {**arguments, "symbols": [one.symbol for one in parts]}


def symbol_of(name: str, symbols: Sequence[str]) -> str | None:
    """Whose file that is, by its name: of those that it begins with the longest."""
    return max((one for one in symbols if name.startswith(one)), key=len, default=None)


def _archived(part: ChunkRow, result: Result, parts: Sequence[ChunkRow]) -> Came:
    symbols = [one.symbol for one in parts]
    files = [one for one in result["files"] if symbol_of(one["name"], symbols) in (part.symbol, None)]
    return files_came(files, result["missing"].get(part.symbol, []))


# --- repair by hand ---


def _scope(arguments: Mapping[str, Any]) -> Scope:
    try:
        return msgspec.convert(dict(arguments), Scope)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"which gaps are to be repaired: {error}", "see dl gaps --help") from error


def _none_open(manifest: Manifest, arguments: Mapping[str, Any]) -> object | None:
    return None if _scope(arguments).gaps(manifest) else msgspec.to_builtins(Done())


def _repair(arguments: Mapping[str, Any], now: int) -> tuple[str, list[ChunkRow]]:
    scope = _scope(arguments)
    of = _names(scope.exchange, scope.market_type, scope.kind, scope.symbol)
    part = _part(0, scope.exchange, scope.market_type, scope.kind, scope.symbol, scope.start or 0, scope.end or now)
    return f"open gaps{f' of {of}' if of else ''}", [part]


def _repaired(_part: ChunkRow, result: Result, _parts: Sequence[ChunkRow]) -> Came:
    left = result["left"]
    why = f"{len(left):,} gaps are open still: {left[0]['how']}" if left else None
    return Came(result["rows"], result["requests"], why)


# --- reconciling ---


def _reconcile(arguments: Mapping[str, Any], now: int) -> tuple[str, list[ChunkRow]]:
    asked = auditing.question_of(arguments)
    day = None if asked.day is None else parse(asked.day)
    of = _names(asked.exchange, asked.market, asked.symbol, asked.day)
    part = _part(0, asked.exchange, asked.market, None, asked.symbol, day or 0, now if day is None else day + DAY)
    return f"closed days{f' of {of}' if of else ''} against what the venue says of them", [part]


def _none_closed(manifest: Manifest, arguments: Mapping[str, Any]) -> None:
    with manifest.snapshot() as now:
        auditing.refuse_nothing(now, auditing.question_of(arguments))


def _reconciled(_part: ChunkRow, result: Result, _parts: Sequence[ChunkRow]) -> Came:
    audits = result["audits"]
    rows = sum(one["total"] for one in audits)
    bad = [one for one in audits if one["verified"] is None]
    why = None if result["ok"] else f"{len(bad):,} of {len(audits):,} daily files are not verified"
    return Came(rows, len(audits), why)


CALLS: Final[Mapping[str, Call]] = {
    "archive": Call(BACKFILL, _archive, _symbols, _archived),
    "repair": Call(REPAIR, _repair, _same, _repaired, _none_open),
    "reconcile": Call(REPAIR, _reconcile, _same, _reconciled, _none_closed),
}


def asked_of(work: str, arguments: Mapping[str, Any], asked_by: str, now: int) -> Asked:
    """Such a call as a job. Raises WrongQuestion."""
    call = CALLS[work]
    what, parts = call.read(arguments, now)
    request = Request(work=work, what=what, arguments=arguments, priority=call.priority, asked_by=asked_by, once=True)
    return Asked(request=request, chunks=parts, told=None)


class Trying:
    """The attempts at the parts of a job that one call makes. Blocks, as the book does."""

    def __init__(self, writer: LakeWriter, book: JobBook, job: JobRow, now: int) -> None:
        self._book = book
        self._call = CALLS[job.work]
        due = job_plan.left(writer.manifest.job_chunks(job.job), now).due
        self._tries: list[tuple[ChunkRow, AttemptRow]] = [(one, book.begun(one, now)) for one in due]
        self.arguments = self._call.narrowed(job.arguments, due)
        """Of the call: what is left to be asked for."""

    @property
    def any(self) -> bool:
        return bool(self._tries)

    def ended(self, result: Result, now: int) -> None:
        """The call gave that."""
        parts = [part for part, _ in self._tries]
        for part, attempt in self._tries:
            self._end(part, attempt, self._call.came(part, result, parts), now)

    def failed(self, error: Exception, now: int) -> None:
        """The call raised that."""
        for part, attempt in self._tries:
            self._end(part, attempt, Came(0, 0, str(error), isinstance(error, WrongQuestion)), now)

    def _end(self, part: ChunkRow, attempt: AttemptRow, came: Came, now: int) -> None:
        permanent = came.permanent if came.error is not None else None
        told = msgspec.structs.replace(
            attempt, rows=came.rows, requests=came.requests, error=came.error, permanent=permanent
        )
        self._book.ended(part, told, now, again=False)


class CallWork:
    """See `daemon.jobs.Work`; `job` is what the control port runs without jobs."""

    def __init__(self, work: str, writer: LakeWriter, book: JobBook, clock: Clock, job: Job) -> None:
        self._work = work
        self._writer = writer
        self._book = book
        self._clock = clock
        self._job = job

    async def plan(self, arguments: Mapping[str, Any], asked_by: str) -> Asked:
        """Raises WrongQuestion."""
        asked = asked_of(self._work, arguments, asked_by, self._clock.now())
        told = await asyncio.to_thread(CALLS[self._work].idle, self._writer.manifest, arguments)
        return asked if told is None else Asked(request=asked.request, chunks=(), told=told)

    async def run(self, job: JobRow, report: Report, _stop: asyncio.Event) -> object:
        """One call, of what is left. Raises what it raises."""
        trying = await to_the_end(Trying, self._writer, self._book, job, self._clock.now())
        if not trying.any:
            return None
        try:
            result: Any = await self._job(trying.arguments, report)
        except (LakeError, MarketError) as error:
            await to_the_end(trying.failed, error, self._clock.now())
            raise
        await to_the_end(trying.ended, result, self._clock.now())
        return result


def control_job(jobs: JobsService, work: str) -> Job:
    """The control port's job of that name: one that its asker waits for."""

    async def run(arguments: Mapping[str, Any], progress: Report) -> object:
        job, told = await jobs.start(work, arguments, f"dl {work}")
        if job is None:
            return told
        _, result = await jobs.follow(job.job, progress)
        return result

    return run
