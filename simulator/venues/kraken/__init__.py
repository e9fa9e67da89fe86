"""The twin of Kraken: spot (WebSocket v2), linear and inverse futures, as the documentation of 2026 tells them."""

from __future__ import annotations

from aiohttp import web

from simulator.hub import Hub
from simulator.instruments import Custom
from simulator.venues import Settings
from simulator.venues.kraken import rest, stream
from simulator.venues.kraken.signs import SIGNS
from simulator.venues.kraken.wire import Wire, read, spelt

MARKETS = ("spot", "linear", "inverse")
CUSTOM = Custom(
    coin_margined="USD",
    contract_size=1,
    odd_prints=False,
    spelt=spelt,
    read=read,
    coarser={"spot": 1, "linear": 2, "inverse": 2},
)
WIRE = Wire()

__all__ = ["CUSTOM", "MARKETS", "SIGNS", "WIRE", "bases", "routes"]


def bases(market: str, host: str) -> tuple[str, str]:
    """REST and WebSocket bases: the documented paths follow them (`/0/public/…`, `/v2`, `/derivatives/…`, `/ws/v1`)."""
    return f"http://{host}/{market}", f"ws://{host}/{market}"


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Everything a client of the venue may ask for."""
    return [*stream.routes(hub, settings), *rest.routes(hub, settings)]
