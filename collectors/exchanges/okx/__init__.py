"""OKX (V5): spot, and perpetual and dated futures, linear and inverse: every public stream of use, and the instruments.

The module is a `market.session.Exchange`. All markets have two WebSocket addresses, `public` and `business`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.dated import registered
from collectors.adapters.offering import Offering
from collectors.adapters.reference import DELISTED
from collectors.exchanges.okx import history, polls
from collectors.exchanges.okx.evidence import AS_OF, ENDS, EVIDENCE, LIQUID
from collectors.exchanges.okx.markets import (
    BOOKS,
    BOOKS_PER_CONNECTION,
    CHANNELS,
    ENDPOINTS,
    FUNDING,
    LIMITS,
    MARKETS,
    PATHS,
    PUBLIC,
)
from collectors.exchanges.okx.probes import probe, probed
from collectors.exchanges.okx.protocol import Channel, OkxSession
from collectors.exchanges.okx.reference import ROUTE, OkxReference
from collectors.exchanges.okx.shapes import SHAPES, described
from collectors.exchanges.okx.wire import FUTURES, PERPETUAL, SWAP
from market.errors import Malformed
from market.session import Connection, Endpoint, Poll, Polled, Session, Stream

NAME = "okx"
CONTRACT, MARK = "contract", "mark_price"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTE, each=False), **polls.offered(market)} for market in MARKETS
}
_OFFERING = Offering(NAME, PUBLIC, CHANNELS, POLLS, LIMITS, EVIDENCE, beside=frozenset({FUNDING}))
OFFERS = _OFFERING.offers
PARSERS = registered(CHANNELS, lambda _, channel: channel.maker)
HISTORY, FLEETING = history.OFFERED, history.FLEETING
"""market_type -> kind -> what of its past can be asked for, or why not; what nobody tells of later (`market.history`).
"""
PUSHES = frozenset({"agg_trade", "liquidation"})
"""Kinds of whose past the venue tells on subscribing. (So it does of `trade`, whose ids follow each other.)"""
TRADING = frozenset({"live"})
ENDED = frozenset({"expired", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "AS_OF", "ENDED", "ENDPOINTS", "ENDS", "EVIDENCE", "FLEETING", "HISTORY", "LIMITS", "LIQUID", "NAME",
    "OFFERS", "PARSERS", "POLLS", "PUSHES", "SHAPES", "TRADING", "connections", "described", "poller", "probe",
    "probed", "session", "streams",
]  # fmt: skip


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    """One stream a kind and symbol; none of a kind that is only polled. Forced orders come for all instruments of a
    type together, and the marks of perpetuals with the stream of their funding.

    Raises Malformed for a kind not offered and for a channel that is none of its kind's.
    """
    asked = _OFFERING.symbols(symbols)
    found = []
    for channel in _OFFERING.chosen(market_type, kinds, channels):
        found += [channel.stream(whom) for whom in _asked(channel, asked)]
        if channel.kind == MARK:
            funding = CHANNELS[market_type][FUNDING]
            found += [funding.stream(symbol) for symbol in asked if symbol.endswith(PERPETUAL)]
    return found


def _asked(channel: Channel, symbols: Iterable[str]) -> Iterable[str]:
    """Whom a channel is asked for: symbols, or their types."""
    types = (SWAP if symbol.endswith(PERPETUAL) else FUTURES for symbol in symbols)
    return dict.fromkeys(types) if channel.of_type else symbols


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    """The connections that carry `streams`, within the venue's limits. Raises Malformed for an address not given."""
    market = _OFFERING.known(market_type)
    found = []
    for path, address in PATHS.items():
        if carried := [stream for stream in streams if CHANNELS[market][stream.channel].path == path]:
            limit = BOOKS_PER_CONNECTION if path == BOOKS else LIMITS[market].streams_per_connection
            found += _OFFERING.carried(market, carried, endpoint, address, path, limit)
    return found


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _OFFERING.known(connection.market_type)
    return OkxSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, funding, the clock, history. Raises Malformed."""
    market = _OFFERING.known(market_type)
    if polled.span is not None:
        return history.session(market, session_id, polled, endpoint.rest)
    symbols = _OFFERING.symbols(polled.symbols)
    if polled.kind == CONTRACT:
        return OkxReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
