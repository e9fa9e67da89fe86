"""Questions to the manifest about jobs, over one read transaction or many (see `lake.manifest_reads`).

A manifest before version 5 has no jobs: it answers with none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Select, select

from lake import schema
from lake.jobs import AttemptRow, ChunkRow, JobRow, JobState, JobStatus, progress_of

SINCE = 5
"""The schema version that began to have jobs."""
T = TypeVar("T")


class Runs(Protocol):
    """Where the group below gets its transaction from."""

    def run(self, read: Callable[[Connection], T]) -> T: ...


class JobReads:
    """Jobs, their chunks, and what came of each attempt."""

    def jobs(
        self: Runs, state: JobState | Iterable[JobState] | None = None, *, work: str | None = None
    ) -> list[JobRow]:
        """Jobs in the order in which they were asked for."""
        t = schema.jobs
        wanted = select(t).order_by(t.c.created_at, t.c.job)
        if state is not None:
            wanted = wanted.where(t.c.state.in_([state] if isinstance(state, str) else list(state)))
        if work is not None:
            wanted = wanted.where(t.c.work == work)
        return self.run(lambda conn: _jobs(conn, wanted))

    def job(self: Runs, job: str) -> JobRow | None:
        t = schema.jobs
        found = self.run(lambda conn: _jobs(conn, select(t).where(t.c.job == job)))
        return found[0] if found else None

    def job_chunks(self: Runs, job: str) -> list[ChunkRow]:
        """The chunks of a job by their numbers."""
        t = schema.job_chunks
        wanted = select(t).where(t.c.job == job).order_by(t.c.chunk)
        return self.run(lambda conn: [ChunkRow(**row) for row in _rows(conn, wanted)])

    def job_attempts(self: Runs, job: str, chunk: int | None = None) -> list[AttemptRow]:
        """The attempts at the chunks of a job, or at one of them, by (chunk, attempt)."""
        t = schema.job_attempts
        wanted = select(t).where(t.c.job == job).order_by(t.c.chunk, t.c.attempt)
        if chunk is not None:
            wanted = wanted.where(t.c.chunk == chunk)
        return self.run(lambda conn: [AttemptRow(**row) for row in _rows(conn, wanted)])

    def job_status(self: Runs, job: str) -> JobStatus | None:
        """A job and how far it is; None where there is no such job."""
        found = self.run(lambda conn: _statuses(conn, [job]))
        return found[0] if found else None

    def job_statuses(self: Runs, state: JobState | Iterable[JobState] | None = None) -> list[JobStatus]:
        """The same of all jobs, or of those in one of some states, in the order in which they were asked for."""

        def read(conn: Connection) -> list[JobStatus]:
            t = schema.jobs
            wanted = select(t.c.job).order_by(t.c.created_at, t.c.job)
            if state is not None:
                wanted = wanted.where(t.c.state.in_([state] if isinstance(state, str) else list(state)))
            return _statuses(conn, [str(row["job"]) for row in _rows(conn, wanted)])

        return self.run(read)


def _statuses(conn: Connection, names: Iterable[str]) -> list[JobStatus]:
    j, c, a = schema.jobs, schema.job_chunks, schema.job_attempts
    found = []
    for name in names:
        jobs = _jobs(conn, select(j).where(j.c.job == name))
        chunks = [ChunkRow(**row) for row in _rows(conn, select(c).where(c.c.job == name).order_by(c.c.chunk))]
        attempts = [AttemptRow(**row) for row in _rows(conn, select(a).where(a.c.job == name))]
        found += [JobStatus(job=one, progress=progress_of(chunks, attempts)) for one in jobs]
    return found


def _jobs(conn: Connection, wanted: Select[Any]) -> list[JobRow]:
    return [JobRow(**{**row, "arguments": json.loads(row["arguments"])}) for row in _rows(conn, wanted)]


def _rows(conn: Connection, wanted: Select[Any]) -> list[dict[str, Any]]:
    if int(conn.execute(select(schema.meta.c.schema_version)).scalar_one()) < SINCE:
        return []
    return [dict(row) for row in conn.execute(wanted).mappings()]
