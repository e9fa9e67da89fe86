"""Since when the trades of symbols are collected: what a venue tells of the time before is counted in no bar.

One rule for provisional bars, those of hours and final ones: all of a symbol's coverage counts, of whichever day.
"""

from __future__ import annotations

from sqlalchemy import func, select

from lake import schema, sources
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot


def begun(manifest: Manifest | Snapshot, exchange: str, market_type: str) -> dict[str, int]:
    """Symbol -> the start (us) of its first coverage, by either kind of trades."""
    t = schema.coverage
    mine = (t.c.exchange == exchange, t.c.market_type == market_type, t.c.kind.in_(sources.TRADES))
    first = select(t.c.symbol, func.min(t.c.ts_from)).where(*mine).group_by(t.c.symbol)
    return manifest.run(lambda conn: {row[0]: int(row[1]) for row in conn.execute(first)})
