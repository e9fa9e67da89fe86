"""Work of threads that is waited for to its end: a thread cannot be cancelled, and what it writes it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_the_end(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `work` gives, in a thread. Who is cancelled meanwhile is so only once it has ended: what is written next
    comes behind it.
    """
    worker = asyncio.get_running_loop().create_task(asyncio.to_thread(work, *given, **named))
    try:
        return await asyncio.shield(worker)
    except asyncio.CancelledError:
        await asyncio.wait([worker])
        if not worker.cancelled():
            worker.exception()  # nobody is told of it any more
        raise
