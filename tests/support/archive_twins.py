"""Venues' archives as their twins publish them, after a few minutes around the borders of days, on a real port."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from market.times import HOUR, MINUTE, SECOND, parse
from simulator import options, venues
from simulator.archives import Day
from simulator.events import Fill
from simulator.hub import Hub
from simulator.market import Book
from simulator.server import application, build
from tests.support.archive_host import zipped
from tests.support.past import Quick

DAYS = ("2026-11-10", "2026-11-11", "2026-11-12")
NOW = parse("2026-12-08T12:00:00Z")
_BORDERS = [parse(day) + at for day in DAYS for at in (0, 16 * HOUR)][1:]


class Published:
    """One venue's twin, whose days are over."""

    def __init__(self, venue: str, hub: Hub, address: str) -> None:
        self.venue, self.hub, self.address = venue, hub, address
        self.module = importlib.import_module(f"simulator.venues.{venue}.archive")

    @property
    def files(self) -> dict[str, Callable[[], bytes]]:
        return dict(self.module.files(self.hub))

    @property
    def config(self) -> dict[str, object]:
        """The section `archives` of a configuration that asks this twin."""
        listing = self.address if self.module.LISTS else None
        return {"mirrors": {self.venue: {"base": self.address, "listing": listing}}}

    def book(self, market: str) -> Book:
        (found,) = [book for book in self.hub.market.books if book.market == market]
        return found

    def dated(self, market: str) -> list[tuple[str, Fill]]:
        """Each dated future with each of its trades, of a twin whose archive has such."""
        day = Day(DAYS[1], 0, NOW)
        return [(symbol, one) for symbol, _, one in self.module.dated(self.book(market), day)]


@contextmanager
def published(folder: Path, venue: str) -> Iterator[Published]:
    """The archive of a venue with one symbol a market, served by a thread of its own."""
    clock, known = Quick(NOW), {name: venues.load(name).MARKETS for name in venues.names()}
    markets = ",".join(known[venue])
    words = [
        "--rate",
        "6",
        "--log",
        str(folder / "truth.jsonl"),
        "--venue",
        venue,
        "--symbols",
        "1",
        "--markets",
        markets,
    ]
    (given,) = options.parse(words, known)
    twin = venues.load(venue)
    hub = build(given, twin, start=_BORDERS[0] - MINUTE // 2)
    hub.clock = clock  # type: ignore[assignment]
    for border in _BORDERS:
        for time in range(border - MINUTE // 2, border + MINUTE // 2, SECOND):
            hub.market.advance(time)
    with _serving(application(hub, given, twin)) as host:
        yield Published(venue, hub, f"http://{host}/archive")
    hub.log.close(NOW)


@contextmanager
def _serving(app: web.Application) -> Iterator[str]:
    ready, loop = threading.Event(), asyncio.new_event_loop()
    at: list[str] = []

    async def begin() -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        at.append("{}:{}".format(*runner.addresses[0][:2]))
        return runner

    def run() -> None:
        runner = loop.run_until_complete(begin())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, name="archive twin", daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield at[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)


def opened(data: bytes) -> tuple[str | None, bytes]:
    """What a file holds, with the name of it that a zip gives."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as made:
            (name,) = made.namelist()
            return name, made.read(name)
    return None, gzip.decompress(data)


def closed(name: str | None, data: bytes) -> bytes:
    """Packed as it was."""
    return gzip.compress(data, mtime=0) if name is None else zipped({name: data})
