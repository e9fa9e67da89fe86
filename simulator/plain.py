"""A venue of the plainest habits: one path a market, messages that name their stream, no word of what is to come."""

from __future__ import annotations

from simulator.connection import Connection


class Plain:
    """What most twins answer to the hub's questions; each says the rest itself (`simulator.hub.Venue`)."""

    def notices(self, market: str) -> str | None:
        """Listings are told by REST only."""
        del market
        return None

    def wrapped(self, stream: str, payload: str) -> str:
        """Every message names its stream."""
        del stream
        return payload

    def serves(self, market: str, route: str, stream: str) -> bool:
        """A market has one path."""
        del market, route, stream
        return True

    def announces(self, market: str) -> bool:
        """No."""
        del market
        return False

    def farewell(self, connection: Connection, now: int) -> str | None:
        """No words."""
        del connection, now
        return None
