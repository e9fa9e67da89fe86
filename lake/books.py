"""An order book at any time: the last whole book that is stored, and the updates after it as far as ids prove them.

Two passes over the rows of `book_delta`, each in pieces: the ids tell what joins (`market.chain`), then the last word
on every price is taken, vectorised. What is not known is never given: see `Observed` and `OrderBook`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeAlias

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import scaled, tables
from lake.errors import BookCrossed, BookUnknown
from market import times
from market.chain import HELD, Chain, Link
from market.session import Coverage, Gap, GapState
from market.times import Interval

KIND = "book_delta"
MISSING: tuple[GapState, ...] = ("open", "unrepairable")
"""States of a gap inside which nothing is known."""
ID_COLUMNS = ("ts_event", "first_id", "last_id", "prev_id", "flags")
LEVEL_COLUMNS = ("ts_event", "last_id", "flags", "source", "session", "frame_no", "item",
                 "bids", "bids_text", "asks", "asks_text")  # fmt: skip
_SPECIAL = "snapshot|carried|clear"
_NO_TIME = -(2**62)
Level: TypeAlias = tuple[str, str]
Pieces: TypeAlias = Callable[[Sequence[str], int, int], Iterable[pa.Table]]
"""(columns, first time, last time; us, both included) -> rows of one book in the order of the files, or some more."""


class Origin(msgspec.Struct, frozen=True):
    """The row that a book begins from, a `snapshot` or a `carried` one by its `flags`, with the place of its frame."""

    ts_event: int
    last_id: int
    flags: str
    source: str
    session: str | None
    frame_no: int | None
    item: int | None


class OrderBook(msgspec.Struct, frozen=True, kw_only=True):
    """The book of one symbol at `at` (us): bids falling, asks rising, each (price, quantity) as plain decimal text.

    Texts are the venue's numbers exactly, without trailing zeros. `last_id` and `ts_event` are those of the newest
    update in it. Bids below `valid_low` and asks above `valid_high` are unknown and left out (None: nothing is); both
    come from the snapshot, which showed so many levels. A crossed book is never given.
    """

    exchange: str
    market_type: str
    symbol: str
    at: int
    ts_event: int
    last_id: int
    bids: list[Level]
    asks: list[Level]
    valid_low: str | None
    valid_high: str | None
    snapshot: Origin
    crossed: bool = False


class Observed:
    """When a book's stream was watched: inside `gaps` nothing is known, inside `coverage` silence means no change."""

    def __init__(self, gaps: Iterable[Gap] = (), coverage: Iterable[Coverage] = ()) -> None:
        self.gaps = [gap for gap in gaps if gap.state in MISSING and (gap.ts_to is None or gap.ts_to > gap.ts_from)]
        self._covered = times.union(Interval(row.ts_from, row.ts_to) for row in coverage)
        self._starts = [interval.start for interval in self._covered]

    def gap(self, at: int) -> Gap | None:
        """The gap that `at` lies in."""
        return next((g for g in self.gaps if g.ts_from <= at and (g.ts_to is None or at < g.ts_to)), None)

    def watched(self, start: int, at: int) -> bool:
        """Whether nothing between two times can have been overlooked."""
        place = bisect_right(self._starts, start) - 1
        return place >= 0 and at < self._covered[place].end


class Row(NamedTuple):
    """What the chain needs of a row. `last` is None where it cannot be placed; `whole` is a snapshot or `carried`."""

    at: int
    first: int | None
    last: int | None
    before: int | None
    whole: bool
    carried: bool

    def link(self) -> Link[None]:
        assert self.last is not None
        return Link(self.last, self.first, self.before, self.at, None)


def is_whole(flags: pa.ChunkedArray) -> pl.Series:
    """Which rows are whole books: snapshots, and those that a day opens with."""
    return plain(flags).str.contains("snapshot|carried")


def is_carried(table: pa.Table) -> pa.ChunkedArray:
    """Which rows are ours, and no observations: those that days open with."""
    return pc.match_substring(table.column("flags").cast(pa.string()), "carried")


def plain(column: pa.ChunkedArray) -> pl.Series:
    """A column of names or numbers in polars, times as us."""
    made = pl.from_arrow(column)
    assert isinstance(made, pl.Series)
    return made.cast(pl.String) if made.dtype == pl.Categorical else made.to_physical()


def rows(pieces: Iterable[pa.Table]) -> Iterator[Row]:
    """The rows of some pieces (with ID_COLUMNS) as the chain takes them."""
    for table in pieces:
        flags = plain(table.column("flags"))
        unplaced = flags.str.contains("clear")
        last = plain(table.column("last_id"))
        if unplaced.any():
            last = pl.DataFrame({"l": last, "u": unplaced}).select(pl.when(~pl.col("u")).then("l")).to_series()
        held = [plain(table.column(name)).to_list() for name in ("ts_event", "first_id", "prev_id")]
        whole, carried = (flags.str.contains(word).to_list() for word in ("snapshot|carried", "carried"))
        yield from map(Row, held[0], held[1], last.to_list(), held[2], whole, carried)


