"""Order books in the forms of tardis.dev: every change with the snapshots it needs, or the best levels after each.

Ids decide what joins (`market.chain`): an update that no stored snapshot makes usable is left out and counted, one that
waited for another comes behind it. Times of arrival never fall, since a change counts from when it could be applied.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

import msgspec
import polars as pl
import pyarrow as pa

from lake import books, scaled, tables
from lake.arrivals import Stream, arrival, in_order
from lake.books import Level
from lake.errors import BookCrossed, BookUnknown
from lake.reader import Lake
from market.chain import Chain, Link
from market.times import Interval

PIECE_ROWS = 8192
_AT_ONCE = 256
_COLUMNS = ("ts_event", "ts_estimated", "ts_recv", "source", "first_id", "last_id", "prev_id", "flags",
            "bids", "bids_text", "asks", "asks_text")  # fmt: skip


class Change(NamedTuple):
    """A whole book (`snapshot`), or the new quantities at some prices; times us, numbers as plain texts.

    `cut`: of bids and of asks, whether nobody knows what lies beyond the last of a whole book's levels.
    """

    timestamp: int
    local: int
    snapshot: bool
    bids: list[Level]
    asks: list[Level]
    cut: tuple[bool, bool] = (False, False)


class Counts(msgspec.Struct):
    """Rows read, and those that were given out: the others repeat what is known, or join nothing."""

    rows: int = 0
    given: int = 0


class _Stored(NamedTuple):
    change: Change
    first: int | None
    last: int | None
    before: int | None
    flags: str
    at: int


def changes(
    lake: Lake, stream: Stream, span: Interval, counts: Counts | None = None, rows: int = PIECE_ROWS
) -> Iterator[Change]:
    """The book's life in `span`: as it is at the start, where that is known, then change by change; `rows` are read
    at a time.

    Raises CorruptFile, WrongQuestion.
    """
    counts = counts or Counts()
    chain = Chain[Change]()
    local = span.start
    first = _known(lake, stream, span.start)
    if first is not None:
        chain.snapshot(Link(first[0], None, None, span.start, first[1]))
        yield first[1]
    for table in in_order(lake, stream, span, _COLUMNS, rows):
        for row in _rows(table):
            if "carried" in row.flags and chain.in_sync:
                continue  # ours, and said already
            counts.rows += "carried" not in row.flags
            for change in _applied(chain, row):
                counts.given += 1
                local = max(local, change.local)
                yield change._replace(local=local)


def _known(lake: Lake, stream: Stream, at: int) -> tuple[int, Change] | None:
    try:
        book = lake.book(stream.symbol, at=at, exchange=stream.exchange, market_type=stream.market_type)
    except (BookUnknown, BookCrossed):
        return None
    cut = book.valid_low is not None, book.valid_high is not None
    return book.last_id, Change(at, at, snapshot=True, bids=book.bids, asks=book.asks, cut=cut)


def _applied(chain: Chain[Change], row: _Stored) -> Iterable[Change]:
    """What a row lets be said now."""
    if row.last is None or "clear" in row.flags:
        chain.unknown(row.at, "a row says nothing of its place")
        return ()
    link = Link(row.last, row.first, row.before, row.at, row.change)
    if not row.change.snapshot:
        return chain.update(link)
    joined = chain.snapshot(link)
    return () if joined is None else (row.change, *joined)


def _rows(table: pa.Table) -> Iterator[_Stored]:
    """A few at a time: levels as Python's objects take ten times the memory of columns."""
    for start in range(0, table.num_rows, _AT_ONCE):
        yield from _told(table.slice(start, _AT_ONCE))


def _told(table: pa.Table) -> Iterator[_Stored]:
    sides = {"bids": _side(table, "bids"), "asks": _side(table, "asks")}
    plain = pl.DataFrame(table.drop_columns(["bids", "bids_text", "asks", "asks_text"]))
    shown = plain.select(
        pl.col("ts_event").cast(pl.Int64), arrival().alias("local"), "ts_estimated", "first_id", "last_id", "prev_id",
        pl.col("flags").cast(pl.String),
    )  # fmt: skip
    for n, (at, local, estimated, first, last, before, flags) in enumerate(shown.iter_rows()):
        whole = "snapshot" in flags or "carried" in flags
        bids, asks = sides["bids"][n], sides["asks"][n]
        most = max(len(bids), len(asks)) if whole else 0
        cut = (whole and 0 < len(bids) == most, whole and 0 < len(asks) == most)
        change = Change(local if estimated else at, local, whole, bids, asks, cut)
        yield _Stored(change, first, last, before, flags, at)


