"""Which parts of a time the lake leaves open for a book that was recorded elsewhere and whose updates have other ids.

Updates of two numberings cannot be told to be the same, and none of one follows one of the other. So what the lake
covers, and the updates that it has beside that, go first; another recording may tell of what is between. Where the
lake's own updates join across such a time by their ids, nothing is missing in it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl

from lake import books, overlaps
from lake.books import KIND, Row
from lake.reader import Lake
from market.chain import HELD, Chain
from market.times import DAY, HOUR, Interval, floor_to, subtract, text


class Parts(msgspec.Struct, frozen=True):
    """The parts, oldest first, and in words what was not made one although no coverage lies over it."""

    open: tuple[Interval, ...]
    told: tuple[str, ...] = ()


def parts(root: Path, exchange: str, market_type: str, symbol: str, span: Interval, session: str) -> Parts | None:
    """The parts of `span` and an hour around it, `session` left aside; None where the lake has nothing of those days.

    Raises CorruptFile.
    """
    days = Interval(floor_to(span.start, DAY), floor_to(span.end, DAY) + DAY)
    with Lake(root) as lake:
        covered = overlaps.covered(lake.manifest, exchange, market_type, KIND, [session], files=True)
        held = [Interval(*one) for one in overlaps.of_symbol(covered, symbol)]
        rows = (
            lake.scan(
                KIND, exchange=exchange, market_type=market_type, symbol=symbol, start=days.start, end=days.end,
                across_listings=True,
            )
            .filter(pl.col("session").cast(pl.String) != session, pl.col("source").cast(pl.String) != "derived")
            .select(pl.col("ts_event").to_physical(), "first_id", "last_id", "prev_id", pl.col("flags").cast(pl.String))
            .sort("ts_event", "last_id", nulls_last=False, maintain_order=True)
            .collect()
        )  # fmt: skip
    if not rows.height and not any(one.overlaps(days) for one in held):
        return None
    made: list[Interval] = []
    told: list[str] = []
    for free in subtract([Interval(span.start - HOUR, span.end + HOUR)], held):
        _between(rows, free, made, told)
    return Parts(tuple(made), tuple(told))


def _between(rows: pl.DataFrame, free: Interval, made: list[Interval], told: list[str]) -> None:
    """Of a time that is not covered the ends that have no update of the lake, where these do not join across them."""
    at = rows.filter(~pl.col("flags").str.contains("clear"))["ts_event"]
    inside = at.filter(at.is_between(free.start, free.end, closed="left"))
    ends = [free]
    if inside.len():
        first, last = int(inside[0]), int(inside[-1])
        ends = [Interval(free.start, first), Interval(last + 1, free.end)]
        told.append(
            f"{text(first)} to {text(last + 1)}: the lake has {inside.len():,} updates there beside what it covers,"
            " and they go first"
        )
    for end in ends:
        if end.empty:
            continue
        if _joined(rows, end):
            told.append(
                f"{text(end.start)} to {text(end.end)}: the lake's own updates join across it by their ids, so that"
                " none is missing there"
            )
        else:
            made.append(end)


def _joined(rows: pl.DataFrame, free: Interval) -> bool:
    """Whether the first update behind a time continues the book before it."""
    place = int(rows["ts_event"].search_sorted(free.start))
    before = [row for row in _links(rows.slice(max(0, place - HELD), min(place, HELD))) if row.last is not None]
    behind = next((row for row in _links(rows.slice(place, 1)) if row.last is not None and not row.whole), None)
    if not before or behind is None:
        return False
    chain = Chain[None]()
    chain.snapshot(before[0].link())  # whether it is known there is not asked: only whether something is missing
    for row in before[1:]:
        books.feed(chain, row)
    return chain.joined_by(behind.link())


def _links(rows: pl.DataFrame) -> list[Row]:
    return [
        Row(at, first, None if "clear" in flags else last, before, "snapshot" in flags, carried=False)
        for at, first, last, before, flags in rows.iter_rows()
    ]
