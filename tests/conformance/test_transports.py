"""What every transport must do; members of collectors/transports find their way here by themselves."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import hashlib
import http
import shutil
import ssl
import subprocess

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from collectors import transports
from collectors.transports import BATCH_FRAMES, Closed, ConnectFailed

pytestmark = pytest.mark.parametrize("name", transports.names())
PATIENCE = 10.0


@contextlib.asynccontextmanager
async def venue(handler, host="127.0.0.1", **options):
    scheme = "wss" if "ssl" in options else "ws"
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        yield f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}/stream"


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


ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
)
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@contextlib.asynccontextmanager
async def talker(answer: bytes, *, asked: asyncio.Event | None = None, ends: asyncio.Event | None = None):
    """A peer that answers everything with the same bytes, or with silence; all its sockets are closed at the end.

    `%s` in the answer is what accepts the handshake. `asked` is set when a client has sent its own, `ends` when it has
    left.
    """
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.lower().index(b"sec-websocket-key: ") + len(b"sec-websocket-key: ")
        key = head[key : head.index(b"\r", key)]
        if asked is not None:
            asked.set()
        writer.write(answer.replace(b"%s", base64.b64encode(hashlib.sha1(key + MAGIC).digest())))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        if ends is not None:
            ends.set()

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


def frames_of(*parts: tuple[int, bytes]) -> bytes:
    """A handshake that is accepted, and frames of (first byte, payload) after it in one piece."""
    written = [bytes((first, len(data))) if len(data) < 126 else bytes((first, 126)) + len(data).to_bytes(2)
               for first, data in parts]  # fmt: skip
    return ACCEPT + b"\r\n" + b"".join(head + data for head, (_, data) in zip(written, parts, strict=True))


FINAL, MORE = 0x80, 0x00
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
            frames += await asyncio.wait_for(transport.receive(), PATIENCE)
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
        await peer.send(["y" * 500, "y" * 500])

    async with venue(handler) as url:
        frames, closed = await read_all(await connected(name, url, max_frame=1000))
        assert (frames, closed.code) == ([b"x" * 1000, b"y" * 1000], 1000)


async def test_a_peer_that_answers_no_ping_is_left(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "PING_SECONDS", 0.1)
    monkeypatch.setattr(transports, "CLOSE_SECONDS", 0.1)
    async with talker(frames_of((FINAL | TEXT, b"once"))) as url:
        transport = await connected(name, url)
        frames, closed = await read_all(transport)
        assert (frames, closed.code) == ([b"once"], 1011)
        await transport.close()


async def test_a_quiet_peer_that_answers_pings_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "PING_SECONDS", 0.1)

    async def handler(peer: ServerConnection) -> None:
        await asyncio.sleep(0.6)
        await peer.send("still here")

    async with venue(handler) as url:
        frames, closed = await read_all(await connected(name, url))
        assert (frames, closed.code) == ([b"still here"], 1000)


async def test_a_refusal_is_told_in_the_words_of_the_venue(name: str) -> None:
    def refuse(peer: ServerConnection, _request: object) -> object:
        return peer.respond(http.HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS, "restricted\n location")

    async with venue(lambda _peer: asyncio.sleep(0), process_request=refuse) as url:
        with pytest.raises(ConnectFailed, match=r"451 Unavailable For Legal Reasons: restricted location"):
            await connected(name, url)


async def test_an_extension_that_was_not_offered_is_refused(name: str) -> None:
    async with talker(ACCEPT + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n") as url:
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of `localhost` that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = [str(folder / "certificate.pem"), str(folder / "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-out", made[0], "-keyout", made[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return made[0], made[1]


@pytest.fixture
def secured(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def count(peer: ServerConnection) -> None:
    for n in range(5000):
        await peer.send(str(n) * 60)
    await peer.close(1001, "counted")


async def test_frames_come_over_tls_from_a_host_that_is_known(
    name: str, secured: ssl.SSLContext, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    transports.tls.cache_clear()
    try:
        async with venue(count, host="localhost", ssl=secured) as url:
            frames, closed = await read_all(await connected(name, url))
            assert frames == [b"%d" % n * 60 for n in range(5000)]
            assert (closed.code, closed.reason) == (1001, "counted")
        async with venue(count, host="127.0.0.1", ssl=secured) as url:
            with pytest.raises(ConnectFailed, match=r"(?i)certificate"):  # which is for localhost
                await connected(name, url)
    finally:
        transports.tls.cache_clear()


async def test_a_certificate_that_nobody_vouches_for_is_refused(name: str, secured: ssl.SSLContext) -> None:
    async with venue(count, host="localhost", ssl=secured) as url:
        with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
            await connected(name, url)


def test_no_old_tls_is_spoken(name: str) -> None:
    assert transports.tls().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert transports.tls().verify_mode is ssl.CERT_REQUIRED
    assert transports.tls().check_hostname
    assert name in transports.names()
