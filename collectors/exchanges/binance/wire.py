"""What Binance puts on the wire: strict payload structs, time units and the check of its number texts.

A payload is decoded inside its combined-stream envelope (`{"stream": …, "data": …}`) in one step; unknown keys are
skipped, wrong types refuse the frame. Source: the venue's pages, as SOURCES.md beside
the fixtures of the conformance suite names them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from collectors.adapters.reading import (
    BAD_FRAME,
    EARLY,
    FOUR_NUMBERS,
    FUTURE,
    LAST,
    NUMBER,
    PAST,
    TWO_NUMBERS,
    Id,
    all_good,
    why,
)
from market.times import MS

__all__ = [
    "BAD_FRAME", "EARLY", "FOUR_NUMBERS", "FUTURE", "LAST", "NUMBER", "PAST", "TWO_NUMBERS", "Id", "all_good", "why",
]  # fmt: skip

Time = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000_000)]
"""Milliseconds, or microseconds on a spot connection opened with `timeUnit=MICROSECOND`; nothing after 2099."""

MICROSECONDS_FROM = 100_000_000_000_000
"""A time at or above this is in microseconds: as milliseconds it would be the year 5138, below it as us 1973."""

WEIGHT_HEADER = "x-mbx-used-weight-1m"
"""What its REST answers say of the weight that this address has used since the minute began."""
WEIGHT_UNSAID = ("/ticker/bookTicker",)
"""Futures routes whose answers say it wrong."""


class Envelope(msgspec.Struct, gc=False):
    """A combined-stream frame whose payload is not looked at yet."""

    stream: str
    data: msgspec.Raw


class Problem(msgspec.Struct, gc=False):
    """The venue's error body, on WebSocket and REST alike."""

    code: int
    msg: str | None = None


class Inner(msgspec.Struct, gc=False):
    """What tells one candle's or order's stream from another."""

    s: str | None = None
    i: str | None = None


class Peek(msgspec.Struct, gc=False):
    """What tells one bare frame from another: an event, an answer to a command (its error wrapped as measured or
    bare as documented), a quote or a partial book.
    """

    e: str | None = None
    s: str | None = None
    u: int | None = None
    k: Inner | None = None
    o: Inner | str | None = None
    """An order; of other events an opening price or time."""
    lastUpdateId: int | None = None  # noqa: N815 -- the venue's spelling
    stream: str | None = None
    id: int | str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    code: int | None = None
    msg: str | None = None


class Symbol(msgspec.Struct, gc=False):
    s: str


class SymbolFrame(msgspec.Struct, gc=False):
    data: Symbol


class Ordered(msgspec.Struct, gc=False):
    o: Symbol


class OrderFrame(msgspec.Struct, gc=False):
    data: Ordered


class SpotTrade(msgspec.Struct, gc=False):
    """`<s>@trade`: one fill. `m` says that the buyer was the maker."""

    E: Time
    s: str
    t: Id
    p: str
    q: str
    T: Time
    m: bool


class AggTrade(msgspec.Struct, gc=False):
    """`<s>@aggTrade` of either market; `f`..`l` are the trade ids inside."""

    E: Time
    s: str
    a: Id
    p: str
    q: str
    f: Id
    l: Id  # noqa: E741 -- the venue's spelling
    T: Time
    m: bool


class SpotQuote(msgspec.Struct, gc=False):
    """Spot `<s>@bookTicker`: no time at all."""

    u: Id
    s: str
    b: str
    B: str
    a: str
    A: str


class FuturesTrade(msgspec.Struct, gc=False, kw_only=True):
    """USD-M `<s>@trade` (undocumented, measured): `X` says whether it was a market trade."""

    E: Time
    T: Time
    s: str
    t: Id
    p: str
    q: str
    X: str = "MARKET"
    m: bool


class FuturesQuote(msgspec.Struct, gc=False):
    """Futures `<s>@bookTicker`: both clocks."""

    u: Id
    s: str
    b: str
    B: str
    a: str
    A: str
    T: Time
    E: Time


class SpotTradeFrame(msgspec.Struct, gc=False):
    data: SpotTrade


class AggTradeFrame(msgspec.Struct, gc=False):
    data: AggTrade


class SpotQuoteFrame(msgspec.Struct, gc=False):
    data: SpotQuote


class FuturesTradeFrame(msgspec.Struct, gc=False):
    data: FuturesTrade


class FuturesQuoteFrame(msgspec.Struct, gc=False):
    data: FuturesQuote


envelope = msgspec.json.Decoder(Envelope).decode
problem = msgspec.json.Decoder(Problem).decode
peek = msgspec.json.Decoder(Peek).decode
symbol = msgspec.json.Decoder(SymbolFrame).decode
order = msgspec.json.Decoder(OrderFrame).decode
peeks = msgspec.json.Decoder(list[Peek]).decode
spot_trade = msgspec.json.Decoder(SpotTradeFrame).decode
agg_trade = msgspec.json.Decoder(AggTradeFrame).decode
spot_quote = msgspec.json.Decoder(SpotQuoteFrame).decode
futures_trade = msgspec.json.Decoder(FuturesTradeFrame).decode
futures_quote = msgspec.json.Decoder(FuturesQuoteFrame).decode
_text = msgspec.json.Decoder(str).decode


def to_us(time: int) -> int:
    """A venue time in us, whichever of its two units it came in."""
    return time * MS if time < MICROSECONDS_FROM else time


def same_text(raw: bytes, text: str) -> bool:
    """Whether the inside of a JSON string, as bytes, says `text`."""
    try:
        return _text(b'"%b"' % raw) == text
    except BAD_FRAME:
        return False
