"""Many files at once: whoever waits for the disk file by file waits for each, though it would take them together.

A hundred files that are synced one after another take a hundred journal commits; asked for side by side they share a
few, for the same CPU (`scripts/bench_passes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from typing import TypeVar

from lake.errors import StorageFailed

WIDTH = 8
"""Files that are waited for at a time: each costs a thread that sleeps, and what more of them gain is the disk's."""
S = TypeVar("S")
T = TypeVar("T")


class Abreast:
    """Does the same with each of many, side by side in the threads of `executor`; without one in order, one by one."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor

    def each(
        self, work: Callable[[S], T], them: Sequence[S]
    ) -> tuple[list[tuple[S, T]], list[tuple[S, StorageFailed]]]:
        """What came of each in order, and whose storage failed. Nothing is under way when this returns, nor when it
        raises what else one of them did.
        """

        def some(part: Sequence[S]) -> list[tuple[S, T | StorageFailed]]:
            return [(one, _attempt(work, one)) for one in part]

        if self._executor is None or len(them) < 2:
            outcomes = some(them)
        else:
            parts = [self._executor.submit(some, them[n::WIDTH]) for n in range(min(WIDTH, len(them)))]
            wait(parts)
            found = {id(one): outcome for part in parts for one, outcome in part.result()}
            outcomes = [(one, found[id(one)]) for one in them]
        good = [(one, outcome) for one, outcome in outcomes if not isinstance(outcome, StorageFailed)]
        return good, [(one, outcome) for one, outcome in outcomes if isinstance(outcome, StorageFailed)]


def _attempt(work: Callable[[S], T], one: S) -> T | StorageFailed:
    try:
        return work(one)
    except StorageFailed as error:
        return error
