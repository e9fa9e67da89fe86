"""What networks and venues do to a connection, over real sockets: the driver notices, says why, and connects again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from collectors import exchanges, transports
from collectors.budget import Budget
from collectors.config import ConnectionConfig, WritingConfig
from collectors.connection import Driver, Pacer, Tools
from collectors.http import Http
from collectors.intake import Intake, Pass
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from tests.support import toy
from tests.support.clock import ManualClock
from tests.support.lines import events_of, frames_of
from tests.support.toxics import Proxy, Toxic
from tests.support.toy import T0, q, t

pytestmark = pytest.mark.parametrize("transport", transports.names())
MARKET = ("binance", "spot")
PATIENCE = 240.0
"""Seconds of real time."""
SPEED = 40
"""Seconds of the driver's time in one of ours; what transports do by themselves takes ours."""


class Venue:
    """A real server behind a proxy. Each connection is sent the next ids, and is then left to `then`."""

    def __init__(self, then: Callable[[ServerConnection], object] | None = None) -> None:
        self.connections = 0
        self.refusals: list[Response] = []
        self.clock = ManualClock(T0)
        self._then = then or (lambda peer: peer.wait_closed())

    def at(self) -> int:
        """Milliseconds after T0."""
        return (self.clock.now() - T0) // 1000

    async def handle(self, peer: ServerConnection) -> None:
        self.connections += 1
        n, at = 10 * self.connections, self.at()
        for frame in (b"ack", t(n, at), q(n, at), t(n + 1, at), q(n + 1, at)):
            await peer.send(frame, text=True)
        await self._then(peer)

    def answer(self, _peer: ServerConnection, _request: Request) -> Response | None:
        return self.refusals.pop(0) if self.refusals else None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Proxy]:
        """Its door."""
        async with (
            serve(self.handle, "127.0.0.1", 0, process_request=self.answer, ping_interval=None, close_timeout=0.1) as s,
            Proxy("127.0.0.1", s.sockets[0].getsockname()[1]) as proxy,
        ):
            yield proxy


class Bench:
    """A driver with a real transport and a clock that a test moves."""

    def __init__(
        self, transport: str, url: str, exchange: object = toy, clock: ManualClock | None = None, **config: object
    ) -> None:
        self.clock = clock or ManualClock(T0)
        self.intake = Intake(WritingConfig())
        self.pipeline = Pipeline(*MARKET, self.intake, merger_maker(exchange, "spot"))
        self.stop = asyncio.Event()
        self.before = asyncio.all_tasks()
        numbers = iter(range(1, 1000))
        settings = {"connect_timeout_seconds": 60, **config}
        tools = Tools(
            clock=self.clock, config=ConnectionConfig.model_validate(settings), connect=transports.load(transport),
            http=Http(self.clock, *MARKET), next_session=lambda: f"n-1-{next(numbers)}",
            turn=Pacer(self.clock).turn, random=lambda: 1.0,
            spend=partial(Budget(self.clock).spend, toy.LIMITS["spot"]),
        )  # fmt: skip
        symbol = "AAA" if exchange is toy else "BTCUSDT"
        streams = exchange.streams("spot", ["trade", "quote"], [symbol])
        (connection,) = exchange.connections("spot", streams, exchange.ENDPOINTS["spot"])
        connection = msgspec.structs.replace(connection, url=url, fallbacks=())
        self.driver = Driver(exchange, connection, self.pipeline, tools)
        self._running = asyncio.ensure_future(self.driver.run(self.stop))

    async def until(self, reached: Callable[[], object]) -> float:
        """Let time pass until it is so; the seconds of the driver's time that it took."""
        began = self.clock.monotonic()
        async with asyncio.timeout(PATIENCE):
            while not reached():
                await asyncio.sleep(0.005)
                await self.clock.advance(0.005 * SPEED)
        return self.clock.monotonic() - began

    def received(self, count: int) -> Callable[[], bool]:
        return lambda: self.pipeline.totals.events["trade"] >= count

    async def end(self) -> Pass:
        """Stop, once holes are sure to be holes, and see that nothing is left running."""
        await self.clock.advance(5.0)
        self.stop.set()
        async with asyncio.timeout(PATIENCE):
            while not self._running.done():
                await asyncio.sleep(0.005)
                await self.clock.advance(0.1)
        await self._running
        own = {task for task in asyncio.all_tasks() - self.before if "collectors" in repr(task.get_coro())}
        assert not own
        self.pipeline.advance(self.clock.now(), covered=True)
        return self.intake.collect(self.clock.now())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "CLOSE_SECONDS", 0.1)


