"""HTTP against hostile and broken hosts: each ends in one sentence, in time, in little memory, and is never data."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import psutil
import pytest

from collectors.bodies import Body
from collectors.budget import Budget
from collectors.exchanges.binance import LIMITS
from collectors.http import LARGE_BODY, Http, HttpFailed
from lake.rows import BanRow
from runtime.clock import SystemClock
from tests.support.clock import ManualClock

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def host(play: Play, asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """A raw server that plays its part after each request head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if asked is not None:
                    asked.append(head)
                await play(reader, writer)
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
        await asyncio.sleep(0)


def sends(*pieces: bytes, close: bool = False, every: float = 0.0, again: bool = False) -> Play:
    """Send the pieces, in a loop where `again`, with pauses between them."""

    async def play(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(pieces[0])
        while True:
            for piece in pieces[1:]:
                if writer.is_closing():
                    return
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(every)
            if not again:
                break
        if close:
            writer.close()

    return play


async def fails(play: Play, said: str, **options: object) -> None:
    made = Http(SystemClock(), "binance", "spot", **options)
    given = made._timeout  # who connects here has all the time that it takes
    made._timeout = aiohttp.ClientTimeout(total=given.total, sock_read=given.sock_read)
    async with host(play) as url, made as client:
        with pytest.raises(HttpFailed, match=said) as failed:
            await asyncio.wait_for(client.fetch("GET", f"{url}/x"), 60)
    assert "\n" not in str(failed.value)


def sized(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    lines = b"".join(line + b"\r\n" for line in headers)
    return OK + lines + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


async def test_a_gzip_bomb_is_not_inflated() -> None:
    """400 KB that would be 400 MB."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(400)) + packer.flush()
    assert 300_000 < len(bomb) < 500_000
    before = psutil.Process().memory_info().rss
    peaks = []

    async def watch() -> None:
        while True:
            peaks.append(psutil.Process().memory_info().rss)
            await asyncio.sleep(0.001)

    watching = asyncio.ensure_future(watch())
    await fails(sends(sized(bomb, b"Content-Encoding: gzip")), "the answer has more than 33,554,432 bytes")
    watching.cancel()
    assert max(peaks) - before < 100_000_000


async def test_of_large_answers_one_at_a_time_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held = dict[int, int]()
    most = list[int]()
    feed = Body.feed

    def watched(body: Body, chunk: bytes) -> None:
        feed(body, chunk)
        held[id(body)] = body.size
        most.append(sum(held.values()))

    monkeypatch.setattr(Body, "feed", watched)
    size, budget = 20_000_000, Budget(SystemClock())
    large = sized(gzip.compress(bytes(size), 1), b"Content-Encoding: gzip")
    async with host(sends(large)) as url, Http(SystemClock(), "b", "spot", budget=budget) as client:

        async def ask() -> None:
            got = await client.fetch("GET", f"{url}/x")
            held.clear()  # each is let go of before the next one goes on
            assert len(got.body) == size

        await asyncio.gather(*(ask() for _ in range(4)))
    assert max(most) < size + 3 * (LARGE_BODY + 5_000_000)


async def test_a_large_answer_that_is_torn_lets_the_next_one_go_on() -> None:
    budget = Budget(SystemClock())
    torn = sized(bytes(LARGE_BODY + 1), length=LARGE_BODY + 2)
    for _ in range(2):
        async with host(sends(torn, close=True)) as url, Http(SystemClock(), "b", "spot", budget=budget) as client:
            with pytest.raises(HttpFailed, match="torn"):
                await client.fetch("GET", f"{url}/x")
    assert not budget.large.locked()


async def test_a_bomb_holds_up_no_other_task() -> None:
    bomb = gzip.compress(bytes(200_000_000), 1)
    gaps = []

    async def beat() -> None:
        while True:
            began = time.thread_time()  # a machine that stands still holds up nobody
            await asyncio.sleep(0)
            gaps.append(time.thread_time() - began)

    async with host(sends(sized(bomb, b"Content-Encoding: gzip"))) as url, Http(SystemClock(), "b", "spot") as client:
        beating = asyncio.ensure_future(beat())
        with pytest.raises(HttpFailed):
            await client.fetch("GET", f"{url}/x")
        beating.cancel()
    assert max(gaps) < 0.5


GZIPPED = gzip.compress(b'{"symbols": []}' * 1000)


@pytest.mark.parametrize("cut", [1, 8, 9, len(GZIPPED) // 2])
async def test_a_gzip_that_ends_too_early_is_no_answer(cut: int) -> None:
    """Its length is right for what was sent: nothing but the gzip itself tells."""
    await fails(sends(sized(GZIPPED[:-cut], b"Content-Encoding: gzip")), "ends in the middle of its gzip")


async def test_a_gzip_that_is_none_is_no_answer() -> None:
    await fails(sends(sized(b"{}", b"Content-Encoding: gzip")), "the answer is no gzip")
    flipped = bytearray(GZIPPED)
    flipped[-6] ^= 1  # its CRC
    await fails(sends(sized(bytes(flipped), b"Content-Encoding: gzip")), "the answer is no gzip")
    await fails(sends(sized(GZIPPED + b"tail", b"Content-Encoding: gzip")), "the answer is no gzip")


async def test_a_gzip_of_several_members_is_one_body() -> None:
    play = sends(sized(gzip.compress(b'{"a":') + gzip.compress(b"1}"), b"Content-Encoding: x-gzip"))
    async with host(play) as url, Http(SystemClock(), "binance", "spot") as client:
        assert (await client.fetch("GET", f"{url}/x")).body == b'{"a":1}'


async def test_an_encoding_that_was_not_asked_for_is_no_answer() -> None:
    asked: list[bytes] = []
    play = sends(sized(b"\x0b", b"Content-Encoding: br"))
    async with host(play, asked) as url, Http(SystemClock(), "binance", "spot") as client:
        with pytest.raises(HttpFailed, match="came encoded as 'br', which was not asked for"):
            await client.fetch("GET", f"{url}/x")
    assert b"Accept-Encoding: gzip\r\n" in asked[0]


async def test_a_body_shorter_than_it_said_is_no_answer() -> None:
    await fails(sends(sized(b'{"a": 1}', length=1000), close=True), "the answer is torn")
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n8\r\n" + b'{"a": 1'
    await fails(sends(chunked, close=True), "the answer is torn")


async def test_what_follows_a_body_longer_than_it_said_is_not_the_next_answer() -> None:
    """The rest looks like an answer to a question that was not asked yet."""
    forged = sized(b'{"forged": true}')
    answers = iter([sized(b"{}") + forged, sized(b'{"own": true}')])
    asked: list[bytes] = []

    async def play(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))

    async with host(play, asked) as url, Http(SystemClock(), "binance", "spot") as client:
        assert (await client.fetch("GET", f"{url}/1")).body == b"{}"
        assert (await client.fetch("GET", f"{url}/2")).body == b'{"own": true}'
    assert len(asked) == 2


async def test_a_length_beyond_the_cap_is_not_read() -> None:
    await fails(sends(sized(b"x", length=40_000_000)), "more than 33,554,432 bytes")


async def test_a_stream_without_end_is_cut_at_the_cap() -> None:
    head = OK + b"Connection: close\r\n\r\n"
    await fails(sends(head, bytes(65_536), again=True), "more than 2,000,000 bytes", max_body=2_000_000)


async def test_a_head_without_end_is_no_answer() -> None:
    line = b"X-Filler: " + b"a" * 1000 + b"\r\n"
    await fails(sends(OK, line, again=True), "LineTooLong|too many|Too many|BadStatusLine|BadHttpMessage|400")
    await fails(sends(OK + b"X-Long: ", b"a" * 4096, again=True), "LineTooLong|400")


async def test_what_is_no_http_is_no_answer() -> None:
    await fails(sends(b"SSH-2.0-OpenSSH_9.6\r\n", close=True), "BadStatusLine|Bad|ServerDisconnected|400")
    await fails(sends(b"", close=True), "ServerDisconnected")


async def test_a_slow_loris_is_cut_by_the_total_time() -> None:
    head = OK + b"Content-Length: 1000000\r\n\r\n"
    play = sends(head, b"x", every=0.02, again=True)
    await fails(play, r"no whole answer within 0\.2 s", timeout=0.2, silence=60)


async def test_a_host_that_falls_silent_is_given_up() -> None:
    head = OK + b"Content-Length: 10\r\n\r\n12345"
    await fails(sends(head, b"", every=3.0), r"nothing came for 0\.05 s", silence=0.05)
    await fails(sends(b"", b"", every=3.0), r"nothing came for 0\.05 s", silence=0.05)


async def test_a_redirect_to_another_host_port_or_scheme_is_not_followed() -> None:
    for place in ("http://elsewhere.test/x", "http://127.0.0.1:1/x", "https://127.0.0.1/x", "//elsewhere.test/x"):
        moved = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % place.encode()
        await fails(sends(moved), "redirects to another host")
    await fails(
        sends(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"), "to what is no address"
    )


async def test_a_ban_with_a_torn_body_is_a_ban() -> None:
    asked: list[bytes] = []
    told: list[BanRow] = []
    banned = b"HTTP/1.1 418 I'm a teapot\r\nRetry-After: 100\r\nContent-Length: 500\r\n\r\n<html>"
    clock = ManualClock()
    budget = Budget(clock, on_ban=told.append)
    linear, inverse = (
        Http(clock, "binance", market, limits=LIMITS[market], budget=budget) for market in ("linear", "inverse")
    )
    async with host(sends(banned, close=True), asked) as url, host(sends(sized(b"{}"))) as other, linear, inverse:
        with pytest.raises(HttpFailed, match="torn"):
            await linear.fetch("GET", f"{url}/x")
        for client, base in ((linear, url), (inverse, url), (inverse, other), (linear, other)):
            with pytest.raises(HttpFailed, match="asked for silence, 110 s are left"):
                await client.fetch("GET", f"{base}/x")
        assert len(asked) == 1
        (row,) = told
        assert (f"http://{row.host}", row.pool, row.status) == (url, "binance-futures", 418)
        await clock.advance(110.5)
        assert (await inverse.fetch("GET", f"{other}/x")).status == 200


async def test_a_restart_keeps_the_silence() -> None:
    asked: list[bytes] = []
    clock = ManualClock()
    told: list[BanRow] = []
    limited = b"HTTP/1.1 429 Too Many\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"
    async with host(sends(limited), asked) as url:
        async with Http(clock, "binance", "spot", budget=Budget(clock, on_ban=told.append)) as client:
            assert (await client.fetch("GET", f"{url}/x")).status == 429
        later = ManualClock(clock.now() + 20_000_000)  # another process, twenty seconds on
        async with Http(later, "binance", "spot", budget=Budget(later, told)) as client:
            with pytest.raises(HttpFailed, match="10 s are left"):
                await client.fetch("GET", f"{url}/x")
            assert len(asked) == 1
            await later.advance(10.5)
            assert (await client.fetch("GET", f"{url}/x")).status == 429


async def test_every_answer_tells_the_budget_what_is_used() -> None:
    clock = ManualClock()
    budget = Budget(clock)
    said = iter([b"X-MBX-USED-WEIGHT-1M: 600", b"x-mbx-used-weight-1m: 900"])

    async def play(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sized(b"{}", next(said)))

    async with host(play) as url, Http(clock, "binance", "linear", limits=LIMITS["linear"], budget=budget) as client:
        await client.fetch("GET", f"{url}/fapi/v1/depth?symbol=X")
        assert budget.status(LIMITS["inverse"])["used_share"] == 0.25
        await client.fetch("GET", f"{url}/fapi/v1/ticker/bookTicker?symbol=X")
        assert budget.status(LIMITS["inverse"])["used_share"] == 0.25
