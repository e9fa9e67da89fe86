"""Transport over the `websockets` library: the reference that faster transports are compared with.

Received messages are taken where the library hands them out and collected in batches, so that a busy connection costs
no coroutine a frame. Reading pauses while too much is waiting.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed, InvalidStatus, PayloadTooBig, WebSocketException
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.protocol import Event, State

from collectors import transports
from collectors.transports import BATCH_FRAMES, PAUSE_BYTES, PAUSE_FRAMES, Closed, Compression, Frames

RATIO = 1032
"""Deflate makes no more than this many bytes of one."""
UNCOUNTED = 4 * 1024 * 1024
"""What may inflate to more than this is counted before it is kept."""
INFLATED = 16 * 1024
"""Bytes of a compressed connection that are looked at before it is asked whether too much is waiting."""
COUNTED = 64 * 1024
"""Bytes that are inflated at a time where they are only counted."""


class _Inflating(PerMessageDeflate):
    """permessage-deflate that keeps nothing of what will be refused: the library's own keeps up to the limit, twice."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if max_size is not None and len(frame.data) * RATIO > UNCOUNTED and frame.opcode in DATA_OPCODES:
            self._count(frame, max_size)
        return super().decode(frame, max_size=max_size)

    def _count(self, frame: Frame, limit: int) -> None:
        """Inflate a large frame to no more than a number. Raises PayloadTooBig."""
        first = frame.opcode is not Opcode.CONT
        if not (frame.rsv1 if first else self.decode_cont_data):
            return
        fresh = first and self.remote_no_context_takeover
        decoder = zlib.decompressobj(wbits=-self.remote_max_window_bits) if fresh else self.decoder.copy()
        data, size = bytes(frame.data), 0
        while data:
            try:
                size += len(decoder.decompress(data, COUNTED))
            except zlib.error:
                return  # the library has words for it
            if size > limit:
                raise PayloadTooBig(None, limit)
            data = decoder.unconsumed_tail


class _Offer(ClientPerMessageDeflateFactory):
    """What is offered to the venue, and what is made of its answer."""

    def process_response_params(
        self, params: Sequence[tuple[str, str | None]], accepted_extensions: Sequence[Extension]
    ) -> PerMessageDeflate:
        agreed = super().process_response_params(params, accepted_extensions)
        return _Inflating(
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
        )


class _Inbox:
    """Whole messages in order of arrival, with the waiter of the one reader."""

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.nbytes = 0
        self.fragments: list[bytes] = []
        self.over = False
        self.waiter: asyncio.Future[None] | None = None

    def put(self, frame: Frame) -> None:
        if not frame.fin or self.fragments:
            self.fragments.append(bytes(frame.data))
            if not frame.fin:
                return
            message = b"".join(self.fragments)
            self.fragments.clear()
        else:
            message = bytes(frame.data)
        self.messages.append(message)
        self.nbytes += len(message)
        self.wake()

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def full(self) -> bool:
        return self.nbytes > PAUSE_BYTES or len(self.messages) > PAUSE_FRAMES


