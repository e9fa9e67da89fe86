"""Certificates: none is taken that is not vouched for, for HTTP as for WebSockets; an authority of one's own may."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from collectors import transports
from collectors.http import Http, HttpFailed
from tests.support.authority import Authority
from tests.support.clock import ManualClock
from tests.support.commands import ROOT


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


@contextlib.asynccontextmanager
async def venue(secured: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a host that answers `ok` to everything."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/info", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=secured).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def http() -> Http:
    return Http(ManualClock(), "binance", "spot")


async def test_a_host_that_a_trusted_authority_vouches_for_is_asked(trusted: Authority) -> None:
    async with venue(trusted.server()) as port, http() as client:
        assert (await client.fetch("GET", f"https://localhost:{port}/info")).body == b"ok"


@pytest.mark.parametrize(
    "host, options, reason",
    [
        ("127.0.0.1", {}, r"the certificate of 127\.0\.0\.1 is refused: IP address mismatch"),
        ("localhost", {"host": "elsewhere.test"}, r"refused: Hostname mismatch, .* not valid for 'localhost'"),
        ("localhost", {"expired": True}, r"the certificate of localhost is refused: certificate has expired"),
    ],
)
async def test_a_certificate_of_another_host_or_of_another_time_is_refused(
    host: str, options: dict[str, object], reason: str, trusted: Authority
) -> None:
    async with venue(trusted.server(**options)) as port, http() as client:
        with pytest.raises(HttpFailed, match=reason):
            await client.fetch("GET", f"https://{host}:{port}/info")


async def test_a_certificate_that_nobody_vouches_for_is_refused(authority: Authority) -> None:
    transports.tls.cache_clear()
    async with venue(authority.server()) as port, http() as client:
        with pytest.raises(HttpFailed, match=r"the certificate of localhost is refused: .* certificate"):
            await client.fetch("GET", f"https://localhost:{port}/info")


ASK = """
import asyncio, sys
from collectors import transports
from collectors.http import Http
from runtime.clock import SystemClock
async def main(port):
    async with Http(SystemClock(), "binance", "spot") as client:
        print((await client.fetch("GET", f"https://localhost:{port}/info")).body.decode())
asyncio.run(main(sys.argv[1]))
"""


async def test_an_authority_of_ones_own_is_named_by_the_environment_of_a_process(authority: Authority) -> None:
    async with venue(authority.server()) as port:
        for variable, code in (("SSL_CERT_FILE", 0), ("NOTHING", 1)):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", ASK, str(port), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=os.environ | {variable: str(authority.certificate)},
            )  # fmt: skip
            out, _ = await child.communicate()
            assert (child.returncode, out) == (code, b"" if code else b"ok\n")
