"""The book of one symbol as it stood every so often, from its updates in the order of the file.

Sides are sorted lists of prices beside a dict of quantities, so that an update is a look-up and the best levels are a
slice. Prices are floats; where a file holds numbers that no float is, all of them are exact decimals instead. What is
sampled, and what is not, is what `Lake.book` gives and refuses: both ask the same chain and the same `Observed`.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import books, scaled, tables
from lake.books import KIND, Observed
from market.chain import Chain, Link, reaches
from market.times import DAY, date_of

SAMPLES = "book_sample"
COLUMNS = (*books.ID_COLUMNS, "bids", "bids_text", "asks", "asks_text")
ROWS = 4096
"""Samples in one table that is handed on."""
_SIDES = ("bids", "asks")


class Side:
    """One side of a book. `bound` is the last price that is known of it, None where all of it is."""

    __slots__ = ("bound", "falling", "prices", "sizes")

    def __init__(self, falling: bool) -> None:
        self.falling = falling
        self.prices: list[Any] = []
        self.sizes: dict[Any, Any] = {}
        self.bound: Any = None

    def load(self, prices: Sequence[Any], sizes: Sequence[Any], cut: bool) -> None:
        """Begin anew; `cut`: there may be more behind the last level."""
        self.sizes = {price: size for price, size in zip(prices, sizes, strict=True) if size}
        self.prices = sorted(self.sizes)
        self.bound = None
        if cut:
            self.bound = min(prices) if self.falling else max(prices)

    def update(self, prices: Sequence[Any], sizes: Sequence[Any]) -> None:
        """Absolute quantities; an empty one takes its level away, known or not."""
        held, order = self.sizes, self.prices
        for price, size in zip(prices, sizes, strict=True):
            if size:
                if price not in held:
                    insort(order, price)
                held[price] = size
            elif price in held:
                del held[price]
                del order[bisect_left(order, price)]

    def best(self, depth: int) -> list[Any]:
        """Prices of the best levels of the known range, best first."""
        bound = self.bound
        if self.falling:
            found = self.prices[: -depth - 1 : -1]
            return found if bound is None or not found or found[-1] >= bound else [p for p in found if p >= bound]
        found = self.prices[:depth]
        return found if bound is None or not found or found[-1] <= bound else [p for p in found if p <= bound]


class Shown(msgspec.Struct, frozen=True, gc=False):
    """What a sample shows: prices and quantities of the best levels, and the known range."""

    bids: tuple[list[Any], list[Any]]
    asks: tuple[list[Any], list[Any]]
    low: Any
    high: Any


class _Piece:
    """One piece of the file as Python lists; a row's levels lie between two of the offsets of its side."""

    def __init__(self, table: pa.Table, exact: bool) -> None:
        self.levels: dict[str, tuple[list[int], list[Any], list[Any]]] = {}
        found = {name: (floats, texts) for name, floats, texts in tables.flat_levels(table, KIND)}
        for side in _SIDES:
            counts = pc.list_value_length(table.column(side)).to_pylist()
            offsets = list(itertools.accumulate(counts, initial=0))
            made: list[list[Any]] = []
            for name in ("price", "qty"):
                floats, texts = (books.plain(column) for column in found[f"{side}.{name}"])
                if not exact:
                    made.append(floats.to_list())
                    continue
                spelt = scaled.texts_of(floats, texts if texts.dtype == pl.String else None).to_list()
                made.append([Decimal(t) for t in spelt] if name == "price" else ["" if t == "0" else t for t in spelt])
            self.levels[side] = offsets, made[0], made[1]

    def of(self, side: str, row: int) -> tuple[list[Any], list[Any]]:
        offsets, prices, sizes = self.levels[side]
        start, end = offsets[row], offsets[row + 1]
        return prices[start:end], sizes[start:end]


Row = tuple[_Piece, int]


class _Open(msgspec.Struct):
    """Samples that only the next update can prove: nothing came between the row before them and it."""

    last: int
    fresh: bool
    places: list[int]


