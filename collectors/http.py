"""HTTP for sessions: one request in, status, headers and a bounded body out; never more than a venue may be asked.

A body is capped after decompression and is whole or no answer, a redirect never leaves its host, and a host that
answered 429 or 418 is left alone for as long as it said, over restarts too. What answers say of the used weight goes
to the budget from here, whoever asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import aiohttp
import msgspec
from yarl import URL

from collectors import transports
from collectors.bans import LIMITED
from collectors.bodies import ACCEPTED, BadBody, Body
from collectors.budget import Budget
from market.session import Limits
from market.times import SECOND
from runtime.clock import Clock

MAX_BODY = 32 * 1024 * 1024
LARGE_BODY = 8 * 1024 * 1024
"""Beyond this an answer goes on alone: many at once, as lists of every market at a start, may each be that large."""
MAX_REDIRECTS = 3
TIMEOUT_SECONDS = 30.0
"""For a whole answer, however steadily it drips."""
SILENCE_SECONDS = 10.0
"""For a connection, and for the next bytes of an answer."""
_CHUNK = 4 * 1024
"""Bytes decoded in one go: of a gzip bomb they become 4 MB, and the loop is not held up for long."""


class HttpFailed(Exception):
    """No usable answer: no connection, too slow, too large, torn, or the host asked for silence."""


class Answer(msgspec.Struct, frozen=True):
    """What came back. Header names are in lower case; a status other than 200 is an answer too."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetching(Protocol):
    """What sessions' requests are carried out by."""

    async def fetch(self, method: str, url: str) -> Answer:
        """The answer to one request. Raises HttpFailed."""
        ...


class Http:
    """A client for the REST routes of one market. Use it as an async context manager in one event loop.

    `limits` are the market's and `budget` is shared by all markets: it knows who asked for silence.
    """

    def __init__(
        self,
        clock: Clock,
        exchange: str,
        market_type: str,
        *,
        limits: Limits | None = None,
        budget: Budget | None = None,
        max_body: int = MAX_BODY,
        timeout: float = TIMEOUT_SECONDS,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._clock = clock
        self._exchange = exchange
        self._market_type = market_type
        self._limits = limits
        self._pool = limits.weight_pool if limits is not None else ""
        self._budget = budget if budget is not None else Budget(clock)
        self._max_body = max_body
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=silence, sock_read=silence)
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            timeout=self._timeout, trust_env=True, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": ACCEPTED}, connector=aiohttp.TCPConnector(ssl=transports.tls()),
        )  # fmt: skip
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
            moved = _joined(target, location)
            if (moved.scheme, moved.host, moved.port) != (target.scheme, target.host, target.port):
                raise HttpFailed(f"{target} redirects to another host: {moved.host}")
            target = moved
        raise HttpFailed(f"{url} redirects more than {MAX_REDIRECTS} times")

    def _may_ask(self, target: URL) -> None:
        left = self._budget.bans.left(_host(target), self._pool)
        if left > 0:
            raise HttpFailed(f"{_host(target)} asked for silence, {left:.0f} s are left")

    async def _once(self, method: str, target: URL) -> tuple[Answer, str | None]:
        if self._client is None:
            raise RuntimeError("Http is used outside its context")
        asked_at = self._clock.now()
        try:
            async with self._client.request(method, target, allow_redirects=False) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._heed(target, response.status, headers, asked_at)  # before the body, which may be a bad one
                body = await self._read(response, headers)
        except BadBody as error:
            raise HttpFailed(f"{target}: the answer {error}") from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise HttpFailed(f"{target}: {self._why(error)}") from error
        location = headers.get("location") if 300 <= response.status < 400 else None
        return Answer(response.status, headers, body), location

    def _heed(self, target: URL, status: int, headers: Mapping[str, str], asked_at: int) -> None:
        """What the answer says of the next ones."""
        if self._limits is not None:
            self._budget.observe(self._limits, headers, asked_at, target.path)
        silences = self._limits.silences if self._limits is not None else {}
        if status in LIMITED or status in silences:
            bans, least = self._budget.bans, silences.get(status, 0) / SECOND
            bans.impose(self._exchange, self._market_type, _host(target), self._pool, status, headers, least)

    async def _read(self, response: aiohttp.ClientResponse, headers: Mapping[str, str]) -> bytes:
        body = Body(headers.get("content-encoding", ""), self._max_body)
        if (response.content_length or 0) > self._max_body:
            raise BadBody(f"has more than {self._max_body:,} bytes")
        async with contextlib.AsyncExitStack() as alone:
            waits = True
            async for chunk in response.content.iter_chunked(_CHUNK):
                body.feed(chunk)
                if waits and body.size > LARGE_BODY:
                    await alone.enter_async_context(self._budget.large)
                    waits = False
                await self._clock.sleep(0)
            return body.whole()

    def _why(self, error: Exception) -> str:
        """The failure as a sentence."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return transports.failure(error.certificate_error, f"//{error.host}").reason
        if isinstance(error, aiohttp.SocketTimeoutError):
            return f"nothing came for {self._timeout.sock_read:g} s"
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"no connection within {self._timeout.sock_connect:g} s"
        if isinstance(error, TimeoutError):
            return f"no whole answer within {self._timeout.total:g} s"
        if isinstance(error, aiohttp.ClientPayloadError):
            return f"the answer is torn ({error})"
        return f"{type(error).__name__} {error}".strip()


def _host(target: URL) -> str:
    """Host and port, the latter where it is not the scheme's own."""
    return target.host_port_subcomponent or ""


def _joined(target: URL, location: str) -> URL:
    try:
        return target.join(URL(location))
    except ValueError as error:
        raise HttpFailed(f"{target} redirects to what is no address: {location[:100]!r}") from error
