"""Bybit (V5): spot, linear (USDT and USDC) and inverse futures: every public stream of use, and the instruments.

The module is a `market.session.Exchange`. Each market has one WebSocket address, `public`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.adapters.dated import registered
from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.exchanges.bybit import history, polls
from collectors.exchanges.bybit.evidence import AS_OF, ENDS, EVIDENCE, LIQUID
from collectors.exchanges.bybit.markets import CHANNELS, ENDPOINTS, LIMITS, MARKETS, PUBLIC
from collectors.exchanges.bybit.probes import probe, probed
from collectors.exchanges.bybit.protocol import BybitSession
from collectors.exchanges.bybit.reference import ROUTE, BybitReference
from collectors.exchanges.bybit.shapes import SHAPES, described
from market.errors import Malformed
from market.session import Connection, Endpoint, Poll, Polled, Session

NAME = "bybit"
CONTRACT = "contract"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTE, each=False), **polls.offered(market)} for market in MARKETS
}
_OFFERING = Offering(NAME, PUBLIC, CHANNELS, POLLS, LIMITS, EVIDENCE)
OFFERS = _OFFERING.offers
PARSERS = registered(CHANNELS, lambda _, channel: channel.maker)
streams = _OFFERING.streams
connections = _OFFERING.connections
LED = {"linear": frozenset({"mark_price"}), "inverse": frozenset({"mark_price"})}
"""Market -> kinds that say nothing by which two connections' copies can be told: a ticker has its frame's time."""
HISTORY, FLEETING = history.OFFERED, history.FLEETING
"""market_type -> kind -> what of its past can be asked for, or why not; what nobody tells of later (`market.history`).
"""
TRADING = frozenset({"Trading"})
ENDED = frozenset({"Delivering", "Closed", DELISTED})
"""The last is our own word, for a listing that the venue names no more: its list names what trades only."""

__all__ = [
    "AS_OF", "ENDED", "ENDPOINTS", "ENDS", "EVIDENCE", "FLEETING", "HISTORY", "LED", "LIMITS", "LIQUID", "NAME",
    "OFFERS", "PARSERS", "POLLS", "SHAPES", "TRADING", "connections", "described", "poller", "probe", "probed",
    "session", "streams",
]  # fmt: skip


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _OFFERING.known(connection.market_type)
    return BybitSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, open interest, funding, the clock, history. Raises Malformed."""
    market = _OFFERING.known(market_type)
    if polled.span is not None:
        return history.session(market, session_id, polled, endpoint.rest)
    symbols = _OFFERING.symbols(polled.symbols)
    if polled.kind == CONTRACT:
        return BybitReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
