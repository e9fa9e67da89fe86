"""The twin of Bybit V5: spot, linear and inverse, as the documentation of 2026 tells their streams and REST routes."""

from __future__ import annotations

from aiohttp import web

from simulator import archives
from simulator.hub import Hub
from simulator.instruments import Custom
from simulator.venues import Settings
from simulator.venues.bybit import archive, rest, stream
from simulator.venues.bybit.signs import SIGNS
from simulator.venues.bybit.wire import Wire

MARKETS = ("spot", "linear", "inverse")
CUSTOM = Custom(coin_margined="USD", contract_size=1, odd_prints=False, coarser={"linear": 1, "inverse": 2})
WIRE = Wire()

__all__ = ["CUSTOM", "MARKETS", "SIGNS", "WIRE", "bases", "routes"]


def bases(market: str, host: str) -> tuple[str, str]:
    """REST and WebSocket bases: the documented paths follow them (`/v5/market/…`, `/v5/public/…`)."""
    return f"http://{host}/{market}", f"ws://{host}/{market}"


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Everything a client of the venue may ask for."""
    published = archives.routes(hub, archive.files, lists=archive.LISTS, sums=archive.SUMS)
    return [*stream.routes(hub, settings), *rest.routes(hub, settings), *published]
