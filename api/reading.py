"""Reading off the event loop: so many answers at a time, each with an end, in pieces that are sent as they are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api import formats
from api.errors import Refused
from api.formats import Format
from runtime.clock import Clock, within

T = TypeVar("T")
Rows: TypeAlias = tuple[pa.Schema, Iterable[pa.Table], Mapping[str, Any]]
"""Of what columns, the rows in pieces, and what a JSON answer says before them."""
InTime: TypeAlias = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]
TOLD = {"manifest_version": "X-Lake-Version", "complete_until": "X-Lake-Complete-Until", "gap_count": "X-Lake-Gaps"}
"""What a JSON answer says of its completeness, as headers of every one."""
SMALL_AT_ONCE = 8
"""Questions to the manifest that are answered at the same time; further ones wait."""


class Reading:
    """Threads for answers, and how many there may be of them."""

    def __init__(self, clock: Clock, at_once: int, seconds: float) -> None:
        self._clock = clock
        self._left = at_once
        self._at_once = at_once
        self._seconds = seconds
        self._large = ThreadPoolExecutor(at_once, "read")
        self._small = ThreadPoolExecutor(SMALL_AT_ONCE, "ask")

    def close(self) -> None:
        self._large.shutdown(wait=False, cancel_futures=True)
        self._small.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[], T]) -> T:
        """What a short question to the manifest is answered. Raises Refused where that takes too long."""
        return await self._within(asyncio.get_running_loop().run_in_executor(self._small, question))

    async def read(self, question: Callable[[], T]) -> T:
        """The answer to a question that opens files. Raises Refused (too many at once, too long)."""
        self._take()
        future = asyncio.get_running_loop().run_in_executor(self._large, question)
        future.add_done_callback(self._give_back)  # a thread cannot be stopped: it has its place until it ends
        return await self._within(future)

    async def stream(self, question: Callable[[], Rows], form: Format, name: str | None = None) -> StreamingResponse:
        """The rows of a question in a format, as a file to save where a name is given.

        What is wrong is known before the answer begins. Raises Refused, what the question raises.
        """

        def begin() -> tuple[Iterator[bytes], bytes, Mapping[str, Any]]:
            schema, tables, head = question()
            pieces = formats.encode(form, schema, tables, head)
            return pieces, next(pieces, b""), head  # no rows may be no bytes

        began = self._clock.monotonic()
        pieces, first, head = await self.read(begin)
        headers = {header: str(head[name]) for name, header in TOLD.items() if head.get(name) is not None}
        if name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{formats.file_name(name, form)}"'
        self._take()
        in_time = partial(self._in_time, began)
        return Streamed(self._rest(pieces, first), self._give_back, formats.MEDIA[form], headers, in_time)

    async def _rest(self, pieces: Iterator[bytes], first: bytes) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        yield first
        while (piece := await loop.run_in_executor(self._large, next, pieces, None)) is not None:
            if piece:
                yield piece

    async def _in_time(self, began: float, sending: Coroutine[Any, Any, None]) -> None:
        """Until it is sent: who asks and does not read has no place for ever. Raises TimeoutError."""
        try:
            await within(self._clock, began + self._seconds - self._clock.monotonic(), sending)
        except TimeoutError as error:
            said = f"an answer took more than {self._seconds:g} s (serve.answer_seconds)"
            raise TimeoutError(said) from error

    async def _within(self, future: asyncio.Future[T]) -> T:
        done, _ = await asyncio.wait([future], timeout=self._seconds)
        if not done:
            said = f"the answer takes more than {self._seconds:g} s: ask for less, or raise serve.answer_seconds"
            raise Refused(503, said, "TooSlow")
        return future.result()

    def _take(self) -> None:
        if self._left <= 0:
            said = f"{self._at_once} answers are being read (serve.reads_at_once): try again soon"
            raise Refused(429, said, "Busy", {"Retry-After": "1"})
        self._left -= 1

    def _give_back(self, _done: object = None) -> None:
        self._left += 1


class Streamed(StreamingResponse):
    """An answer in pieces; `ended` is called however it ends, also where it never began."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        ended: Callable[[], None],
        media: str,
        headers: Mapping[str, str] | None = None,
        in_time: InTime | None = None,
    ) -> None:
        """`in_time` lets the sending last so long; what has no end has none."""
        super().__init__(pieces, media_type=media, headers=headers)
        self._ended = ended
        self._in_time = in_time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            sending = super().__call__(scope, receive, send)
            await (sending if self._in_time is None else self._in_time(sending))
        finally:
            self._ended()
