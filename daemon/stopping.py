"""Signals: how a stop begins and how it is bounded, with the last resort when nothing else ends; and SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from runtime import telemetry
from runtime.service import EXIT_INTERNAL, EXIT_INTERRUPTED

HURRY_SECONDS = 1.0
"""After a second signal the process is gone within this time, whatever its tasks do."""


class Stopper:
    """The two events of a shutdown. The first signal (or `ask`) sets `stop`; the second sets `hurry`.

    SIGHUP, where there is one, ends nothing: it sets `reload`.

    Use as a context manager inside the running loop: signal handlers are installed and taken back.
    """

    def __init__(self, deadline_seconds: float, end_process: Callable[[int], None] = os._exit) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()
        self.reason = "a part failed"
        self.deadline_seconds = deadline_seconds
        self._end_process = end_process
        self._loop = asyncio.get_running_loop()
        self._signals = 0
        self._timers: list[threading.Timer] = []
        self._before: dict[signal.Signals, object] = {}

    def ask(self, reason: str) -> None:
        """Begin the phased shutdown; only the first reason counts."""
        if not self.stop.is_set():
            self.reason = reason
            self.stop.set()

    def limit(self, seconds: float, exit_code: int) -> None:
        """End the whole process in `seconds` unless it has ended by itself: a blocked loop cannot prevent it."""
        timer = threading.Timer(seconds, self._end, (exit_code,))
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def __enter__(self) -> Self:
        for number in _signals():
            self._before[number] = signal.signal(number, self._on_signal)
        if hasattr(signal, "SIGHUP"):
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal.signal returned is what it takes

    def done(self) -> None:
        """The process ends by itself now: no last resort is needed."""
        for timer in self._timers:
            timer.cancel()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # Runs in the main thread between two bytecodes, so it may only hand over to the loop.
        self._signals += 1
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._signals == 1:
            self._loop.call_soon_threadsafe(self.ask, name)
        else:
            self.limit(HURRY_SECONDS, EXIT_INTERRUPTED)
            self._loop.call_soon_threadsafe(self.hurry.set)

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self.reload.set)

    def _end(self, exit_code: int) -> None:
        sys.stderr.write("did not stop in time: ended\n")
        sys.stderr.flush()
        self._end_process(exit_code)


class Guard:
    """The first service to be told of a stop, whoever asked: says why, and starts the clock of the last resort."""

    name = "guard"
    phase = -1

    def __init__(self, stopper: Stopper) -> None:
        self._stopper = stopper

    async def run(self, stop: asyncio.Event) -> None:
        try:
            await stop.wait()
        finally:  # cancelled too: the time may be over before its turn comes, on a machine that has none to give
            telemetry.stopping(reason=self._stopper.reason, deadline_seconds=self._stopper.deadline_seconds)
            self._stopper.limit(self._stopper.deadline_seconds, EXIT_INTERNAL)


def _signals() -> tuple[signal.Signals, ...]:
    """Ctrl-C, the service manager's stop, and Ctrl-Break where it exists."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))
