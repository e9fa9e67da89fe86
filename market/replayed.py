"""What an adapter says of replaying frames: names, what a subscription asks for, what a frame is of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from market.errors import Malformed

MOST_LETTERS = 128
"""Of a channel's or a symbol's name."""


class Filter(NamedTuple):
    """A channel, and the symbols (in capitals) that are wanted of it; none for all.

    A channel is also named without what follows a point or an @: `depth` is `depth@100ms` too.
    """

    channel: str
    symbols: tuple[str, ...] = ()

    def takes(self, channel: str, symbol: str) -> bool:
        """Whether a frame of that channel and symbol is wanted; one of no symbol is of all of them."""
        size = len(self.channel)
        if not channel.startswith(self.channel) or channel[size : size + 1] not in ("", ".", "@"):
            return False
        return not self.symbols or not symbol or symbol.upper() in self.symbols


class Answer(NamedTuple):
    """What a recorder asked for over REST: the tag that a session's request has, its URL, and the body."""

    tag: str
    url: str
    body: bytes


class Recorded(Protocol):
    """The messages of one connection of tardis.dev's recorder, which also made messages of what it asked for."""

    def read(self, message: bytes) -> Sequence[bytes | Answer]:
        """What a message was: a frame, an answer, both, or nothing yet."""
        ...

    def rest(self) -> Sequence[bytes]:
        """Messages that still wait for another, as they came."""
        ...


def wanted(channel: str, symbols: Iterable[object]) -> Filter:
    """A filter by symbols in any spelling. Raises Malformed for what is no text."""
    held = tuple(symbols)
    for one in (channel, *held):
        if not isinstance(one, str) or not 0 < len(one) <= MOST_LETTERS:
            raise Malformed("channel or symbol", one)
    return Filter(channel, tuple(str(one).upper() for one in held))


def part(value: object, *path: str) -> object:
    """What lies inside of objects and, for the first of them, arrays; None where there is nothing."""
    for name in path:
        value = value[0] if isinstance(value, list) and value else value
        value = value.get(name) if isinstance(value, dict) else None
    return value


def texts(value: object) -> list[str]:
    """The texts of an array, or the one text; nothing of anything else."""
    held = value if isinstance(value, list) else [value]
    return [one for one in held if isinstance(one, str)]


@runtime_checkable
class Replayed(Protocol):
    """An adapter whose frames are replayed by channel and symbol, and known to other programs by other names."""

    def named(self, market_type: str, symbol: str) -> str:
        """What tardis.dev calls the exchange of that symbol."""
        ...

    def subscribed(self, request: object) -> Sequence[Filter]:
        """What a decoded message of a client asks for; nothing where it is no subscription. Raises Malformed."""
        ...

    def addressed(self, frame: bytes) -> tuple[str, str] | None:
        """(channel, symbol) of a frame; the symbol is "" where it is of several. None for what is no data."""
        ...
