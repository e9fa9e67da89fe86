"""Loopback HTTP: /health (the loop turns), /ready (everything runs), /metrics (Prometheus), /status (JSON)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from daemon.errors import StartFailed
from daemon.status import Status
from lake.errors import LakeError
from runtime import guarding, metrics
from runtime.redaction import redacted

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer: it is data for programs, never a page, and nobody else's page may use it."""
MAX_TARGET = 4 * 1024
"""Bytes of a request line, and of a header: nothing that is asked here needs more."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_FOREIGN = frozenset({"cross-site", "same-site"})


class HttpService:
    """Serves `status` until told to stop. The socket is bound by `bind`, so that a taken port is known at the start."""

    name = "http"
    phase = 3

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._status: Status | None = None
        self.address = ""

    async def bind(self, status: Status) -> None:
        """Listen. Raises StartFailed where the port is taken."""
        self._status = status
        app = guarded()
        app.router.add_get("/health", self._health)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._report)
        self._runner, self.address = await listen(app, self._host, self._port, "set http.port to another, or to 0")

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        return _json({"health": "ok"})

    async def _ready(self, _request: web.Request) -> web.Response:
        assert self._status is not None
        ready, why = self._status.ready()
        return _json(why, 200 if ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics.exposition(), headers=headers)

    async def _report(self, _request: web.Request) -> web.Response:
        assert self._status is not None
        try:
            return _json(await asyncio.to_thread(self._status.report, self._status.services()))
        except LakeError as error:
            return _json({"error": redacted(str(error))}, 503)


def guarded(*, most: int = 1024) -> web.Application:
    """An application for programs on this machine; a request's body may have `most` bytes."""
    app = web.Application(middlewares=[only_local, in_words], client_max_size=most)
    app.on_response_prepare.append(with_headers)
    return app


async def listen(
    app: web.Application, host: str, port: int, hint: str, target: int = MAX_TARGET, *, cancelling: bool = False
) -> tuple[web.AppRunner, str]:
    """Start serving `app`; the runner to clean up and its address `http://host:port`.

    A request line may have `target` bytes; with `cancelling` an answer that nobody waits for any more is given up.
    """
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=1.0, max_line_size=target, max_field_size=MAX_TARGET,
        handler_cancellation=cancelling,
    )  # fmt: skip
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        code = error.errno or 0  # of the system's own asyncio's sentence names the place again
        why = os.strerror(code) if code > 0 else error.strerror or error
        raise StartFailed(f"cannot listen on {host}:{port}: {why} ({hint})") from error
    bound = runner.addresses[0]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return runner, f"http://{shown}:{bound[1]}"


@web.middleware
async def only_local(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a web page made the browser send: a foreign Host name (DNS rebinding), any Origin, another site."""
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    foreign = request.headers.get("Sec-Fetch-Site", "") in _FOREIGN
    if host.strip("[]") not in _LOCAL or "Origin" in request.headers or foreign:
        guarding.request_refused(path=request.path, why="it comes from a web page or another machine")
        return _json({"error": "only for programs on this machine"}, 403)
    return await handler(request)


@web.middleware
async def in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong is one sentence: no page of a library's, no traceback (it is in the log)."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json({"error": error.reason}, error.status)
    except Exception as error:  # noqa: BLE001 - a defect: the asker learns that much, the log the rest
        guarding.request_failed(path=request.path, error=error)
        return _json({"error": "internal error; the log says more"}, 500)


async def with_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """What every answer says; what the server is made of it does not say."""
    response.headers.update(HEADERS)
    response.headers.popall("Server", None)


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value) + b"\n"
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json"})
