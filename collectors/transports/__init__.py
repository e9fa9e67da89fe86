"""Transports: a WebSocket connection reduced to the verbs a driver needs; the directory is the registry.

A module `collectors/transports/<name>.py` (or `<name>_.py`, where the name is a library's) offers `connect`. All obey
`tests/conformance/test_transports.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast


class TransportError(Exception):
    """Root of a transport's errors; every one of them means: connect again.

    TransportError
     +-- ConnectFailed(reason)      no connection came about
     +-- Closed(code, reason)       the connection is over, whoever ended it
    """


class ConnectFailed(TransportError):
    """The handshake did not succeed: no address, refused, timed out, or answered with something else."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Closed(TransportError):
    """The connection ended. `code` is the WebSocket close code, 1006 where there was no closing handshake."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class Transport(Protocol):
    """One open connection. It answers pings by itself and reads no further ahead than it must."""

    async def receive(self) -> list[bytes]:
        """Wait for a frame, then return those that have been read, in order (1 to BATCH_FRAMES; text as UTF-8).

        Frames read before the end come first, then Closed is raised. Cancelling loses nothing.
        """
        ...

    async def send(self, text: str) -> None:
        """Send one text frame. Raises Closed."""
        ...

    async def close(self) -> None:
        """End the connection; waits a moment for the peer's closing handshake. Never raises, may be repeated."""
        ...


class Connect(Protocol):
    """What a member offers as `connect`: open a connection, or raise ConnectFailed within `timeout` seconds.

    A frame that inflates beyond `max_frame` bytes ends the connection with code 1009.
    """

    async def __call__(self, url: str, *, max_frame: int, timeout: float) -> Transport: ...  # noqa: ASYNC109 -- the handshake's own limit, part of the contract


BATCH_FRAMES = 256
"""Most frames of one `receive`: what is done before the loop gets another turn."""


def names() -> list[str]:
    """Names of the transports there are."""
    return sorted(module.name.rstrip("_") for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Connect:
    """The `connect` of a transport. Raises ValueError, which lists the known names."""
    for module in pkgutil.iter_modules(__path__):
        if module.name.rstrip("_") == name:
            return cast("Connect", importlib.import_module(f"{__name__}.{module.name}").connect)
    raise ValueError(f"unknown transport {name!r}; known transports: {', '.join(names())}")
