"""The control port: how `dl` asks the process that writes the lake to do something, and watches it happen.

    POST /control/jobs   Authorization: Bearer <token>   {"job": "transform", "arguments": {…}}

on loopback, port and token from the lake's `.lock` (readable by its owner only). The answer is 200 and JSON lines:
any number of `{"progress": {"done": 3, "total": 10, "what": "…"}}`, then one `{"result": …}` or
`{"error": "…", "exit_code": 1}`. A job that was begun goes on when its asker leaves. Heavy ones of a sort follow
each other: the progress of one that waits says until what is over. Jobs: transform, compact, scrub,
import, features, delete, archive, backfill, repair, reconcile, reparse, reload, stop, status (what /status says),
silent (the streams that should send and do not), and job_start, job_pause, job_resume, job_cancel, job_follow
(`daemon.jobs`).
401 without the token, 429 after too many wrong ones (`runtime.guesses`), 400 for a request that is not this, 404 for an
unknown job, 413 for one of more than 64 KB.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from daemon.http import guarded, listen
from runtime import guarding, telemetry
from runtime.clock import Clock
from runtime.guesses import EACH_SECONDS, Guesses
from runtime.redaction import redacted

Progress = Callable[[int, int, str], None]
"""(done, total, what): how far a job is; may be called from any thread."""
Job = Callable[[Mapping[str, Any], Progress], Awaitable[object]]
MAX_BODY = 64 * 1024


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What is posted."""

    job: str
    arguments: dict[str, Any] = {}


class _Feed:
    """What one asker still has to be told: the newest progress (older is forgotten), then the answer."""

    def __init__(self) -> None:
        self._progress: bytes | None = None
        self._answer: bytes | None = None
        self._changed = asyncio.Event()

    def progress(self, line: bytes) -> None:
        self._progress = line
        self._changed.set()

    def answer(self, line: bytes) -> None:
        self._answer = line
        self._changed.set()

    async def lines(self) -> AsyncIterator[bytes]:
        while True:
            await self._changed.wait()
            self._changed.clear()
            line, self._progress = self._progress, None
            if line is not None:
                yield line
            if self._answer is not None:
                yield self._answer
                return


class ControlService:
    """Runs jobs for who has the token. `announce(port, token)` writes down how to reach it."""

    name = "control"
    phase = 3

    def __init__(self, jobs: Mapping[str, Job], announce: Callable[[int, str], None], clock: Clock) -> None:
        self._jobs = dict(jobs)
        self._announce = announce
        self._guesses = Guesses(clock)
        self._token = secrets.token_urlsafe(32)
        self._group: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until told to stop; jobs under way are then cancelled, since their services have ended before."""
        app = guarded(most=MAX_BODY)
        app.router.add_post("/control/jobs", self._post)
        runner, address = await listen(app, "127.0.0.1", 0, "no free port on loopback")
        try:
            async with asyncio.TaskGroup() as self._group:
                await asyncio.to_thread(self._announce, int(address.rpartition(":")[2]), self._token)
                await stop.wait()
                for task in self._running:
                    task.cancel()
        finally:
            self._group = None
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._token.encode()):
            guarding.request_refused(path=request.path, why="its token is wrong or missing")
            if await self._guesses.too_many():
                return _refuse(429, "too many wrong tokens", {"Retry-After": str(int(EACH_SECONDS))})
            return _refuse(401, "wrong or missing token; it is in the lake's .lock")
        try:
            asked = msgspec.json.decode(await request.read(), type=Request)
        except (msgspec.MsgspecError, RecursionError) as error:
            return _refuse(400, str(error))
        job = self._jobs.get(asked.job)
        if job is None:
            return _refuse(404, f"unknown job {asked.job!r}; jobs: {', '.join(sorted(self._jobs))}")
        if self._group is None:
            return _refuse(503, "stopping")
        feed = _Feed()
        task = self._group.create_task(_work(asked, job, feed), name=f"control {asked.job}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        with contextlib.suppress(ConnectionError):  # the asker left; the job goes on
            await response.prepare(request)
            async for line in feed.lines():
                await response.write(line)
            await response.write_eof()
        return response


async def _work(asked: Request, job: Job, feed: _Feed) -> None:
    """Run one job; whatever it raises is its answer."""
    loop = asyncio.get_running_loop()

    def progress(done: int, total: int, what: str) -> None:
        said = _line({"progress": {"done": done, "total": total, "what": what}})
        loop.call_soon_threadsafe(feed.progress, said)

    telemetry.control_job(job=asked.job, state="started")
    try:
        result = await job(asked.arguments, progress)
    except asyncio.CancelledError:
        feed.answer(_line({"error": "the daemon stops", "exit_code": 1}))
        raise
    except Exception as error:  # noqa: BLE001 - the asker gets the error, the daemon goes on
        telemetry.control_job(job=asked.job, state="failed", detail=f"{type(error).__name__}: {error}")
        said = redacted(str(error)) or type(error).__name__
        feed.answer(_line({"error": said, "exit_code": getattr(error, "exit_code", 1)}))
    else:
        telemetry.control_job(job=asked.job, state="done")
        feed.answer(_line({"result": result}))


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode({"error": message}) + b"\n"
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})})
