"""Segments that are not what their seal says, or of which nothing can be made: their time is a hole.

The lines that such a segment has tell whose they are. Whose were those that are gone, nothing tells: whatever was
collected at that time may have had some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from lake.manifest import Manifest
from lake.rows import SegmentRow
from market.session import Gap
from market.times import Interval


def gaps_of_altered(row: SegmentRow, symbols: Iterable[str], why: str, now: int) -> Iterator[Gap]:
    """The holes of these symbols in a segment that is not what its seal says."""
    for symbol in sorted(symbols):
        yield gap_of(row, symbol, "altered_segment", "checksum", why, now)


def gap_of(row: SegmentRow, symbol: str, cause: str, proof: str, why: str, now: int) -> Gap:
    """The hole that a doubtful segment leaves in one symbol: all the time that it answered for."""
    span = _span(row, now)
    name = hashlib.sha256(f"{cause} {row.path} {symbol}".encode()).hexdigest()[:32]
    return Gap(
        gap_id=name, exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=symbol,
        ts_from=span.start, ts_to=span.end, id_from=None, id_to=None, cause=cause, proof=proof, state="open",
        session=None, detected_at=now, detail=f"{row.path}: {why}"[:400],
    )  # fmt: skip


def unseen(manifest: Manifest, altered: Iterable[tuple[SegmentRow, str]], seen: Iterable[Gap], now: int) -> list[Gap]:
    """The holes of what was collected while altered segments (each with what is wrong) were written, without `seen`."""
    held = {gap.gap_id for gap in seen}
    gaps = (gap for row, why in altered for gap in gaps_of_altered(row, collected(manifest, row, now), why, now))
    return [gap for gap in gaps if gap.gap_id not in held]


def collected(manifest: Manifest, row: SegmentRow, now: int) -> list[str]:
    """The symbols of its stream that were covered in the time that a segment answers for."""
    rows = manifest.coverage(row.exchange, row.market_type, row.kind, overlapping=_span(row, now))
    return sorted({one.symbol for one in rows})


def _span(row: SegmentRow, now: int) -> Interval:
    start = row.event_min if row.event_min is not None else row.period_start
    end = row.event_max + 1 if row.event_max is not None else row.period_end or now
    return Interval(start, max(end, start + 1))
