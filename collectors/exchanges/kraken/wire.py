"""What Kraken spot (WebSocket v2) puts on the wire: strict payload structs. Source: SOURCES.md beside the fixtures."""

from __future__ import annotations

from typing import Annotated

import msgspec

from collectors.adapters.reading import Id

INTERVALS = {
    "1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "1440": "1d", "10080": "1w",
    "21600": "15d",
}  # fmt: skip
"""The venue's spelling, minutes -> ours."""
DEPTHS = (10, 25, 100, 500, 1000)
SIDES = frozenset(("buy", "sell"))
WHOLE, CHANGE = "snapshot", "update"
Sum = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class Result(msgspec.Struct, gc=False):
    """What an accepted request names."""

    channel: str | None = None
    symbol: str | None = None


class Head(msgspec.Struct, gc=False):
    """What tells one frame from another: data has a channel, an answer a method."""

    channel: str | None = None
    method: str | None = None
    success: bool | None = None
    error: str | None = None
    req_id: int | None = None
    symbol: str | None = None
    result: Result | None = None
    time_in: str | None = None


class Frame(msgspec.Struct, gc=False):
    """Data of a channel."""

    channel: str
    type: str
    data: list[msgspec.Raw]


class Trade(msgspec.Struct, gc=False):
    """One trade; the side is the taker's, ids follow by one a pair."""

    symbol: str
    side: str
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: Id
    timestamp: str


class Ticker(msgspec.Struct, gc=False):
    """Best levels, and statistics that are not collected."""

    symbol: str
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    timestamp: str


class Level(msgspec.Struct, gc=False):
    """One level, absolute."""

    price: msgspec.Raw
    qty: msgspec.Raw


class Book(msgspec.Struct, gc=False):
    """A whole book or a change of it; a whole may lack its time."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: Sum
    timestamp: str | None = None


class Candle(msgspec.Struct, gc=False):
    """A candle as it stands."""

    symbol: str
    interval: int
    interval_begin: str
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw
    trades: Id


class Pair(msgspec.Struct, gc=False):
    """One pair of the instrument channel."""

    symbol: str
    base: str
    quote: str
    status: str
    price_precision: Annotated[int, msgspec.Meta(ge=0, le=18)]
    qty_precision: Annotated[int, msgspec.Meta(ge=0, le=18)]
    price_increment: msgspec.Raw = msgspec.Raw(b"")
    qty_increment: msgspec.Raw = msgspec.Raw(b"")


class Pairs(msgspec.Struct, gc=False):
    """`data` of the instrument channel; assets are not collected."""

    pairs: list[msgspec.Raw]


class Instruments(msgspec.Struct, gc=False):
    """The instrument channel."""

    channel: str
    type: str
    data: Pairs


class Status(msgspec.Struct, gc=False):
    """One item of the status channel."""

    system: str = ""


class Statuses(msgspec.Struct, gc=False):
    """The status channel."""

    data: list[Status]


class Params(msgspec.Struct, gc=False):
    """What a request of ours asks for."""

    channel: str
    symbol: list[str] = []
    depth: int | None = None
    interval: int | None = None


class Command(msgspec.Struct, gc=False):
    """A frame of ours, as a recording has it."""

    method: str
    params: Params | None = None
    req_id: int | None = None


head = msgspec.json.Decoder(Head).decode
frame = msgspec.json.Decoder(Frame).decode
trade = msgspec.json.Decoder(Trade).decode
ticker = msgspec.json.Decoder(Ticker).decode
book = msgspec.json.Decoder(Book).decode
candle = msgspec.json.Decoder(Candle).decode
instruments = msgspec.json.Decoder(Instruments).decode
pair = msgspec.json.Decoder(Pair).decode
statuses = msgspec.json.Decoder(Statuses).decode
command = msgspec.json.Decoder(Command).decode
