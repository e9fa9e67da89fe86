"""Books as Kraken tells them: spot the best levels and the sum of ten, futures a level a message."""

from __future__ import annotations

import zlib

import msgspec

from simulator.events import Delta, Event
from simulator.instruments import Instrument
from simulator.market import Book

SUMMED = 10
Levels = dict[str, str]
"""Price -> quantity, texts as the ladder has them, best first."""


def _best(text: str) -> Levels:
    return dict(msgspec.json.decode(text, type=list[tuple[str, str]]))


def _digits(text: str, decimals: int) -> str:
    """A number with that many decimals, without its point and leading zeros."""
    whole, _, fraction = text.partition(".")
    return (whole + fraction[:decimals].ljust(decimals, "0")).lstrip("0")


def checksum(instrument: Instrument, bids: Levels, asks: Levels) -> int:
    """The sum that the venue documents: asks from the lowest, then bids from the highest."""
    levels = [*list(asks.items())[:SUMMED], *list(bids.items())[:SUMMED]]
    texts = (_digits(p, instrument.price_decimals) + _digits(q, instrument.qty_decimals) for p, q in levels)
    return zlib.crc32("".join(texts).encode())


class SpotFeed:
    """The best `depth` levels a side: what changed in them. What is pushed out of them is not told."""

    def __init__(self, book: Book, stream: str, depth: int) -> None:
        self.book, self.stream, self.depth = book, stream, depth
        self.bids, self.asks = self._sides()
        self.ts = book.ladder.ts
        self.count = book.instrument.first_id
        self._seen = book.ladder.update_id

    def _sides(self) -> tuple[Levels, Levels]:
        ladder = self.book.ladder
        return _best(ladder.bids.best(self.depth)), _best(ladder.asks.best(self.depth))

    def checksum(self) -> int:
        """The sum of its levels."""
        return checksum(self.book.instrument, self.bids, self.asks)

    def flush(self, now: int) -> tuple[Event, ...]:
        """One message for all that changed. `previous_id` of the event is the checksum: there are no ids."""
        del now
        ladder = self.book.ladder
        if ladder.update_id == self._seen:
            return ()
        self._seen = ladder.update_id
        before = (self.bids, self.asks)
        self.bids, self.asks = self._sides()
        live = ({_price(text) for text in side.text.values()} for side in (ladder.bids, ladder.asks))
        told = [_changes(*sides) for sides in zip(before, (self.bids, self.asks), live, strict=True)]
        if not any(told):
            return ()
        self.ts = ladder.ts
        self.count += 1
        bids, asks = (msgspec.json.encode(side).decode() for side in told)
        return (Delta(self.book, self.stream, self.count, self.count, self.checksum(), bids, asks, ladder.ts),)


def _price(text: str) -> str:
    return text.split('"')[1]


def _changes(before: Levels, now: Levels, live: set[str]) -> list[tuple[str, str]]:
    """What is gone from the book first, then what is new or different."""
    gone = [(price, "0") for price in before if price not in now and price not in live]
    return gone + [(price, qty) for price, qty in now.items() if before.get(price) != qty]


class FuturesFeed:
    """Every level that changed is a message, numbered by one."""

    def __init__(self, book: Book, stream: str) -> None:
        self._book, self._stream = book, stream
        self._window = book.ladder.window()
        book.told[stream] = book.instrument.first_id

    def flush(self, now: int) -> tuple[Event, ...]:
        """The levels touched since the last time, as they are."""
        del now
        window, ladder, book = self._window, self._book.ladder, self._book
        out: list[Event] = []
        for key in window.touched:
            bids, asks = ladder.changes((key,))
            number = book.told[self._stream] = book.told[self._stream] + 1
            out.append(Delta(book, self._stream, number, number, number - 1, bids, asks, ladder.ts))
        window.touched, window.first_id, window.last_id = {}, 0, ladder.update_id
        return tuple(out)
