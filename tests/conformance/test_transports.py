"""What every transport must do; members of collectors/transports find their way here by themselves."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from collectors import transports
from collectors.transports import BATCH_FRAMES, Closed, ConnectFailed

pytestmark = pytest.mark.parametrize("name", transports.names())
PATIENCE = 10.0


@contextlib.asynccontextmanager
async def venue(handler, **options):
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"


async def connected(name, url, max_frame=1 << 20):
    return await transports.load(name)(url, max_frame=max_frame, timeout=PATIENCE)


async def read_all(transport) -> tuple[list[bytes], Closed]:
    frames: list[bytes] = []
    while True:
        try:
            frames += await asyncio.wait_for(transport.receive(), PATIENCE)
        except Closed as closed:
            return frames, closed


async def test_frames_come_whole_in_order_and_before_the_end(name: str) -> None:
    sent = [b"%d" % n for n in range(3 * BATCH_FRAMES)]

    async def handler(peer: ServerConnection) -> None:
        for frame in sent:
            await peer.send(frame.decode())
        await peer.send([b"in ", b"three ", b"pieces"])
        await peer.close(4001, "enough")

    async with venue(handler) as url:
        transport = await connected(name, url)
        frames, closed = await read_all(transport)
        assert frames == [*sent, b"in three pieces"]
        assert (closed.code, closed.reason) == (4001, "enough")
        with pytest.raises(Closed):
            await transport.receive()
        await transport.close()


async def test_a_batch_is_never_larger_than_promised(name: str) -> None:
    async def handler(peer: ServerConnection) -> None:
        for _ in range(4 * BATCH_FRAMES):
            await peer.send("x")

    async with venue(handler) as url:
        transport = await connected(name, url)
        total = 0
        while total < 4 * BATCH_FRAMES:
            batch = await asyncio.wait_for(transport.receive(), PATIENCE)
            assert 1 <= len(batch) <= BATCH_FRAMES
            total += len(batch)
        await transport.close()


async def test_text_that_is_sent_arrives_and_pings_are_answered(name: str) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    async def handler(peer: ServerConnection) -> None:
        await (await peer.ping())
        heard.put_nowait("pong")
        heard.put_nowait(await peer.recv())

    async with venue(handler) as url:
        transport = await connected(name, url)
        await transport.send('{"id":1}')
        assert {await asyncio.wait_for(heard.get(), PATIENCE) for _ in range(2)} == {"pong", '{"id":1}'}
        await transport.close()


async def test_binary_frames_are_bytes_too(name: str) -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.send(b"\xff\x00")

    async with venue(handler) as url:
        frames, _ = await read_all(await connected(name, url))
        assert frames == [b"\xff\x00"]


async def test_a_frame_beyond_the_limit_ends_the_connection(name: str) -> None:
    async def handler(peer: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await peer.send("small")
            await peer.send("x" * 5000)
            await peer.send("never")

    async with venue(handler) as url:
        frames, closed = await read_all(await connected(name, url, max_frame=1000))
        assert frames == [b"small"]
        assert closed.code == 1009


async def test_a_connection_that_breaks_is_closed_with_1006(name: str) -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.send("last words")
        peer.transport.abort()

    async with venue(handler) as url:
        transport = await connected(name, url)
        frames, closed = await read_all(transport)
        assert closed.code == 1006
        assert frames in ([b"last words"], [])
        with pytest.raises(Closed):
            await transport.send("hello?")
        await transport.close()


async def test_what_was_sent_before_the_peer_agreed_to_close_is_still_read(name: str) -> None:
    asked = asyncio.Event()

    async def handler(peer: ServerConnection) -> None:
        await asked.wait()
        for n in range(20):
            await peer.send(str(n))
        await peer.wait_closed()

    async with venue(handler) as url:
        transport = await connected(name, url)
        asked.set()
        first = await asyncio.wait_for(transport.receive(), PATIENCE)
        await transport.close()
        rest, _ = await read_all(transport)
        assert [*first, *rest] == [b"%d" % n for n in range(20)]
        await transport.close()


async def test_cancelling_a_receive_loses_nothing(name: str) -> None:
    go = asyncio.Event()

    async def handler(peer: ServerConnection) -> None:
        await go.wait()
        await peer.send("kept")

    async with venue(handler) as url:
        transport = await connected(name, url)
        waiting = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        go.set()
        assert await asyncio.wait_for(transport.receive(), PATIENCE) == [b"kept"]
        await transport.close()


async def test_a_slow_reader_holds_the_venue_back_instead_of_growing(name: str) -> None:
    sent = 0

    async def handler(peer: ServerConnection) -> None:
        nonlocal sent
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(400):
                await peer.send("x" * 200_000)
                sent += 1

    async with venue(handler) as url:
        transport = await connected(name, url)
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 300, "80 MB were taken in although nobody read"
        frames, _ = await read_all(transport)
        assert len(frames) == 400
        await transport.close()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "http://127.0.0.1:1/", "ws://no.such.host.invalid/"])
async def test_no_connection_is_a_reason_and_not_a_crash(name: str, url: str) -> None:
    with pytest.raises(ConnectFailed):
        await connected(name, url)


@contextlib.asynccontextmanager
async def talker(answer: bytes):
    """A peer that answers everything with the same bytes, or with silence; all its sockets are closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(answer)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_an_answer_that_is_no_websocket_is_a_reason(name: str) -> None:
    async with talker(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi") as url:
        with pytest.raises(ConnectFailed):
            await connected(name, url)


async def test_a_silent_handshake_times_out(name: str) -> None:
    async with talker(b"") as url:
        with pytest.raises(ConnectFailed):
            await transports.load(name)(url, max_frame=1000, timeout=0.2)
