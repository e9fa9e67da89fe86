"""Gaps of a book's updates whose ids came after all: from a recording, another node's frames, a late connection. Pure.

An update covers ids, and so proves that none of them is missing, as a trade proves its own. Of a gap that is filled in
part what is still missing stays as it was, with the ids that no update covers and the times of the updates around them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import polars as pl
import pyarrow as pa

from lake.books import MISSING
from lake.merge import plain_frame
from market.session import Gap
from market.times import Interval, subtract, union

_COLUMNS = ("ts_event", "source", "flags", "first_id", "last_id", "prev_id")


class Fills:
    """Which ids of some gaps of one book the rows of a day cover; give it the day's rows in pieces."""

    def __init__(self, gaps: Iterable[Gap]) -> None:
        self._gaps: dict[Interval, list[Gap]] = {}
        self._times: dict[Interval, Interval] = {}
        """By ids: a gap that a file filled in part is several rows, whose ids are the same."""
        self._found: dict[Interval, list[pl.DataFrame]] = {}
        for gap in gaps:
            if not gap.missing or gap.missing < 0 or gap.id_from is None or gap.id_to is None or gap.ts_to is None:
                continue
            ids = Interval(gap.id_from, gap.id_to)
            known = self._times.get(ids, Interval(gap.ts_from, gap.ts_to))
            self._times[ids] = Interval(min(known.start, gap.ts_from), max(known.end, gap.ts_to))
            if gap.state in MISSING:
                self._gaps.setdefault(ids, []).append(gap)

    def add(self, table: pa.Table) -> None:
        """More rows, in the order of their times."""
        if not self._gaps or not table.num_rows:
            return
        stamps = plain_frame(table.select(["ts_event"]))["ts_event"].to_physical()
        first, last = int(stamps[0]), int(stamps[-1])
        near = [ids for ids in self._gaps if self._times[ids].start <= last and first <= self._times[ids].end]
        rows = _ids(table) if near else None
        for ids in near if rows is not None else ():
            assert rows is not None
            when = self._times[ids]
            inside = (pl.col("start") < ids.end) & (pl.col("end") > ids.start)
            found = rows.filter(inside & pl.col("at").is_between(when.start, when.end))
            if found.height:
                self._found.setdefault(ids, []).append(found)

    def changed(self, now: int) -> list[Gap]:
        """Gaps that the rows close, or of which they leave less."""
        made: list[Gap] = []
        for ids, found in self._found.items():
            rows = pl.concat(found)
            held = union(Interval(start, end) for start, end in rows.select("start", "end").iter_rows())
            left, gaps = subtract([ids], held), self._gaps[ids]
            if not left:
                closing = {"state": "repaired", "proof": "ids", "closed_at": now, "source": "late"}
                made += [msgspec.structs.replace(gap, **closing) for gap in gaps]
            elif left != [ids] and len(gaps) == 1:  # else: at which of its times the others are missing is not known
                made += _rest(gaps[0], left, rows)
        return made


def _ids(table: pa.Table) -> pl.DataFrame:
    """The ids [start, end) that updates of the venue's own numbering cover, and their times (`collectors.chain`).

    A whole book covers none: it has what the update of its id told, and that one is missing all the same.
    """
    rows = plain_frame(table.select(_COLUMNS)).with_columns(
        pl.col("ts_event").to_physical().alias("at"), pl.col("source", "flags").cast(pl.String)
    )
    rows = rows.filter((pl.col("source") == "ws") & ~pl.col("flags").str.contains("clear"))
    last, first = pl.col("last_id"), pl.col("first_id")
    before = pl.coalesce("prev_id", first - 1)
    turned = (last < before) & first.is_null()  # the last of a numbering stands for the id behind what it follows
    start = pl.when(turned).then(before + 1).otherwise(pl.min_horizontal(before + 1, last))
    end = pl.when(turned).then(before + 2).otherwise(last + 1)
    return rows.filter(before.is_not_null()).select(start.alias("start"), end.alias("end"), "at").drop_nulls()


def _rest(gap: Gap, left: list[Interval], rows: pl.DataFrame) -> list[Gap]:
    """A row for each run of ids that is still missing, between the times of the updates around it."""
    made = []
    for place, ids in enumerate(left):
        before = rows.filter(pl.col("end") == ids.start)["at"].max()
        behind = rows.filter(pl.col("start") == ids.end)["at"].min()
        ts_from = before if isinstance(before, int) else gap.ts_from
        ts_to = behind + 1 if isinstance(behind, int) else gap.ts_to
        made.append(
            msgspec.structs.replace(
                gap, gap_id=gap.gap_id if place == 0 else f"{gap.gap_id}.{ids.start}", id_from=ids.start,
                id_to=ids.end, ts_from=ts_from, ts_to=ts_to if ts_to is None else max(ts_to, ts_from + 1),
            )
        )  # fmt: skip
    return made
