"""The nightly reproduction's work in its own process: one market and day under way, a slice at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from collectors.config import CollectorsConfig
from compactor.reproduce import Advanced, Lost, TooLarge
from compactor.reproduce_plan import ReproduceJob
from daemon.rederiving import Rederiver, Wanted
from runtime.clock import SystemClock

LOWEST = 14
"""Added to a worker's own niceness: nothing that is collected or transformed waits for this."""
W = TypeVar("W", bound=Rederiver)


class Job(Protocol):
    """One market and day."""

    @property
    def text(self) -> str: ...


class Under(Generic[W]):
    """What a process is at: a job, its work, and the steps that were done."""

    def __init__(self) -> None:
        self.done = 0
        self._job: Job | None = None
        self._work: W | None = None

    def begin(self, job: Job, make: Callable[[], W]) -> None:
        """Let go of what was under way and take on `job`."""
        if self._work is not None:
            self._work.close()
            self._work = None
        elif hasattr(os, "nice") and multiprocessing.parent_process() is not None:
            os.nice(LOWEST)
        self._work = make()
        self._job, self.done = job, 0

    def advance(self, job: Job, seconds: float, memory: int) -> tuple[W, bool]:
        """Go on for about `seconds`, in at most `memory` bytes: the work, and whether it is over. Raises Lost, TooLarge
        and what the work raises.
        """
        clock, work = SystemClock(), self._work
        if work is None or job != self._job:
            raise Lost(f"the work on {job.text} was in a process that is gone")
        end = clock.monotonic() + seconds
        over = False
        while not over and clock.monotonic() < end:
            over = not work.step()
            self.done += not over
            if not over and (used := resident()) > memory:
                hint = "raise compactor.reproduce.max_mb where the machine has it"
                raise TooLarge(f"{job.text} needs {used >> 20} MB of memory, {memory >> 20} MB are allowed", hint)
        return work, over

    def end(self) -> None:
        """Its work is over, and leaves nothing behind."""
        if self._work is not None:
            self._work.close()
        self._job = self._work = None


_under: Under[Rederiver] = Under()


def advance(
    config: CollectorsConfig,
    root: str,
    job: ReproduceJob,
    folder: str,
    now: int,
    seconds: float,
    memory: int,
    *,
    fresh: bool,
) -> Advanced:
    """Go on with `job` for about `seconds`, in at most `memory` bytes; `fresh` begins it. Raises Lost, TooLarge,
    CorruptFile, StorageFailed.
    """
    if fresh:
        wanted = Wanted(job.exchange, job.market_type, (job.date,))
        _under.begin(job, lambda: Rederiver(Path(root), wanted, config, now, Path(folder)))
    work, over = _under.advance(job, seconds, memory)
    if not over:
        return Advanced(_under.done, work.total)
    outcome = work.outcome
    _under.end()
    return Advanced(_under.done, work.total, outcome.days, outcome.findings, over=True)


def resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        return 0
