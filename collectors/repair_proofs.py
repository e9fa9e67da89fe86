"""What it takes to call a gap closed, given what came of asking for it. Pure.

It is closed by proof only: `repaired` where what was missing is here, `empty` where all of its time was asked for and
nothing was missing, `unrepairable` where the venue's history lacks every id of it, or where what is past is told by no
source (`repair_plan.Hopeless`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from collectors.history_plan import hole
from collectors.repair_plan import (
    ARCHIVE,
    OWN,
    REST,
    WHOLE,
    Hopeless,
    Known,
    Left,
    Road,
    Sources,
    has_ids,
    rows_asked,
    symbols_of,
)
from market.history import Offer
from market.session import Gap
from market.times import Interval, covers, intersect, subtract


class Found(msgspec.Struct, frozen=True):
    """What the tables hold on the time of a gap: how many rows only sessions that asked for it brought, and the ids
    that are stored.
    """

    new: int
    ids: Sequence[Interval] = ()


def read_again(gap: Gap, known: Known, now: int) -> Gap | None:
    """A gap whose frames were read again, closed; None where that was not done, or they do not tell all of it."""
    rows = known.reread.get(gap.gap_id)
    if rows is None or gap.ts_to is None or gap.cause not in WHOLE or subtract([hole(gap)], known.frames):
        return None
    state: Literal["repaired", "empty"] = "repaired" if rows else "empty"
    what = f"{rows:,} rows came that were missing" if rows else "nothing of it was missing"
    return _closed(gap, state, gap.proof, OWN, f"its frames were read again: {what}", now)


def proven_by_pages(gap: Gap, sources: Sources) -> bool:
    """Whether the pages of its past prove the ids of a gap by themselves: what they lack are gaps of their own."""
    offer = (sources.offers or {}).get(gap.kind)
    return has_ids(gap) and isinstance(offer, Offer) and offer.width is None


def verdict(gap: Gap, sources: Sources, known: Known, found: Found | None, now: int) -> Gap | Left:
    """A gap of which all was asked for, closed, or why it is not. `found` is None while the tables do not hold all."""
    rows = [row for symbol in symbols_of(gap, known) for row in rows_asked(gap, symbol, known)]
    source: Road = REST if any(row.road == REST and row.span.overlaps(hole(gap)) for row in rows) else ARCHIVE
    ids = Interval(gap.id_from or 0, gap.id_to or 0)
    if not has_ids(gap):
        if found is None:
            return Left(gap, "all of it was asked for; the verdict waits until that is in tables")
        if found.new:
            return _closed(gap, "repaired", gap.proof, source, f"{found.new:,} rows came that were missing", now)
        return _closed(gap, "empty", gap.proof, source, "all of it was asked for, and nothing of it was missing", now)
    lacking = intersect([ids], _ids(known.lacking, gap))
    if proven_by_pages(gap, sources):
        left = lacking
    elif found is None:
        return Left(gap, "all of it was asked for; the verdict waits until that is in tables")
    else:
        left = subtract([ids], found.ids)
    if not left:
        return _closed(gap, "repaired", "ids", source, "all of its ids came", now)
    count = sum(one.length for one in left)
    if not subtract(left, lacking):
        told = "the venue's own history lacks"
        if count == ids.length:
            return _closed(gap, "unrepairable", "ids", source, f"{told} all of its ids: asked twice", now)
        told = f"{told} {count:,} of its ids, which have a gap of their own; the others came"
        return _closed(gap, "repaired", "ids", source, told, now)
    return Left(gap, f"all of it was asked for, and {count:,} of its ids did not come")


def by_ids(gap: Gap, came: Iterable[Interval], now: int) -> Gap | None:
    """A gap all of whose ids `came`, closed: that is proof, whatever else of its time is final; None where they did
    not.
    """
    if gap.state != "open" or not has_ids(gap) or not covers(came, Interval(gap.id_from or 0, gap.id_to or 0)):
        return None
    return _closed(gap, "repaired", "ids", REST, "all of its ids came", now)


def _ids(lacking: Iterable[Gap], gap: Gap) -> list[Interval]:
    """Ids of the gap's stream that the venue's history lacks."""
    return [
        Interval(row.id_from, row.id_to)
        for row in lacking
        if (row.kind, row.symbol) == (gap.kind, gap.symbol) and row.id_from is not None and row.id_to is not None
    ]


def _closed(
    gap: Gap, state: Literal["repaired", "empty", "unrepairable"], proof: str, source: Road, detail: str, now: int
) -> Gap:
    said = f"{gap.detail}; {detail}" if gap.detail else detail
    return msgspec.structs.replace(gap, state=state, proof=proof, source=source, detail=said, closed_at=now)


def given_up(one: Hopeless, now: int) -> Gap:
    """A gap that nothing can close, as it is written down."""
    said = f"{one.gap.detail}; {one.why}" if one.gap.detail else one.why
    return msgspec.structs.replace(one.gap, state="unrepairable", detail=said, closed_at=now)
