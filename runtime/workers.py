"""Workers: CPU work in spawned processes that survives a dead worker; and an inline executor of the same shape.

Workers are spawned, never forked: polars hangs in a forked child. The pool is recycled by replacing it whole while it
is idle, since `max_tasks_per_child` deadlocks on 3.11. Both executors return a Job: a Future that can also be awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, ParamSpec, TypeVar

from runtime import telemetry

P = ParamSpec("P")
T = TypeVar("T")


class WorkerDied(Exception):
    """The worker process ended in the middle of this job, twice: the job is what kills it (memory, a native crash)."""

    def __init__(self, job: str) -> None:
        super().__init__(f"the worker process died twice while it ran {job}")
        self.job = job


class Job(Future[T], Generic[T]):
    """A concurrent Future that a coroutine can await."""

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()


@dataclasses.dataclass
class _Work(Generic[T]):
    """A job and how to send it to a pool."""

    job: Job[T]
    send: Callable[[ProcessPoolExecutor], Future[T]]
    name: str
    attempt: int = 1


class InlineExecutor(Executor):
    """Runs each job in the calling thread, at once: for tests and for one-shot commands on small lakes."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        job: Job[T] = Job()
        try:
            job.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever the job raised belongs to the job's future
            job.set_exception(error)
        return job


class Workers(Executor):
    """`n` spawned worker processes. A job whose pool breaks is run once more, alone; then it fails as WorkerDied.

    All jobs of a pool break when one of its workers dies, and nothing says whose worker it was: alone, only the job
    that kills its worker is blamed.

    `submit` may be called from any thread; functions and arguments are pickled. After `recycle_after` jobs the pool
    is replaced as soon as it is idle, which gives memory back. `kill` ends the processes without waiting; jobs under
    way then raise asyncio.CancelledError, which nobody takes for a failure of the job.
    """

    def __init__(self, n: int = 1, *, recycle_after: int = 500) -> None:
        if n < 1:
            raise ValueError(f"a pool needs at least one worker, not {n}")
        self.n = n
        self.recycle_after = recycle_after
        self._lock = threading.RLock()
        self._pool: ProcessPoolExecutor | None = None
        self._running = 0
        self._since_start = 0
        self._closed = False
        self._suspects: deque[_Work[Any]] = deque()
        """Jobs of a broken pool: one of them killed its worker, so each runs alone before it is blamed."""
        self._trial: _Work[Any] | None = None
        self._waiting: deque[_Work[Any]] = deque()
        """Jobs that came while suspects were left."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """A job for `fn`. Raises RuntimeError after shutdown."""
        job: Job[T] = Job()
        name = getattr(fn, "__name__", repr(fn))
        work: _Work[T] = _Work(job, lambda pool: pool.submit(fn, *args, **kwargs), name)
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker pool has been shut down")
            if self._trial is not None or self._suspects:
                self._waiting.append(work)
            else:
                self._dispatch(work)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; with `wait`, return when the accepted ones are done."""
        pool = self._close()
        if pool is not None:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """End the worker processes at once. What they published is whole; what they had not is a temp file."""
        pool = self._close()
        if pool is not None:
            # Python 3.14 makes this public as kill_workers; before it the pool's own table is the only list of them.
            for process in list((pool._processes or {}).values()):  # noqa: SLF001
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def _dispatch(self, work: _Work[Any]) -> None:
        """Send work to the pool; lock held."""
        pool = self._ready_pool()
        try:
            inner = work.send(pool)
        except BrokenProcessPool:
            pool = self._replace(pool)
            inner = work.send(pool)
            self._trial = self._trial or work  # the jobs that broke it are told in a moment: none of them beside this
        self._running += 1
        self._since_start += 1
        work.job.add_done_callback(lambda job: inner.cancel() if job.cancelled() else None)
        inner.add_done_callback(lambda done: self._finish(done, work, pool))

    def _finish(self, done: Future[Any], work: _Work[Any], pool: ProcessPoolExecutor) -> None:
        error: BaseException | None = None if done.cancelled() else done.exception()
        with self._lock:
            self._running -= 1
            if self._trial is work:
                self._trial = None
            again = False
            if isinstance(error, BrokenProcessPool) and not work.job.cancelled():
                error = self._died(work, pool)
                again = error is None
            self._go_on()
        if again or work.job.cancelled():
            return
        if done.cancelled():
            work.job.cancel()
            return
        with contextlib.suppress(InvalidStateError):  # cancelled in the meantime by whoever waited for it
            if error is not None:
                work.job.set_exception(error)
            else:
                work.job.set_result(done.result())

    def _died(self, work: _Work[Any], broken: ProcessPoolExecutor) -> BaseException | None:
        """What the job fails with, None where it gets its second try; lock held."""
        if self._closed:
            return asyncio.CancelledError("the worker pool was closed")
        telemetry.worker_died(job=work.name, attempt=work.attempt)
        self._replace(broken)
        if work.attempt > 1:
            return WorkerDied(work.name)
        work.attempt += 1
        self._suspects.append(work)
        return None

    def _go_on(self) -> None:
        """Put the next suspect on trial, or let in all that waited for the last of them; lock held."""
        while self._trial is None and self._suspects and not self._closed:
            work = self._suspects.popleft()
            if not work.job.cancelled():
                self._trial = work
                self._dispatch(work)
        while self._trial is None and self._waiting and not self._closed:
            work = self._waiting.popleft()
            if not work.job.cancelled():
                self._dispatch(work)

    def _close(self) -> ProcessPoolExecutor | None:
        """Take no more jobs, give up those that were not begun, and let go of the pool."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            left = [*self._suspects, *self._waiting]
            self._suspects.clear()
            self._waiting.clear()
        for work in left:
            with contextlib.suppress(InvalidStateError):
                work.job.set_exception(asyncio.CancelledError("the worker pool was closed"))
        return pool

    def _ready_pool(self) -> ProcessPoolExecutor:
        """The pool to use; lock held. A worn one is replaced, but only between jobs."""
        if self._pool is not None and self._running == 0 and self._since_start >= self.recycle_after:
            self._replace(self._pool)
        if self._pool is None:
            self._since_start = 0
            self._pool = ProcessPoolExecutor(
                self.n, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker
            )
        return self._pool

    def _replace(self, old: ProcessPoolExecutor) -> ProcessPoolExecutor:
        """Let go of `old` and return its successor; lock held. Several jobs of one broken pool replace it once."""
        if self._pool is old:
            self._pool = None
            old.shutdown(wait=False)
        return self._ready_pool()


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, give way to the collecting process, and never outlive the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(5)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="end-with-parent", daemon=True).start()


def _end_with(sentinel: int) -> None:
    # A worker holds both ends of its own job queue, so it would wait for ever on a parent that was killed.
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
