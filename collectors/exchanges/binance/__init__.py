"""Binance: spot and USD-M futures (linear); trades, aggregate trades, best quotes and instruments.

The module is a `market.session.Exchange`. WebSocket bases of an Endpoint are complete addresses by name: spot has
`stream`, linear has `public` and `market`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

from collectors.exchanges.binance import linear, spot
from collectors.exchanges.binance.protocol import StreamSession
from collectors.exchanges.binance.rest import ReferenceSession
from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import Connection, Endpoint, Limits, Session, Stream

NAME = "binance"
_MARKETS: dict[str, ModuleType] = {"spot": spot, "linear": linear}
ENDPOINTS: Mapping[str, Endpoint] = {"spot": spot.ENDPOINT, "linear": linear.ENDPOINT}
LIMITS: Mapping[str, Limits] = {"spot": spot.LIMITS, "linear": linear.LIMITS}
OFFERS: Mapping[str, Mapping[str, str]] = {
    name: {channel.kind: channel.name for channel in market.CHANNELS.values()} for name, market in _MARKETS.items()
}


def _market(market_type: str) -> ModuleType:
    try:
        return _MARKETS[market_type]
    except KeyError:
        raise Malformed(f"market_type of {NAME} (one of {', '.join(_MARKETS)})", market_type) from None


def streams(market_type: str, kinds: Sequence[str], symbols: Sequence[str]) -> list[Stream]:
    """One stream a kind and symbol (upper case, as all of the venue's are). Raises Malformed for a kind not offered."""
    market = _market(market_type)
    offered = {channel.kind: channel for channel in market.CHANNELS.values()}
    found = []
    for kind in kinds:
        channel = offered.get(kind)
        if channel is None:
            raise Malformed(f"kind of {NAME} {market_type} (one of {', '.join(offered)})", kind)
        for symbol in dict.fromkeys(symbol.upper() for symbol in symbols):
            name = f"{symbol.lower()}@{channel.name}"
            found.append(Stream(name, channel.name, symbol, kind, channel.contiguous, channel.max_silence))
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
    for path, wanted in paths.items():
        if path not in endpoint.ws:
            raise Malformed(
                f"endpoint of {NAME} {market_type} (needs the WebSocket base {path!r})", sorted(endpoint.ws)
            )
        for number, group in enumerate(groups(wanted, market.LIMITS.streams_per_connection), 1):
            name = f"{NAME}-{market_type}-{path}-{number}"
            found.append(Connection(NAME, market_type, name, endpoint.ws[path], group))
    return found


def session(connection: Connection, session_id: str, learn: bool = False) -> Session:
    """The protocol state of one WebSocket connection; `learn` takes the streams it meets and sends nothing."""
    market = _market(connection.market_type)
    return StreamSession(connection, session_id, market.CHANNELS, market.LIMITS, learn=learn)


def reference(market_type: str, session_id: str, symbols: Sequence[str], endpoint: Endpoint) -> Session:
    """The poller that turns exchangeInfo into contract rows of `symbols` (all, where empty)."""
    market = _market(market_type)
    url = endpoint.rest.rstrip("/") + market.EXCHANGE_INFO
    return ReferenceSession(
        market_type, session_id, tuple(s.upper() for s in symbols), url, market.EXCHANGE_INFO_WEIGHT
    )
