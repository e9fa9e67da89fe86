"""The nightly reproduction's work in its own process: one market and day under way, a slice at a time."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from collectors.config import CollectorsConfig
from compactor.reproduce import Advanced, Lost, TooLarge
from compactor.reproduce_plan import ReproduceJob
from daemon.rederiving import Rederiver, Wanted
from runtime.clock import SystemClock

LOWEST = 14
"""Added to a worker's own niceness: nothing that is collected or transformed waits for this."""


class _Under:
    """What this process is at."""

    job: ReproduceJob | None = None
    work: Rederiver | None = None
    done: int = 0


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
    clock = SystemClock()
    if fresh:
        _begin(config, root, job, folder, now)
    work = _Under.work
    if work is None or job != _Under.job:
        raise Lost(f"the work on {job.text} was in a process that is gone")
    end = clock.monotonic() + seconds
    over = False
    while not over and clock.monotonic() < end:
        over = not work.step()
        _Under.done += not over
        if not over and (used := resident()) > memory:
            hint = "raise compactor.reproduce.max_mb where the machine has it"
            raise TooLarge(f"{job.text} needs {used >> 20} MB of memory, {memory >> 20} MB are allowed", hint)
    if not over:
        return Advanced(_Under.done, work.total)
    outcome = work.outcome
    work.close()
    _Under.job = _Under.work = None
    return Advanced(_Under.done, work.total, outcome.days, outcome.findings, over=True)


def resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        return 0


def _begin(config: CollectorsConfig, root: str, job: ReproduceJob, folder: str, now: int) -> None:
    if _Under.work is not None:
        _Under.work.close()
    elif hasattr(os, "nice") and multiprocessing.parent_process() is not None:
        os.nice(LOWEST)
    wanted = Wanted(job.exchange, job.market_type, (job.date,))
    _Under.work = Rederiver(Path(root), wanted, config, now, Path(folder))
    _Under.job, _Under.done = job, 0
