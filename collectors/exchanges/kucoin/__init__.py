"""KuCoin (classic API): spot, linear and inverse futures: every public stream of use, and the instruments.

The module is a `market.session.Exchange` and `market.admission.Admitting`: every connection needs a token of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec

from collectors.adapters.dated import registered
from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.exchanges.kucoin import admission as tokens
from collectors.exchanges.kucoin import history, polls
from collectors.exchanges.kucoin.evidence import AS_OF, ENDS, EVIDENCE, LIQUID
from collectors.exchanges.kucoin.markets import CHANNELS, ENDPOINTS, LIMITS, MARKETS, PUBLIC
from collectors.exchanges.kucoin.probes import probe, probed
from collectors.exchanges.kucoin.protocol import KucoinSession
from collectors.exchanges.kucoin.reference import ROUTES, KucoinReference
from collectors.exchanges.kucoin.shapes import SHAPES, described
from market.admission import Admission
from market.errors import Malformed
from market.session import Connection, Endpoint, Fetch, Poll, Polled, Session

NAME = "kucoin"
CONTRACT = "contract"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTES[market], each=False), **polls.offered(market)} for market in MARKETS
}
_OFFERING = Offering(NAME, PUBLIC, CHANNELS, POLLS, LIMITS, EVIDENCE)
OFFERS = _OFFERING.offers
PARSERS = registered(CHANNELS, lambda _, channel: channel.maker)
streams = _OFFERING.streams
connections = _OFFERING.connections
LED = {"spot": frozenset({"quote"})}
"""Market -> kinds that say nothing by which two connections' copies can be told: `level1` has no number."""
BY_NEXT = {"spot": frozenset({"kline"})}
"""Market -> kinds of which an event is told by the next one of its symbol only."""
HISTORY, FLEETING = history.OFFERED, history.FLEETING
"""market_type -> kind -> what of its past can be asked for, or why not; what nobody tells of later (`market.history`).
"""
TRADING = frozenset({"Trading", "Open"})
ENDED = frozenset({"BeingSettled", "Settled", "Closed", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "AS_OF", "BY_NEXT", "ENDED", "ENDPOINTS", "ENDS", "EVIDENCE", "FLEETING", "HISTORY", "LED", "LIMITS", "LIQUID",
    "NAME", "OFFERS", "PARSERS", "POLLS", "SHAPES", "TRADING", "admission", "admitted", "connections", "described",
    "poller", "probe", "probed", "session", "streams",
]  # fmt: skip


def admission(connection: Connection) -> Fetch | None:
    """The request for a connection's token (`market.admission.Admitting`)."""
    return tokens.asked(connection)


def admitted(connection: Connection, status: int, headers: Mapping[str, str], body: bytes) -> Admission | str:
    """Where to connect with the token, or why nowhere."""
    del headers
    default = ENDPOINTS[_OFFERING.known(connection.market_type)].ws[PUBLIC]
    name = f"{zlib.crc32(connection.name.encode()):08x}"
    return tokens.admitted(connection, default, name, status, body)


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _OFFERING.known(connection.market_type)
    return KucoinSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, open interest, funding, the clock, history. Raises Malformed."""
    market = _OFFERING.known(market_type)
    if polled.span is not None:
        return history.session(market, session_id, polled, endpoint.rest)
    symbols = _OFFERING.symbols(polled.symbols)
    if polled.kind == CONTRACT:
        return KucoinReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