def feed(chain: Chain[None], row: Row) -> None:
    """One row into the chain, for its ids only."""
    if row.last is None:
        chain.unknown(row.at, "a row says nothing of its place")
    elif row.whole:
        chain.snapshot(row.link())
    else:
        chain.update(row.link())


def walk(chain: Chain[None], pieces: Iterable[pa.Table], at: int) -> Row | None:
    """Feeds the rows up to `at`; the first update after it that says something new, where there is one."""
    for table in pieces:
        if _straight(chain, table, at):
            chain.advance(row.link() for row in rows([table.slice(max(0, table.num_rows - HELD))]))
            continue
        for row in rows([table]):
            if row.at <= at:
                feed(chain, row)
            elif row.last is not None and not row.whole and (chain.last is None or row.last > chain.last):
                return row
    return None


def _straight(chain: Chain[None], table: pa.Table, at: int) -> bool:
    """Whether a piece is nothing but updates, each beginning where the one before it ended: most pieces are."""
    if not table.num_rows or not chain.in_sync or int(table.column("ts_event")[-1].value) > at:
        return False
    last, flags = plain(table.column("last_id")), plain(table.column("flags"))
    before = plain(table.column("prev_id"))
    if before.null_count() == before.len():
        before = plain(table.column("first_id")) - 1
    if last.null_count() or before.null_count() or before[0] != chain.last or flags.str.contains(_SPECIAL).any():
        return False
    return bool((before[1:] == last[:-1]).all() and (last >= before).all())


class Side:
    """The last word on every price of one side, with what inexact floats need to be told apart."""

    def __init__(self) -> None:
        self.levels = pl.DataFrame(
            schema={
                "price": pl.Float64,
                "price_text": pl.String,
                "qty": pl.Float64,
                "qty_text": pl.String,
                "id": pl.Int64,
            }
        )

    def add(self, levels: pl.DataFrame) -> None:
        held = pl.concat([self.levels, levels])
        if not held.get_column("id").is_sorted():
            held = held.sort("id", maintain_order=True)
        exact = held.get_column("price_text").null_count() == held.height
        self.levels = held.unique(["price"] if exact else ["price", "price_text"], keep="last", maintain_order=True)


def flat(table: pa.Table, side: str) -> pl.DataFrame:
    """Every level of one side, row by row, with its row's id."""
    found = {name: (floats, texts) for name, floats, texts in tables.flat_levels(table, KIND) if name.startswith(side)}
    owners = pc.list_parent_indices(table.column(side).combine_chunks())
    columns: dict[str, pl.Series] = {}
    for name in ("price", "qty"):
        floats, texts = found[f"{side}.{name}"]
        columns[name] = plain(floats)
        columns[f"{name}_text"] = scaled.plain(plain(texts)) if texts.null_count < len(texts) else _nulls(len(texts))
    ids = pl.Series(plain(table.column("last_id")), dtype=pl.Int64).gather(plain(pa.chunked_array([owners])))
    return pl.DataFrame({**columns, "id": ids}).select("price", "price_text", "qty", "qty_text", "id")


def _nulls(count: int) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, count)


