"""VirtualLoop: an event loop whose time jumps to the next timer when nothing is ready. One thread, no sockets.

Whatever would run in a thread runs at once, in line: with the same inputs the same things happen in the same order.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")


class Killed(BaseException):
    """The process ends here: raised at a durable step, and never handled by what runs in it."""


class Stalled(Exception):
    """Nothing is ready, nothing is planned, and the work is not done."""


class _Handle:
    """A callback that is due. Quacks like asyncio.TimerHandle."""

    __slots__ = ("_args", "_callback", "_context", "_over", "_when")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Any, when: float) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._when = when
        self._over = False

    def cancel(self) -> None:
        self._over = True
        self._args = ()

    def cancelled(self) -> bool:
        return self._over

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.AbstractEventLoop):
    """Only what tasks, futures and timers need. `killed` is set where a job in line raised Killed."""

    def __init__(self) -> None:
        self._time = 0.0
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._numbers = itertools.count()
        self._stopping = False
        self.killed = False
        self.failures: list[str] = []
        """What was thrown in callbacks and in tasks that nobody waited for."""
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]

    def time(self) -> float:
        return self._time

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> _Handle:  # type: ignore[override]
        handle = _Handle(callback, args, context if context is not None else copy_context(), 0.0)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> _Handle:  # type: ignore[override]
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> _Handle:  # type: ignore[override]
        handle = _Handle(callback, args, context if context is not None else copy_context(), when)
        heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:  # type: ignore[override]
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """At once, in this thread; a Killed ends the run before anybody hears of the job again."""
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Killed:
            self.killed = self._stopping = True
        except Exception as error:
            future.set_exception(error)
        return future

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        """Its result; Killed where the process ended meanwhile, Stalled where nothing can happen any more."""
        task = self.create_task(future)
        self.run_task(task)
        if self.killed:
            raise Killed
        return task.result()  # type: ignore[no-any-return]

    def run_task(self, task: asyncio.Task[Any], until: float = float("inf")) -> None:
        """Run until `task` is done, the process is killed, or (virtual) time reaches `until`."""
        self._stopping = self.killed
        task.add_done_callback(self._over)
        asyncio.events._set_running_loop(self)
        try:
            self._run(until)
        finally:
            asyncio.events._set_running_loop(None)
            task.remove_done_callback(self._over)
        if not task.done() and not self.killed and self._time < until:
            raise Stalled(f"nothing happens any more and the work is not done: {task}")

    def drain(self) -> None:
        """Run what is ready, time standing still."""
        self._stopping = False
        asyncio.events._set_running_loop(self)
        try:
            self._run(self._time)
        finally:
            asyncio.events._set_running_loop(None)

    def _over(self, _task: asyncio.Future[Any]) -> None:
        self._stopping = True

    def _run(self, until: float) -> None:
        ready, timers = self._ready, self._timers
        pop = ready.popleft
        while not self._stopping:
            while ready:
                handle = pop()
                if handle._over:
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except Exception as error:
                    self.failures.append(f"{handle._callback!r}: {type(error).__name__}: {error}")
                if self._stopping:
                    return
            while timers and timers[0][2]._over:
                heappop(timers)
            if not timers:
                return
            when = timers[0][0]
            if when > until:
                self._time = max(self._time, until)
                return
            if when > self._time:
                self._time = when
            while timers and timers[0][0] <= when:
                ready.append(heappop(timers)[2])

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio.events._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def close(self) -> None:
        self._ready.clear()
        self._timers.clear()


class VirtualClock:
    """A runtime.clock.Clock of a VirtualLoop. `step` makes our wall time jump; `venue` is what time it really is."""

    def __init__(self, loop: VirtualLoop, start: int) -> None:
        self._loop = loop
        self._start = start
        self._stepped = 0

    def now(self) -> int:
        return self._start + self._stepped + round(self._loop._time * 1e6)

    def monotonic(self) -> float:
        return self._loop._time

    def asleep(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = self._loop
        future = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            timer.cancel()

    def step(self, us: int) -> None:
        """Our wall clock alone jumps by `us`."""
        self._stepped += us

    @property
    def stepped(self) -> int:
        return self._stepped


class VenueClock:
    """The simulator's clock: true time, whatever our own clock says."""

    def __init__(self, loop: VirtualLoop, start: int) -> None:
        self.offset = 0
        self._loop = loop
        self._start = start

    def now(self) -> int:
        return self._start + round(self._loop._time * 1e6)


async def pause(_clock: object, event: asyncio.Event, seconds: float) -> bool:
    """`runtime.clock.pause` by a timer of the loop: with tasks of their own for both, waiting takes longer than what is
    done about it.
    """
    if event.is_set():
        return True
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    timer = loop.call_later(max(0.0, seconds), _wake, future)
    event._waiters.append(future)  # as `event.wait` does
    try:
        await future
    finally:
        timer.cancel()
        event._waiters.remove(future)
    return event.is_set()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
