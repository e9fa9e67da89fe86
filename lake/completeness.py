"""How complete an answer is: the snapshot it came from, up to when it holds all that was collected, and the gaps in it.

Tables and batches of `Lake` carry it in the metadata of their schema, under `lake`, as JSON; `of` reads it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import pyarrow as pa
from sqlalchemy import and_, func, select

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

    What is received later than `LATENESS` after its event may still come behind that.
    """
    closed: dict[Market, int | None] = {}
    for file in files:
        market = (file.exchange, file.market_type)
        held = closed.setdefault(market, None)
        if file.level == "day":
            end = times.parse(file.date) + DAY
            closed[market] = end if held is None else max(held, end)
    return {
        market: max((at for at in (end, _hot(snapshot, *market, kind)) if at is not None), default=None)
        for market, end in closed.items()
    }


def _hot(snapshot: Snapshot, exchange: str, market_type: str, kind: str) -> int | None:
    if kind in BARS:
        return snapshot.cursor(bar_cursor(exchange, market_type))
    t = schema.segments
    mine = and_(t.c.exchange == exchange, t.c.market_type == market_type, t.c.kind == kind)
    waits = select(func.min(t.c.period_start)).where(mine, t.c.state.in_(("open", "sealed")))
    ended = select(func.max(t.c.period_end)).where(mine, t.c.state.in_(("transformed", "deleting", "deleted")))
    for statement in (waits, ended):
        time = snapshot.run(lambda conn, asked=statement: conn.execute(asked).scalar_one())  # type: ignore[misc] # bound at once
        if time is not None:
            return int(time) - LATENESS
    return None
