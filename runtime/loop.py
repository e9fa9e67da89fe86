"""The event loop: uvloop where it exists, asyncio's own elsewhere; `run` is how a process starts it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_factory: Callable[[], asyncio.AbstractEventLoop] | None
try:
    import uvloop

    _factory = uvloop.new_event_loop
    NAME = "uvloop"
except ImportError:  # Windows has no uvloop
    _factory = None
    NAME = "asyncio"


GC_THRESHOLDS = (50_000, 20, 20)
"""Small objects that die young, by the thousand: at the usual thresholds they are looked through in vain."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh loop and close it, as asyncio.run does."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_factory) as runner:
        return runner.run(main)
