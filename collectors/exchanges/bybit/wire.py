"""What Bybit (V5) puts on the wire: strict payload structs, and the words of its topics, intervals and sides.

Every push names its `topic`; the order of keys differs between spot and futures. Times are milliseconds. Source: the
venue's pages, as SOURCES.md beside the fixtures of the conformance suite names them.
"""

from __future__ import annotations

import msgspec

from collectors.adapters.reading import Id, Millis

SIDES = {"Buy": "buy", "Sell": "sell"}
"""Of a trade: the taker's."""
FORCED = {"Buy": "sell", "Sell": "buy"}
"""Of a liquidation the venue says the position's side: a long (`Buy`) is closed by an order to sell."""
INTERVALS = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h", "360": "6h",
    "720": "12h", "D": "1d", "W": "1w", "M": "1M",
}  # fmt: skip
"""The venue's spelling -> ours."""
WHOLE, CHANGE = "snapshot", "delta"


class Head(msgspec.Struct, gc=False):
    """What tells one frame from another: a push has a topic, an answer has an `op` and `success`."""

    topic: str | None = None
    op: str | None = None
    success: bool | None = None
    ret_msg: str | None = None
    req_id: str | None = None
    type: str | None = None


class TradeItem(msgspec.Struct, gc=False):
    """One fill. `i` is a UUID on derivatives, an integer as text on spot, where ids ascend and are not contiguous."""

    T: Millis
    s: str
    S: str
    v: str
    p: str
    i: str
    BT: bool = False
    RPI: bool = False


class Trades(msgspec.Struct, gc=False):
    """`publicTrade.<s>`: at most 1024 fills, ascending."""

    topic: str
    ts: Millis
    data: list[msgspec.Raw]


class Levels(msgspec.Struct, gc=False):
    """Levels of a book, absolute; `u` counts the messages of this topic, 1 being a restart of the service."""

    s: str
    b: msgspec.Raw
    a: msgspec.Raw
    u: Id


class Depth(msgspec.Struct, gc=False):
    """`orderbook.<levels>.<s>`; `cts` is the matching engine's time, missing before 2023-05."""

    topic: str
    type: str
    ts: Millis
    data: Levels
    cts: Millis | None = None


class Top(msgspec.Struct, gc=False):
    """`data` of `orderbook.1.<s>`: at most one level a side."""

    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: Id


class Best(msgspec.Struct, gc=False):
    """`orderbook.1.<s>`: wholes; until 2023 also changes."""

    topic: str
    type: str
    ts: Millis
    data: Top
    cts: Millis | None = None


class TickerData(msgspec.Struct, gc=False):
    """Of a derivative's ticker what is collected; a change leaves out what is as it was."""

    symbol: str
    markPrice: str | None = None  # noqa: N815 -- the venue's spelling
    indexPrice: str | None = None  # noqa: N815
    fundingRate: str | None = None  # noqa: N815
    nextFundingTime: str | None = None  # noqa: N815


class Ticker(msgspec.Struct, gc=False):
    """`tickers.<s>` of a derivative: one whole, then changes."""

    topic: str
    type: str
    ts: Millis
    data: TickerData


class Candle(msgspec.Struct, gc=False):
    """One candle; `confirm` is true once, when it closes. `end` is the next one's start less 1 ms."""

    start: Millis
    end: Millis
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    confirm: bool


class Candles(msgspec.Struct, gc=False):
    """`kline.<interval>.<s>`."""

    topic: str
    ts: Millis
    data: list[Candle]


class ForcedItem(msgspec.Struct, gc=False):
    """One forced order: `S` is the side of the position, `p` its bankruptcy price."""

    T: Millis
    s: str
    S: str
    v: str
    p: str


class Forceds(msgspec.Struct, gc=False):
    """`allLiquidation.<s>`: all forced orders, twice a second."""

    topic: str
    ts: Millis
    data: list[msgspec.Raw]


head = msgspec.json.Decoder(Head).decode
trades = msgspec.json.Decoder(Trades).decode
trade = msgspec.json.Decoder(TradeItem).decode
depth = msgspec.json.Decoder(Depth).decode
best = msgspec.json.Decoder(Best).decode
ticker = msgspec.json.Decoder(Ticker).decode
candles = msgspec.json.Decoder(Candles).decode
forceds = msgspec.json.Decoder(Forceds).decode
forced = msgspec.json.Decoder(ForcedItem).decode
