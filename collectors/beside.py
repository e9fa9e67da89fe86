"""History brought in beside what a daemon collects: through its own writer, after everything else.

The next page is asked for when little waits to be written, within the budget's last priority, and when the page before
it is durable: live streams are held up by nothing but a turn in the writing thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from collectors.intake import Intake
from collectors.pipeline import Pipeline
from runtime.clock import Clock

LOOK_SECONDS = 1.0
MOST_WAITING = 16 * 1024 * 1024
"""Bytes that may wait for the disk when more is asked for."""


class Beside:
    """`collectors.backfill.Sink` of a process that writes passes all the time: `written` returns after the next."""

    def __init__(
        self, intake: Intake, clock: Clock, next_session: Callable[[], str], written: Callable[[], Awaitable[None]]
    ) -> None:
        self.intake = intake
        self._clock = clock
        self._next_session = next_session
        self._written = written

    def next_session(self) -> str:
        return self._next_session()

    async def room(self) -> None:
        """Wait while the disk takes less than comes."""
        while self.intake.pressed or self.intake.waiting_bytes > MOST_WAITING:
            await self._clock.sleep(LOOK_SECONDS)

    async def write(self, pipeline: Pipeline, *, final: bool = False) -> None:
        del final  # what is open goes on being written to
        pipeline.advance(self._clock.now(), covered=True)
        await self._written()
