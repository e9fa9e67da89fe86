"""Space watch: looks how full the lake's disk is, says so to what writes, and keeps the reserve.

What each level means to whom is in docs/storage.md. Only looking, releasing and reserving happen here: the collectors
give up kinds and hold data back, transformer and compactor wait, each when it is told of the level.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from collectors.service import CollectorsService
from collectors.shedding import ORDER, stopped_kinds
from daemon.config import DiskConfig
from lake import durable
from lake.ballast import Ballast
from lake.errors import StorageFailed
from lake.refused import Sort
from lake.space import SLACK, Level, Space, judge
from market import times
from runtime import pressing
from runtime.clock import Clock, pause
from runtime.service import exit_code_of

UNRESERVED_SECONDS = 60.0
"""Between attempts to set the ballast aside where there is room and the system refuses."""


class SpaceWatch:
    """A service; `space` is the disk as it was last found."""

    name = "space"
    phase = 3

    def __init__(self, clock: Clock, root: Path, config: DiskConfig, collectors: CollectorsService | None) -> None:
        self.space = Space()
        self._clock = clock
        self._root = root
        self._config = config
        self._limits = config.limits()
        self._collectors = collectors
        self._ballast = Ballast(root, self._limits.ballast)
        self._released = False
        """Whether the ballast was given up since it was last whole."""
        self._reserve_at = clock.monotonic()
        if collectors is not None:
            collectors.hold_by(self.hold)

    async def run(self, stop: asyncio.Event) -> None:
        await self.look()
        while not await pause(self._clock, stop, self._config.check_seconds):
            await self.look()

    async def look(self) -> None:
        """Look once, and tell whoever has to know."""
        before = self.space
        self.space = await asyncio.to_thread(self._look, before)
        if (self.space.level, self.space.stopped) != (before.level, before.stopped):
            stopped = stopped_kinds(self.space.stopped)
            pressing.disk_level(
                level=self.space.level, before=before.level, available=self.space.available, total=self.space.total,
                stopped=sorted(stopped),
            )  # fmt: skip
            if self._collectors is not None:
                self._collectors.press(stopped)

    def hold(self) -> Sort | None:
        """Why no data may be written: the disk is full, or was, and the reserve is not whole again."""
        return "disk_full" if self.space.level is Level.full or self._released else None

    def compaction_waits(self) -> bool:
        return self.space.level >= Level.low

    def transform_waits(self) -> bool:
        return self.space.level >= Level.critical

    def impaired(self) -> str | None:
        """See `runtime.service.Impairable`."""
        return self.hold()

    def status(self) -> Mapping[str, object]:
        """The disk, the reserve, what waits for room, and the outage if there is one."""
        space = self.space
        outage = self._collectors.outage if self._collectors is not None else None
        waits = {
            **dict.fromkeys(("compaction", "scrub", "reproduction"), self.compaction_waits()),
            **dict.fromkeys(("transform", "backup"), self.transform_waits()),
            "data": self.hold() is not None,
        }
        return {
            "level": space.level.name,
            "free_bytes": space.free,
            "total_bytes": space.total,
            "available_bytes": space.available,
            "ballast_bytes": self._ballast.held,
            "waits": [name for name, waiting in waits.items() if waiting],
            "stopped_kinds": sorted(stopped_kinds(space.stopped)),
            "outage": None
            if outage is None
            else {
                "cause": outage.cause, "reason": outage.reason, "since": times.text(outage.since),
                "attempts": outage.attempts,
            },
        }  # fmt: skip

    def _look(self, before: Space) -> Space:
        try:
            found = self._judge(before)
            refused = self._collectors is not None and self._collectors.impaired() == "disk_full"
            if (found.level is Level.full or refused) and self._ballast.release():
                self._released = True
                pressing.ballast_released(nbytes=self._limits.ballast)
                found = self._judge(found)
            elif found.level < Level.full and self._may_reserve():
                found = self._judge(found)
        except StorageFailed:
            return before  # what cannot even be asked will be told by whoever writes
        pressing.space(level=found.level, free=found.free, total=found.total, ballast=self._ballast.held)
        return found

    def _judge(self, before: Space) -> Space:
        return judge(durable.room(self._root), self._limits, len(ORDER), held=self._ballast.held, before=before)

    def _may_reserve(self) -> bool:
        """Set the reserve aside where it is not whole; whether that has changed anything."""
        if self._ballast.held == self._limits.ballast:
            self._released = False
            return False
        now = self._clock.monotonic()
        if not self._released and now < self._reserve_at:
            return False
        self._reserve_at = now + UNRESERVED_SECONDS
        if not self._ballast.reserve(int(self._limits.full * SLACK)):
            return False
        self._released = False
        pressing.ballast_reserved(nbytes=self._limits.ballast)
        return True


def fatal(error: BaseException) -> int | None:
    """The exit code of what must end the process; storage that takes nothing does not: it is tried again."""
    if isinstance(error, BaseExceptionGroup):
        return next((code for inner in error.exceptions if (code := fatal(inner)) is not None), None)
    return None if isinstance(error, StorageFailed) else exit_code_of(error)
