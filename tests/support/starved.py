"""Worker processes that are short of memory: each job finds hardly more address space than its process has already."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from runtime.workers import Workers

NEEDED = 64 * 1024 * 1024
"""Bytes that a job takes before it begins, as a large one would."""
LEFT = 1_000_000


def starved(fn: Callable[..., Any], /, *arguments: Any) -> Any:
    """Run a job under the limit."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + LEFT, resource.RLIM_INFINITY))
    try:
        hoard = bytearray(NEEDED)
        made = fn(*arguments)
        hoard.clear()
        return made
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class Starved(Workers):
    """Real worker processes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        return super().submit(starved, fn, *args, **kwargs)
