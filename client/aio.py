"""`AsyncDatalakeClient`: the verbs of `DatalakeClient`, awaited; many questions at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import aiohttp
import pyarrow as pa
from yarl import URL

from client import asking, verbs
from client.asking import Duration, Symbols, Time
from client.errors import AnswerBroken, ServerBusy, Unreachable
from client.verbs import Asked, At, Day, Market, Row, Rows, Source
from client.wire import PIECE, Form, Request
from market.session import Gap

T = TypeVar("T")
Progress = Callable[[int], None]
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

    async def bars(self, interval: Duration = "1m", *, offset: Duration = 0, **question: Unpack[Rows]) -> pa.Table:
        """`Lake.bars`. Raises ClientError."""
        return await self._ask(verbs.bars(interval, offset, question))

    async def join(
        self, sets: Symbols, kind: str = "bar_1m", *, at: At = "open", max_age: Duration | None = None,
        **question: Unpack[Rows],
    ) -> pa.Table:  # fmt: skip
        """`Lake.features.join`: rows with what was known of feature sets at each. Raises ClientError."""
        return await self._ask(verbs.join(sets, kind, question, at=at, max_age=max_age))

    async def batches(self, kind: str, **question: Unpack[Rows]) -> AsyncIterator[pa.RecordBatch]:
        """`Lake.batches`: rows as they come, for what does not fit in memory. Not asked again once they have begun.

        Raises ClientError.
        """
        async with self._answered(verbs.read(kind, question).request) as answer:
            stream = Arriving(answer.content, asyncio.get_running_loop())
            try:
                reader = await asyncio.to_thread(pa.ipc.open_stream, stream)
                while (batch := await asyncio.to_thread(next, reader, None)) is not None:
                    yield batch
            except pa.ArrowInvalid as error:
                raise AnswerBroken(f"the answer is no Arrow stream: {error}") from error
            finally:
                stream.close()

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
        async for _, said in self._events(asking.get("/live/tail", **question)):
            yield said

    # --- what is held, and how sure it is ---

    async def datasets(self, **question: Any) -> list[Row]:
        """Datasets by `exchange, symbol, market_type, kind, q, sort`; all pages. Raises ClientError."""
        return await self._all(lambda offset: verbs.listed("datasets", offset, question))

    async def preview(self, dataset: str, **question: Any) -> Row:
        """The first rows of a dataset by its id; `limit, offset`. Raises ClientError."""
        return await self._ask(verbs.ask(f"/datasets/{asking.part(dataset=dataset)}/preview", **question))

    async def files(self, *, kind: str | None = None, **question: Unpack[Market]) -> list[Row]:
        """`Lake.files`, as mappings. Raises ClientError."""
        return await self._all(lambda offset: verbs.page("/files", "files", offset, question, kind=kind))

    async def completeness(self, kind: str, **question: Unpack[Rows]) -> Row:
        """`Lake.completeness`, as a mapping. Raises ClientError."""
        return await self._ask(verbs.completeness(kind, question))

    async def gaps(self, *, kind: str | None = None, state: str = "open", **question: Unpack[Market]) -> list[Gap]:
        """`Lake.gaps`. Raises ClientError."""
        return await self._all(lambda offset: verbs.gaps(offset, question, kind=kind, state=state))

    async def coverage(self, *, kind: str | None = None, **question: Unpack[Market]) -> list[Row]:
        """`Lake.coverage`, as mappings. Raises ClientError."""
        return await self._all(lambda offset: verbs.page("/coverage", "coverage", offset, question, kind=kind))

    async def versions(self, kind: str, **question: Unpack[Market]) -> list[Row]:
        """`Lake.versions`, as mappings. Raises ClientError."""
        path = f"/versions/{asking.part(kind=kind)}"
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

    async def live_status(self) -> Row:
        """What the running daemon says of its services and streams. Raises ClientError."""
        return await self._ask(verbs.ask("/live/status"))

    # --- feature sets ---

    async def features(self, **question: Any) -> list[Row]:
        """Versions of feature sets by `exchange, symbol, market, feature_set, version`. Raises ClientError."""
        return await self._all(lambda offset: verbs.listed("features", offset, question))

    async def feature(self, feature_id: str, **question: Any) -> pa.Table:
        """The values of one version; `start, end, columns, known_by`. Raises ClientError."""
        return await self._ask(verbs.rows(f"/features/{asking.part(feature_id=feature_id)}/download", question))

    async def feature_sets(self, **question: Any) -> list[Row]:
        """`Lake.features.sets`, as mappings, by `exchange, symbol, market`. Raises ClientError."""
        held: list[Row] = (await self._ask(verbs.ask("/features/sets", **question)))["feature_sets"]
        return held

    async def feature_lineage(self, feature_id: str) -> Row:
        """What a version was computed on, and what of that was revised since. Raises ClientError."""
        return await self._ask(verbs.ask(f"/features/{asking.part(feature_id=feature_id)}/lineage"))

    async def put_feature(self, file: str | Path, **fields: Unpack[verbs.Put]) -> Row:
        """Put a version in, from a CSV, Parquet or Arrow file here. Raises ClientError."""
        return await self._ask(verbs.put(file, fields))

    async def rollback_feature(self, feature_id: str) -> Row:
        """Let `latest` of its set mean this version. Raises ClientError."""
        return await self._ask(verbs.tell(f"/features/{asking.part(feature_id=feature_id)}/rollback"))

    async def delete_feature(self, feature_id: str) -> Row:
        """Delete a version, at once. Raises ClientError."""
        return await self._ask(verbs.delete(f"/features/{asking.part(feature_id=feature_id)}"))

    # --- venues ---

    async def exchanges(self) -> list[Row]:
        """Venues that can be collected from. Raises ClientError."""
        held: list[Row] = (await self._ask(verbs.ask("/ingest/exchanges")))["exchanges"]
        return held

    async def markets(self, exchange: str) -> list[Row]:
        """The markets of a venue, and the kinds that each has. Raises ClientError."""
        path = f"/ingest/exchanges/{asking.part(exchange=exchange)}/markets"
        held: list[Row] = (await self._ask(verbs.ask(path)))["markets"]
        return held

    async def symbols(self, exchange: str, market_type: str = "spot", *, source: Source = "lake") -> Row:
        """The symbols of a market, as the lake or the venue itself (now) knows them. Raises ClientError."""
        path = f"/ingest/exchanges/{asking.part(exchange=exchange)}/symbols"
        return await self._ask(verbs.ask(path, market=market_type, source=source))

    # --- what changes the lake: done by its daemon, with a token of scope admin ---

    async def jobs(self, state: str | None = None) -> list[Row]:
        """All jobs, each with how far it is. Raises ClientError."""
        return await self._all(lambda offset: verbs.listed("jobs", offset, {"state": state}))

    async def job(self, job: str) -> Row:
        """One job, its parts and attempts. Raises ClientError."""
        return await self._ask(verbs.ask(f"/jobs/{asking.part(job=job)}"))

    async def start(self, work: str, arguments: Row) -> Row:
        """Ask the daemon for a work. Raises ClientError: Conflict without a daemon."""
        return await self._ask(verbs.tell("/jobs", {"work": work, "arguments": arguments}))

    async def download(self, exchange: str, symbols: str | list[str], **asked: Any) -> Row:
        """Ask for the past of symbols, of any venue: `market, data_type, kinds, start_date, end_date, full_history`."""
        named = [symbols] if isinstance(symbols, str) else symbols
        return await self._ask(verbs.tell("/ingest/bulk-download", {"exchange": exchange, "symbols": named, **asked}))

    async def move(self, job: str, action: str) -> Row:
        """`pause`, `resume` or `cancel` a job. Raises ClientError."""
        return await self._ask(verbs.tell(f"/jobs/{asking.part(job=job)}/{asking.part(action=action)}"))

    async def watch(self, job: str) -> AsyncIterator[tuple[str, Row]]:
        """What a job says: (`progress`, `{done, total, what}`) until (`done` or `failed`, …). Raises ClientError."""
        async for event in self._events(asking.get(f"/jobs/{asking.part(job=job)}/events")):
            yield event

    async def import_file(self, file: str | Path, **fields: Any) -> Row:
        """Take in a file of other origin, as `dl import`; `dry_run=True` says what would come. Raises ClientError."""
        return await self._ask(verbs.take_in(file, fields))

    async def delete(self, dataset: str, confirm: str | None = None) -> Row:
        """Delete the closed days of a dataset. Without the word `confirm` of the answer before, say what would go.

        Raises ClientError.
        """
        return await self._ask(verbs.delete(f"/datasets/{asking.part(dataset=dataset)}", confirm))

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
        pages = asking.Pages[T]()
        while not pages.whole:
            pages.take(*await self._ask(page(pages.offset)))
        return pages.found

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
        pieces: list[bytes] = []
        count = 0
        async with self._answered(request) as answer:
            async for piece in answer.content.iter_chunked(PIECE):
                pieces.append(piece)
                count += len(piece)
                if self._progress is not None:
                    self._progress(count)
        return b"".join(pieces)

    async def _events(self, request: Request) -> AsyncIterator[tuple[str, Any]]:
        async with self._answered(request) as answer:
            lines: list[bytes] = []
            async for line in answer.content:
                lines.append(line)
                if not line.strip():
                    for said in asking.events(lines):
                        yield said
                    lines = []

    @asynccontextmanager
    async def _answered(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of success whose body is still to be read. Raises ClientError, also for what goes wrong with it."""
        body = request.body or None if request.form is None else _sent(request.form)
        try:
            async with self._opened().request(
                request.method,
                URL(self._server.base + request.target, encoded=True),
                data=body,
                headers={**self._headers, **request.said()},
                allow_redirects=False,
            ) as answer:
                if not request.done(answer.status):
                    raise asking.error_of(answer.status, await answer.read(), answer.headers.get("Retry-After"))
                yield answer
        except _BROKEN as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self._server.base} does not answer: {error or type(error).__name__}") from error


async def _sent(form: Form) -> AsyncIterator[bytes]:
    pieces = form.pieces()
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


class Arriving:
    """An answer's body as a file, for a thread that reads it while the loop brings it in."""

    def __init__(self, content: aiohttp.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        self._content = content
        self._loop = loop
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._exactly(size), self._loop).result()

    async def _exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        if size < 0:
            return await self._content.read()
        pieces, left = [], size
        while left and (piece := await self._content.read(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self.closed = True
