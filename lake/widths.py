"""Which sessions brought candles of a width: a row of coverage says that candles were received, not how wide they are.

From live files and from segments that are no files yet, open ones among them: a stream that has just begun has no
other. What cannot be read is left out: it will be asked for, and stored, again.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from lake.errors import LakeError
from lake.manifest_reads import Snapshot
from lake.reading import EVER, Wanted, check, choose
from lake.segments import BadLine, read_lines
from market.kinds import Kline

CANDLE = "kline"
WAITING = ("open", "sealed")


def sessions_of(
    root: Path, snapshot: Snapshot, exchange: str, market_type: str, symbols: Collection[str], interval: str
) -> frozenset[tuple[str, str]]:
    """The (symbol, session) of these symbols that have a candle of `interval` in the lake."""
    found = widths_of(root, snapshot, exchange, market_type, symbols)
    return frozenset(which for which, widths in found.items() if interval in widths)


def widths_of(
    root: Path, snapshot: Snapshot, exchange: str, market_type: str, symbols: Collection[str]
) -> dict[tuple[str, str], frozenset[str]]:
    """(symbol, session) of these symbols -> the intervals of the candles that it brought."""
    if not symbols:
        return {}
    found = _of_files(root, snapshot, (exchange, market_type), symbols)
    for segment in snapshot.segments(exchange, market_type, CANDLE):
        path = root / segment.path
        if segment.state in WAITING and path.is_file():
            for event in read_lines(CANDLE, path.read_bytes()):
                if isinstance(event, Kline) and not isinstance(event, BadLine):
                    found.add((event.symbol, event.session, event.interval))
    told: dict[tuple[str, str], set[str]] = {}
    for symbol, session, interval in found:
        if symbol in symbols:
            told.setdefault((symbol, session), set()).add(interval)
    return {which: frozenset(widths) for which, widths in told.items()}


def _of_files(
    root: Path, snapshot: Snapshot, market: tuple[str, str], symbols: Collection[str]
) -> set[tuple[str, str, str]]:
    files = snapshot.files(CANDLE, exchange=market[0], market_type=market[1])
    chosen = choose(CANDLE, files, [Wanted(*market, symbol) for symbol in symbols], EVER).files
    try:
        check(root, chosen)
    except LakeError:
        return set()  # a damaged file is `dl verify`'s to report
    if not chosen:
        return set()
    names = [pl.col(name).cast(pl.String) for name in ("symbol", "session", "interval")]
    rows = (
        pl.scan_parquet([root / file.path for file in chosen], hive_partitioning=False, glob=False)
        .select(names)
        .drop_nulls()
        .unique()
        .collect()
    )
    return set(rows.iter_rows())
