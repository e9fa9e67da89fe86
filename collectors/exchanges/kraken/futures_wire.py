"""What Kraken Futures puts on the wire: strict payload structs. Source: SOURCES.md beside the fixtures."""

from __future__ import annotations

import msgspec

from collectors.adapters.reading import Id, Millis
from collectors.exchanges.kraken.wire import Level

CONDITIONS = {
    "fill": "market", "liquidation": "liquidation", "assignment": "adl", "termination": "adl", "block": "block",
}  # fmt: skip
"""The venue's type of a trade -> the condition of its row."""
SIDES = frozenset(("buy", "sell"))


class Head(msgspec.Struct, gc=False):
    """What tells one frame from another: data has a feed, everything else an event."""

    feed: str | None = None
    event: str | None = None
    product_ids: list[str] | None = None
    message: str | None = None


class Trade(msgspec.Struct, gc=False):
    """One trade; the side is the taker's."""

    product_id: str
    uid: str
    side: str
    type: str
    time: Millis
    qty: msgspec.Raw
    price: msgspec.Raw


class LiveTrade(msgspec.Struct, gc=False):
    """The feed `trade`, whose frame is the trade."""

    feed: str
    product_id: str
    uid: str
    side: str
    type: str
    time: Millis
    qty: msgspec.Raw
    price: msgspec.Raw


class Trades(msgspec.Struct, gc=False):
    """`trade_snapshot`: what was traded before the subscription, the newest first."""

    feed: str
    product_id: str
    trades: list[msgspec.Raw]


class Whole(msgspec.Struct, gc=False):
    """`book_snapshot`: all of the book."""

    feed: str
    product_id: str
    timestamp: Millis
    seq: Id
    bids: list[Level]
    asks: list[Level]


class Change(msgspec.Struct, gc=False):
    """`book`: one level, absolute."""

    feed: str
    product_id: str
    side: str
    seq: Id
    price: msgspec.Raw
    qty: msgspec.Raw
    timestamp: Millis


class Ticker(msgspec.Struct, gc=False):
    """`ticker`: fields of funding are left out where they are zero."""

    feed: str
    product_id: str
    time: Millis
    markPrice: msgspec.Raw  # noqa: N815 -- the venue's spelling
    index: msgspec.Raw = msgspec.Raw(b"")
    tag: str = ""
    relative_funding_rate_prediction: msgspec.Raw = msgspec.Raw(b"")
    next_funding_rate_time: Millis | None = None
    bid: msgspec.Raw = msgspec.Raw(b"")
    bid_size: msgspec.Raw = msgspec.Raw(b"")
    ask: msgspec.Raw = msgspec.Raw(b"")
    ask_size: msgspec.Raw = msgspec.Raw(b"")


class Command(msgspec.Struct, gc=False):
    """A frame of ours, as a recording has it."""

    event: str
    feed: str = ""
    product_ids: list[str] = []


head = msgspec.json.Decoder(Head).decode
trade = msgspec.json.Decoder(Trade).decode
live_trade = msgspec.json.Decoder(LiveTrade).decode
trades = msgspec.json.Decoder(Trades).decode
whole = msgspec.json.Decoder(Whole).decode
change = msgspec.json.Decoder(Change).decode
ticker = msgspec.json.Decoder(Ticker).decode
command = msgspec.json.Decoder(Command).decode
