"""HTTP for sessions: bounded bodies, no foreign redirects, silence where a host asks for it."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from aiohttp import web

from collectors.http import Http, HttpFailed
from tests.support.clock import ManualClock


@contextlib.asynccontextmanager
async def venue(**routes):
    """A host whose routes are functions of a request."""
    app = web.Application()
    for name, handler in routes.items():
        app.router.add_get(f"/{name}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def http(clock: ManualClock | None = None, **options: object) -> Http:
    return Http(clock or ManualClock(), "binance", "spot", **options)


async def answer(_request: web.Request) -> web.Response:
    return web.json_response({"ok": True}, headers={"X-Used-Weight": "7"})


async def test_status_headers_and_body_come_back() -> None:
    async with venue(info=answer) as url, http() as client:
        found = await client.fetch("GET", f"{url}/info?symbol=A%2FB")
        assert (found.status, found.body) == (200, b'{"ok": true}')
        assert found.headers["x-used-weight"] == "7"


async def test_an_error_status_is_an_answer() -> None:
    async with venue() as url, http() as client:
        assert (await client.fetch("GET", f"{url}/nothing")).status == 404


async def test_a_body_is_capped_after_decompression() -> None:
    async def bomb(_request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(bytes(5_000_000)), headers={"Content-Encoding": "gzip"})

    async with venue(bomb=bomb) as url, http(max_body=1_000_000) as client:
        with pytest.raises(HttpFailed, match="more than 1,000,000 bytes"):
            await client.fetch("GET", f"{url}/bomb")


async def test_a_redirect_stays_on_its_host() -> None:
    async def here(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/info"})

    async def away(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://elsewhere.test/info"})

    async def round_and_round(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/round"})

    async with venue(here=here, away=away, round=round_and_round, info=answer) as url, http() as client:
        assert (await client.fetch("GET", f"{url}/here")).status == 200
        with pytest.raises(HttpFailed, match=r"another host: elsewhere\.test"):
            await client.fetch("GET", f"{url}/away")
        with pytest.raises(HttpFailed, match="more than 3 times"):
            await client.fetch("GET", f"{url}/round")


@pytest.mark.parametrize("status, wait, silent", [(429, "7", 7.0), (418, "100", 110.0), (429, "soon", 60.0)])
async def test_a_host_that_asks_for_silence_gets_it(status: int, wait: str, silent: float) -> None:
    asked = 0

    async def limited(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=status if asked == 1 else 200, headers={"Retry-After": wait})

    clock = ManualClock()
    async with venue(info=limited) as url, http(clock) as client:
        assert (await client.fetch("GET", f"{url}/info")).status == status
        await clock.advance(silent - 0.5)
        with pytest.raises(HttpFailed, match="asked for silence"):
            await client.fetch("GET", f"{url}/info")
        assert asked == 1
        await clock.advance(1.0)
        assert (await client.fetch("GET", f"{url}/info")).status == 200


async def test_no_connection_a_torn_body_and_a_bad_address_are_failures() -> None:
    async def torn(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with venue(torn=torn) as url, http() as client:
        for address in (f"{url}/torn", "http://127.0.0.1:1/", "http://"):
            with pytest.raises(HttpFailed):
                await client.fetch("GET", address)


async def test_an_answer_that_takes_too_long_is_a_failure() -> None:
    async def slow(request: web.Request) -> web.Response:
        assert request.transport is not None
        while not request.transport.is_closing():
            await client_gone(request)
        return web.Response()

    async def client_gone(request: web.Request) -> None:
        with contextlib.suppress(Exception):
            await request.content.read()
        await __import__("asyncio").sleep(0.02)

    async with venue(slow=slow) as url, http(timeout=0.1) as client:
        with pytest.raises(HttpFailed):
            await client.fetch("GET", f"{url}/slow")
