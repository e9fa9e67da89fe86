"""The twin of KuCoin's classic API: spot, linear and inverse, with tokens, as its specification of 2025 tells it."""

from __future__ import annotations

from aiohttp import web

from simulator import archives
from simulator.hub import Hub
from simulator.instruments import Custom
from simulator.venues import Settings
from simulator.venues.kucoin import archive, rest, stream
from simulator.venues.kucoin.names import read, spell
from simulator.venues.kucoin.signs import SIGNS
from simulator.venues.kucoin.wire import Wire

MARKETS = ("spot", "linear", "inverse")
CUSTOM = Custom(
    contract_size=1, odd_prints=False, spelt=spell, read=read, linear_contracts=True, coarser={"spot": 1, "linear": 1}
)
WIRE = Wire()

__all__ = ["CUSTOM", "MARKETS", "SIGNS", "WIRE", "bases", "routes"]


def bases(market: str, host: str) -> tuple[str, str]:
    """REST and WebSocket bases: the documented paths follow the first; the second is opened with a token."""
    return f"http://{host}/{market}", f"ws://{host}/{market}"


def routes(hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Everything a client of the venue may ask for."""
    tokens: set[str] = set()
    published = archives.routes(hub, archive.files, lists=archive.LISTS, sums=archive.SUMS)
    return [*stream.routes(hub, settings, tokens), *rest.routes(hub, settings, tokens), *published]
