"""`dl reconcile` for who writes the lake, and for who only looks: what the lake holds, and with it published files.

Files of an archive are fetched one by one into a folder of their own, compared and removed; nothing of them enters the
lake. `dl archive` is what takes them in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from collectors.files.archive import holding, series
from collectors.files.archive.getting import Source
from collectors.files.archive.refused import Refused
from collectors.files.archive.series import ArchiveFile, series_of
from compactor.audit import Audited, AuditService, record
from daemon import audit_fetch
from daemon.archive_request import source_of
from daemon.audit_fetch import Jobs, Reconciled
from daemon.config import Config
from lake import durable
from lake.audit_ids import Explaining
from lake.audits import Audit, Wanted, audits, begun, book_audits, each
from lake.bars import EVERY_SYMBOL
from lake.books import MISSING
from lake.errors import CorruptFile, WrongQuestion
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.rows import FileRow
from lake.scratch import Scratch
from lake.writer import LakeWriter
from market.times import DAY, Interval, date_of, parse
from runtime.clock import Clock
from runtime.threads import to_the_end

TRADE = "trade"
Report = Callable[[int, int, str], None]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which days; `books` rebuilds order books too, `archive` holds trades against published files, had from `source`
    (default: the configured).
    """

    exchange: str | None = None
    market: str | None = None
    symbol: str | None = None
    day: str | None = None
    books: bool = False
    archive: bool = False
    source: str | None = None
    fetch: bool = False
    """Ask the venue for the candles that are missing, first."""

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.exchange, self.market, self.symbol, self.day)


def question_of(arguments: Mapping[str, Any]) -> Question:
    """Raises WrongQuestion."""
    try:
        asked = msgspec.convert(dict(arguments), Question)
    except msgspec.ValidationError as error:
        raise WrongQuestion(f"what is to be reconciled: {error}", "see dl reconcile --help") from error
    if asked.source is not None and not asked.archive:
        raise WrongQuestion("--source says where published files are", "use it with --archive")
    if asked.archive and asked.exchange is not None and asked.exchange not in comparable():
        what = f"no file of {asked.exchange} holds the trades of a day (UTC) by ids that follow by one"
        raise WrongQuestion(what, f"use --exchange {' or '.join(comparable())}")
    return asked


def refuse_nothing(snapshot: Snapshot, asked: Question) -> None:
    """Raises WrongQuestion where no closed day is meant, Malformed for a bad date."""
    days = each(snapshot, asked.wanted) or (asked.books and each(snapshot, asked.wanted, "book_delta"))
    if not days and not (asked.archive and published(snapshot, asked)):
        raise WrongQuestion(
            "no closed day with bars is meant", "dl ls says what the lake has; dl compact closes days that are over"
        )


def comparable() -> dict[str, tuple[str, ...]]:
    """Venue -> markets of which it publishes trades of a day of UTC by ids that follow by one."""
    found: dict[str, tuple[str, ...]] = {}
    for name in series.names():
        archive = series.load(name)
        days = [each for each in archive.datasets if not (archive.shift if each.shift is None else each.shift)]
        numbered = [each for each in days if each.kind == TRADE and each.numbered]
        if numbered:
            found[name] = tuple(market for each in numbered for market in each.paths)
    return found


def look(
    root: Path, manifest: Manifest, executor: Executor, clock: Clock, asked: Question, config: Config, report: Report
) -> Audited:
    """What there is to say, without writing. Blocks. Raises WrongQuestion, Malformed, Refused, StorageFailed."""
    with manifest.snapshot() as now:
        refuse_nothing(now, asked)
        found = audits(root, now, asked.wanted, report)
        found += book_audits(root, now, asked.wanted, report) if asked.books else []
        todo = published(now, asked) if asked.archive else []
    if todo:
        found += asyncio.run(against(root, todo, executor, clock, asked, config, report))
    return Audited(found)


def reconcile_job(
    writer: LakeWriter, executor: Executor, clock: Clock, asked: Question, config: Config, report: Report
) -> Reconciled:
    """The same, written down; before that the venue is asked for what is missing, where that is wanted. Blocks.

    Raises what `look` raises, Fenced.
    """
    fetched = None
    if asked.fetch:
        with writer.manifest.snapshot() as now:
            found = audits(writer.root, now, asked.wanted, report)
        fetched = asyncio.run(audit_fetch.fetch(found, audit_fetch.alone(writer, executor, clock, config), report))
    done = look(writer.root, writer.manifest, executor, clock, asked, config, report)
    return Reconciled(done.audits, record(writer, done.audits, clock.now()), fetched)


