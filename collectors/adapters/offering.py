"""What a venue offers of its markets: the kinds, the channel or poll of each, and which connections carry them. Pure.

A venue's module makes one `Offering` of its tables; its `streams` and `connections` are the module's own, unless the
venue does more (`market.session.Exchange`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from collectors.subscriptions import groups
from market.errors import Malformed
from market.session import SERVER_TIME, Connection, Endpoint, Evidence, Limits, Poll, Stream


class Collected(Protocol):
    """A channel that is collected."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def stream(self, symbol: str, /) -> Stream:
        """The stream of one symbol."""


C = TypeVar("C", bound=Collected)


class Offering(Generic[C]):
    """The tables of one venue, by market. `address` names its WebSocket base; channels `beside` others are never asked
    for by themselves; symbols are `upper` case unless said.
    """

    def __init__(
        self,
        venue: str,
        address: str,
        channels: Mapping[str, Mapping[str, C]],
        polls: Mapping[str, Mapping[str, Poll]],
        limits: Mapping[str, Limits],
        evidence: Mapping[str, Mapping[str, Evidence]],
        *,
        beside: frozenset[str] = frozenset(),
        upper: bool = True,
    ) -> None:
        self._venue = venue
        self._address = address
        self._limits = limits
        self._evidence = evidence
        self._upper = upper
        self._channels: dict[str, dict[str, C]] = {
            market: {name: channel for name, channel in held.items() if name not in beside}
            for market, held in channels.items()
        }
        self._streamed = {
            market: {channel.kind: channel.name for channel in reversed(list(held.values()))}
            for market, held in self._channels.items()
        }
        """Of the channels of one kind, the first."""
        self.offers: Mapping[str, Mapping[str, str]] = {
            market: {kind: poll.route for kind, poll in polls[market].items() if kind != SERVER_TIME} | streamed
            for market, streamed in self._streamed.items()
        }
        """Market -> kind -> the channel or route that it comes by."""

    def known(self, market_type: str) -> str:
        """Raises Malformed for a market that the venue has not."""
        if market_type not in self._channels:
            raise Malformed(f"market_type of {self._venue} (one of {', '.join(self._channels)})", market_type)
        return market_type

    def chosen(self, market_type: str, kinds: Sequence[str], channels: Mapping[str, str] | None) -> Iterator[C]:
        """The channel of each kind that is streamed, as `channels` names it or else the first."""
        known, offered = self._channels[self.known(market_type)], self.offers[market_type]
        whose = f"of {self._venue} {market_type}"
        for kind in kinds:
            if kind not in offered:
                evidence = self._evidence[market_type].get(kind)
                why = f"; {evidence.note}" if evidence is not None and evidence.basis == "absent" else ""
                raise Malformed(f"kind {whose} (one of {', '.join(sorted(offered))}{why})", kind)
            if kind not in self._streamed[market_type] and kind not in (channels or {}):
                continue
            name = (channels or {}).get(kind, offered[kind])
            channel = known.get(name)
            if channel is None or channel.kind != kind:
                names = ", ".join(one.name for one in known.values() if one.kind == kind)
                raise Malformed(f"channel {whose} for {kind} (one of {names or 'none'})", name)
            yield channel

    def symbols(self, asked: Sequence[str]) -> tuple[str, ...]:
        """As the venue writes them, each once."""
        return tuple(dict.fromkeys(symbol.upper() if self._upper else symbol for symbol in asked))

    def streams(
        self, market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
    ) -> list[Stream]:
        """One stream a kind and symbol; none of a kind that is only polled.

        Raises Malformed for a kind not offered and for a channel that is none of its kind's.
        """
        asked = self.symbols(symbols)
        return list(
            dict.fromkeys(
                channel.stream(symbol) for channel in self.chosen(market_type, kinds, channels) for symbol in asked
            )
        )

    def connections(self, market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
        """What carries `streams` within the venue's limits. Raises Malformed for an address that is not given."""
        limit = self._limits[self.known(market_type)].streams_per_connection
        return self.carried(market_type, streams, endpoint, self._address, self._address, limit)

    def carried(
        self, market: str, streams: Sequence[Stream], endpoint: Endpoint, address: str, label: str, limit: int
    ) -> list[Connection]:
        """Connections to one address with at most `limit` streams each; `label` tells them from the market's others."""
        if address not in endpoint.ws:
            needed = f"endpoint of {self._venue} {market} (needs the WebSocket base {address!r})"
            raise Malformed(needed, sorted(endpoint.ws))
        return [
            Connection(self._venue, market, f"{self._venue}-{market}-{label}-{number}", endpoint.ws[address], group)
            for number, group in enumerate(groups(streams, limit), 1)
        ]
