"""How thorough a run of the fault tests is, its seed, and the lakes that they harm.

`LAKE_FAULTS=full` (make test-faults) takes every step, state and seed; else each run takes others of them, and says
which. LAKE_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from scripts.figures import FIGURE
from tests.support import life
from tests.support.life import Promise
from tests.support.seeds import FULL, SEED

__all__ = ["FIGURE", "FULL", "SEED", "Lives", "memory", "some"]
T = TypeVar("T")


def some(items: Sequence[T], count: int, salt: str = "") -> list[T]:
    """All of them in a full run, else `count` that this run's seed chooses, in order."""
    if FULL or len(items) <= count:
        return list(items)
    chosen = random.Random(f"{SEED}-{salt}").sample(range(len(items)), count)
    return [items[n] for n in sorted(chosen)]


def memory() -> Path | None:
    """A folder in memory, where there is one: thousands of syncs are taken there, and none of them is waited for."""
    held = Path("/dev/shm")
    return held if os.access(held, os.W_OK) else None


class Lives:
    """The lake as it is before each stage, and what had been promised by then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.promises: dict[str, Promise] = {}
        promised = Promise()

        def tell(more: Promise) -> None:
            nonlocal promised
            promised = more

        root = folder / "now"
        root.mkdir()
        for name, stage in life.STAGES.items():
            self.promises[name] = promised
            shutil.copytree(root, folder / name)
            stage(root, tell)
        self.promises["end"] = promised
        root.rename(folder / "end")

    def before(self, stage: str, place: Path) -> Path:
        """A copy of the lake before that stage (or at the `end`), to do anything to, at `place`, which is not there."""
        return shutil.copytree(self._folder / stage, place)

    def at(self, stage: str) -> Path:
        """The lake itself: to be read only."""
        return self._folder / stage
