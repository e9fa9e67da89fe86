"""Processes that tests start end with the process that started them, also where that is killed.

A watcher, one for each process that runs tests, is told their numbers and holds the other end of a pipe: when nobody
holds this one any more it kills who is left, and all that they have started. It is no child's parent and no thread's
business: the kernel's own signal for this (PR_SET_PDEATHSIG) comes when the *thread* ends that started the child.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T", str, bytes)
_turn = threading.Lock()


def watched(process: subprocess.Popen[T]) -> subprocess.Popen[T]:
    """That process, which from now on does not outlive this one (on Linux)."""
    if sys.platform == "linux":
        with _turn:
            told, said = _watcher()
            os.write(told, b"%d\n" % process.pid)
            assert os.read(said, 1) == b"\n", "the watcher has ended"
    return process


@functools.cache
def _watcher() -> tuple[int, int]:
    """Where it is told, and where it answers."""
    pipe = subprocess.PIPE
    # A session of its own: what ends the tests by a signal to their group leaves it alone.
    made = subprocess.Popen([sys.executable, "-IS", __file__], stdin=pipe, stdout=pipe, start_new_session=True)
    atexit.register(made.communicate)
    assert made.stdin is not None
    assert made.stdout is not None
    return made.stdin.fileno(), made.stdout.fileno()


def _watch() -> None:
    """The watcher's life. A file descriptor of a process is that process for ever, unlike its number."""
    ready, held = select.poll(), dict[int, int]()
    ready.register(0, select.POLLIN)
    while True:
        for fd, _ in ready.poll():
            if fd in held:  # it has ended
                ready.unregister(fd)
                os.close(fd)
                del held[fd]
            elif told := os.read(0, 64):
                with contextlib.suppress(OSError):  # it is no more, or this kernel has no such descriptors
                    opened = os.pidfd_open(int(told))
                    held[opened] = int(told)
                    ready.register(opened, select.POLLIN)
                with contextlib.suppress(BrokenPipeError):  # who told it is no more
                    os.write(1, b"\n")
            else:
                for pid in held.values():
                    _kill([pid, *_below(pid)])
                return


def _below(pid: int) -> Iterator[int]:
    """Processes that it has started, and those that they have."""
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, thread.read_text().split()):
                yield child
                yield from _below(child)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _watch()
