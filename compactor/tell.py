"""Says what a committed job did: the compactor's calls of `runtime.telemetry`."""

from __future__ import annotations

from compactor.jobs import BookSamples, DayClose, FinalBars, HourBars, HourMerge, Job, day_span
from compactor.merge_job import Made
from lake import checks
from lake.rows import CertificateRow
from market import kinds, times
from runtime import telemetry

_EXPECTED = frozenset({checks.DUPLICATE, checks.OUT_OF_ORDER, checks.CONTIGUOUS}).union(checks.REPARSES)
"""Findings that are counted in certificates, are gap rows already or were asked for: no reason for a warning."""


def tell(job: Job, made: Made) -> None:
    """One event a merged hour, a certified file, a closed day, a gap that changed."""
    match job:
        case HourMerge():
            exchange, market_type, kind = job.stream
            telemetry.hour_merged(
                exchange=exchange,
                market_type=market_type,
                kind=kind,
                date=job.date,
                hour=job.hour,
                rows=made.add[0].rows,
                inputs=len(job.inputs),
            )
        case DayClose():
            _gaps(made)
            _certified(made)
            _closed(*job.stream[:2], job.date, made)
        case HourBars():
            _bars(job, made, "hour")
        case FinalBars():
            _bars(job, made, "day")
            _certified(made)
        case BookSamples():
            _certified(made)
    for row in made.checks:
        if row.check not in _EXPECTED and isinstance(job, DayClose | BookSamples):
            telemetry.check_failed(
                path=row.path, check=row.check, symbol=row.symbol, count=row.count, detail=row.detail
            )


def _certified(made: Made) -> None:
    for row in made.certificates:
        telemetry.certified(
            exchange=row.exchange,
            market_type=row.market_type,
            kind=row.kind,
            symbol=row.symbol,
            date=row.date,
            revision=row.revision,
            rows=row.rows,
            missing=row.missing,
            gaps=_open_gaps(row),
            sha256=row.sha256,
            path=row.path,
        )


def _open_gaps(row: CertificateRow) -> list[str]:
    if not row.open_gaps:
        return []
    return [f"{row.open_gaps} open, {row.gap_seconds:.1f} s"]


def _closed(exchange: str, market_type: str, date: str, made: Made) -> None:
    if made.certificates:
        telemetry.day_closed(
            exchange=exchange,
            market_type=market_type,
            date=date,
            files=len(made.certificates),
            rows=sum(row.rows for row in made.certificates),
            missing=sum(row.missing for row in made.certificates),
            open_gaps=sum(row.open_gaps for row in made.certificates),
            revision=max(row.revision for row in made.certificates),
            kind=made.certificates[0].kind,
        )


def _bars(job: HourBars | FinalBars, made: Made, level: str) -> None:
    span = day_span(job.date)
    if isinstance(job, HourBars):
        start = span.start + job.hour * times.HOUR
        span = times.Interval(start, start + times.HOUR)
    for kind in kinds.BARS:
        files = [row for row in made.add if row.kind == kind]
        if files:
            telemetry.bars_written(
                exchange=job.exchange,
                market_type=job.market_type,
                kind=kind,
                rows=sum(row.rows for row in files),
                symbols=len(files),
                start=span.start,
                end=span.end - times.SECOND,
                level=level,
            )


def _gaps(made: Made) -> None:
    for gap in made.gaps:
        if gap.state == "open":
            telemetry.gap_opened(
                exchange=gap.exchange,
                market_type=gap.market_type,
                kind=gap.kind,
                symbol=gap.symbol,
                cause=gap.cause,
                ts_from=gap.ts_from,
                ts_to=gap.ts_to,
                missing=gap.missing,
            )
        else:
            telemetry.gap_closed(
                exchange=gap.exchange,
                market_type=gap.market_type,
                kind=gap.kind,
                symbol=gap.symbol,
                state=gap.state,
                source=gap.source,
            )
