"""The event loop: uvloop where it exists, asyncio's own elsewhere; `run` is how a process starts it."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

factory: Callable[[], asyncio.AbstractEventLoop] | None
try:
    import uvloop

    class Loop(uvloop.Loop):
        """uvloop that never leaves one file descriptor to two owners."""

        async def create_connection(  # what uvloop takes, passed on as it came
            self, *args: Any, sock: socket.socket | None = None, **more: Any
        ) -> tuple[Any, Any]:
            """As uvloop's. Where it is cancelled before the transport stands, uvloop 0.22 closes the descriptor of
            `sock` and leaves the socket object as it was, which then closes that number again: whatever file has
            been given it meanwhile, the manifest's among them.
            """
            try:
                return await super().create_connection(*args, sock=sock, **more)
            except BaseException:
                if sock is not None:
                    sock.detach()
                raise

    factory = Loop
    NAME = "uvloop"
except ImportError:  # Windows has no uvloop
    factory = None
    NAME = "asyncio"


GC_THRESHOLDS = (50_000, 20, 20)
"""Small objects that die young, by the thousand: at the usual thresholds they are looked through in vain."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh loop and close it, as asyncio.run does."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
