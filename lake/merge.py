"""Several sorted tables as one: sorted, free of duplicates, in pieces; and one sorted table cut by symbol.

Pure. Nothing ever sorts a whole day: the merge holds one piece of each source and gives out what no unread row can
come before. Duplicates need no memory of all ids either: in any order of reading, the second coming of an identity
never has an id above all ids of its symbol so far, so only rows with such ids are suspects, and few rows are.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import polars as pl
import pyarrow as pa

from lake import identity, tables
from lake.rising import Rising, rising_column, symbol_runs
from lake.sortedness import unsorted
from lake.windows import Extent, follow, windows
from market import kinds

Source: TypeAlias = Callable[[Sequence[str] | None], Iterator[pa.Table]]
"""Opens a sorted table anew and reads it in pieces, all columns or those named."""


class Bounded(msgspec.Struct, frozen=True):
    """A source whose bounds are known without opening it; `alone` reads larger pieces, where it is merged alone."""

    source: Source
    extent: Extent
    alone: Source | None = None

    def __call__(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Opens it anew."""
        return self.source(columns)


Key: TypeAlias = tuple[tuple[bool, Any], ...]
_ROW, _SOURCE = "#row", "#source"
_HELD_ROWS = 192 * 1024
WINDOW_ROWS, WINDOW_BYTES = 64 * 1024, 2 * 1024 * 1024
"""What is read at once of sources that follow each other: books have few rows and many bytes."""


class Merged(msgspec.Struct):
    """What a merge has seen: rows of all sources, and rows left out because their identity was there already."""

    rows_in: int = 0
    rows_out: int = 0
    duplicates: int = 0


