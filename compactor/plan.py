"""What is to be compacted now: a pure function of the manifest's rows, the time and the rules.

Parts of a closed hour become one hour file; a closed day becomes one file a symbol (or one for all, by the kind's
grain); a day whose trades or quotes changed gets its final bars. Oldest first. The same rows give the same plan in
any order, and where nothing is to be done the plan is empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from compactor.book_plan import after_yesterday, opening, samples
from compactor.jobs import (
    MAX_FAILURES,
    BookSamples,
    DayClose,
    FinalBars,
    HourBars,
    HourMerge,
    Job,
    Market,
    Progress,
    Rules,
    Stream,
    View,
    day_span,
    in_order,
)
from lake import sources
from lake.rows import FileRow
from market import kinds, times


def plan(view: View, now: int, rules: Rules, *, final: bool = False) -> list[Job]:
    """The jobs that can run now and side by side, oldest first.

    `final` does not wait: every day and hour that has ended is closed, whatever the delays (a one-shot command after
    the last event). Jobs that failed MAX_FAILURES times are left out.
    """
    by_day: dict[tuple[Stream, str], list[FileRow]] = defaultdict(list)
    for row in view.hot:
        by_day[(row.exchange, row.market_type, row.kind), row.date].append(row)
    days: dict[tuple[Stream, str], list[FileRow]] = defaultdict(list)
    for row in view.days:
        days[(row.exchange, row.market_type, row.kind), row.date].append(row)
    jobs: list[Job] = []
    for (stream, date), hot in by_day.items():
        held = days.get((stream, date), [])
        progress = view.progress.get(stream, Progress())
        if stream[2] in kinds.BARS:
            continue
        if _closes(date, progress, now, rules, final=final):
            jobs += _close(stream, date, hot, held, now, rules, final=final)
        else:
            jobs += _hours(stream, date, hot, progress, now, rules, final=final)
    jobs += _hour_bars(view, by_day, now, rules, final=final)
    jobs += _bars(view, by_day, days, now, rules, final=final)
    jobs = [*opening(view, jobs, by_day, days), *samples(view, by_day, days, rules)]
    jobs = [job for job in jobs if view.failures.get(job.key, 0) < MAX_FAILURES]
    return sorted(after_yesterday(jobs), key=_age)


def _age(job: Job) -> tuple[str, int, str, str, str, int]:
    match job:
        case HourMerge(stream, date, hour):
            return (date, hour, *stream, 0)
        case HourBars(exchange, market_type, date, hour):
            return (date, hour, exchange, market_type, "", 1)
        case DayClose(stream, date):
            return (date, 24, *stream, 1)
        case FinalBars(exchange, market_type, date):
            return (date, 25, exchange, market_type, "", 2)
        case BookSamples(exchange, market_type, date, delta):
            return (date, 26, exchange, market_type, delta.symbol or "", 3)


def _passed(end: int, delay: int, progress: Progress, now: int, *, final: bool) -> bool:
    """Whether nothing that was received before `end` can still come: time is up, the watermark beyond, all of it
    transformed. A stream that nobody writes any more needs no watermark.
    """
    if now < end + (0 if final else delay):
        return False
    if progress.waiting_from is not None and progress.waiting_from < end + (0 if final else delay):
        return False
    if not progress.open:
        return True
    # beyond, not at: an event of the last moment is received just after it, in a segment that is then sealed too
    return progress.watermark is not None and (progress.watermark > end or (final and progress.watermark == end))


def _closes(date: str, progress: Progress, now: int, rules: Rules, *, final: bool) -> bool:
    return _passed(day_span(date).end, rules.close_delay, progress, now, final=final)


def _hours(
    stream: Stream, date: str, hot: Sequence[FileRow], progress: Progress, now: int, rules: Rules, *, final: bool
) -> list[Job]:
    """Merges of the hours that have passed; late parts of a merged hour wait for the revision interval."""
    start = day_span(date).start
    by_hour: dict[int, list[FileRow]] = defaultdict(list)
    for row in hot:
        if row.hour is not None:
            by_hour[row.hour].append(row)
    found: list[Job] = []
    for hour, rows in by_hour.items():
        end = start + (hour + 1) * times.HOUR
        if len(rows) < 2 or not _passed(end, rules.hour_delay, progress, now, final=final):
            continue
        newest = max((row.created_at for row in rows if row.level == "hour"), default=None)
        if newest is not None and not final and now < newest + rules.revision and len(rows) < rules.max_inputs:
            continue
        found.append(_hour(stream, date, hour, rows, rules))
    return found


def _hour(stream: Stream, date: str, hour: int, rows: Sequence[FileRow], rules: Rules) -> HourMerge:
    """The smallest files first, so that rows are not copied again and again where there are too many at once."""
    chosen = sorted(rows, key=lambda row: (row.rows, row.path))[: rules.max_inputs]
    revision = 1 + max(row.revision for row in rows)
    return HourMerge(stream, date, hour, revision, tuple(sorted(chosen, key=lambda row: (row.ts_min, row.path))))


def _close(
    stream: Stream, date: str, hot: Sequence[FileRow], held: Sequence[FileRow], now: int, rules: Rules, *, final: bool
) -> list[Job]:
    """The day itself, or first the hours, where the day would open too many files at once."""
    newest = max((row.created_at for row in held), default=None)
    if newest is not None and not final and now < newest + rules.revision:
        return []
    if len(hot) > rules.max_inputs:
        by_hour: dict[int, list[FileRow]] = defaultdict(list)
        for row in hot:
            by_hour[row.hour or 0].append(row)
        return [_hour(stream, date, hour, rows, rules) for hour, rows in by_hour.items() if len(rows) > 1]
    inputs = tuple(sorted(hot, key=lambda row: (row.ts_min, row.path)))
    base = tuple(sorted(held, key=lambda row: ((row.symbol or "").encode(), row.path)))
    return [DayClose(stream, date, inputs, base)]


def _hour_bars(
    view: View,
    hot: Mapping[tuple[Stream, str], Sequence[FileRow]],
    now: int,
    rules: Rules,
    *,
    final: bool,
) -> list[Job]:
    """Bars of the hours whose INPUTS are one file each and not the parents of their bars yet."""
    found: list[Job] = []
    closed = {(row.exchange, row.market_type, row.date) for row in view.days if row.kind in sources.TRADES}
    for exchange, market_type, date in sorted({(s[0], s[1], date) for s, date in hot if s[2] in kinds.BARS} - closed):
        streams = [stream for stream, day in hot if stream[:2] == (exchange, market_type) and day == date]
        if any(  # the final bars come next
            _closes(date, view.progress.get(stream, Progress()), now, rules, final=final)
            for stream in streams
            if stream[2] in sources.TRADES
        ):
            continue

        def of(hour: int, *names: str, market: Market = (exchange, market_type), day: str = date) -> list[FileRow]:
            return [row for name in names for row in hot.get(((*market, name), day), ()) if row.hour == hour]

        for hour in range(24):
            end = day_span(date).start + (hour + 1) * times.HOUR
            bars = of(hour, *kinds.BARS)
            inputs = tuple(of(hour, *sources.INPUTS))
            held = [row.kind for row in inputs]
            if not bars or len(held) != len(set(held)) or not set(held).intersection(sources.TRADES):
                continue
            if now < end + rules.hour_delay or view.bars_until.get((exchange, market_type), 0) < end:
                continue
            if _made_from(bars, inputs, end + rules.hour_delay):
                continue
            revision = 1 + max(row.revision for row in bars)
            found.append(HourBars(exchange, market_type, date, hour, revision, inputs, in_order(bars)))
    return found


def _made_from(bars: Sequence[FileRow], inputs: Sequence[FileRow], over: int) -> bool:
    """Whether the bars are one file of each width, made from exactly these inputs, and not before the hour was `over`
    (us): the transformer makes them so where it comes to an hour late, and to make them again would say the same.
    """
    wanted = {row.path for row in inputs}
    kinds_held = sorted(row.kind for row in bars)
    whole = all(set(row.parents) == wanted and (row.level == "hour" or row.created_at >= over) for row in bars)
    return whole and kinds_held == sorted(kinds.BARS)


def _bars(
    view: View,
    hot: Mapping[tuple[Stream, str], Sequence[FileRow]],
    days: Mapping[tuple[Stream, str], Sequence[FileRow]],
    now: int,
    rules: Rules,
    *,
    final: bool,
) -> list[Job]:
    """Final bars of days whose trades are closed, and whose quotes are, where there are any."""
    due = set(view.bars_due)
    due |= {(stream[0], stream[1], date) for stream, date in hot if stream[2] in kinds.BARS}
    found: list[Job] = []
    for exchange, market_type, date in due:
        ready = all(
            not hot.get(((exchange, market_type, kind), date))
            and _closes(date, view.progress.get((exchange, market_type, kind), Progress()), now, rules, final=final)
            for kind in sources.INPUTS
        )
        trades = [row for kind in sources.TRADES for row in days.get(((exchange, market_type, kind), date), ())]
        traded = {row.symbol or "" for row in trades if row.kind == sources.TRADE}
        trades = sources.files_of(trades, traded.union(view.traded.get((exchange, market_type, date), ())))
        if not ready or not trades:
            continue
        found.append(
            FinalBars(
                exchange,
                market_type,
                date,
                in_order(trades),
                in_order(days.get(((exchange, market_type, "quote"), date), ())),
                in_order(row for kind in kinds.BARS for row in days.get(((exchange, market_type, kind), date), ())),
                in_order(row for kind in kinds.BARS for row in hot.get(((exchange, market_type, kind), date), ())),
            )
        )
    return found
