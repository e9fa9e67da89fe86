"""KuCoin (classic API): spot, linear and inverse futures: every public stream of use, and the instruments.

The module is a `market.session.Exchange` and `market.admission.Admitting`: every connection needs a token of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec

from collectors.adapters.reference import DELISTED
from collectors.exchanges.kucoin import admission as tokens
from collectors.exchanges.kucoin import polls
from collectors.exchanges.kucoin.evidence import EVIDENCE
from collectors.exchanges.kucoin.markets import CHANNELS, ENDPOINTS, LIMITS, MARKETS, PUBLIC
from collectors.exchanges.kucoin.protocol import KucoinSession
from collectors.exchanges.kucoin.reference import ROUTES, KucoinReference
from collectors.subscriptions import groups
from market.admission import Admission
from market.errors import Malformed
from market.session import SERVER_TIME, Connection, Endpoint, Fetch, Poll, Polled, Session, Stream

NAME = "kucoin"
CONTRACT = "contract"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTES[market], each=False), **polls.offered(market)} for market in MARKETS
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
TRADING = frozenset({"Trading", "Open"})
ENDED = frozenset({"BeingSettled", "Settled", "Closed", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "ENDED", "ENDPOINTS", "EVIDENCE", "LIMITS", "NAME", "OFFERS", "POLLS", "TRADING", "admission", "admitted",
    "connections", "poller", "session", "streams",
]  # fmt: skip


def _known(market_type: str) -> str:
    if market_type not in MARKETS:
        raise Malformed(f"market_type of {NAME} (one of {', '.join(MARKETS)})", market_type)
    return market_type


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    """One stream a kind and symbol (upper case, as all of the venue's are); none of a kind that is only polled.

    Raises Malformed for a kind not offered and for a channel that is none of its kind's.
    """
    known, offered, chosen = CHANNELS[_known(market_type)], OFFERS[market_type], channels or {}
    found = []
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
        found += [channel.stream(symbol) for symbol in dict.fromkeys(symbol.upper() for symbol in symbols)]
    return found


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    """The connections that carry `streams`, within the venue's limits. Raises Malformed for an address not given."""
    limit = LIMITS[_known(market_type)].streams_per_connection
    if PUBLIC not in endpoint.ws:
        raise Malformed(f"endpoint of {NAME} {market_type} (needs the WebSocket base {PUBLIC!r})", sorted(endpoint.ws))
    return [
        Connection(NAME, market_type, f"{NAME}-{market_type}-{PUBLIC}-{number}", endpoint.ws[PUBLIC], group)
        for number, group in enumerate(groups(streams, limit), 1)
    ]


def admission(connection: Connection) -> Fetch | None:
    """The request for a connection's token (`market.admission.Admitting`)."""
    return tokens.asked(connection)


def admitted(connection: Connection, status: int, headers: Mapping[str, str], body: bytes) -> Admission | str:
    """Where to connect with the token, or why nowhere."""
    del headers
    default = ENDPOINTS[_known(connection.market_type)].ws[PUBLIC]
    name = f"{zlib.crc32(connection.name.encode()):08x}"
    return tokens.admitted(connection, default, name, status, body)


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _known(connection.market_type)
    return KucoinSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, open interest, funding, the clock. Raises Malformed."""
    market = _known(market_type)
    symbols = tuple(symbol.upper() for symbol in polled.symbols)
    if polled.kind == CONTRACT:
        return KucoinReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
