"""Samples of a book: made from a symbol's daily updates when its day is closed, published like any daily file.

Runs in a worker process; the updates go by in pieces, so that memory does not grow with the day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from compactor import certificate
from compactor.jobs import SAMPLES, BookSamples, day_span
from compactor.merge_job import Made, Place, check_inputs, parents_of
from compactor.sampler import COLUMNS, Sampler
from lake import parquet
from lake.bars import EVERY_SYMBOL
from lake.books import Observed
from lake.checks import BOOK_CROSSED
from lake.publish import Placement, discard, publish
from lake.rows import CheckRow, FileRow
from market import times
from market.session import Coverage, Gap

PIECE_ROWS = 8 * 1024


def book_samples(place: Place, job: BookSamples, gaps: Sequence[Gap], coverage: Sequence[Coverage]) -> Made:
    """The day's samples of one symbol. `gaps` and `coverage` are those of the market's book updates that touch the day.

    Raises CorruptFile, VerifyFailed, StorageFailed.
    """
    root, delta = place.path, job.delta
    check_inputs(root, [delta])
    mine = [gap for gap in gaps if gap.symbol in (delta.symbol, EVERY_SYMBOL)]
    covered = [row for row in coverage if row.symbol == delta.symbol]
    where = {"exchange": job.exchange, "market_type": job.market_type, "symbol": delta.symbol or ""}
    exact = bool(parquet.read_footer(root / delta.path).inexact)
    start = day_span(job.date).start
    sampler = Sampler(where, start, job.every, job.depth, Observed(mine, covered), exact=exact)
    measure = certificate.Measure(SAMPLES)
    parents = parents_of([delta])
    placement = Placement(
        kind=SAMPLES,
        exchange=job.exchange,
        market_type=job.market_type,
        level="day",
        date=job.date,
        symbol=delta.symbol,
        revision=0 if job.held is None else job.held.revision + 1,
        lake_id=place.lake_id,
        parents=parents,
    )
    file = publish(root, placement, _sampled(place, delta, sampler, measure), run=place.run, now=place.now)
    made = Made(add=[file], remove=[job.held.path] if job.held is not None else [])
    try:
        made.certificates.append(certificate.certify(file, measure, mine, covered, parents, 0, place.now))
    except BaseException:
        discard(root, [file])
        raise
    if sampler.crossed:
        made.certificates[0].crossed = sampler.crossed
        detail = f"first at {times.text(sampler.crossed_at)}"
        symbol = delta.symbol or ""
        made.checks.append(
            CheckRow(path=file.path, check=BOOK_CROSSED, symbol=symbol, count=sampler.crossed, detail=detail)
        )
    return made


def _sampled(place: Place, delta: FileRow, sampler: Sampler, measure: certificate.Measure) -> Iterator[pa.Table]:
    for piece in parquet.iterate(place.path / delta.path, COLUMNS, PIECE_ROWS):
        for table in sampler.add(piece):
            measure.add(table)
            yield table
    for table in sampler.finish():
        measure.add(table)
        yield table
