"""How complete an answer is: the snapshot it came from, up to when it holds all that was collected, and the gaps in it.

Tables and batches of `Lake` carry it in the metadata of their schema, under `lake`, as JSON; `of` reads it back.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import msgspec
import pyarrow as pa
from sqlalchemy import Connection, and_, func, select

from lake import schema
from lake.bars import EVERY_SYMBOL, LATENESS
from lake.manifest_reads import BATCH, Snapshot, equal
from lake.reading import EVER, Wanted
from lake.rows import FileRow
from lake.sources import TRADES, bar_cursor
from market import times
from market.kinds import BARS
from market.session import Gap
from market.times import DAY, HOUR, Interval

KEY = b"lake"
MOST_GAPS = 1000
"""Gaps that are named in one answer; the count is of all."""
SOURCES = {**dict.fromkeys(BARS, TRADES), "book_sample": ("book_delta",)}
"""Kind that is made here -> what it is made of, which is what is collected."""
SHOWN = HOUR
"""How far coverage may end before the newest rows that can be read: it goes to what its connection has shown last."""
Market = tuple[str, str]
Reached = Mapping[Market, int | None]
"""(exchange, market type) -> event time (us) up to which its rows can be read, None where nothing says so."""


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says of itself.

    Up to `complete_until` (us; None where the lake holds nothing of the kind, or of one of the asked symbols, or where
    what was collected first is not among what is read: not transformed, not closed, not verified) it has
    every row that was collected, but for `gaps`: the open and unrepairable ones inside the asked range, of the asked
    symbols. `manifest_version` names the snapshot: it grows with every change of the lake. `gap_count` counts all gaps,
    of which `gaps` are the first. Of the symbols `unknown` nothing is known in the range: nobody collected them there,
    or nothing of them has come yet.
    """

    manifest_version: int
    complete_until: int | None
    gaps: tuple[Gap, ...] = ()
    gap_count: int = 0
    unknown: tuple[str, ...] = ()


def attach(table: pa.Table, told: Completeness) -> pa.Table:
    """The table with what is known of its completeness."""
    return table.replace_schema_metadata(metadata(told))


def metadata(told: Completeness) -> dict[bytes, bytes]:
    """What the schema of an answer carries."""
    return {KEY: msgspec.json.encode(told)}


def of(answer: pa.Table | pa.RecordBatch | pa.RecordBatchReader) -> Completeness | None:
    """What an answer of `Lake` says of its completeness; None where a table lost it on its way."""
    data = (answer.schema.metadata or {}).get(KEY)
    return None if data is None else msgspec.json.decode(data, type=Completeness)


def told(version: int, until: int | None, gaps: Sequence[Gap], unknown: tuple[str, ...] = ()) -> Completeness:
    """Of an answer from one snapshot, whose rows go `until` then."""
    return Completeness(
        manifest_version=version,
        complete_until=None if unknown else until,
        gaps=tuple(gaps[:MOST_GAPS]),
        gap_count=len(gaps),
        unknown=unknown,
    )


def until(reached: Reached, span: Interval) -> int | None:
    """Up to when an answer for `span` has what was collected: the slowest of its markets counts."""
    known = list(reached.values())
    return None if not known or None in known else min(span.end, *(time for time in known if time is not None))


def unknown(
    snapshot: Snapshot, kind: str, asked: Mapping[str, Sequence[Wanted]], files: Sequence[FileRow], span: Interval
) -> tuple[str, ...]:
    """Of the symbols that are asked for, each with its spellings, those of which nothing was collected in `span`.

    `files` are the live ones that may hold them: one that is of a symbol alone says that there is something of it.
    """
    held = {file.symbol for file in files}
    doubtful = {name: spelt for name, spelt in asked.items() if not any(one.symbol in held for one in spelt)}
    if not doubtful:
        return ()
    names = sorted({one.symbol for spelt in doubtful.values() for one in spelt if one.symbol is not None})
    said = [*names, EVERY_SYMBOL] if len(names) < BATCH else None
    found = snapshot.run(lambda conn: _covered(conn, SOURCES.get(kind, (kind,)), said, span))
    return tuple(name for name, spelt in doubtful.items() if not any(w.means(*row) for w in spelt for row in found))


