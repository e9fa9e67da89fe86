"""What every transport must do; members of collectors/transports find their way here by themselves."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gc
import hashlib
import http
import json
import random
import ssl
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from collectors import transports
from collectors.transports import BATCH_FRAMES, PAUSE_BYTES, Closed, ConnectFailed
from tests.support.authority import Authority
from tests.support.commands import ROOT

DEFLATE = " with deflate"
pytestmark = pytest.mark.parametrize("name", [name + how for name in transports.names() for how in ("", DEFLATE)])
PATIENCE = 240.0
STORED = ServerPerMessageDeflateFactory(compress_settings={"level": 0})
"""Deflated where the client asks for it, without a search for what nothing makes smaller."""


@contextlib.asynccontextmanager
async def venue(handler, host="127.0.0.1", **options):
    scheme = "wss" if "ssl" in options else "ws"
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        yield f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}/stream"


async def connected(name, url, max_frame=1 << 20, timeout=PATIENCE):
    compression = "deflate" if name.endswith(DEFLATE) else "off"
    connect = transports.load_or_reference(name.removesuffix(DEFLATE), compression)
    return await connect(url, max_frame=max_frame, timeout=timeout, now=time.time_ns)


async def received(transport) -> list[bytes]:
    """The frames of one `receive`, each with the time of its read, which never goes back."""
    frames, times = await asyncio.wait_for(transport.receive(), PATIENCE)
    assert len(frames) == len(times)
    assert times == sorted(times)
    return frames


async def read_all(transport) -> tuple[list[bytes], Closed]:
    frames: list[bytes] = []
    while True:
        try:
            frames += await received(transport)
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
            batch = await received(transport)
            assert 1 <= len(batch) <= BATCH_FRAMES
            total += len(batch)
        await transport.close()


async def test_what_has_been_read_is_ready_at_once_whoever_waits_for_it(name: str) -> None:
    sent = [b"%d" % n for n in range(2 * BATCH_FRAMES)]

    async def handler(peer: ServerConnection) -> None:
        await peer.recv()
        for frame in sent:
            await peer.send(frame.decode())
        await peer.close(4001, "enough")

    async with venue(handler) as url:
        transport = await connected(name, url)
        assert transport.ready() == ([], [])
        await transport.send("begin")
        got: list[bytes] = []

        async def receiving() -> None:
            while True:
                got.extend((await transport.receive()).data)

        reader = asyncio.ensure_future(receiving())
        while not reader.done():
            await asyncio.sleep(0)
            frames, times = transport.ready()
            assert len(frames) == len(times)
            got += frames
        with pytest.raises(Closed):
            await reader
        assert got == sent
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
        first = await received(transport)
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
        assert await received(transport) == [b"kept"]
        await transport.close()


async def calm(look: Callable[[], object]) -> None:
    """Returns once nothing has changed for a hundred turns of the loop: whatever was to come is here, or held back."""
    before, turns = look(), 0
    while turns < 100:
        await asyncio.sleep(0.001)
        before, turns = (before, turns + 1) if (now := look()) == before else (now, 0)


async def test_a_slow_reader_holds_the_venue_back_instead_of_growing(name: str) -> None:
    sent = 0

    async def handler(peer: ServerConnection) -> None:
        nonlocal sent
        frame = random.Random(1).randbytes(200_000)  # which nothing makes smaller
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(200):
                await peer.send(frame)
                sent += 1

    async with venue(handler, extensions=[STORED]) as url:
        transport = await connected(name, url)
        while transport._inbox.nbytes < PAUSE_BYTES:
            await asyncio.sleep(0.001)
        await calm(lambda: (sent, transport._inbox.nbytes))
        held = transport._inbox.nbytes  # what was sent beyond it waits in the kernel: tens of megabytes, as it is set
        frames, _ = await read_all(transport)
        await transport.close()
        assert len(frames) == 200
        # frames that one read had brought come behind the pause, how many hangs on the machine; 40 MB were sent
        assert held < 2 * PAUSE_BYTES, f"{held:,} bytes were taken in although nobody read"


async def test_what_is_small_on_the_wire_is_not_inflated_all_at_once(name: str) -> None:
    if not name.endswith(DEFLATE):
        pytest.skip("nothing is inflated")
    part = wire(FINAL | PACKED | TEXT, deflated(bytes(1 << 20)))  # of 1 KB
    async with talker(AGREED + 100 * part) as url:
        transport = await connected(name, url)
        while not transport._inbox.nbytes:
            await asyncio.sleep(0.001)
        await calm(lambda: transport._inbox.nbytes)
        frames = 0
        while frames < 100:
            assert transport._inbox.nbytes < 40 << 20
            frames += len(await received(transport))
        await transport.close()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "http://127.0.0.1:1/", "ws://no.such.host.invalid/"])
async def test_no_connection_is_a_reason_and_not_a_crash(name: str, url: str) -> None:
    with pytest.raises(ConnectFailed):
        await connected(name, url)


ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
)
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def key_of(reader: asyncio.StreamReader) -> bytes:
    """What accepts the handshake that comes."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = head.lower().index(b"sec-websocket-key: ") + len(b"sec-websocket-key: ")
    return base64.b64encode(hashlib.sha1(head[key : head.index(b"\r", key)] + MAGIC).digest())


