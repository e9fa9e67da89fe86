"""Transport over the `picows` library, the default: frames are taken in the library's C loop, a tenth of the CPU each.

picows hands out frames, not messages: joining fragments, the closing handshake, pings, the ping watchdog and
back-pressure are done here. All frames that one read of the socket held are passed on together. Compressed connections
are the reference's (docs/decisions/0013-compressed-connections-are-the-references.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from picows import WSCloseCode, WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect
from picows import WSUpgradeRequest as Request
from picows import WSUpgradeResponse as Response
from picows.url import WSParsedURL
from python_socks import ProxyError

from collectors import transports
from collectors.transports import BATCH_FRAMES, Closed, Compression, ConnectFailed, Frames, Transport
from runtime.turns import turns_of

CONTROL_BYTES = 125
"""No ping, pong or close frame is larger, so that what is larger needs no look at its type."""
NEVER = 1 << 62
"""No frame is larger."""
SAID = frozenset(range(1000, 1015)) - {1004, 1005, 1006}
"""Close codes of the protocol that a peer may send; the others say how a connection ended without one."""


class _Inbox(WSListener):
    """Whole messages in order of arrival, with the waiter of the one reader, and the state of the connection."""

    ws: WSTransport

    def __init__(self, max_frame: int, now: Callable[[], int]) -> None:
        self.messages: list[bytes] = []
        self.times: list[int] = []
        """When each of them was read."""
        self.nbytes = 0
        self.closed: Closed | None = None
        """How it ended: nothing is taken in any more."""
        self.waiter: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()
        self._now = now
        self._turns = turns_of(self.loop, transports.TURN_SECONDS)
        self.gone: asyncio.Future[None] = self.loop.create_future()
        """Done when the socket is closed."""
        self._max_frame = max_frame
        self._read: list[bytes] = []
        """Messages of the read that is being parsed."""
        self._pieces: list[bytes] = []
        self._begun, self._size = False, 0
        """Whether a message came in part, and the bytes of that part."""
        self._small = CONTROL_BYTES
        """A frame of more bytes is a message or a part of one; NEVER within fragments, and at the end."""
        self._said_close = self._heard = self._asked = self._paused = self._stuffed = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what picows calls ---

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.ws = transport
        self._timer = self.loop.call_later(transports.PING_SECONDS, self._watch)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 -- as picows calls it
        if frame.payload_size > self._small and frame.fin and not (frame.rsv1 or frame.rsv2 or frame.rsv3):
            self._read.append(frame.get_payload_as_bytes())
        else:
            self._look(frame)
        if frame.last_in_buffer:
            self._pass_on()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 -- as picows calls it
        if not self.gone.done():
            self.gone.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        self._end(self._last_word())

    def pause_writing(self) -> None:
        """The peer does not read: what we send is small and rare, but it may have asked for a flood of answers."""
        self._stuffed = True

    def resume_writing(self) -> None:
        self._stuffed = False

    # --- frames ---

    def _look(self, frame: WSFrame) -> None:
        """A frame that may be anything."""
        if self.closed is not None:
            return
        kind, data = frame.msg_type, frame.get_payload_as_bytes()
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.fail(1002, "reserved bits are set")
        elif kind is WSMsgType.PING:
            if not self._stuffed:
                self.ws.send_pong(data)
        elif kind is WSMsgType.CLOSE:
            self._agree(data)
        elif kind is not WSMsgType.PONG:
            self._piece(kind is WSMsgType.CONTINUATION, data, last=bool(frame.fin))

    def _piece(self, continues: bool, data: bytes, *, last: bool) -> None:
        """A message or a part of one."""
        if continues != self._begun:
            self.fail(1002, "a continuation of nothing" if continues else "a message within a message")
            return
        self._begun = not last
        self._size += len(data)
        if data:
            self._pieces.append(data)
        if self._size > self._max_frame:
            self.fail(1009, f"a message of more than {self._max_frame} bytes")
        elif last:
            self._read.append(b"".join(self._pieces))
            self._pieces.clear()
            self._size = 0
        self._small = CONTROL_BYTES if last and self.closed is None else NEVER

    def _pass_on(self) -> None:
        """The read is parsed: its messages are there to be received."""
        self._heard = True
        read = self._read
        if not read:
            return
        self._read = []
        if self.ws.is_close_frame_sent:
            read = self._before_error(read)
        first, one = not self.messages, len(read) == 1  # one it is on a live feed
        self.messages += read
        self.times += [self._now()] if one else [self._now()] * len(read)
        self.nbytes += len(read[0]) if one else sum(map(len, read))
        if self.waiter is not None:
            if len(self.messages) >= BATCH_FRAMES:
                self.wake()
            elif first:
                self._turns.wanted(self.wake)
        elif self.closed is None and not self._paused and self.full:
            self._paused = True
            self.ws.underlying_transport.pause_reading()

    def _before_error(self, read: list[bytes]) -> list[bytes]:
        """An error that picows has found ends the connection, but it may still parse on, even what was too large."""
        good = next((i for i, message in enumerate(read) if len(message) > self._max_frame), len(read))
        if not self._said_close:
            self._end(self._last_word())
        elif good < len(read):
            self._end(Closed(1009, f"a message of more than {self._max_frame} bytes"))
        return read[:good]

    # --- the reader ---

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def full(self) -> bool:
        return self.nbytes > transports.PAUSE_BYTES or len(self.messages) > transports.PAUSE_FRAMES

    def take(self, most: int) -> Frames:
        """Up to `most` messages; reading goes on where it was paused."""
        messages, times = self.messages, self.times
        if len(messages) <= most:
            self.messages, self.times, self.nbytes = [], [], 0
        else:
            messages, times = messages[:most], times[:most]
            del self.messages[:most], self.times[:most]
            self.nbytes -= sum(map(len, messages))
        if self._paused and not self.full:
            self.read_on()
        return Frames(messages, times)

    def read_on(self) -> None:
        if self._paused:
            self._paused = False
            if not self.gone.done():
                self.ws.underlying_transport.resume_reading()

    def listen_no_more(self) -> None:
        """What still comes is not even read."""
        self._paused = False
        if self._timer is not None:  # it is connected
            self.ws.underlying_transport.pause_reading()

    # --- the end ---

    def close(self) -> None:
        """Ask the peer to end the connection; what it sends until it agrees is still taken in."""
        self.read_on()
        if not self._said_close and not self.ws.is_close_frame_sent:
            self._said_close = True
            self.ws.send_close(WSCloseCode.OK)

    def fail(self, code: int, reason: str) -> None:
        """End the connection over a fault of the peer's."""
        self._end(Closed(code, reason))
        self._said_close = True
        self.ws.send_close(WSCloseCode(code), reason)
        self._linger()

    def _agree(self, data: bytes) -> None:
        """The peer ends the connection, or agrees to our ending it."""
        code = int.from_bytes(data[:2])
        if data and not (code in SAID or 3000 <= code < 5000):
            self.fail(1002, f"close code {code}, which nobody may send")
            return
        self._end(Closed(code, data[2:].decode()) if data else Closed(1005, "no reason"))
        if not self._said_close and not self.ws.is_close_frame_sent:
            self._said_close = True
            self.ws.send(WSMsgType.CLOSE, data[:2])
        self._linger()

    def _end(self, closed: Closed) -> None:
        if self.closed is None:
            self.closed = closed
        self._small = NEVER
        self._pieces.clear()
        self.read_on()
        self.wake()

    def _last_word(self) -> Closed:
        """How it ended where the peer has not said it: picows' word to the peer, or ours, or that there was none."""
        handshake = self.ws.close_handshake
        sent = handshake.sent if handshake is not None else None
        if sent is None or sent.code is WSCloseCode.OK:  # that was our asking, and nobody agreed
            return Closed(1006, "no closing handshake")
        return Closed(sent.code.value, sent.reason)

    def _linger(self) -> None:
        """It is the peer that closes the socket; but it is not waited for for ever."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(transports.CLOSE_SECONDS, self.ws.disconnect, False)

    def _watch(self, last: bool = False) -> None:
        """A ping, unless the last one had no answer. While reading is paused no answer could be heard."""
        silent = self._asked and not self._heard and not self._paused
        if silent and last:
            self.fail(1011, "keepalive ping timeout")
            return
        if not silent:
            self.ws.send_ping()
            self._asked, self._heard = True, self._paused
        wait = transports.UNREAD_SECONDS if silent else transports.PING_SECONDS
        self._timer = self.loop.call_later(wait, self._watch, silent)


class _Ear(logging.LoggerAdapter[logging.Logger]):
    """The library's logger, silent: a Closed says it. It alone hears of a peer's error while much still comes."""

    def __init__(self, inbox: _Inbox) -> None:
        super().__init__(logging.Logger("picows", logging.CRITICAL + 1))  # noqa: LOG001 -- not in the tree: it is silent
        self._inbox = inbox

    def error(self, *_said: object, **_more: object) -> None:
        self._inbox.listen_no_more()

    exception = error


class PicowsTransport:
    """See `collectors.transports.Transport`."""

    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox

    async def receive(self) -> Frames:
        inbox = self._inbox
        while not inbox.messages:
            if inbox.closed is not None:
                raise Closed(inbox.closed.code, inbox.closed.reason)
            inbox.waiter = waiter = inbox.loop.create_future()
            await waiter
        return inbox.take(BATCH_FRAMES)

    def ready(self) -> Frames:
        return self._inbox.take(len(self._inbox.messages))

    async def send(self, text: str) -> None:
        inbox = self._inbox
        if inbox.closed is not None or inbox.ws.is_close_frame_sent or inbox.gone.done():
            closed = inbox.closed or Closed(1006, "closed by us")
            raise Closed(closed.code, closed.reason)
        inbox.ws.send(WSMsgType.TEXT, text.encode())

    async def close(self) -> None:
        inbox = self._inbox
        inbox.close()
        if not inbox.gone.done():
            await asyncio.wait((inbox.gone,), timeout=transports.CLOSE_SECONDS)
        if not inbox.gone.done():
            inbox.ws.disconnect(graceful=False)
        with contextlib.suppress(Exception):  # what the library has to say about the end is in `closed`
            await inbox.ws.wait_disconnected()


class _Dial:
    """One attempt to connect: the socket, which the library lets go of when it is cancelled, and the inbox."""

    def __init__(self, max_frame: int, now: Callable[[], int]) -> None:
        self.inbox = _Inbox(max_frame, now)
        self._socket: socket.socket | None = None

    def listener(self, _request: Request, response: Response) -> _Inbox:
        unasked = response.headers.get("Sec-WebSocket-Extensions") or response.headers.get("Sec-WebSocket-Protocol")
        if unasked is not None:
            raise ConnectFailed(f"the peer speaks {unasked!r}, which it was not asked for")
        return self.inbox

    async def socket(self, url: WSParsedURL) -> socket.socket:
        """Connect to the first address of a host that takes the connection."""
        loop = asyncio.get_running_loop()
        failed: OSError = OSError(f"{url.host} has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            try:
                await loop.sock_connect(made, address)
            except OSError as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
            else:
                self._socket = made
                return made
        raise failed

    def hang_up(self) -> None:
        """Let the peer's end, and with it whoever reads this socket, know that nothing will come of it."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


