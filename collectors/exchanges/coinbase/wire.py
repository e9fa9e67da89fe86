"""What Coinbase's feed Advanced Trade puts on the wire: strict payload structs, its times, the words of its channels.

Every message is an envelope `{channel, timestamp, sequence_num, events}`; `sequence_num` counts the messages of a
connection over all channels. Times are RFC 3339 with up to nanoseconds. Source: the venue's pages and a recording, as
SOURCES.md beside the fixtures of the conformance suite names them.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

import msgspec

from collectors.adapters.reading import Id
from market.times import SECOND

TAKER = {"BUY": "sell", "SELL": "buy"}
"""The venue says the side of the maker."""
BOOK_SIDES = {"bid": 0, "offer": 1}
WHOLE, CHANGE = "snapshot", "update"
SAYS = {"level2": "l2_data"}
"""A channel -> what its messages call it, where that differs."""
EXCHANGE = "exchange."
"""What our names of the channels of the feed Exchange begin with (`exchange_wire`)."""
ACK, BEAT = "subscriptions", "heartbeats"
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d):([0-5]\d)(?:\.(\d{1,9}))?Z", re.ASCII).fullmatch


@lru_cache(maxsize=256)
def _minute(text: str) -> int | None:
    try:
        return int(dt.datetime.fromisoformat(f"{text}:00+00:00").timestamp()) * SECOND
    except ValueError:
        return None


def micros(text: str) -> int | None:
    """A time of the venue's in us, what is finer cut off; None for what is none."""
    found = _TIME(text)
    minute = None if found is None else _minute(found[1])
    if found is None or minute is None:
        return None
    return minute + int(found[2]) * SECOND + int((found[3] or "")[:6].ljust(6, "0"))


class Head(msgspec.Struct, gc=False):
    """What tells one message from another: errors have a `type` and no channel."""

    channel: str | None = None
    sequence_num: Id | None = None
    type: str | None = None
    message: str | None = None
    reason: str | None = None


class TradeItem(msgspec.Struct, gc=False):
    """One fill; ids follow each other by one for each product."""

    product_id: str
    trade_id: str
    price: str
    size: str
    time: str
    side: str


class TradeEvent(msgspec.Struct, gc=False):
    """Fills, newest first; a snapshot holds the newest 100 of one product."""

    type: str
    trades: list[msgspec.Raw]


class Trades(msgspec.Struct, gc=False):
    """`market_trades`."""

    channel: str
    timestamp: str
    sequence_num: Id
    events: list[TradeEvent]


class Level(msgspec.Struct, gc=False):
    """A level's absolute quantity; `event_time` is the engine's, in older snapshots 1970."""

    side: str
    event_time: str
    price_level: str
    new_quantity: str


class BookEvent(msgspec.Struct, gc=False):
    """Levels of one product: all of them, or those that changed."""

    type: str
    product_id: str
    updates: list[Level]


class Books(msgspec.Struct, gc=False):
    """`l2_data`, of the channel `level2`."""

    channel: str
    timestamp: str
    sequence_num: Id
    events: list[BookEvent]


class TickerItem(msgspec.Struct, gc=False):
    """Of a product's ticker what is collected."""

    product_id: str
    best_bid: str
    best_bid_quantity: str
    best_ask: str
    best_ask_quantity: str


class TickerEvent(msgspec.Struct, gc=False):
    """Tickers of some products."""

    type: str
    tickers: list[msgspec.Raw]


class Tickers(msgspec.Struct, gc=False):
    """`ticker`."""

    channel: str
    timestamp: str
    sequence_num: Id
    events: list[TickerEvent]


class Candle(msgspec.Struct, gc=False):
    """A candle so far; nothing says that it is closed."""

    start: str
    high: str
    low: str
    open: str
    close: str
    volume: str
    product_id: str


class CandleEvent(msgspec.Struct, gc=False):
    """Candles, oldest first; a snapshot holds the newest 100 of one product, those without trades left out."""

    type: str
    candles: list[msgspec.Raw]


class Candles(msgspec.Struct, gc=False):
    """`candles`."""

    channel: str
    timestamp: str
    sequence_num: Id
    events: list[CandleEvent]


class AckEvent(msgspec.Struct, gc=False):
    """Channel -> products: everything that the connection is subscribed to now."""

    subscriptions: dict[str, list[str]]


class Ack(msgspec.Struct, gc=False):
    """`subscriptions`: the answer to every request."""

    sequence_num: Id
    events: list[AckEvent]


class Beat(msgspec.Struct, gc=False):
    """`heartbeats`: once a second."""

    timestamp: str
    sequence_num: Id


head = msgspec.json.Decoder(Head).decode
trades = msgspec.json.Decoder(Trades).decode
trade = msgspec.json.Decoder(TradeItem).decode
books = msgspec.json.Decoder(Books).decode
tickers = msgspec.json.Decoder(Tickers).decode
ticker = msgspec.json.Decoder(TickerItem).decode
candles = msgspec.json.Decoder(Candles).decode
candle = msgspec.json.Decoder(Candle).decode
ack = msgspec.json.Decoder(Ack).decode
beat = msgspec.json.Decoder(Beat).decode
