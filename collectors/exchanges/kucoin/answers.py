"""Books as KuCoin's REST routes give them: spot writes texts, futures numbers. Pure."""

from __future__ import annotations

import msgspec

from collectors.adapters.reading import EARLY, PAST, Millis, good_levels
from collectors.exchanges.kucoin import wire
from market.times import MS


class Said(msgspec.Struct, frozen=True):
    """A book as a REST route gives it. `time` in us."""

    last: int
    time: int
    bids: msgspec.Raw
    asks: msgspec.Raw


class _Spot(msgspec.Struct):
    time: Millis
    sequence: str
    bids: msgspec.Raw
    asks: msgspec.Raw


class _Futures(msgspec.Struct):
    ts: wire.Nanos
    sequence: int
    bids: list[tuple[msgspec.Raw, msgspec.Raw]]
    asks: list[tuple[msgspec.Raw, msgspec.Raw]]
    symbol: str | None = None


_spot = msgspec.json.Decoder(_Spot).decode
_futures = msgspec.json.Decoder(_Futures).decode


def read(market: str, symbol: str, data: msgspec.Raw, now: int) -> Said | str:
    """The book of an answer, or why it is none. Raises BAD_FRAME."""
    found = _read_spot(data) if market == "spot" else _read_futures(symbol, data)
    if isinstance(found, Said) and not EARLY <= now - found.time <= PAST:
        return "impossible time"
    return found


def _read_spot(data: msgspec.Raw) -> Said | str:
    book = _spot(data)
    text = book.sequence
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        return "no sequence, as of a symbol that is not listed"
    if not good_levels(book.bids, book.asks):
        return "levels that are no [price, quantity] texts"
    return Said(int(text), book.time * MS, book.bids, book.asks)


def _read_futures(symbol: str, data: msgspec.Raw) -> Said | str:
    book = _futures(data)
    if book.symbol not in (None, symbol):
        return "another symbol than the one that was asked for"
    if not 0 <= book.sequence < 2**62:
        return "no sequence"
    sides = [
        [(wire.plain(price), wire.plain(size)) for price, size in side if bytes(size) != b"0"]
        for side in (book.bids, book.asks)
    ]
    if any(None in level for side in sides for level in side):
        return "levels that are no numbers"
    bids, asks = (msgspec.Raw(msgspec.json.encode(side)) for side in sides)
    return Said(book.sequence, book.ts // 1000, bids, asks)
