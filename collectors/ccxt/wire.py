"""The frames that the shell around ccxt writes, as they are read: strict structs, numbers as texts. Pure.

A frame is one JSON object: what ccxt understood (`parsed`, only the fields that rows are made of) beside the venue's
own words (`info`), so that a row traces to both and a replay needs no ccxt. What is asked for is a frame as well.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=256)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)]


class Watch(msgspec.Struct, omit_defaults=True):
    """What is sent: watch a symbol. `levels` a side of a book."""

    watch: str
    symbol: str
    timeframe: str = ""
    levels: int = 0


class Head(msgspec.Struct):
    """What every frame says of itself. `event` is a word of the shell (`collectors.ccxt.session`)."""

    channel: Text
    symbol: Text
    event: str = ""
    reason: str = ""
    size: str | None = None
    """Of a contract: how much of the base (linear) or the quote (inverse) one is."""
    rows: list[msgspec.Raw] = []


class Trade(msgspec.Struct):
    timestamp: Millis | None
    price: Text | None
    amount: Text | None
    id: Text | None = None
    side: Text | None = None


class Quote(msgspec.Struct):
    bid: Text | None
    ask: Text | None
    bidVolume: Text | None = None  # noqa: N815 -- ccxt's spelling
    askVolume: Text | None = None  # noqa: N815
    timestamp: Millis | None = None


class Book(msgspec.Struct):
    bids: msgspec.Raw
    asks: msgspec.Raw
    timestamp: Millis | None = None
    nonce: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None


class Candle(msgspec.Struct, array_like=True):
    opened: Millis
    open: Text
    high: Text
    low: Text
    close: Text
    volume: Text


class Liquidation(msgspec.Struct):
    timestamp: Millis | None
    price: Text | None
    contracts: Text | None
    side: Text | None = None


class Mark(msgspec.Struct):
    timestamp: Millis | None
    markPrice: Text | None  # noqa: N815 -- ccxt's spelling
    indexPrice: Text | None = None  # noqa: N815


class Interest(msgspec.Struct):
    openInterestAmount: Text | None  # noqa: N815 -- ccxt's spelling
    timestamp: Millis | None = None


class Funding(msgspec.Struct):
    timestamp: Millis
    fundingRate: Text  # noqa: N815 -- ccxt's spelling


class Market(msgspec.Struct):
    id: Text
    symbol: Text
    type: Text
    base: Text | None = None
    quote: Text | None = None
    settle: Text | None = None
    active: bool | None = None
    linear: bool | None = None
    inverse: bool | None = None
    contractSize: Text | None = None  # noqa: N815 -- ccxt's spelling
    tick: Text | None = None
    lot: Text | None = None
    expiry: Millis | None = None
    created: Millis | None = None


class Row(msgspec.Struct):
    """One thing of a frame; what the venue said of it stays as it is."""

    parsed: msgspec.Raw


class Answer(msgspec.Struct):
    """What a route says: rows, or the class and the words of ccxt's error."""

    rows: list[msgspec.Raw] = []
    error: str = ""
    message: str = ""


head = msgspec.json.Decoder(Head).decode
watch = msgspec.json.Decoder(Watch).decode
row = msgspec.json.Decoder(Row).decode
answer = msgspec.json.Decoder(Answer).decode
trade = msgspec.json.Decoder(Trade).decode
quote = msgspec.json.Decoder(Quote).decode
book = msgspec.json.Decoder(Book).decode
candle = msgspec.json.Decoder(Candle).decode
liquidation = msgspec.json.Decoder(Liquidation).decode
mark = msgspec.json.Decoder(Mark).decode
interest = msgspec.json.Decoder(Interest).decode
funding = msgspec.json.Decoder(Funding).decode
market = msgspec.json.Decoder(Market).decode
