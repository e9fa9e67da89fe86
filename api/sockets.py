"""Connections that end: who asks and does not read, or connects and does not ask, keeps no socket and no memory.

uvicorn closes a connection once all that was written is read, which who does not read prevents for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

LOOK_SECONDS = 1.0
"""Between two looks at a connection."""
ASK_SECONDS = 30.0
"""In which a new connection has sent the head of its first request."""
STALLED_SECONDS = 60.0
"""In which at least something of what waits for a client is taken."""
_RESET = struct.pack("ii", 1, 0)


class Watched(H11Protocol):
    """uvicorn's connection, looked at every second. `answer_seconds`: how long one answer may take."""

    answer_seconds = 300.0
    _timer: asyncio.TimerHandle | None = None
    _began = 0.0
    _closing: float | None = None
    """Since when it is closed, and something is still to be read."""
    _waiting = 0
    """Bytes that were not taken at the last look; since when they are so many follows."""
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._began = self.loop.time()
        self._timer = self.loop.call_later(LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.transport.get_protocol() is not self:  # a WebSocket now, which asks its client for signs of life
            return
        if self._over(self.loop.time()):
            self._cut()
        else:
            self._timer = self.loop.call_later(LOOK_SECONDS, self._look)

    def _over(self, now: float) -> bool:
        """Whether nothing is waited for any more."""
        waiting = self.transport.get_write_buffer_size()
        if waiting != self._waiting:
            self._waiting, self._since = waiting, now
        if waiting and now - self._since >= min(STALLED_SECONDS, self.answer_seconds):
            return True
        asked: Any = self.cycle  # None before the first request, whatever its type says
        if asked is None:
            return now - self._began >= ASK_SECONDS
        if not self.transport.is_closing():
            return False
        self._closing = now if self._closing is None else self._closing
        # an answer that was cut off is of no use to anybody
        return not asked.response_complete or now - self._closing >= self.answer_seconds

    def _cut(self) -> None:
        """At once, and the kernel keeps nothing of it either."""
        held: Any = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def watched(answer_seconds: float) -> type[Watched]:
    """The class for a server whose answers may take so long."""
    return type("Watched", (Watched,), {"answer_seconds": answer_seconds})
