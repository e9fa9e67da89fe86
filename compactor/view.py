"""Reads from the manifest what the pure plans need, and names the cursors in which the compactor remembers things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from sqlalchemy import Connection, and_, func, select, union_all

from compactor import retention
from compactor.book_plan import day_before
from compactor.jobs import Progress, Stream, View, day_span
from lake import schema, sources, steps
from lake.books import KIND as BOOKS
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot, chunks, with_parents
from lake.rows import FRAMES, FileRow, SegmentRow
from market import kinds, times
from market.times import DAY

CARRY_DUE = "compactor/carry/"
"""+ exchange/market_type/date: 1 while the books of that day may have to open anew, for the day before has changed."""
SAMPLES_DUE = "compactor/samples/"
"""+ exchange/market_type/date: 1 while the books of that day are to be sampled."""
FAILED = "compactor/failed/"
"""+ job key: how often that job failed on the same inputs."""
BARS_UNTIL = "bars/"
"""+ exchange/market_type: up to which time (us) the transformer has written provisional bars."""
REHASHED = "compactor/rehashed/"
"""+ exchange/market_type/kind/date: when the newest of the daily files that were read again was made (us)."""
_FRAMES_KEPT = (
    schema.segments.c.state.in_(("sealed", "transformed", "quarantined")),
    schema.segments.c.kind == FRAMES,
    schema.segments.c.rows > 0,
)


def carry_due(exchange: str, market_type: str, date: str) -> str:
    return f"{CARRY_DUE}{exchange}/{market_type}/{date}"


def samples_due(exchange: str, market_type: str, date: str) -> str:
    return f"{SAMPLES_DUE}{exchange}/{market_type}/{date}"


def rehashed(stream: Stream, date: str) -> str:
    return f"{REHASHED}{'/'.join(stream)}/{date}"


def cursors(manifest: Manifest | Snapshot, prefix: str) -> dict[str, int]:
    """Cursors below `prefix` that are not zero, by what follows it."""
    t = schema.cursors
    wanted = select(t.c.name, t.c.value).where(t.c.name.startswith(prefix, autoescape=True), t.c.value != 0)
    return manifest.run(lambda conn: {row[0].removeprefix(prefix): int(row[1]) for row in conn.execute(wanted)})


def read(manifest: Manifest) -> View:
    """What there is to plan with, as of one moment. Costs what is hot, not what the lake holds."""
    return manifest.run(lambda conn: _read(Snapshot(conn)))


def _read(manifest: Snapshot) -> View:
    hot = [*manifest.files(level="part"), *manifest.files(level="hour", parents=True)]
    manifest.run(lambda conn: with_parents(conn, _whole_hours(hot)))
    due = frozenset(_due(name) for name in cursors(manifest, sources.BARS_DUE))
    carry, samples = (frozenset(map(_due, cursors(manifest, name))) for name in (CARRY_DUE, SAMPLES_DUE))
    dates = {(row.exchange, row.market_type, row.date) for row in hot} | due | carry | samples
    days = [
        row
        for exchange, market_type, date in sorted(dates)
        for row in manifest.files(
            exchange=exchange, market_type=market_type, level="day", date_from=date, date_to=date, parents=True
        )
    ]
    markets = {(exchange, market_type) for exchange, market_type, _ in dates}
    streams = {(row.exchange, row.market_type, row.kind) for row in hot}
    streams |= {(*market, kind) for market in markets for kind in sources.INPUTS}
    progress = {stream: _progress(manifest, stream) for stream in sorted(streams) if stream[2] not in kinds.BARS}
    until = {market: manifest.cursor(BARS_UNTIL + "/".join(market)) or 0 for market in sorted(markets)}
    before = _before(manifest, {(r.exchange, r.market_type, r.date) for r in hot if r.kind == BOOKS} | carry)
    failures, traded = cursors(manifest, FAILED), _traded(manifest, days)
    return View(hot, days, progress, due, until, failures, traded, before, carry, samples)


def _whole_hours(hot: Iterable[FileRow]) -> list[FileRow]:
    """Parts of bars that are the only one of their width and hour, as the transformer makes them of hours that were
    over: whether they were made from all that there is now, their parents say. Others are many, and nobody asks.
    """
    held: dict[tuple[str, str, str, str, int | None], list[FileRow]] = {}
    for row in hot:
        if row.kind in kinds.BARS:
            held.setdefault((row.exchange, row.market_type, row.kind, row.date, row.hour), []).append(row)
    return [row for (row, *more) in held.values() if not more and row.level == "part"]


def _before(manifest: Snapshot, dates: Iterable[tuple[str, str, str]]) -> list[FileRow]:
    """The daily files of book updates of the days before."""
    found: list[FileRow] = []
    for exchange, market_type, date in sorted(dates):
        day = day_before(date)
        found += manifest.files(
            BOOKS, exchange=exchange, market_type=market_type, level="day", date_from=day, date_to=day
        )
    return found


def _traded(manifest: Snapshot, days: Iterable[FileRow]) -> dict[tuple[str, str, str], frozenset[str]]:
    """Who has trade coverage, of the days that have aggregated trades: elsewhere nobody asks."""
    made: dict[tuple[str, str, str], frozenset[str]] = {}
    for exchange, market_type, date in {
        (row.exchange, row.market_type, row.date) for row in days if row.kind == sources.AGG_TRADE
    }:
        day = day_span(date)
        coverage = manifest.coverage(exchange, market_type, sources.TRADE, overlapping=day)
        made[exchange, market_type, date] = sources.traded(coverage, day.start)
    return made


def _due(name: str) -> tuple[str, str, str]:
    exchange, market_type, date = name.split("/")
    return exchange, market_type, date


def _progress(manifest: Snapshot, stream: Stream) -> Progress:
    t, (exchange, market_type, kind) = schema.segments, stream
    mine = and_(t.c.exchange == exchange, t.c.market_type == market_type, t.c.kind == kind)
    waits = select(func.min(t.c.period_start)).where(mine, t.c.state == "sealed", t.c.rows > 0)
    still = select(t.c.path).where(mine, t.c.state == "open").limit(1)
    waiting_from, is_open = manifest.run(lambda conn: (conn.execute(waits).scalar_one(), conn.execute(still).first()))
    return Progress(watermark=manifest.watermark(*stream), open=is_open is not None, waiting_from=waiting_from)


def raw_segments(manifest: Manifest) -> list[SegmentRow]:
    """Everything that retention may let go of: transformed segments and sealed frames files."""
    frames = [row for state in ("sealed", "transformed") for row in _frames(manifest, state)]
    return [*(row for row in manifest.segments(state="transformed") if row.kind != FRAMES), *frames]


def _frames(manifest: Manifest, state: str) -> list[SegmentRow]:
    return manifest.segments(kind=FRAMES, state="sealed" if state == "sealed" else "transformed")


def newest(manifest: Manifest) -> int | None:
    """When (us) the newest thing was written down; None in an empty lake."""
    s, t = schema.segments, schema.scrubs  # what is live, and lines that were made rows, have a time in `scrubs`
    waiting = select(func.max(s.c.recorded_at)).where(s.c.state.in_(("open", "sealed")))
    both = union_all(select(func.max(t.c.at)), waiting).subquery()
    found = manifest.run(lambda conn: conn.execute(select(func.max(both.c[0]))).scalar_one())
    return None if found is None else int(found)


def day_states(manifest: Manifest, segments: Iterable[SegmentRow]) -> dict[tuple[Stream, str], retention.DayState]:
    """The state of every stream's day that rows of these segments belong to. A question a stream, however many days."""
    wanted: dict[Stream, set[str]] = {}
    for row in segments:
        if row.kind != FRAMES and row.rows:
            wanted.setdefault((row.exchange, row.market_type, row.kind), set()).update(retention.dates(row))
    seen: Mapping[str, int] = cursors(manifest, REHASHED)
    states: dict[tuple[Stream, str], retention.DayState] = {}
    for stream, dates in wanted.items():
        closed = _closed(manifest, stream, sorted(dates))
        for date in dates:
            at = closed.get(date)
            again = at is not None and seen.get(f"{'/'.join(stream)}/{date}") == at
            states[stream, date] = retention.DayState(at, again)
    return states