def causes(work: Pass) -> list[str]:
    """How sessions ended, but for the last, which we stopped."""
    rows = {row.session: row for row in work.sessions if row.closed_at is not None}
    found = [str(rows[session].close_cause) for session in sorted(rows)]
    assert found[-1] == "stopped"
    return found[:-1]


def lost(work: Pass, cause: str, venue: Venue) -> None:
    """Trades from 12 to the first of the last connection are one gap of that cause."""
    (gap,) = {gap.gap_id: gap for gap in work.gaps if gap.kind == "trade"}.values()
    assert (gap.cause, gap.id_from, gap.id_to) == (cause, 12, 10 * venue.connections)
    assert {gap.cause for gap in work.gaps} == {cause}


def url(proxy: Proxy) -> str:
    return f"ws://127.0.0.1:{proxy.port}/stream"


async def test_who_refuses_connections_is_asked_again_until_he_takes_one(transport: str) -> None:
    venue = Venue()
    async with venue.open() as proxy:
        proxy.refuse()
        bench = Bench(transport, url(proxy), clock=venue.clock)
        await bench.until(lambda: bench.driver.attempts >= 4)
        assert [s for s in bench.clock.slept if s in (1.0, 2.0, 4.0)] == [1.0, 2.0, 4.0]
        await proxy.listen()
        await bench.until(bench.received(2))
        assert causes(await bench.end()) == []


async def test_a_name_that_nobody_knows_is_asked_for_again(transport: str) -> None:
    bench = Bench(transport, "ws://no.such.host.invalid/stream")
    await bench.until(lambda: bench.driver.attempts >= 3)
    assert (await bench.end()).sessions == []


async def test_a_venue_that_accepts_and_never_says_anything_is_left_within_25_seconds(transport: str) -> None:
    async def mute(peer: ServerConnection) -> None:
        venue.connections += 1
        await peer.wait_closed()

    venue = Venue()
    venue.handle = mute
    async with venue.open() as proxy:
        bench = Bench(transport, url(proxy), exchanges.load("binance"), clock=venue.clock)
        await bench.until(lambda: venue.connections == 1)
        assert await bench.until(lambda: venue.connections == 2) <= 25
        work = await bench.end()
        assert causes(work)
        assert {gap.symbol for gap in work.gaps} <= {"BTCUSDT"}


async def frozen(proxy: Proxy) -> None:
    proxy.freeze()


async def half_open(proxy: Proxy) -> None:
    proxy.down = Toxic(hole=True)


async def reset(proxy: Proxy) -> None:
    proxy.reset()


@pytest.mark.parametrize("fault, code", [(frozen, 1011), (half_open, 1011), (reset, 1006)])
async def test_a_peer_that_is_gone_without_a_word_is_noticed(
    transport: str, fault: Callable[[Proxy], object], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "PING_SECONDS", 0.5)
    venue = Venue()
    async with venue.open() as proxy:
        bench = Bench(transport, url(proxy), clock=venue.clock, connect_timeout_seconds=2)
        await bench.until(bench.received(2))
        await fault(proxy)
        await bench.until(lambda: bench.driver.attempts >= 2)
        proxy.down = Toxic()
        proxy.thaw()
        await bench.until(bench.received(4))
        work = await bench.end()
    assert [cause.split(" ")[:2] for cause in causes(work)] == [["disconnect:", str(code)]]
    lost(work, "disconnect", venue)


async def test_an_end_in_the_middle_of_a_frame_is_an_end(transport: str) -> None:
    async def talk_on(peer: ServerConnection) -> None:
        if venue.connections == 1:
            await told.wait()
            await peer.send(b"x" * 2000, text=True)
        await peer.wait_closed()

    told = asyncio.Event()
    venue = Venue(talk_on)
    async with venue.open() as proxy:
        bench = Bench(transport, url(proxy), clock=venue.clock)
        await bench.until(bench.received(2))
        proxy.down = Toxic(limit=1500)
        told.set()
        await bench.until(lambda: bench.driver.attempts >= 2)
        proxy.down = Toxic()
        await bench.until(bench.received(4))
        work = await bench.end()
    assert causes(work)[0].startswith("disconnect: 1006")
    lost(work, "disconnect", venue)


