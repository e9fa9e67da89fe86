"""The twin of OKX V5: spot, linear and inverse, as the documentation of 2026 tells their channels and REST routes."""

from __future__ import annotations

from aiohttp import web

from simulator import archives
from simulator.hub import Hub
from simulator.instruments import Custom
from simulator.venues import Settings
from simulator.venues.okx import archive, rest, stream
from simulator.venues.okx.signs import SIGNS
from simulator.venues.okx.wire import Wire

MARKETS = ("spot", "linear", "inverse")
CUSTOM = Custom(
    contract_size=100,
    odd_prints=False,
    coarser={"spot": 1, "linear": 1, "inverse": 1},
    names={"spot": "{base}-{quote}", "linear": "{base}-{quote}-SWAP", "inverse": "{base}-{quote}-SWAP"},
)
WIRE = Wire()

__all__ = ["CUSTOM", "MARKETS", "SIGNS", "WIRE", "bases", "routes"]


def bases(market: str, host: str) -> tuple[str, str]:
    """REST and WebSocket bases: the documented paths follow them (`/api/v5/…`, `/ws/v5/…`)."""
    return f"http://{host}/{market}", f"ws://{host}/{market}"


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Everything a client of the venue may ask for."""
    published = archives.routes(hub, archive.files, lists=archive.LISTS, sums=archive.SUMS)
    return [*stream.routes(hub, settings), *rest.routes(hub, settings), *published]