def control_job(
    config: Config, writer: LakeWriter, clock: Clock, audit: AuditService, executor: Executor, jobs: Jobs
) -> Callable[[Mapping[str, Any], Report], Awaitable[object]]:
    """What the control port runs: a symbol and day at a time, between other work. `jobs` are the port's others."""

    async def reconcile(arguments: Mapping[str, Any], progress: Report) -> object:
        asked = question_of(arguments)
        done = await audit.once(asked.wanted, progress, books=asked.books)
        fetched = None
        if asked.fetch:
            fetched = await audit_fetch.fetch(done.audits, audit_fetch.by_jobs(jobs), progress)
            if fetched.rows:
                again = await audit.once(asked.wanted, progress, books=asked.books)
                again.written += done.written
                done = again
        if asked.archive:
            with writer.manifest.snapshot() as now:
                todo = published(now, asked)
            more = await against(writer.root, todo, executor, clock, asked, config, progress)
            done.audits += more
            done.written += await to_the_end(record, writer, more, clock.now())
        return Reconciled(done.audits, done.written, fetched).told()

    return reconcile


def published(snapshot: Snapshot, asked: Question) -> list[tuple[FileRow, Explaining]]:
    """Closed days of trades that an archive may have a file of, with what explains what they lack."""
    date = None if asked.day is None else date_of(parse(asked.day)).isoformat()
    there = comparable()
    rows = snapshot.files(
        TRADE, exchange=asked.exchange, market_type=asked.market, symbol=asked.symbol, level="day", date_from=date,
        date_to=date,
    )  # fmt: skip
    return [(row, _explaining(snapshot, row)) for row in rows if row.market_type in there.get(row.exchange, ())]


def _explaining(snapshot: Snapshot, row: FileRow) -> Explaining:
    start = parse(row.date)
    day = Interval(start, start + DAY)
    stream = (row.exchange, row.market_type, row.kind)
    gaps = [
        gap
        for gap in snapshot.gaps(*stream, state=MISSING, overlapping=day)
        if gap.symbol in (row.symbol, EVERY_SYMBOL)
    ]
    ids, dark = [], []
    for gap in gaps:
        if gap.id_from is not None and gap.id_to is not None:
            ids.append(Interval(gap.id_from, gap.id_to))
        else:
            dark.append(Interval(gap.ts_from, day.end if gap.ts_to is None else max(gap.ts_to, gap.ts_from + 1)))
    covered = snapshot.coverage(*stream, row.symbol, overlapping=day)
    return Explaining(ids, dark, [Interval(one.ts_from, one.ts_to) for one in covered])


async def against(
    root: Path, todo: list[tuple[FileRow, Explaining]], executor: Executor, clock: Clock, asked: Question,
    config: Config, report: Report,
) -> list[Audit]:  # fmt: skip
    """Each day against its published file. Raises WrongQuestion for a source that cannot be meant, StorageFailed."""
    made: list[Audit] = []
    with Scratch("lake-audit-", config.compactor.reproduce.folder) as scratch:
        for exchange in dict.fromkeys(row.exchange for row, _ in todo):
            async with source_of(scratch.path, clock, exchange, asked.source, config, lambda: False) as source:
                for row, known in todo:
                    if row.exchange == exchange:
                        report(len(made), len(todo), f"{row.symbol} {row.date}, its published file")
                        made.append(await _one(root, row, known, executor, config, source))
    return made


async def _one(
    root: Path, row: FileRow, known: Explaining, executor: Executor, config: Config, source: Source
) -> Audit:
    audit = begun(row, "archive")
    try:
        file = ArchiveFile(row.date, series_of(row.exchange, row.market_type, row.kind, row.symbol or ""))
        said = await source.stamp(file)
        got = await source.get(file, said)
        job = holding.Job(str(root), row, file, str(got.path), config.archives.caps, known)
        try:
            found = await asyncio.to_thread(partial(_wait, executor, job))
        finally:
            if got.ours:
                durable.unlink(got.path)
    except (Refused, CorruptFile, WrongQuestion) as error:
        audit.failed, audit.hint = error.message, error.hint or ""
        return audit
    audit.against = f"archive {got.had.sha256[:12]}"
    audit.total, audit.equal, audit.counts, audit.examples = found.theirs, found.same, found.counts, found.examples
    size = f" --contract-size {100 if (row.symbol or '').startswith('BTCUSD_') else 10}"
    audit.hint = (
        f"dl archive --market-type {row.market_type} --symbol {row.symbol} --kind trade --from {row.date}"
        f" --to {row.date}{size if row.market_type == 'inverse' else ''}"
    )
    return audit.judged()


def _wait(executor: Executor, job: holding.Job) -> Any:
    return executor.submit(holding.compare, job).result()
