"""A secret that the environment holds is in no log, traceback, page, file or message, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from collectors import transports
from collectors.http import Http, HttpFailed
from collectors.transports import ConnectFailed
from daemon.status import Status
from lake import Lake
from lake.lock import read_lock
from lake.writer import LakeWriter
from market import times
from runtime import logs, telemetry
from runtime.redaction import redacted
from tests.support.clock import ManualClock
from tests.support.live import Daemon, Simulator, free_port, get, wait_for, write_config

NOW = times.parse("2026-11-20T10:00:00Z")
SECRET = "canary-3fb2a9d1"
PROXY = f"http://lake:{SECRET}@127.0.0.1"

TELLING = [
    f"ProxyError: http://user:{SECRET}@proxy:8080/ refused",
    f"socks5h://{SECRET}@proxy:1080",
    f"wss://u:{SECRET}p@ss@host/stream?x=1",
    f"Authorization: Bearer {SECRET}{SECRET}",
    f"Proxy-Authorization: Basic {SECRET}",
    f"https://host/api?symbol=X&signature={SECRET}&apiKey={SECRET}",
    f'{{"password": "{SECRET}", "x": 1}}',
    f"api_secret={SECRET}",
    f"X-MBX-APIKEY: {SECRET}",
    f"passphrase: '{SECRET}'",
]
SILENT = [
    "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000",
    "wss://stream.binance.com:9443/stream?streams=a@trade/b@depth",
    "binance spot btcusdt@trade: 3 ids missing",
    "a token in the lake's .lock",
    "mail user@example.com",
    "a@b://c",
    "the key of a store",
    "raw/exchange=binance/market_type=spot",
    "lake /data, pid 5, secretary: none",
    "Bearer of bad news",
]


@pytest.mark.parametrize("text", TELLING)
def test_what_tells_a_secret_is_told_without_it(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize("text", SILENT)
def test_what_tells_none_is_told_as_it_is(text: str) -> None:
    assert redacted(text) == text


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """A log file, and what is said until the end of the test goes there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.setup(clock=ManualClock(NOW), console=io.StringIO(), folder=tmp_path)
    yield tmp_path / logs.FILE_NAME
    logs.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def fails_with(url: str) -> None:
    password = SECRET
    raise ConnectionError(f"cannot reach {url} with {len(password)} characters")


@pytest.mark.parametrize("text", TELLING)
def test_neither_lines_nor_facts_nor_tracebacks_hold_it(logged: Path, text: str) -> None:
    telemetry.connect_failed(exchange="x", market_type="spot", connection=text, reason=text, retry_seconds=1.0)
    telemetry.connected(exchange="x", market_type="spot", connection="c", session=text, url=text)
    try:
        fails_with(text)
    except ConnectionError as error:
        both = RuntimeError(text)
        both.__cause__ = error
        telemetry.service_failed(service="x", error=both, exit_code=70)
    logging.getLogger("aiohttp").warning("odd %s", text)
    logs.close()
    written = logged.read_text()
    assert SECRET not in written
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == 4
    assert "fails_with" in lines[2]["traceback"], "what is no secret is told"


@contextlib.asynccontextmanager
async def angry_proxy() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy that refuses everybody and repeats what it was told; its port and what it heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            body = b"not you: " + heard[-1][:300]
            writer.write(b"HTTP/1.1 407 " + PROXY.encode() + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        await server.wait_closed()


async def ask(name: str) -> None:
    if name == "http":
        async with Http(ManualClock(NOW), "binance", "spot") as client:
            await client.fetch("GET", "https://venue.invalid/info")
    else:
        await transports.load(name)("wss://venue.invalid/stream", max_frame=1000, timeout=10, now=lambda: NOW)


@pytest.mark.parametrize("name", [*transports.names(), "http"])
async def test_a_proxy_with_a_password_is_used_and_its_failure_does_not_say_it(
    logged: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("all_proxy", "no_proxy", "socks_proxy", "ws_proxy", "wss_proxy", "http_proxy", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    async with angry_proxy() as (port, heard):
        monkeypatch.setenv("HTTPS_PROXY", f"{PROXY}:{port}")
        with pytest.raises((ConnectFailed, HttpFailed)) as failed:
            await ask(name)
        assert len(heard) == 1, "the proxy was asked"
        assert b"CONNECT venue.invalid:443" in heard[0]
    telemetry.connect_failed(
        exchange="x", market_type="spot", connection="c", reason=str(failed.value), retry_seconds=1.0
    )
    telemetry.service_restarted(service="x", error=failed.value, restarts=1, delay_seconds=1.0)
    logs.close()
    assert SECRET not in logged.read_text()


def test_the_token_of_the_control_port_is_in_the_lock_alone(tmp_path: Path, logged: Path) -> None:
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as writer:
        writer.set_control(12345, SECRET)
        telemetry.starting(lake=str(writer.root), config="c", pid=1, loop="l", simulated=False)
        report = Status(ManualClock(NOW), writer.manifest, Nothing(), "live").report({})
        assert SECRET not in json.dumps(report)
        info = read_lock(writer.root)
        assert info is not None
        assert info.token == SECRET
        assert holding(tmp_path) == [writer.root / ".lock"]
        assert (writer.root / ".lock").stat().st_mode & 0o077 == 0
    assert holding(tmp_path) == []


class Nothing:
    """No services."""

    def states(self) -> dict[str, str]:
        return {}

    def status(self) -> dict[str, object]:
        return {}


def holding(folder: Path) -> list[Path]:
    """Files in which the canary is."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_daemon_whose_environment_is_full_of_secrets_tells_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "BINANCE_SECRET", "AWS_SECRET_ACCESS_KEY", "LAKE_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    simulator = Simulator(tmp_path, "--symbols", "BTCUSDT", "--rate", "50", "--markets", "spot")
    port, lake = free_port(), tmp_path / "lake"
    source = simulator.source("spot", ["BTCUSDT"], ["trade"])
    proxied = {
        "exchange": "binance", "market_type": "linear", "symbols": ["BTCUSDT"], "kinds": ["trade"],
        "endpoint": {"rest": "https://venue.invalid", "ws": "wss://venue.invalid"},
    }  # fmt: skip
    monkeypatch.setenv("HTTPS_PROXY", f"{PROXY}:{free_port()}")
    config = write_config(tmp_path / "config.json", lake, [source, proxied], port, logs={"file": True})
    daemon = Daemon(config, tmp_path / "daemon.log")
    try:
        wait_for("rows", lambda: b'"kind":"trade"' in get(f"http://127.0.0.1:{port}/status")[1])
        wait_for("a failure at the proxy", lambda: "connect_failed" in (tmp_path / "daemon.log").read_text())
        pages = b"".join(get(f"http://127.0.0.1:{port}/{page}")[1] for page in ("status", "metrics", "ready", "health"))
        info = read_lock(lake)
        assert info is not None
        assert info.token
        assert SECRET.encode() not in pages
        assert info.token.encode() not in pages
    finally:
        assert daemon.stop() == 0
        simulator.stop()
    assert holding(tmp_path) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and info.token.encode() in path.read_bytes()]
    assert Lake(lake).read("trade").num_rows >= 0
