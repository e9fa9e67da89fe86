"""What is known, asked and found about streams that are too quiet; `collectors.suspects` decides. Pure."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from market.probing import Newest
from market.session import Fetch, Stream, StreamState
from market.times import MS, SECOND

Verdict = Literal["quiet", "missed", "unknown"]
IMPLIED = frozenset({"quote", "book_delta"})
"""Kinds that a trade of their symbol moves too."""
NEAR = 5 * SECOND
"""By how much another stream's event, or a time that our clock gave, must be newer to mean anything."""


class Seen(msgspec.Struct, frozen=True):
    """The newest that is stored of a stream, from whichever connection: venue time (us) and id, 0 and None before."""

    ts: int = 0
    seq: int | None = None


class Facts(Protocol):
    """What the connection knows beside its own streams' states."""

    def seen(self, stream: Stream) -> Seen:
        """The newest that is stored of a stream."""
        ...

    def probe(self, stream: Stream) -> Fetch | None:
        """The request that tells of a stream."""
        ...

    def twin(self, stream: Stream) -> int | None:
        """When (us) another connection last had something of the same stream; None where none carries it."""
        ...

    def trades(self, symbol: str) -> int | None:
        """How many trades of a symbol have come; None where none are collected."""
        ...


class Ask(msgspec.Struct, frozen=True):
    """Carry out `fetch` and tell `Suspects.answer` what came of it."""

    stream: Stream
    fetch: Fetch


class Finding(msgspec.Struct, frozen=True):
    """A verdict on a stream. `quiet` is how long (us) it had said nothing, `proof` what the verdict rests on; `remedy`
    says what is to be done: ask for the `stream` anew, `replace` the connection, `leave` it at once, or nothing.
    """

    stream: Stream
    verdict: Verdict
    proof: str
    quiet: int
    remedy: Literal["", "stream", "replace", "leave"] = ""
    first: bool = True
    """Whether it is news: the stream was not known to have missed anything."""
    since: int = 0
    """From when on (us) it should have had what it missed, where it never had anything."""


class Doubt:
    """One suspected stream."""

    __slots__ = ("asked_at", "due", "events", "found", "mark", "misses", "moves", "since", "state", "told", "waits")

    def __init__(self, state: StreamState, now: int) -> None:
        self.state = state
        self.events = state.events
        self.since = now
        """When it was suspected; 0 once it is reported, since nothing was to be learnt of it."""
        self.waits = True
        """Whether it is still to be asked about, at `due` at the earliest."""
        self.due = now
        self.asked_at = 0
        self.found: str | None = None
        """The proof that something newer exists, while that may be on its way."""
        self.mark: int | None = None
        """Trades of its symbol when they began to be watched."""
        self.moves = 0
        """Newer trades that answers told of, where one alone is no proof."""
        self.misses = 0
        self.told = 0
        """The newest time that the last miss was about."""


def newer(newest: Newest, seen: Seen, *, kind: str, since: int) -> bool:
    """Whether the venue knows of something that should have come: by ids where both have them, else by time. A stream
    that has sent nothing yet should have sent what happened `since` (us, 0 where it has) it was taken on.
    """
    if since:
        return newest.ts > since + NEAR
    if kind in IMPLIED:
        return newest.ts > seen.ts + NEAR
    if newest.seq is not None and seen.seq is not None:
        return newest.seq > seen.seq
    return newest.ts > seen.ts + MS
