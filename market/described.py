"""What an adapter says of its venue's messages: how they look, as of which date, and what of them is to end. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from market.shapes import Shape

SOON = 30
"""Days before its end from which on one is warned."""


class Sunset(msgspec.Struct, frozen=True):
    """Something that a venue has taken away, or has said that it will.

    It meets a configuration where one of `channels` is collected, where an address in use has `address` in it, or a
    symbol `symbol`: in any of `markets`, in all where none is named. One that names none of the three is only told.
    """

    what: str
    ends: str
    """ISO date from which on it is gone; empty where the venue has said no date."""
    instead: str
    source: str
    """Whose word it is, and of when."""
    markets: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    address: str = ""
    symbol: str = ""

    def meets(
        self, market_type: str, channels: Iterable[str], addresses: Iterable[str], symbols: Iterable[str]
    ) -> bool:
        """Whether something that is asked for in a market is meant."""
        if self.markets and market_type not in self.markets:
            return False
        return (
            not set(self.channels).isdisjoint(channels)
            or bool(self.address and any(self.address in one for one in addresses))
            or bool(self.symbol and any(self.symbol in one for one in symbols))
        )

    def days_left(self, today: dt.date) -> int | None:
        """Days until its end, none or less where it is past; None where no date was said."""
        return (dt.date.fromisoformat(self.ends) - today).days if self.ends else None

    def urgent(self, today: dt.date) -> bool:
        """Whether it is over, or will be within SOON days; one without a date may be at any time."""
        left = self.days_left(today)
        return left is None or left <= SOON

    def said(self, today: dt.date) -> str:
        """For people: what, since or until when, and what takes its place."""
        left = self.days_left(today)
        if left is None:
            when = "will go, the venue has said no date"
        elif left > 0:
            when = f"gone from {self.ends} on, in {left} day{'s' if left != 1 else ''}"
        else:
            when = f"gone since {self.ends}"
        return f"{self.what}: {when}; {self.instead}"


@runtime_checkable
class Described(Protocol):
    """An adapter that says how its venue's messages look. Frames with more than that are read all the same."""

    AS_OF: str
    """The newest date (ISO, or a month) of the documents and recordings that the adapter was written from."""
    ENDS: Sequence[Sunset]
    LIQUID: Mapping[str, str]
    """Market -> the symbol that is never silent for long: what a test of the venue asks for."""
    SHAPES: Mapping[str, Mapping[str, Shape]]
    """Market -> message -> its shape; a message is as `described` names it, or `GET <route>` for an answer."""

    def described(self, value: object) -> tuple[str, object] | None:
        """The message that a decoded frame is, and the part of it that its shape describes; None for none known."""
        ...
