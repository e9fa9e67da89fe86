"""Several sorted tables as one: sorted, free of duplicates, in pieces; and one sorted table cut by symbol.

Pure. Nothing ever sorts a whole day: the merge holds one piece of each source and gives out what no unread row can
come before. Duplicates need no memory of all ids either: in any order of reading, the second coming of an identity
never has an id above all ids of its symbol so far, so only rows with such ids are suspects, and few rows are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
import polars as pl
import pyarrow as pa

from lake import tables
from market import kinds

Source: TypeAlias = Callable[[Sequence[str] | None], Iterator[pa.Table]]
"""Opens a sorted table anew and reads it in pieces, all columns or those named."""

_ROW, _SOURCE, _HASH = "#row", "#source", "#hash"
_HELD_ROWS = 384 * 1024


class Merged(msgspec.Struct):
    """What a merge has seen: rows of all sources, and rows left out because their identity was there already."""

    rows_in: int = 0
    rows_out: int = 0
    duplicates: int = 0


def piece_rows(sources: int) -> int:
    """How many rows a source should give at once, so that all of them together hold a bounded number."""
    return max(2048, min(64 * 1024, _HELD_ROWS // max(1, sources)))


def merge(
    kind: str, sources: Sequence[Source], counts: Merged, on_drop: Callable[[pa.Table], None] | None = None
) -> Iterator[pa.Table]:
    """The rows of all sources in the kind's order, one of each identity, in tables of moderate size.

    Each source is sorted by `tables.sort_columns(kind)`. Of rows with one identity the first received stays, of
    open_interest the last, of bars the highest revision (of the last source). `counts` is complete at the end;
    `on_drop` is given the rows that are left out. Reads every source twice, the first time its identities only (a
    third time if there are suspects).
    """
    losers = duplicates(kind, sources)
    order = tables.sort_columns(kind)
    cursors = [_Cursor(source, order, losers.get(place), on_drop) for place, source in enumerate(sources)]
    live = [cursor for cursor in cursors if cursor.fill()]
    while live:
        limits = [cursor.last_key for cursor in live if not cursor.exhausted]
        limit = min(limits) if limits else None
        taken = [piece for piece in (cursor.take(limit) for cursor in live) if piece is not None]
        yield from _in_order(taken, order, counts)
        live = [cursor for cursor in live if cursor.fill()]


def _in_order(
    taken: list[tuple[pa.Table, pl.DataFrame, int]], order: Sequence[str], counts: Merged
) -> Iterator[pa.Table]:
    counts.duplicates += sum(dropped for _, _, dropped in taken)
    counts.rows_in += sum(table.num_rows + dropped for table, _, dropped in taken)
    pieces = [(table, keys) for table, keys, _ in taken if table.num_rows]
    if not pieces:
        return
    pieces.sort(key=lambda piece: _key(piece[1], 0))
    ends = [_key(keys, -1) for _, keys in pieces]
    starts = [_key(keys, 0) for _, keys in pieces]
    table = pa.concat_tables([table for table, _ in pieces])
    if any(end > start for end, start in zip(ends, starts[1:], strict=False)):
        keys = pl.concat([keys for _, keys in pieces])
        places = keys.select(pl.arg_sort_by(order, nulls_last=False, maintain_order=True)).to_series()
        table = table.unify_dictionaries().combine_chunks().take(places.to_arrow())
    counts.rows_out += table.num_rows
    yield table


def _key(frame: pl.DataFrame, row: int) -> tuple[tuple[bool, Any], ...]:
    """A row's order as a comparable tuple: nulls come first."""
    return tuple((value is not None, value if value is not None else 0) for value in frame.row(row))


