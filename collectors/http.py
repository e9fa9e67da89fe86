"""HTTP for sessions: one request in, status, headers and a bounded body out; never more than a venue may be asked.

A body is capped after decompression, a redirect never leaves its host, and a host that answered 429 or 418 is left
alone for as long as it said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
from yarl import URL

from runtime import telemetry
from runtime.clock import Clock

MAX_BODY = 32 * 1024 * 1024
MAX_REDIRECTS = 3
TIMEOUT_SECONDS = 30.0
DEFAULT_WAIT_SECONDS = 60.0
MAX_WAIT_SECONDS = 3 * 86_400.0
_CHUNK = 64 * 1024
_LIMITED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT)


class HttpFailed(Exception):
    """No usable answer: no connection, too slow, too large, or the host asked for silence."""


class Answer(msgspec.Struct, frozen=True):
    """What came back. Header names are in lower case; a status other than 200 is an answer too."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """A client for the REST routes of one market. Use it as an async context manager in one event loop."""

    def __init__(
        self,
        clock: Clock,
        exchange: str,
        market_type: str,
        *,
        max_body: int = MAX_BODY,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._clock = clock
        self._exchange = exchange
        self._market_type = market_type
        self._max_body = max_body
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._silent_until: dict[str, float] = {}
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(timeout=self._timeout, trust_env=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def fetch(self, method: str, url: str) -> Answer:
        """The answer to one request, redirects inside its host followed. Raises HttpFailed."""
        target = URL(url, encoded=True)
        for _ in range(MAX_REDIRECTS + 1):
            self._may_ask(target)
            answer, location = await self._once(method, target)
            if location is None:
                return answer
            moved = target.join(URL(location))
            if (moved.scheme, moved.host, moved.port) != (target.scheme, target.host, target.port):
                raise HttpFailed(f"{target} redirects to another host: {moved.host}")
            target = moved
        raise HttpFailed(f"{url} redirects more than {MAX_REDIRECTS} times")

    def _may_ask(self, target: URL) -> None:
        left = self._silent_until.get(target.host or "", 0.0) - self._clock.monotonic()
        if left > 0:
            raise HttpFailed(f"{target.host} asked for silence, {left:.0f} s are left")

    async def _once(self, method: str, target: URL) -> tuple[Answer, str | None]:
        if self._client is None:
            raise RuntimeError("Http is used outside its context")
        try:
            async with self._client.request(method, target, allow_redirects=False) as response:
                body = await self._read(response)
                headers = {name.lower(): value for name, value in response.headers.items()}
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise HttpFailed(f"{target}: {type(error).__name__} {error}".strip()) from error
        if response.status in _LIMITED:
            self._be_silent(target, response.status, headers.get("retry-after"))
        location = headers.get("location") if 300 <= response.status < 400 else None
        return Answer(response.status, headers, body), location

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._max_body:
                raise HttpFailed(f"{response.url}: more than {self._max_body:,} bytes")
        return bytes(body)

    def _be_silent(self, target: URL, status: int, retry_after: str | None) -> None:
        """A ban (418) is waited out with a tenth on top."""
        try:
            seconds = min(max(float(retry_after or DEFAULT_WAIT_SECONDS), 1.0), MAX_WAIT_SECONDS)
        except ValueError:
            seconds = DEFAULT_WAIT_SECONDS
        if status == HTTPStatus.IM_A_TEAPOT:
            seconds *= 1.1
        self._silent_until[target.host or ""] = self._clock.monotonic() + seconds
        telemetry.rate_limited(
            exchange=self._exchange, market_type=self._market_type, status=status, wait_seconds=seconds
        )
