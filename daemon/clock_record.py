"""ClockRecord: a service that writes down, each minute, what the kernel and the venues say of our clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec

from collectors.clocks import Reading
from lake.clock_files import ClockLook, VenueLook
from lake.errors import LakeError
from lake.writer import LakeWriter
from market import times
from runtime import health, metrics
from runtime.clock import Clock, pause
from runtime.clock_watch import STEP_US, Step
from runtime.kernel_clock import KernelClock, kernel_clock

EVERY_SECONDS = 60.0
TIDY_EVERY = 60
"""Looks between two looks for days that are over."""


class ClockRecord:
    """A look each minute, the first at the start; a kernel whose clock is not synchronised is a warning then.

    `keep_days` is how long the record is kept; nothing of it is removed while `sane` says no.
    """

    name = "clock_record"
    phase = 3

    def __init__(
        self,
        writer: LakeWriter,
        clock: Clock,
        keep_days: float,
        venues: Callable[[], Iterable[Reading]],
        sane: Callable[[], bool],
        kernel: Callable[[], KernelClock] = kernel_clock,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._keep = round(keep_days * times.DAY)
        self._venues = venues
        self._sane = sane
        self._kernel = kernel
        self._before: tuple[int, float] | None = None
        self._last: ClockLook | None = None
        self._said: tuple[bool | None, str | None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        looks = 0
        while True:
            look = self.look()
            await asyncio.to_thread(self._write, look, tidy=looks % TIDY_EVERY == 0)
            looks += 1
            if await pause(self._clock, stop, EVERY_SECONDS):
                return

    def look(self) -> ClockLook:
        """What is known now; what is new of the kernel's clock is said."""
        found = self._kernel()
        now, monotonic = self._clock.now(), self._clock.monotonic()
        drift = None
        if self._before is not None:
            drift = now - self._before[0] - round((monotonic - self._before[1]) * times.SECOND)
        self._before = (now, monotonic)
        self._say(found)
        venues = [VenueLook(**msgspec.structs.asdict(reading)) for reading in self._venues()]
        self._last = ClockLook(
            at=now,
            synchronised=found.synchronised,
            estimated_error_us=found.estimated_error_us,
            max_error_us=found.max_error_us,
            unknown=found.unknown,
            drift_us=drift,
            steps=int(drift is not None and abs(drift) > STEP_US),
            venues=tuple(sorted(venues, key=lambda venue: (venue.exchange, venue.market_type))),
        )
        return self._last

    def status(self) -> Mapping[str, object]:
        """The last look."""
        return {} if self._last is None else {**msgspec.to_builtins(self._last), "at": times.text(self._last.at)}

    def _say(self, found: KernelClock) -> None:
        estimated, largest = (
            None if error is None else error / times.SECOND
            for error in (found.estimated_error_us, found.max_error_us)
        )  # fmt: skip
        metrics.kernel_clock(found.synchronised, estimated, largest)
        state = (found.synchronised, found.unknown)
        if state == self._said:
            return
        self._said = state
        if found.synchronised is None:
            health.kernel_clock_unknown(why=found.unknown or "it does not say")
        elif found.synchronised:
            health.kernel_clock_synchronised(largest_seconds=largest)
        else:
            health.kernel_clock_unsynchronised(largest_seconds=largest)

    def _write(self, look: ClockLook, *, tidy: bool) -> None:
        try:
            self._writer.clocks.append([look], sync=True)
            if tidy and self._sane():
                self._writer.clocks.tidy(look.at, self._keep)
        except LakeError as error:
            health.clock_record_failed(error=error)


def noted(writer: LakeWriter, step: Step, now: int) -> bool:
    """A step of the clock in the ledger; False where that cannot be written now."""
    try:
        writer.note({"clock_step": msgspec.to_builtins(step), "now": now}, now)
    except LakeError:
        return False
    return True
