"""Files of an archive that were changed by their publisher, or lost by the disk, as new revisions of their days.

What changed, or came back, is told.
Days that are not closed yet are closed first (`dl compact`), so that the old rows all lie in daily files.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import msgspec

from collectors import exchanges
from collectors.files.archive import memory, replacing, taking
from collectors.files.archive.facts import Allowed
from collectors.files.archive.getting import Got
from collectors.files.archive.memory import Had, Remembered
from collectors.files.archive.refused import Refused
from collectors.files.archive.replacing import PARTS, Changes, DayChange
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.taking import Outcome
from compactor.jobs import Revision, in_order
from compactor.service import revise
from daemon.config import Config
from lake import adopting
from lake.adopting import Adopted, FileSource
from lake.rows import FileRow, SegmentRow
from lake.scratch import Scratch
from lake.writer import LakeWriter
from market import kinds
from market.times import DAY, date_of

_CLOSE = "run dl compact, then this again"


def replace(
    writer: LakeWriter, workers: Executor, config: Config, file: ArchiveFile, got: Got, before: Remembered,
    allowed: Allowed, now: Callable[[], int],
) -> Outcome:  # fmt: skip
    """Take in a new version, or what the disk has lost of this one. Raises Refused (nothing is changed),
    CommitConflict (again goes on), StorageFailed.
    """
    series = file.series
    source = adopting.begin(
        writer, config.collectors.node, exchange=series.exchange, market_type=series.market_type, kind=series.kind,
        source="archive", url=got.had.url, sha256=got.had.sha256, how=taking.how_of(file, allowed), now=now(),
    )  # fmt: skip
    if isinstance(source, Adopted):
        return _there(writer, source, file, got, before)
    try:
        found = _publish(writer, workers, config, source, file, got, before, allowed, now)
    except Refused as error:
        adopting.abandon(writer, source, None, str(error), now=now())
        raise
    published = adopting.Published(rows=found.rows)
    near = taking.neighbours(writer.root, file, found.facts)
    taking.finish(writer, source, file, published, [*found.coverage, *near.reach], now())
    taking.record_holes(writer, source, file, [*found.facts.holes, *near.holes], now())
    memory.remember(writer.root, file, _remembered(got, source, found, before))
    return _told(file, got, source, found, before)


def _publish(
    writer: LakeWriter, workers: Executor, config: Config, source: FileSource, file: ArchiveFile, got: Got,
    before: Remembered, allowed: Allowed, now: Callable[[], int],
) -> Changes:  # fmt: skip
    """New revisions of the days that it changes. Raises as `replace`."""
    days = _days(writer, source, file)
    with Scratch("lake-archive-", config.compactor.reproduce.folder) as scratch:
        # the new session too: what an earlier attempt has published is no change
        sessions = (source.session, before.session, *before.before)
        job = replacing.Job(
            str(writer.root), str(scratch.path), source, file, str(got.path), allowed, config.archives.caps, days,
            sessions, now(),
        )  # fmt: skip
        found = workers.submit(replacing.compare, job).result()
        for day in found.days:
            revision = _revision(source, day, days.get(day.date), f"{scratch.path}/{PARTS}")
            revise(writer, workers, now(), config.compactor, revision, exchanges.parsers)
    return found


def _there(writer: LakeWriter, source: Adopted, file: ArchiveFile, got: Got, before: Remembered) -> Outcome:
    """Such a version is in the lake: a run ended before it was written down. Raises Refused for one of before."""
    if got.had.sha256 in {had.sha256 for had in before.earlier}:
        what = f"this version was there before the present one, {before.had.sha256[:12]}"
        raise Refused(file.name, "changed", what, "ask its publisher which one holds")
    known = msgspec.structs.replace(
        before, had=got.had, session=source.session, rows=source.rows, before=(before.session, *before.before),
        first_id=None, last_id=None, earlier=_earlier(before, got),
    )  # fmt: skip
    memory.remember(writer.root, file, known)
    return taking.became(
        file, "known", rows=source.rows, session=source.session, bytes=got.had.bytes, sha256=got.had.sha256
    )


def _days(writer: LakeWriter, source: FileSource, file: ArchiveFile) -> dict[str, FileRow]:
    """The daily files that hold rows of its period. Raises Refused where some are in none yet."""
    # a candle of a week ends in the next month, and a day of open interest may with the next day's first value
    beyond = max(file.series.width - DAY, int(source.kind == "open_interest"))
    symbol = file.series.symbol if kinds.kind(source.kind).grain == "symbol" else None
    first, last = (date_of(at).isoformat() for at in (file.span.start, file.span.end - 1 + max(beyond, 0)))
    rows = writer.manifest.files(
        source.kind, exchange=source.exchange, market_type=source.market_type, date_from=first, date_to=last
    )
    for row in rows:
        if row.level != "day":
            raise Refused(file.name, "changed", f"{row.date} is not closed, and would be another revision", _CLOSE)
    return {row.date: row for row in rows if row.level == "day" and row.symbol == symbol}


def _revision(source: FileSource, day: DayChange, base: FileRow | None, folder: str) -> Revision:
    stream = (source.exchange, source.market_type, source.kind)
    # what the days are made of besides: the publisher's file, named as a parent with its hash
    parent = SegmentRow(
        path=source.url, exchange=stream[0], market_type=stream[1], kind=stream[2], state="transformed",
        period_start=source.recv, sha256=source.sha256,
    )  # fmt: skip
    symbol = day.parts[0].symbol if day.parts else (base.symbol if base is not None else None)
    # none of them came or went by the count of lines in raw/, which tell of no row of a file
    return Revision(
        stream, day.date, (), in_order([base] if base is not None else []), (), folder=folder,
        parts=tuple(day.parts), frames=(parent,), revised={symbol: (day.changed + day.added + day.removed, 0, 0)},
    )  # fmt: skip


def _remembered(got: Got, source: FileSource, found: Changes, before: Remembered) -> Remembered:
    facts = found.facts
    return msgspec.structs.replace(
        before, had=got.had, session=source.session, rows=found.rows, before=(before.session, *before.before),
        first_id=facts.first_id, last_id=facts.last_id, first=facts.first, last=facts.last,
        quarantined=0, earlier=_earlier(before, got),
    )  # fmt: skip


def _earlier(before: Remembered, got: Got) -> tuple[Had, ...]:
    """Its versions before this one."""
    return (*before.earlier, *([before.had] if before.had.sha256 != got.had.sha256 else []))


def _told(file: ArchiveFile, got: Got, source: FileSource, found: Changes, before: Remembered) -> Outcome:
    return taking.became(
        file, "replaced", rows=found.rows, session=source.session, bytes=got.had.bytes, sha256=got.had.sha256,
        unit=found.facts.unit, repeated=found.facts.repeated, others=found.facts.others, replaces=before.had.sha256,
        added=sum(day.added for day in found.days), changed=sum(day.changed for day in found.days),
        removed=sum(day.removed for day in found.days), revised=[day.date for day in found.days],
        examples=found.examples,
    )  # fmt: skip
