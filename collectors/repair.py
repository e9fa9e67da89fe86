"""Open gaps of one market, read and closed: what is known around them, and what the tables hold of their times.

What is to be done about them is decided by `repair_plan`; who asks is `backfill`, or `dl archive`'s machinery.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import polars as pl

from collectors.adapters.past import INTERVAL
from collectors.backfill import LACKING, offers
from collectors.files.archive import series
from collectors.history_plan import CANDLE, FOREVER, hole
from collectors.repair_plan import (
    ARCHIVE,
    ARCHIVED,
    FRAMED,
    REST,
    Asked,
    Known,
    Left,
    Sources,
    Tried,
    asked_of,
    has_road,
    rows_asked,
    symbols_of,
)
from collectors.repair_proofs import Found, proven_by_pages, verdict
from lake.checks import Ids
from lake.errors import CorruptFile
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.reader import Lake
from lake.rows import FRAMES, HISTORY, SegmentState, SessionRow
from lake.widths import widths_of
from lake.writer import LakeWriter
from market.errors import MarketError
from market.history import Absent, Offer
from market.kinds import KINDS
from market.session import EVERY_SYMBOL, Coverage, Exchange, Gap
from market.times import DAY, Interval, covers, date_of, union

ROADS = {HISTORY: REST, "archive": ARCHIVE}
"""Source of a session -> the road by which its rows came."""
CURSOR = "repair/"
"""How the names of cursors begin that remember failed attempts, a gap each."""
REREAD = "reread/"
"""How those begin that remember that the frames of a gap were read again."""
MINUTES, NO_WIDTH = frozenset({INTERVAL}), frozenset[str]()
"""Intervals of candles: what REST is asked for, and none."""
KEPT: tuple[SegmentState, ...] = ("sealed", "transformed")
UNDER_WAY: tuple[SegmentState, ...] = ("open", "sealed")
"""States of a segment whose rows are in no table yet."""


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which gaps are meant; None is any. Times us."""

    exchange: str | None = None
    market_type: str | None = None
    kind: str | None = None
    symbol: str | None = None
    start: int | None = None
    end: int | None = None

    @property
    def span(self) -> Interval | None:
        if self.start is None and self.end is None:
            return None
        return Interval(-FOREVER if self.start is None else self.start, FOREVER if self.end is None else self.end)

    def gaps(self, manifest: Manifest) -> list[Gap]:
        """The open ones."""
        return manifest.gaps(
            self.exchange, self.market_type, self.kind, self.symbol, state="open", overlapping=self.span
        )  # fmt: skip


def sources(exchange: Exchange | None, market_type: str, *, archive: bool = True) -> Sources:
    """What tells of a market's past: `exchange` is its adapter, None where there is none; `archive`: look there too."""
    if exchange is None:
        return Sources()
    published = series.load(exchange.NAME).datasets if archive and exchange.NAME in series.names() else ()
    files = {
        each.kind
        for each in published
        if each.kind in ARCHIVED and each.streamed and "daily" in each.paths.get(market_type, {})
        if market_type not in each.sized
    }
    offered: Mapping[str, Offer | Absent] | None
    try:
        offered = offers(exchange, market_type)
    except MarketError:
        offered = None
    fleeting = getattr(exchange, "FLEETING", {}).get(market_type, {})
    return Sources(offers=offered, archive=frozenset(files), fleeting=fleeting)


def known(manifest: Manifest, gaps: Sequence[Gap], told: Sources, now: int, *, patient: bool = True) -> Known:
    """What the lake tells around `gaps`, all of one market; little of those that nobody can be asked for. `now` us.
    Who is not `patient` knows of no attempt before.
    """
    ended = [gap for gap in gaps if gap.ts_to is not None]
    before = tried(manifest, ended) if patient else {}
    rests = {name for name, one in before.items() if now < one.again}
    asks = [gap for gap in ended if has_road(gap, told)]
    with manifest.snapshot() as held:
        rows = {row for gap in asks for row in _near(held, gap)}
        past = _past(held, {row.session for row in rows})
        lacking = {gap.gap_id: gap for one in asks for gap in _lacking(held, one)}
        candles = [
            gap for gap in asks if gap.kind == CANDLE and (gap.gap_id not in rests or _may_close(gap, rows, past))
        ]
        widths: Mapping[tuple[str, str], frozenset[str]] = {}
        if candles:
            market = (candles[0].exchange, candles[0].market_type)
            widths = widths_of(manifest.root, held, *market, {row.symbol for row in rows if row.kind == CANDLE})
        framed = [gap for gap in ended if gap.cause in FRAMED and gap.gap_id not in rests and gap not in asks]
        frames = _frames(held, framed[0].exchange, framed[0].market_type) if framed else []
    return Known(
        reread=reread(manifest, ended),
        asked=[
            Asked(row.kind, row.symbol, Interval(row.ts_from, row.ts_to), ROADS[past[row.session].source], row.session,
                  past[row.session].opened_at,
                  MINUTES if past[row.session].source == HISTORY else widths.get((row.symbol, row.session), NO_WIDTH))
            for row in sorted(rows, key=lambda row: (row.kind, row.symbol, row.ts_from, row.session))
            if row.session in past
        ],
        streamed=[row for row in rows if row.session not in past],
        lacking=list(lacking.values()),
        widths=widths,
        frames=frames,
        tried=before,
    )  # fmt: skip


