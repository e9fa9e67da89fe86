"""Supervisor: owns every long-lived task. Restarts what fails, stops in phases, and names what would not stop."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from runtime import telemetry
from runtime.clock import Clock, pause
from runtime.retry import backoff
from runtime.service import EXIT_INTERRUPTED, EXIT_OK, Impairable, Reports, Service, cause_of, exit_code_of

STEADY_SECONDS = 60.0
"""A service that ran this long has recovered: its next failure starts again with the shortest delay."""
NAME_EVERY_SECONDS = 5.0
PHASE_RESERVE = 0.05
"""Share of the deadline kept for each later phase: one that hangs must not take the time of those that drain fast."""


def _delays() -> Iterator[float]:
    # Not a secret: jitter keeps services that failed together from coming back together.
    return backoff(random.random, first=1.0, cap=30.0, floor=0.1)


@dataclasses.dataclass
class _Slot:
    """One service and what became of it."""

    service: Service
    stop: asyncio.Event
    task: asyncio.Task[None] | None = None
    state: str = "waiting"
    restarts: int = 0
    error: str | None = None

    @property
    def shown(self) -> str:
        """Its state to others."""
        reason = self.service.impaired() if self.state == "running" and isinstance(self.service, Impairable) else None
        return reason or self.state

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


class Supervisor:
    """Runs services until `stop` is set, until all are done, or until one fails fatally.

    On stop the phases are told in ascending order, each only once the earlier ones are done; who still runs is named
    every five seconds; at the deadline (all phases together) what is left is cancelled by name. `hurry`, set at any
    time, cancels everything at once. A service waiting in backoff ends as soon as its phase is told to stop.
    """

    def __init__(
        self,
        services: Sequence[Service],
        clock: Clock,
        *,
        deadline_seconds: float = 10.0,
        delays: Callable[[], Iterator[float]] = _delays,
        fatal: Callable[[BaseException], int | None] = exit_code_of,
    ) -> None:
        names = [service.name for service in services]
        if len(set(names)) != len(names):
            raise ValueError(f"two services have one name: {', '.join(sorted(names))}")
        self._slots = [_Slot(service, asyncio.Event()) for service in services]
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._delays = delays
        self._fatal = fatal
        self._exit_code = EXIT_OK
        self._idle = asyncio.Event()

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event | None = None) -> int:
        """Run to the end; the exit code: 0, that of the fatal error, or 130 where `hurry` cut the shutdown short.

        Setting `stop` is how it is asked to end; it is also set here when a service fails fatally.
        """
        hurry = hurry if hurry is not None else asyncio.Event()
        async with asyncio.TaskGroup() as group:
            # Last phase first: whoever reports and consumes is there before there is anything to consume.
            for slot in sorted(self._slots, key=lambda s: -s.service.phase):
                slot.task = group.create_task(self._keep_running(slot, stop), name=slot.service.name)
            everything = group.create_task(self._wait_all(), name="supervisor")
            await self._first(stop, self._idle, hurry)
            if not self._idle.is_set():
                await self._stop_in_phases(hurry)
            await everything
        return self._exit_code

    def states(self) -> dict[str, str]:
        """State of each service: waiting, running, backoff, done, stopped, cancelled or failed, or in its own word what
        keeps it from its work while it runs.
        """
        return {slot.service.name: slot.shown for slot in self._slots}

    def status(self) -> dict[str, dict[str, object]]:
        """State, restarts and last error of each service, and what it reports itself."""
        return {
            slot.service.name: {
                "state": slot.shown,
                "phase": slot.service.phase,
                "restarts": slot.restarts,
                "error": slot.error,
                **(_report(slot.service) if isinstance(slot.service, Reports) else {}),
            }
            for slot in self._slots
        }

    async def _keep_running(self, slot: _Slot, stop_all: asyncio.Event) -> None:
        """One service until it is done, told to stop, or fatally wrong. Never raises but for cancellation."""
        delays = self._delays()
        while not slot.stop.is_set():
            slot.state = "running"
            began = self._clock.monotonic()
            try:
                await slot.service.run(slot.stop)
            except (Exception, asyncio.CancelledError) as error:  # the supervisor is where every failure is judged
                if isinstance(error, asyncio.CancelledError) and _asked_to_end():
                    slot.state = "cancelled"
                    raise
                code = self._fatal(error)
                cause = cause_of(error)
                slot.error = f"{type(cause).__name__}: {cause}"
                if code is not None:
                    self._fail(slot, cause, code, stop_all)
                    return
                if self._clock.monotonic() - began >= STEADY_SECONDS:
                    delays = self._delays()
                delay = next(delays)
                slot.restarts += 1
                slot.state = "backoff"
                telemetry.service_restarted(
                    service=slot.service.name, error=cause, restarts=slot.restarts, delay_seconds=delay
                )
                await pause(self._clock, slot.stop, delay)
            else:
                break
        slot.state = "stopped" if slot.stop.is_set() else "done"

    def _fail(self, slot: _Slot, error: BaseException, code: int, stop_all: asyncio.Event) -> None:
        slot.state = "failed"
        if self._exit_code == EXIT_OK:  # the first cause counts; what fails during the shutdown is a consequence
            self._exit_code = code
        telemetry.service_failed(service=slot.service.name, error=error, exit_code=code)
        stop_all.set()

    async def _stop_in_phases(self, hurry: asyncio.Event) -> None:
        began = self._clock.monotonic()
        phases = sorted({slot.service.phase for slot in self._slots})
        for later, phase in zip(reversed(range(len(phases))), phases, strict=True):
            slots = [slot for slot in self._slots if slot.service.phase == phase]
            for slot in slots:
                slot.stop.set()
            until = began + self._deadline_seconds * (1 - later * PHASE_RESERVE)
            if not await self._drain(slots, until, hurry):
                await self._cancel(slots if not hurry.is_set() else self._slots, hurry)
            names = [slot.service.name for slot in slots]
            telemetry.phase_stopped(phase=phase, services=names, seconds=self._clock.monotonic() - began)

    async def _drain(self, slots: Sequence[_Slot], until: float, hurry: asyncio.Event) -> bool:
        """Wait for `slots` until the monotonic time `until`, naming who remains. Whether all of them are done."""
        name_at = self._clock.monotonic() + NAME_EVERY_SECONDS
        while waiting := [slot for slot in slots if slot.busy]:
            now = self._clock.monotonic()
            if now >= until or hurry.is_set():
                return False
            if now >= name_at:
                telemetry.straggling(services=[slot.service.name for slot in waiting], seconds_left=until - now)
                name_at = now + NAME_EVERY_SECONDS
            tasks = [slot.task for slot in waiting if slot.task is not None]
            await self._first(hurry, tasks=tasks, seconds=min(until, name_at) - now)
        return True

    async def _cancel(self, slots: Sequence[_Slot], hurry: asyncio.Event) -> None:
        """Cancel by name. Cancellation is the last word of asyncio: a task that ignores it is the process's to end."""
        late = [slot for slot in slots if slot.busy]
        if not late:
            return
        reason = "interrupted a second time" if hurry.is_set() else "the time for stopping is over"
        telemetry.cancelled(services=[slot.service.name for slot in late], reason=reason)
        if hurry.is_set() and self._exit_code == EXIT_OK:
            self._exit_code = EXIT_INTERRUPTED
        for slot in late:
            slot.stop.set()
            if slot.task is not None:
                slot.task.cancel()
        await asyncio.gather(*(_ended(slot) for slot in late))

    async def _wait_all(self) -> None:
        await asyncio.gather(*(_ended(slot) for slot in self._slots))
        self._idle.set()

    async def _first(
        self, *events: asyncio.Event, tasks: Sequence[asyncio.Task[None]] = (), seconds: float | None = None
    ) -> None:
        """Return when one of `events` is set, one of `tasks` has ended, or `seconds` have passed."""
        loop = asyncio.get_running_loop()
        own: list[asyncio.Task[object]] = [loop.create_task(event.wait()) for event in events]
        if seconds is not None:
            own.append(loop.create_task(self._clock.sleep(seconds)))
        try:
            await asyncio.wait((*own, *tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in own:
                task.cancel()
            await asyncio.gather(*own, return_exceptions=True)


def _asked_to_end() -> bool:
    """Whether this task is being cancelled; else a CancelledError came from within, and is a failure like any other."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _ended(slot: _Slot) -> None:
    """Wait for a slot's task without becoming its owner: cancelling the waiter does not cancel the service."""
    if slot.task is not None:
        await asyncio.wait((slot.task,))


def _report(service: Reports) -> Mapping[str, object]:
    return {"report": dict(service.status())}
