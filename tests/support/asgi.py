"""A client of ASGI applications: requests by hand, no socket, every message of the answer as it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import msgspec


class Answer(msgspec.Struct):
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    pieces: int

    def json(self) -> Any:
        return json.loads(self.body)


class Asgi:
    """Asks an application as an HTTP server would."""

    def __init__(self, app: Any, host: str = "127.0.0.1:8572", headers: Mapping[str, str] | None = None) -> None:
        self.app = app
        self.host = host
        self.headers = dict(headers or {})

    async def ask(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: bytes = b"", **headers: str
    ) -> Answer:
        """`headers` with _ for -; None leaves out. `path` is decoded, as a server gives it."""
        given = {"host": self.host, **self.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        if body:
            given.setdefault("content-length", str(len(body)))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": urlencode(query or {}, doseq=True).encode(),
            "headers": [(name.lower().encode(), text.encode()) for name, text in given.items() if text is not None],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8572),
        }  # fmt: skip
        told = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []
        ended = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if told:
                return told.pop(0)
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        await self.app(scope, receive, send)
        start = next(one for one in sent if one["type"] == "http.response.start")
        bodies = [one.get("body", b"") for one in sent if one["type"] == "http.response.body"]
        headers_back = {name.decode().lower(): text.decode() for name, text in start["headers"]}
        return Answer(start["status"], headers_back, b"".join(bodies), len([one for one in bodies if one]))

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.ask("GET", path, query)


@asynccontextmanager
async def alive(app: Any) -> AsyncIterator[None]:
    """The application's start and end around a block."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, told.get, said.put))
    await told.put({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    yield
    await told.put({"type": "lifespan.shutdown"})
    await said.get()
    await task
