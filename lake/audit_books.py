"""Order books rebuilt from their updates against what the venue says the book is, at equal update ids.

Two passes over a day: the ids tell from which whole book on the updates follow each other without a hole (a run), then
the last word on every price is taken up to the id of each book that the venue told of by the way. A book that begins a
run proves nothing of it; the one that was asked for while a run goes on does. Memory is a book and two pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from lake import books
from lake.audit_words import UNEXPLAINED, Difference
from lake.books import Pieces, Row, Side, flat, is_whole, plain
from market.chain import Chain
from market.times import MINUTE

EVERY = 5 * MINUTE
"""Of books that are told all the time the last one of so long is looked at, of each source."""
SIDES = ("bids", "asks")
SAID_COLUMNS = ("symbol", "source", "ts_event", "last_id", "bids", "bids_text", "asks", "asks_text")
_COLUMNS = (*books.LEVEL_COLUMNS, "first_id")
_LEVELS_SHOWN = 3


class Said(msgspec.Struct, frozen=True):
    """A whole book that the venue told of: as of which update id, when (us), and its row."""

    id: int
    at: int
    row: pa.Table


class Run(msgspec.Struct):
    """A stretch of updates without a hole: from the whole book `base` on, rows since `since`, up to the id `end`."""

    base: Row
    since: int
    end: int
    until: int


def runs(pieces: Iterable[pa.Table]) -> list[Run]:
    """The runs of a day's rows (with books.ID_COLUMNS). A run goes on over whole books as long as updates join."""
    chain = Chain[None]()
    found: list[Run] = []
    waiting: list[Row] = []
    for row in books.rows(pieces):
        if row.last is None:
            chain.unknown(row.at, "a row says nothing of its place")
        elif row.whole and chain.in_sync:
            waiting += [] if row.carried else [row]
        elif row.whole:
            _begin(chain, row, found)
        else:
            chain.update(row.link())
            if not chain.in_sync:
                for one in waiting:
                    if chain.last is None or (one.last or 0) > chain.last:
                        _begin(chain, one, found)
                waiting = []
        if chain.in_sync and chain.last is not None and found:
            found[-1].end, found[-1].until = chain.last, max(chain.at, found[-1].until)
            waiting = [one for one in waiting if (one.last or 0) > chain.last]
    return found


def _begin(chain: Chain[None], row: Row, found: list[Run]) -> None:
    link = row.link()
    if chain.snapshot(link) is not None:
        found.append(Run(row, chain.since, link.last, max(chain.at, row.at)))


