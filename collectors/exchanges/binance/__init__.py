"""Binance: spot, USD-M futures (linear) and COIN-M futures (inverse): every public stream and the instruments.

The module is a `market.session.Exchange`. WebSocket bases of an Endpoint are complete addresses by name: spot has
`stream`, linear has `public` and `market`, inverse those and `unrouted` to fall back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

import msgspec

from collectors.adapters.dated import registered
from collectors.exchanges.binance import history, inverse, linear, polls, probes, spot
from collectors.exchanges.binance.evidence import AS_OF, ENDS, EVIDENCE, LIQUID
from collectors.exchanges.binance.protocol import StreamSession
from collectors.exchanges.binance.rest import ALL, DELISTED, ReferenceSession
from collectors.exchanges.binance.shapes import SHAPES, described
from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import (
    EVERY_SYMBOL,
    SERVER_TIME,
    Connection,
    Endpoint,
    Fetch,
    Limits,
    Poll,
    Polled,
    Session,
    Stream,
)

NAME = "binance"
CONTRACT = "contract"
_MARKETS: dict[str, ModuleType] = {"spot": spot, "linear": linear, "inverse": inverse}
ENDPOINTS: Mapping[str, Endpoint] = {name: market.ENDPOINT for name, market in _MARKETS.items()}
LIMITS: Mapping[str, Limits] = {name: market.LIMITS for name, market in _MARKETS.items()}
POLLS: Mapping[str, Mapping[str, Poll]] = {
    name: {CONTRACT: Poll(ALL, each=False), **polls.offered(market.POLLS)} for name, market in _MARKETS.items()
}
_STREAMED: Mapping[str, Mapping[str, str]] = {
    name: {channel.kind: channel.name for channel in reversed(list(market.CHANNELS.values()))}
    for name, market in _MARKETS.items()
}
"""Of the channels of one kind, the first."""
OFFERS: Mapping[str, Mapping[str, str]] = {
    name: {**{kind: poll.route for kind, poll in POLLS[name].items() if kind != SERVER_TIME}, **streamed}
    for name, streamed in _STREAMED.items()
}
PARSERS = registered({name: market.CHANNELS for name, market in _MARKETS.items()}, lambda _, channel: channel.maker)
probe, probed = probes.probe, probes.probed
HISTORY = history.OFFERED
"""market_type -> kind -> what of its past can be asked for, or why not (`market.history`)."""
FLEETING = history.FLEETING
"""market_type -> kind that no source of the venue tells of afterwards -> why."""
TRADING = frozenset({"TRADING"})
ENDED = frozenset({"SETTLING", "CLOSE", "DELIVERED", DELISTED})
"""The last is our own word, for a listing that the venue names no more. A spot symbol that is over says BREAK, as one
does that rests for an hour: it stays until it is gone.
"""

__all__ = [
    "AS_OF", "ENDED", "ENDPOINTS", "ENDS", "EVIDENCE", "FLEETING", "HISTORY", "LIMITS", "LIQUID", "NAME", "OFFERS",
    "POLLS", "SHAPES", "TRADING", "connections", "described", "poller", "session", "streams",
]  # fmt: skip


def _market(market_type: str) -> ModuleType:
    try:
        return _MARKETS[market_type]
    except KeyError:
        raise Malformed(f"market_type of {NAME} (one of {', '.join(_MARKETS)})", market_type) from None


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    """One stream a kind and symbol (upper case, as all of the venue's are), of a market-wide channel one for all; none
    of a kind that is only polled.

    Raises Malformed for a kind not offered and for a channel that is none of its kind's.
    """
    market = _market(market_type)
    offered, chosen = OFFERS[market_type], channels or {}
    found = []
    for kind in kinds:
        if kind not in offered:
            evidence = EVIDENCE[market_type].get(kind)
            why = f"; {evidence.note}" if evidence is not None and evidence.basis == "absent" else ""
            raise Malformed(f"kind of {NAME} {market_type} (one of {', '.join(sorted(offered))}{why})", kind)
        if kind in POLLS[market_type] and kind not in chosen and kind not in _STREAMED[market_type]:
            continue
        name = chosen.get(kind, offered[kind])
        channel = market.CHANNELS.get(name)
        if channel is None or channel.kind != kind:
            known = ", ".join(c.name for c in market.CHANNELS.values() if c.kind == kind)
            raise Malformed(f"channel of {NAME} {market_type} for {kind} (one of {known})", name)
        wanted = [EVERY_SYMBOL] if channel.market_wide else dict.fromkeys(symbol.upper() for symbol in symbols)
        found += [channel.stream(symbol) for symbol in wanted]
    return found


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    """The connections that carry `streams`: each channel on the path that serves it, within the venue's limits.

    Raises Malformed where the endpoint lacks a base that a stream needs.
    """
    market = _market(market_type)
    paths: dict[str, list[Stream]] = {}
    for stream in streams:
        paths.setdefault(market.PATHS[stream.channel], []).append(stream)
    found = []
    for path, wanted in sorted(paths.items()):
        if path not in endpoint.ws:
            raise Malformed(
                f"endpoint of {NAME} {market_type} (needs the WebSocket base {path!r})", sorted(endpoint.ws)
            )
        fallbacks = (endpoint.ws[market.FALLBACK],) if market.FALLBACK in endpoint.ws else ()
        for number, group in enumerate(groups(wanted, market.LIMITS.streams_per_connection), 1):
            name = f"{NAME}-{market_type}-{path}-{number}"
            found.append(Connection(NAME, market_type, name, endpoint.ws[path], group, fallbacks))
    return found


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _market(connection.market_type)
    return StreamSession(
        connection, session_id, market.CHANNELS, market.LIMITS, market.DEPTH, market.sizes(), learn=learn
    )


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> Session:
    """A session that only fetches: instruments, books, open interest, funding, the clock, history.

    Raises Malformed.
    """
    market = _market(market_type)
    if polled.span is not None:
        return history.session(market_type, session_id, polled, endpoint.rest)
    symbols = tuple(symbol.upper() for symbol in polled.symbols)
    if polled.kind == CONTRACT:
        asked = Fetch(ALL, "GET", endpoint.rest.rstrip("/") + market.EXCHANGE_INFO, market.EXCHANGE_INFO_WEIGHT)
        return ReferenceSession(
            market_type, session_id, symbols, asked, every=polled.every, known=polled.known,
            by_name=market.EXCHANGE_INFO_BY_NAME,
        )  # fmt: skip
    asking = msgspec.structs.replace(polled, symbols=symbols)
    made = polls.poller(market_type, session_id, asking, endpoint.rest, market.POLLS)
    if made is None:
        raise Malformed(f"kind that {NAME} {market_type} can be polled for", polled.kind)
    return made
