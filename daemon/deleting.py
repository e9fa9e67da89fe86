"""The control port's job `delete`: closed days of one dataset, one deletion at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from compactor.deleting import Deletion, delete
from lake.errors import WrongQuestion
from lake.writer import LakeWriter
from runtime.clock import Clock


def control_job(
    writer: LakeWriter, clock: Clock
) -> Callable[[Mapping[str, Any], Callable[[int, int, str], None]], Awaitable[object]]:
    """What the daemon's control port runs."""
    turn = asyncio.Lock()

    async def run(arguments: Mapping[str, Any], _progress: object) -> object:
        try:
            asked = msgspec.convert(dict(arguments), Deletion)
        except msgspec.ValidationError as error:
            raise WrongQuestion(f"this names nothing to delete: {error}", "dl delete makes it") from error
        async with turn:
            return msgspec.to_builtins(await asyncio.to_thread(delete, writer, asked, clock.now()))

    return run
