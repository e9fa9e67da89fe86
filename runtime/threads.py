"""Work of threads whose asker may be cancelled: a thread cannot be, and what it writes it writes.

What is short is waited for (`to_the_end`). What is long is left alone, told to stop where it asks whether to, and keeps
its turn until it has ended (`in_turn`).
"""

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
    worker = _begun(work, *given, **named)
    try:
        return await asyncio.shield(worker)
    except asyncio.CancelledError:
        await asyncio.wait([worker])
        raise


async def in_turn(turn: asyncio.Lock, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `work` gives, in a thread, in its turn. Who is cancelled meanwhile is so at once; the turn ends with the
    thread.
    """
    await turn.acquire()
    worker = _begun(work, *given, **named)
    worker.add_done_callback(lambda _: turn.release())
    return await asyncio.shield(worker)


def _begun(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> asyncio.Task[T]:
    """Of which nobody need hear how it ended: who is cancelled does not."""
    worker = asyncio.get_running_loop().create_task(asyncio.to_thread(work, *given, **named))
    worker.add_done_callback(lambda done: done.cancelled() or done.exception())
    return worker
