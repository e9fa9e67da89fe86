"""Safe mode: after several failed starts in a row only raw data are collected, until the run has proven itself.

A start counts as failed until it has run for a while or ended as asked. What fails most is what works on stored data,
so that is what waits: transforming, compacting, polls. Events and frames go on to the disk meanwhile, and everything
is made up for afterwards. The count is `.starts.json` in the lake; see
docs/decisions/0015-safe-mode-collects-and-nothing-else.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from collectors.config import SourceConfig
from daemon.config import SafeModeConfig
from lake import durable
from lake.errors import LakeError
from runtime import health, metrics
from runtime.clock import Clock, pause
from runtime.service import EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_LOCKED, EXIT_OK, Reports, Service
from runtime.threads import to_the_end

STARTS = ".starts.json"
CLEAN = (EXIT_OK, EXIT_INTERRUPTED)
NO_FAILURE = (EXIT_CONFIG, EXIT_LOCKED)
"""Ends that safe mode would not have prevented, and that nothing but a person ends."""
POLLED = ("open_interest", "funding_rate")


class Starts(msgspec.Struct, frozen=True):
    """What is kept: the starts that failed in a row, the present one included until it has proven itself."""

    failed: int = 0
    at: int = 0


class SafeMode:
    """A service that ends safe mode and forgets failures in time; `gate` is set while the daemon does everything."""

    name = "safe_mode"
    phase = 3

    def __init__(self, root: Path, config: SafeModeConfig, clock: Clock) -> None:
        """Counts this start; hold the lake's lock. Raises StorageFailed."""
        self.gate = asyncio.Event()
        self.on_leave: Sequence[Callable[[], Awaitable[None]]] = ()
        """Called once when safe mode is left, after `gate` was set."""
        self._path = root / STARTS
        self._config = config
        self._clock = clock
        self._before = read(self._path).failed
        self._began = clock.monotonic()
        self._asked = asyncio.Event()
        if not config.failed_starts or self._before < config.failed_starts:
            self.gate.set()
        else:
            health.safe_mode_entered(failed=self._before, minutes=config.leave_minutes)
        metrics.SAFE_MODE.set(self.active)
        self._keep(self._before + 1)

    @property
    def active(self) -> bool:
        return not self.gate.is_set()

    def ended(self, exit_code: int) -> None:
        """The run is over. A clean end is no failure, and one that a person has to see to counts for nothing."""
        if exit_code in CLEAN:
            self._keep(0)
        elif exit_code in NO_FAILURE:
            self._keep(self._before)

    async def run(self, stop: asyncio.Event) -> None:
        if self.active:
            await self._until_left(stop)
        if not await pause(self._clock, stop, self._config.steady_seconds):
            await to_the_end(self._keep, 0)
            await stop.wait()

    def leave(self) -> bool:
        """Leave now; False where it is not on."""
        self._asked.set()
        return self.active

    async def job(self, _arguments: Mapping[str, Any], _progress: object) -> object:
        """`resume` of the control port."""
        return {"safe_mode_left": self.leave()}

    def status(self) -> Mapping[str, object]:
        left = self._config.leave_minutes * 60 - (self._clock.monotonic() - self._began)
        return {
            "active": self.active,
            "failed_starts": self._before,
            "leaves_in_seconds": max(0, round(left)) if self.active else None,
        }

    def said(self) -> str:
        """One line for the service manager and /ready; nothing where all runs."""
        if not self.active:
            return ""
        return f"safe mode after {self._before} failed starts: raw data are collected, nothing else is done"

    def of(self, sources: Sequence[SourceConfig]) -> list[SourceConfig]:
        """What of `sources` is collected now: in safe mode what streams bring, and the instruments that it takes."""
        if not self.active:
            return list(sources)
        found = []
        for source in sources:
            kinds = [kind for kind in source.kinds if kind not in POLLED]
            if kinds:
                polls = source.polls.model_copy(update={"depth_seconds": None, "server_time_seconds": None})
                found.append(source.model_copy(update={"kinds": kinds, "polls": polls}))
        return found

    async def _until_left(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(_relay(stop, self._asked))
            asked = await pause(self._clock, self._asked, self._config.leave_minutes * 60)
            relay.cancel()
        if stop.is_set():
            return
        # one more failure and it is on again: what had failed before may fail again at once
        await to_the_end(self._keep, max(0, self._config.failed_starts - 1))
        self.gate.set()
        metrics.SAFE_MODE.set(0)
        health.safe_mode_left(
            reason="asked to" if asked else f"{self._config.leave_minutes:g} minutes without a failure"
        )
        for told in self.on_leave:
            await told()

    def _keep(self, failed: int) -> None:
        """Never worth ending the process for: a start that cannot count itself goes on."""
        try:
            durable.write_file(self._path, msgspec.json.encode(Starts(failed, self._clock.now())) + b"\n")
        except LakeError as error:
            health.start_uncounted(reason=str(error))


class Held:
    """A service that does nothing until `gate` is set."""

    def __init__(self, service: Service, gate: asyncio.Event) -> None:
        self.name = service.name
        self.phase = service.phase
        self._service = service
        self._gate = gate

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait()) for event in (self._gate, stop)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not stop.is_set():
            await self._service.run(stop)

    def status(self) -> Mapping[str, object]:
        own = dict(self._service.status()) if isinstance(self._service, Reports) else {}
        return {**own, "waits_for": None if self._gate.is_set() else "the end of safe mode"}


def read(path: Path) -> Starts:
    """What is kept there; nothing where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Starts)
    except (OSError, msgspec.MsgspecError):
        return Starts()


async def _relay(one: asyncio.Event, other: asyncio.Event) -> None:
    await one.wait()
    other.set()