class Rebuilt(msgspec.Struct, frozen=True):
    """A book as it came out of the rows: levels of the known range, and whether each side has any there."""

    bids: list[Level]
    asks: list[Level]
    valid_low: str | None
    valid_high: str | None
    snapshot: Origin
    newest: Origin
    """The last update in it; the snapshot where none came after that."""

    @property
    def left(self) -> bool:
        """Whether the market has left the range that the snapshot showed: what is best there nobody knows."""
        return (self.valid_low is not None and not self.bids) or (self.valid_high is not None and not self.asks)

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask."""
        return bool(self.bids and self.asks) and Decimal(self.bids[0][0]) >= Decimal(self.asks[0][0])


def rebuild(pieces: Pieces, chain: Chain[None], at: int) -> Rebuilt:
    """The levels of a book that the chain knows at `at`."""
    base = chain.base
    assert base is not None
    start = min(chain.since, base.at)
    sides = {"bids": Side(), "asks": Side()}
    first: pa.Table | None = None
    newest: pa.Table | None = None
    for table in pieces(LEVEL_COLUMNS, start, at):
        at_row, ids, whole = plain(table.column("ts_event")), plain(table.column("last_id")), is_whole(table["flags"])
        if first is None:
            found = (whole & (ids == base.last) & (at_row == base.at)).fill_null(value=False)
            if found.any():
                first = table.slice(int(found.arg_true()[0]), 1)
        wanted = (~whole & (ids > base.last) & at_row.is_between(chain.since, at)).fill_null(value=False)
        if wanted.any():
            updates = table if wanted.all() else table.filter(wanted.to_arrow())
            for name, side in sides.items():
                side.add(flat(updates, name))
            last = (wanted & (ids == chain.last)).arg_true()
            newest = table.slice(int(last[0]), 1) if newest is None and last.len() else newest
    assert first is not None, "the chain began from a row of these files"
    return _finished(first, first if newest is None else newest, sides)


def _origin(row: pa.Table) -> Origin:
    held = row.select(list(Origin.__struct_fields__)).to_pylist()[0]
    return Origin(**held | {"ts_event": times.from_datetime(held["ts_event"])})


def _finished(first: pa.Table, newest: pa.Table, sides: dict[str, Side]) -> Rebuilt:
    snapshot = _origin(first)
    shown = {name: flat(first, name) for name in sides}
    most = max(levels.height for levels in shown.values())
    made: dict[str, list[Level]] = {}
    bounds: dict[str, str | None] = {}
    for name, side in sides.items():
        whole = Side()
        whole.add(shown[name].with_columns(id=pl.lit(_NO_TIME, dtype=pl.Int64)))
        whole.add(side.levels)
        # where one side has fewer levels than the other it was all there; of a carried book nobody knows
        cut = shown[name].height > 0 and (shown[name].height == most or "carried" in snapshot.flags)
        made[name], bounds[name] = _range(whole.levels, shown[name] if cut else None, falling=name == "bids")
    return Rebuilt(made["bids"], made["asks"], bounds["bids"], bounds["asks"], snapshot, _origin(newest))


def _range(levels: pl.DataFrame, shown: pl.DataFrame | None, *, falling: bool) -> tuple[list[Level], str | None]:
    """The levels inside what the snapshot showed, best first, and its last price."""
    held = levels.filter(pl.col("qty") > 0)
    bound = None
    if shown is not None:
        edge = shown.filter(pl.col("price") == (pl.col("price").min() if falling else pl.col("price").max()))
        texts = sorted(_texts(edge, "price"), key=Decimal, reverse=not falling)
        bound, limit = texts[0], float(texts[0])
        held = held.filter((pl.col("price") >= limit) if falling else (pl.col("price") <= limit))
    held = held.sort("price", descending=falling, maintain_order=True)
    made = list(zip(_texts(held, "price"), _texts(held, "qty"), strict=True))
    if held.get_column("price_text").null_count() < held.height:
        made.sort(key=lambda level: Decimal(level[0]), reverse=falling)
        if bound is not None:
            least = Decimal(bound)
            made = [one for one in made if (Decimal(one[0]) >= least if falling else Decimal(one[0]) <= least)]
    return made, bound


def _texts(levels: pl.DataFrame, name: str) -> list[str]:
    return scaled.texts_of(levels.get_column(name), levels.get_column(f"{name}_text")).to_list()


def known(what: str, chain: Chain[None], after: Row | None, at: int, observed: Observed) -> None:
    """Raises BookUnknown where the ids and what was watched do not prove the book at `at`; `what` names it."""
    gap = observed.gap(at)
    if gap is not None:
        end = "it still grows" if gap.ts_to is None else f"until {times.text(gap.ts_to)}"
        raise BookUnknown(
            f"{what} is not known at {times.text(at)}: a gap ({gap.cause}) lies over it from"
            f" {times.text(gap.ts_from)} on, {end}",
            "dl gaps lists it",
        )
    if not chain.in_sync:
        if chain.lost is None:
            why = "no snapshot of it is stored up to then"
        else:
            why = f"since {times.text(chain.lost[0])} {chain.lost[1]}"
        raise BookUnknown(f"{what} is not known at {times.text(at)}: {why}")
    joined = after is not None and chain.joined_by(after.link())
    if at > chain.at and not joined and not observed.watched(chain.at, at):
        raise BookUnknown(
            f"{what} is not known at {times.text(at)}: nothing is stored of it since {times.text(chain.at)},"
            " and nothing says that nothing came"
        )


def sound(what: str, book: Rebuilt, at: int) -> None:
    """Raises BookUnknown where the market has left the known range, BookCrossed where bids and asks overlap."""
    if book.left:
        raise BookUnknown(
            f"{what} is not known at {times.text(at)}: the market has left what the snapshot of"
            f" {times.text(book.snapshot.ts_event)} showed ({book.valid_low or '-'} to {book.valid_high or '-'})"
        )
    if book.crossed:
        raise BookCrossed(
            f"{what} is crossed at {times.text(at)}: best bid {book.bids[0][0]}, best ask {book.asks[0][0]}",
            "the venue's updates or the collection of them went wrong: the next snapshot mends it",
        )