def tried(manifest: Manifest, gaps: Iterable[Gap]) -> dict[str, Tried]:
    """Attempts at these that came to nothing, by the name of the gap."""
    values = {gap.gap_id: manifest.cursor(CURSOR + gap.gap_id) for gap in gaps}
    return {name: _unpacked(value) for name, value in values.items() if value}


def _near(held: Snapshot, gap: Gap) -> list[Coverage]:
    """Coverage around a gap; of candles, which may be wide, of the day before and after too."""
    span, more = hole(gap), DAY if gap.kind == CANDLE else 1
    symbol = None if gap.symbol == EVERY_SYMBOL else gap.symbol
    around = Interval(span.start - more, span.end + more)
    return held.coverage(gap.exchange, gap.market_type, gap.kind, symbol, overlapping=around)


def _may_close(gap: Gap, rows: Iterable[Coverage], past: Mapping[str, SessionRow]) -> bool:
    """Whether somebody asked for candles on all of the time of a gap."""
    came = (row for row in rows if (row.kind, row.symbol) == (CANDLE, gap.symbol) and row.session in past)
    return covers([Interval(row.ts_from, row.ts_to) for row in came], hole(gap))


def _past(held: Snapshot, names: Iterable[str]) -> dict[str, SessionRow]:
    """The sessions among these that asked for what is past."""
    rows = (row for name in names for row in held.sessions(session=name))
    return {row.session: row for row in rows if row.source in ROADS}


def _lacking(held: Snapshot, gap: Gap) -> list[Gap]:
    found = held.gaps(
        gap.exchange, gap.market_type, gap.kind, gap.symbol, state="unrepairable", overlapping=hole(gap)
    )  # fmt: skip
    return [one for one in found if one.cause == LACKING]


def _frames(held: Snapshot, exchange: str, market_type: str) -> list[Interval]:
    """When (receive time) frames are kept of."""
    return union(
        Interval(row.period_start, row.period_end)
        for state in KEPT
        for row in held.segments(exchange, market_type, FRAMES, state)
        if row.rows and row.period_end is not None
    )


def reread(manifest: Manifest, gaps: Iterable[Gap]) -> dict[str, int]:
    """Gaps whose frames were read again, and the rows that came."""
    values = {gap.gap_id: manifest.cursor(REREAD + gap.gap_id) for gap in gaps if gap.cause in FRAMED}
    return {name: value - 1 for name, value in values.items() if value}


def note_reread(writer: LakeWriter, rows: Mapping[str, int], now: int) -> None:
    """That the frames of these gaps were read again, and how many rows came. Raises StorageFailed, Fenced."""
    writer.publish(cursors={REREAD + name: count + 1 for name, count in rows.items()}, now=now)


def count(root: Path, gap: Gap) -> int:
    """Rows that the tables hold of a gap's time. Raises CorruptFile."""
    span = hole(gap)
    with Lake(root) as lake:
        rows = lake.scan(
            gap.kind, exchange=gap.exchange, market_type=gap.market_type,
            symbol=None if gap.symbol == EVERY_SYMBOL else gap.symbol, start=span.start, end=span.end,
            across_listings=True,
        )  # fmt: skip
        return int(rows.select(pl.len()).collect().item())


def remember(
    writer: LakeWriter, gaps: Iterable[Gap], before: Mapping[str, Tried], now: int, early: Iterable[Gap] = ()
) -> None:
    """That an attempt at these failed: they are left alone for a while, by a later run too. What was asked for `early`
    has not failed: it is left alone until it is final.
    """
    told: dict[str, Tried] = {}
    for failed, mine in ((1, gaps), (0, early)):
        for name in (gap.gap_id for gap in mine):
            told[name] = Tried(now, failed + (before[name].times if name in before else 0))
    if told:
        writer.publish(cursors={CURSOR + name: _packed(one) for name, one in told.items()}, now=now)


