"""What a lake has measured of its own streams: rows a day, bytes a row, frames a row. Reads the manifest only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lake.errors import LakeError
from lake.lasting import lasting
from lake.layout import MANIFEST
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.rows import FRAMES
from market.session import EVERY_SYMBOL
from market.times import DAY, SECOND, Interval

LATELY = 7 * DAY
LEAST = 600 * SECOND
"""A stream that was collected for less has measured nothing."""
Market = tuple[str, str]
Lane = tuple[str, str, str]


class Own(msgspec.Struct, frozen=True):
    """One kind of one market: rows a day in all, of how many symbols, from how much time (us)."""

    rows: float
    symbols: int
    span: int
    raw: float
    """Bytes a line."""
    hot: float | None = None
    table: float | None = None
    """Bytes a row of parts, and of daily files; None where there are none yet."""
    by_symbol: Mapping[str, float] = {}
    """Rows of the fullest closed day of each symbol that has any: days may have begun late."""

    @property
    def mean(self) -> float:
        """Rows a day of one symbol."""
        return self.rows / max(1, self.symbols)


class Lake(msgspec.Struct, frozen=True):
    """What one lake knows."""

    lanes: Mapping[Lane, Own] = {}
    frames: Mapping[Market, float] = {}
    """Bytes of frames a byte of raw."""
    statuses: Mapping[Market, Mapping[str, str]] = {}
    """Instruments of markets: symbol -> status."""


def measured(root: Path, markets: set[Market], now: int) -> Lake:
    """What the lake in `root` has measured in the last days; nothing where there is none, or none that can be read."""
    if not (root / MANIFEST).is_file():
        return Lake()
    try:
        manifest = Manifest.read_only(root)
    except LakeError:
        return Lake()
    try:
        with manifest.snapshot() as snapshot:
            lanes = _lanes(snapshot, now)
            known = {market: lasting(root, snapshot, *market).contracts for market in markets}
            statuses = {market: {one.symbol: one.status for one in held} for market, held in known.items() if held}
            return Lake(lanes, _frames(snapshot, now), statuses)
    finally:
        manifest.close()


def _lanes(snapshot: Snapshot, now: int) -> dict[Lane, Own]:
    rows: dict[Lane, int] = defaultdict(int)
    size: dict[Lane, int] = defaultdict(int)
    span: dict[Lane, int] = defaultdict(int)
    for row in snapshot.segments():
        if row.period_end is None or row.period_end < now - LATELY or row.kind == FRAMES:
            continue
        lane = (row.exchange, row.market_type, row.kind)
        rows[lane] += row.rows
        size[lane] += row.bytes
        span[lane] += row.period_end - row.period_start
    stored = _stored(snapshot)
    found = {}
    for lane, lines in rows.items():
        if span[lane] < LEAST or not lines:
            continue
        covered = snapshot.coverage(*lane, overlapping=Interval(now - LATELY, now))
        symbols = len({row.symbol for row in covered if row.symbol != EVERY_SYMBOL})
        hot, table, days = stored.get(lane, (None, None, {}))
        found[lane] = Own(lines * DAY / span[lane], symbols, span[lane], size[lane] / lines, hot, table, days)
    return found


def _stored(snapshot: Snapshot) -> dict[Lane, tuple[float | None, float | None, dict[str, float]]]:
    """Lane -> bytes a row of parts and hours, of daily files, and rows a day by symbol."""
    totals: dict[tuple[Lane, bool], list[int]] = defaultdict(lambda: [0, 0])
    days: dict[Lane, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in snapshot.files():
        lane = (row.exchange, row.market_type, row.kind)
        total = totals[lane, row.level == "day"]
        total[0] += row.rows
        total[1] += row.bytes
        if row.level == "day" and row.symbol is not None:
            days[lane][row.symbol].append(row.rows)

    def each(lane: Lane, *, day: bool) -> float | None:
        rows, size = totals.get((lane, day), [0, 0])
        return size / rows if rows else None

    return {
        lane: (
            each(lane, day=False), each(lane, day=True),
            {symbol: float(max(rows)) for symbol, rows in days[lane].items()},
        )
        for lane in {lane for lane, _ in totals}
    }  # fmt: skip


def _frames(snapshot: Snapshot, now: int) -> dict[Market, float]:
    kept: dict[Market, int] = defaultdict(int)
    raw: dict[Market, int] = defaultdict(int)
    for row in snapshot.segments():
        if row.period_end is not None and row.period_end >= now - LATELY:
            (kept if row.kind == FRAMES else raw)[row.exchange, row.market_type] += row.bytes
    return {market: size / raw[market] for market, size in kept.items() if size and raw[market]}
