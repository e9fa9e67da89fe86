"""The control port's job `delete`: closed days of one dataset, one deletion at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from compactor.deleting import Deletion, delete
from lake.errors import WrongQuestion
from lake.writer import LakeWriter
from runtime.clock import Clock
from runtime.threads import Line


def control_job(
    writer: LakeWriter, clock: Clock
) -> Callable[[Mapping[str, Any], Callable[[int, int, str], None]], Awaitable[object]]:
    """What the daemon's control port runs."""
    line = Line()

    async def run(arguments: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> object:
        try:
            asked = msgspec.convert(dict(arguments), Deletion)
        except msgspec.ValidationError as error:
            raise WrongQuestion(f"this names nothing to delete: {error}", "dl delete makes it") from error
        done = await line.run("another deletion", partial(progress, 0, 1), lambda: delete(writer, asked, clock.now()))
        return msgspec.to_builtins(done)

    return run
