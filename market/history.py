"""What a venue's REST routes give of its past, as data: a kind's `Offer`, or `Absent` with the reason.

An adapter that pages its history offers `HISTORY` (market_type -> kind -> one of these) and, of kinds that no source of
the venue tells of once they have happened, `FLEETING` (market_type -> kind -> why): only their gaps are given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import msgspec

from market.session import StreamState
from market.times import DAY, HOUR, MS


class Offer(msgspec.Struct, frozen=True):
    """A kind that can be asked for. Times us."""

    reach: int | None = None
    """How far back from now, None without limit."""
    width: int | None = None
    """What one session asks for at most; None for ids, which go on however long the period is."""
    grain: int = MS
    """Periods begin and end at multiples of it."""
    same: bool = True
    """Whether its rows are those that a stream brings, so that each fills the other's holes."""
    prompt: bool = False
    """Whether its pages say themselves what of a time is not final yet, and cover only what is
    (`collectors.adapters.pages.Pages.early`): it may be asked for as soon as a hole is over.
    """
    sized: bool = False
    """Whether its session has to be told what a contract is worth (`Polled.known`)."""


class Absent(msgspec.Struct, frozen=True):
    """A kind that cannot; `why` is a sentence for who asked."""

    why: str


def reach_said(offer: Offer | Absent | None) -> str | None:
    """How far back a kind can be asked for, in words; None where it cannot."""
    if not isinstance(offer, Offer):
        return None
    if offer.reach is None:
        return "all"
    return f"{offer.reach // DAY} days" if offer.reach % DAY == 0 else f"{offer.reach // HOUR} hours"


@runtime_checkable
class Past(Protocol):
    """A session that asks for what is past. Nothing of it is of a stream: no merger sees it, its end is no hole."""

    def covered(self) -> Iterable[StreamState]:
        """What everything is known of, from `since` to the session's `venue_time`."""
        ...
