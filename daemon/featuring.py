"""The control port's job `features`: a change of the feature store, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from features.jobs import Report, job_of, run
from lake.writer import LakeWriter
from runtime.clock import Clock


def control_job(writer: LakeWriter, clock: Clock) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the daemon's control port runs."""
    turn = asyncio.Lock()

    async def change(arguments: Mapping[str, Any], progress: Report) -> object:
        job = job_of(arguments)
        async with turn:
            return msgspec.to_builtins(await asyncio.to_thread(run, writer, job, clock.now(), progress))

    return change
