"""The twin of Binance: spot, USD-M and COIN-M, as the documentation of 2026 tells their streams and REST routes."""

from __future__ import annotations

from aiohttp import web

from simulator import archives
from simulator.hub import Hub
from simulator.instruments import BINANCE
from simulator.signs import PLAIN
from simulator.venues import Settings
from simulator.venues.binance import archive, rest, stream
from simulator.venues.binance.wire import Wire

MARKETS = ("spot", "linear", "inverse")
CUSTOM = BINANCE
SIGNS = PLAIN
WIRE = Wire()

__all__ = ["CUSTOM", "MARKETS", "SIGNS", "WIRE", "bases", "routes"]


def bases(market: str, host: str) -> tuple[str, str]:
    """REST and WebSocket bases: the documented paths follow them (`/api/v3/…`, `/ws`, `/public/stream`, …)."""
    return f"http://{host}/{market}", f"ws://{host}/{market}"


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Everything a client of the venue may ask for."""
    published = archives.routes(hub, archive.files, lists=archive.LISTS, sums=archive.SUMS)
    return [*stream.routes(hub, settings), *rest.routes(hub, settings), *published]
