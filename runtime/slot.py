"""Slot: heavy work of several parts of a process, one at a time, so that only one of them needs its memory.

Jobs of an executor that `in_turn` made wait for a slice of background work that is under way, which is short; a slice
begins only while no such job, and none of an executor that was `watched`, is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Slot:
    """Who has it. May be used from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs = 0
        self._slice = False

    def in_turn(self, executor: Executor) -> Executor:
        """`executor`, whose jobs begin when no slice is under way: `submit` blocks till then."""
        return _Counted(self, executor, waits=True)

    def watched(self, executor: Executor) -> Executor:
        """`executor`, whose jobs begin at once."""
        return _Counted(self, executor, waits=False)

    def begin(self) -> bool:
        """Begin a slice, unless something else is under way."""
        with self._changed:
            if self._jobs or self._slice:
                return False
            self._slice = True
            return True

    def wait(self, seconds: float) -> bool:
        """As `begin`, waiting for it so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._jobs or self._slice), seconds)
            return self.begin()

    def end(self) -> None:
        """The slice is over."""
        with self._changed:
            self._slice = False
            self._changed.notify_all()

    def enter(self, *, waits: bool) -> None:
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: not self._slice)
            self._jobs += 1

    def leave(self, _done: object = None) -> None:
        with self._changed:
            self._jobs -= 1
            self._changed.notify_all()


class _Counted(Executor):
    def __init__(self, slot: Slot, executor: Executor, *, waits: bool) -> None:
        self._slot = slot
        self._executor = executor
        self._waits = waits

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self._slot.enter(waits=self._waits)
        try:
            job = self._executor.submit(fn, *args, **kwargs)
        except BaseException:
            self._slot.leave()
            raise
        job.add_done_callback(self._slot.leave)
        return job
