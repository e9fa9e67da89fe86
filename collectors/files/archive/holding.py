"""A closed day of our trades held against the file that its venue publishes of it: by id both ways. Any process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl

from collectors.files.archive.facts import Allowed
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from lake import parquet, typed
from lake.audit_ids import COLUMNS, Explaining, IdsCompared, by_id, rows_of
from lake.rows import FileRow


class Job(msgspec.Struct, frozen=True):
    """The daily file of a lake at `root`, and the published zip at `path`, proven to be what its CHECKSUM says."""

    root: str
    day: FileRow
    file: ArchiveFile
    path: str
    caps: Caps
    known: Explaining


def compare(job: Job) -> IdsCompared:
    """Raises Refused where the zip is not what its name says, CorruptFile."""
    parquet.check_sha256(Path(job.root) / job.day.path, job.day.sha256)
    reading = Reading(job.file, Allowed(contract_size=_size(job)))
    with Path(job.path).open("rb") as opened:
        lines = blocks(opened, job.file, job.caps)
        return by_id(_ours(job), _theirs(job, reading.batches(lines)), job.known)


def _ours(job: Job) -> Iterator[pl.DataFrame]:
    for piece in parquet.iterate(Path(job.root) / job.day.path, COLUMNS):
        yield rows_of(piece)


def _theirs(job: Job, batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    day = job.day
    origin = typed.Origin(day.exchange, day.market_type, day.kind, "archive", "", 0)
    for batch in batches:
        yield rows_of(typed.typed(origin, batch).table)


def _size(job: Job) -> str | None:
    """What a contract of an inverse market is worth, as our rows say."""
    if job.day.market_type != "inverse":
        return None
    first = next(iter(parquet.iterate(Path(job.root) / job.day.path, ["multiplier"], 1)))
    return f"{first.column('multiplier')[0].as_py():g}"
