"""A running simulator on a real port, in the test's own loop."""

import asyncio
import contextlib
import json
import time
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from simulator import options, server, venues
from simulator.clock import Clock
from simulator.feeds import STEP
from simulator.hub import TICK
from simulator.server import application, build
from simulator.truth import Truth, load
from simulator.venues.binance import names as stream_names
from tests.support.live import told


class Sim:
    """One running simulator and a client for it."""

    def __init__(self, hub, host, http, log):
        self.hub = hub
        self.host = host
        self.http = http
        self.log = log

    def connect(self, path, **kwargs):
        return self.http.ws_connect(f"ws://{self.host}{path}", autoping=kwargs.pop("autoping", True), **kwargs)

    async def get(self, path, **kwargs):
        """Status, headers and decoded body."""
        async with self.http.get(f"http://{self.host}{path}", **kwargs) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, answer.headers, json.loads(text) if is_json else text

    async def fault(self, **fields):
        async with self.http.post(f"http://{self.host}/sim/faults", json=fields) as answer:
            return answer.status, await answer.json()

    @contextlib.asynccontextmanager
    async def under(self, **fields):
        """A fault that lasts as long as the block, however long that takes; `seconds` in force is beyond any test."""
        status, fault = await self.fault(seconds=1000, **fields)
        assert status == 200, fault
        yield fault
        async with self.http.delete(f"http://{self.host}/sim/faults/{fault['id']}") as answer:
            assert answer.status == 200

    async def state(self):
        return (await self.get("/sim/state"))[2]

    def truth(self) -> Truth:
        self.hub.log.flush()
        return load(self.log)


class Patient(Clock):
    """Time that goes on by a moment at most between two looks at it: a market does not catch up with a machine that
    stood still, nor does one run away from a slow machine that cannot do all that it has to.
    """

    def __init__(self, offset: int = 0) -> None:
        super().__init__(offset)
        self._seen = time.monotonic()
        self._now = super().now() - offset

    def now(self) -> int:
        before, self._seen = self._seen, time.monotonic()
        self._now += round(min(self._seen - before, 3 * TICK) * 1_000_000)
        return self._now + self.offset


@pytest.fixture
async def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`async with simulate("--rate", "500") as sim`."""
    monkeypatch.setattr(server, "Clock", Patient)

    @contextlib.asynccontextmanager
    async def start(*arguments):
        log = tmp_path / f"truth-{len(list(tmp_path.iterdir()))}.jsonl"
        plain = ["--venue", "binance"] if "--venue" not in arguments else []
        plain += ["--symbols", "3"] if "--symbols" not in arguments else []
        known = {name: venues.load(name).MARKETS for name in venues.names()}
        (given,) = options.parse(told("--rate", "4000", "--log", str(log), *plain, *arguments), known)
        twin = venues.load(given.venue)
        hub = build(given, twin)
        runner = web.AppRunner(application(hub, given, twin), access_log=None, shutdown_timeout=0.02)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hub.start()
        host = "{}:{}".format(*runner.addresses[0][:2])
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http, asyncio.timeout(90):
            try:
                yield Sim(hub, host, http, log)
            finally:
                hub.stop()
                await runner.cleanup()
                hub.log.close(hub.clock.now())

    return start


@pytest.fixture
def hurried(monkeypatch):
    """Streams that speak every 50 ms, whatever their names say: nobody waits for a second to pass."""
    told = stream_names.wanted

    def wanted(market, stream):
        asked = told(market, stream)
        return None if asked is None else msgspec.structs.replace(asked, period=STEP)

    monkeypatch.setattr(stream_names, "wanted", wanted)