class _Cursor:
    """One source's current piece and how much of it has been given out."""

    def __init__(
        self,
        source: Source,
        order: Sequence[str],
        losers: pl.Series | None,
        on_drop: Callable[[pa.Table], None] | None,
    ) -> None:
        self.on_drop = on_drop
        self.pieces = source(None)
        self.order = order
        self.losers = losers
        self.table: pa.Table | None = None
        self.keys = pl.DataFrame()
        self.start = 0
        self.read = 0
        self.exhausted = False
        self.last_key: tuple[tuple[bool, Any], ...] = ()
        self.following = next(self.pieces, None)

    def fill(self) -> bool:
        """Reads on where the piece is used up; False where nothing is left."""
        if self.table is not None and self.start < self.table.num_rows:
            return True
        if self.table is not None:
            self.read += self.table.num_rows
        self.table, self.start = self.following, 0
        while self.table is not None and self.table.num_rows == 0:
            self.table = next(self.pieces, None)
        if self.table is None:
            return False
        self.following = next(self.pieces, None)
        self.exhausted = self.following is None
        self.keys = plain_frame(self.table.select(list(self.order)))
        self.last_key = _key(self.keys, -1)
        return True

    def take(self, limit: tuple[tuple[bool, Any], ...] | None) -> tuple[pa.Table, pl.DataFrame, int] | None:
        """The rows up to and including the key `limit` (None: all), their keys, and how many were left out."""
        assert self.table is not None
        end = self.table.num_rows
        if limit is not None and self.last_key > limit:
            end = self._first_after(limit)
        if end == self.start:
            return None
        start, self.start = self.start, end
        table, keys = self.table.slice(start, end - start), self.keys.slice(start, end - start)
        if self.losers is None:
            return table, keys, 0
        first = self.read + start
        low, high = self.losers.search_sorted(first), self.losers.search_sorted(first + end - start)
        if low == high:
            return table, keys, 0
        out = self.losers.slice(low, high - low) - first
        if self.on_drop is not None:
            self.on_drop(table.take(out.to_arrow()))
        kept = pl.int_range(table.num_rows, eager=True, dtype=pl.Int64)
        kept = kept.filter(~kept.is_in(out.implode()))
        return table.take(kept.to_arrow()), keys.select(pl.all().gather(kept)), out.len()

    def _first_after(self, limit: tuple[tuple[bool, Any], ...]) -> int:
        low, high = self.start, self.keys.height
        while low < high:
            middle = (low + high) // 2
            if _key(self.keys, middle) <= limit:
                low = middle + 1
            else:
                high = middle
        return low


def duplicates(kind: str, sources: Sequence[Source]) -> dict[int, pl.Series]:
    """Rows to leave out: of each source (by its place) the sorted row numbers whose identity stays in another row."""
    suspects = Suspects(kind)
    for source in sources:
        for table in source(suspects.columns):
            suspects.add(table)
    hashes = suspects.hashes()
    if hashes.is_empty():
        return {}
    found: list[pl.DataFrame] = []
    names = list(dict.fromkeys((*suspects.columns, *_rank_columns(kind))))
    for place, source in enumerate(sources):
        row = 0
        for table in source(names):
            frame = plain_frame(table).with_columns(
                pl.int_range(pl.len()).add(row).alias(_ROW), pl.lit(place).alias(_SOURCE), *suspects.identity()
            )
            row += table.num_rows
            found.append(frame.filter(pl.col(_HASH).is_in(hashes.implode())))
    return _losers(kind, pl.concat(found), suspects)


def _rank_columns(kind: str) -> tuple[str, ...]:
    if kind in kinds.BARS:
        return ("revision",)
    return ("ts_recv", *kinds.PROVENANCE)


def _losers(kind: str, rows: pl.DataFrame, suspects: Suspects) -> dict[int, pl.Series]:
    rank = _rank_columns(kind)
    latest = kind in kinds.BARS or kinds.kind(kind).keep == "last"
    ranked = rows.sort(*rank, _SOURCE, _ROW, descending=latest, nulls_last=latest, maintain_order=True)
    named = ranked.filter(~pl.col("#anonymous")).with_columns(_nth(suspects.key))
    placed = ranked.filter("#anonymous").with_columns(_nth(("symbol", *kinds.PROVENANCE)))
    lost = pl.concat([named, placed]).filter(pl.col("#nth") > 0).select(_SOURCE, _ROW)
    return {
        int(place): part.get_column(_ROW).sort()
        for (place,), part in lost.group_by(_SOURCE, maintain_order=True)
        if isinstance(place, int)
    }


def _nth(columns: Sequence[str]) -> pl.Expr:
    return pl.int_range(pl.len()).over(*columns).alias("#nth")


