"""The daemon's own repair without the daemon: a look at the open gaps, and the jobs that it made carried out."""

from __future__ import annotations

import asyncio
from typing import Any

from daemon.config import Config
from daemon.job_repair import RepairWork
from daemon.jobs import carried
from daemon.repair_service import RepairService
from daemon.repairing import Done
from lake.job_book import JobBook
from lake.job_standing import GAPS
from lake.jobs import JobRow
from lake.writer import LakeWriter


async def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("nobody else is asked")


class Rounds:
    """Of one lake, as one process has it."""

    def __init__(
        self, writer: LakeWriter, clock: Any, collectors: Any, *, archive: Any = never, read: Any = never,
        config: Config | None = None,
    ) -> None:  # fmt: skip
        told = config or Config()
        self.writer, self.clock, self.book = writer, clock, JobBook(writer)
        self.work = RepairWork(told, writer, self.book, clock, collectors, archive, read)
        self.woken: list[str] = []
        self.service = RepairService(
            told, writer, self.book, clock, self.work, self.woken.append, lambda: collectors.outage is not None
        )

    def begin(self) -> None:
        """As the daemon's jobs do when they start."""
        self.book.settle(self.clock.now())

    async def once(self) -> Done:
        """A look, and then what it asks for."""
        done = await self.service.once(asyncio.Event())
        await self.carry_out()
        return done

    async def carry_out(self) -> None:
        """What is queued."""
        for job in self.writer.manifest.jobs("queued", work=GAPS):
            await self._one(job)

    async def _one(self, job: JobRow) -> None:
        async def work() -> Done:
            return await self.work.run(job, lambda *_: None, asyncio.Event())

        await carried(self.writer, self.book, self.clock, job, work, lambda: "queued")

    def jobs(self) -> list[JobRow]:
        return self.writer.manifest.jobs(work=GAPS)
