"""What changes a lake is asked of the process that writes it: the daemon's control port, on loopback.

Port and token are in the lake's `.lock`, which its owner alone may read. Without a daemon nothing is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from api.errors import Refused
from lake.lock import LockInfo, read_lock, seen_lock

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one thing that the daemon says."""
PATIENCE = 3600.0
"""Seconds without a word from the daemon after which it is given up; what it has begun goes on."""
_STATUS = {2: 400, 66: 404}
"""By the exit code that the command of the same work would have; any other is a conflict."""


class Control:
    """The way to the daemon that writes one lake."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def holder(self) -> LockInfo | None:
        """Who writes the lake now."""
        return await asyncio.to_thread(read_lock, self._root)

    async def seen(self) -> tuple[LockInfo | None, str]:
        """Who writes the lake now, as far as this process may know; a sentence where it may not."""
        return await asyncio.to_thread(seen_lock, self._root)

    async def ask(self, job: str, arguments: Mapping[str, Any]) -> Any:
        """What a job of the daemon answers at its end. Raises Refused: no daemon, or why the job failed."""
        async for said in self.follow(job, arguments):
            if "result" in said:
                return said["result"]
        raise Refused(409, "the daemon ended before the job did", "JobFailed")

    async def follow(self, job: str, arguments: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """`{"progress": {"done", "total", "what"}}` as often as the daemon says it, then `{"result": …}`.

        Raises Refused.
        """
        holder = await self.holder()
        if holder is None or not holder.port:
            raise _nobody(holder)
        body = msgspec.json.encode({"job": job, "arguments": dict(arguments)})
        headers = {"Authorization": f"Bearer {holder.token}", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=PATIENCE)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, read_bufsize=MAX_LINE) as session,
                session.post(f"http://127.0.0.1:{holder.port}/control/jobs", data=body, headers=headers) as answer,
            ):
                if answer.status != 200:
                    said = msgspec.json.decode(await answer.read(), type=dict[str, Any])
                    raise Refused(409, f"the daemon does not take this: {said.get('error')}", "JobFailed")
                async for line in answer.content:
                    said = msgspec.json.decode(line, type=dict[str, Any])
                    if "error" in said:
                        status = _STATUS.get(int(said.get("exit_code", 1)), 409)
                        raise Refused(status, str(said["error"]), "JobFailed")
                    yield said
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            why = f"the daemon (process {holder.pid}) does not answer on its control port: {error}"
            raise Refused(409, why, "NoDaemon") from error


def _nobody(holder: LockInfo | None) -> Refused:
    if holder is None:
        return Refused(
            409, "no daemon writes this lake, so nothing can be changed: start one (python -m daemon)", "NoDaemon"
        )
    return Refused(
        409, f"process {holder.pid} writes this lake and takes no jobs: ask again when it has ended", "NoDaemon"
    )
