"""Jobs of the daemon: queued ones begin when it is their turn; all are moved and followed through the control port.

    job_start   {"work": "backfill", "arguments": {…}, "asked_by": "…"}  -> {"job": row or null, "planned": …}
    job_pause   {"job": "…"}     job_resume {"job": "…"}     job_cancel {"job": "…"}     -> the job's row
    job_follow  {"job": "…"}     progress, line by line, until the job is over           -> {"job": row, "result": …}

`job_start` is answered at once: with no job where nothing is to be asked for, with the one that was asked for in the
same words where that is not over. What a job is and how far it came anybody reads from the manifest (`lake.jobs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from lake import job_plan
from lake.errors import LakeError, WrongQuestion
from lake.job_book import JobBook, Request
from lake.jobs import OVER, Action, ChunkRow, JobRow, JobState
from lake.writer import LakeWriter
from market.errors import MarketError
from runtime import working
from runtime.clock import Clock, pause
from runtime.service import exit_code_of
from runtime.threads import to_the_end

Report = Callable[[int, int, str], None]
LOOK_SECONDS = 60.0
"""How often it is looked whether a job can begin that nobody said anything of (the disk had no room)."""
COLLECTING = ("backfill", "repair")
"""Work that a daemon does beside what it collects, and only there."""
TOLD = 8
"""Jobs that are over whose results are kept for who asks what came of them."""
T = TypeVar("T")


class Asked(msgspec.Struct, kw_only=True):
    """A request as it was planned: its chunks (none: nothing is to be done), and what its asker is told of the plan."""

    request: Request
    chunks: Sequence[ChunkRow]
    told: object


class Work(Protocol):
    """One sort of work that jobs are made of."""

    async def plan(self, arguments: Mapping[str, Any], asked_by: str) -> Asked:
        """Raises WrongQuestion."""
        ...

    async def run(self, job: JobRow, report: Report, stop: asyncio.Event) -> object:
        """Carry it out, chunk by chunk, until `stop`. What it returns is told to who follows."""
        ...


class JobMoved(LakeError):
    """The job that was followed is not done, and not worked on any more."""


async def carried(
    writer: LakeWriter, book: JobBook, clock: Clock, job: JobRow, work: Callable[[], Awaitable[T]],
    then: Callable[[], JobState],
) -> T | None:  # fmt: skip
    """Carry out a job and write down how it ended: `then` where it was interrupted. None where it is not to be worked
    on any more. Raises StorageFailed, Fenced: the next start finds it running.
    """
    try:
        row = await to_the_end(book.put, job.job, "running", clock.now())
        if row.state != "running":
            return None
        working.job_begun(job=job.job, what=job.what)
        result = await work()
        state, why = await asyncio.to_thread(outcome, writer, job.job)
    except asyncio.CancelledError:
        await to_the_end(book.put, job.job, then(), clock.now())
        raise
    except Exception as error:  # whatever it is, the same would come of it at the next start
        if exit_code_of(error) is None:
            known = isinstance(error, LakeError | MarketError)
            said = str(error) if known else f"internal error: {type(error).__name__}: {error}"
            await to_the_end(book.put, job.job, "failed", clock.now(), said)
            working.job_ended(job=job.job, state="failed", why=said)
        raise
    row = await to_the_end(book.put, job.job, state or then(), clock.now(), why)
    working.job_ended(job=job.job, state=row.state, why=why)
    return result


def outcome(writer: LakeWriter, name: str) -> tuple[JobState | None, str | None]:
    """How a job ended by what its chunks say, None where something is left of it; and why not all came."""
    chunks = writer.manifest.job_chunks(name)
    failed = {one.chunk: one for one in chunks if one.state == "failed"}
    if not failed:
        return job_plan.outcome(chunks), None
    why = [one for one in writer.manifest.job_attempts(name) if one.chunk in failed and one.error]
    of = f"{len(failed):,} of {len(chunks):,} parts failed"
    if not why:
        return job_plan.outcome(chunks), of
    one = failed[why[-1].chunk]
    return job_plan.outcome(chunks), f"{of}: {one.kind} {one.symbol}: {why[-1].error}"


class _Live:
    """A job that is worked on here."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.stop = asyncio.Event()
        self.then: JobState = "queued"
        self.over = asyncio.Event()
        self.done = False
        """Whether it was carried out to its end."""
        self.result: object = None
        self.error: Exception | None = None
        self.followers: list[Report] = []
        self.last: tuple[int, int, str] | None = None

    def report(self, done: int, total: int, what: str) -> None:
        self.last = (done, total, what)
        for follower in self.followers:
            follower(done, total, what)


