"""A venue of a virtual run: its twin of the simulator, with streams, REST and faults; its truth kept in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from collectors import exchanges
from market.times import DAY
from simulator import hub as hubs
from simulator import market as markets
from simulator import signs, venues, witness
from simulator.events import KIND_OF, Delta, Event, Kline, Marks
from simulator.feeds import Wanted
from simulator.hub import Hub
from simulator.instruments import dormant, listing, named_in
from simulator.market import Market
from simulator.options import Options
from simulator.reality import Reality
from simulator.signs import Sign, Signs
from simulator.truth import FIELDS, FaultLine
from simulator.venues.coinbase import stream as coinbase
from simulator.venues.kraken import stream as kraken
from simulator.venues.kraken.wire import Wire
from simulator.witness import Key, Witness
from tests.support.virtual.loop import VenueClock, VirtualLoop
from tests.support.virtual.network import VirtualVenue
from tests.support.virtual.unseen import Unseen

TICK_SECONDS = 6.0
"""What happens on the venue is sent this often; each event has its own time."""
MARK_SECONDS = 15.0
"""Marks are told this often; whoever hears none for a minute takes their stream for silent."""
BEAT_SECONDS = 8.0
"""Heartbeats: the venues send one a second, and who hears nothing for ten takes the socket for dead."""
FOR_EVER = 1e9
BOOKS = ("book_delta", "book_snapshot")
RENAMED = {
    "buyer_is_maker": "maker", "predicted_rate": "rate", "avg_price": "average", "taker_volume": "bought",
    "taker_amount": "bought_amount",
}  # fmt: skip
"""Fields of the log that events call otherwise."""


class Memory:
    """The truth log (`simulator.log.TruthLog`) as `simulator.witness` would read it, without a file.

    Of the streams in `kinds` (market -> kinds) it keeps what happened since the last event judged, see `forget`. What a
    venue tells without a name is counted here: the judge finds its number by what it says (`nearest`).
    """

    def __init__(self, known: Signs, kinds: Mapping[str, Collection[str]]) -> None:
        self.seen = Witness({}, {}, [], [], set())
        self.events = 0
        self._signs: dict[tuple[str, str], list[tuple[str, Sign]]] = {}
        """(market, kind of the log) -> the kinds that its events are."""
        for market, names in kinds.items():
            for name in names:
                sign = known[market][name]
                self._signs.setdefault((market, sign.of or name), []).append((name, sign))
        self._said: dict[Key, dict[int, list[int]]] = {}
        """Stream -> what is said -> the numbers of the events that said it."""
        self._gone: dict[Key, Collection[int]] = {}
        self._count: dict[Key, int] = {}
        self.unseen: Unseen | None = None

    def event(self, event: Event, published: int, sent: str, dropped: str = "") -> None:
        if isinstance(event, Marks):
            for mark in event.items:
                self.event(mark, published, sent, dropped)
            return
        kind = KIND_OF[type(event)]
        if kind == "contract" or (isinstance(event, Kline) and not event.closed):
            return
        book = event.book
        if getattr(event, "host", book.market) != book.market:
            return
        self.events += 1
        wanted = self._signs.get((book.market, kind))
        if wanted is None:
            return
        why = msgspec.json.decode(f"{{{dropped}}}") if dropped else {}
        row = [kind, book.market, book.symbol, event.id, *_READ[kind](event), event.ts, published, sent, why]
        for name, sign in wanted:
            if kind in BOOKS:  # of which the number and the time are compared
                number = event.id if sign.told is None else sign.told(row)
                key, taken = (name, row[1], row[2]), msgspec.json.encode(why)
                witness._add(self.seen, key, sign, number, event.ts, 0, bool(sent), taken)
                if self.unseen is not None and isinstance(event, Delta):
                    got, from_whom = map(int, filter(None, sent.split(","))), {int(one): why[one] for one in why}
                    self.unseen.event(event, self.seen.told[key], got, from_whom)
            elif sign.only is None or sign.only(row):
                witness._event(self.seen, row, name, self._numbered(sign, row, name) if sign.content else sign)

    def _numbered(self, sign: Sign, row: list[Any], name: str) -> Sign:
        key = (name, row[1], row[2])
        number = self._count[key] = self._count.get(key, 0) + 1
        self._said.setdefault(key, {}).setdefault(signs.content(row, sign.content), []).append(number)
        return msgspec.structs.replace(sign, content=(), told=lambda _: number)

    def nearest(self, key: Key, said: int, time: int, but: Collection[int]) -> int | None:
        """The number of the event of that stream that said so, the nearest to `time` (us) and none of `but`; None where
        nothing has said so.
        """
        told = self.seen.told.get(key)
        found = [one for one in self._said.get(key, {}).get(said, ()) if one not in but]
        if told is None or not found:
            return None
        return min(found, key=lambda one: abs(told.times[bisect_left(told.ids, one)] - time))

    def said(self, key: Key, what: int) -> bool:
        """Whether an event of that stream has said so, by now or in the span before."""
        return what in self._said.get(key, {}) or what in self._gone.get(key, ())

    def line(self, *items: Any) -> None:
        if self.unseen is not None and items[0] == "subscribe":
            self.unseen.subscribed(items[1], items[2])
        if self.unseen is not None and items[0] == "close":
            self.unseen.closed(items[1])
        match items[0]:
            case "fault":
                detail = dict(items[5])
                witness._fault(self.seen, FaultLine(items[1], items[2], dict(items[3]), items[4], detail, items[6]))
            case "open" | "close" | "http" | "depth" | "status":
                witness._take(self.seen, list(items), signs.PLAIN)

    def flush(self) -> None:
        """Nothing waits."""

    def forget(self, kept: Mapping[Key, int], before: int) -> None:
        """Let go of what is judged: of each stream everything before the place `kept`, of the rest what is older.
        Faults stay as long as something that they may have taken.
        """
        for key, told in self.seen.told.items():
            place = kept.get(key, 0)
            if not place:
                continue
            for held in (told.ids, told.times, told.values):
                del held[:place]
            told.lost = {n - place: why for n, why in told.lost.items() if n >= place}
            told.zeros = {n - place for n in told.zeros if n >= place}
            told.repeated = {n - place for n in told.repeated if n >= place}
            told.unseen = {number: shown for number, shown in told.unseen.items() if number >= told.ids[0]}
            if said := self._said.get(key):
                first = told.ids[0]
                left = {what: [one for one in numbers if one >= first] for what, numbers in said.items()}
                self._gone[key] = said.keys()
                self._said[key] = {what: numbers for what, numbers in left.items() if numbers}
        first = min((told.times[0] for told in self.seen.told.values()), default=before)
        self.seen.faults = [fault for fault in self.seen.faults if fault.time >= min(before, first - DAY)]
        self.seen.requests = [request for request in self.seen.requests if request.time >= before]
        self.seen.links = {n: link for n, link in self.seen.links.items() if not link.closed or link.closed >= before}


def _reader(kind: str) -> Callable[[Any], Sequence[Any]]:
    return attrgetter(*(RENAMED.get(name, name) for name in FIELDS[kind]))


_READ = {kind: _reader(kind) for kind in FIELDS if kind != "contract"}


class Exchange:
    """A venue that lives as long as the run. `start` us is when it opens, `kinds` what is collected, by market."""

    def __init__(
        self,
        loop: VirtualLoop,
        name: str,
        seed: int,
        symbols: Sequence[str],
        kinds: Mapping[str, Collection[str]],
        rate: float,
        start: int,
        reality: Reality,
    ) -> None:
        self.name = name
        twin = venues.load(name)
        open_markets, later, own = list(kinds), dormant(list(symbols), 1), f"{seed}/{name}"
        self.clock = VenueClock(loop, start)
        self.truth = Memory(twin.SIGNS, kinds)
        self.symbols = {
            market: list(dict.fromkeys(named_in(market, one, twin.CUSTOM) for one in symbols)) for market in kinds
        }
        self.dormant = {market: named_in(market, later[0], twin.CUSTOM) for market in kinds}
        instruments = listing(open_markets, [*symbols, *later], own, 0, twin.CUSTOM, reality)
        lives = {market: exchanges.load(name).LIMITS[market].max_life for market in kinds}
        options = Options(
            venue=name, host="", port=0, seed=seed, symbols=list(symbols), markets=open_markets, rate=rate,
            clock_offset=0, log=Path(), faults=[], max_life=86_400.0 if any(lives.values()) else FOR_EVER, ping=None,
            first_id=0, dormant=1,
        )  # fmt: skip
        market = Market(instruments, own, rate, start, set(self.dormant.items()), reality)
        self.hub = Hub(market, _patient(type(twin.WIRE)()), self.truth, self.clock)  # type: ignore[arg-type]
        if isinstance(self.hub.venue, Wire):
            self.truth.unseen = Unseen(self.hub.venue.books)
        self.host = f"{name}.venue"
        self.bases = {market: twin.bases(market, self.host) for market in kinds}
        self.venue = VirtualVenue(loop, self.hub, twin.routes(self.hub, options))

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
        book, now = self.hub.market.named[market, symbol.lower()], self.clock.now()
        notices = self.hub.notices if market != "spot" else ()
        self.hub.market.change(book, status, 0, now, notices)
        self.hub.log.line("status", book.market, book.symbol, book.status, book.delivery, now)


def _patient(wire: hubs.Venue) -> hubs.Venue:
    """The same venue, whose feeds speak once a tick, and marks as seldom as they may."""
    asked = wire.wanted

    def wanted(market: str, stream: str) -> Wanted | None:
        found = asked(market, stream)
        if found is None:
            return None
        least = MARK_SECONDS if found.kind == "mark_price" else TICK_SECONDS
        return msgspec.structs.replace(found, period=max(found.period, round(least * 1e6)))

    wire.wanted = wanted  # type: ignore[method-assign]
    return wire


@contextmanager
def slow_ticks() -> Iterator[None]:
    """The hubs tick every few seconds, and what happened meanwhile is no past that a sleeping machine left."""
    slower: tuple[tuple[Any, str, float], ...] = (
        (hubs, "TICK", TICK_SECONDS), (markets, "CATCH_UP", 60_000_000),
        (coinbase, "BEAT_EVERY", BEAT_SECONDS), (kraken, "HEARTBEAT", BEAT_SECONDS),
    )  # fmt: skip
    with ExitStack() as held:
        for module, name, value in slower:
            held.enter_context(mock.patch.object(module, name, value))
        yield


__all__ = ["Exchange", "Memory", "slow_ticks"]
