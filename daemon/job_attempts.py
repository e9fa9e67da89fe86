"""Attempts at the chunks of a job, written down while a venue is asked for them.

A chunk may be asked for in parts (wishes), and one part may be of several chunks: each is under way from its first part
on and ended with its last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.backfill import DONE, EARLY, REFUSED, STOPPED, Attempt
from collectors.history_plan import Wish
from lake import job_plan
from lake.job_book import JobBook
from lake.jobs import AttemptRow, ChunkRow
from runtime.clock import Clock
from runtime.threads import to_the_end


class Todo(msgspec.Struct, frozen=True):
    """What is asked for of the chunks that are due: `wishes` by the number of their chunk, and why a chunk is not given
    (any more), or not all of it.
    """

    wishes: Mapping[int, Sequence[Wish]]
    refused: Mapping[int, str]


class Ended(msgspec.Struct, frozen=True):
    """Why a chunk was not brought in."""

    reason: str
    permanent: bool


class _Try(msgspec.Struct):
    """An attempt at a chunk that is under way: of its wishes `left` have not ended."""

    chunk: ChunkRow
    left: int
    row: AttemptRow | None = None
    refused: str = ""
    failed: str = ""
    stopped: bool = False


class Watch:
    """Writes down the attempts at chunks, each of which may be asked for in parts. `again`: what failed for a passing
    reason is tried again by itself.
    """

    def __init__(
        self, book: JobBook, clock: Clock, due: Sequence[ChunkRow], asked: Todo, ends: dict[int, Ended], *,
        again: bool = True,
    ) -> None:  # fmt: skip
        self.moved = False
        """Whether any attempt came to its end."""
        self._book = book
        self._clock = clock
        self._ends = ends
        self._again = again
        self._tries = {
            one.chunk: _Try(one, len(asked.wishes[one.chunk]), refused=asked.refused.get(one.chunk, "")) for one in due
        }
        self._of: dict[Wish, list[int]] = {}
        for number, wishes in asked.wishes.items():
            for wish in wishes:
                self._of.setdefault(wish, []).append(number)

    @property
    def stopped(self) -> bool:
        """Whether some attempt was broken off."""
        return any(one.stopped for one in self._tries.values())

    async def begin(self) -> None:
        """Chunks of which nothing is to be asked for: they are held by now, or not given any more."""
        idle = [one for one in self._tries.values() if not one.left]
        held_now = [msgspec.structs.replace(one.chunk, state="done", due_at=None) for one in idle if not one.refused]
        await to_the_end(self._book.write_chunks, held_now, self._clock.now())
        for one in idle:
            if one.refused:
                await self._begin(one)
                await self._end(one)
            else:
                del self._tries[one.chunk.chunk]

    async def begun(self, chunk: Wish) -> None:
        for number in self._of[chunk]:
            mine = self._tries.get(number)
            if mine is not None and mine.row is None:
                await self._begin(mine)

    async def ended(self, attempt: Attempt) -> None:
        first = True  # what came is told of one of them
        for number in self._of[attempt.chunk]:
            mine = self._tries[number]
            assert mine.row is not None, "it was begun"
            mine.row.rows += attempt.rows if first else 0
            mine.row.requests += attempt.requests if first else 0
            mine.left -= 1
            first = False
            if attempt.outcome == STOPPED:
                mine.stopped = True
            elif attempt.outcome == REFUSED:
                mine.refused = attempt.reason
            elif attempt.outcome not in (DONE, EARLY):
                mine.failed = attempt.reason
            if not mine.left and not mine.stopped:
                await self._end(mine)

    async def close(self, number: int, rows: int, failed: str) -> None:
        """What came of a chunk of whose parts nobody tells the end."""
        mine = self._tries.get(number)
        if mine is None:
            return
        row = mine.row or await self._begin(mine)
        row.rows += rows
        mine.failed = failed
        await self._end(mine)

    async def end(self) -> None:
        """What is under way is interrupted; what was not written down as begun yet, the book itself sets right."""
        for one in [one for one in self._tries.values() if one.row is not None and one.row.attempt]:
            one.stopped = True
            await self._end(one)

    async def _begin(self, one: _Try) -> AttemptRow:
        # what it is until it is written: another part of the chunk may begin meanwhile
        one.row = AttemptRow(job=one.chunk.job, chunk=one.chunk.chunk, attempt=0, started_at=self._clock.now())
        told = await to_the_end(self._book.begun, one.chunk, one.row.started_at)
        one.row.attempt = told.attempt
        return one.row

    async def _end(self, one: _Try) -> None:
        row = one.row
        assert row is not None
        if one.stopped:
            row.error, row.permanent = job_plan.INTERRUPTED, None
        elif one.failed or one.refused:
            row.error, row.permanent = one.failed or one.refused, not one.failed
            self._ends[row.chunk] = Ended(row.error, row.permanent)
        del self._tries[row.chunk]
        self.moved = self.moved or not one.stopped
        await to_the_end(self._book.ended, one.chunk, row, self._clock.now(), again=self._again)
