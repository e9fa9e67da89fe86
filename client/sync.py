"""`DatalakeClient`: one question after the other, each on a connection that is kept; for scripts and notebooks."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import pyarrow as pa

from client import asking, verbs
from client.asking import Request, Time
from client.errors import AnswerBroken, ServerBusy, Unreachable
from client.verbs import Asked, Day, Market, Row, Rows
from market.session import Gap

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many bytes of an answer have come."""
_PIECE = 1024 * 1024


class DatalakeClient:
    """A lake at an address. Not to be shared between threads; close it, or use it in a `with` block."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8572",
        token: str | None = None,
        *,
        timeout: float = 60.0,
        progress: Progress | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout`: seconds without a byte. Raises ClientError (no address)."""
        self._server = asking.server(address)
        self._headers = asking.headers(token)
        self._timeout = timeout
        self._progress = progress
        self._sleep = sleep
        self._held: http.client.HTTPConnection | None = None

    # --- rows ---

    def read(self, kind: str, **question: Unpack[Rows]) -> pa.Table:
        """`Lake.read`. Raises ClientError."""
        return self._ask(verbs.read(kind, question))

    def bars(self, interval: str = "1m", **question: Unpack[Rows]) -> pa.Table:
        """`Lake.bars`. Raises ClientError."""
        return self._ask(verbs.bars(interval, question))

    def batches(self, kind: str, **question: Unpack[Rows]) -> Iterator[pa.RecordBatch]:
        """`Lake.batches`: rows as they come, for what does not fit in memory. Not asked again once they have begun.

        Ask nothing else before they are all read. Raises ClientError.
        """
        answer = self._begin(verbs.read(kind, question).request)
        try:
            yield from pa.ipc.open_stream(answer)
        except pa.ArrowInvalid as error:
            raise AnswerBroken(f"the answer is no Arrow stream: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        finally:
            self.close()

    def book(
        self, symbol: str, *, at: Time, exchange: str | None = None, market_type: str | None = None,
        depth: int | None = None,
    ) -> Row:  # fmt: skip
        """`Lake.book`, as a mapping. Raises ClientError: NotFound where the stored rows do not prove it."""
        return self._ask(verbs.book(symbol, at, exchange=exchange, market_type=market_type, depth=depth))

    def sql(self, query: str) -> pa.Table:
        """`Lake.sql`, where the server allows it (`serve.sql`). Raises ClientError."""
        return self._ask(verbs.sql(query))

    # --- what is held, and how sure it is ---

    def datasets(self, **question: Any) -> list[Row]:
        """Datasets by `exchange, symbol, market_type, kind, q, sort`; all pages. Raises ClientError."""
        return self._all(lambda offset: verbs.datasets(offset, question))

    def gaps(self, *, kind: str | None = None, state: str = "open", **question: Unpack[Market]) -> list[Gap]:
        """`Lake.gaps`. Raises ClientError."""
        return self._all(lambda offset: verbs.gaps(offset, question, kind=kind, state=state))

    def coverage(self, *, kind: str | None = None, **question: Unpack[Market]) -> list[Row]:
        """`Lake.coverage`, as mappings. Raises ClientError."""
        return self._all(lambda offset: verbs.page("/coverage", "coverage", offset, question, kind=kind))

    def versions(self, kind: str, **question: Unpack[Market]) -> list[Row]:
        """`Lake.versions`, as mappings. Raises ClientError."""
        return self._all(lambda offset: verbs.page(f"/versions/{asking.part(kind)}", "versions", offset, question))

    def certificate(self, kind: str, *, date: Time, **question: Unpack[Day]) -> Row:
        """`Lake.certificate`, as a mapping. Raises ClientError: NotFound where that day has none."""
        return self._ask(verbs.day("certificates", kind, date, question))

    def lineage(self, kind: str, *, date: Time, **question: Unpack[Day]) -> Row:
        """`Lake.lineage`, as a mapping. Raises ClientError: NotFound where that day is not held."""
        return self._ask(verbs.day("lineage", kind, date, question))

    def status(self) -> Row:
        """The lake in numbers, and who writes it. Raises ClientError."""
        return self._ask(verbs.ask("/status"))

    # --- feature sets ---

    def features(self, **question: Any) -> list[Row]:
        """Versions of feature sets by `exchange, symbol, market, feature_set, version`. Raises ClientError."""
        held: list[Row] = self._ask(verbs.ask("/features", limit=1000, **question))["features"]
        return held

    def feature(self, feature_id: str, **question: Any) -> pa.Table:
        """The values of one version; `start, end, columns, known_by`. Raises ClientError."""
        return self._ask(verbs.rows(f"/features/{asking.part(feature_id)}/download", question))

    # --- jobs of the daemon ---

    def jobs(self, state: str | None = None) -> list[Row]:
        """All jobs, each with how far it is. Raises ClientError."""
        held: list[Row] = self._ask(verbs.ask("/jobs", state=state, limit=1000))["jobs"]
        return held

    def job(self, job: str) -> Row:
        """One job, its parts and attempts. Raises ClientError."""
        return self._ask(verbs.ask(f"/jobs/{asking.part(job)}"))

    def start(self, work: str, arguments: Row) -> Row:
        """Ask the daemon for a work. Raises ClientError: Conflict without a daemon."""
        return self._ask(verbs.tell("/jobs", {"work": work, "arguments": arguments}))

    def download(self, exchange: str, symbols: str | list[str], **asked: Any) -> Row:
        """Ask for the past of symbols, of any venue: `market, data_type, kinds, start_date, end_date, full_history`."""
        named = [symbols] if isinstance(symbols, str) else symbols
        return self._ask(verbs.tell("/ingest/bulk-download", {"exchange": exchange, "symbols": named, **asked}))

    def move(self, job: str, action: str) -> Row:
        """`pause`, `resume` or `cancel` a job. Raises ClientError."""
        return self._ask(verbs.tell(f"/jobs/{asking.part(job)}/{asking.part(action)}"))

    # --- asking ---

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _all(self, page: Callable[[int], Asked[verbs.Found[T]]]) -> list[T]:
        """All pages."""
        found: list[T] = []
        while True:
            rows, total = self._ask(page(len(found)))
            found += rows
            if not rows or len(found) >= total:
                return found

    def _ask(self, asked: Asked[T]) -> T:
        """The whole answer; a question is asked again where the server is busy, does not answer or breaks off."""
        pauses = asking.waits(random.random())  # noqa: S311 - not a secret: it keeps clients apart
        while True:
            try:
                return asked.made(self._whole(asked.request))
            except (ServerBusy, Unreachable, AnswerBroken) as error:
                self.close()
                pause = next(pauses, None)
                if pause is None or (asked.request.method != "GET" and not isinstance(error, ServerBusy)):
                    raise
                self._sleep(asking.wait_of(error.retry_after, pause))

    def _whole(self, request: Request) -> bytes:
        answer = self._begin(request)
        pieces: list[bytes] = []
        count = 0
        try:
            while piece := answer.read(_PIECE):
                pieces.append(piece)
                count += len(piece)
                if self._progress is not None:
                    self._progress(count)
        except (OSError, http.client.HTTPException) as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        return b"".join(pieces)

    def _begin(self, request: Request) -> http.client.HTTPResponse:
        """An answer of success whose body is still to be read. Raises ClientError."""
        headers = {**self._headers, "Content-Type": "application/json"} if request.body else self._headers
        try:
            connection = self._connection()
            connection.request(request.method, request.target, request.body or None, headers)
            answer = connection.getresponse()
            if 200 <= answer.status < 300:
                return answer
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            said = f"{self._server.base} does not answer: {error or type(error).__name__}"
            raise Unreachable(said) from error
        raise asking.error_of(answer.status, body, answer.headers.get("Retry-After"))

    def _connection(self) -> http.client.HTTPConnection:
        if self._held is None:
            made = http.client.HTTPSConnection if self._server.scheme == "https" else http.client.HTTPConnection
            self._held = made(self._server.host, self._server.port, timeout=self._timeout)
        return self._held
