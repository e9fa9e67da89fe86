"""Pipelines of one market that know nothing of each other: own capture's, and one for each recording of somebody else.

A recording is taken in by a run of its own. Where its frames are read again beside others, the same has to come of
them.
"""

from __future__ import annotations

from collections.abc import Callable

from collectors.links import Totals
from collectors.pipeline import Pipeline

OWN = 0


class Apart:
    """Pipelines by number, each made when its first session begins."""

    def __init__(self, make: Callable[[], Pipeline]) -> None:
        self._make = make
        self._made = {OWN: make()}

    def of(self, number: int) -> Pipeline:
        """The pipeline of a number."""
        found = self._made.get(number)
        if found is None:
            found = self._made[number] = self._make()
        return found

    def advance(self, now: int, *, covered: bool = False) -> None:
        """See Pipeline."""
        for pipeline in self._made.values():
            pipeline.advance(now, covered=covered)

    @property
    def totals(self) -> Totals:
        """What all of them have seen."""
        made = Totals()
        for one in (pipeline.totals for pipeline in self._made.values()):
            made.frames += one.frames
            made.nbytes += one.nbytes
            made.gaps += one.gaps
            for name in ("events", "duplicates", "ignored", "rejected", "shed"):
                getattr(made, name).update(getattr(one, name))
        return made
