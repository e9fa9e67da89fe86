"""The control port's job `features`: a change of the feature store, one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from features.jobs import Report, job_of, run
from lake.writer import LakeWriter
from runtime.clock import Clock
from runtime.threads import Line


def control_job(writer: LakeWriter, clock: Clock) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the daemon's control port runs."""
    line = Line()

    async def change(arguments: Mapping[str, Any], progress: Report) -> object:
        job = job_of(arguments)
        what = "another change of the feature store"
        done = await line.run(what, partial(progress, 0, 1), lambda: run(writer, job, clock.now(), progress))
        return msgspec.to_builtins(done)

    return change
