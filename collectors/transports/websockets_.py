"""Transport over the `websockets` library: the reference that faster transports are compared with.

Received messages are taken where the library hands them out and collected in batches, so that a busy connection costs
no coroutine a frame. Reading pauses while too much is waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event

from collectors import transports
from collectors.transports import BATCH_FRAMES, PAUSE_BYTES, PAUSE_FRAMES, Closed, ConnectFailed


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

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self.inbox.put(event)
            if not self.reading_paused and self.inbox.full:
                self.reading_paused = True
                self.transport.pause_reading()
        else:
            super().process_event(event)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self.inbox.over = True  # whenever the peer closes the socket: it may never do so
            self.inbox.wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inbox = _Inbox()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.inbox.over = True
        self.inbox.wake()

    def read_on(self) -> None:
        if self.reading_paused:
            self.reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()


class WebsocketsTransport:
    """See `collectors.transports.Transport`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._inbox = connection.inbox

    async def receive(self) -> list[bytes]:
        inbox = self._inbox
        if not inbox.messages:
            if not inbox.over:
                waiter = inbox.waiter = asyncio.get_running_loop().create_future()
                try:
                    await waiter
                finally:
                    inbox.waiter = None
            if not inbox.messages:
                raise self._closed()
        if len(inbox.messages) <= BATCH_FRAMES:
            batch = list(inbox.messages)
            inbox.messages.clear()
            inbox.nbytes = 0
        else:
            batch = [inbox.messages.popleft() for _ in range(BATCH_FRAMES)]
            inbox.nbytes -= sum(map(len, batch))
        if not inbox.full:
            self._connection.read_on()
        return batch

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
        return Closed(word.code, word.reason) if word is not None else Closed(1006, "no closing handshake")


async def connect(url: str, *, max_frame: int, timeout: float) -> WebsocketsTransport:  # noqa: ASYNC109 -- passed on to the library
    """Open `url`. Compression is declined: it costs twice the CPU a message. Raises ConnectFailed."""
    try:
        connection = await open_connection(
            url,
            create_connection=_Connection,
            compression=None,
            max_size=max_frame,
            open_timeout=timeout,
            close_timeout=transports.CLOSE_SECONDS,
            ping_interval=transports.PING_SECONDS,
            ping_timeout=transports.PING_SECONDS,
            proxy=transports.proxy(url),
            ssl=transports.tls() if urlsplit(url).scheme == "wss" else None,
        )
    except InvalidStatus as refused:
        answer = refused.response
        status = f"HTTP {answer.status_code} {answer.reason_phrase}".strip()
        raise ConnectFailed(transports.refusal(status, bytes(answer.body or b""))) from refused
    except (OSError, TimeoutError, WebSocketException, ValueError, EOFError) as error:
        raise ConnectFailed(f"{type(error).__name__}: {error}") from error
    assert isinstance(connection, _Connection)
    return WebsocketsTransport(connection)