def piece_rows(sources: int) -> int:
    """How many rows a source should give at once, so that all of them together hold a bounded number."""
    return max(2048, min(64 * 1024, _HELD_ROWS // max(1, sources)))


def merge(
    kind: str,
    sources: Sequence[Source],
    counts: Merged,
    on_drop: Callable[[pa.Table], None] | None = None,
    together: Callable[[Sequence[int]], pa.Table] | None = None,
) -> Iterator[pa.Table]:
    """The rows of all sources in the kind's order, one of each identity, in tables of moderate size.

    Each source is sorted by `tables.sort_columns(kind)`. Of rows with one identity the first received stays, of
    open_interest the last, of bars the highest revision (of the last source). `counts` is complete at the end;
    `on_drop` is given the rows that are left out. Small sources whose bounds say that they follow each other are read
    once, many together (by `together`, which is given their places in `sources` and joins their rows in that order);
    every other twice, the first time its ids only (twice more where ids do not only rise).
    """
    extents = [source.extent if isinstance(source, Bounded) else None for source in sources]
    for window in windows(extents, WINDOW_ROWS, WINDOW_BYTES):
        some = [sources[place] for place in window.places]
        if window.small:
            parts = [piece for source in some for piece in source(None) if piece.num_rows] if together is None else []
            table = joined(parts) if together is None else together(window.places)
            ordered = follow([extent for extent in map(extents.__getitem__, window.places) if extent is not None])
            yield from small(kind, table, counts, on_drop, ordered)
        else:
            alone = some[0].alone if len(some) == 1 and isinstance(some[0], Bounded) else None
            yield from _merged(kind, some if alone is None else [alone], counts, on_drop)


def small(
    kind: str, table: pa.Table, counts: Merged, on_drop: Callable[[pa.Table], None] | None = None, ordered: bool = False
) -> Iterator[pa.Table]:
    """The merge of sources that fit in memory, from their rows one source after the other, which may be `ordered`."""
    order = tables.sort_columns(kind)
    counts.rows_in += table.num_rows
    losers = duplicates(kind, [functools.partial(_held, table)]).get(0)
    if losers is not None:
        counts.duplicates += losers.len()
        table = _without(table, losers, on_drop).table
    if not ordered and unsorted(table, order):
        table = _sorted(table, order)
    if table.num_rows:
        counts.rows_out += table.num_rows
        yield table


def _held(table: pa.Table, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    yield table if columns is None else table.select(list(columns))


def joined(parts: Sequence[pa.Table]) -> pa.Table:
    """The tables as one whose columns lie in one piece: what looks at them costs as much a piece as for many rows."""
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def in_order(kind: str, table: pa.Table) -> pa.Table:
    """The rows of a table in the kind's order."""
    return _sorted(table, tables.sort_columns(kind))


def _sorted(table: pa.Table, order: Sequence[str]) -> pa.Table:
    keys = plain_frame(table.select(list(order)))
    places = keys.select(pl.arg_sort_by(order, nulls_last=False, maintain_order=True)).to_series()
    return table.take(places.to_arrow())


def _merged(
    kind: str, sources: Sequence[Source], counts: Merged, on_drop: Callable[[pa.Table], None] | None
) -> Iterator[pa.Table]:
    losers = duplicates(kind, sources)
    order = tables.sort_columns(kind)
    cursors = [_Cursor(source, order, losers.get(place), on_drop) for place, source in enumerate(sources)]
    waiting = [(cursor.first_key, place, cursor) for place, cursor in enumerate(cursors) if cursor.fill()]
    heapq.heapify(waiting)
    while waiting:
        # no row that is not read yet can come before the last row of the piece that ends first
        _, place, cursor = heapq.heappop(waiting)
        limit, touched = cursor.last_key, [(place, cursor)]
        while waiting and waiting[0][0] <= limit:
            _, place, cursor = heapq.heappop(waiting)
            limit = min(limit, cursor.last_key)
            touched.append((place, cursor))
        touched.sort(key=lambda one: one[0])
        taken = [piece for piece in (cursor.take(limit) for _, cursor in touched) if piece is not None]
        yield from _in_order(taken, order, counts)
        for place, cursor in touched:
            if cursor.fill():
                heapq.heappush(waiting, (cursor.first_key, place, cursor))


def _in_order(taken: list[_Taken], order: Sequence[str], counts: Merged) -> Iterator[pa.Table]:
    counts.duplicates += sum(piece.dropped for piece in taken)
    counts.rows_in += sum(piece.table.num_rows + piece.dropped for piece in taken)
    pieces = [piece for piece in taken if piece.table.num_rows]
    if not pieces:
        return
    keyed = sorted(
        ((row_key(p.table, 0, order), row_key(p.table, -1, order), p.table) for p in pieces), key=lambda k: k[0]
    )
    table = joined([piece for _, _, piece in keyed])
    if any(before[1] > after[0] for before, after in itertools.pairwise(keyed)):
        table = _sorted(table, order)
    counts.rows_out += table.num_rows
    yield table


def row_key(table: pa.Table, row: int, order: Sequence[str]) -> Key:
    """A row's order as a comparable tuple: nulls come first, texts by their UTF-8 bytes."""
    made: list[tuple[bool, Any]] = []
    for name in order:
        scalar = table.column(name)[row]
        value = scalar.value if isinstance(scalar, pa.TimestampScalar) else scalar.as_py()
        made.append((value is not None, value.encode() if isinstance(value, str) else value or 0))
    return tuple(made)


class _Taken(NamedTuple):
    """Rows of one source that come next, and how many between them were left out."""

    table: pa.Table
    dropped: int


def _without(table: pa.Table, losers: pl.Series, on_drop: Callable[[pa.Table], None] | None) -> _Taken:
    """The table less the rows with these numbers."""
    if on_drop is not None:
        on_drop(table.take(losers.to_arrow()))
    kept = pl.int_range(table.num_rows, eager=True, dtype=pl.Int64)
    return _Taken(table.take(kept.filter(~kept.is_in(losers.implode())).to_arrow()), losers.len())


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
        self.start = 0
        self.read = 0
        self.first_key: Key = ()
        self.last_key: Key = ()

    def fill(self) -> bool:
        """Reads on where the piece is used up; False where nothing is left."""
        if self.table is not None and self.start < self.table.num_rows:
            self.first_key = row_key(self.table, self.start, self.order)
            return True
        if self.table is not None:
            self.read += self.table.num_rows
        self.start, self.table = 0, next((piece for piece in self.pieces if piece.num_rows), None)
        if self.table is None:
            return False
        self.first_key, self.last_key = row_key(self.table, 0, self.order), row_key(self.table, -1, self.order)
        return True

    def take(self, limit: Key) -> _Taken | None:
        """The rows up to and including the key `limit`; None where there are none."""
        assert self.table is not None
        if self.first_key > limit:
            return None
        start = self.start
        end = self.start = self.table.num_rows if self.last_key <= limit else self._first_after(limit)
        table = self.table.slice(start, end - start)
        if self.losers is None:
            return _Taken(table, 0)
        first = self.read + start
        low, high = self.losers.search_sorted(first), self.losers.search_sorted(first + end - start)
        if low == high:
            return _Taken(table, 0)
        return _without(table, self.losers.slice(low, high - low) - first, self.on_drop)

    def _first_after(self, limit: Key) -> int:
        assert self.table is not None
        low, high = self.start, self.table.num_rows
        while low < high:
            middle = (low + high) // 2
            if row_key(self.table, middle, self.order) <= limit:
                low = middle + 1
            else:
                high = middle
        return low


def duplicates(kind: str, sources: Sequence[Source]) -> dict[int, pl.Series]:
    """Rows to leave out: of each source (by its place) the sorted row numbers whose identity stays in another row."""
    rising = Rising(kind)
    for source in sources:
        for table in source(rising.columns):
            rising.add(table)
            if not rising.certain:
                break
    if rising.certain:
        return {}
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
                pl.int_range(pl.len()).add(row).alias(_ROW), pl.lit(place).alias(_SOURCE), identity.hashed(kind)
            )
            row += table.num_rows
            found.append(frame.filter(pl.col(identity.HASH).is_in(hashes.implode())))
    return _losers(kind, pl.concat(found))


def _rank_columns(kind: str) -> tuple[str, ...]:
    if kind in kinds.BARS:
        return ("revision",)
    return ("ts_recv", *kinds.PROVENANCE)


def _losers(kind: str, rows: pl.DataFrame) -> dict[int, pl.Series]:
    rank = _rank_columns(kind)
    latest = kind in kinds.BARS or kinds.kind(kind).keep == "last"
    ranked = rows.sort(*rank, _SOURCE, _ROW, descending=latest, nulls_last=latest, maintain_order=True)
    ranked = ranked.with_columns(identity.anonymous(kind), *identity.beside(kind))
    named = ranked.filter(~pl.col(identity.ANONYMOUS)).with_columns(_nth(identity.key(kind)))
    placed = ranked.filter(identity.ANONYMOUS).with_columns(_nth(("symbol", *kinds.PROVENANCE)))
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
        self.kind = kind
        self.rising = rising_column(kind)
        self.columns = list(identity.columns(kind))
        self._highest: dict[str, int] = {}
        self._suspects: list[pl.Series] = []
        self._unordered: list[pl.Series] = []

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
        told = identity.hashed(self.kind)
        self._suspects.append(frame.filter(again).select(told).to_series())
        self._unordered.append(frame.filter(pl.col("#value").is_null()).select(told).to_series())
        highest = frame.group_by("symbol").agg(pl.col("#value").max()).drop_nulls()
        for symbol, most in highest.iter_rows():
            self._highest[symbol] = max(most, self._highest.get(symbol, most))

    def hashes(self) -> pl.Series:
        """Hashes of the suspect identities; empty where every identity certainly comes once."""
        if not self._suspects:
            return pl.Series(identity.HASH, [], dtype=pl.UInt64)
        loose = pl.concat(self._unordered)
        return pl.concat([*self._suspects, loose.filter(loose.is_duplicated())]).unique()


def by_symbol(pieces: Iterable[pa.Table]) -> Iterator[tuple[str, Iterator[pa.Table]]]:
    """A sorted table cut by symbol. Like itertools.groupby: use up a symbol's pieces before going on."""
    for symbol, group in itertools.groupby(_runs(pieces), key=lambda run: run[0]):
        yield symbol, (piece for _, piece in group)


def _runs(pieces: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    for piece in pieces:
        for batch in piece.to_batches():
            for symbol, start, end in zip(*symbol_runs(batch), strict=True):
                yield symbol, pa.Table.from_batches([batch.slice(start, end - start)])


def cut(pieces: Iterable[pa.Table], column: str, start: int, end: int) -> Iterator[pa.Table]:
    """The rows of a table of one symbol, sorted by the time `column`, with start <= time < end (us)."""
    for piece in pieces:
        values = pl.Series(pl.from_arrow(piece.column(column))).to_physical()
        low, high = values.search_sorted(start), values.search_sorted(end)
        if high > low:
            yield piece.slice(low, high - low)


def plain_frame(table: pa.Table) -> pl.DataFrame:
    """The table in polars, its dictionaries as strings, which sort by their UTF-8 bytes."""
    return pl.DataFrame([plain_series(table.column(name)).alias(name) for name in table.column_names])


def plain_series(column: pa.ChunkedArray) -> pl.Series:
    """The column in polars, a dictionary as strings: told once where all rows have the same."""
    if not pa.types.is_dictionary(column.type):
        return pl.Series(pl.from_arrow(column))
    whole = column.unify_dictionaries().combine_chunks()
    texts = pl.Series(pl.from_arrow(whole.dictionary))
    if len(texts) == 1 and not whole.null_count:
        return texts.new_from_index(0, len(whole))
    return texts.gather(pl.Series(pl.from_arrow(whole.indices)))