def _closed(manifest: Manifest, stream: Stream, dates: Sequence[str]) -> dict[str, int]:
    """Those of these days that have daily files and nothing hot, and when (us) the newest file was made."""
    t, (exchange, market_type, kind) = schema.files, stream
    live = (t.c.state == "live", t.c.kind == kind, t.c.exchange == exchange, t.c.market_type == market_type)
    asked = select(t.c.date, func.max(t.c.created_at)).group_by(t.c.date).having(func.min(t.c.level == "day") == 1)

    def read(conn: Connection) -> dict[str, int]:
        found: dict[str, int] = {}
        for some in chunks(dates):
            found |= {date: int(at) for date, at in conn.execute(asked.where(*live, t.c.date.in_(some)))}
        return found

    return manifest.run(read)


def day_files(manifest: Manifest, stream: Stream, date: str) -> list[FileRow]:
    """Live files of one stream and day, hot ones too."""
    exchange, market_type, kind = stream
    return manifest.files(kind, exchange=exchange, market_type=market_type, date_from=date, date_to=date)


def framed_dates(manifest: Manifest) -> list[str]:
    """Dates (UTC) of which frames are kept, the newest first."""
    t = schema.segments
    span = select(func.min(t.c.period_start), func.max(t.c.period_end)).where(*_FRAMES_KEPT)
    first, end = manifest.run(lambda conn: conn.execute(span).one())
    if first is None or end is None:
        return []
    return [times.date_of(start).isoformat() for start in range(times.floor_to(end - 1, DAY), first - DAY, -DAY)]


