"""Since when the trades of symbols are collected: what a venue tells of the time before is counted in no bar.

One rule for provisional bars, those of hours and final ones: all of a symbol's coverage counts, of whichever day.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from lake import sources
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot

_FIRST = text("""
    WITH RECURSIVE told(symbol) AS (
        SELECT min(symbol) FROM coverage WHERE exchange = :exchange AND market_type = :market_type AND kind = :kind
        UNION ALL
        SELECT (
            SELECT min(symbol) FROM coverage
            WHERE exchange = :exchange AND market_type = :market_type AND kind = :kind AND symbol > told.symbol
        ) FROM told WHERE symbol IS NOT NULL
    )
    SELECT symbol, (
        SELECT min(ts_from) FROM coverage
        WHERE exchange = :exchange AND market_type = :market_type AND kind = :kind AND symbol = told.symbol
    ) FROM told WHERE symbol IS NOT NULL
""")
"""From symbol to symbol along an index, for SQLite reads every row to group them: a million in a lake of years."""


def begun(manifest: Manifest | Snapshot, exchange: str, market_type: str) -> dict[str, int]:
    """Symbol -> the start (us) of its first coverage, by either kind of trades."""

    def read(conn: Connection) -> dict[str, int]:
        found: dict[str, int] = {}
        for kind in sources.TRADES:
            stream = {"exchange": exchange, "market_type": market_type, "kind": kind}
            for symbol, first in conn.execute(_FIRST, stream):
                found[symbol] = min(int(first), found.get(symbol, int(first)))
        return found

    return manifest.run(read)
