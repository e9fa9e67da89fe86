"""What is to be done about the books of a day: close it with the book it opens with, open it anew, sample it. Pure."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from compactor.jobs import SAMPLES, BookSamples, DayClose, HourMerge, Job, Rules, Stream, View, in_order
from lake.books import KIND as BOOKS
from lake.rows import FileRow


def opening(
    view: View,
    jobs: Iterable[Job],
    hot: Mapping[tuple[Stream, str], Sequence[FileRow]],
    days: Mapping[tuple[Stream, str], Sequence[FileRow]],
) -> list[Job]:
    """The jobs, those that close a day of books with the files of the day before; and days that only open anew."""
    before: dict[tuple[Stream, str], list[FileRow]] = defaultdict(list)
    for row in view.before:
        before[(row.exchange, row.market_type, row.kind), next_day(row.date)].append(row)
    made: list[Job] = []
    for job in jobs:
        if not isinstance(job, DayClose) or job.stream[2] != BOOKS:
            made.append(job)
            continue
        carry = (*job.stream[:2], job.date) in view.carry_due
        made.append(msgspec.structs.replace(job, before=in_order(before[job.stream, job.date]), carry=carry))
    for exchange, market_type, date in view.carry_due:
        stream = (exchange, market_type, BOOKS)
        base = days.get((stream, date), ())
        if base and not hot.get((stream, date)):
            made.append(DayClose(stream, date, (), in_order(base), in_order(before[stream, date]), carry=True))
    return made


def after_yesterday(jobs: Sequence[Job]) -> list[Job]:
    """Without closings of book days whose day before is still at work, and samples of days that close."""
    busy = {(job.stream, job.date) for job in jobs if isinstance(job, HourMerge | DayClose)}
    kept: list[Job] = []
    for job in jobs:
        if isinstance(job, DayClose) and job.stream[2] == BOOKS and (job.stream, day_before(job.date)) in busy:
            continue
        if isinstance(job, BookSamples) and ((job.exchange, job.market_type, BOOKS), job.date) in busy:
            continue
        kept.append(job)
    return kept


def samples(
    view: View,
    hot: Mapping[tuple[Stream, str], Sequence[FileRow]],
    days: Mapping[tuple[Stream, str], Sequence[FileRow]],
    rules: Rules,
) -> list[Job]:
    """One job for each symbol whose closed updates are not those that its samples were made from."""
    found: list[Job] = []
    for exchange, market_type, date in view.samples_due if rules.sample_every is not None else ():
        stream = (exchange, market_type, BOOKS)
        if hot.get((stream, date)):
            continue
        held = {row.symbol: row for row in days.get(((exchange, market_type, SAMPLES), date), ())}
        for delta in days.get((stream, date), ()):
            old = held.get(delta.symbol)
            if old is None or delta.path not in old.parents:
                job = BookSamples(exchange, market_type, date, delta, old, rules.sample_every or 0, rules.sample_depth)
                found.append(job)
    return found


def sampled(view: View) -> list[tuple[str, str, str]]:
    """Days that were to be sampled and are: every file of their updates is the parent of its samples."""
    parents = {path for row in view.days if row.kind == SAMPLES for path in row.parents}
    hot = {(row.exchange, row.market_type, row.date) for row in view.hot if row.kind == BOOKS}
    left = {
        (row.exchange, row.market_type, row.date) for row in view.days if row.kind == BOOKS and row.path not in parents
    }
    return sorted(view.samples_due - left - hot)


def day_before(date: str) -> str:
    """The date (YYYY-MM-DD) before."""
    return (dt.date.fromisoformat(date) - dt.timedelta(days=1)).isoformat()


def next_day(date: str) -> str:
    """The date (YYYY-MM-DD) after."""
    return (dt.date.fromisoformat(date) + dt.timedelta(days=1)).isoformat()