def _side(table: pa.Table, side: str) -> list[list[Level]]:
    """Levels of every row."""
    flat = {name: (floats, texts) for name, floats, texts in tables.flat_levels(table, "book_delta")}
    price, qty = (_texts(*flat[f"{side}.{field}"]) for field in ("price", "qty"))
    pairs = list(zip(price, qty, strict=True))
    made, start = [], 0
    for count in pl.from_arrow(table.column(side)).list.len():  # type: ignore[union-attr] # a series of lists
        made.append(pairs[start : start + count])
        start += count
    return made


def _texts(floats: pa.ChunkedArray, texts: pa.ChunkedArray) -> list[str]:
    spelt = books.plain(texts) if texts.null_count < len(texts) else None
    return scaled.texts_of(books.plain(floats), spelt).to_list()


class Ladder:
    """The levels of one side, best first."""

    def __init__(self, *, falling: bool) -> None:
        self._falling = falling
        self._prices: list[Decimal] = []
        self._held: dict[Decimal, Level] = {}
        self._bound: Decimal | None = None

    def load(self, levels: list[Level], *, cut: bool) -> None:
        """Begin anew; with `cut` nothing is known beyond the last of these levels."""
        self._prices, self._held, self._bound = [], {}, None
        self.apply(levels)
        self._bound = self._prices[-1] if cut and self._prices else None

    def apply(self, levels: Iterable[Level]) -> None:
        """New quantities; a zero takes the level away, known or not."""
        for price, qty in levels:
            key = Decimal(price).copy_negate() if self._falling else Decimal(price)
            if Decimal(qty):
                if key not in self._held:
                    insort(self._prices, key)
                self._held[key] = (price, qty)
            elif self._held.pop(key, None) is not None:
                del self._prices[bisect_left(self._prices, key)]

    def top(self, count: int) -> list[Level]:
        """The best `count` of the levels that are known."""
        best = self._prices[:count]
        if self._bound is not None:
            best = [key for key in best if key <= self._bound]
        return [self._held[key] for key in best]


class Top:
    """The best levels of a book that changes."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._bids, self._asks = Ladder(falling=True), Ladder(falling=False)
        self.shown: tuple[list[Level], list[Level]] = ([], [])

    def take(self, change: Change) -> bool:
        """Apply a change; whether the best levels are others now."""
        if change.snapshot:
            self._bids.load(change.bids, cut=change.cut[0])
            self._asks.load(change.asks, cut=change.cut[1])
        else:
            self._bids.apply(change.bids)
            self._asks.apply(change.asks)
        now = self._bids.top(self._depth), self._asks.top(self._depth)
        if now == self.shown:
            return False
        self.shown = now
        return True


def difference(before: Change, after: Change) -> Change:
    """What turns one whole book into another, as an update."""
    bids, asks = (_moved(old, new) for old, new in ((before.bids, after.bids), (before.asks, after.asks)))
    return after._replace(snapshot=False, bids=bids, asks=asks)


def told_once(changes: Iterable[Change]) -> Iterator[Change]:
    """The changes; a whole book that follows another at once is told as the levels that differ."""
    before: Change | None = None
    for change in changes:
        again = before is not None and before.snapshot and change.snapshot
        yield difference(before, change) if before is not None and again else change
        before = change


def _moved(old: list[Level], new: list[Level]) -> list[Level]:
    held, kept = dict(old), {price for price, _ in new}
    return [(price, "0") for price in held if price not in kept] + [
        (price, qty) for price, qty in new if held.get(price) != qty
    ]


def change_lines(exchange: str, symbol: str, change: Change) -> str:
    """The lines of `incremental_book_L2`: one a level."""
    whole = "true" if change.snapshot else "false"
    start = f"{exchange},{symbol},{change.timestamp},{change.local},{whole}"
    return "".join(
        [f"{start},bid,{price},{qty}\n" for price, qty in change.bids]
        + [f"{start},ask,{price},{qty}\n" for price, qty in change.asks]
    )


def top_line(exchange: str, symbol: str, change: Change, top: Top, depth: int) -> str:
    """A line of `book_snapshot_N`; cells of levels that are not there are empty."""
    bids, asks = top.shown
    cells = [exchange, symbol, str(change.timestamp), str(change.local)]
    for n in range(depth):
        for side in (asks, bids):
            cells += side[n] if n < len(side) else ("", "")
    return ",".join(cells) + "\n"
