"""What OKX (V5) puts on the wire: strict payload structs, and the words of its channels, intervals and sides.

Every push names its `arg`: a channel with an instrument, or with a type of instruments. Numbers are texts, times texts
of milliseconds. Source: the venue's pages, as SOURCES.md beside the fixtures of the conformance suite names them.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from collectors.adapters.reading import LAST, Id
from market.times import MS

SIDES = ("buy", "sell")
"""Of a trade the taker's, of a forced order its own."""
SWAP, FUTURES, SPOT = "SWAP", "FUTURES", "SPOT"
PERPETUAL = "-SWAP"
"""How the id of a perpetual ends."""
TYPES = (SWAP, FUTURES)
"""Types of derivatives."""
INTERVALS = {
    "1s": "1s", "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "2H": "2h", "4H": "4h",
    "6Hutc": "6h", "12Hutc": "12h", "1Dutc": "1d", "1Wutc": "1w", "1Mutc": "1M",
}  # fmt: skip
"""The venue's spelling -> ours. From six hours on those without `utc` open at UTC+8: they are not collected."""
WHOLE, CHANGE = "snapshot", "update"
SUMS_DIED = "2026-06-23"
"""From when on (UTC) checksums of books are 0 or absent in production; it was announced without an hour."""
REASONABLE = 13
"""Digits of a time in milliseconds, at most."""
_TEXT = rb'"(?!0[0-9])[0-9]{1,30}+(?:\.[0-9]{1,30}+)?+"'
_LEVEL = rb"\[" + _TEXT + rb"," + _TEXT + rb'(?:,"[0-9]{1,12}"){0,2}\]'
COMPACT = re.compile(rb"\[(?:" + _LEVEL + rb"(?:," + _LEVEL + rb")*+)?\]").fullmatch
"""A side of a book as the venue writes it: [price, quantity, "0", orders]."""


class Arg(msgspec.Struct, gc=False):
    """What a frame is about."""

    channel: str
    instId: str = ""  # noqa: N815 -- the venue's spelling
    instType: str = ""  # noqa: N815


class Head(msgspec.Struct, gc=False):
    """What tells one frame from another: a push has data, an answer an `event`."""

    arg: Arg | None = None
    event: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    code: str | None = None
    msg: str | None = None
    id: str | None = None


class TradeItem(msgspec.Struct, gc=False):
    """Fills of one taker order at one price: `tradeId` is the last of `count` ids, which follow each other by one.

    `source` 1 is an order of retail price improvement.
    """

    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: str
    ts: str
    count: str = "1"
    source: str = "0"


class Trades(msgspec.Struct, gc=False):
    """`trades-all` (each fill by itself, without `count`) and `trades`."""

    arg: Arg
    data: list[TradeItem]


class Depth(msgspec.Struct, gc=False):
    """A book's levels, absolute. A whole has `prevSeqId` -1; `checksum` is dead and not looked at."""

    bids: msgspec.Raw
    asks: msgspec.Raw
    ts: str
    seqId: Id  # noqa: N815
    prevSeqId: int  # noqa: N815


class Depths(msgspec.Struct, gc=False):
    """`books`: 400 levels a side, every 100 ms."""

    arg: Arg
    action: str
    data: list[Depth]


Checksum = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**32)]
"""A signed CRC32 of the best 25 levels a side behind a message."""


class Sum(msgspec.Struct, gc=False):
    """Before 2023 messages had no ids."""

    checksum: Checksum = 0
    seqId: msgspec.Raw = msgspec.Raw(b"")  # noqa: N815


class OldDepth(msgspec.Struct, gc=False):
    """A whole book or a change as told before messages had ids."""

    asks: msgspec.Raw
    bids: msgspec.Raw
    ts: str
    checksum: Checksum


class Summed(msgspec.Struct, gc=False):
    """`books` of before 2023."""

    arg: Arg
    action: str
    data: list[OldDepth]


class Sums(msgspec.Struct, gc=False):
    """What a message of `books` said before SUMS_DIED beside its levels."""

    data: list[Sum]


class Top(msgspec.Struct, gc=False):
    """The best level a side; `seqId` shares the book's numbering."""

    bids: list[list[str]]
    asks: list[list[str]]
    ts: str
    seqId: Id  # noqa: N815


class Best(msgspec.Struct, gc=False):
    """`bbo-tbt`: wholes of one level."""

    arg: Arg
    data: list[Top]


class MarkItem(msgspec.Struct, gc=False):
    """The mark price."""

    instId: str  # noqa: N815
    markPx: str  # noqa: N815
    ts: str


class Marks(msgspec.Struct, gc=False):
    """`mark-price`."""

    arg: Arg
    data: list[MarkItem]


class RateItem(msgspec.Struct, gc=False):
    """`fundingRate` is the estimate of what will be settled at `fundingTime`."""

    instId: str  # noqa: N815
    fundingRate: str  # noqa: N815
    fundingTime: str  # noqa: N815
    ts: str


class Rates(msgspec.Struct, gc=False):
    """`funding-rate`."""

    arg: Arg
    data: list[RateItem]


class InterestItem(msgspec.Struct, gc=False):
    """Open contracts, and what they are worth in the coin and in USD."""

    instId: str  # noqa: N815
    oi: str
    oiCcy: str  # noqa: N815
    ts: str
    oiUsd: str = ""  # noqa: N815


class Interests(msgspec.Struct, gc=False):
    """`open-interest`."""

    arg: Arg
    data: list[InterestItem]


class ForcedItem(msgspec.Struct, gc=False):
    """One forced order: `side` is the order's, `bkPx` the price at which it was taken over."""

    side: str
    sz: str
    bkPx: str  # noqa: N815
    ts: str


class ForcedOf(msgspec.Struct, gc=False):
    """Forced orders of one instrument."""

    instId: str  # noqa: N815
    details: list[msgspec.Raw]


class Forceds(msgspec.Struct, gc=False):
    """`liquidation-orders` of a type of instruments."""

    arg: Arg
    data: list[msgspec.Raw]


class Candles(msgspec.Struct, gc=False):
    """`candle<interval>`: [open time, O, H, L, C, vol, volCcy, volCcyQuote, confirm]."""

    arg: Arg
    data: list[list[str]]


head = msgspec.json.Decoder(Head).decode
trades = msgspec.json.Decoder(Trades).decode
depths = msgspec.json.Decoder(Depths).decode
sums = msgspec.json.Decoder(Sums).decode
summed = msgspec.json.Decoder(Summed).decode
best = msgspec.json.Decoder(Best).decode
marks = msgspec.json.Decoder(Marks).decode
rates = msgspec.json.Decoder(Rates).decode
interests = msgspec.json.Decoder(Interests).decode
forceds = msgspec.json.Decoder(Forceds).decode
forced_of = msgspec.json.Decoder(ForcedOf).decode
forced = msgspec.json.Decoder(ForcedItem).decode
candles = msgspec.json.Decoder(Candles).decode


def time_of(text: str) -> int:
    """A time of the venue (us); 0, which is impossible, for what is none."""
    if len(text) > REASONABLE or not (text.isascii() and text.isdigit()):
        return 0
    time = int(text) * MS
    return time if time < LAST else 0