@contextlib.asynccontextmanager
async def served(talk):
    """The address of a server that does this with every connection, and is done with all of them at the end."""
    tasks = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(run, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)


@contextlib.asynccontextmanager
async def talker(answer: bytes, *, asked: asyncio.Event | None = None, ends: asyncio.Event | None = None):
    """A peer that answers everything with the same bytes, or with silence; all its sockets are closed at the end.

    `%s` in the answer is what accepts the handshake. `asked` is set when a client has sent its own, `ends` when it has
    left.
    """
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        key = await key_of(reader)
        if asked is not None:
            asked.set()
        writer.write(answer.replace(b"%s", key, 1))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        if ends is not None:
            ends.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        finally:
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
            await connected(name, url, timeout=0.2)


def wire(first: int, data: bytes) -> bytes:
    """One frame as it is sent by a server."""
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    return (bytes((first, 126)) + size.to_bytes(2) if size < 65536 else bytes((first, 127)) + size.to_bytes(8)) + data


def frames_of(*parts: tuple[int, bytes]) -> bytes:
    """A handshake that is accepted, and frames of (first byte, payload) after it in one piece."""
    return ACCEPT + b"\r\n" + b"".join(wire(first, data) for first, data in parts)


@functools.cache
def deflated(data: bytes, *, times: int = 1, last: bool = True) -> bytes:
    """The payload that inflates to `data`, so many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(data) for _ in range(times)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4] if last else packed


AGREED = ACCEPT + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
FINAL, MORE, PACKED = 0x80, 0x00, 0x40
CONTINUED, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA


@pytest.mark.parametrize("large", [10, 300])
async def test_control_frames_may_come_anywhere_in_what_is_read_together(name: str, large: int) -> None:
    whole = b"w" * large
    answer = frames_of(
        (FINAL | PING, b"1"), (FINAL | TEXT, whole), (FINAL | PONG, b"unasked"), (MORE | TEXT, b"a" * large),
        (FINAL | PING, b"2"), (MORE | CONTINUED, b"b" * large), (FINAL | CONTINUED, b"c" * large), (FINAL | TEXT, b""),
        (FINAL | TEXT, whole), (FINAL | PING, b"3"),
    )  # fmt: skip
    async with talker(answer) as url:
        transport = await connected(name, url)
        frames: list[bytes] = []
        while len(frames) < 4:
            frames += await received(transport)
        assert frames == [whole, b"a" * large + b"b" * large + b"c" * large, b"", whole]
    await transport.close()


@pytest.mark.parametrize(
    "code, answer",
    [
        (1005, frames_of((FINAL | TEXT, b"good"), (FINAL | CLOSE, b""), (FINAL | TEXT, b"after"))),
        (4321, frames_of((FINAL | TEXT, b"good"), (FINAL | CLOSE, (4321).to_bytes(2) + b"bye"))),
        (1002, frames_of((FINAL | TEXT, b"good"), (FINAL | 0x3, b"reserved"))),
        (1002, frames_of((FINAL | TEXT, b"good"), (FINAL | CONTINUED, b"of nothing"))),
        (1002, frames_of((FINAL | TEXT, b"good"), (MORE | TEXT, b"begun"), (FINAL | TEXT, b"another"))),
        (1009, frames_of((FINAL | TEXT, b"good"), (FINAL | TEXT, b"x" * 1001), (FINAL | TEXT, b"after"))),
        (1009, frames_of((FINAL | TEXT, b"good"), (MORE | TEXT, b"x" * 900), (FINAL | CONTINUED, b"x" * 101))),
    ],
)
async def test_the_end_is_told_by_its_code_and_nothing_of_it_or_after_it_is_a_frame(
    name: str, code: int, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "CLOSE_SECONDS", 0.1)  # this peer never closes its socket
    async with talker(answer) as url:
        transport = await connected(name, url, max_frame=1000)
        frames, closed = await read_all(transport)
        assert (frames, closed.code) == ([b"good"], code)
        with pytest.raises(Closed):
            await transport.send("hello?")
        await transport.close()


async def test_what_was_too_large_is_no_frame_when_the_rest_of_it_comes_either(name: str) -> None:
    async def handler(peer: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(1000):
                await peer.send("y" * 1001)
                await peer.send("z")

    async with venue(handler) as url:
        frames, closed = await read_all(await connected(name, url, max_frame=1000))
        assert (frames, closed.code) == ([], 1009)


async def test_a_message_of_just_the_limit_is_whole(name: str) -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.send("x" * 1000)
        await peer.send(["y" * 500, "y" * last])

    last = 499 if name.endswith(DEFLATE) else 500  # this peer ends a message with a part of nothing, deflated one byte
    async with venue(handler) as url:
        frames, closed = await read_all(await connected(name, url, max_frame=1000))
        assert (frames, closed.code) == ([b"x" * 1000, b"y" * (500 + last)], 1000)


async def test_a_peer_that_answers_no_ping_is_left(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "PING_SECONDS", 0.1)
    monkeypatch.setattr(transports, "CLOSE_SECONDS", 0.1)
    async with talker(frames_of((FINAL | TEXT, b"once"))) as url:
        transport = await connected(name, url)
        frames, closed = await read_all(transport)
        assert (frames, closed.code) == ([b"once"], 1011)
        await transport.close()


class Pings:
    """They are due when a test says so: a peer in the same loop answers no sooner than the loop lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transports, "PING_SECONDS", NEVER)
        monkeypatch.setattr(transports, "UNREAD_SECONDS", NEVER)
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def call_later(delay: float, callback: Any, *given: Any, **more: Any) -> asyncio.TimerHandle:
            if delay == NEVER:
                self.due = functools.partial(callback, *given)
            return later(delay, callback, *given, **more)

        monkeypatch.setattr(loop, "call_later", call_later)


