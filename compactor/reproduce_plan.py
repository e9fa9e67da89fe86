"""Which closed days are made again from their frames tonight: a pure function of certificates, frames and the past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from compactor.jobs import day_span
from lake.rows import FRAMES, CertificateRow, FileRow, SegmentRow
from market.kinds import KINDS

GONE = ("deleting", "deleted")


class ReproduceJob(msgspec.Struct, frozen=True):
    """One market and day. `newest` is when the last of its certificates was issued (us), `bytes` its files' size."""

    exchange: str
    market_type: str
    date: str
    newest: int
    bytes: int

    @property
    def cursor(self) -> str:
        """Names in the manifest up to which certificate this day was tried."""
        return f"reproduced/{self.exchange}/{self.market_type}/{self.date}"

    @property
    def text(self) -> str:
        return f"{self.exchange} {self.market_type} {self.date}"


def due(
    files: Iterable[FileRow],
    certificates: Iterable[CertificateRow],
    frames: Iterable[SegmentRow],
    tried: Mapping[str, int],
    days: int,
) -> list[ReproduceJob]:
    """The newest `days` dates whose certificates do not say yet whether their frames make the same, newest first.

    `files` are the live daily ones. A day without frames is left out, and one tried since its last certificate.
    """
    valid: dict[str, CertificateRow] = {}
    for row in certificates:
        before = valid.get(row.path)
        if before is None or before.issued_at <= row.issued_at:
            valid[row.path] = row
    found: dict[tuple[str, str, str], list[tuple[FileRow, CertificateRow]]] = {}
    for file in files:
        told = valid.get(file.path)
        if told is not None and not KINDS[file.kind].derived:
            found.setdefault((file.date, file.exchange, file.market_type), []).append((file, told))
    kept = [row for row in frames if row.kind == FRAMES and row.rows and row.state not in (*GONE, "open")]
    jobs: list[ReproduceJob] = []
    for (date, exchange, market_type), held in sorted(found.items(), reverse=True):
        open_ = [told.issued_at for _, told in held if told.reproduced is None]
        job = ReproduceJob(exchange, market_type, date, max(open_, default=0), sum(file.bytes for file, _ in held))
        if open_ and tried.get(job.cursor, 0) < job.newest and _framed(job, kept):
            jobs.append(job)
    dates = sorted({job.date for job in jobs}, reverse=True)[:days]
    return [job for job in jobs if job.date in dates]


def _framed(job: ReproduceJob, frames: Iterable[SegmentRow]) -> bool:
    span = day_span(job.date)
    return any(
        (row.exchange, row.market_type) == (job.exchange, job.market_type)
        and row.period_start < span.end
        and (row.period_end or 0) > span.start
        for row in frames
    )
