"""Clock: the only reader of time. Wall time in int us UTC, monotonic seconds, and sleeping, all replaceable by a test.

Pure code takes `now` as an argument; services are given a Clock and wait through it, so that a test can run hours of
schedule in milliseconds. `pause` and `within` are the two ways to wait for something *or* for time to pass.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """What a service may ask about time."""

    def now(self) -> int:
        """Wall time, us since the epoch, UTC. May step; never measure a duration with it."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back; the origin means nothing."""
        ...

    def asleep(self) -> float:
        """Seconds that the machine has slept since it was booted, as far as `monotonic` left them out; else 0."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less yields once to other tasks."""
        ...


class SystemClock:
    """The machine's clock. `offset_us` moves wall time only: a simulated run lives on another day at normal speed."""

    def __init__(self, offset_us: int = 0) -> None:
        self.offset_us = offset_us

    def now(self) -> int:
        return time.time_ns() // 1000 + self.offset_us  # noqa: TID251 - the one place that reads the wall clock

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - the one place that reads the monotonic clock

    def asleep(self) -> float:
        if sys.platform != "linux":
            return 0.0  # Windows counts a sleep as time that passed
        with_sleep = time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(0.0, with_sleep - time.clock_gettime(time.CLOCK_MONOTONIC))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))  # noqa: TID251 - the one place that sleeps


async def pause(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, at most `seconds` of `clock`. Returns whether the event is set.

    The shape of every periodic service: `while not await pause(clock, stop, interval): work()`.
    """
    if event.is_set():
        return True
    waiter = _task(event.wait())
    await _first(waiter, clock, seconds)
    return event.is_set()


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, or TimeoutError once `seconds` of `clock` have passed; `work` is then cancelled."""
    worker = _task(work)
    await _first(worker, clock, seconds)
    if worker.cancelled():
        raise TimeoutError(f"nothing within {seconds:g} s")
    return worker.result()


async def _first(worker: asyncio.Task[Any], clock: Clock, seconds: float) -> None:
    """Let `worker` run until it ends or time is up; afterwards neither it nor the sleeper is left running."""
    sleeper = _task(clock.sleep(seconds))
    tasks = (worker, sleeper)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return asyncio.get_running_loop().create_task(work)
