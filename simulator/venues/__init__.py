"""The twins of the venues: a directory is a registry, its members are found by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol, cast

from aiohttp import web

from simulator.hub import Hub, Venue
from simulator.instruments import Custom
from simulator.signs import Signs


class Twin(Protocol):
    """What a member module offers."""

    MARKETS: Sequence[str]
    CUSTOM: Custom
    WIRE: Venue
    SIGNS: Signs
    """By what its events and the rows of a lake are known to be the same; kinds that are not there are not compared."""

    def routes(self, hub: Hub, settings: Settings) -> list[web.RouteDef]:
        """All of the venue's REST and WebSocket routes, under `/<market>` as the addresses of `bases` say."""

    def bases(self, market: str, host: str) -> tuple[str, str]:
        """REST and WebSocket base addresses of a market, `host` being `127.0.0.1:1234`."""


class Settings(Protocol):
    """What a twin is told on the command line."""

    @property
    def markets(self) -> Sequence[str]:
        """The markets that are open."""

    @property
    def max_life(self) -> float:
        """Seconds after which a connection is cut."""

    @property
    def ping(self) -> float | None:
        """Seconds between pings; None for the venue's own rule."""


def names() -> list[str]:
    """The known venues."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Twin:
    """The twin of that name. Raises ValueError naming the known ones."""
    if name not in names():
        raise ValueError(f"unknown venue {name!r}; known: {', '.join(names())}")
    return cast("Twin", importlib.import_module(f"{__name__}.{name}"))
