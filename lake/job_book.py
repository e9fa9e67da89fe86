"""The book of jobs: everything that is written about them, by who holds the lake.

Calls block: make them in a thread where a loop runs. They raise StorageFailed and Fenced, and what is said below.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lake import job_plan, job_standing
from lake.errors import WrongQuestion
from lake.jobs import OVER, Action, AttemptRow, ChunkRow, JobChange, JobRow, JobState, after, possible
from lake.writer import LakeWriter

_BY_HAND = ("paused", "cancelled")
_DONE: Mapping[Action, str] = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}
BATCH = 2000
"""Chunks of one entry in the ledger."""


class Request(msgspec.Struct, kw_only=True):
    """What is asked for: see `lake.jobs.JobRow`. With `once` a part that its job has done is not asked for again; else
    it is, since what is held was left out of the parts already.
    """

    work: str
    what: str
    arguments: Mapping[str, Any]
    priority: int
    asked_by: str = ""
    once: bool = False


class JobBook:
    """Of one lake. Calls follow each other."""

    def __init__(self, writer: LakeWriter) -> None:
        self._writer = writer
        self._guard = threading.RLock()

    def settle(self, now: int) -> list[JobRow]:
        """What a process that died left running is queued again; those jobs. Before anything runs, and once recovery
        has given the sessions of that process their ends.
        """
        with self._guard:
            found = []
            for job in self._writer.manifest.jobs("running"):
                self._settle_one(job.job, now, self._alive(job.job, now))
                found.append(self._put(job, "queued", now))
            return found

    def _alive(self, name: str, now: int) -> int:
        """The last that rows tell of a process that died while it worked on a job: an attempt's beginning or end, or
        what a session received last that was cut off.
        """
        held = self._writer.manifest
        attempts = held.job_attempts(name)
        seen = [at for one in attempts for at in (one.started_at, one.ended_at) if at is not None]
        if any(one.ended_at is None for one in attempts):
            cut = (row for row in held.sessions() if row.close_cause == "crash")
            seen += [row.closed_at for row in cut if row.closed_at is not None]
        return min(now, max(seen, default=now))

    def open(self, request: Request) -> JobRow | None:
        """The job that was asked for in these words and is not over."""
        return job_plan.same(self._writer.manifest.jobs(), request.work, request.arguments)

    def ask(self, request: Request, chunks: Sequence[ChunkRow], now: int) -> JobRow:
        """A new job of these chunks (their `job` and `chunk` are given here), queued; or the one that was asked for in
        the same words and is not over, with what of the chunks it lacks.
        """
        with self._guard:
            held = self._writer.manifest.jobs()
            self._forget(held, now)
            found = job_plan.same(held, request.work, request.arguments)
            known: list[ChunkRow] = []
            if found is None:
                job = self._new(request, held, now)
            elif found.state == "running":
                return found  # its chunks are being asked for: who asks again is told how far it is
            else:
                known = self._writer.manifest.job_chunks(found.job)
                job = msgspec.structs.replace(
                    found, state="queued", updated_at=now, arguments=dict(request.arguments), error=None
                )
            new = [
                msgspec.structs.replace(one, job=job.job) for one in job_plan.beyond(chunks, known, once=request.once)
            ]
            self._write_job(job, new, now)
            return job

    def round(self, request: Request, chunks: Sequence[ChunkRow], now: int) -> JobRow | None:
        """What the daemon asks for by itself, added to the standing job of its market, or the first of a new one; None
        where that has to wait (`lake.job_standing`).
        """
        with self._guard:
            held = self._writer.manifest.jobs()
            self._forget(held, now)
            mine = job_standing.of(held, request.work, request.arguments)
            if job_standing.held_up(mine, now) is not None:
                return None
            known = self._writer.manifest.job_chunks(mine[0].job) if mine else []
            if mine and job_standing.takes_more(mine[0], len(known), now):
                job = msgspec.structs.replace(mine[0], state="queued", updated_at=now, error=None)
            else:
                known, job = [], self._new(request, held, now)
                mine = [job, *mine]
            new = [msgspec.structs.replace(one, job=job.job) for one in job_standing.added(chunks, known)]
            self._write_job(job, new, now, job_standing.surplus(mine))
            return job

    def move(self, name: str, action: Action, now: int) -> JobRow:
        """Take a job on by hand. Raises WrongQuestion where there is no such job, or that makes no sense now."""
        with self._guard:
            job = self.one(name)
            state = after(job.state, action) or job_standing.after(job, action)
            if state is None:
                only = f"only one that is {possible(action)} can be {_DONE[action]}"
                raise WrongQuestion(f"job {name} is {job.state}", only)
            self._settle_one(name, now)
            if action == "resume":
                chunks = self._writer.manifest.job_chunks(name)
                again = self._again(name, chunks)
                if not again and job.state == "failed":
                    raise WrongQuestion(
                        f"of job {name} nothing can be tried again: what failed was refused for good",
                        f"dl jobs show {name} says what and why",
                    )
                self._write(JobChange(chunks=tuple(again)), now)
            return self._put(job, state, now)

    def one(self, name: str) -> JobRow:
        """Raises WrongQuestion where there is no such job."""
        job = self._writer.manifest.job(name)
        if job is None:
            raise WrongQuestion(f"there is no job {name!r}", "dl jobs lists them")
        return job

    def put(self, name: str, state: JobState, now: int, error: str | None = None) -> JobRow:
        """The job as it goes on or ended; one that was paused or cancelled by hand meanwhile stays so, and one that is
        over does not run.
        """
        with self._guard:
            self._settle_one(name, now)
            job = self.one(name)
            if job.state in _BY_HAND or (state == "running" and job.state in OVER):
                return job
            return self._put(job, state, now, error)

    def begun(self, chunk: ChunkRow, now: int) -> AttemptRow:
        """An attempt at a chunk begins."""
        with self._guard:
            before = self._writer.manifest.job_attempts(chunk.job, chunk.chunk)
            last = max((one.attempt for one in before), default=0)
            attempt = AttemptRow(job=chunk.job, chunk=chunk.chunk, attempt=last + 1, started_at=now)
            running = msgspec.structs.replace(chunk, state="running", due_at=None)
            self._write(JobChange(chunks=(running,), attempts=(attempt,)), now)
            return attempt

    def ended(self, chunk: ChunkRow, attempt: AttemptRow, now: int, *, again: bool = True) -> ChunkRow:
        """It ended as `attempt` says; the chunk as it is then. `again`: a passing reason is tried again by itself."""
        with self._guard:
            then = job_plan.after_attempt(chunk, attempt, now, job_plan.ATTEMPTS if again else 1)
            self._write(JobChange(chunks=(then,), attempts=(msgspec.structs.replace(attempt, ended_at=now),)), now)
            return then

    def write_chunks(self, chunks: Sequence[ChunkRow], now: int) -> None:
        """Chunks as they are now, of which no attempt tells."""
        if chunks:
            self._write(JobChange(chunks=tuple(chunks)), now)

    def _new(self, request: Request, held: Sequence[JobRow], now: int) -> JobRow:
        return JobRow(
            job=job_plan.name_of(request.work, now, (one.job for one in held)), what=request.what, work=request.work,
            arguments=dict(request.arguments), priority=request.priority, created_at=now, updated_at=now,
            asked_by=request.asked_by,
        )  # fmt: skip

    def _write_job(self, job: JobRow, chunks: Sequence[ChunkRow], now: int, forget: Sequence[str] = ()) -> None:
        while len(chunks) > BATCH:  # the job last: without it they are nobody's
            self._write(JobChange(chunks=tuple(chunks[:BATCH])), now)
            chunks = chunks[BATCH:]
        self._write(JobChange(jobs=(job,), chunks=tuple(chunks), forget=tuple(forget)), now)

    def _again(self, name: str, chunks: Sequence[ChunkRow]) -> list[ChunkRow]:
        """The chunks that a person asks for again: those that wait, and those that failed for a passing reason."""
        refused = {one.chunk for one in self._writer.manifest.job_attempts(name) if one.permanent}
        return [
            msgspec.structs.replace(one, state="queued", tries=0, due_at=None)
            for one in chunks
            if one.state == "queued" or (one.state == "failed" and one.chunk not in refused)
        ]

    def _settle_one(self, name: str, now: int, alive: int | None = None) -> None:
        held = self._writer.manifest
        seen = now if alive is None else alive
        chunks, attempts = job_plan.interrupted(held.job_chunks(name), held.job_attempts(name), seen)
        if chunks or attempts:
            self._write(JobChange(chunks=tuple(chunks), attempts=tuple(attempts)), now)

    def _forget(self, jobs: Sequence[JobRow], now: int) -> None:
        gone = job_plan.forgettable(jobs, now)
        if gone:
            self._write(JobChange(forget=gone), now)

    def _put(self, job: JobRow, state: JobState, now: int, error: str | None = None) -> JobRow:
        new = msgspec.structs.replace(job, state=state, updated_at=now, error=error if state in OVER else None)
        self._write(JobChange(jobs=(new,)), now)
        return new

    def _write(self, change: JobChange, now: int) -> None:
        self._writer.record(jobs=[change], now=now)
