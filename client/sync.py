"""`DatalakeClient`: one question after the other, each on a connection that is kept; for scripts and notebooks."""

from __future__ import annotations

import http.client
import random
import selectors
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import pyarrow as pa

from client import asking, verbs
from client.asking import Duration, Symbols, Time
from client.errors import AnswerBroken, ClientError, ServerBusy, Unreachable
from client.verbs import Asked, At, Day, Market, Row, Rows, Source
from client.wire import PIECE, Request
from market.session import Gap

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many bytes of an answer have come."""


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

    def bars(self, interval: Duration = "1m", *, offset: Duration = 0, **question: Unpack[Rows]) -> pa.Table:
        """`Lake.bars`. Raises ClientError."""
        return self._ask(verbs.bars(interval, offset, question))

    def join(
        self, sets: Symbols, kind: str = "bar_1m", *, at: At = "open", max_age: Duration | None = None,
        **question: Unpack[Rows],
    ) -> pa.Table:  # fmt: skip
        """`Lake.features.join`: rows with what was known of feature sets at each. Raises ClientError."""
        return self._ask(verbs.join(sets, kind, question, at=at, max_age=max_age))

    def batches(self, kind: str, **question: Unpack[Rows]) -> Iterator[pa.RecordBatch]:
        """`Lake.batches`: rows as they come, for what does not fit in memory. Not asked again once they have begun.

        Raises ClientError.
        """
        connection, answer = self._apart(verbs.read(kind, question).request)
        try:
            yield from pa.ipc.open_stream(answer)
        except pa.ArrowInvalid as error:
            raise AnswerBroken(f"the answer is no Arrow stream: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def book(
        self, symbol: str, *, at: Time, exchange: str | None = None, market_type: str | None = None,
        depth: int | None = None,
    ) -> Row:  # fmt: skip
        """`Lake.book`, as a mapping. Raises ClientError: NotFound where the stored rows do not prove it."""
        return self._ask(verbs.book(symbol, at, exchange=exchange, market_type=market_type, depth=depth))

    def sql(self, query: str) -> pa.Table:
        """`Lake.sql`, where the server allows it (`serve.sql`). Raises ClientError."""
        return self._ask(verbs.sql(query))

    def tail(self, **question: Any) -> Iterator[Row]:
        """Events as they come, without an end: `exchange, market_type, kind, symbol`. Raises ClientError."""
        for _, said in self._events(asking.get("/live/tail", **question)):
            yield said

    # --- what is held, and how sure it is ---

    def datasets(self, **question: Any) -> list[Row]:
        """Datasets by `exchange, symbol, market_type, kind, q, sort`; all pages. Raises ClientError."""
        return self._all(lambda offset: verbs.listed("datasets", offset, question))

    def preview(self, dataset: str, **question: Any) -> Row:
        """The first rows of a dataset by its id; `limit, offset`. Raises ClientError."""
        return self._ask(verbs.ask(f"/datasets/{asking.part(dataset=dataset)}/preview", **question))

    def files(self, *, kind: str | None = None, **question: Unpack[Market]) -> list[Row]:
        """`Lake.files`, as mappings. Raises ClientError."""
        return self._all(lambda offset: verbs.page("/files", "files", offset, question, kind=kind))

    def completeness(self, kind: str, **question: Unpack[Rows]) -> Row:
        """`Lake.completeness`, as a mapping. Raises ClientError."""
        return self._ask(verbs.completeness(kind, question))

    def gaps(self, *, kind: str | None = None, state: str = "open", **question: Unpack[Market]) -> list[Gap]:
        """`Lake.gaps`. Raises ClientError."""
        return self._all(lambda offset: verbs.gaps(offset, question, kind=kind, state=state))

    def coverage(self, *, kind: str | None = None, **question: Unpack[Market]) -> list[Row]:
        """`Lake.coverage`, as mappings. Raises ClientError."""
        return self._all(lambda offset: verbs.page("/coverage", "coverage", offset, question, kind=kind))

    def versions(self, kind: str, **question: Unpack[Market]) -> list[Row]:
        """`Lake.versions`, as mappings. Raises ClientError."""
        return self._all(lambda offset: verbs.page(f"/versions/{asking.part(kind=kind)}", "versions", offset, question))

    def certificate(self, kind: str, *, date: Time, **question: Unpack[Day]) -> Row:
        """`Lake.certificate`, as a mapping. Raises ClientError: NotFound where that day has none."""
        return self._ask(verbs.day("certificates", kind, date, question))

    def lineage(self, kind: str, *, date: Time, **question: Unpack[Day]) -> Row:
        """`Lake.lineage`, as a mapping. Raises ClientError: NotFound where that day is not held."""
        return self._ask(verbs.day("lineage", kind, date, question))

    def status(self) -> Row:
        """The lake in numbers, and who writes it. Raises ClientError."""
        return self._ask(verbs.ask("/status"))

    def live_status(self) -> Row:
        """What the running daemon says of its services and streams. Raises ClientError."""
        return self._ask(verbs.ask("/live/status"))

    # --- feature sets ---

    def features(self, **question: Any) -> list[Row]:
        """Versions of feature sets by `exchange, symbol, market, feature_set, version`. Raises ClientError."""
        return self._all(lambda offset: verbs.listed("features", offset, question))

    def feature(self, feature_id: str, **question: Any) -> pa.Table:
        """The values of one version; `start, end, columns, known_by`. Raises ClientError."""
        return self._ask(verbs.rows(f"/features/{asking.part(feature_id=feature_id)}/download", question))

    def feature_sets(self, **question: Any) -> list[Row]:
        """`Lake.features.sets`, as mappings, by `exchange, symbol, market`. Raises ClientError."""
        held: list[Row] = self._ask(verbs.ask("/features/sets", **question))["feature_sets"]
        return held

    def feature_lineage(self, feature_id: str) -> Row:
        """What a version was computed on, and what of that was revised since. Raises ClientError."""
        return self._ask(verbs.ask(f"/features/{asking.part(feature_id=feature_id)}/lineage"))

    def put_feature(self, file: str | Path, **fields: Unpack[verbs.Put]) -> Row:
        """Put a version in, from a CSV, Parquet or Arrow file here. Raises ClientError."""
        return self._ask(verbs.put(file, fields))

    def rollback_feature(self, feature_id: str) -> Row:
        """Let `latest` of its set mean this version. Raises ClientError."""
        return self._ask(verbs.tell(f"/features/{asking.part(feature_id=feature_id)}/rollback"))

    def delete_feature(self, feature_id: str) -> Row:
        """Delete a version, at once. Raises ClientError."""
        return self._ask(verbs.delete(f"/features/{asking.part(feature_id=feature_id)}"))

    # --- venues ---

    def exchanges(self) -> list[Row]:
        """Venues that can be collected from. Raises ClientError."""
        held: list[Row] = self._ask(verbs.ask("/ingest/exchanges"))["exchanges"]
        return held

    def markets(self, exchange: str) -> list[Row]:
        """The markets of a venue, and the kinds that each has. Raises ClientError."""
        held: list[Row] = self._ask(verbs.ask(f"/ingest/exchanges/{asking.part(exchange=exchange)}/markets"))["markets"]
        return held

    def symbols(self, exchange: str, market_type: str = "spot", *, source: Source = "lake") -> Row:
        """The symbols of a market, as the lake or the venue itself (now) knows them. Raises ClientError."""
        path = f"/ingest/exchanges/{asking.part(exchange=exchange)}/symbols"
        return self._ask(verbs.ask(path, market=market_type, source=source))

    # --- what changes the lake: done by its daemon, with a token of scope admin ---

    def jobs(self, state: str | None = None) -> list[Row]:
        """All jobs, each with how far it is. Raises ClientError."""
        return self._all(lambda offset: verbs.listed("jobs", offset, {"state": state}))

    def job(self, job: str) -> Row:
        """One job, its parts and attempts. Raises ClientError."""
        return self._ask(verbs.ask(f"/jobs/{asking.part(job=job)}"))

    def start(self, work: str, arguments: Row) -> Row:
        """Ask the daemon for a work. Raises ClientError: Conflict without a daemon."""
        return self._ask(verbs.tell("/jobs", {"work": work, "arguments": arguments}))

    def download(self, exchange: str, symbols: str | list[str], **asked: Any) -> Row:
        """Ask for the past of symbols, of any venue: `market, data_type, kinds, start_date, end_date, full_history`."""
        named = [symbols] if isinstance(symbols, str) else symbols
        return self._ask(verbs.tell("/ingest/bulk-download", {"exchange": exchange, "symbols": named, **asked}))

    def move(self, job: str, action: str) -> Row:
        """`pause`, `resume` or `cancel` a job. Raises ClientError."""
        return self._ask(verbs.tell(f"/jobs/{asking.part(job=job)}/{asking.part(action=action)}"))

    def watch(self, job: str) -> Iterator[tuple[str, Row]]:
        """What a job says: (`progress`, `{done, total, what}`) until (`done` or `failed`, …). Raises ClientError."""
        yield from self._events(asking.get(f"/jobs/{asking.part(job=job)}/events"))

    def import_file(self, file: str | Path, **fields: Any) -> Row:
        """Take in a file of other origin, as `dl import`; `dry_run=True` says what would come. Raises ClientError."""
        return self._ask(verbs.take_in(file, fields))

    def delete(self, dataset: str, confirm: str | None = None) -> Row:
        """Delete the closed days of a dataset. Without the word `confirm` of the answer before, say what would go.

        Raises ClientError.
        """
        return self._ask(verbs.delete(f"/datasets/{asking.part(dataset=dataset)}", confirm))

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
        pages = asking.Pages[T]()
        while not pages.whole:
            pages.take(*self._ask(page(pages.offset)))
        return pages.found

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
        pieces: list[bytes] = []
        count = 0
        try:
            answer = self._begin(request, self._connection())
            while piece := answer.read(PIECE):
                pieces.append(piece)
                count += len(piece)
                if self._progress is not None:
                    self._progress(count)
        except (OSError, http.client.HTTPException) as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        except ClientError:
            raise
        except BaseException:  # Ctrl-C, `progress`: what is left of this answer is not the next one's
            self.close()
            raise
        return b"".join(pieces)

    def _events(self, request: Request) -> Iterator[tuple[str, Any]]:
        connection, answer = self._apart(request)
        try:
            yield from asking.events(answer)
        except (OSError, http.client.HTTPException) as error:
            raise AnswerBroken(f"the answer ended in the middle: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _apart(self, request: Request) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An answer on a connection of its own, so that others can be asked for before its end. Raises ClientError."""
        connection = self._connected()
        try:
            return connection, self._begin(request, connection)
        except BaseException:
            connection.close()
            raise

    def _begin(self, request: Request, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """An answer of success whose body is still to be read. Raises ClientError."""
        body = request.body or None if request.form is None else request.form.pieces()
        try:
            connection.request(request.method, request.target, body, {**self._headers, **request.said()})
            answer = connection.getresponse()
            if request.done(answer.status):
                return answer
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = f"{self._server.base} does not answer: {error or type(error).__name__}"
            raise Unreachable(why) from error
        raise asking.error_of(answer.status, said, answer.headers.get("Retry-After"))

    def _connection(self) -> http.client.HTTPConnection:
        if self._held is not None and _left(self._held):
            self.close()
        self._held = self._held or self._connected()
        return self._held

    def _connected(self) -> http.client.HTTPConnection:
        made = http.client.HTTPSConnection if self._server.scheme == "https" else http.client.HTTPConnection
        return made(self._server.host, self._server.port, timeout=self._timeout)


def _left(held: http.client.HTTPConnection) -> bool:
    """Whether the server has ended a connection that nothing was asked on for a while: what is asked once only would
    fail on it, though nobody has heard it.
    """
    if held.sock is None:
        return False
    with selectors.DefaultSelector() as looked:
        looked.register(held.sock, selectors.EVENT_READ)
        return bool(looked.select(0))
