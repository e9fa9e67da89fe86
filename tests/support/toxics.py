"""A TCP proxy that misbehaves on command: what a network does to a connection, between a client and a real server.

    async with Proxy("127.0.0.1", port) as proxy:
        connect(f"ws://127.0.0.1:{proxy.port}/stream")
        proxy.down = Toxic(latency=0.2, piece=1)   # what the server sends: late, and byte by byte
        proxy.freeze()                             # neither reads nor writes any more, and ends nothing

Everything may be changed at any time, also for connections that are open. It knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

READ = 64 * 1024
LINE = 256
"""Reads of one direction that are on their way."""
Line = asyncio.Queue[tuple[float, bytes]]
"""When something is due at the other end, and what; nothing is the end."""


@dataclass(frozen=True)
class Toxic:
    """What befalls one direction. Nothing by default."""

    latency: float = 0.0
    """Seconds by which everything comes later."""
    rate: float | None = None
    """Bytes a second."""
    piece: int | None = None
    """Bytes a write, each in a segment of its own: 1 tears everything apart."""
    limit: int | None = None
    """Bytes of a connection that come through; then it ends with a FIN, in the middle of whatever it was."""
    hole: bool = False
    """What comes is read and thrown away, its end too: half open."""


class Proxy:
    """Forwards to `host:port` what connects to its own `port` on 127.0.0.1. Use it as an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        self.up = Toxic()
        """What befalls what the client sends."""
        self.down = Toxic()
        """What befalls what the server sends."""
        self.port = 0
        self.accepted = 0
        """Connections that were ever taken."""
        self.to = (host, port)
        """Where connections are forwarded that come from now on."""
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._pairs: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._pairs)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.refuse()
        tasks = list(self._pairs)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Take connections, again after `refuse` on the same port."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port, limit=READ)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Nobody listens any more; what is open stays open."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def freeze(self) -> None:
        """Neither read nor write, on any connection, and end none: a host that is gone without a word."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def reset(self) -> None:
        """RST to both ends of every connection."""
        for writers in self._pairs.values():
            for writer in writers:
                made: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._pairs[task] = writers = [writer]
        try:
            await self._flows.wait()
            there, back = await asyncio.open_connection(*self.to, limit=READ)
            writers.append(back)
            async with asyncio.TaskGroup() as group:
                for source, sink, down in ((reader, back, False), (there, writer, True)):
                    line: Line = asyncio.Queue(LINE)
                    group.create_task(self._take(source, line, down=down))
                    group.create_task(self._give(line, sink, down=down))
        except (OSError, ExceptionGroup):
            pass  # how it ended is seen from its ends
        finally:
            del self._pairs[task]
            for one in writers:
                one.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, line: Line, *, down: bool) -> None:
        loop = asyncio.get_running_loop()
        data = b"?"
        while data:
            await self._flows.wait()
            data = await reader.read(READ)
            toxic = self.down if down else self.up
            if not toxic.hole:
                await line.put((loop.time() + toxic.latency, data))

    async def _give(self, line: Line, writer: asyncio.StreamWriter, *, down: bool) -> None:
        loop = asyncio.get_running_loop()
        carried = 0
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            toxic = self.down if down else self.up
            if toxic.limit is not None:
                data = data[: max(0, toxic.limit - carried)]
            if not data:
                break
            carried += len(data)
            await self._write(writer, data, toxic)
            if toxic.limit is not None and carried >= toxic.limit:
                break
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, toxic: Toxic) -> None:
        step = toxic.piece or len(data)
        for at in range(0, len(data), step):
            await self._flows.wait()
            piece = data[at : at + step]
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0 if toxic.rate is None else len(piece) / toxic.rate)
