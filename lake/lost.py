"""Files that came from elsewhere (archive, import) of which the disk has lost rows since: they are taken in again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from lake.manifest import Manifest
from lake.rows import SessionRow
from market.session import EVERY_SYMBOL, Gap
from market.times import Interval

Place: TypeAlias = tuple[str, Interval]
"""A symbol, and a time of it."""
ROTTEN = "bitrot"
"""Cause of the gaps of what lay in a file that the disk lost or changed."""
AGAIN = " after "
"""What stands, in the name of a session, between what a file was read as and the gap for which it came in again."""


def since(manifest: Manifest, stream: tuple[str, str, str], places: Iterable[Place], taken: int) -> Gap | None:
    """The newest open gap of what the disk has lost of these `places` after they were `taken` in (us); None where all
    is there. They are asked for only where the disk has lost anything of that (exchange, market_type, kind).
    """
    gaps = manifest.gaps(*stream, state="open")
    rotten = [gap for gap in gaps if gap.cause == ROTTEN and gap.ts_to is not None and gap.detected_at > taken]
    told = list(places) if rotten else []
    mine = [
        gap
        for gap in rotten
        if any(
            gap.symbol in (symbol, EVERY_SYMBOL) and span.overlaps(Interval(gap.ts_from, gap.ts_to or 0))
            for symbol, span in told
        )
    ]
    return max(mine, key=lambda gap: gap.detected_at, default=None)


def covered(manifest: Manifest, session: SessionRow, kind: str) -> Iterator[Place]:
    """What a session covered."""
    for row in manifest.coverage(session.exchange, session.market_type, kind):
        if row.session == session.session:
            yield row.symbol, Interval(row.ts_from, row.ts_to)


def closed(
    manifest: Manifest, market: tuple[str, str], kind: str, spans: Mapping[str, tuple[int, int]],
    same: Collection[str], now: int,
) -> list[Gap]:  # fmt: skip
    """Gaps of what the disk has lost that a file brings back, with rows of these `spans` (us) by symbol: where nobody
    but the sessions of the `same` file covered their time. `now` us.
    """
    found: list[Gap] = []
    for gap in manifest.gaps(*market, kind, list(spans), state="open"):
        low, high = spans[gap.symbol]
        if gap.cause != ROTTEN or gap.ts_to is None or not low <= gap.ts_from < gap.ts_to <= high:
            continue
        lost = Interval(gap.ts_from, gap.ts_to)
        told = manifest.coverage(*market, kind, [gap.symbol, EVERY_SYMBOL], overlapping=lost)
        if told and all(row.session in same for row in told):
            detail = f"{gap.detail}; its file was taken in again"
            found.append(msgspec.structs.replace(gap, state="repaired", source="import", detail=detail, closed_at=now))
    return found