class Sampler:
    """Feed it the day's pieces in order; it hands on tables of samples. `crossed` counts crossed ones."""

    def __init__(
        self, where: dict[str, str], start: int, every: int, depth: int, observed: Observed, *, exact: bool
    ) -> None:
        self.crossed = 0
        self.crossed_at: int | None = None
        self.samples = 0
        self._where, self._depth, self._every, self._exact = where, depth, every, exact
        self._next, self._end = start, start + DAY
        self._observed = observed
        self._chain: Chain[Row] = Chain()
        self._bids, self._asks = Side(falling=True), Side(falling=False)
        self._shown: Shown | None = None
        self._stale = True
        self._wrong = False
        self._first = 0
        self._queue: deque[list[Any]] = deque()
        """[time, what is shown or None, whether that is decided]; `_first` is the number of the first of them."""
        self._open: list[_Open] = []
        self._dark = False

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """One more piece of the file, with COLUMNS."""
        piece = _Piece(table, self._exact)
        for number, row in enumerate(books.rows([table])):
            if row.at > self._next:
                self._sample(row.at)
                if len(self._queue) >= ROWS:
                    yield from self._settled()
            if row.last is None:
                self._chain.unknown(row.at, "a row says nothing of its place")
                continue
            link = Link(row.last, row.first, row.before, row.at, (piece, number))
            if row.whole:
                applied = self._chain.snapshot(link)
                if applied is not None:
                    self._load(link.row, carried=row.carried)
                    self._apply(applied)
                continue
            if self._open:
                self._decide(link)
            applied = self._chain.update(link)
            if applied:
                self._apply(applied)

    def finish(self) -> Iterator[pa.Table]:
        """The rest of the day."""
        self._sample(self._end)
        for group in self._open:
            self._mark(group, proven=False)
        self._open.clear()
        yield from self._settled()

    # --- the book ---

    def _load(self, row: Row, *, carried: bool) -> None:
        held = {side: row[0].of(side, row[1]) for side in _SIDES}
        most = max(len(prices) for prices, _ in held.values())
        for name, side in zip(_SIDES, (self._bids, self._asks), strict=True):
            prices, sizes = held[name]
            side.load(prices, sizes, cut=bool(prices) and (carried or len(prices) == most))
        self._stale = True

    def _apply(self, rows: Sequence[Row]) -> None:
        for piece, number in rows:
            self._bids.update(*piece.of("bids", number))
            self._asks.update(*piece.of("asks", number))
        self._stale = True

    def _show(self) -> Shown | None:
        """The book as it stands; None where the market has left the known range, or the book is crossed."""
        if not self._stale:
            return self._shown
        bids, asks = self._bids.best(self._depth), self._asks.best(self._depth)
        left = (self._bids.bound is not None and not bids) or (self._asks.bound is not None and not asks)
        self._wrong = not left and bool(bids and asks) and bids[0] >= asks[0]
        self._stale = False
        self._shown = None
        if not left and not self._wrong:
            sizes = self._bids.sizes, self._asks.sizes
            self._shown = Shown(
                (bids, [sizes[0][price] for price in bids]),
                (asks, [sizes[1][price] for price in asks]),
                self._bids.bound,
                self._asks.bound,
            )
        return self._shown

    # --- samples ---

    def _sample(self, before: int) -> None:
        """The samples of the times below `before`, as the book stands."""
        chain, group = self._chain, None
        while self._next < before and self._next < self._end:
            at = self._next
            self._next += self._every
            if not chain.in_sync or self._observed.gap(at) is not None:
                self._queue.append([at, None, True])
                continue
            proven = at <= chain.at or self._observed.watched(chain.at, at)
            shown = self._show()
            if shown is None and self._wrong and proven:
                self._count(at)
            if not proven and (shown is not None or self._wrong):
                if group is None:
                    group = _Open(chain.last or 0, chain.fresh, [])
                    self._open.append(group)
                group.places.append(self._first + len(self._queue))
            self._queue.append([at, shown, proven or shown is None])

    def _count(self, at: int) -> None:
        self.crossed += 1
        self.crossed_at = at if self.crossed_at is None else self.crossed_at

    def _decide(self, link: Link[Row]) -> None:
        """What the next update says of the time before it."""
        left: list[_Open] = []
        for group in self._open:
            if link.last <= group.last:
                left.append(group)
            else:
                self._mark(group, proven=reaches(link, group.last, fresh=group.fresh))
        self._open = left

    def _mark(self, group: _Open, *, proven: bool) -> None:
        for place in group.places:
            held = self._queue[place - self._first]
            if held[1] is None and proven:
                self._count(held[0])
            held[1], held[2] = (held[1] if proven else None), True

    def _settled(self) -> Iterator[pa.Table]:
        """Tables of what is decided. Of times at which the book is not known only the first is a sample."""
        kept: list[tuple[int, Shown | None]] = []
        while self._queue and self._queue[0][2]:
            at, shown, _ = self._queue.popleft()
            self._first += 1
            if shown is not None or not self._dark:
                kept.append((at, shown))
            self._dark = shown is None
        for start in range(0, len(kept), ROWS):
            some = kept[start : start + ROWS]
            self.samples += len(some)
            yield self._table(some)

    def _table(self, kept: Sequence[tuple[int, Shown | None]]) -> pa.Table:
        data: dict[str, Any] = {
            "date": [date_of(at) for at, _ in kept],
            "ts_event": [at for at, _ in kept],
            "in_sync": [shown is not None for _, shown in kept],
            "valid_low": [None if s is None or s.low is None else float(s.low) for _, s in kept],
            "valid_high": [None if s is None or s.high is None else float(s.high) for _, s in kept],
        }
        data |= {name: pa.array(data[name], pa.float64()) for name in ("valid_low", "valid_high")}
        for side in _SIDES:
            columns = [getattr(shown, side) if shown is not None else ([], []) for _, shown in kept]
            data[side], data[tables.text_name(side)] = self._levels(columns)
        constants = self._where | {"ts_estimated": False, "source": "derived"}
        return tables.conform(pa.table(data), SAMPLES, constants)

    def _levels(self, columns: Sequence[tuple[list[Any], list[Any]]]) -> tuple[pa.Array, pa.Array]:
        offsets = pa.array(itertools.accumulate((len(prices) for prices, _ in columns), initial=0), pa.int32())
        flat = [list(itertools.chain.from_iterable(column[place] for column in columns)) for place in (0, 1)]
        if not self._exact:
            numbers = [pa.array(values, pa.float64()) for values in flat]
            return _lists(offsets, numbers, tables.LEVELS), pa.nulls(len(columns), tables.LEVELS_TEXT)
        split = [scaled.split(pl.Series([format(v, "f") if place == 0 else v for v in flat[place]], dtype=pl.String))
                 for place in (0, 1)]  # fmt: skip
        numbers = [values.to_arrow() for values, _ in split]
        texts = [held.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string()) for _, held in split]
        return _lists(offsets, numbers, tables.LEVELS), _spelt(_lists(offsets, texts, tables.LEVELS_TEXT))


def _lists(offsets: pa.Array, columns: Sequence[pa.Array], to: pa.ListType) -> pa.Array:
    fields = [to.value_type.field(name) for name in ("price", "qty")]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=fields), type=to)


def _spelt(texts: pa.Array) -> pa.Array:
    """Null where no level of the row needs its text."""
    held = [row if any(level["price"] or level["qty"] for level in row) else None for row in texts.to_pylist()]
    return pa.array(held, tables.LEVELS_TEXT)