class _Connection(ClientConnection):
    """A connection whose data frames go to an inbox instead of the library's queue."""

    inbox: _Inbox
    reading_paused = False
    held = b""
    """Read, and not yet looked at: it may inflate to a thousand times its size."""
    heard = asked = False
    timer: asyncio.TimerHandle | None = None

    def watch(self, last: bool = False) -> None:
        """A ping, unless nothing was heard since the last one; the library would wait for its answer alone, which may
        be behind much else. While reading is paused nothing could be heard.
        """
        if self.protocol.state is not State.OPEN:
            return
        silent = self.asked and not (self.heard or self.reading_paused)
        if silent and last:
            self.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            self.send_data()
            self.inbox.over = True
            self.inbox.wake()
            return
        if not silent:
            self.protocol.send_ping(b"")
            self.send_data()
            self.asked, self.heard = True, self.reading_paused
        wait = transports.UNREAD_SECONDS if silent else transports.PING_SECONDS
        self.timer = self.loop.call_later(wait, self.watch, silent)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self.inbox.put(event)
            if not self.reading_paused and self.inbox.full:
                self.reading_paused = True
                self.transport.pause_reading()
        else:
            super().process_event(event)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        self.held += data
        step = INFLATED if self.protocol.available_extensions else len(self.held)
        while self.held and not self.reading_paused:
            self._look_at(step)

    def _look_at(self, size: int) -> None:
        data, self.held = self.held[:size], self.held[size:]
        super().data_received(data)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self.inbox.over = True  # whenever the peer closes the socket: it may never do so
            self.inbox.wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inbox = _Inbox()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.held:
            self._look_at(len(self.held))
        super().connection_lost(exc)
        if self.timer is not None:
            self.timer.cancel()
        self.inbox.over = True
        self.inbox.wake()

    def read_on(self) -> None:
        if self.reading_paused:
            self.reading_paused = False
            self.data_received(b"")
            if not (self.reading_paused or self.transport.is_closing()):
                self.transport.resume_reading()


class WebsocketsTransport:
    """See `collectors.transports.Transport`."""

    def __init__(self, connection: _Connection, now: Callable[[], int]) -> None:
        self._connection = connection
        self._inbox = connection.inbox
        self._now = now

    async def receive(self) -> Frames:
        inbox = self._inbox
        while not inbox.messages:
            if inbox.over:
                raise self._closed()
            waiter = inbox.waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                inbox.waiter = None
        return self._take(BATCH_FRAMES)

    def ready(self) -> Frames:
        return self._take(len(self._inbox.messages))

    def _take(self, most: int) -> Frames:
        """Up to `most` messages; reading goes on where it was paused."""
        inbox = self._inbox
        if len(inbox.messages) <= most:
            batch = list(inbox.messages)
            inbox.messages.clear()
            inbox.nbytes = 0
        else:
            batch = [inbox.messages.popleft() for _ in range(most)]
            inbox.nbytes -= sum(map(len, batch))
        times = [self._now()] * len(batch)
        if not inbox.full:
            self._connection.read_on()
        return Frames(batch, times)

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except ConnectionClosed as error:
            raise self._closed() from error

    async def close(self) -> None:
        self._connection.read_on()
        await self._connection.close()

    def _closed(self) -> Closed:
        """The peer's word on the end, else ours (a frame too large, a ping unanswered), else that there was none."""
        protocol = self._connection.protocol
        word = protocol.close_rcvd or protocol.close_sent
        if word is None or (protocol.close_rcvd is None and word.code == CloseCode.NORMAL_CLOSURE):
            return Closed(1006, "no closing handshake")  # none, or only our asking for one
        return Closed(word.code, word.reason)


async def connect(
    url: str,
    *,
    max_frame: int,
    timeout: float,  # noqa: ASYNC109 -- passed on to the library
    now: Callable[[], int],
    compression: Compression = "off",
) -> WebsocketsTransport:
    """Open `url`. Compression costs twice the CPU a message. Raises ConnectFailed."""
    try:
        connection = await open_connection(
            url,
            create_connection=_Connection,
            compression=None,
            extensions=[_Offer(client_max_window_bits=True)] if compression == "deflate" else None,
            max_size=max_frame,
            open_timeout=timeout,
            close_timeout=transports.CLOSE_SECONDS,
            ping_interval=None,  # `watch` does that
            proxy=transports.proxy(url),
            ssl=transports.tls() if urlsplit(url).scheme == "wss" else None,
        )
    except InvalidStatus as refused:
        answer = refused.response
        raise transports.refusal(
            answer.status_code, answer.reason_phrase, answer.headers.raw_items(), bytes(answer.body or b"")
        ) from refused
    except (OSError, TimeoutError, WebSocketException, ValueError, EOFError) as error:
        raise transports.failure(error, url) from error
    assert isinstance(connection, _Connection)
    connection.timer = connection.loop.call_later(transports.PING_SECONDS, connection.watch)
    return WebsocketsTransport(connection, now)
