"""Venues that want to be asked before a connection is opened: what an adapter of such a one offers besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec

from market.session import Connection, Fetch


class Admission(msgspec.Struct, frozen=True):
    """Where a connection is to be opened, this once, and how often (us) the venue wants a ping on it."""

    url: str
    ping_every: int


@runtime_checkable
class Admitting(Protocol):
    """An adapter whose venue wants to be asked over HTTP before every connection. The address that it says may hold a
    token, so it is used and not written down: sessions keep the connection's own `url`.
    """

    def admission(self, connection: Connection) -> Fetch | None:
        """What to ask before `connection` is opened; None where nothing is."""
        ...

    def admitted(self, connection: Connection, status: int, headers: Mapping[str, str], body: bytes) -> Admission | str:
        """What the answer says: where to connect, or why nowhere."""
        ...
