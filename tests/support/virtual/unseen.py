"""Updates of Kraken's spot books that were dropped, and what those who missed them could know of it.

The venue numbers nothing: that an update is missing shows only where the checksum of a later message, which is of the
ten best levels a side, is not that of the book that is left. So each connection that missed one is followed with the
book that it holds, until a checksum shows it, or a new whole takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from simulator.events import Delta
from simulator.venues.kraken.books import Levels, SpotFeed, checksum
from simulator.witness import Told

DROPPED = "drop_ids"


class _Reader(msgspec.Struct):
    """A book as the venue's rules make it of a whole and the updates behind it."""

    bids: Levels
    asks: Levels
    depth: int
    missed: list[tuple[Told, int]] = []
    """Streams and numbers of the updates that it did not get."""

    def take(self, delta: Delta) -> None:
        for side, text in ((self.bids, delta.bids), (self.asks, delta.asks)):
            for price, qty in msgspec.json.decode(text, type=list[tuple[str, str]]):
                if float(qty):
                    side[price] = qty
                else:
                    side.pop(price, None)
        self.bids = dict(sorted(self.bids.items(), key=lambda level: -float(level[0]))[: self.depth])
        self.asks = dict(sorted(self.asks.items(), key=lambda level: float(level[0]))[: self.depth])


class Unseen:
    """`books` are the venue's own, by stream."""

    def __init__(self, books: Mapping[str, SpotFeed]) -> None:
        self._books = books
        self._whole: dict[str, _Reader] = {}
        """Who missed nothing, by stream."""
        self._behind: dict[tuple[int, str], _Reader] = {}
        """Who missed something, by connection and stream."""

    def subscribed(self, connection: int, streams: Iterable[str]) -> None:
        """It is sent a whole, which tells what it had missed."""
        for stream in streams:
            if (feed := self._books.get(stream)) is not None:
                self._whole[stream] = _Reader(dict(feed.bids), dict(feed.asks), feed.depth)
                self._behind.pop((connection, stream), None)

    def closed(self, connection: int) -> None:
        for key in [key for key in self._behind if key[0] == connection]:
            del self._behind[key]

    def event(self, delta: Delta, told: Told, sent: Iterable[int], dropped: Mapping[int, str]) -> None:
        """An update, the newest one in `told`: who got it, and from whom a fault took it."""
        stream = delta.stream
        whole = self._whole.get(stream)
        if whole is None:
            return
        for connection in (one for one, fault in dropped.items() if fault == DROPPED):
            reader = self._behind.get((connection, stream))
            if reader is None:
                reader = _Reader(dict(whole.bids), dict(whole.asks), whole.depth, [])
                self._behind[connection, stream] = reader
            reader.missed.append((told, told.ids[-1]))
            told.unseen[told.ids[-1]] = 0
        whole.take(delta)
        for key in [(one, stream) for one in dict.fromkeys(sent) if (one, stream) in self._behind]:
            reader = self._behind[key]
            reader.take(delta)
            if checksum(delta.book.instrument, reader.bids, reader.asks) != delta.previous_id:
                for seen, number in reader.missed:
                    seen.unseen[number] = seen.unseen.get(number) or told.times[-1]
                del self._behind[key]
