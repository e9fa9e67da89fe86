"""A simulated venue that has traded for hours already, on a real port, and a clock that nobody waits for.

What was asked is written down with its time, so that tests can tell a request that should not have been made; a process
can be killed in the middle of one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web

from collectors import exchanges
from collectors.alone import alone
from collectors.backfill import Summary, close_gaps, held, offers
from collectors.config import CollectorsConfig
from collectors.history_plan import Plan, Wish, plan
from collectors.http import Answer, Http
from collectors.intake import Pass
from collectors.recovery import settle
from collectors.writing import GroupCommit
from lake.manifest import Manifest
from lake.rows import SegmentRow
from lake.segments import BadLine, read_lines
from lake.writer import LakeWriter
from market.kinds import Contract, Event
from market.session import Endpoint, Exchange
from market.times import HOUR, MINUTE, SECOND
from simulator import options, venues
from simulator.hub import Hub
from simulator.market import Book
from simulator.server import application, build

NODE = "n"
END = 1_795_000_000_000_000 - 1_795_000_000_000_000 % HOUR
BEGAN = END - HOUR
CONFIG = CollectorsConfig(node=NODE)


class Quick:
    """A clock on which every wait is over at once, and has lasted as long as it should."""

    def __init__(self, now: int = END + 5 * MINUTE) -> None:
        self._began = now
        self._passed = 0.0

    def now(self) -> int:
        return self._began + round(self._passed * SECOND)

    def monotonic(self) -> float:
        return self._passed

    def turn_back(self, to: int) -> None:
        """The time of day is another one; what has passed has passed."""
        self._began += to - self.now()

    async def sleep(self, seconds: float) -> None:
        self._passed += max(0.0, seconds)
        await asyncio.sleep(0)


class Asked(NamedTuple):
    """One request that reached the venue: when it left and was answered (us), and what with."""

    left: int
    came: int
    route: str
    query: dict[str, str]
    status: int
    body: bytes


class Killed(BaseException):
    """The process is no more."""


class Past:
    """The venue, what was asked of it, and the lake that it is brought into."""

    def __init__(self, hub: Hub, host: str, root: Path, clock: Quick, venue: Exchange) -> None:
        self.hub = hub
        self.venue = venue
        self.host = host
        self.root = root
        self.clock = clock
        self.asked: list[Asked] = []
        self.kill_after: int | None = None
        """Requests that are answered before the process is killed."""

    def books(self, market: str) -> list[Book]:
        return [book for book in self.hub.market.books if book.market == market]

    async def fault(self, **fields: Any) -> None:
        async with aiohttp.ClientSession() as http, http.post(f"http://{self.host}/sim/faults", json=fields) as answer:
            assert answer.status == 200, await answer.text()

    @contextlib.contextmanager
    def writer(self) -> Iterator[LakeWriter]:
        now = self.clock.now()
        with LakeWriter.open(self.root, NODE, now, simulated=True) as writer:
            settle(writer, writer.recover(now), now)
            yield writer

    def plan(self, writer: LakeWriter, market: str, wishes: Sequence[Wish]) -> Plan:
        symbols = {wish.symbol for wish in wishes}
        known = held(self.root, writer.manifest, self.venue.NAME, market, symbols)
        return plan(wishes, offers(self.venue, market), known, self.clock.now())

    async def bring(self, market: str, kinds: Sequence[str], span: tuple[int, int] = (BEGAN, END)) -> Summary:
        """One run of the command's inside: recover, plan, ask, close gaps. Raises Killed."""
        wishes = [Wish(kind, book.symbol, *span) for kind in kinds for book in self.books(market)]
        with self.writer() as writer:
            made = self.plan(writer, market, wishes)
            with self._watched():
                done = await self.carry_out(market, writer, made, asyncio.Event())
            done.repaired = close_gaps(writer, self.venue, market, self.clock.now())
            return done

    async def carry_out(self, market: str, writer: LakeWriter, made: Plan, stop: asyncio.Event) -> Summary:
        rest = Endpoint(rest=venues.load(self.venue.NAME).bases(market, self.host)[0], ws={})
        return await alone(self.venue, market, rest, writer, CONFIG, self.clock, made.chunks, lambda *_: None, stop)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Write down what is asked, and kill the process in time: nothing that comes later reaches the disk."""
        fetch, commit, left = Http.fetch, GroupCommit.commit, self.kill_after
        dead = False

        async def watched(http: Http, method: str, url: str) -> Answer:
            nonlocal left, dead
            if left == 0:
                dead = True
                raise Killed
            left = None if left is None else left - 1
            parts, begun = urlsplit(url), self.clock.now()
            answer = await fetch(http, method, url)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            route = parts.path.rsplit("/", 1)[1]
            self.asked.append(Asked(begun, self.clock.now(), route, query, answer.status, answer.body))
            return answer

        def written(made: GroupCommit, work: Pass) -> None:
            if not dead:
                commit(made, work)

        with mock.patch.object(Http, "fetch", watched), mock.patch.object(GroupCommit, "commit", written):
            yield

    # --- afterwards ---

    def events(self, kind: str, symbol: str) -> list[Event]:
        """Every stored line of a symbol, in the order of the segments."""
        with contextlib.closing(Manifest.read_only(self.root)) as manifest:
            rows: list[SegmentRow] = [row for row in manifest.segments(kind=kind) if row.rows]
        found = []
        for row in sorted(rows, key=lambda one: (one.period_start, one.path)):
            for event in read_lines(kind, (self.root / row.path).read_bytes()):
                assert not isinstance(event, BadLine), event
                found += [event] if event.symbol == symbol else []
        return found


def contract(symbol: str, multiplier: str) -> Contract:
    """An instrument of which nothing else is known."""
    return Contract(
        symbol, "", None, None, 0, "n-1-1", 0, 0, "rest", symbol, None, None, None, None, None, None, multiplier, None,
        "live", None, None, None, None, None, 0, None,
    )  # fmt: skip


def lived(
    folder: Path, venue: str, markets: str = "spot", symbols: str = "1", rate: str = "2", quiet: range = range(0)
) -> tuple[Hub, web.Application, Quick]:
    """A twin with trades since BEGAN, but none while it was `quiet` (us)."""
    clock, known = Quick(), {name: venues.load(name).MARKETS for name in venues.names()}
    (given,) = options.parse(
        ["--rate", rate, "--log", str(folder / "truth.jsonl"), "--venue", venue, "--symbols", symbols, "--markets",
         markets],
        known,
    )  # fmt: skip
    twin = venues.load(venue)
    hub = build(given, twin, start=BEGAN)
    hub.clock = clock  # type: ignore[assignment]
    for time in range(BEGAN, END, SECOND):
        if not quiet.start <= time < quiet.stop:
            hub.market.advance(time)
    return hub, application(hub, given, twin), clock


@contextlib.asynccontextmanager
async def past(
    folder: Path, markets: str = "spot", symbols: str = "2", rate: str = "2", venue: str = "binance",
    quiet: range = range(0),
) -> AsyncIterator[Past]:  # fmt: skip
    """The venue on a port, with trades since BEGAN, but none while it was `quiet` (us)."""
    hub, app, clock = lived(folder, venue, markets, symbols, rate, quiet)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.02)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host = "{}:{}".format(*runner.addresses[0][:2])
        yield Past(hub, host, folder / "lake", clock, exchanges.load(venue))
    finally:
        await runner.cleanup()
        hub.log.close(clock.now())