def begun(snapshot: Snapshot, kind: str, markets: Container[Market], files: Iterable[FileRow], time: int) -> bool:
    """Whether anything of these markets was collected before `time`, of which `files` are the live ones: to be complete
    up to where collecting began says nothing.
    """
    if any(file.ts_min < time for file in files):
        return True
    kinds, before = SOURCES.get(kind, (kind,)), Interval(EVER.start, time)
    return any(row[:2] in markets for row in snapshot.run(lambda conn: _covered(conn, kinds, None, before)))


def _covered(
    conn: Connection, kinds: Sequence[str], symbols: list[str] | None, span: Interval
) -> set[tuple[str, str, str]]:
    """(exchange, market type, symbol) of which any of these kinds was collected in `span`. The table may have millions
    of rows: what is asked of it begins as its key does.
    """
    t, found = schema.coverage, set[tuple[str, str, str]]()
    market = _next(conn, "", "")
    while market is not None:
        here = equal(t, exchange=market[0], market_type=market[1], kind=list(kinds), symbol=symbols)
        inside = (t.c.ts_from < span.end, t.c.ts_to > span.start)
        rows = conn.execute(select(t.c.symbol).where(*here, *inside).distinct())
        found |= {(*market, row[0]) for row in rows}
        market = _next(conn, *market)
    return found


def _next(conn: Connection, exchange: str, market_type: str) -> tuple[str, str] | None:
    """The market that has coverage and comes behind this one."""
    t = schema.coverage
    of = select(func.min(t.c.market_type)).where(t.c.exchange == exchange, t.c.market_type > market_type)
    if (other := conn.execute(of).scalar_one()) is not None:
        return exchange, other
    behind = conn.execute(select(func.min(t.c.exchange)).where(t.c.exchange > exchange)).scalar_one()
    return None if behind is None else _next(conn, behind, "")


def reached(snapshot: Snapshot, kind: str, files: Iterable[FileRow]) -> dict[Market, int | None]:
    """How far the markets of these live files can be read: over closed days, then as far as segments were transformed.

    What is received later than `LATENESS` after its event may still come behind that; what was received and is not
    transformed yet stops it, closed days or not.
    """
    made: dict[Market, int | None] = {}
    for market, end in _closed(files).items():
        if kind in BARS:
            hot, waits = snapshot.cursor(bar_cursor(*market)), False
        else:
            hot, waits = _hot(snapshot, *market, kind)
        made[market] = hot if waits else max((at for at in (end, hot) if at is not None), default=None)
    return made


def reached_by_days(files: Iterable[FileRow], left_out: Iterable[FileRow]) -> dict[Market, int | None]:
    """How far closed days go of which none is `left_out`, and none is still hot."""
    held = list(files)
    closed = {(file.exchange, file.market_type, file.date) for file in held if file.level == "day"}
    missing = [f for f in held if f.level != "day" and (f.exchange, f.market_type, f.date) not in closed]
    made = _closed(held)
    for file in (*missing, *left_out):
        market, start = (file.exchange, file.market_type), times.parse(file.date)
        end = made.get(market)
        made[market] = start if end is None else min(end, start)
    return made


def _closed(files: Iterable[FileRow]) -> dict[Market, int | None]:
    """The end of the last closed day of each market, None of one that has none."""
    ends: dict[Market, int | None] = {}
    for file in files:
        market = (file.exchange, file.market_type)
        held = ends.setdefault(market, None)
        if file.level == "day":
            end = times.parse(file.date) + DAY
            ends[market] = end if held is None else max(held, end)
    return ends


def _hot(snapshot: Snapshot, exchange: str, market_type: str, kind: str) -> tuple[int | None, bool]:
    """How far a stream was transformed, and whether something of it waits for that."""
    t = schema.segments
    mine = and_(t.c.exchange == exchange, t.c.market_type == market_type, t.c.kind == kind)
    waits = select(func.min(t.c.period_start)).where(mine, t.c.state.in_(("open", "sealed")))
    ended = select(func.max(t.c.period_end)).where(mine, t.c.state.in_(("transformed", "deleting", "deleted")))

    def read(conn: Connection) -> tuple[int | None, bool]:
        time = conn.execute(waits).scalar_one()
        last = conn.execute(ended).scalar_one() if time is None else time
        return None if last is None else int(last) - LATENESS, time is not None

    return snapshot.run(read)
