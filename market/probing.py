"""Asking a venue whether a silent stream has missed something: what an adapter that can do so offers besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from market.session import Connection, Fetch, Stream


class Newest(msgspec.Struct, frozen=True):
    """The newest event that the venue knows of, by another way than the stream: its time (us, 0 where there is none
    at all), its id where the stream's ids are of the same numbering, and `said`, what a gap's row may quote.

    A route that tells of no event, but what is (the best prices), gives that as `state`: two answers are compared.
    """

    ts: int
    seq: int | None
    said: str
    state: str = ""


@runtime_checkable
class Probing(Protocol):
    """An adapter that knows how to ask, by REST, what the newest event of a stream's symbol is."""

    def probe(self, connection: Connection, stream: Stream) -> Fetch | None:
        """What to ask about `stream`; None where the venue has no route that tells."""
        ...

    def probed(self, connection: Connection, stream: Stream, status: int, body: bytes) -> Newest | str:
        """What the answer says, or why it says nothing."""
        ...


@runtime_checkable
class Renewing(Protocol):
    """A session that can end the subscriptions of some of its streams and begin them again, on the same connection."""

    def renew(self, streams: Sequence[Stream]) -> None:
        """Ask for these anew, with the next `tick`."""
        ...
