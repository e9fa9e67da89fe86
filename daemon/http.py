"""Loopback HTTP: /health (the loop turns), /ready (everything runs), /metrics (Prometheus), /status (JSON)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from daemon.errors import StartFailed
from daemon.status import Status
from lake.errors import LakeError
from runtime import metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


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
        app = web.Application(middlewares=[only_local])
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
        headers = {**HEADERS, "Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics.exposition(), headers=headers)

    async def _report(self, _request: web.Request) -> web.Response:
        assert self._status is not None
        try:
            return _json(await asyncio.to_thread(self._status.report, self._status.services()))
        except LakeError as error:
            return _json({"error": str(error)}, 503)


async def listen(app: web.Application, host: str, port: int, hint: str) -> tuple[web.AppRunner, str]:
    """Start serving `app`; the runner to clean up and its address `http://host:port`."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise StartFailed(f"cannot listen on {host}:{port}: {error.strerror or error} ({hint})") from error
    bound = runner.addresses[0]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return runner, f"http://{shown}:{bound[1]}"


@web.middleware
async def only_local(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request that a web page made the browser send: a foreign Host name (DNS rebinding) or any Origin."""
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if host.strip("[]") not in _LOCAL or "Origin" in request.headers:
        return _json({"error": "only for programs on this machine"}, 403)
    return await handler(request)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value) + b"\n", status=status, headers={**HEADERS, "Content-Type": "application/json"}
    )
