"""The twin of Coinbase, as the documentation and recordings of 2026 tell Advanced Trade's channels and routes.

Spot by both feeds, and US futures (`linear`).
"""

from __future__ import annotations

from aiohttp import web

from simulator.hub import Hub
from simulator.instruments import Custom
from simulator.venues import Settings
from simulator.venues.coinbase import rest, stream
from simulator.venues.coinbase.signs import SIGNS
from simulator.venues.coinbase.wire import Wire

MARKETS = ("spot", "linear")
CUSTOM = Custom(odd_prints=False, names=dict.fromkeys(MARKETS, "{base}-{quote}"))
WIRE = Wire()

__all__ = ["CUSTOM", "MARKETS", "SIGNS", "WIRE", "bases", "routes"]


def bases(market: str, host: str) -> tuple[str, str]:
    """REST and WebSocket bases: the documented paths follow the first, the second is the address."""
    return f"http://{host}/{market}", f"ws://{host}/{market}/ws"


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Everything a client of the venue may ask for."""
    return [*stream.routes(hub, settings), *rest.routes(hub, settings)]
