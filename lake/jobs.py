"""Jobs: what somebody asked to be brought in or put right, cut into chunks, each attempt at a chunk with its result.

Three tables of the manifest say it (`jobs`, `job_chunks`, `job_attempts`): who starts anew reads from them what is left
to do, and anybody how far it has come. What is held is not told here but by coverage: a chunk that was interrupted is
planned again, and nothing of it that is held is asked for twice. Here are the rows, which state follows which, and how
far a job is. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from market.times import Interval, union

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
ChunkState = Literal["queued", "running", "done", "failed"]
Action = Literal["pause", "resume", "cancel"]

OVER: Final = frozenset({"done", "failed", "cancelled"})
"""States of a job that nothing is done about any more; a failed one can be resumed."""
_BEFORE: Final[dict[Action, tuple[frozenset[str], JobState]]] = {
    "pause": (frozenset({"queued", "running"}), "paused"),
    "resume": (frozenset({"paused", "failed"}), "queued"),
    "cancel": (frozenset({"queued", "running", "paused"}), "cancelled"),
}
"""Action -> the states in which it can be taken, the state that follows."""


class JobRow(msgspec.Struct, kw_only=True):
    """One job. `what` is what was asked in words; `work` is who carries it out (backfill, repair, …), with `arguments`
    as they were given; `priority` is its place in a venue's budget (0 first); `asked_by` is whoever asked; `error` says
    why it failed. Times us.
    """

    job: str
    what: str
    work: str
    arguments: dict[str, Any] = {}
    priority: int
    state: JobState = "queued"
    created_at: int
    updated_at: int
    asked_by: str = ""
    error: str | None = None


class ChunkRow(msgspec.Struct, kw_only=True):
    """A part of a job that is asked for by itself: one symbol's rows of one kind on [ts_from, ts_to) of venue time.

    `chunk` counts from 0 in its job; `tries` are the attempts that failed for a passing reason since it was last asked
    for by hand, and `due_at` (us) is when a queued one may be tried again (None: now), or a failed one of the daemon's
    own repair is asked for again.
    """

    job: str
    chunk: int
    exchange: str
    market_type: str
    kind: str
    symbol: str
    ts_from: int
    ts_to: int
    state: ChunkState = "queued"
    tries: int = 0
    due_at: int | None = None

    @property
    def length(self) -> int:
        """Of venue time, us."""
        return self.ts_to - self.ts_from


class AttemptRow(msgspec.Struct, kw_only=True):
    """One attempt at a chunk, from 1. Without `ended_at` it is under way, or its process died. `error` is None where
    it brought in all; `permanent` is whether asking the same again changes nothing.
    """

    job: str
    chunk: int
    attempt: int
    started_at: int
    ended_at: int | None = None
    rows: int = 0
    requests: int = 0
    error: str | None = None
    permanent: bool | None = None


class JobChange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is written in one go: rows as they are now (the last word on a key counts), and jobs to be forgotten with
    all that is theirs.
    """

    jobs: tuple[JobRow, ...] = ()
    chunks: tuple[ChunkRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    forget: tuple[str, ...] = ()


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is. `done_us` of `total_us` of venue time; `eta_seconds` is None where nothing tells.

    The rows alone tell it: the clock of who asks is another than a simulated lake's, and says nothing of a job that
    nobody works on any more.
    """

    chunks: int
    chunks_done: int
    chunks_failed: int
    done_us: int
    total_us: int
    rows: int
    requests: int
    attempts: int
    busy_seconds: float
    """Time in which at least one attempt was under way, of those that have ended; one that a kill cut off has with its
    last sign of life.
    """
    eta_seconds: float | None = None


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job and how far it is."""

    job: JobRow
    progress: JobProgress


def after(state: JobState, action: Action) -> JobState | None:
    """The state that follows; None where the action makes no sense in this one."""
    before, then = _BEFORE[action]
    return then if state in before else None


def possible(action: Action) -> str:
    """The states in which an action makes sense, in words."""
    return " or ".join(sorted(_BEFORE[action][0]))


def progress_of(chunks: Sequence[ChunkRow], attempts: Iterable[AttemptRow]) -> JobProgress:
    """How far the rows say that a job is: whole chunks only, since what of the others is held is in coverage."""
    tried = list(attempts)
    done = sum(one.length for one in chunks if one.state == "done")
    total = sum(one.length for one in chunks)
    ended = sum(one.length for one in chunks if one.state in ("done", "failed"))
    spans = [Interval(one.started_at, max(one.started_at, one.ended_at)) for one in tried if one.ended_at is not None]
    busy = sum(one.length for one in union(one for one in spans if one.length)) / 1_000_000
    return JobProgress(
        chunks=len(chunks), chunks_done=sum(one.state == "done" for one in chunks),
        chunks_failed=sum(one.state == "failed" for one in chunks), done_us=done, total_us=total,
        rows=sum(one.rows for one in tried), requests=sum(one.requests for one in tried), attempts=len(tried),
        busy_seconds=round(busy, 3), eta_seconds=eta(ended, total, busy),
    )  # fmt: skip


def eta(done: int, total: int, seconds: float) -> float | None:
    """Seconds that the rest takes at the pace so far; None before anything is done."""
    if total <= done:
        return 0.0
    return round((total - done) * seconds / done, 1) if done > 0 and seconds > 0 else None
