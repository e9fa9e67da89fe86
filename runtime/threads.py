"""Work of threads whose asker may be cancelled: a thread cannot be, and what it writes it writes.

What is short is waited for (`to_the_end`). What is long is left alone, told to stop where it asks whether to, and keeps
its turn until it has ended (`Line`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

WAITS = "waits until"
"""How what is said begins where something has to wait for its turn."""
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


class Line:
    """Work of one sort, of which one is under way at a time, in the order in which it was asked for."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._places: list[_Place] = []
        """The first one has the turn."""

    async def run(
        self, what: str, tell: Callable[[str], None] | None, work: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T:
        """What `work` gives, in a thread, in its turn. Who is cancelled meanwhile is so at once; the turn ends with the
        thread. Whoever waits is told for `what` (an article and a name, of the one whose turn it is).
        """
        mine = _Place(what, tell)
        self._places.append(mine)
        try:
            if self._turn.locked():
                mine.wait_for(self._places[0])
            await self._turn.acquire()
        except BaseException:
            self._places.remove(mine)
            raise
        worker = _begun(work, *given, **named)
        worker.add_done_callback(lambda _: self._over(mine))
        return await asyncio.shield(worker)

    def _over(self, mine: _Place) -> None:
        self._turn.release()
        self._places.remove(mine)
        for waiting in self._places[1:]:
            waiting.wait_for(self._places[0])


class _Place:
    def __init__(self, what: str, tell: Callable[[str], None] | None) -> None:
        self._what = what
        self._tell = tell

    def wait_for(self, other: _Place) -> None:
        if self._tell is not None:
            self._tell(f"{WAITS} {other._what} is over")


def _begun(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> asyncio.Task[T]:
    """Of which nobody need hear how it ended: who is cancelled does not."""
    worker = asyncio.get_running_loop().create_task(asyncio.to_thread(work, *given, **named))
    worker.add_done_callback(lambda done: done.cancelled() or done.exception())
    return worker