def frames_of(manifest: Snapshot, date: str) -> list[SegmentRow]:
    """Frames files that are kept with frames of a day."""
    t, day = schema.segments, day_span(date)
    columns = [t.c[name] for name in SegmentRow.__struct_fields__]
    mine = select(*columns).where(*_FRAMES_KEPT, t.c.period_start < day.end, t.c.period_end > day.start)
    return manifest.run(lambda conn: [SegmentRow(**row) for row in conn.execute(mine).mappings()])


def closed_day(manifest: Snapshot, date: str) -> list[FileRow]:
    """The daily files of a date, of all markets."""
    markets = {stream[:2] for stream in manifest.streams()}
    return [
        row
        for exchange, market_type in sorted(markets)
        for row in manifest.files(
            exchange=exchange, market_type=market_type, level="day", date_from=date, date_to=date
        )
    ]  # fmt: skip


def newest_days(manifest: Snapshot, kind: str, count: int) -> list[FileRow]:
    """The daily files of a kind of the `count` newest dates that have any, of all markets."""
    found: list[FileRow] = []
    for exchange, market_type in sorted({stream[:2] for stream in manifest.streams() if stream[2] == kind}):
        place = {"state": "live", "kind": kind, "exchange": exchange, "market_type": market_type}
        before, held = partial(steps.before, table=schema.files, name="date", given=place), 0
        date = manifest.run(before)
        while date is not None and held < count:
            rows = manifest.files(
                kind, exchange=exchange, market_type=market_type, level="day", date_from=date, date_to=date
            )
            held += bool(rows)
            found += rows
            date = manifest.run(partial(before, limit=date))
    dates = sorted({row.date for row in found}, reverse=True)[:count]
    return [row for row in found if row.date in dates]
