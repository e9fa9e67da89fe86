"""Which gaps hide bars: the same for `Lake`, SQL and whoever asks them.

A gap hides the bars of a symbol on the days on which they are made from its kind (`lake.sources`): one of aggregated
trades says nothing where trades were collected, and the other way round. Trades that somebody deleted hide nothing
while the bars that were made of them are there: those are as whole as they were. Bars that were deleted themselves are
gaps of their own kind, which hide what is made from that kind of bars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from lake import sources
from lake.manifest_reads import Snapshot, with_parents
from lake.reading import EVER
from lake.rows import FileRow
from market import times
from market.session import Coverage, Gap
from market.times import DAY, Interval, floor_to

DELETED = "deleted"
"""The cause of a gap of what somebody deleted."""
Names = str | Sequence[str] | None
"""What the manifest is asked for by name, None for all."""


def deletion(path: str) -> str:
    """The id of the gap that tells that the file of this path was deleted."""
    return f"{DELETED}-{hashlib.sha256(path.encode()).hexdigest()[:24]}"


def of_bars(
    snapshot: Snapshot, held: Sequence[Gap], exchange: Names, market_type: Names, symbols: Sequence[str] | None
) -> list[Gap]:
    """Those of `held` (of bars, trades and aggregated trades) that say something of bars, cut to the days of which they
    do.

    `symbols` are those that are asked for, None for all.
    """
    gaps = [gap for gap in held if gap.kind in sources.TRADES]
    own = [gap for gap in held if gap.kind not in sources.TRADES]
    if not gaps:
        return own
    last = None if any(gap.ts_to is None for gap in gaps) else max(gap.ts_to or 0 for gap in gaps)
    end = EVER.end if last is None else -floor_to(-last - 1, DAY)
    days = Interval(floor_to(min(gap.ts_from for gap in gaps), DAY), end)

    def collected(kind: str) -> list[Coverage]:
        return snapshot.coverage(exchange, market_type, kind, symbols, overlapping=days)

    aggregated = collected(sources.AGG_TRADE)
    if not aggregated and all(gap.kind == sources.TRADE for gap in gaps):
        return [*gaps, *own]
    return [*sources.of_bars(gaps, [*aggregated, *collected(sources.TRADE)], symbols or ()), *own]


def hiding(snapshot: Snapshot, gaps: Iterable[Gap], bars: Iterable[FileRow]) -> list[Gap]:
    """`gaps` without those of deleted trades whose bars are in `bars`, the files that are read."""
    held = list(gaps)
    gone = {(g.exchange, g.market_type, g.symbol, times.date_of(g.ts_from).isoformat()) for g in held if _deleted(g)}
    if not gone:
        return held
    mine = [f for f in bars if f.level == "day" and (f.exchange, f.market_type, f.symbol, f.date) in gone]
    made = snapshot.run(lambda conn: with_parents(conn, mine))
    still = {deletion(path) for file in made for path in file.parents}
    return [gap for gap in held if not _deleted(gap) or gap.gap_id not in still]


def _deleted(gap: Gap) -> bool:
    return gap.cause == DELETED and gap.kind in sources.TRADES
