"""Our trades against a venue's own list of them, by id both ways and value by value. Pure.

Both sides go by once, in pieces; what has found its twin is let go of. Memory is two pieces, and what one side lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import polars as pl
import pyarrow as pa

from lake.audit_words import CHANGED, EXTRA_ID, FILLED, MISSING_ID, NOT_COLLECTED, OFF_BOOK, UNNOTICED, Difference
from lake.merge import plain_frame
from market.kinds import COUNTED_CONDITIONS
from market.times import MINUTE, MS, Interval, union

COLUMNS = (
    "seq", "ts_event", "price", "price_text", "qty", "qty_text", "side", "condition", "source",
)  # fmt: skip
_VALUES = ("price", "price_text", "qty", "qty_text", "side")
_SETTLED = 5 * MINUTE
"""So much later in time no twin of a row is waited for any more."""
SHOWN = 5


class Explaining(msgspec.Struct, frozen=True):
    """What explains an id that we lack: gaps that name ids, gaps of time, and when trades were collected."""

    ids: Sequence[Interval]
    dark: Sequence[Interval]
    light: Sequence[Interval]


class IdsCompared(msgspec.Struct):
    """`theirs` ids of the list, `same` of them; every sort of difference with its count and first examples."""

    theirs: int = 0
    same: int = 0
    counts: dict[str, int] = {}
    examples: list[Difference] = []

    def take(self, what: str, rows: pl.DataFrame, says: str) -> None:
        """Rows (`seq`, `ts_event`) that differ in this way; `says` follows their id."""
        if rows.is_empty():
            return
        before = self.counts.get(what, 0)
        self.counts[what] = before + rows.height
        for seq, at in rows.select("seq", "ts_event").head(max(0, SHOWN - before)).iter_rows():
            self.examples.append(Difference(what, at, f"id {seq} {says}"))


def rows_of(table: pa.Table) -> pl.DataFrame:
    """What of rows of `trade` is compared, times in us."""
    return plain_frame(table.select(list(COLUMNS))).with_columns(pl.col("ts_event").to_physical())


def by_id(ours: Iterable[pl.DataFrame], theirs: Iterable[pl.DataFrame], known: Explaining) -> IdsCompared:
    """Both sides as `rows_of` gives them, of one symbol and day, by rising time.

    Times are compared to the millisecond, which is all that streams give.
    """
    found = IdsCompared(counts={}, examples=[])
    more = iter(ours)
    mine = pl.DataFrame()
    left = pl.DataFrame()
    reached = -1
    for batch in theirs:
        if batch.is_empty():
            continue
        found.theirs += batch.height
        last = int(batch["ts_event"][-1])
        pieces = [mine]
        while reached < last and (piece := _next(more, found)) is not None:
            reached = int(piece["ts_event"][-1])
            pieces.append(piece)
        mine, left = _matched(_joined(pieces), _joined([left, batch]), found)
        mine, left = _settled(mine, left, last - _SETTLED, known, found)
    while (piece := _next(more, found)) is not None:
        mine, left = _matched(_joined([mine, piece]), left, found)
        mine, left = _settled(mine, left, int(piece["ts_event"][-1]) - _SETTLED, known, found)
    _settled(mine, left, None, known, found)
    found.counts = dict(sorted(found.counts.items()))
    return found


def _next(more: Iterator[pl.DataFrame], found: IdsCompared) -> pl.DataFrame | None:
    """The next piece of ours that has rows; what the list itself brought in is counted."""
    for piece in more:
        if piece.height:
            filled = piece.filter(pl.col("source") == "archive").height
            if filled:
                found.counts[FILLED] = found.counts.get(FILLED, 0) + filled
            return piece
    return None


def _joined(pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
    held = [piece for piece in pieces if piece.height]
    return pl.concat(held) if held else pl.DataFrame()


def _matched(mine: pl.DataFrame, left: pl.DataFrame, found: IdsCompared) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Twins compared and let go of: what is left of both."""
    if mine.is_empty() or left.is_empty():
        return mine, left
    both = left.join(mine, on="seq", suffix="_ours", maintain_order="left")
    same = pl.all_horizontal(
        pl.col("ts_event") // MS == pl.col("ts_event_ours") // MS,
        *(pl.col(name).eq_missing(pl.col(f"{name}_ours")) for name in _VALUES),
    )
    other = both.filter(~same)
    found.same += both.height - other.height
    for row in other.head(SHOWN).iter_rows(named=True):
        names = [name for name in ("ts_event", "price", "qty", "side") if row[name] != row[f"{name}_ours"]]
        says = ", ".join(f"{name} {row[f'{name}_ours']}, the venue's list says {row[name]}" for name in names)
        found.take(CHANGED, other.filter(pl.col("seq") == row["seq"]), f"has {says}")
    if other.height > SHOWN:
        found.take(CHANGED, other.slice(SHOWN), "has other values")
    return mine.join(left, on="seq", how="anti"), left.join(mine, on="seq", how="anti")


def _settled(
    mine: pl.DataFrame, left: pl.DataFrame, edge: int | None, known: Explaining, found: IdsCompared
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What one side alone has for good, told with its reason; the rest waits."""
    gone, missing = (_before(frame, edge) for frame in (mine, left))
    if not gone.is_empty():
        counted = pl.col("condition").is_in([*COUNTED_CONDITIONS, "history"])
        found.take(OFF_BOOK, gone.filter(~counted), "is none of the venue's list, and no trade of the book")
        found.take(EXTRA_ID, gone.filter(counted), "is not in the venue's list")
    if not missing.is_empty():
        dark = within(missing["seq"], known.ids) | within(missing["ts_event"], known.dark)
        light = within(missing["ts_event"], known.light)
        found.take(MISSING_ID, missing.filter(dark), "is in a gap")
        found.take(NOT_COLLECTED, missing.filter(~dark & ~light), "is of a time that was not collected")
        found.take(UNNOTICED, missing.filter(~dark & light), "is missing, and no gap says so")
    if edge is None:
        return pl.DataFrame(), pl.DataFrame()
    return _after(mine, edge), _after(left, edge)


def _before(frame: pl.DataFrame, edge: int | None) -> pl.DataFrame:
    return frame if edge is None or frame.is_empty() else frame.filter(pl.col("ts_event") < edge)


def _after(frame: pl.DataFrame, edge: int) -> pl.DataFrame:
    return frame if frame.is_empty() else frame.filter(pl.col("ts_event") >= edge)


def within(values: pl.Series, intervals: Sequence[Interval]) -> pl.Series:
    """Which values lie in one of the intervals."""
    held = union(intervals)
    if not held:
        return pl.repeat(value=False, n=values.len(), dtype=pl.Boolean, eager=True)
    starts = pl.Series([one.start for one in held], dtype=pl.Int64)
    ends = pl.Series([one.end for one in held], dtype=pl.Int64)
    place = starts.search_sorted(values, side="right").cast(pl.Int64) - 1
    return (place >= 0) & (values < ends.gather(place.clip(lower_bound=0)))
