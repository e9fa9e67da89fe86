"""What a pass of the transformer did, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lake.checks import CROSSED, DUPLICATE, SEAL
from market.session import Gap
from runtime import telemetry
from transformer.plan import TransformJob
from transformer.run import TransformResult

_LOUD = (SEAL, DUPLICATE, CROSSED)


class Summary(msgspec.Struct):
    """What a pass did. Law over the segments that were read: lines = rows + duplicates + quarantined."""

    segments: int = 0
    lines: int = 0
    rows: int = 0
    duplicates: int = 0
    quarantined: int = 0
    altered: int = 0
    """Segments that were not what their seal says; the rows that could be read are in, and a gap names the rest."""
    late: int = 0
    files: int = 0
    bars: int = 0
    """Bars of one minute."""
    failed: int = 0
    """Jobs or segments that failed and are tried again."""
    parked: int = 0
    """Segments set aside for good, and hours whose bars were left to the compactor."""
    conflicts: int = 0


def say(job: TransformJob, result: TransformResult) -> None:
    """Say what came of a job that is committed."""
    if result.files:
        telemetry.parts_written(
            exchange=job.exchange, market_type=job.market_type, kind=job.kind, rows=result.rows,
            files=len(result.files),
        )  # fmt: skip
    for row in result.quarantine:
        telemetry.quarantined(origin=row.origin, reason=row.reason, count=row.count, nbytes=row.bytes, path=row.path)
    for check in result.checks:
        if check.check not in _LOUD:
            continue  # of one part it says little: the mergers write gaps, and the day's certificate counts
        telemetry.check_failed(
            path=check.path, check=check.check, symbol=check.symbol, count=check.count, detail=check.detail
        )
    say_gaps(result.gaps)


def say_gaps(gaps: Iterable[Gap]) -> None:
    """Say gaps that a job found."""
    for gap in gaps:
        telemetry.gap_opened(
            exchange=gap.exchange, market_type=gap.market_type, kind=gap.kind, symbol=gap.symbol, cause=gap.cause,
            ts_from=gap.ts_from, ts_to=gap.ts_to, missing=gap.missing,
        )  # fmt: skip


def text_of(error: BaseException) -> str:
    """An error as a failed job keeps it."""
    return f"{type(error).__name__}: {error}"[:500]
