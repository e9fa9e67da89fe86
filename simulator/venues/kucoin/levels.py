"""A futures book as KuCoin tells it: each level that changed is a message of its own, numbered by one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from simulator.events import Delta, Event
from simulator.market import Book

_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode


class LevelFeed:
    """Changes of a book, level by level."""

    def __init__(self, book: Book, stream: str) -> None:
        self._book, self._stream = book, stream
        self._window = book.ladder.window()
        book.told[stream] = book.instrument.first_id

    def flush(self, now: int) -> Sequence[Event]:
        """What changed since the last time."""
        del now
        window, ladder = self._window, self._book.ladder
        if not window.first_id:
            return ()
        bids, asks = (_raw(side) for side in ladder.changes(window.touched))
        window.touched, window.first_id, window.last_id = {}, 0, ladder.update_id
        buys = [self._one(f"[{bytes(level).decode()}]", "[]") for level in bids]
        return [*buys, *(self._one("[]", f"[{bytes(level).decode()}]") for level in asks)]

    def _one(self, bids: str, asks: str) -> Delta:
        told = self._book.told
        told[self._stream] = number = told[self._stream] + 1
        return Delta(self._book, self._stream, number, number, number - 1, bids, asks, self._book.ladder.ts)
