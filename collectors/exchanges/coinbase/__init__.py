"""Coinbase: spot by the public channels and routes of Advanced Trade; of US futures what REST tells.

The module is a `market.session.Exchange`. A market has one WebSocket address, `advanced`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.exchanges.coinbase import polls
from collectors.exchanges.coinbase.evidence import EVIDENCE
from collectors.exchanges.coinbase.markets import ADVANCED, CHANNELS, ENDPOINTS, LIMITS, MARKETS
from collectors.exchanges.coinbase.protocol import CoinbaseSession
from collectors.exchanges.coinbase.reference import ONLINE, ROUTE, CoinbaseReference
from market.errors import Malformed
from market.session import Connection, Endpoint, Poll, Polled, Session

NAME = "coinbase"
CONTRACT = "contract"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTE, each=False), **polls.OFFERED[market]} for market in MARKETS
}
_OFFERING = Offering(NAME, ADVANCED, CHANNELS, POLLS, LIMITS, EVIDENCE)
OFFERS = _OFFERING.offers
streams = _OFFERING.streams
connections = _OFFERING.connections
TRADING = frozenset({ONLINE, "post_only", "limit_only", "auction_mode"})
ENDED = frozenset({"delisted", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "ENDED", "ENDPOINTS", "EVIDENCE", "LIMITS", "NAME", "OFFERS", "POLLS", "TRADING", "connections", "poller",
    "session", "streams",
]  # fmt: skip


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _OFFERING.known(connection.market_type)
    return CoinbaseSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: products, books, open interest, funding, the clock. Raises Malformed."""
    market = _OFFERING.known(market_type)
    symbols = _OFFERING.symbols(polled.symbols)
    if polled.kind == CONTRACT:
        return CoinbaseReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
