"""Coinbase: spot and US futures by the public channels and routes of Advanced Trade, by choice spot by Exchange.

The module is a `market.session.Exchange`. Spot has two WebSocket addresses: `advanced`, and `exchange` for the older
feed, whose channels (`exchange.matches` and so on) a configuration may name instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.dated import registered
from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.exchanges.coinbase import history, polls
from collectors.exchanges.coinbase.evidence import AS_OF, ENDS, EVIDENCE, LIQUID
from collectors.exchanges.coinbase.markets import CHANNELS, ENDPOINTS, LIMITS, MARKETS
from collectors.exchanges.coinbase.probes import probe, probed
from collectors.exchanges.coinbase.protocol import ADVANCED, EXCHANGE, CoinbaseSession
from collectors.exchanges.coinbase.reference import ONLINE, ROUTE, CoinbaseReference
from collectors.exchanges.coinbase.shapes import SHAPES, described
from market.errors import Malformed
from market.session import Connection, Endpoint, Poll, Polled, Session, Stream

NAME = "coinbase"
CONTRACT = "contract"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTE, each=False), **polls.OFFERED[market]} for market in MARKETS
}
_OFFERING = Offering(NAME, ADVANCED, CHANNELS, POLLS, LIMITS, EVIDENCE)
OFFERS = _OFFERING.offers
PARSERS = registered(CHANNELS, lambda _, channel: channel.maker)
streams = _OFFERING.streams
BEGAN, HISTORY = history.BEGAN, history.OFFERED
_LIVE_ONLY = "the venue tells it when it happens: no REST route has it afterwards, and it publishes no archive"
FLEETING = {
    market: dict.fromkeys(("quote", "book_delta", "book_snapshot"), _LIVE_ONLY) for market in ENDPOINTS
}  # fmt: skip
"""market_type -> kind that no source of the venue tells of afterwards -> why."""
LED = {"spot": frozenset({"quote"})}
"""Market -> kinds that say nothing by which two connections' copies can be told: `ticker` has the message's time."""
BY_NEXT = dict.fromkeys(MARKETS, frozenset({"kline"}))
"""Market -> kinds of which an event may be untold though all that comes behind it is: a candle waits for what is told
after its end, and that may be the whole that a new subscription begins with.
"""
TRADING = frozenset({ONLINE, "post_only", "limit_only", "auction_mode"})
ENDED = frozenset({"delisted", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "AS_OF", "BEGAN", "BY_NEXT", "ENDED", "ENDPOINTS", "ENDS", "EVIDENCE", "FLEETING", "HISTORY", "LED", "LIMITS",
    "LIQUID", "NAME", "OFFERS", "PARSERS", "POLLS", "SHAPES", "TRADING", "connections", "described", "poller", "probe",
    "probed", "session", "streams",
]  # fmt: skip


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    """What carries `streams` within the venue's limits, a feed each. Raises Malformed for an address not given."""
    market = _OFFERING.known(market_type)
    found = []
    for path in (ADVANCED, EXCHANGE):
        if carried := [stream for stream in streams if CHANNELS[market][stream.channel].path == path]:
            limit = LIMITS[market].streams_per_connection
            found += _OFFERING.carried(market, carried, endpoint, path, path, limit)
    return found


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _OFFERING.known(connection.market_type)
    return CoinbaseSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: products, books, open interest, funding, the clock, history. Raises Malformed."""
    market = _OFFERING.known(market_type)
    symbols = _OFFERING.symbols(polled.symbols)
    if polled.span is not None:
        return history.session(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if polled.kind == CONTRACT:
        return CoinbaseReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