async def connect(
    url: str,
    *,
    max_frame: int,
    timeout: float,  # noqa: ASYNC109 -- the handshake's own limit, part of the contract
    now: Callable[[], int],
    compression: Compression = "off",
) -> Transport:
    """Open `url`. No redirect: a venue that asks for one is refused. Raises ConnectFailed."""
    if compression != "off":
        reference = transports.load(transports.REFERENCE)
        return await reference(url, max_frame=max_frame, timeout=timeout, now=now, compression=compression)
    dial = _Dial(max_frame, now)
    try:
        async with asyncio.timeout(timeout):
            await _open(dial, url, max_frame)
    except BaseException as error:
        dial.hang_up()
        if isinstance(error, WSHandshakeError) and error.raw_header is not None:
            raise _refused(error, error.raw_header.decode(errors="replace").split("\r\n"), url) from error
        if isinstance(error, TimeoutError) and not str(error):
            raise ConnectFailed(f"TimeoutError: no connection within {timeout:g} s") from error
        if isinstance(error, OSError | WSError | ProxyError | ValueError | EOFError):
            raise transports.failure(error, url) from error
        raise
    return PicowsTransport(dial.inbox)


def _refused(error: WSHandshakeError, header: Sequence[str], url: str) -> ConnectFailed:
    """An answer that is no handshake, of whatever status: the library knows only those that are registered."""
    _, status, phrase = (header[0] + "  ").split(" ", 2)
    if not status.isdecimal() or status == "101":
        return transports.failure(error, url)
    fields = ((name, value.strip()) for name, _, value in (line.partition(":") for line in header[1:]))
    return transports.refusal(int(status), phrase.strip(), fields, error.raw_body or b"")


async def _open(dial: _Dial, url: str, max_frame: int) -> None:
    proxy = transports.proxy(url)
    _, listener = await ws_connect(
        dial.listener,
        url,
        ssl_context=transports.tls() if urlsplit(url).scheme == "wss" else None,
        websocket_handshake_timeout=None,
        logger_name=_Ear(dial.inbox),
        enable_auto_pong=False,  # a ping may be the last frame of a read: `on_ws_frame` has to see it
        max_frame_size=max_frame,
        extra_headers={"User-Agent": "market-data-lake"},  # picows names nobody, which some gates refuse
        max_redirects=0,
        proxy=proxy.replace("socks5h://", "socks5://", 1) if proxy else None,  # names are resolved there in any case
        socket_factory=dial.socket,
        use_aiofastnet=False,  # the loop's own TLS: no faster at these rates, and in wider use
    )
    if listener is None:
        raise ConnectFailed("the connection ended during the handshake")
