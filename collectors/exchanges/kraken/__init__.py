"""Kraken: spot (WebSocket v2), linear and inverse futures: every public stream of use, and the instruments.

The module is a `market.session.Exchange`. Spot and futures are two venues in all but name: hosts, protocols, spellings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.reference import DELISTED
from collectors.exchanges.kraken import futures_polls, polls
from collectors.exchanges.kraken.evidence import EVIDENCE
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
from collectors.exchanges.kraken.protocol import KrakenSession
from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import SERVER_TIME, Connection, Endpoint, Poll, Polled, Session, Stream

NAME = "kraken"
CONTRACT = "contract"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {
        CONTRACT: Poll(ROUTE if market == SPOT else futures_polls.INSTRUMENTS, each=False),
        **(polls.POLLS if market == SPOT else futures_polls.POLLS),
    }
    for market in MARKETS
}
_STREAMED: Mapping[str, Mapping[str, str]] = {
    market: {channel.kind: channel.name for channel in reversed(list(channels.values()))}
    for market, channels in CHANNELS.items()
}
"""Of the channels of one kind, the first."""
OFFERS: Mapping[str, Mapping[str, str]] = {
    market: {**{kind: poll.route for kind, poll in POLLS[market].items() if kind != SERVER_TIME}, **streamed}
    for market, streamed in _STREAMED.items()
}
PUSHES = frozenset({"trade"})
"""Kinds of which the newest are told when they are subscribed to (`collectors.pushed`)."""
TRADING = frozenset({"online", futures_polls.TRADEABLE, futures_polls.POST_ONLY})
ENDED = frozenset({"delisted", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "ENDED", "ENDPOINTS", "EVIDENCE", "LIMITS", "NAME", "OFFERS", "POLLS", "PUSHES", "TRADING", "connections", "poller",
    "session", "streams",
]  # fmt: skip


def _known(market_type: str) -> str:
    if market_type not in MARKETS:
        raise Malformed(f"market_type of {NAME} (one of {', '.join(MARKETS)})", market_type)
    return market_type


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    """One stream a kind and symbol; none of a kind that is only polled.

    Raises Malformed for a kind not offered and for a channel that is none of its kind's.
    """
    known, offered, chosen = CHANNELS[_known(market_type)], OFFERS[market_type], channels or {}
    found: list[Stream] = []
    for kind in kinds:
        if kind not in offered:
            evidence = EVIDENCE[market_type].get(kind)
            why = f"; {evidence.note}" if evidence is not None and evidence.basis == "absent" else ""
            raise Malformed(f"kind of {NAME} {market_type} (one of {', '.join(sorted(offered))}{why})", kind)
        if kind not in _STREAMED[market_type] and kind not in chosen:
            continue
        name = chosen.get(kind, offered[kind])
        channel = known.get(name)
        if channel is None or channel.kind != kind:
            names = ", ".join(c.name for c in known.values() if c.kind == kind)
            raise Malformed(f"channel of {NAME} {market_type} for {kind} (one of {names or 'none'})", name)
        found += [channel.stream(symbol) for symbol in dict.fromkeys(symbols)]
    return list(dict.fromkeys(found))


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    """The connections that carry `streams`, within the venue's limits. Raises Malformed for an address not given."""
    limit = LIMITS[_known(market_type)].streams_per_connection
    if PUBLIC not in endpoint.ws:
        raise Malformed(f"endpoint of {NAME} {market_type} (needs the WebSocket base {PUBLIC!r})", sorted(endpoint.ws))
    return [
        Connection(NAME, market_type, f"{NAME}-{market_type}-{PUBLIC}-{number}", endpoint.ws[PUBLIC], group)
        for number, group in enumerate(groups(streams, limit), 1)
    ]


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _known(connection.market_type)
    if market == SPOT:
        return KrakenSession(connection, session_id, CHANNELS[market], READERS, LIMITS[market], learn=learn)
    return FuturesSession(connection, session_id, CHANNELS[market], FUTURES_READERS, LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, open interest, funding, the clock. Raises Malformed."""
    market = _known(market_type)
    polled = msgspec.structs.replace(polled, symbols=tuple(polled.symbols))
    if polled.kind == CONTRACT and market == SPOT:
        return KrakenReference(session_id, polled.symbols, polled, endpoint.rest)
    if polled.kind == CONTRACT:
        return futures_polls.FuturesReference(market, session_id, polled.symbols, polled, endpoint.rest)
    made: Session | None
    if market == SPOT:
        made = polls.poller(session_id, polled, endpoint.rest)
    else:
        made = futures_polls.poller(market, session_id, polled, endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
