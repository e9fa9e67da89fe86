"""The control port's job `import`: a file of other origin into the lake, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import msgspec

from collectors.files.importing import Report, Request, take_in
from lake.errors import WrongQuestion
from lake.writer import LakeWriter
from runtime.clock import Clock
from runtime.threads import Line


def request_of(arguments: Mapping[str, Any]) -> Request:
    """Raises WrongQuestion for what is no request."""
    try:
        return msgspec.convert(arguments, Request)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"this is no request for an import: {error}", "dl import makes them") from error


def control_job(
    writer: LakeWriter, executor: Executor, node: str, clock: Clock
) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the daemon's control port runs."""
    line = Line()

    async def take(arguments: Mapping[str, Any], progress: Report) -> object:
        request = request_of(arguments)
        left = threading.Event()
        try:
            done = await line.run(
                f"the import of {request.path}", partial(progress, 0, 1),
                lambda: take_in(writer, executor, node, clock.now(), request, progress, left.is_set),
            )  # fmt: skip
        finally:
            left.set()  # a thread cannot be cancelled: it is told
        return msgspec.to_builtins(done)

    return take