NEVER = 1e6
"""Seconds."""


async def test_a_quiet_peer_that_answers_pings_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pings, pinged = Pings(monkeypatch), 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pinged
        writer.write(ACCEPT.replace(b"%s", await key_of(reader)) + b"\r\n")
        while pinged < 5:
            first, size = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            said = bytes(byte ^ mask[n % 4] for n, byte in enumerate(await reader.readexactly(size & 0x7F)))
            assert first == FINAL | PING
            pinged += 1
            writer.write(wire(FINAL | PONG, said))
        writer.write(wire(FINAL | TEXT, b"still here") + wire(FINAL | CLOSE, (1000).to_bytes(2)))

    async with served(talk) as url:
        transport = await connected(name, url)
        held = getattr(transport, "_connection", transport._inbox)
        for _ in range(5):
            pings.due()
            while not getattr(held, "heard" if hasattr(held, "heard") else "_heard"):
                await asyncio.sleep(0.001)
        frames, closed = await read_all(transport)
        assert (frames, closed.code, pinged) == ([b"still here"], 1000, 5)
        await transport.close()


async def test_an_answer_that_came_while_the_loop_stood_still_counts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline comes first then, and the answer is read behind it; of a peer that gave none the next one tells."""
    monkeypatch.setattr(transports, "CLOSE_SECONDS", 0.1)
    pings, answered = Pings(monkeypatch), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ACCEPT.replace(b"%s", await key_of(reader)) + b"\r\n")
        await reader.readexactly(6)
        writer.write(wire(FINAL | PONG, b""))
        answered.set()
        await reader.read()

    async with served(talk) as url:
        transport = await connected(name, url)
        held = getattr(transport, "_connection", transport._inbox)
        pings.due()
        pings.due()
        async with asyncio.timeout(PATIENCE):
            while not getattr(held, "heard" if hasattr(held, "heard") else "_heard"):
                await asyncio.sleep(0.001)
        assert answered.is_set()
        pings.due()
        await transport.send("it is open")
        pings.due()
        pings.due()
        with pytest.raises(Closed, match="1011"):
            await transport.send("it is over")
        await transport.close()


async def test_a_peer_that_talks_is_kept_although_it_answers_no_ping(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings, goes_on = Pings(monkeypatch), asyncio.Semaphore()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ACCEPT.replace(b"%s", await key_of(reader)) + b"\r\n")
        for n in range(20):
            await goes_on.acquire()
            writer.write(wire(FINAL | TEXT, b"%d" % n))
        await goes_on.acquire()
        writer.write(wire(FINAL | CLOSE, (1000).to_bytes(2)))

    async with served(talk) as url:
        transport = await connected(name, url)
        frames: list[bytes] = []
        for _ in range(20):
            frames += await received(transport)
            pings.due()
            goes_on.release()
        rest, closed = await read_all(transport)
        assert (frames + rest, closed.code) == ([b"%d" % n for n in range(20)], 1000)
        await transport.close()


async def test_a_reader_that_rests_for_long_is_not_taken_for_a_peer_that_is_gone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "PING_SECONDS", 0.1)

    async def handler(peer: ServerConnection) -> None:
        for n in range(400):
            await peer.send(random.Random(n).randbytes(100_000))

    async with venue(handler, ping_interval=None, extensions=[STORED]) as url:
        transport = await connected(name, url)
        await asyncio.sleep(0.6)
        frames, closed = await read_all(transport)
        assert (len(frames), closed.code) == (400, 1000)


async def test_a_refusal_is_told_in_the_words_of_the_venue(name: str) -> None:
    def refuse(peer: ServerConnection, _request: object) -> object:
        return peer.respond(http.HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS, "restricted\n location")

    async with venue(lambda _peer: asyncio.sleep(0), process_request=refuse) as url:
        with pytest.raises(ConnectFailed, match=r"451 Unavailable For Legal Reasons: restricted location"):
            await connected(name, url)


async def test_an_extension_that_was_not_offered_is_refused(name: str) -> None:
    extension = b"x-invented" if name.endswith(DEFLATE) else b"permessage-deflate"
    async with talker(ACCEPT + b"Sec-WebSocket-Extensions: " + extension + b"\r\n\r\n") as url:
        with pytest.raises(ConnectFailed):
            await connected(name, url)


async def test_a_peer_that_leaves_during_the_handshake_is_a_reason(name: str) -> None:
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectFailed):
            await connected(name, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


@pytest.mark.parametrize("answer", [b"", ACCEPT])
async def test_a_handshake_that_is_given_up_leaves_no_socket_open(name: str, answer: bytes) -> None:
    asked, ends = asyncio.Event(), asyncio.Event()
    async with talker(answer, asked=asked, ends=ends) as url:
        attempt = asyncio.ensure_future(connected(name, url))
        await asyncio.wait_for(asked.wait(), PATIENCE)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await asyncio.wait_for(ends.wait(), PATIENCE)


async def test_nothing_is_left_running_and_nothing_is_said_after_the_end(name: str) -> None:
    said: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: said.append(context))

    async def handler(peer: ServerConnection) -> None:
        await peer.send("x" * 5000)

    async with venue(handler) as url:
        before = asyncio.all_tasks()
        for max_frame in (1000, 10_000):
            transport = await connected(name, url, max_frame=max_frame)
            await read_all(transport)
            await transport.close()
            await transport.close()
        with pytest.raises(ConnectFailed):
            await connected(name, "ws://127.0.0.1:1/")
        del transport
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not (left := {task for task in asyncio.all_tasks() - before if "conn_handler" not in repr(task)}):
                break
        gc.collect()
        await asyncio.sleep(0)
        assert not left
    assert said == []


async def test_text_that_is_no_utf8_is_handed_over_as_it_came(name: str) -> None:
    async with talker(
        frames_of((FINAL | TEXT, b"\xff\xfe"), (FINAL | TEXT, b"\xc3" * 300), (FINAL | TEXT, b"{}"))
    ) as url:
        transport = await connected(name, url)
        frames: list[bytes] = []
        while len(frames) < 3:
            frames += await received(transport)
        assert frames == [b"\xff\xfe", b"\xc3" * 300, b"{}"]
        await transport.close()


MASKED = bytes((FINAL | TEXT, 0x80 | 4)) + b"mask" + b"data"


FORBIDDEN = [
    *(wire(FINAL | bit | TEXT, b"r" * size) for bit in (0x40, 0x20, 0x10) for size in (4, 400)),
    wire(FINAL | 0x40 | PING, b"reserved"),
    MASKED,
    wire(MORE | PING, b"in parts"),
    wire(FINAL | PING, b"p" * 126),
    wire(FINAL | PONG, b"p" * 126),
    wire(FINAL | CLOSE, (1000).to_bytes(2) + b"c" * 124),
    wire(FINAL | CLOSE, b"c"),
    *(wire(FINAL | CLOSE, code.to_bytes(2)) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
    wire(FINAL | 0xB, b"a control frame of no kind"),
]


async def test_what_the_protocol_forbids_ends_the_connection_after_what_came_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "CLOSE_SECONDS", 0.1)

    async def end(wrong: bytes) -> tuple[list[bytes], int]:
        async with talker(frames_of((FINAL | TEXT, b"good")) + wrong + wire(FINAL | TEXT, b"after")) as url:
            transport = await connected(name, url)
            frames, closed = await read_all(transport)
            await transport.close()
            return frames, closed.code

    ends = await asyncio.gather(*map(end, FORBIDDEN))
    assert dict(zip(FORBIDDEN, ends, strict=True)) == dict.fromkeys(FORBIDDEN, ([b"good"], 1002))


async def test_a_flood_of_pings_is_answered_and_nothing_is_lost_in_it(name: str) -> None:
    flood = wire(FINAL | PING, b"p" * 100) * 20_000
    async with talker(frames_of((FINAL | TEXT, b"before")) + flood + wire(FINAL | TEXT, b"after")) as url:
        transport = await connected(name, url)
        frames: list[bytes] = []
        while len(frames) < 2:
            frames += await received(transport)
        assert frames == [b"before", b"after"]
        await transport.close()


async def test_deflated_messages_are_what_they_were(name: str) -> None:
    if not name.endswith(DEFLATE):
        pytest.skip("nothing is inflated")
    large = random.Random(2).randbytes(300_000).hex().encode()
    halves = zlib.compressobj(wbits=-15)
    first = halves.compress(b"in ") + halves.flush(zlib.Z_SYNC_FLUSH)
    second = halves.compress(b"parts") + halves.flush(zlib.Z_SYNC_FLUSH)
    answer = (
        AGREED + wire(FINAL | PACKED | TEXT, deflated(b"small")) + wire(FINAL | TEXT, b"plain")
        + wire(MORE | PACKED | TEXT, first) + wire(FINAL | PING, b"between") + wire(FINAL | CONTINUED, second[:-4])
        + wire(FINAL | PACKED | TEXT, deflated(large)) + wire(FINAL | PACKED | TEXT, deflated(b"x" * 9_000_000))
        + wire(FINAL | PACKED | TEXT, b"\x07garbage")
    )  # fmt: skip
    async with talker(answer) as url:
        transport = await connected(name, url, max_frame=9_000_000)
        frames, closed = await read_all(transport)
        assert frames[:3] == [b"small", b"plain", b"in parts"]
        assert [zlib.crc32(frame) for frame in frames[3:]] == [zlib.crc32(large), zlib.crc32(b"x" * 9_000_000)]
        assert closed.code == 1002
        await transport.close()


async def test_what_is_sent_over_a_compressed_connection_arrives(name: str) -> None:
    agreed: list[object] = []

    async def handler(peer: ServerConnection) -> None:
        agreed.extend(type(extension).__name__ for extension in peer.protocol.extensions)
        await peer.send(await peer.recv())

    async with venue(handler) as url:
        transport = await connected(name, url)
        await transport.send("subscribe " * 100)
        assert await received(transport) == [b"subscribe " * 100]
        await transport.close()
    assert agreed == (["PerMessageDeflate"] if name.endswith(DEFLATE) else [])


MB = 1 << 20


async def test_what_is_too_large_is_refused_before_it_takes_memory(name: str) -> None:
    bomb, part = deflated(bytes(MB), times=64), deflated(bytes(MB), last=False)
    assert len(bomb) < 70_000
    plain = bytes((FINAL | TEXT, 127)) + (64 * MB).to_bytes(8)
    packed = name.endswith(DEFLATE)
    cases = [(1, plain, True), (16, plain, True)]
    if packed:
        for limit in (1, 16):
            whole = wire(FINAL | PACKED | TEXT, bomb)
            parts = wire(MORE | PACKED | TEXT, part) + wire(FINAL | CONTINUED, bomb)
            cases += [(limit, whole, False), (limit, parts, False)]
    todo = iter(cases)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, begun, more = next(todo)
        writer.write((AGREED if packed else ACCEPT + b"\r\n").replace(b"%s", await key_of(reader)))
        await reader.read(1)  # it has taken its measure
        with contextlib.suppress(ConnectionError):
            writer.write(begun)
            for _ in range(64 if more else 0):
                writer.write(bytes(MB))
                await writer.drain()
            await reader.read()

    async with served(talk) as url:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.hungry", name.removesuffix(DEFLATE), "deflate" if packed else "off",
            url, *(str(limit * MB) for limit, _, _ in cases), cwd=ROOT, stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(child.communicate(), 60)
    found = json.loads(out)
    assert [code for code, _ in found] == [1009] * len(cases)
    assert max(grown for _, grown in found) < 16 * MB, found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """An authority that the environment names as one to trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    transports.tls.cache_clear()
    yield authority
    transports.tls.cache_clear()


