"""What every route works with: the lake, the threads that read it, the tokens, the clock, and the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.config import ServeConfig
from api.control import Control
from api.errors import Refused
from api.reading import Reading
from api.tokens import Tokens
from lake.reader import Lake
from lake.sandbox import Sandbox
from market.session import Endpoint, Exchange
from runtime.clock import Clock

Endpoints: TypeAlias = Callable[[Exchange, str], Endpoint]
MOST_LISTENERS = 16
"""Tails at the same time."""


def own_endpoint(venue: Exchange, market_type: str) -> Endpoint:
    """Where the venue itself is."""
    return venue.ENDPOINTS[market_type]


class Served:
    """One lake that is served."""

    def __init__(self, root: Path, config: ServeConfig, clock: Clock, endpoint: Endpoints = own_endpoint) -> None:
        """`endpoint` says where a venue's market is reached. Raises NotALake, UnknownVersion, CorruptFile."""
        self.root = root
        self.config = config
        self.clock = clock
        self.endpoint = endpoint
        self.lake = Lake(root)
        self.tokens = Tokens(root)
        self.control = Control(root)
        self.ending = False
        """Whether it was told to stop: what is told without an end ends."""
        self._listeners = 0
        self.sandbox = Sandbox(root) if config.sql else None
        self.reading = Reading(clock, config.reads_at_once, config.answer_seconds)

    def listening(self) -> Callable[[], None]:
        """One more listener to what happens now; what ends it. Raises Refused where there are too many."""
        if self._listeners >= MOST_LISTENERS:
            raise Refused(429, f"{MOST_LISTENERS} listen already: try again later", "Busy", {"Retry-After": "5"})
        self._listeners += 1

        def ended() -> None:
            self._listeners -= 1

        return ended

    def close(self) -> None:
        self.reading.close()
        if self.sandbox is not None:
            self.sandbox.close()
        self.lake.close()


def _served(connection: HTTPConnection) -> Served:
    held: Served = connection.app.state.served
    return held


State = Annotated[Served, Depends(_served)]