class JobsService:
    """Runs what is queued (runtime.service.Service). `works` by their names; nothing begins while it `waits`."""

    name = "jobs"
    phase = 0

    def __init__(
        self, writer: LakeWriter, book: JobBook, clock: Clock, works: Mapping[str, Work], waits: Callable[[], bool]
    ) -> None:
        self._writer = writer
        self._book = book
        self._clock = clock
        self._works = dict(works)
        self._waits = waits
        self._live: dict[str, _Live] = {}
        self._ended: dict[str, _Live] = {}
        self._waiting: dict[str, list[asyncio.Event]] = {}
        """Who follows a job that has not begun."""
        self._moves = 0
        """How often who waits for a job was told to look again."""
        self._look = asyncio.Event()
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Begin what can begin until told to stop; what is under way then goes on at the next start."""
        await asyncio.to_thread(self._book.settle, self._clock.now())
        self._stopping = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._heed(stop))
                while not stop.is_set():
                    self._look.clear()
                    await self._begin(group)
                    if not stop.is_set():
                        await pause(self._clock, self._look, LOOK_SECONDS)
                self._stopping = True
                for live in self._live.values():
                    live.stop.set()
                    if live.task is not None:
                        live.task.cancel()
        except BaseExceptionGroup as failed:
            raise _first(failed) from failed
        finally:
            self._stopping = True
            self._tell_all()

    def status(self) -> Mapping[str, object]:
        """The jobs that are worked on, and how far each is, for /status."""
        names = ("done", "total", "what")
        return {
            "running": {
                job: dict(zip(names, live.last, strict=True)) if live.last else {} for job, live in self._live.items()
            }
        }

    def control(self) -> dict[str, Callable[[Mapping[str, Any], Report], Awaitable[object]]]:
        """What the control port runs."""
        return {
            "job_start": self._start, "job_follow": self._follow, "job_pause": self._moving("pause"),
            "job_resume": self._moving("resume"), "job_cancel": self._moving("cancel"),
        }  # fmt: skip

    async def start(self, work: str, arguments: Mapping[str, Any], asked_by: str) -> tuple[JobRow | None, object]:
        """The job that carries it out, None where there is nothing to do; and what its asker is told of the plan."""
        if work in COLLECTING and work not in self._works:
            raise LakeError("this daemon does not collect", "stop it, or start it without --only")
        if work not in self._works:
            raise WrongQuestion(f"no job does {work!r}", f"one of {', '.join(sorted(self._works))}")
        asked = await self._works[work].plan(arguments, asked_by)
        held = await asyncio.to_thread(self._book.open, asked.request)
        if held is None and not asked.chunks:
            return None, asked.told
        if held is not None:
            self._ended.pop(held.job, None)  # that was its end before it was asked for again
        job = await asyncio.to_thread(self._book.ask, asked.request, asked.chunks, self._clock.now())
        self._look.set()
        return job, asked.told

    def also(self, name: str, work: Work) -> None:
        """One more sort of work, which has to know of this queue. Before it runs."""
        self._works[name] = work

    def queued(self, name: str) -> None:
        """A job was written down, or added to, by somebody else here: it begins in its turn."""
        self._ended.pop(name, None)
        self._look.set()

    async def follow(self, name: str, progress: Report) -> tuple[JobRow, object]:
        """The job once it is over and what it came to; progress meanwhile. Raises JobMoved, what the job failed of."""
        while True:
            moves = self._moves
            job = await asyncio.to_thread(self._book.one, name)
            live = self._live.get(name) or self._ended.get(name)
            if live is not None:
                await _listen(live, progress)
                if live.error is not None:
                    raise live.error
                if live.done:
                    return await self._over(name), live.result
                continue  # it was moved, here or before it had begun
            if moves != self._moves:
                continue  # that is how it was
            if job.state not in ("queued", "running") or self._stopping:
                return await self._over(name), None
            if job.work not in self._works:
                raise LakeError(f"job {name} waits for a daemon that does {job.work}", "start one that collects")
            begun = asyncio.Event()
            self._waiting.setdefault(name, []).append(begun)
            progress(0, 0, "waits until the disk has room" if self._waits() else "waits for its turn")
            await begun.wait()

    async def _over(self, name: str) -> JobRow:
        job = await asyncio.to_thread(self._book.one, name)
        if job.state in ("queued", "running"):
            raise JobMoved(f"the daemon stops; job {name} goes on at its next start", f"dl jobs show {name}")
        if job.state in ("paused", "cancelled"):
            raise JobMoved(f"job {name} is {job.state}", "" if job.state in OVER else f"dl jobs resume {name}")
        return job

    async def move(self, name: str, action: Action) -> JobRow:
        """Pause, resume or cancel it. Raises WrongQuestion."""
        live = self._live.get(name)
        if live is not None and live.task is not None and action != "resume":
            live.then = "paused" if action == "pause" else "cancelled"
            live.stop.set()
            live.task.cancel()
            await live.over.wait()
            row = await asyncio.to_thread(self._book.one, name)
            if row.state == live.then:
                return row
        row = await asyncio.to_thread(self._book.move, name, action, self._clock.now())
        self._ended.pop(name, None)
        self._look.set()
        self._tell(name)
        return row

    # --- carrying out ---

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._look.set()

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        if self._waits():
            return
        jobs = await asyncio.to_thread(self._writer.manifest.jobs, ("queued", "running"))
        for job in job_plan.choose([one for one in jobs if one.work in self._works], self._live):
            live = self._live[job.job] = _Live()
            live.task = group.create_task(self._carry(job, live), name=f"job {job.job}")
            self._tell(job.job)

    async def _carry(self, job: JobRow, live: _Live) -> None:
        begun = False

        def work() -> Awaitable[object]:
            nonlocal begun
            begun = True
            self._ended.pop(job.job, None)
            return self._works[job.work].run(job, live.report, live.stop)

        try:
            live.result = await carried(self._writer, self._book, self._clock, job, work, lambda: live.then)
            live.done = begun
        except Exception as error:  # the others go on; who follows it is told
            if exit_code_of(error) is not None:
                raise
            live.error = error
        finally:
            del self._live[job.job]
            if live.done or live.error is not None:
                self._ended[job.job] = live
            for name in list(self._ended)[:-TOLD]:
                del self._ended[name]
            live.over.set()
            self._tell(job.job)
            self._look.set()

    def _tell(self, name: str) -> None:
        """Who waits for the job looks again."""
        self._moves += 1
        for waiting in self._waiting.pop(name, []):
            waiting.set()

    def _tell_all(self) -> None:
        for name in list(self._waiting):
            self._tell(name)

    # --- the control port ---

    async def _start(self, arguments: Mapping[str, Any], _progress: Report) -> object:
        asked = _converted(arguments, _Start)
        job, told = await self.start(asked.work, asked.arguments, asked.asked_by)
        return {"job": msgspec.to_builtins(job), "planned": msgspec.to_builtins(told)}

    async def _follow(self, arguments: Mapping[str, Any], progress: Report) -> object:
        job, result = await self.follow(_converted(arguments, _One).job, progress)
        return {"job": msgspec.to_builtins(job), "result": msgspec.to_builtins(result)}

    def _moving(self, action: Action) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
        async def moving(arguments: Mapping[str, Any], _progress: Report) -> object:
            return msgspec.to_builtins(await self.move(_converted(arguments, _One).job, action))

        return moving


class _One(msgspec.Struct, forbid_unknown_fields=True):
    job: str


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    work: str
    arguments: dict[str, Any]
    asked_by: str = ""


def _converted(arguments: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(dict(arguments), kind)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"this names no job: {error}", "docs/jobs.md says what is asked") from error


async def _listen(live: _Live, progress: Report) -> None:
    """Tell of a job's progress until it is over, or until nobody listens."""
    live.followers.append(progress)
    try:
        if live.last is not None:
            progress(*live.last)
        await live.over.wait()
    finally:
        live.followers.remove(progress)


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = failed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
