"""What every route works with: the lake, the threads that read it, the tokens, the clock, and the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.config import ServeConfig
from api.reading import Reading
from api.tokens import Tokens
from lake.reader import Lake
from runtime.clock import Clock


class Served:
    """One lake that is served."""

    def __init__(self, root: Path, config: ServeConfig, clock: Clock) -> None:
        """Raises NotALake, UnknownVersion, CorruptFile."""
        self.root = root
        self.config = config
        self.clock = clock
        self.lake = Lake(root)
        self.tokens = Tokens(root)
        self.reading = Reading(clock, config.reads_at_once, config.answer_seconds)

    def close(self) -> None:
        self.reading.close()
        self.lake.close()


def _served(connection: HTTPConnection) -> Served:
    held: Served = connection.app.state.served
    return held


State = Annotated[Served, Depends(_served)]
