"""Binance: spot, USD-M futures (linear) and COIN-M futures (inverse): every public stream and the instruments.

The module is a `market.session.Exchange`. WebSocket bases of an Endpoint are complete addresses by name: spot has
`stream`, linear has `public` and `market`, inverse those and `unrouted` to fall back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

from collectors.exchanges.binance import inverse, linear, spot
from collectors.exchanges.binance.evidence import EVIDENCE
from collectors.exchanges.binance.protocol import StreamSession
from collectors.exchanges.binance.rest import ReferenceSession
from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import EVERY_SYMBOL, Connection, Endpoint, Limits, Session, Stream

NAME = "binance"
_MARKETS: dict[str, ModuleType] = {"spot": spot, "linear": linear, "inverse": inverse}
ENDPOINTS: Mapping[str, Endpoint] = {name: market.ENDPOINT for name, market in _MARKETS.items()}
LIMITS: Mapping[str, Limits] = {name: market.LIMITS for name, market in _MARKETS.items()}
OFFERS: Mapping[str, Mapping[str, str]] = {
    name: {channel.kind: channel.name for channel in reversed(list(market.CHANNELS.values()))}
    for name, market in _MARKETS.items()
}
"""Of the channels of one kind, the first."""
TRADING = frozenset({"TRADING"})
ENDED = frozenset({"SETTLING", "CLOSE", "DELIVERED"})
"""Of futures. A delisted spot symbol says BREAK, as one does that rests for an hour."""


def _market(market_type: str) -> ModuleType:
    try:
        return _MARKETS[market_type]
    except KeyError:
        raise Malformed(f"market_type of {NAME} (one of {', '.join(_MARKETS)})", market_type) from None


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    """One stream a kind and symbol (upper case, as all of the venue's are), of a market-wide channel one for all.

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


def reference(market_type: str, session_id: str, symbols: Sequence[str], endpoint: Endpoint) -> Session:
    """The poller that turns exchangeInfo into contract rows of `symbols` (all, where empty)."""
    market = _market(market_type)
    url = endpoint.rest.rstrip("/") + market.EXCHANGE_INFO
    return ReferenceSession(
        market_type, session_id, tuple(s.upper() for s in symbols), url, market.EXCHANGE_INFO_WEIGHT
    )
