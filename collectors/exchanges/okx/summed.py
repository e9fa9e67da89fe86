"""Books of OKX as they were before messages had ids (before 2023; a sister venue until the middle of that year). Pure.

Each message says the CRC32 of the 25 best levels a side behind it, over the venue's own texts. One by which it holds
proves that nothing before it is missing, and is a row: its id is its time in us, one above the row before where the
time does not rise. One by which it does not hold is no row: a row `clear` says that the book is lost until the next
whole.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, good_levels, why
from collectors.adapters.streamed_books import CLEAR, NO_FLAGS, SNAPSHOT
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.protocol import OkxSession, Parse
from market.kinds import BookDelta
from market.session import Output, StreamState

SUMMED = 25
"""Levels a side that the checksum covers."""
EMPTY = msgspec.Raw(b"[]")
_levels = msgspec.json.Decoder(list[list[str]]).decode


class _Side:
    """One side; the best price comes first in `keys`."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self.keys: list[Decimal] = []
        self.held: dict[Decimal, tuple[str, str]] = {}

    def put(self, levels: Iterable[Sequence[str]]) -> None:
        """Each level's quantity is now this; 0 takes it away."""
        for price, qty, *_ in levels:
            key = self._sign * Decimal(price)
            if Decimal(qty):
                if key not in self.held:
                    insort(self.keys, key)
                self.held[key] = (price, qty)
            elif self.held.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]

    def best(self) -> list[tuple[str, str]]:
        """The levels that are summed."""
        return [self.held[key] for key in self.keys[:SUMMED]]


class SummedBook:
    """Both sides, in the venue's texts."""

    def __init__(self) -> None:
        self._sides = _Side(-1), _Side(1)

    def apply(self, bids: msgspec.Raw, asks: msgspec.Raw) -> None:
        """The levels of one message."""
        for side, levels in zip(self._sides, (bids, asks), strict=True):
            side.put(_levels(levels))

    def checksum(self) -> int:
        """The sum, as a signed number: best bid, best ask, next bid, and so on; a shorter side just ends."""
        best = [side.best() for side in self._sides]
        told = [text for place in range(SUMMED) for side in best for level in side[place : place + 1] for text in level]
        crc = zlib.crc32(":".join(told).encode())
        return crc - (1 << 32) if crc >= 1 << 31 else crc


def delta(session: OkxSession, state: StreamState) -> Parse:
    """`books` of messages without ids."""
    stream, source, book = state.stream, session.session_id, session.books.follow(state)
    symbol, name = stream.symbol, stream.name
    held = SummedBook()

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal held
        try:
            found = wire.summed(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        if found.arg.channel != stream.channel or found.arg.instId != symbol or len(found.data) != 1:
            return session.reject("another symbol than its stream's, or not one change", name, number)
        data = found.data[0]
        time, whole = wire.time_of(data.ts), found.action == wire.WHOLE
        if not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        if not (whole or found.action == wire.CHANGE) or not good_levels(data.bids, data.asks):
            return session.reject("no known action, or levels that are no [price, quantity] texts", name, number)
        session.heard(state, ts_recv, time)
        if whole:
            held = SummedBook()
        elif not book.known:
            return session.ignore(f"{stream.channel} behind a lost message")
        before = book.last
        held.apply(data.bids, data.asks)
        row = BookDelta(
            symbol, name, time, None, ts_recv, source, number, 0, "ws", data.bids, data.asks, None, None, None,
            data.checksum,
        )  # fmt: skip
        if held.checksum() != data.checksum:
            book.lose(ts_recv)
            row.bids, row.asks, row.flags = EMPTY, EMPTY, CLEAR
            return session.reject("a whole book whose checksum does not hold", name, number) if whole else (row,)
        if whole and book.known and time == before:
            return session.ignore(f"{stream.channel} repeated")
        row.last_id = time if before is None or time > before else before + 1
        if whole:
            book.begin(row.last_id, ts_recv)
            row.flags = SNAPSHOT
        else:
            row.prev_id, row.flags = before, NO_FLAGS
            book.update(row.last_id, follows=True, now=ts_recv)
        return (row,)

    return parse
