"""What of a venue's past is to be asked for: what is wanted, less what is held, cut into chunks. Pure.

Held is what a session of history covers, and what a stream covers outside open gaps. Asked for is never what is held
(but for the rest of a grain: a millisecond, a candle), nor what lies outside a listing, nor what is not over yet. The
same rows give the same chunks in whatever order they come; once the chunks are held there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from market.history import Absent, Offer
from market.session import Coverage, Gap
from market.times import MINUTE, Interval, covers, intersect, subtract, text, union

SETTLE = MINUTE
"""The newest that is asked for is this old: later prints of a moment have come by then."""
MARGIN = 15 * MINUTE
"""How much less than the venue's reach is asked for: what waits for its turn grows older."""
FOREVER = 2**62
CANDLE = "kline"
LOST = frozenset({"bitrot", "altered_segment", "unreadable_segment"})
"""Causes of gaps of what was stored already: what was brought in before they were found is no repair."""
REPAIRED = "rest"
"""What a gap that history closed was repaired from."""


class Wish(msgspec.Struct, frozen=True, order=True):
    """One symbol's rows of one kind on [start, end) of venue time (us)."""

    kind: str
    symbol: str
    start: int
    end: int


class Refusal(msgspec.Struct, frozen=True, order=True):
    """A part of a wish that the venue does not give, with the reason."""

    kind: str
    symbol: str
    start: int
    end: int
    why: str


class Held(msgspec.Struct, frozen=True):
    """What is known of one market: `past` are the sessions of history among those of `coverage`; `listed` is when each
    symbol was listed, where that is known; `minutes` are the (symbol, session) of streams and files that brought
    candles of a minute: what others cover are wider ones.
    """

    coverage: Sequence[Coverage] = ()
    gaps: Sequence[Gap] = ()
    past: frozenset[str] = frozenset()
    listed: Mapping[str, Sequence[Interval]] = {}
    minutes: frozenset[tuple[str, str]] = frozenset()

    def streams(self) -> dict[tuple[str, str], Stream]:
        """(kind, symbol) -> what is known of it."""
        found: dict[tuple[str, str], Stream] = {}
        for row in self.coverage:
            mine = found.setdefault((row.kind, row.symbol), Stream())
            if row.kind == CANDLE and row.session not in self.past and (row.symbol, row.session) not in self.minutes:
                continue
            (mine.asked if row.session in self.past else mine.streamed).append(Interval(row.ts_from, row.ts_to))
        for gap in self.gaps:
            found.setdefault((gap.kind, gap.symbol), Stream()).gaps.append(gap)
        return found


class Stream(msgspec.Struct):
    """One symbol's kind: what sessions of history brought (nothing is missing there that the venue has), what streams
    covered, and its gaps.
    """

    asked: list[Interval] = []
    streamed: list[Interval] = []
    gaps: list[Gap] = []

    def held(self, *, streamed: bool = True) -> list[Interval]:
        """What is held, with what streams brought or without."""
        holes = [hole(gap) for gap in self.gaps if gap.state == "open"]
        return union([*self.asked, *(subtract(self.streamed, holes) if streamed else ())])


class Plan(msgspec.Struct, frozen=True):
    """Chunks to ask for, oldest first; what is refused; and how much (us) of what was wanted is held already."""

    chunks: tuple[Wish, ...] = ()
    refused: tuple[Refusal, ...] = ()
    held: int = 0


def hole(gap: Gap) -> Interval:
    """The time of a gap. Ids may be missing at its very end too; one that still grows has none."""
    end = FOREVER if gap.ts_to is None else max(gap.ts_to, gap.ts_from) + 1
    return Interval(gap.ts_from, end)


def plan(wishes: Iterable[Wish], offers: Mapping[str, Offer | Absent], held: Held, now: int) -> Plan:
    """Chunks for what is wanted and not held. `now` us."""
    chunks: list[Wish] = []
    refused: set[Refusal] = set()
    already, known = 0, held.streams()
    for (kind, symbol), wanted in sorted(_by_stream(wishes).items()):
        offer = offers.get(kind, Absent("no route of the venue gives it"))
        if isinstance(offer, Absent):
            refused |= {Refusal(kind, symbol, one.start, one.end, offer.why) for one in wanted}
            continue
        floor = now - now % offer.grain - SETTLE
        reach = 0 if offer.reach is None else -(-(now - offer.reach + MARGIN) // offer.grain) * offer.grain
        listed = intersect(wanted, held.listed[symbol]) if symbol in held.listed else wanted
        missing = subtract(listed, known.get((kind, symbol), Stream()).held(streamed=offer.same))
        past = intersect(missing, [Interval(0, reach)])
        refused |= {Refusal(kind, symbol, one.start, one.end, _too_old(offer)) for one in past}
        already += sum(one.length for one in listed) - sum(one.length for one in missing)
        grains = union(grained(one, offer.grain) for one in intersect(missing, [Interval(reach, floor)]))
        for one in intersect(grains, [Interval(reach, floor - floor % offer.grain)]):
            chunks += [Wish(kind, symbol, part.start, part.end) for part in parts(one, offer.width)]
    chunks.sort(key=lambda one: (one.start, one.kind, one.symbol))
    return Plan(tuple(chunks), tuple(sorted(refused)), already)


def repaired(offers: Mapping[str, Offer | Absent], held: Held, now: int) -> list[Gap]:
    """Open gaps of ids over which history has been asked for whole, closed; not where the venue's own history lacks
    ids, nor where it is something else than what was missed. Of gaps without ids what came has to tell
    (`repair_plan.verdict`).
    """
    found = []
    for (kind, _), stream in sorted(held.streams().items()):
        offer, asked = offers.get(kind), union(stream.asked)
        if not isinstance(offer, Offer) or not offer.same or not asked:
            continue
        lacking = [hole(gap) for gap in stream.gaps if gap.state == "unrepairable"]
        for gap in stream.gaps:
            whole = gap.state == "open" and gap.ts_to is not None and covers(asked, hole(gap))
            if whole and gap.missing and gap.cause not in LOST and not any(one.overlaps(hole(gap)) for one in lacking):
                found.append(msgspec.structs.replace(gap, state="repaired", closed_at=now, source=REPAIRED))
    return found


def _by_stream(wishes: Iterable[Wish]) -> dict[tuple[str, str], list[Interval]]:
    found: dict[tuple[str, str], list[Interval]] = {}
    for wish in wishes:
        found.setdefault((wish.kind, wish.symbol), []).append(Interval(wish.start, wish.end))
    return {stream: union(wanted) for stream, wanted in found.items()}


def _too_old(offer: Offer) -> str:
    hours = (offer.reach or 0) // (60 * MINUTE)
    return f"the venue gives the last {hours} hours only"


def grained(one: Interval, grain: int) -> Interval:
    """The whole grains that hold a time."""
    return Interval(one.start - one.start % grain, -(-one.end // grain) * grain)


def parts(one: Interval, width: int | None) -> list[Interval]:
    """Cut at multiples of the width, so that the same hole is always cut at the same places."""
    if width is None:
        return [one]
    cuts = range(one.start - one.start % width, one.end, width)
    return [Interval(max(one.start, cut), min(one.end, cut + width)) for cut in cuts]


def said(wish: Wish | Refusal) -> str:
    """For a person."""
    return f"{wish.kind} {wish.symbol} {text(wish.start)} to {text(wish.end)}"
