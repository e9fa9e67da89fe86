"""What of a venue's past is to be asked for: what is wanted, less what is held, cut into chunks. Pure.

Held is what a session of history covers, and what a stream covers outside open gaps. Asked for is never what is held
(but for the rest of a grain: a millisecond, a candle), nor what somebody deleted (unless it is to come back), nor what
lies outside a listing, nor what is not over yet. The same rows give the same chunks in whatever order they come; once
the chunks are held there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from lake.lost import ROTTEN
from market.history import Absent, Offer
from market.session import EVERY_SYMBOL, Coverage, Gap
from market.times import MINUTE, Interval, covers, intersect, subtract, text, union

SETTLE = MINUTE
"""The newest that is asked for is this old: later prints of a moment have come by then."""
MARGIN = 15 * MINUTE
"""How much less than the venue's reach is asked for: what waits for its turn grows older."""
FOREVER = 2**62
CANDLE = "kline"
LOST = frozenset({ROTTEN, "altered_segment", "unreadable_segment"})
"""Causes of gaps of what was stored already: what was brought in before they were found is no repair."""
DELETED = "deleted"
"""Cause of the gaps of what somebody took out of the lake on purpose."""
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
    candles of a minute: what others cover are wider ones; `opened` is when the sessions of history were (us). `again`:
    what was deleted is to come back.
    """

    coverage: Sequence[Coverage] = ()
    gaps: Sequence[Gap] = ()
    past: frozenset[str] = frozenset()
    listed: Mapping[str, Sequence[Interval]] = {}
    minutes: frozenset[tuple[str, str]] = frozenset()
    opened: Mapping[str, int] = {}
    again: bool = False

    def streams(self) -> dict[tuple[str, str], Stream]:
        """(kind, symbol) -> what is known of it."""
        found: dict[tuple[str, str], Stream] = {}
        for row in self.coverage:
            mine = found.setdefault((row.kind, row.symbol), Stream())
            if row.kind == CANDLE and row.session not in self.past and (row.symbol, row.session) not in self.minutes:
                continue
            span = Interval(row.ts_from, row.ts_to)
            if row.session in self.past:
                mine.asked.append(span)
                mine.since.append((self.opened.get(row.session, 0), span))
            else:
                mine.streamed.append(span)
        for gap in self.gaps:
            found.setdefault((gap.kind, gap.symbol), Stream()).gaps.append(gap)
        return found

    def stream(self, known: Mapping[tuple[str, str], Stream], kind: str, symbol: str) -> Stream:
        """One of `streams`, with what was deleted of all symbols at once."""
        mine = known.get((kind, symbol), Stream())
        whole = [gap for gap in known.get((kind, EVERY_SYMBOL), Stream()).gaps if gap.cause == DELETED]
        return msgspec.structs.replace(mine, gaps=[*mine.gaps, *whole]) if whole else mine


class Stream(msgspec.Struct):
    """One symbol's kind: what sessions of history brought (nothing is missing there that the venue has), what streams
    covered, and its gaps.
    """

    asked: list[Interval] = []
    streamed: list[Interval] = []
    gaps: list[Gap] = []
    since: list[tuple[int, Interval]] = []
    """`asked`, each with when its session was opened (us)."""

    def held(self, *, streamed: bool = True) -> list[Interval]:
        """What is held, with what streams brought or without."""
        holes = [hole(gap) for gap in self.gaps if gap.state == "open"]
        return union([*self.asked, *(subtract(self.streamed, holes) if streamed else ())])

    def deleted(self) -> list[Interval]:
        """What was deleted and was not asked for since."""
        gone = [gap for gap in self.gaps if gap.cause == DELETED and gap.state == "unrepairable"]
        return union(one for gap in gone for one in subtract([_exact(gap)], self.anew(gap)))

    def anew(self, gap: Gap) -> list[Interval]:
        """What sessions of history brought that were opened when the gap was there already."""
        return union(one for opened, one in self.since if opened >= gap.detected_at)


class Plan(msgspec.Struct, frozen=True):
    """Chunks to ask for, oldest first; what is refused; and how much (us) of what was wanted is held already, or was
    deleted and is left alone.
    """

    chunks: tuple[Wish, ...] = ()
    refused: tuple[Refusal, ...] = ()
    held: int = 0
    deleted: int = 0


def hole(gap: Gap) -> Interval:
    """The time of a gap. Ids may be missing at its very end too, but where a file was lost, whose last row is inside;
    one that still grows has none.
    """
    end = FOREVER if gap.ts_to is None else max(gap.ts_to, gap.ts_from) + (gap.cause != ROTTEN)
    return Interval(gap.ts_from, end)


def plan(wishes: Iterable[Wish], offers: Mapping[str, Offer | Absent], held: Held, now: int) -> Plan:
    """Chunks for what is wanted and not held. `now` us."""
    chunks: list[Wish] = []
    refused: set[Refusal] = set()
    already, gone, known = 0, 0, held.streams()
    for (kind, symbol), wanted in sorted(_by_stream(wishes).items()):
        offer = offers.get(kind, Absent("no route of the venue gives it"))
        if isinstance(offer, Absent):
            refused |= {Refusal(kind, symbol, one.start, one.end, offer.why) for one in wanted}
            continue
        floor = now - now % offer.grain - SETTLE
        reach = 0 if offer.reach is None else -(-(now - offer.reach + MARGIN) // offer.grain) * offer.grain
        listed = intersect(wanted, held.listed[symbol]) if symbol in held.listed else wanted
        stream = held.stream(known, kind, symbol)
        have, deleted = stream.held(streamed=offer.same), stream.deleted()
        have = subtract(have, deleted)
        missing = subtract(listed, have if held.again else [*have, *deleted])
        past = intersect(missing, [Interval(0, reach)])
        refused |= {Refusal(kind, symbol, one.start, one.end, _too_old(offer)) for one in past}
        already += sum(one.length for one in listed) - sum(one.length for one in subtract(listed, have))
        gone += 0 if held.again else sum(one.length for one in intersect(listed, deleted))
        grains = union(grained(one, offer.grain) for one in intersect(missing, [Interval(reach, floor)]))
        for one in intersect(grains, [Interval(reach, floor - floor % offer.grain)]):
            chunks += [Wish(kind, symbol, part.start, part.end) for part in parts(one, offer.width)]
    chunks.sort(key=lambda one: (one.start, one.kind, one.symbol))
    return Plan(tuple(chunks), tuple(sorted(refused)), already, gone)


def repaired(offers: Mapping[str, Offer | Absent], held: Held, now: int) -> list[Gap]:
    """Open gaps of ids over which history has been asked for whole, closed; not where the venue's own history lacks
    ids, nor where it is something else than what was missed. Of gaps without ids what came has to tell
    (`repair_plan.verdict`). What was deleted is here again where all of it was asked for since.
    """
    found = []
    known = held.streams()
    for (kind, _), stream in sorted(known.items()):
        offer, asked = offers.get(kind), union(stream.asked)
        if not isinstance(offer, Offer) or not offer.same:
            continue
        found += [_back(gap, now) for gap in stream.gaps if _is_back(gap, known)]
        if not asked:
            continue
        lacking = [hole(gap) for gap in stream.gaps if gap.state == "unrepairable"]
        for gap in stream.gaps:
            whole = gap.state == "open" and gap.ts_to is not None and covers(asked, hole(gap))
            if whole and gap.missing and gap.cause not in LOST and not any(one.overlaps(hole(gap)) for one in lacking):
                found.append(msgspec.structs.replace(gap, state="repaired", closed_at=now, source=REPAIRED))
    return found


def _is_back(gap: Gap, known: Mapping[tuple[str, str], Stream]) -> bool:
    """Whether all that was deleted was asked for since, of every symbol that was collected then."""
    if gap.cause != DELETED or gap.state != "unrepairable":
        return False
    span = _exact(gap)
    wanted = {
        symbol
        for (kind, symbol), stream in known.items()
        if kind == gap.kind and symbol != EVERY_SYMBOL and intersect([*stream.asked, *stream.streamed], [span])
    }
    named = wanted if gap.symbol == EVERY_SYMBOL else {gap.symbol}
    return bool(named) and all(covers(known.get((gap.kind, one), Stream()).anew(gap), span) for one in named)


def _back(gap: Gap, now: int) -> Gap:
    said = f"{gap.detail}; asked for again" if gap.detail else "asked for again"
    return msgspec.structs.replace(gap, state="repaired", closed_at=now, source=REPAIRED, detail=said)


def _exact(gap: Gap) -> Interval:
    """The time of what was deleted: from its first row up to behind its last."""
    return Interval(gap.ts_from, FOREVER if gap.ts_to is None else gap.ts_to)


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
