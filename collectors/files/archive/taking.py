"""A file of an archive on its way into the lake: what any process can do of it, and what only the writer does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from collectors.files.archive import memory
from collectors.files.archive.facts import Allowed, Facts, Hole
from collectors.files.archive.getting import Got
from collectors.files.archive.memory import Had, Remembered
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile, file_at
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from lake import adopting
from lake.adopting import Adopted, FileSource, Published
from lake.writer import LakeWriter
from market.session import Coverage, Gap
from market.times import Interval, union


class Job(msgspec.Struct, frozen=True):
    """What a worker needs to read one file."""

    root: str
    source: FileSource
    file: ArchiveFile
    path: str
    allowed: Allowed
    caps: Caps
    now: int


class Taken(msgspec.Struct):
    """What was made of it: nobody sees it yet."""

    published: Published
    facts: Facts
    coverage: list[Interval]


class Outcome(msgspec.Struct, kw_only=True):
    """What became of one file.

    `state`: taken, known (these bytes are in the lake), replaced (its publisher had changed it), refused; of a dry run
    wanted, known or changed (its publisher says another version than the lake has). `rule`, `what` and `fix` say why it
    was refused; `replaces` is the SHA-256 of the version before, whose days `revised` have new revisions now, with so
    many rows `added`, `changed` and `removed`.
    """

    exchange: str
    name: str
    path: str
    state: str
    rows: int = 0
    duplicates: int = 0
    quarantined: int = 0
    repeated: int = 0
    symbol: str = ""
    """Whose rows, where the file holds those of a family."""
    others: int = 0
    """Lines of the family's other symbols, which are left to these."""
    bytes: int = 0
    sha256: str = ""
    unit: str = ""
    session: str = ""
    missing_ids: int = 0
    joined: bool | None = None
    """Whether its first id follows the last one of the file before it; None where that is not known."""
    replaces: str = ""
    added: int = 0
    changed: int = 0
    removed: int = 0
    revised: list[str] = []
    examples: list[str] = []
    rule: str = ""
    what: str = ""
    fix: str = ""


def became(file: ArchiveFile, state: str, **told: Any) -> Outcome:
    """Of that file, with what is told of it."""
    symbol = file.series.symbol if file.series.family else ""
    return Outcome(
        exchange=file.series.exchange, name=file.name, path=file.path, symbol=symbol, state=state, **told
    )  # fmt: skip


def refused(file: ArchiveFile, error: Refused) -> Outcome:
    return became(file, "refused", rule=error.rule, what=error.what, fix=error.fix)


def read(job: Job) -> Taken:
    """The rows of a file as parts under their durable names. Raises Refused (nothing is left), StorageFailed."""
    reading = Reading(job.file, job.allowed)
    with Path(job.path).open("rb") as opened:
        lines = blocks(opened, job.file, job.caps)
        run = f"archive-{job.source.session}"
        made = adopting.publish_rows(Path(job.root), job.source, reading.batches(lines), run=run, now=job.now)
    return Taken(made, reading.facts, reading.coverage)


def take(
    writer: LakeWriter, workers: Executor, node: str, file: ArchiveFile, got: Got, allowed: Allowed, caps: Caps,
    now: Callable[[], int],
) -> Outcome:  # fmt: skip
    """Take one file in, or find that it is there. Raises Refused, StorageFailed, Fenced, CommitConflict."""
    told: dict[str, Any] = {"bytes": got.had.bytes, "sha256": got.had.sha256}
    before = memory.recall(writer.root, file)
    series = file.series
    source = adopting.begin(
        writer, node, exchange=series.exchange, market_type=series.market_type, kind=series.kind, source="archive",
        url=got.had.url, sha256=got.had.sha256, how=how_of(file, allowed), now=now(),
    )  # fmt: skip
    if isinstance(source, Adopted):
        # it came in, and the process ended before it was written down; or its host says other things of the same bytes
        known = before or Remembered(had=got.had, session=source.session, rows=source.rows)
        memory.remember(writer.root, file, msgspec.structs.replace(known, had=got.had))
        return became(file, "known", session=source.session, rows=source.rows, **told)
    job = Job(str(writer.root), source, file, str(got.path), allowed, caps, now())
    try:
        _over(file, job.now)
        _alone(writer, source, file)
        taken = workers.submit(read, job).result()
    except Refused as error:
        adopting.abandon(writer, source, None, str(error), now=now())
        raise
    near = neighbours(writer.root, file, taken.facts)
    done = finish(writer, source, file, taken.published, [*taken.coverage, *near.reach], now())
    record_holes(writer, source, file, [*taken.facts.holes, *near.holes], now())
    memory.remember(writer.root, file, _remembered(got.had, taken, done, allowed))
    return became(
        file, "taken", session=done.session, rows=done.rows, duplicates=done.duplicates,
        quarantined=done.quarantined, repeated=taken.facts.repeated, others=taken.facts.others, unit=taken.facts.unit,
        joined=near.joined, missing_ids=sum(hole.id_to - hole.id_from for hole in taken.facts.holes),
        what="; ".join(done.reasons), **told,
    )  # fmt: skip