async def count(peer: ServerConnection) -> None:
    for n in range(5000):
        await peer.send(str(n) * 60)
    await peer.close(1001, "counted")


async def test_frames_come_over_tls_from_a_host_that_is_known(name: str, trusted: Authority) -> None:
    async with venue(count, host="localhost", ssl=trusted.server()) as url:
        frames, closed = await read_all(await connected(name, url))
        assert frames == [b"%d" % n * 60 for n in range(5000)]
        assert (closed.code, closed.reason) == (1001, "counted")


@pytest.mark.parametrize(
    "host, options, reason",
    [
        ("127.0.0.1", {}, r"certificate of 127\.0\.0\.1 is refused: IP address mismatch"),
        ("localhost", {"host": "elsewhere.test"}, r"refused: Hostname mismatch, .* not valid for 'localhost'"),
        ("localhost", {"expired": True}, r"certificate of localhost is refused: certificate has expired"),
    ],
)
async def test_a_certificate_of_another_host_or_of_another_time_is_refused(
    name: str, host: str, options: dict[str, object], reason: str, trusted: Authority
) -> None:
    async with venue(count, host=host, ssl=trusted.server(**options)) as url:
        with pytest.raises(ConnectFailed, match=reason):
            await connected(name, url)


async def test_a_certificate_that_nobody_vouches_for_is_refused(name: str, authority: Authority) -> None:
    transports.tls.cache_clear()
    async with venue(count, host="localhost", ssl=authority.server()) as url:
        with pytest.raises(ConnectFailed, match=r"certificate of localhost is refused: .* certificate"):
            await connected(name, url)


async def test_a_host_that_speaks_only_old_tls_is_refused(name: str, trusted: Authority) -> None:
    old = trusted.server()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with venue(count, host="localhost", ssl=old) as url:
        with pytest.raises(ConnectFailed):
            await connected(name, url)


def test_tls_is_always_verified(name: str) -> None:
    assert transports.tls().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert transports.tls().verify_mode is ssl.CERT_REQUIRED
    assert transports.tls().check_hostname
    assert name.removesuffix(DEFLATE) in transports.names()
