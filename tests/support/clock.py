"""ManualClock: time that a test moves. Sleepers wake in the order of their deadlines, hours pass in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

NOON = 1_700_000_000_000_000
"""2023-11-14T22:13:20Z, the default start."""


class ManualClock:
    """A runtime.clock.Clock under a test's control.

    `advance(seconds)` moves time through every deadline on the way, letting woken tasks run to their next wait before
    the next one wakes. `run(work)` drives time by itself until `work` is done: whenever nothing can run, it jumps to
    the next deadline. `step(us)` makes the wall clock alone jump, as an operator's correction would.
    """

    def __init__(self, now: int = NOON) -> None:
        self._wall = now
        self._elapsed = 0.0
        self._step = 0
        self._slept = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self.slept: list[float] = []
        """Every duration that was asked for, in order."""

    def now(self) -> int:
        return self._wall + self._step + round(self._elapsed * 1e6)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    def step(self, us: int) -> None:
        """Make wall time jump by `us`; monotonic time and sleepers do not notice."""
        self._step += us

    def asleep(self) -> float:
        return self._slept

    def jump(self, seconds: float) -> None:
        """Both clocks go on while nothing runs, as in a virtual machine that was paused: sleepers wake too late."""
        self._elapsed += seconds

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: wall time goes on, monotonic time and sleepers do not notice."""
        self._slept += seconds
        self.step(round(seconds * 1e6))

    @property
    def sleeping(self) -> int:
        """How many tasks wait for time."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking whoever is due, in order."""
        until = self._elapsed + seconds
        await settle()
        while self._wake(until):
            await settle()
        self._elapsed = until
        await settle()

    async def run(self, work: Coroutine[Any, Any, T], *, limit: float = 1e7, patience: float = 60.0) -> T:
        """The result of `work`, time passing by itself. `limit` is virtual seconds, `patience` real ones.

        Where nobody sleeps and `work` is not done, threads or processes may be at work: they get `patience`.
        """
        task = asyncio.ensure_future(work)
        until = self._elapsed + limit
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        try:
            while True:
                await settle()
                if task.done():
                    return task.result()
                if self._wake(until):
                    idle_since = loop.time()
                    continue
                if loop.time() - idle_since > patience:
                    raise AssertionError(f"nothing happens any more and the work is not done: {task}")
                await asyncio.sleep(0.002)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _wake(self, until: float) -> bool:
        """Jump to the next deadline up to `until` and wake its sleeper; False where there is none."""
        while self._sleepers:
            at, _, future = self._sleepers[0]
            if future.done():  # its task was cancelled
                heapq.heappop(self._sleepers)
                continue
            if at > until:
                return False
            heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, at)
            future.set_result(None)
            return True
        return False


def threads_at_once() -> contextlib.AbstractContextManager[object]:
    """Time that is moved by hand does not wait for threads: inside, the work that they are given is done at once."""

    async def at_once(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        return work(*given, **named)

    return mock.patch.object(asyncio, "to_thread", at_once)


async def settle() -> None:
    """Let every task run until it waits for time, a file or a socket."""
    loop = asyncio.get_running_loop()
    for _ in range(10_000):
        await asyncio.sleep(0)
        if not getattr(loop, "_ready", ()):
            return
    raise AssertionError("tasks keep each other busy without ever waiting")
