"""OKX (V5): spot, and perpetual and dated futures, linear and inverse: every public stream of use, and the instruments.

The module is a `market.session.Exchange`. All markets have two WebSocket addresses, `public` and `business`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.reference import DELISTED
from collectors.exchanges.okx import polls
from collectors.exchanges.okx.evidence import EVIDENCE
from collectors.exchanges.okx.markets import (
    BOOKS,
    BOOKS_PER_CONNECTION,
    CHANNELS,
    ENDPOINTS,
    FUNDING,
    LIMITS,
    MARKETS,
    PATHS,
)
from collectors.exchanges.okx.protocol import Channel, OkxSession
from collectors.exchanges.okx.reference import ROUTE, OkxReference
from collectors.exchanges.okx.wire import FUTURES, PERPETUAL, SWAP
from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import SERVER_TIME, Connection, Endpoint, Poll, Polled, Session, Stream

NAME = "okx"
CONTRACT, MARK = "contract", "mark_price"
POLLS: Mapping[str, Mapping[str, Poll]] = {
    market: {CONTRACT: Poll(ROUTE, each=False), **polls.offered(market)} for market in MARKETS
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
TRADING = frozenset({"live"})
ENDED = frozenset({"expired", DELISTED})
"""The last is our own word, for a listing that the venue names no more."""

__all__ = [
    "ENDED", "ENDPOINTS", "EVIDENCE", "LIMITS", "NAME", "OFFERS", "POLLS", "TRADING", "connections", "poller",
    "session", "streams",
]  # fmt: skip


def _known(market_type: str) -> str:
    if market_type not in MARKETS:
        raise Malformed(f"market_type of {NAME} (one of {', '.join(MARKETS)})", market_type)
    return market_type


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    """One stream a kind and symbol (upper case, as all of the venue's are); none of a kind that is only polled. Forced
    orders come for all instruments of a type together, and the marks of perpetuals with the stream of their funding.

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
        if channel is None or channel.kind != kind or name == FUNDING:
            names = ", ".join(c.name for c in known.values() if c.kind == kind and c.name != FUNDING)
            raise Malformed(f"channel of {NAME} {market_type} for {kind} (one of {names or 'none'})", name)
        asked = [symbol.upper() for symbol in symbols]
        found += [channel.stream(whom) for whom in _asked(channel, asked)]
        if kind == MARK:
            perpetual = (symbol for symbol in asked if symbol.endswith(PERPETUAL))
            found += [known[FUNDING].stream(symbol) for symbol in dict.fromkeys(perpetual)]
    return found


def _asked(channel: Channel, symbols: Iterable[str]) -> Iterable[str]:
    """Whom a channel is asked for: symbols, or their types."""
    types = (SWAP if symbol.endswith(PERPETUAL) else FUTURES for symbol in symbols) if channel.of_type else symbols
    return dict.fromkeys(types)


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    """The connections that carry `streams`, within the venue's limits. Raises Malformed for an address not given."""
    market = _known(market_type)
    found = []
    for path, address in PATHS.items():
        carried = [stream for stream in streams if CHANNELS[market][stream.channel].path == path]
        if carried and address not in endpoint.ws:
            needed = f"endpoint of {NAME} {market} (needs the WebSocket base {address!r})"
            raise Malformed(needed, sorted(endpoint.ws))
        limit = BOOKS_PER_CONNECTION if path == BOOKS else LIMITS[market].streams_per_connection
        found += [
            Connection(NAME, market, f"{NAME}-{market}-{path}-{number}", endpoint.ws[address], group)
            for number, group in enumerate(groups(carried, limit), 1)
        ]
    return found


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _known(connection.market_type)
    return OkxSession(connection, session_id, CHANNELS[market], LIMITS[market], learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, funding, the clock. Raises Malformed."""
    market = _known(market_type)
    symbols = tuple(symbol.upper() for symbol in polled.symbols)
    if polled.kind == CONTRACT:
        return OkxReference(market, session_id, symbols, polled, endpoint.rest)
    made = polls.poller(market, session_id, msgspec.structs.replace(polled, symbols=symbols), endpoint.rest)
    if made is None:
        raise Malformed(f"kind that {NAME} {market} can be polled for", polled.kind)
    return made
