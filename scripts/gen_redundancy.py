"""docs/redundancy.md: by what two connections' events are told to be the same, of every kind of every market."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from collectors import exchanges
from collectors.redundancy import WAYS, way_of
from market.times import HOUR

HEAD = """\
# Two connections of one stream

A stream is carried by two connections while one hands over to its successor, and always with `redundancy: 2` of a
source. What both say is stored once. By what copies are told follows from what the venue's events say of themselves
(`collectors/redundancy.py`); `dl exchanges` shows it too.
"""
HANDOVERS = """\
## Handovers

A connection is handed over before the venue's cut, at the venue's announcement of one, after `max_life_seconds` of its
source, for a stream that has stalled, and where the plan changes. The successor is opened and subscribed first; the old
one is closed when every stream of it is shown to overlap (the column *a handover is proven by*), at the latest after
30 s. Streams on which nothing comes meanwhile have nothing to show: that the venue has taken them on is enough for
those that may be silent for long. The old session's row says how many streams were `joined by ids` (or by what else
tells copies), taken on, quiet, or silent on the new one; a stream that only the old one still sent is a gap until the
new one sends it. A planned handover between connections that are less than two seconds apart leaves no gap row, with
one exception: where a venue tells a candle by the next one only (Kraken's and KuCoin's spot, ccxt), or late (Coinbase),
and the new connection has told none of a symbol yet, the old one may have held one whose trades were all before the
new one came. Unless the next candle follows on the last, the time between them is a gap with cause `handover`, which
asking the venue for its candles closes. Twins take turns: the second one's first life is half as long.

A connection that ends before it is handed over, or one of two twins, leaves no gap of streams without ids that follow
each other if the other connection's subscription was answered while the ending one was still heard: up to its close
frame, or to its last message where it was torn. The first event of the other one confirms that answer. Where none comes
(it ends too, is found silent, or says nothing for longer than the channel declares) the time is a gap since the last
event that is stored.
"""
UNKNOWN = """\
## What is not known yet

A connection that comes in ahead of another one proves nothing of the time between the newest row and its own first
event: the other one may be mute. That one shows it by what it sends next. Where ids follow each other or updates chain
the rows themselves tell what is missing, below the first that came too, and where one connection leads there are no
rows meanwhile. In all other ways (`rising`, `named`, `alike`, `summed`) rows are stored while it is not known, so that
a process that is killed would lose what was missed without a word. So what nobody has shown within two seconds is a gap
(`stalled`, of `summed` books `checksum`), and `repaired` with the source `late` once it is shown that nothing is
missing. Where the old connection of a planned handover is that far behind, the gap is closed with its end if it had
come two seconds beyond where the new one began, by the venue's time and word, and not beyond that one's first event;
else it stays open. A connection that leaves out what another one had is no matter of speed: its gap is recorded with
the next row. What a kill or a power cut finds younger than that, the next start tells from the last lines: from the
newest row before a connection's first one up to that, or to where that connection is recorded to have had the stream,
is a gap with cause `crash`, if there was another one to the end that may have had the symbol: what others left was told
when they ended. That may be more than was missed, and is never less. Of forced orders, which may be silent for hours,
the next start compares when an interrupted connection was heard last (by its frames) with when the first of the others
was taken on: what came between is such a gap.
"""


def page(made: str, table: Callable[[Iterable[str], Iterable[Iterable[str]]], str]) -> str:
    """The page; `made` is its first line, `table` makes one of Markdown."""
    return "\n".join([made, HEAD, *_ways(table), *_markets(table), HANDOVERS, *_cuts(table), UNKNOWN.rstrip(), ""])


def _ways(table: Callable[[Iterable[str], Iterable[Iterable[str]]], str]) -> Iterator[str]:
    yield "## Ways\n"
    rows = [(f"`{way.name}`", way.by, way.lost, way.proof) for way in WAYS.values()]
    yield table(("way", "copies are told by", "when a connection is lost", "a handover is proven by"), rows)


def _markets(table: Callable[[Iterable[str], Iterable[Iterable[str]]], str]) -> Iterator[str]:
    yield "## Kinds of every market\n"
    held = {
        (venue, market): {kind: way_of(exchanges.load(venue), market, kind).name for kind in offered}
        for venue in exchanges.names()
        for market, offered in exchanges.load(venue).OFFERS.items()
    }
    kinds = list(dict.fromkeys(kind for ways in held.values() for kind in ways))
    rows = [(f"{venue} {market}", *(ways.get(kind, "") for kind in kinds)) for (venue, market), ways in held.items()]
    yield table(("market", *(f"`{kind}`" for kind in kinds)), rows)


def _cuts(table: Callable[[Iterable[str], Iterable[Iterable[str]]], str]) -> Iterator[str]:
    rows = []
    for venue in exchanges.names():
        for market, limits in exchanges.load(venue).LIMITS.items():
            life = (
                f"after {limits.max_life / HOUR:g} h"
                if limits.max_life
                else "no cut is known: never, unless configured"
            )
            rows.append((f"{venue} {market}", life))
    yield table(("market", "handed over"), rows)