def told(pieces: Iterable[pa.Table]) -> list[Said]:
    """Of rows of `book_snapshot` (with SAID_COLUMNS, by time) the last with an id of each source and EVERY."""
    found: dict[tuple[str, int], Said] = {}
    for table in pieces:
        held = {name: plain(table.column(name)) for name in ("source", "ts_event", "last_id")}
        frame = pl.DataFrame(held).with_row_index("row").drop_nulls("last_id")
        frame = frame.with_columns(slot=pl.col("ts_event") // EVERY)
        lasts = frame.unique(["source", "slot"], keep="last", maintain_order=True)
        for row, source, at, number, slot in lasts.iter_rows():
            found[source, slot] = Said(number, at, _row(table, row))
    return list(found.values())


def _row(table: pa.Table, place: int) -> pa.Table:
    """One row by itself: a slice would keep all of its piece in memory."""
    return table.take(pa.array([place]))


def compare(pieces: Pieces, run: Run, said: Sequence[Said]) -> Iterator[Difference | None]:
    """For each book of `said` inside the run what is not the same (None: nothing); those that cannot be compared are
    left out. Whole books among the updates are compared as well.
    """
    work = _Book(pieces, run)
    every = sorted([*said, *work.inside()], key=lambda one: one.id)
    yield from work.walk([one for one in every if run.base.last is not None and run.base.last < one.id <= run.end])


class _Book:
    def __init__(self, pieces: Pieces, run: Run) -> None:
        self._pieces, self._run = pieces, run
        self._sides = {name: Side() for name in SIDES}
        self._bounds: dict[str, float | None] = dict.fromkeys(SIDES)
        self._held: list[pa.Table] = []
        self._id = run.base.last or 0
        """The newest update that was taken."""

    def inside(self) -> list[Said]:
        """Whole books among the updates, but that which the run begins from."""
        found: list[Said] = []
        for table in self._pieces(_COLUMNS, self._run.since, self._run.until):
            flags, ids = plain(table.column("flags")), plain(table.column("last_id"))
            at = plain(table.column("ts_event"))
            whole = flags.str.contains("snapshot") & ~flags.str.contains("carried")
            places = (whole & at.is_between(self._run.since, self._run.until)).arg_true()
            found += [Said(ids[n], at[n], _row(table, n)) for n in places if ids[n] is not None]
        return [one for one in found if (one.id, one.at) != (self._run.base.last, self._run.base.at)]

    def walk(self, said: Sequence[Said]) -> Iterator[Difference | None]:
        """Updates in their order; each book is looked at once everything up to its id has gone by."""
        if not said or not self._load():
            return
        left = list(said)
        base = self._run.base.last
        for table in self._pieces(_COLUMNS, self._run.since, self._run.until):
            ids = plain(table.column("last_id"))
            timely = plain(table.column("ts_event")).is_between(self._run.since, self._run.until)
            wanted = (timely & ~is_whole(table["flags"]) & (ids > base) & (ids <= self._run.end)).fill_null(value=False)
            if not wanted.any():
                continue
            updates = table.filter(wanted.to_arrow())
            self._held.append(updates)
            lowest = _number(plain(updates.column("last_id")).min())
            while left and left[0].id < lowest:
                yield from self._look(left.pop(0))
            if not left:
                return
            self._take(lowest - 1)
        for one in left:
            yield from self._look(one)

    def _load(self) -> bool:
        """The book that the run begins from."""
        base = self._run.base
        for table in self._pieces(_COLUMNS, base.at, base.at):
            same = (
                is_whole(table["flags"])
                & (plain(table["last_id"]) == base.last)
                & (plain(table["ts_event"]) == base.at)
            )
            for place in same.fill_null(value=False).arg_true():
                row = table.slice(place, 1)
                shown = {name: flat(row, name) for name in SIDES}
                most = max(levels.height for levels in shown.values())
                for name, levels in shown.items():
                    self._sides[name].add(levels)
                    if levels.height and (levels.height == most or base.carried):
                        self._bounds[name] = _edge(levels, name)
                return True
        return False

    def _take(self, upto: int) -> pa.Table | None:
        """The updates up to an id become part of the book; those behind it, which stay, are given."""
        if not self._held:
            return None
        held = pa.concat_tables(self._held)
        ids = plain(held.column("last_id"))
        before = ids <= upto
        if before.any():
            self._id = max(self._id, _number(ids.filter(before).max()))
            for name, side in self._sides.items():
                side.add(flat(held.filter(before.to_arrow()), name))
        rest = held.filter((~before).to_arrow())
        self._held = [rest] if rest.num_rows else []
        return rest

    def _look(self, said: Said) -> Iterator[Difference | None]:
        """One book: the updates up to its id are taken, and what the next one touches is left out."""
        rest = self._take(said.id)
        touched = self._touched(said, rest)
        if touched is None:
            return
        compared, other = 0, []
        for name, side in self._sides.items():
            count, differing = _against(name, side.levels, flat(said.row, name), self._bound(name, said), touched[name])
            compared += count
            other += differing
        if not compared:
            return
        if not other:
            yield None
            return
        more = f" and {len(other) - _LEVELS_SHOWN} more" if len(other) > _LEVELS_SHOWN else ""
        detail = (
            f"book at id {said.id}: {len(other)} of {compared} levels differ: {'; '.join(other[:_LEVELS_SHOWN])}{more}"
        )
        yield Difference(UNEXPLAINED, said.at, detail)

    def _touched(self, said: Said, rest: pa.Table | None) -> dict[str, list[float]] | None:
        """Prices of the update that the book's id lies inside of; None where it cannot be told whether there is one."""
        nothing: dict[str, list[float]] = {name: [] for name in SIDES}
        if rest is None or not rest.num_rows:
            return nothing
        first = plain(rest.column("first_id"))
        if first.null_count():
            return nothing if said.id == self._id else None
        over = rest.filter((first <= said.id).to_arrow())
        return {name: flat(over, name)["price"].to_list() for name in SIDES}

    def _bound(self, name: str, said: Said) -> list[float]:
        """The last prices that are known of a side: ours, and that of the venue where it showed a part."""
        shown = {side: flat(said.row, side) for side in SIDES}
        most = max(levels.height for levels in shown.values())
        bounds = [edge for edge in (self._bounds[name],) if edge is not None]
        if shown[name].height == most and most:
            bounds.append(_edge(shown[name], name))
        return bounds


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _edge(levels: pl.DataFrame, name: str) -> float:
    """The worst price of a side."""
    found = levels["price"].min() if name == "bids" else levels["price"].max()
    assert isinstance(found, float)
    return found


def _against(
    name: str, ours: pl.DataFrame, theirs: pl.DataFrame, bounds: Sequence[float], touched: Sequence[float]
) -> tuple[int, list[str]]:
    """(levels that were compared, those that differ in words, best first)."""
    both = (
        ours.select("price", "qty")
        .filter(pl.col("qty") > 0)
        .join(theirs.select("price", pl.col("qty").alias("said")), on="price", how="full", coalesce=True)
        .filter(~pl.col("price").is_in(list(touched)))
    )
    for bound in bounds:
        both = both.filter(pl.col("price") >= bound if name == "bids" else pl.col("price") <= bound)
    other = both.filter(~pl.col("qty").eq_missing(pl.col("said"))).sort("price", descending=name == "bids")
    side = name.removesuffix("s")
    words = [
        f"{side} {price:g} has {'nothing' if qty is None else f'{qty:g}'}, the venue says"
        f" {'nothing' if said is None else f'{said:g}'}"
        for price, qty, said in other.iter_rows()
    ]
    return both.height, words
