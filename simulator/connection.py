"""One WebSocket connection as the server sees it: its streams, its frames, what was written to its socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
SLOW_READER = 72 * 1024 * 1024
"""Bytes a reader may lag behind before it is cut off: one frame of 64 MB is no lag."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A final, unmasked frame (RFC 6455 section 5.2), as servers send them."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


class Connection:
    """Frames are gathered in `out` and written together once a tick, past the WebSocket library: that is what makes
    thousands of events a second cheap. `route` is the venue's name for the path it came by.
    """

    def __init__(self, number: int, market: str, route: str, path: str, transport: asyncio.Transport) -> None:
        self.number = number
        self.market = market
        self.route = route
        self.path = path
        self.transport = transport
        self.combined = False
        self.micro = False
        self.streams: dict[str, None] = {}
        self.out: list[bytes] = []
        self.opened = 0
        self.last_pong = 0.0
        self.last_ping = 0.0
        self.unanswered = 0
        """Pings since the last pong."""
        self.inbound: list[float] = []
        self.cause = ""
        self.unsent = 0
        self.mute = False
        """Nothing leaves any more."""
        self.lost = 0
        """Events that faults have kept from it since it was sent something."""
        self._numbered: Callable[[str, int], str] | None = None

    @property
    def variant(self) -> int:
        """Which of the four texts of an event it gets."""
        return self.combined + 2 * self.micro

    def number_messages(self, number: Callable[[str, int], str]) -> None:
        """(text, how many were lost before it) -> text as it leaves: some venues number what a socket is sent."""
        self._numbered = number

    def say(self, text: str) -> None:
        """A text frame, in line with the events; it leaves with `flush`."""
        self.out.append(frame(text.encode()))

    def flush(self) -> bool:
        """Write what was gathered. False where the reader is too slow to be kept."""
        if self._numbered is not None:
            self.out = [self._with_number(held, self._numbered) for held in self.out]
        data, self.out = b"".join(self.out), []
        if self.mute:
            return True
        if self.transport.is_closing():
            return True
        self.transport.write(data)
        return self.transport.get_write_buffer_size() < SLOW_READER

    def _with_number(self, held: bytes, number: Callable[[str, int], str]) -> bytes:
        start = {126: 4, 127: 10}.get(held[1], 2)
        payload = held[start:]
        if held[0] != 0x80 | TEXT or frame(payload) != held:
            return held
        lost, self.lost = self.lost, 0
        text = payload.decode("utf-8", "surrogateescape")
        return frame(number(text, lost).encode("utf-8", "surrogateescape"))

    def reset(self, cause: str) -> None:
        """End it by RST: what the peer has not read is lost."""
        reset_on_close(self.transport)
        self.end(cause)

    def end(self, cause: str, code: int | None = None) -> None:
        """Leave without a word, or close with a code after what was written. The first cause counts."""
        if self.transport.is_closing():
            return
        self.cause = self.cause or cause
        self.unsent = self.transport.get_write_buffer_size()
        if code is None or self.mute:
            self.transport.abort()
            return
        self.flush()
        self.unsent = 0
        self.transport.write(frame(code.to_bytes(2, "big") + cause.encode()[:120], CLOSE))
        self.transport.close()


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the end of a connection be RST instead of FIN."""
    held: socket.socket | None = transport.get_extra_info("socket")
    if held is not None:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
