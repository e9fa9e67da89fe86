"""Listings: what instruments each market has, as the venue last said: what patterns mean, and what is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from collectors import patterns
from collectors.config import SourceConfig
from collectors.intake import MarketKey
from collectors.patterns import Resolved
from collectors.pipeline import Pipeline
from collectors.routes import MergeAll
from market.kinds import Contract, Event
from market.session import Exchange
from runtime import changing
from runtime.clock import Clock

CONTRACT = "contract"
REMEMBER_SECONDS = 15.0
"""How long the venue may take to give its instruments before patterns mean those that the lake knows."""
AGAIN_SECONDS = 60.0
"""How often it is said that patterns wait."""


class Listing:
    """Symbol -> status of one market's instruments. `changed` is called when one is new or changes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.known: dict[str, str] = {}
        self.answered = False
        """Whether the venue itself has given its list since it was asked for; it comes whole."""
        self.since: float | None = None
        """Since when it is waited for (monotonic), and when that was last said."""
        self.said = 0.0
        self._changed = changed

    def overhear(self, merge_all: MergeAll) -> MergeAll:
        """`merge_all` of the route of contracts, with a look at what passes."""

        def heard(events: Sequence[Event]) -> Sequence[Event]:
            for event in events:
                if isinstance(event, Contract):
                    self._note(event)
            return merge_all(events)

        return heard

    def remember(self, known: Mapping[str, str]) -> None:
        """What an earlier run wrote down, where the venue has not said otherwise."""
        self.known = {**known, **self.known}
        self._changed()

    def _note(self, contract: Contract) -> None:
        answered = self.answered or contract.source == "rest"
        if self.known.get(contract.symbol) != contract.status or answered != self.answered:
            self.known[contract.symbol] = contract.status
            self.answered = answered
            self._changed()


class Listings:
    """The listings of all markets; `changed` is called when any of them has changed.

    `stored` gives the instruments that the lake remembers, symbol -> status; it is called in a thread.
    """

    def __init__(
        self, clock: Clock, stored: Callable[[MarketKey], Mapping[str, str]], changed: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._stored = stored
        self._changed = changed
        self._markets: dict[MarketKey, Listing] = {}
        self._unmatched: set[tuple[MarketKey, str]] = set()

    def hear(self, pipeline: Pipeline) -> None:
        """Listen to the contracts of a market."""
        listing = self._markets[pipeline.exchange, pipeline.market_type] = Listing(self._changed)
        route = pipeline.route(CONTRACT)
        route.merge_all = listing.overhear(route.merge_all)

    def asked(self, market: MarketKey) -> None:
        """The instruments of a market are asked for anew: what was answered before may have been fewer."""
        self._markets[market].answered = False

    def resolve(self, source: SourceConfig, exchange: Exchange, held: set[str]) -> Resolved:
        """The symbols that a source means now; `held` are those collected of its market."""
        listing = self._markets.get(market_of(source))
        known = listing.known if listing is not None else {}
        return patterns.resolve(source.symbols, known, exchange.TRADING, exchange.ENDED, held)

    def waits(self, source: SourceConfig) -> bool:
        """Whether its patterns mean nothing yet, since nobody has said what there is."""
        return patterns.has_patterns(source.symbols) and not self._markets[market_of(source)].known

    async def look(self, sources: Sequence[SourceConfig]) -> bool:
        """Where the venue gives no instruments to a pattern, say so, and after a while take those that the lake knows.

        Returns whether anything is waited for.
        """
        waiting = False
        for source in sources:
            listing = self._markets[market_of(source)]
            if listing.answered or not patterns.has_patterns(source.symbols):
                listing.since = None
                continue
            waiting = True
            await self._wait(source, listing)
        return waiting

    async def _wait(self, source: SourceConfig, listing: Listing) -> None:
        now = self._clock.monotonic()
        facts = {"exchange": source.exchange, "market_type": source.market_type}
        first = listing.since is None
        began = listing.since = now if listing.since is None else listing.since
        if listing.known:
            return
        if first or now - listing.said >= AGAIN_SECONDS:
            listing.said = now
            wanted = [entry for entry in source.symbols if patterns.is_pattern(entry)]
            changing.listings_awaited(**facts, patterns=wanted, seconds=now - began)
        if now - began >= REMEMBER_SECONDS:
            known = await asyncio.to_thread(self._stored, market_of(source))
            if known and not listing.answered:
                listing.remember(known)
                changing.listings_remembered(**facts, symbols=len(known))

    def say_unmatched(self, source: SourceConfig, found: Resolved) -> None:
        """Name, once, the patterns that mean nothing although the venue has said what there is."""
        market = market_of(source)
        if not self._markets[market].answered:
            return
        for pattern in found.unmatched:
            if (market, pattern) not in self._unmatched:
                self._unmatched.add((market, pattern))
                changing.pattern_unmatched(exchange=market[0], market_type=market[1], pattern=pattern)


def market_of(source: SourceConfig) -> MarketKey:
    return (source.exchange, source.market_type)