class Suspects:
    """Identities that may come twice, found by reading sorted tables one after the other in any order.

    `columns` are those it needs. Exact doubts only cost time: every suspect is looked at again by its whole key.
    """

    def __init__(self, kind: str) -> None:
        declared = kinds.kind(kind)
        self.key = ("symbol", *declared.key)
        self.ids = tables.identity_columns(kind)
        self.rising = _rising(kind)
        self.columns = list(dict.fromkeys((*self.key, *kinds.PROVENANCE)))
        self._highest: dict[str, int] = {}
        self._suspects: list[pl.Series] = []
        self._unordered: list[pl.Series] = []

    def identity(self) -> list[pl.Expr]:
        """`#hash` of a row's identity and `#anonymous`: whether that is its provenance, for want of an id."""
        anonymous = pl.all_horizontal(pl.col(name).is_null() for name in self.ids) if self.ids else pl.lit(value=False)
        named = pl.struct(*self.key).hash()
        placed = pl.struct("symbol", *kinds.PROVENANCE).hash(1)
        return [
            pl.when(anonymous).then(placed).otherwise(named).alias(_HASH),
            anonymous.alias("#anonymous"),
        ]

    def add(self, table: pa.Table) -> None:
        """One more piece of any source."""
        frame = plain_frame(table.select(self.columns))
        if frame.is_empty():
            return
        value = pl.col(self.rising).to_physical()
        frame = frame.with_columns(
            value.alias("#value"),
            value.cum_max().forward_fill().shift(1).over("symbol").alias("#above"),
        )
        symbols = frame.get_column("symbol").unique(maintain_order=True).to_list()
        known = {symbol: self._highest.get(symbol) for symbol in symbols}
        if len(symbols) == 1:
            before: pl.Expr = pl.lit(known[symbols[0]], dtype=pl.Int64)
        else:
            before = pl.col("symbol").replace_strict(known, return_dtype=pl.Int64)
        again = (pl.col("#value") <= pl.max_horizontal("#above", before)).fill_null(value=False)
        self._suspects.append(frame.filter(again).select(self.identity()[0]).to_series())
        self._unordered.append(frame.filter(pl.col("#value").is_null()).select(self.identity()[0]).to_series())
        highest = frame.group_by("symbol").agg(pl.col("#value").max()).drop_nulls()
        for symbol, most in highest.iter_rows():
            self._highest[symbol] = max(most, self._highest.get(symbol, most))

    def hashes(self) -> pl.Series:
        """Hashes of the suspect identities; empty where every identity certainly comes once."""
        if not self._suspects:
            return pl.Series(_HASH, [], dtype=pl.UInt64)
        loose = pl.concat(self._unordered)
        return pl.concat([*self._suspects, loose.filter(loose.is_duplicated())]).unique()


def _rising(kind: str) -> str:
    """A column of the key that grows along the order: the id, or the time that identifies."""
    declared = kinds.kind(kind)
    if declared.seq is not None and declared.seq in declared.key:
        return declared.seq
    required = {column.name for column in tables.columns(kind) if column.type == "time" and column.required}
    return next(name for name in declared.key if name in required)


def by_symbol(pieces: Iterable[pa.Table]) -> Iterator[tuple[str, Iterator[pa.Table]]]:
    """A sorted table cut by symbol. Like itertools.groupby: use up a symbol's pieces before going on."""
    for symbol, group in itertools.groupby(_runs(pieces), key=lambda run: run[0]):
        yield symbol, (piece for _, piece in group)


def _runs(pieces: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    for piece in pieces:
        if piece.num_rows == 0:
            continue
        runs = plain_frame(piece.select(["symbol"])).get_column("symbol").rle().struct.unnest()
        start = 0
        for rows, symbol in runs.select("len", "value").iter_rows():
            yield symbol, piece.slice(start, rows)
            start += rows


def cut(pieces: Iterable[pa.Table], column: str, start: int, end: int) -> Iterator[pa.Table]:
    """The rows of a table of one symbol, sorted by the time `column`, with start <= time < end (us)."""
    for piece in pieces:
        values = pl.Series(pl.from_arrow(piece.column(column))).to_physical()
        low, high = values.search_sorted(start), values.search_sorted(end)
        if high > low:
            yield piece.slice(low, high - low)


def plain_frame(table: pa.Table) -> pl.DataFrame:
    """The table in polars, its dictionaries as strings, which sort by their UTF-8 bytes."""
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made.with_columns(pl.col(pl.Categorical).cast(pl.String))
