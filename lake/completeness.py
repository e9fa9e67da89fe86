"""How complete an answer is: the snapshot it came from, up to when it holds all that was collected, and the gaps in it.

Tables and batches of `Lake` carry it in the metadata of their schema, under `lake`, as JSON; `of` reads it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import pyarrow as pa
from sqlalchemy import Connection, and_, func, select

from lake import schema
from lake.bars import LATENESS
from lake.manifest_reads import Snapshot
from lake.rows import FileRow
from lake.sources import bar_cursor
from market import times
from market.kinds import BARS
from market.session import Gap
from market.times import DAY, Interval

KEY = b"lake"
MOST_GAPS = 1000
"""Gaps that are named in one answer; the count is of all."""
Market = tuple[str, str]
Reached = Mapping[Market, int | None]
"""(exchange, market type) -> event time (us) up to which its rows can be read, None where nothing says so."""


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says of itself.

    Up to `complete_until` (us; None where the lake holds nothing of the kind) it has every row that was collected, but
    for `gaps`: the open and unrepairable ones inside the asked range, of the asked symbols. `manifest_version` names
    the snapshot: it grows with every change of the lake. `gap_count` counts all gaps, of which `gaps` are the first.
    """

    manifest_version: int
    complete_until: int | None
    gaps: tuple[Gap, ...] = ()
    gap_count: int = 0


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


def told(version: int, reached: Reached, span: Interval, gaps: Sequence[Gap]) -> Completeness:
    """Of an answer for `span` from one snapshot: the slowest of its markets counts."""
    known = list(reached.values())
    until = None if not known or None in known else min(time for time in known if time is not None)
    return Completeness(
        manifest_version=version,
        complete_until=None if until is None else min(until, span.end),
        gaps=tuple(gaps[:MOST_GAPS]),
        gap_count=len(gaps),
    )


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
