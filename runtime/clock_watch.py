"""Steps of the wall clock: found by comparing it with monotonic time, said, written down, and lived with.

Timers count monotonic time, so a step moves none of them. What is judged by wall time asks here: `Steady` is wall time
that goes on through a step, `ClockWatch.clock_sane` whether wall time may be believed where it decides on deletion.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from market import times
from runtime import health, metrics, telemetry
from runtime.clock import Clock, pause

STEP_US = 500 * times.MS
"""A difference between wall and monotonic time of this size is a step of the clock, not jitter."""
FOLLOWED_US = 5 * times.SECOND
"""A step up to this is followed by what lives on steady time; bounds of silence are three times as long."""
SLEPT_SECONDS = 5.0
"""A machine that has slept for this long has lost its connections."""
FORWARD_US = times.HOUR - times.SECOND
STEADY_SECONDS = 3600.0
"""So long deletion rests after a step forward by FORWARD_US or more."""
VENUE_US = times.MINUTE
"""A venue's clock that is further away from ours says that ours is wrong, or that nobody knows."""
EVERY_SECONDS = 1.0
KEPT = 20


class Step(msgspec.Struct, frozen=True):
    """The wall clock jumped by `seconds`, of which the machine slept `asleep`; `at` (us) is what it said before."""

    at: int
    seconds: float
    asleep: float = 0.0


class Steps:
    """How far wall time ran away from monotonic time between two looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._monotonic, self._asleep = clock.now(), clock.monotonic(), clock.asleep()

    def look(self) -> Step | None:
        """The step since the last look; None where there was none."""
        wall, monotonic, asleep = self._clock.now(), self._clock.monotonic(), self._clock.asleep()
        expected = self._wall + round((monotonic - self._monotonic) * times.SECOND)
        slept = asleep - self._asleep
        self._wall, self._monotonic, self._asleep = wall, monotonic, asleep
        step = wall - expected
        return Step(expected, step / times.SECOND, max(0.0, slept)) if abs(step) > STEP_US else None


class Steady:
    """Wall time as if it had not been stepped since this was made; small corrections are followed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.now() - self._elapsed()
        self._asleep = clock.asleep()
        self.away = 0
        """By how much (us) the wall clock was stepped, where that is more than is followed."""

    def now(self) -> int:
        """us; looks at the wall clock."""
        wall, steady = self._clock.now(), self._offset + self._elapsed()
        away = wall - steady
        if abs(away) <= FOLLOWED_US:
            self._offset += away
            self.away = 0
            return wall
        self.away = away
        return steady

    def slept(self) -> float:
        """Seconds that the machine has slept since this was made."""
        return self._clock.asleep() - self._asleep

    def _elapsed(self) -> int:
        return round(self._clock.monotonic() * times.SECOND)


class ClockWatch:
    """Service: looks once a second, says each step and gives it to `note`, which writes it down or answers False.

    `offsets` gives how far (us) our clock is known to be from those of venues.
    """

    name = "clock"
    phase = 3

    def __init__(
        self, clock: Clock, note: Callable[[Step], bool], offsets: Callable[[], Iterable[int]] = tuple
    ) -> None:
        self._clock = clock
        self._note = note
        self._offsets = offsets
        self._looks = Steps(clock)
        self._steps: deque[Step] = deque(maxlen=KEPT)
        self._count = 0
        self._unwritten: list[Step] = []
        self._frozen_until = 0.0
        self._was_sane = True

    async def run(self, stop: asyncio.Event) -> None:
        while not await pause(self._clock, stop, EVERY_SECONDS):
            self._look()
            if self._unwritten:
                await asyncio.to_thread(self._write_down)

    def clock_sane(self) -> bool:
        """Whether wall time may decide what is old enough to be deleted. Any thread may ask."""
        return not self._why_not()

    def status(self) -> Mapping[str, object]:
        """The last steps, and why wall time is not believed."""
        why = self._why_not()
        return {
            "steps": self._count,
            "last_steps": [{**msgspec.to_builtins(step), "at": times.text(step.at)} for step in self._steps],
            "slept_seconds": round(self._clock.asleep(), 3),
            "sane": not why,
            "deletion_rests": why or None,
        }

    def _look(self) -> None:
        step = self._looks.look()
        if step is not None:
            self._take(step)
        why = self._why_not()
        metrics.CLOCK_SANE.set(not why)
        if bool(why) == self._was_sane:
            self._was_sane = not why
            health.clock_doubted(why=why) if why else health.clock_believed()

    def _take(self, step: Step) -> None:
        self._count += 1
        self._steps.append(step)
        self._unwritten.append(step)
        unexplained = round((step.seconds - step.asleep) * times.SECOND)
        if step.asleep > SLEPT_SECONDS:
            health.machine_slept(seconds=step.asleep)
        if abs(unexplained) > STEP_US:
            telemetry.clock_stepped(seconds=unexplained / times.SECOND)
        now = self._clock.monotonic()
        if unexplained >= FORWARD_US or (self._frozen_until > now and abs(unexplained) > STEP_US):
            self._frozen_until = now + STEADY_SECONDS

    def _why_not(self) -> str:
        left = self._frozen_until - self._clock.monotonic()
        if left > 0:
            return f"the wall clock was stepped; {left:.0f} s without another step are awaited"
        far = max(self._offsets(), key=abs, default=0)
        if abs(far) > VENUE_US:
            return f"the wall clock is {far / times.SECOND:+.0f} s away from a venue's"
        return ""

    def _write_down(self) -> None:
        """Steps that are not written yet; what fails is tried again at the next look."""
        while self._unwritten and self._note(self._unwritten[0]):
            self._unwritten.pop(0)