@pytest.mark.parametrize(
    "code, wait",
    [(1000, 0.2), (1001, 0.2), (1006, 0.2), (1011, 1.0), (1012, 1.0), (1013, 1.0), (1008, 10.0), (4000, 10.0)],
)
async def test_every_close_code_is_followed_by_a_new_connection_and_those_of_policy_by_a_later_one(
    transport: str, code: int, wait: float
) -> None:
    async def leave(peer: ServerConnection) -> None:
        if venue.connections > 1:
            await peer.wait_closed()
            return
        await told.wait()
        if code == 1006:
            peer.transport.abort()
        else:
            await peer.close(code, "because")

    told = asyncio.Event()
    venue = Venue(leave)
    async with venue.open() as proxy:
        bench = Bench(transport, url(proxy), clock=venue.clock)
        await bench.until(bench.received(2))
        bench.clock.slept.clear()
        told.set()
        await bench.until(bench.received(4))
        waits = {seconds for seconds in bench.clock.slept if seconds in (0.2, 1.0, 2.0, 10.0)} - {1.0}
        work = await bench.end()
    assert causes(work)[0].startswith(f"disconnect: {code}")
    assert waits == ({wait} - {1.0})
    lost(work, "disconnect", venue)


@pytest.mark.parametrize(
    "status, headers, wait",
    [
        (403, {}, 10.0),
        (418, {"Retry-After": "100"}, 110.0),
        (429, {"Retry-After": "70"}, 70.0),
        (451, {}, 10.0),
        (503, {}, 1.0),
        (503, {"Retry-After": "30"}, 30.0),
        (599, {}, 1.0),
    ],
)
async def test_a_refused_handshake_is_tried_again_no_sooner_than_the_venue_allows(
    transport: str, status: int, headers: dict[str, str], wait: float
) -> None:
    venue = Venue()
    phrase = http.HTTPStatus(status).phrase if status < 599 else "Invented"
    fields = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} {phrase}", "Content-Length: 2", "Connection: close", *fields])

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + b"\r\n\r\nno")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server, venue.open() as proxy:
        port, proxy.to = proxy.to[1], ("127.0.0.1", server.sockets[0].getsockname()[1])
        bench = Bench(transport, url(proxy), clock=venue.clock)
        await bench.until(lambda: wait in [round(seconds, 6) for seconds in bench.clock.slept])
        assert bench.driver.attempts == 1
        proxy.to = ("127.0.0.1", port)
        assert await bench.until(bench.received(2)) >= wait - 1
        assert bench.driver.attempts == 2
        await bench.end()


async def test_what_comes_byte_by_byte_and_late_is_whole(transport: str) -> None:
    async def talk_on(peer: ServerConnection) -> None:
        for n in range(12, 60):
            await peer.send(t(n, n), text=True)
        await peer.wait_closed()

    venue = Venue(talk_on)
    async with venue.open() as proxy:
        proxy.down = proxy.up = Toxic(piece=1, latency=0.02)
        bench = Bench(transport, url(proxy), clock=venue.clock, connect_timeout_seconds=60)
        await bench.until(bench.received(50))
        work = await bench.end()
    stored = [event.seq for lane, held in work.events if lane[2] == "trade" for event in events_of(lane, held)]
    assert stored == list(range(10, 60))
    assert (work.gaps, causes(work)) == ([], [])


async def test_what_is_no_text_is_kept_as_it_came_and_the_connection_too(transport: str) -> None:
    async def talk_on(peer: ServerConnection) -> None:
        for frame in (b"\xff\xfe", b"\x00", b"t AAA", b"\xc3" * 300):
            await peer.send(frame, text=True)
        await peer.send(b"\x80binary")
        await peer.send(t(12, 12), text=True)
        await peer.wait_closed()

    venue = Venue(talk_on)
    async with venue.open() as proxy:
        bench = Bench(transport, url(proxy), clock=venue.clock)
        await bench.until(bench.received(3))
        work = await bench.end()
    assert causes(work) == []
    assert work.gaps == []
    assert sum(bench.pipeline.totals.rejected.values()) == 5
    frames = [line.data for _, held in work.frames for line in frames_of(held) if line.dir == "recv"]
    assert frames[5:] == [b"\xff\xfe", b"\x00", b"t AAA", b"\xc3" * 300, b"\x80binary", t(12, 12)]
    held = b"".join(lines.data for _, kept in work.frames for lines in kept)
    assert b'"frame_b64":"%s"' % base64.b64encode(b"\xff\xfe") in held