def _over(file: ArchiveFile, now: int) -> None:
    """No row of a symbol is a proof of a whole day, and none of a day that goes on. Raises Refused."""
    if file.series.family and file.span.end > now:
        raise Refused(file.name, "period", f"{file.date} is not over", "ask later")


def _alone(writer: LakeWriter, source: FileSource, file: ArchiveFile) -> None:
    """Rows that nothing tells from others' come from one file, or from elsewhere. Raises Refused where both would."""
    if not file.series.dataset.alone:
        return
    rows = writer.manifest.coverage(
        source.exchange, source.market_type, source.kind, file.series.symbol, overlapping=file.span
    )
    if any(row.session != source.session for row in rows):
        what = "the lake holds rows of that time from elsewhere, and nothing tells for sure which of this file they are"
        raise Refused(file.name, "held", what, "leave these dates to what is there, or take others")


def how_of(file: ArchiveFile, allowed: Allowed) -> str:
    """What else its rows depend on."""
    what = f"{file.name} {file.series.symbol}" if file.series.family else file.name
    return f"{what} x{allowed.contract_size}" if allowed.contract_size is not None else what


def finish(
    writer: LakeWriter, source: FileSource, file: ArchiveFile, published: Published, spans: Iterable[Interval], now: int
) -> Adopted:
    """The file is in the lake, and covers what it proves."""
    symbol = file.series.symbol
    first, *others = union(spans)
    done = adopting.finish(writer, source, published, now=now, coverage={symbol: first})
    # afterwards: a crash in between costs coverage, and claims none
    stream = (source.exchange, source.market_type, source.kind, symbol, source.session)
    writer.record_coverage([Coverage(*stream, one.start, one.end) for one in others])
    return done


class Near(msgspec.Struct):
    """How a file's ids lie to those of the files beside it: whether they go on from the one before (None: not
    known), times in between that are then proven to be without a row, and the ids that are missing.
    """

    joined: bool | None = None
    reach: list[Interval] = []
    holes: list[Hole] = []


def neighbours(root: Path, file: ArchiveFile, facts: Facts) -> Near:
    """Raises CorruptFile."""
    near = Near(reach=[], holes=[])
    if not file.series.dataset.numbered:
        return near
    before = _beside(root, file, -1)
    if before is not None and before.last_id is not None and facts.first_id is not None:
        near.joined = before.last_id + 1 == facts.first_id
    those = [one for one in (before, facts, _beside(root, file, 1)) if one is not None]
    # a file without a row has no ids: then what lies beside it is held against each other
    for one, two in itertools.pairwise(one for one in those if one.first_id is not None):
        assert one.last_id is not None
        assert two.first_id is not None
        if one.last_id + 1 < two.first_id:
            near.holes.append(Hole(one.last_id + 1, two.first_id, one.last, two.first))
        elif one.last_id + 1 == two.first_id and one.last < two.first:
            near.reach.append(Interval(one.last, two.first))
    return near


def _beside(root: Path, file: ArchiveFile, way: int) -> Remembered | None:
    """The next file with rows before (`way` -1) or after it; those between are known, and have none."""
    at = file.span.start - 1 if way < 0 else file.span.end
    known = _known(root, file, at)
    while known is not None and known.empty and known.file is not None:
        at = known.file.span.start - 1 if way < 0 else known.file.span.end
        known = _known(root, known.file, at)
    return known


def _known(root: Path, file: ArchiveFile, at: int) -> Remembered | None:
    """The file that holds that time (us), of a day or of a month, where the lake has it and it is another one."""
    for period in file.series.periods:
        beside = file_at(file.series, at, period)
        edge = at in (beside.span.start, beside.span.end - 1)
        if beside != file and edge and (known := memory.recall(root, beside)) is not None:
            return known
    return None


def record_holes(writer: LakeWriter, source: FileSource, file: ArchiveFile, holes: Iterable[Hole], now: int) -> None:
    """Missing ids are gaps, until rows of any source bring them."""
    stream = (source.exchange, source.market_type, source.kind, file.series.symbol)
    gaps = []
    for hole in holes:
        ids: tuple[int | None, int | None] = (hole.id_from, hole.id_to)
        name, proof = f"{hole.id_from}-{hole.id_to}", "ids"
        if file.series.dataset.lines_numbered:  # lines of a file, which mean nothing outside of it
            ids, name, proof = (None, None), f"{file.name}-{name}", "interval"
        to = max(hole.ts_to, hole.ts_from)
        gap_id = "-".join(("archive", *stream, name))
        gaps.append(
            Gap(
                gap_id, *stream, hole.ts_from, to, *ids, "archive", proof, "open", source.session, now, detail=file.name
            )
        )
    writer.record_gaps(gaps)


def _remembered(had: Had, taken: Taken, done: Adopted, allowed: Allowed) -> Remembered:
    facts = taken.facts
    return Remembered(
        had=had, session=done.session, rows=done.rows, quarantined=done.quarantined, first_id=facts.first_id,
        last_id=facts.last_id, first=facts.first, last=facts.last, contract_size=allowed.contract_size,
    )  # fmt: skip
