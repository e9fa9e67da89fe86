"""Files that came from elsewhere (archive, import) of which the disk has lost rows since: they are taken in again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from lake.manifest import Manifest
from lake.rows import SessionRow
from market.session import EVERY_SYMBOL, Gap
from market.times import Interval

ROTTEN = "bitrot"
"""Cause of the gaps of what lay in a file that the disk lost or changed."""
AGAIN = " after "
"""What stands, in the name of a session, between what a file was read as and the gap for which it came in again."""


def since(manifest: Manifest, session: SessionRow, kind: str) -> Gap | None:
    """The newest open gap of what the disk has lost of a file's rows since that session; None where all is there."""
    market = (session.exchange, session.market_type)
    rotten = [
        gap
        for gap in manifest.gaps(*market, kind, state="open")
        if gap.cause == ROTTEN and gap.ts_to is not None and gap.detected_at > session.opened_at
    ]
    if not rotten:
        return None
    told = [row for row in manifest.coverage(*market, kind) if row.session == session.session]
    mine = [
        gap
        for gap in rotten
        if any(
            gap.symbol in (row.symbol, EVERY_SYMBOL)
            and Interval(row.ts_from, row.ts_to).overlaps(Interval(gap.ts_from, gap.ts_to or 0))
            for row in told
        )
    ]
    return max(mine, key=lambda gap: gap.detected_at, default=None)


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
