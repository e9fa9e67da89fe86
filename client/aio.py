"""`AsyncDatalakeClient`: the verbs of `DatalakeClient`, awaited; many questions at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import aiohttp
import pyarrow as pa
from yarl import URL

from client import asking, verbs
from client.asking import Request, Time
from client.errors import AnswerBroken, ServerBusy, Unreachable
from client.verbs import Asked, Day, Market, Row, Rows
from market.session import Gap

T = TypeVar("T")
Progress = Callable[[int], None]
_PIECE = 1024 * 1024
_BROKEN = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)


class AsyncDatalakeClient:
    """A lake at an address, for one event loop; close it, or use it in an `async with` block."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8572",
        token: str | None = None,
        *,
        timeout: float = 60.0,
        progress: Progress | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,  # noqa: TID251 - in somebody else's process
    ) -> None:
        """`timeout`: seconds without a byte. Raises ClientError (no address)."""
        self._server = asking.server(address)
        self._headers = asking.headers(token)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        self._progress = progress
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None

    # --- rows ---

    async def read(self, kind: str, **question: Unpack[Rows]) -> pa.Table:
        """`Lake.read`. Raises ClientError."""
        return await self._ask(verbs.read(kind, question))

    async def bars(self, interval: str = "1m", **question: Unpack[Rows]) -> pa.Table:
        """`Lake.bars`. Raises ClientError."""
        return await self._ask(verbs.bars(interval, question))

    async def book(
        self, symbol: str, *, at: Time, exchange: str | None = None, market_type: str | None = None,
        depth: int | None = None,
    ) -> Row:  # fmt: skip
        """`Lake.book`, as a mapping. Raises ClientError: NotFound where the stored rows do not prove it."""
        return await self._ask(verbs.book(symbol, at, exchange=exchange, market_type=market_type, depth=depth))

    async def sql(self, query: str) -> pa.Table:
        """`Lake.sql`, where the server allows it (`serve.sql`). Raises ClientError."""
        return await self._ask(verbs.sql(query))

    async def tail(self, **question: Any) -> AsyncIterator[Row]:
        """Events as they come, without an end: `exchange, market_type, kind, symbol`. Raises ClientError."""
        request = asking.get("/live/tail", **question)
        url = self._server.base.replace("http", "ws", 1) + request.target
        try:
            async with self._opened().ws_connect(url, headers=self._headers, max_msg_size=0) as socket:
                async for message in socket:
                    yield asking.json_of(message.data.encode())
        except aiohttp.ClientError as error:
            raise Unreachable(f"{self._server.base} does not tell: {error}") from error

    # --- what is held, and how sure it is ---

    async def datasets(self, **question: Any) -> list[Row]:
        """Datasets by `exchange, symbol, market_type, kind, q, sort`; all pages. Raises ClientError."""
        return await self._all(lambda offset: verbs.datasets(offset, question))

    async def gaps(self, *, kind: str | None = None, state: str = "open", **question: Unpack[Market]) -> list[Gap]:
        """`Lake.gaps`. Raises ClientError."""
        return await self._all(lambda offset: verbs.gaps(offset, question, kind=kind, state=state))

    async def coverage(self, *, kind: str | None = None, **question: Unpack[Market]) -> list[Row]:
        """`Lake.coverage`, as mappings. Raises ClientError."""
        return await self._all(lambda offset: verbs.page("/coverage", "coverage", offset, question, kind=kind))

    async def versions(self, kind: str, **question: Unpack[Market]) -> list[Row]:
        """`Lake.versions`, as mappings. Raises ClientError."""
        path = f"/versions/{asking.part(kind)}"
        return await self._all(lambda offset: verbs.page(path, "versions", offset, question))

    async def certificate(self, kind: str, *, date: Time, **question: Unpack[Day]) -> Row:
        """`Lake.certificate`, as a mapping. Raises ClientError: NotFound where that day has none."""
        return await self._ask(verbs.day("certificates", kind, date, question))

    async def lineage(self, kind: str, *, date: Time, **question: Unpack[Day]) -> Row:
        """`Lake.lineage`, as a mapping. Raises ClientError: NotFound where that day is not held."""
        return await self._ask(verbs.day("lineage", kind, date, question))

    async def status(self) -> Row:
        """The lake in numbers, and who writes it. Raises ClientError."""
        return await self._ask(verbs.ask("/status"))

    # --- feature sets ---

    async def features(self, **question: Any) -> list[Row]:
        """Versions of feature sets by `exchange, symbol, market, feature_set, version`. Raises ClientError."""
        held: list[Row] = (await self._ask(verbs.ask("/features", limit=1000, **question)))["features"]
        return held

    async def feature(self, feature_id: str, **question: Any) -> pa.Table:
        """The values of one version; `start, end, columns, known_by`. Raises ClientError."""
        return await self._ask(verbs.rows(f"/features/{asking.part(feature_id)}/download", question))

    # --- jobs of the daemon ---

    async def jobs(self, state: str | None = None) -> list[Row]:
        """All jobs, each with how far it is. Raises ClientError."""
        held: list[Row] = (await self._ask(verbs.ask("/jobs", state=state, limit=1000)))["jobs"]
        return held

    async def job(self, job: str) -> Row:
        """One job, its parts and attempts. Raises ClientError."""
        return await self._ask(verbs.ask(f"/jobs/{asking.part(job)}"))

    async def start(self, work: str, arguments: Row) -> Row:
        """Ask the daemon for a work. Raises ClientError: Conflict without a daemon."""
        return await self._ask(verbs.tell("/jobs", {"work": work, "arguments": arguments}))

    async def download(self, exchange: str, symbols: str | list[str], **asked: Any) -> Row:
        """Ask for the past of symbols, of any venue: `market, data_type, kinds, start_date, end_date, full_history`."""
        named = [symbols] if isinstance(symbols, str) else symbols
        return await self._ask(verbs.tell("/ingest/bulk-download", {"exchange": exchange, "symbols": named, **asked}))

    async def move(self, job: str, action: str) -> Row:
        """`pause`, `resume` or `cancel` a job. Raises ClientError."""
        return await self._ask(verbs.tell(f"/jobs/{asking.part(job)}/{asking.part(action)}"))

    # --- asking ---

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self._session

    async def _all(self, page: Callable[[int], Asked[verbs.Found[T]]]) -> list[T]:
        """All pages."""
        found: list[T] = []
        while True:
            rows, total = await self._ask(page(len(found)))
            found += rows
            if not rows or len(found) >= total:
                return found

    async def _ask(self, asked: Asked[T]) -> T:
        """The whole answer; a question is asked again where the server is busy, does not answer or breaks off."""
        pauses = asking.waits(random.random())  # noqa: S311 - not a secret: it keeps clients apart
        while True:
            try:
                return asked.made(await self._whole(asked.request))
            except (ServerBusy, Unreachable, AnswerBroken) as error:
                pause = next(pauses, None)
                if pause is None or (asked.request.method != "GET" and not isinstance(error, ServerBusy)):
                    raise
                await self._sleep(asking.wait_of(error.retry_after, pause))

    async def _whole(self, request: Request) -> bytes:
        headers = {**self._headers, "Content-Type": "application/json"} if request.body else self._headers
        url = self._server.base + request.target
        pieces: list[bytes] = []
        count = 0
        try:
            async with self._opened().request(
                request.method,
                URL(url, encoded=True),
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                async for piece in answer.content.iter_chunked(_PIECE):
                    pieces.append(piece)
                    count += len(piece)
                    if self._progress is not None:
                        self._progress(count)
                status, again = answer.status, answer.headers.get("Retry-After")
        except _BROKEN as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self._server.base} does not answer: {error or type(error).__name__}") from error
        if not 200 <= status < 300:
            raise asking.error_of(status, b"".join(pieces), again)
        return b"".join(pieces)