def _packed(tried: Tried) -> int:
    return tried.at * 256 + min(tried.times, 255)


def _unpacked(value: int) -> Tried:
    return Tried(value // 256, value % 256)


def close(writer: LakeWriter, gaps: Sequence[Gap], told: Sources, now: int) -> tuple[list[Gap], list[Left]]:
    """The verdicts on those of `gaps`, all of one market, of which everything was asked for: gaps that are closed,
    which are written down, and why others are not. Reads tables: call it in a thread where a loop runs.

    Raises StorageFailed, Fenced.
    """
    if not gaps:
        return [], []
    around = known(writer.manifest, gaps, told, now)
    lacking = {gap.gap_id: gap for gap in around.lacking}
    told_already = [lacking[gap.gap_id] for gap in gaps if gap.gap_id in lacking]
    closed: list[Gap] = []
    left: list[Left] = []
    with Lake(writer.root) as lake:
        for gap in gaps:
            symbols = symbols_of(gap, around)
            whole = gap.ts_to is not None and symbols and gap.gap_id not in lacking
            if not whole or not all(covers(asked_of(gap, one, around), hole(gap)) for one in symbols):
                continue
            try:
                found = None if proven_by_pages(gap, told) else stored(lake, gap, around)
            except CorruptFile as error:
                left.append(Left(gap, f"all of it was asked for; the verdict waits for a whole file: {error.message}"))
                continue
            match verdict(gap, told, around, found, now):
                case Left() as one:
                    left.append(one)
                case row:
                    closed.append(row)
    if closed:
        writer.record(gaps=closed, now=now)
    return [*told_already, *closed], left


def stored(lake: Lake, gap: Gap, around: Known) -> Found | None:
    """What the tables hold of a gap's time; None while what was asked for is not all in them."""
    span = hole(gap)
    names = {row.session for symbol in symbols_of(gap, around) for row in rows_asked(gap, symbol, around)}
    if lake.manifest.run(lambda conn: _waits(Snapshot(conn), gap, around)):
        return None
    rows = lake.scan(
        gap.kind, exchange=gap.exchange, market_type=gap.market_type,
        symbol=None if gap.symbol == EVERY_SYMBOL else gap.symbol, start=span.start, end=span.end,
        across_listings=True,
    )  # fmt: skip
    seq = KINDS[gap.kind].seq
    key = [name for name in KINDS[gap.kind].key if name not in ("source", "revision")]
    asked = pl.col("session").cast(pl.String).is_in(sorted(names))
    rows = rows.select(*dict.fromkeys(["symbol", "session", "ts_event", *key, *([seq] if seq else [])]))
    # what both brought is one row already, but of kinds whose key tells sources apart
    mine, others = rows.filter(asked), rows.filter(~asked)
    if len(key) < len(KINDS[gap.kind].key):
        mine = mine.join(others, on=["symbol", *key], how="anti")
    new = int(mine.select(pl.len()).collect().item())
    if gap.missing is None or seq is None:
        return Found(new)
    ids, held = Ids(), rows.select(seq, "ts_event").collect()
    ids.add(held.get_column(seq), held.get_column("ts_event"))
    return Found(new, ids.runs())


def _waits(now: Snapshot, gap: Gap, around: Known) -> bool:
    """Whether rows of who asked for a gap may still be in segments, or in front of a closed day."""
    stream, span = (gap.exchange, gap.market_type, gap.kind), hole(gap)
    names = {row.session for row in around.asked if row.kind == gap.kind and row.span.overlaps(span)}
    ends = [row.closed_at for row in _past(now, names).values()]
    if None in ends:
        return True
    last = max((end for end in ends if end is not None), default=0)
    for state in UNDER_WAY:
        if any(row.period_start <= last for row in now.segments(*stream, state)):
            return True
    first, final = (date_of(at).isoformat() for at in (span.start, span.end - 1))
    files = now.files(gap.kind, exchange=gap.exchange, market_type=gap.market_type, date_from=first, date_to=final)
    days = {row.date for row in files if row.level == "day"}
    return any(row.level != "day" and row.date in days for row in files)


def markets(gaps: Iterable[Gap]) -> dict[tuple[str, str], list[Gap]]:
    """Gaps by market."""
    found: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        found.setdefault((gap.exchange, gap.market_type), []).append(gap)
    return found
