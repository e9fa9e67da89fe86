"""Decisions on jobs: which goes on next, what of it is to be asked for now, what follows from an attempt. Pure.

A reason is permanent where asking the same again changes nothing (an unknown symbol, a refusal, a kind that the venue
does not offer), and passing else (429, 5xx, timeouts, a body that ends early): then the chunk is tried again, ATTEMPTS
times in all, after pauses that grow. An attempt that was interrupted (a stop, a kill) is neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from lake.jobs import OVER, AttemptRow, ChunkRow, JobRow, JobState
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, subtract

RESYNC, POLL, REPAIR, BACKFILL = range(4)
"""Priorities, in a venue's budget and among jobs: books that are out of sync, live polls, repair of holes, history."""
ATTEMPTS: Final = 4
"""Attempts at a chunk that may fail for a passing reason before it is given up."""
FIRST_PAUSE: Final = MINUTE
GROWTH: Final = 4
LONGEST_PAUSE: Final = HOUR
AT_ONCE: Final = 4
"""Jobs of one work under way together."""
KEPT: Final = 30 * DAY
"""How long a job that is over is remembered."""
INTERRUPTED: Final = "interrupted"
MOVING: Final = frozenset({"start", "end"})
"""Arguments that differ between two askings of the same, where `span` says the period in words."""


class Left(msgspec.Struct, frozen=True):
    """What of a job is to be asked for now, and when (us) there is more; None: nothing is left but this."""

    due: tuple[ChunkRow, ...] = ()
    more_at: int | None = None


def pause_after(tries: int) -> int:
    """How long (us) to wait after so many attempts in a row that failed for a passing reason."""
    return min(FIRST_PAUSE * GROWTH ** (min(tries, 10) - 1), LONGEST_PAUSE) if tries > 0 else 0


def left(chunks: Iterable[ChunkRow], now: int) -> Left:
    """What is queued and due; oldest first, as they were cut."""
    queued = sorted((one for one in chunks if one.state == "queued"), key=lambda one: one.chunk)
    later = [one.due_at for one in queued if one.due_at is not None and one.due_at > now]
    return Left(tuple(one for one in queued if (one.due_at or 0) <= now), min(later, default=None))


def after_attempt(chunk: ChunkRow, attempt: AttemptRow, now: int, attempts: int = ATTEMPTS) -> ChunkRow:
    """The chunk as an attempt leaves it; so many `attempts` may fail for a passing reason."""
    new = msgspec.structs.replace(chunk, due_at=None)
    if attempt.error is None:
        new.state = "done"
    elif attempt.permanent is None:
        new.state = "queued"
    else:
        new.tries += not attempt.permanent
        again = not attempt.permanent and new.tries < attempts
        new.state = "queued" if again else "failed"
        new.due_at = now + pause_after(new.tries) if again else None
    return new


def outcome(chunks: Iterable[ChunkRow]) -> JobState | None:
    """How a job ended; None where something of it is left to do."""
    states = {one.state for one in chunks}
    if states & {"queued", "running"}:
        return None
    return "failed" if "failed" in states else "done"


def choose(jobs: Sequence[JobRow], running: Iterable[str]) -> list[JobRow]:
    """The jobs that begin now, beside those that are `running` already: those that are queued, by priority and then in
    the order in which they were asked for; AT_ONCE of a work at most (one may wait for another's to end), and one at a
    time of the same work at the same market, since what one of them brings in the other need not ask for.
    """
    named = set(running)
    taken = {lane(one) for one in jobs if one.job in named}
    at_work = Counter(one.work for one in jobs if one.job in named)
    found: list[JobRow] = []
    for one in sorted(jobs, key=lambda one: (one.priority, one.created_at, one.job)):
        free = lane(one) not in taken and at_work[one.work] < AT_ONCE
        if one.state == "queued" and one.job not in named and free:
            taken.add(lane(one))
            at_work[one.work] += 1
            found.append(one)
    return found


def lane(job: JobRow) -> tuple[str, Any, Any]:
    """What two jobs have in common that do not run side by side."""
    return job.work, job.arguments.get("exchange"), job.arguments.get("market_type")


def same(jobs: Iterable[JobRow], work: str, arguments: Mapping[str, Any]) -> JobRow | None:
    """The job that was asked for in these words and is not over: it is taken up in place of a new one."""
    open_ = [one for one in jobs if one.work == work and one.state not in OVER]
    return next((one for one in open_ if _asked(one.arguments) == _asked(arguments)), None)


def _asked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    moving = MOVING if arguments.get("span") else frozenset()
    return {
        name: sorted(value) if isinstance(value, list | tuple) else value
        for name, value in arguments.items()
        if name not in moving
    }


def beyond(wanted: Iterable[ChunkRow], chunks: Iterable[ChunkRow], *, once: bool = False) -> list[ChunkRow]:
    """What of `wanted` no open chunk of the job has (with `once`: none that is done either), numbered behind them."""
    taken = ("queued", "running", "done") if once else ("queued", "running")
    held: dict[tuple[str, str, str, str], list[Interval]] = {}
    number = 0
    for one in chunks:
        number = max(number, one.chunk + 1)
        if one.state in taken:
            held.setdefault(_stream(one), []).append(Interval(one.ts_from, one.ts_to))
    found = []
    for one in wanted:
        for part in subtract([Interval(one.ts_from, one.ts_to)], held.get(_stream(one), [])):
            found.append(msgspec.structs.replace(one, chunk=number, ts_from=part.start, ts_to=part.end))
            number += 1
    return found


def _stream(one: ChunkRow) -> tuple[str, str, str, str]:
    return one.exchange, one.market_type, one.kind, one.symbol


def interrupted(
    chunks: Iterable[ChunkRow], attempts: Iterable[AttemptRow], alive: int
) -> tuple[list[ChunkRow], list[AttemptRow]]:
    """What was left under way: its attempts have an end, its chunks are queued again. `alive` is when whoever worked on
    it showed life last (us): what comes after that is no time of work.
    """
    ended = [
        msgspec.structs.replace(one, ended_at=max(alive, one.started_at), error=INTERRUPTED, permanent=None)
        for one in attempts
        if one.ended_at is None
    ]
    return [msgspec.structs.replace(one, state="queued") for one in chunks if one.state == "running"], ended


def forgettable(jobs: Iterable[JobRow], now: int) -> tuple[str, ...]:
    """Jobs that have been over for so long that nobody asks for them."""
    return tuple(one.job for one in jobs if one.state in OVER and one.updated_at < now - KEPT)


def name_of(work: str, now: int, taken: Iterable[str]) -> str:
    """A name that no job of the lake has: `backfill-20261120-134500`."""
    stamp = datetime.fromtimestamp(now // SECOND, UTC).strftime("%Y%m%d-%H%M%S")
    known, first = set(taken), f"{work}-{stamp}"
    return next(name for n in range(1, len(known) + 2) if (name := first if n == 1 else f"{first}-{n}") not in known)
