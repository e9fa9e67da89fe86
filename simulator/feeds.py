"""Streams that speak at fixed intervals: depth, partial depth, mark prices, forced orders, candles.

A feed begins with its first subscription and goes on for the rest of the run, so that what nobody was connected for is
lost, and written down. Intervals are counted from the market's start: the same seed gives the same windows.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from simulator import funding
from simulator.candles import Candle, next_open, open_of
from simulator.events import Delta, Event, Kline, Mark, Marks, Partial

if TYPE_CHECKING:
    from simulator.market import Book

STEP = 50_000
"""us: all intervals are multiples of it."""
OVER = frozenset({"SETTLING", "DELIVERED", "CLOSE"})
"""At these a symbol has ended: its candle of that minute is never closed."""


class Wanted(msgspec.Struct, frozen=True):
    """What a stream's name asks for: a kind every `period` us, of one symbol (lower case) or of all ("")."""

    kind: str
    symbol: str
    period: int
    levels: int = 0
    interval: str = ""
    counted: bool = False
    """Whether a book's messages are numbered by one, in place of the ids of its changes."""
    feed: Callable[[Book, str], Feed] | None = None
    """What makes a feed of the venue's own."""


class Feed(Protocol):
    """One stream of one book."""

    def flush(self, now: int) -> Sequence[Event]:
        """What it says at `now` (us), the end of one of its intervals."""


class DepthFeed:
    """Changes of a book; nothing where nothing changed."""

    def __init__(self, book: Book, stream: str, *, counted: bool = False) -> None:
        self._book, self._stream = book, stream
        self._window = book.ladder.window()
        if counted:
            book.told[stream] = book.instrument.first_id

    def flush(self, now: int) -> Sequence[Event]:
        del now
        window, ladder = self._window, self._book.ladder
        if not window.first_id:
            return ()
        bids, asks = ladder.changes(window.touched)
        last = window.last_id
        first = last + 1 if self._book.market == "spot" else window.first_id  # spot's are contiguous
        window.touched, window.first_id, window.last_id = {}, 0, ladder.update_id
        told = self._book.told
        if self._stream in told:
            told[self._stream] = number = told[self._stream] + 1
            return (Delta(self._book, self._stream, number, number, number - 1, bids, asks, ladder.ts),)
        return (Delta(self._book, self._stream, ladder.update_id, first, last, bids, asks, ladder.ts),)


class PartialFeed:
    """The best levels, where anything changed; and once at the start."""

    def __init__(self, book: Book, stream: str, levels: int) -> None:
        self._book, self._stream, self._levels = book, stream, levels
        self._last = 0

    def flush(self, now: int) -> Sequence[Event]:
        ladder, last = self._book.ladder, self._last
        if ladder.update_id == last or not self._book.listed:
            return ()
        self._last = here = ladder.update_id
        bids, asks = ladder.bids.best(self._levels), ladder.asks.best(self._levels)
        before = last or here - 1
        return (Partial(self._book, self._stream, here, before + 1, before, bids, asks, ladder.ts or now),)


