"""Ways: by what the events of two connections are told to be the same, of every kind of every market. Pure.

From a way follow the merger of a kind, what a lost connection leaves where another one lives, and how a handover is
proven. `docs/redundancy.md` is made from here.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from collectors.chain_checked import CheckedMerger
from collectors.contracts import KIND as CONTRACT
from collectors.keyed import IDENTITIES, NAMED, KeyedMerger
from collectors.led import LedMerger
from collectors.merger import CHAINED, merger
from collectors.pushed import pushed
from market.session import Exchange, Merger


class Way(msgspec.Struct, frozen=True):
    """`by` is what tells copies, `lost` what goes on when one of two connections is lost, `proof` what shows that a
    successor has what its predecessor sends.
    """

    name: str
    by: str
    lost: str
    proof: str


_WAYS = (
    Way(
        "numbered", "ids that follow each other by one",
        "the other connection has the same ids; one that neither has is a gap with its ids",
        "an id of the new connection that the old one had too, or the next one",
    ),
    Way(
        "chained", "ids (or times) of updates, each of which says where the one before it ended",
        "the other connection's updates go on from the newest stored one; ids that no update covers are a gap, that"
        " of the next whole too, with which the book goes on",
        "an update of the new connection that reaches back to one that is stored",
    ),
    Way(
        "summed", "the venue's time and checksum of each message",
        "the other connection goes on where its message names the newest row as the one before it; else the time up to"
        " the next whole is a gap",
        "a message of the new connection that is stored already, or whose checksum holds behind the newest row",
    ),
    Way(
        "rising", "ids that rise, with leaps",
        "the other connection has the same ids; where no connection lives the time is a gap",
        "an id of the new connection that the old one had too, or one from before the old one's newest",
    ),
    Way(
        "named", "the venue's name of each event",
        "the other connection has the same names; where no connection lives the time is a gap, less what is told of it"
        " on subscribing",
        "an event of the new connection from before the old one's newest",
    ),
    Way(
        "alike", "what is said of which moment: the time of a mark, the interval of a candle, all of a forced order",
        "the other connection says the same; where no connection lives the time is a gap",
        "an event of the new connection from before the old one's newest; of streams that are silent for long, that the"
        " venue has taken the new one on",
    ),
    Way(
        "led", "nothing: rows are those of one connection, the other one's wait",
        "the rows go on with the first of the other connection's that lies beyond the newest row; where that one came"
        " in later than that row, the time between is a gap",
        "an event of the new connection from before the old one's newest",
    ),
    Way(
        "asked", "asked over REST, by one session however many connections there are",
        "no connection carries it", "nothing is handed over",
    ),
)  # fmt: skip
WAYS = {way.name: way for way in _WAYS}


def way_of(exchange: Exchange, market_type: str, kind: str) -> Way:
    """The way of a kind in a market. `LED` of an adapter names, by market, kinds of which nothing that an event says
    is the same on two connections.
    """
    offered = kind in exchange.OFFERS.get(market_type, {})
    streams = exchange.streams(market_type, [kind], ["X"]) if offered else []
    contiguous = any(stream.contiguous for stream in streams)
    if offered and not streams:
        name = "asked"
    elif kind == CHAINED:
        name = "chained" if contiguous or not offered else "summed"
    elif kind in getattr(exchange, "LED", {}).get(market_type, ()):
        name = "led"
    elif kind == CONTRACT or kind in IDENTITIES:
        name = "alike"
    elif kind in NAMED and not contiguous:
        name = "named"
    else:
        name = "numbered" if contiguous else "rising"
    return WAYS[name]


def merger_maker(exchange: Exchange, market_type: str) -> Callable[[str], Merger]:
    """What makes the memory of a kind in this market. `PUSHES` of an adapter names kinds of whose past the venue tells
    when it is subscribed to, `BY_NEXT`, by market, those of which an event is told by the next one only.
    """

    def make(kind: str) -> Merger:
        way = way_of(exchange, market_type, kind).name
        if way == "summed":
            return CheckedMerger(exchange.NAME, market_type, kind)
        if way == "led":
            return LedMerger(exchange.NAME, market_type, kind)
        contiguous = way in ("numbered", "chained")
        if kind in getattr(exchange, "PUSHES", ()):
            return pushed(exchange.NAME, market_type, kind, contiguous=contiguous)
        if kind in getattr(exchange, "BY_NEXT", {}).get(market_type, ()):
            return KeyedMerger(exchange.NAME, market_type, kind, by_next=True)
        return merger(exchange.NAME, market_type, kind, contiguous=contiguous)

    return make
