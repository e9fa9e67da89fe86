"""The simulator's HTTP servers, one a venue: its routes, the control routes under /sim, the faults of REST answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web

from simulator import venues
from simulator.answers import rest_faults
from simulator.asking import respond
from simulator.clock import Clock
from simulator.faults import Fault, Scheduled
from simulator.hub import Hub
from simulator.instruments import dormant, listing, named_in
from simulator.log import TruthLog
from simulator.market import Market
from simulator.options import Options
from simulator.reality import Reality
from simulator.venues import Twin


class ContractChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /sim/contracts`: a new status, and a time of delivery (us) where it is to end."""

    market: str
    symbol: str
    status: Annotated[str, msgspec.Meta(pattern="^[A-Z_]{1,32}$")]
    delivery: Annotated[int, msgspec.Meta(ge=0)] = 0


class Control:
    """`/sim`: faults and state, for tests and for people."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def post_fault(self, request: web.Request) -> web.Response:
        """Begin the fault of the body; the answer has its id. 400 says what is wrong with it."""
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
        except msgspec.DecodeError as error:
            return respond({"error": str(error)}, 400)
        return respond(_shown(self._hub.begin(fault)))

    async def get_faults(self, _request: web.Request) -> web.Response:
        """Faults in force."""
        return respond([_shown(fault) for fault in self._hub.faults])

    async def delete_fault(self, request: web.Request) -> web.Response:
        """End a fault before its time."""
        for fault in self._hub.faults:
            if str(fault.id) == request.match_info["id"]:
                self._hub.end_fault(fault)
                return respond(_shown(fault))
        return respond({"error": "no such fault in force"}, 404)

    async def post_contract(self, request: web.Request) -> web.Response:
        """A symbol's status changes: exchangeInfo says it, and notices of contracts. 400 says what is wrong.

        TRADING lists a dormant one anew, whatever else stops its trades and quotes.
        """
        try:
            asked = msgspec.json.decode(await request.read(), type=ContractChange)
        except msgspec.DecodeError as error:
            return respond({"error": str(error)}, 400)
        market = self._hub.market
        book = market.named.get((asked.market, asked.symbol.lower()))
        if book is None:
            return respond({"error": f"no {asked.symbol} on {asked.market}"}, 404)
        now, notices = self._hub.clock.now(), self._hub.notices if book.market != "spot" else ()
        market.change(book, asked.status, asked.delivery, now, notices)
        self._hub.log.line("status", book.market, book.symbol, book.status, book.delivery, now)
        return respond({"market": book.market, "symbol": book.symbol, "status": book.status, "delivery": book.delivery})

    async def get_state(self, _request: web.Request) -> web.Response:
        """The clock, what was produced, and the connections with their streams."""
        hub = self._hub
        connections = [
            {
                "connection": one.number,
                "market": one.market,
                "path": one.path,
                "opened": one.opened,
                "streams": list(one.streams),
            }
            for one in hub.connections.values()
        ]
        produced = hub.market.produced
        return respond({"now": hub.clock.now(), "produced": produced, "opened": hub.opened, "connections": connections})


def _shown(fault: Fault) -> dict[str, Any]:
    return {"id": fault.id, "fault": fault.fault} | fault.parameters()


def build(options: Options, twin: Twin, reality: Reality | None = None, start: int | None = None) -> Hub:
    """The market, its log and the hub that drives them. What several venues see together is the `reality`."""
    clock = Clock(options.clock_offset)
    later = dormant(options.symbols, options.dormant)
    reality = reality or Reality(options.seed)
    own = f"{options.seed}/{options.venue}"
    listed = [*options.symbols, *later]
    instruments = listing(options.markets, listed, own, options.first_id, twin.CUSTOM, reality)
    now = clock.now() if start is None else start
    header = {
        "venue": options.venue,
        "seed": options.seed,
        "rate": options.rate,
        "offset": options.clock_offset,
        "markets": options.markets,
        "symbols": options.symbols,
    }
    log = TruthLog(options.log, header, now, options.log_sync)
    hidden = {(market, named_in(market, symbol, twin.CUSTOM)) for market in options.markets for symbol in later}
    return Hub(Market(instruments, own, options.rate, now, hidden, reality), twin.WIRE, log, clock)


def application(hub: Hub, options: Options, twin: Twin) -> web.Application:
    """All routes."""
    app = web.Application(middlewares=[rest_faults(hub)])
    control = Control(hub)
    app.add_routes(twin.routes(hub, options))
    app.router.add_post("/sim/faults", control.post_fault)
    app.router.add_get("/sim/faults", control.get_faults)
    app.router.add_delete("/sim/faults/{id}", control.delete_fault)
    app.router.add_get("/sim/state", control.get_state)
    app.router.add_post("/sim/contracts", control.post_contract)
    return app


class Running:
    """One venue on its port."""

    def __init__(self, options: Options, reality: Reality, start: int) -> None:
        self._options = options
        self._twin = venues.load(options.venue)
        self.hub = build(options, self._twin, reality, start)
        app = application(self.hub, options, self._twin)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)

    async def listen(self) -> dict[str, Any]:
        """Begin to; where, by market type, with the control routes and the log. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._options.host, self._options.port).start()
        host, port = self._runner.addresses[0][:2]
        bases = {market: self._twin.bases(market, f"{host}:{port}") for market in self._options.markets}
        return {
            "rest": {market: rest for market, (rest, _) in bases.items()},
            "ws": {market: ws for market, (_, ws) in bases.items()},
            "control": f"http://{host}:{port}/sim",
            "log": str(self._options.log.resolve()),
        }

    def start(self) -> None:
        """Let the market go on."""
        schedule(self.hub, self._options.faults)
        self.hub.start()

    async def close(self) -> None:
        """The end of its port and of its log."""
        await self._runner.cleanup()
        self.hub.log.close(self.hub.clock.now())


async def serve(given: Sequence[Options]) -> None:
    """Run until SIGTERM, SIGINT or the end of standard input; say once, as a JSON line, where each venue listens."""
    stop = asyncio.Event()
    reality, now = Reality(given[0].seed), Clock(given[0].clock_offset).now()
    running = [Running(options, reality, now) for options in given]
    try:
        told = {options.venue: await one.listen() for options, one in zip(given, running, strict=True)}
        _stop_on_signals(stop)
        for one in running:
            one.start()
        print(msgspec.json.encode({"venues": told}).decode(), flush=True)  # noqa: T201 - the parent reads it
        await stop.wait()
        for one in running:
            one.hub.stop()
    finally:
        for one in running:
            await one.close()


def schedule(hub: Hub, faults: Sequence[Scheduled]) -> None:
    """Begin each fault when its time comes, from now on."""
    loop = asyncio.get_running_loop()

    def begin(scheduled: Scheduled) -> None:
        hub.begin(scheduled.fault())
        if scheduled.repeat:
            loop.call_later(scheduled.after, begin, scheduled)

    for scheduled in faults:
        loop.call_later(scheduled.after, begin, scheduled)


def _stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM, SIGINT, and the end of standard input where that is a pipe: the parent's end is ours."""
    loop = asyncio.get_running_loop()

    def ask() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped already
            loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ask())

    def wait_for_the_end() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ask()

    if stdin_is_a_pipe():
        threading.Thread(target=wait_for_the_end, name="standard input", daemon=True).start()


def stdin_is_a_pipe() -> bool:
    """False for terminals, files and /dev/null, whose end says nothing about the parent."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
