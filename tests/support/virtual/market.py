"""The venue of a virtual run: the simulator's market, streams, REST and faults, and its ground truth kept in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from simulator import hub as hubs
from simulator import market as markets
from simulator import signs, witness
from simulator.events import KIND_OF, Event, Kline, Mark, Marks
from simulator.hub import Hub
from simulator.instruments import dormant, listing, named_in
from simulator.market import Market
from simulator.options import Options
from simulator.truth import FaultLine
from simulator.venues import binance
from simulator.witness import NOBODY, VALUES, Key, Told, Witness
from tests.support.virtual.loop import VenueClock, VirtualLoop
from tests.support.virtual.network import VirtualVenue

TICK_SECONDS = 3.0
"""What happens on the venue is sent this often; each event has its own time."""
MARKETS = ("spot", "linear", "inverse")


class Memory:
    """The truth log (`simulator.log.TruthLog`) as `simulator.witness` would read it, without a file.

    Of each stream it keeps what happened since the last event that was judged, see `forget`.
    """

    def __init__(self) -> None:
        self.seen = Witness({}, {}, [], [], set())
        self.events = 0

    def event(self, event: Event, published: int, sent: str, dropped: str = "") -> None:
        if isinstance(event, Marks):
            for mark in event.items:
                self.event(mark, published, sent, dropped)
            return
        kind = KIND_OF[type(event)]
        if kind == "contract" or (isinstance(event, Kline) and not event.closed):
            return
        book = event.book
        host = getattr(event, "host", book.market)
        if host != book.market:
            return
        self.events += 1
        key = (kind, book.market, book.symbol)
        told = self.seen.told.get(key)
        if told is None:
            told = self.seen.told[key] = Told(array("q"), array("q"), array("q"), shows=signs.NUMBERED[key[0]].shows)
        if not sent:
            faults = set(msgspec.json.decode(f"{{{dropped}}}", type=dict[str, str]).values()) if dropped else ()
            told.lost[len(told.ids)] = "+".join(sorted(faults)) or NOBODY
        told.ids.append(event.ts if kind in ("mark_price", "liquidation") else event.id)
        told.times.append(event.ts)
        told.values.append(_value(kind, event))

    def line(self, *items: Any) -> None:
        match items[0]:
            case "fault":
                detail = dict(items[5])
                witness._fault(self.seen, FaultLine(items[1], items[2], dict(items[3]), items[4], detail, items[6]))
            case "open" | "close" | "http" | "depth":
                witness._take(self.seen, list(items), signs.PLAIN)

    def flush(self) -> None:
        """Nothing waits."""

    def forget(self, kept: Mapping[Key, int], before: int) -> None:
        """Let go of what is judged: of each stream everything before the place `kept`, of the rest what is older."""
        for key, told in self.seen.told.items():
            place = kept.get(key, 0)
            if not place:
                continue
            for held in (told.ids, told.times, told.values):
                del held[:place]
            told.lost = {n - place: why for n, why in told.lost.items() if n >= place}
            told.zeros = {n - place for n in told.zeros if n >= place}
        self.seen.faults = [fault for fault in self.seen.faults if fault.time >= before]
        self.seen.requests = [request for request in self.seen.requests if request.time >= before]
        self.seen.links = {n: link for n, link in self.seen.links.items() if not link.closed or link.closed >= before}


_FIELDS = {
    "trade": ("price", "qty"),
    "agg_trade": ("price", "qty"),
    "quote": ("bid", "ask"),
    "mark_price": ("mark", "index"),
    "liquidation": ("price", "qty"),
    "kline": ("close", "high"),
}
assert _FIELDS == VALUES


def _value(kind: str, event: Any) -> int:
    fields = _FIELDS.get(kind)
    if fields is None:
        return 0
    return signs.digest(getattr(event, fields[0]), getattr(event, fields[1]))


class Exchange:
    """A venue that lives as long as the run. `start` us is when it opens."""

    def __init__(self, loop: VirtualLoop, seed: int, symbols: Sequence[str], rate: float, start: int) -> None:
        self.clock = VenueClock(loop, start)
        self.truth = Memory()
        self.symbols = {market: [named_in(market, name) for name in symbols] for market in MARKETS}
        later = dormant(list(symbols), 1)
        self.dormant = {market: named_in(market, later[0]) for market in MARKETS}
        instruments = listing(list(MARKETS), [*symbols, *later], seed)
        hidden = {(market, self.dormant[market]) for market in MARKETS}
        options = Options(
            venue="binance", host="", port=0, seed=seed, symbols=list(symbols), markets=list(MARKETS), rate=rate,
            clock_offset=0, log=Path(), faults=[], max_life=86_400.0, ping=None, first_id=0, dormant=1,
        )  # fmt: skip
        self.hub = Hub(Market(instruments, seed, rate, start, hidden), binance.WIRE, self.truth, self.clock)  # type: ignore[arg-type]
        routes = binance.rest.routes(self.hub, options)
        self.network = VirtualVenue(loop, self.hub, routes, options)

    def start(self) -> None:
        """From here on things happen."""
        self.hub.start()

    def note(self, name: str, seconds: float, *, before: float = 0.0, **parameters: Any) -> None:
        """Write down that something of ours, not of the venue's, goes wrong from now on for so long; it may take what
        came in the seconds `before`.
        """
        at = self.clock.now() - round(before * 1e6)
        self.hub.log.line("fault", 0, name, {"seconds": seconds + before, **parameters}, "begin", {}, at)

    def change(self, market: str, symbol: str, status: str) -> None:
        """A contract's new status, as `POST /sim/contracts` sets it."""
        book = self.hub.market.named[market, symbol.lower()]
        notices = self.hub.notices if market != "spot" else ()
        self.hub.market.change(book, status, 0, self.clock.now(), notices)


@contextmanager
def slow_ticks() -> Iterator[None]:
    """The hub ticks every few seconds, and what happened meanwhile is no past that a sleeping machine left."""
    held = hubs.TICK, markets.CATCH_UP
    hubs.TICK, markets.CATCH_UP = TICK_SECONDS, 60_000_000  # type: ignore[misc]
    try:
        yield
    finally:
        hubs.TICK, markets.CATCH_UP = held  # type: ignore[misc]


__all__ = ["MARKETS", "Exchange", "Mark", "Memory", "slow_ticks"]
