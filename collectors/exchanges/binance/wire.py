"""What Binance puts on the wire: strict payload structs, time units and the check of its number texts.

A payload is decoded inside its combined-stream envelope (`{"stream": …, "data": …}`) in one step; unknown keys are
skipped, wrong types refuse the frame. Source: the venue's pages, as SOURCES.md beside
the fixtures of the conformance suite names them.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from market.times import DAY, MINUTE, MS

Id = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""Far above what it counts to, and far enough below 2^63 that the id after it, and a gap's end, is a 64-bit integer."""
Time = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000_000)]
"""Milliseconds, or microseconds on a spot connection opened with `timeUnit=MICROSECOND`; nothing after 2099."""

LAST = 4_102_444_800_000_000
"""2100 in us: a time of the venue's that is not compared with ours lies before it, whichever unit it came in."""
MICROSECONDS_FROM = 100_000_000_000_000
"""A time at or above this is in microseconds: as milliseconds it would be the year 5138, below it as us 1973."""

PAST = 7 * DAY
FUTURE = 5 * MINUTE
EARLY = -FUTURE
"""A live frame's receive time minus its venue times lies in [EARLY, PAST]."""
WEIGHT_HEADER = "x-mbx-used-weight-1m"
"""What its REST answers say of the weight that this address has used since the minute began."""
WEIGHT_UNSAID = ("/ticker/bookTicker",)
"""Futures routes whose answers say it wrong."""
BAD_FRAME = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Everything that msgspec raises for bytes of a peer."""

NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?", re.ASCII).fullmatch
"""A price or quantity as the venue writes it; None where a text is none."""


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


def all_good(*texts: str) -> bool:
    """Whether each is a strict decimal that is not negative: no exponent, no sign, no foreign digits."""
    for text in texts:  # noqa: SIM110 -- a generator costs as much as three of the questions
        if NUMBER(text) is None:
            return False
    return True


def why(error: Exception) -> str:
    """What is wrong with a frame, in words of ours: rejections are counted by reason, so there must be few."""
    if isinstance(error, msgspec.ValidationError):
        return str(error)[:200]
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"


def to_us(time: int) -> int:
    """A venue time in us, whichever of its two units it came in."""
    return time * MS if time < MICROSECONDS_FROM else time


def same_text(raw: bytes, text: str) -> bool:
    """Whether the inside of a JSON string, as bytes, says `text`."""
    try:
        return _text(b'"%b"' % raw) == text
    except BAD_FRAME:
        return False