class MarkFeed:
    """Mark price, index price, predicted rate."""

    def __init__(self, book: Book, stream: str, host: str) -> None:
        self._book, self._stream, self._host = book, stream, host

    def flush(self, now: int) -> Sequence[Mark]:
        return (self.mark(now),) if self._book.status == "TRADING" else ()

    def mark(self, now: int) -> Mark:
        """The mark at `now`, us."""
        book = self._book
        mark, index = (funding.text(value) for value in book.reference(now))
        rate = funding.text(funding.predicted(book.seed, now))
        to_come = funding.next_funding(now)
        return Mark(book, self._stream, now // 1000, mark, index, rate, to_come, now, self._host)


class MarksFeed:
    """The marks of all contracts together."""

    def __init__(self, books: Sequence[Book], stream: str, host: str) -> None:
        self._books, self._stream, self._host = books, stream, host
        self._feeds = [MarkFeed(book, stream, host) for book in books]

    def flush(self, now: int) -> Sequence[Event]:
        items = [mark for feed in self._feeds for mark in feed.flush(now)]
        return () if not items else (Marks(self._books[0], self._stream, now // 1000, items, now, self._host),)


class ForcedFeed:
    """The newest forced order since the last one told, at most one an interval."""

    def __init__(self, book: Book, stream: str, host: str) -> None:
        self._book, self._stream, self._host = book, stream, host
        self._last = book.forced.id if book.forced is not None else 0

    def flush(self, now: int) -> Sequence[Event]:
        del now
        newest = self._book.forced
        if newest is None or newest.id == self._last:
            return ()
        self._last = newest.id
        return (msgspec.structs.replace(newest, stream=self._stream, host=self._host),)


class KlineFeed:
    """Candles of one interval: the forming one where it changed, each one's end once."""

    def __init__(self, book: Book, stream: str, interval: str, now: int) -> None:
        self._book, self._stream, self._interval = book, stream, interval
        self._since = open_of(now, interval)
        self._told = (0, 0)

    def flush(self, now: int) -> Sequence[Event]:
        out: list[Event] = []
        if self._book.status in OVER:
            return out
        for candle in self._book.candles.since(self._interval, self._since):
            end = next_open(candle.open_time, self._interval)
            if end <= now:
                self._since = end
                out.append(self._event(candle, end, now, closed=True))
            elif (candle.open_time, candle.count) != self._told:
                self._told = candle.open_time, candle.count
                out.append(self._event(candle, end, now, closed=False))
        return out

    def _event(self, candle: Candle, end: int, now: int, *, closed: bool) -> Event:
        book = self._book
        return Kline(
            book,
            self._stream,
            candle.open_time,
            self._interval,
            end,
            book.price(candle.open),
            book.price(candle.high),
            book.price(candle.low),
            book.price(candle.close),
            book.qty(candle.base),
            book.amount(candle.quote),
            candle.count,
            book.qty(candle.taker_base),
            book.amount(candle.taker_quote),
            candle.first_id,
            candle.last_id,
            closed,
            now,
        )


def make(book: Book, stream: str, wanted: Wanted, now: int) -> Feed:
    """The feed of a stream's name. Raises ValueError for a kind that has none."""
    if wanted.feed is not None:
        return wanted.feed(book, stream)
    match wanted.kind:
        case "book_delta":
            return DepthFeed(book, stream, counted=wanted.counted)
        case "book_snapshot":
            return PartialFeed(book, stream, wanted.levels)
        case "mark_price":
            return MarkFeed(book, stream, book.market)
        case "liquidation":
            return ForcedFeed(book, stream, book.market)
        case "kline":
            return KlineFeed(book, stream, wanted.interval, now)
    raise ValueError(f"no feed of kind {wanted.kind!r}")


def make_for_all(books: Sequence[Book], stream: str, host: str, wanted: Wanted) -> list[Feed]:
    """The feeds of a stream of `host` that tells of all contracts; none where no symbol is listed."""
    if not books:
        return []
    if wanted.kind == "mark_price":
        return [MarksFeed(books, stream, host)]
    return [ForcedFeed(book, stream, host) for book in books]


class Schedule:
    """Feeds by their interval, spread over its steps so that not all symbols speak at once."""

    def __init__(self) -> None:
        self._turns: list[tuple[int, int, int, Feed]] = []
        """Heap of (its next step, its number, steps of its interval, feed)."""
        self._count = 0

    def add(self, feed: Feed, period: int, step: int) -> None:
        """Let a feed speak every `period` us, a multiple of STEP, from `step` on."""
        steps = period // STEP
        first = step + (self._count % steps - step) % steps
        heapq.heappush(self._turns, (first, self._count, steps, feed))
        self._count += 1

    @property
    def next(self) -> float:
        """The step with which the next interval ends; infinite where there is no feed."""
        return self._turns[0][0] if self._turns else math.inf

    def due(self, last: int) -> Iterator[tuple[int, Feed]]:
        """The feeds whose intervals end with a step up to `last`, and those steps, in their order."""
        turns = self._turns
        while turns and turns[0][0] <= last:
            at, number, steps, feed = turns[0]
            heapq.heapreplace(turns, (at + steps, number, steps, feed))
            yield at, feed
