"""Kraken: spot (WebSocket v2), linear and inverse futures: every public stream of use, and the instruments.

The module is a `market.session.Exchange`. Spot and futures are two venues in all but name: hosts, protocols, spellings.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.adapters.dated import registered
from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.exchanges.kraken import charts, futures_polls, history, polls
from collectors.exchanges.kraken.evidence import AS_OF, ENDS, EVIDENCE, LIQUID
from collectors.exchanges.kraken.futures import FuturesSession
from collectors.exchanges.kraken.instruments import ROUTE, KrakenReference
from collectors.exchanges.kraken.markets import (
    CHANNELS,
    ENDPOINTS,
    FUTURES_READERS,
    LIMITS,
    MARKETS,
    PUBLIC,
    READERS,
    SPOT,
)
from collectors.exchanges.kraken.probes import probe, probed
from collectors.exchanges.kraken.protocol import KrakenSession
from collectors.exchanges.kraken.shapes import SHAPES, described
from market.errors import Malformed
from market.session import Connection, Endpoint, Poll, Polled, Session

NAME = "kraken"
CONTRACT, CANDLE = "contract", "kline"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {
        CONTRACT: Poll(ROUTE if market == SPOT else futures_polls.INSTRUMENTS, each=False),
        **(polls.POLLS if market == SPOT else {**futures_polls.POLLS, CANDLE: charts.POLL}),
    }
    for market in MARKETS
}
_OFFERING = Offering(NAME, PUBLIC, CHANNELS, POLLS, LIMITS, EVIDENCE, upper=False)
OFFERS = _OFFERING.offers
PARSERS = registered(
    CHANNELS, lambda market, channel: (READERS if market == SPOT else FUTURES_READERS).get(channel.word)
)
streams = _OFFERING.streams
connections = _OFFERING.connections
BEGAN, HISTORY = history.BEGAN, history.OFFERED
_LIVE_ONLY = "the venue tells it when it happens: no REST route has it afterwards, its archives have trades only"
FLEETING = {
    market: dict.fromkeys(("quote", "book_delta", "book_snapshot"), _LIVE_ONLY) for market in ENDPOINTS
}  # fmt: skip
"""market_type -> kind that no source of the venue tells of afterwards -> why."""
CASED = True
"""Symbols differ by case: `PF_AAPLxUSD`."""
PUSHES = frozenset({"trade"})
"""Kinds of which the newest are told when they are subscribed to (`collectors.pushed`)."""
LED = dict.fromkeys(MARKETS, frozenset({"quote", "mark_price"}))
"""Market -> kinds that say nothing by which two connections' copies can be told: no page says that the times of
`ticker` are the same on each.
"""
BY_NEXT = {SPOT: frozenset({CANDLE})}
"""Market -> kinds of which an event is told by the next one of its symbol only."""
TRADING = frozenset({"online", futures_polls.TRADEABLE, futures_polls.POST_ONLY})
ENDED = frozenset({"delisted", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "AS_OF", "BEGAN", "BY_NEXT", "CASED", "ENDED", "ENDPOINTS", "ENDS", "EVIDENCE", "FLEETING", "HISTORY", "LED",
    "LIMITS", "LIQUID", "NAME", "OFFERS", "PARSERS", "POLLS", "PUSHES", "SHAPES", "TRADING", "connections", "described",
    "poller", "probe", "probed", "session", "streams",
]  # fmt: skip


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _OFFERING.known(connection.market_type)
    if market == SPOT:
        return KrakenSession(connection, session_id, CHANNELS[market], READERS, LIMITS[market], learn=learn)
    return FuturesSession(connection, session_id, CHANNELS[market], FUTURES_READERS, LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, open interest, funding, the clock, history. Raises Malformed."""
    market = _OFFERING.known(market_type)
    polled = msgspec.structs.replace(polled, symbols=_OFFERING.symbols(polled.symbols))
    if polled.span is not None:
        return history.session(market, session_id, polled, endpoint.rest)
    if polled.kind == CONTRACT and market == SPOT:
        return KrakenReference(session_id, polled.symbols, polled, endpoint.rest)
    if polled.kind == CONTRACT:
        return futures_polls.FuturesReference(market, session_id, polled.symbols, polled, endpoint.rest)
    made: Session | None
    if polled.kind == CANDLE and market != SPOT:
        made = charts.KlinePoll(session_id, polled, endpoint.rest, market)
    elif market == SPOT:
        made = polls.poller(session_id, polled, endpoint.rest)
    else:
        made = futures_polls.poller(market, session_id, polled, endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
