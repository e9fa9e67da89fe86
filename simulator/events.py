"""What happens on the simulated venue, event by event. Times in us, whole milliseconds; texts as the venue writes them.

Fills, aggregates and best quotes happen whether or not anybody asks. The others belong to a stream that somebody has
subscribed once: their `stream` is its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from simulator.market import Book


class Fill(msgspec.Struct, gc=False):
    """One trade. `condition` as Binance USD-M writes it in `X`."""

    book: Book
    id: int
    price: str
    qty: str
    maker: bool
    condition: str
    ts: int
    ticks: int
    lots: int


class Aggregate(msgspec.Struct, gc=False):
    """Fills of one taker order at one price."""

    book: Book
    id: int
    price: str
    qty: str
    maker: bool
    first_id: int
    last_id: int
    ts: int


class Top(msgspec.Struct, gc=False):
    """The best bid and ask after a change; `id` is the book's update id, which jumps."""

    book: Book
    id: int
    bid: str
    bid_qty: str
    ask: str
    ask_qty: str
    ts: int


class Delta(msgspec.Struct, gc=False):
    """What changed in a book since the stream's event before: `bids` and `asks` are JSON lists of [price, quantity].

    `first_id`..`id` are the ids inside, on spot from the one after `previous_id`: the `id` of the event before.
    """

    book: Book
    stream: str
    id: int
    first_id: int
    previous_id: int
    bids: str
    asks: str
    ts: int

    def told(self) -> str:
        """Its fields for the log, as JSON."""
        return f'"{self.stream}",{self.first_id},{self.previous_id},{self.bids},{self.asks}'


class Partial(msgspec.Struct, gc=False):
    """The best levels of a book, whole, best first."""

    book: Book
    stream: str
    id: int
    first_id: int
    previous_id: int
    bids: str
    asks: str
    ts: int

    def told(self) -> str:
        """Its fields for the log, as JSON."""
        return f'"{self.stream}",{self.bids},{self.asks}'


class Mark(msgspec.Struct, gc=False):
    """Mark and index price with the predicted funding rate; `next_funding` in us, `id` the time in ms."""

    book: Book
    stream: str
    id: int
    mark: str
    index: str
    rate: str
    next_funding: int
    ts: int
    host: str

    def told(self) -> str:
        """Its fields for the log, as JSON."""
        return f'"{self.stream}","{self.host}","{self.mark}","{self.index}","{self.rate}",{self.next_funding}'


class Marks(msgspec.Struct, gc=False):
    """The marks of all contracts in one message; `book` is the first one's, whom faults take it for."""

    book: Book
    stream: str
    id: int
    items: list[Mark]
    ts: int
    host: str


class Forced(msgspec.Struct, gc=False):
    """A forced order; `id` counts the symbol's, also those that the stream's limit swallows."""

    book: Book
    stream: str
    id: int
    side: str
    price: str
    average: str
    qty: str
    ts: int
    host: str

    def told(self) -> str:
        """Its fields for the log, as JSON."""
        return f'"{self.stream}","{self.host}","{self.side}","{self.price}","{self.average}","{self.qty}"'


class Kline(msgspec.Struct, gc=False):
    """A candle so far, or at its end: then `closed`, once. `id` is its open time in us, `end` the next one's.

    `amount` and `bought_amount` are in the market's second unit: the quote's, on inverse markets the base's.
    """

    book: Book
    stream: str
    id: int
    interval: str
    end: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    amount: str
    count: int
    bought: str
    bought_amount: str
    first_id: int
    last_id: int
    closed: bool
    ts: int

    def told(self) -> str:
        """Its fields for the log, as JSON."""
        return (
            f'"{self.stream}","{self.interval}","{self.open}","{self.high}","{self.low}","{self.close}",'
            f'"{self.volume}","{self.amount}",{self.count},"{self.bought}","{self.bought_amount}",'
            f"{'true' if self.closed else 'false'}"
        )


class Notice(msgspec.Struct, gc=False):
    """A contract's new status, as told on one market's stream. `delivery` in us, 0 for never; `id` counts them."""

    book: Book
    stream: str
    id: int
    status: str
    delivery: int
    ts: int
    host: str

    def told(self) -> str:
        """Its fields for the log, as JSON."""
        return f'"{self.stream}","{self.host}","{self.status}",{self.delivery}'


Hosted: TypeAlias = Mark | Marks | Forced | Notice
"""What may be of another market than that on whose stream it is told: `host`."""
Streamed: TypeAlias = Delta | Partial | Kline | Hosted
Event: TypeAlias = Fill | Aggregate | Top | Streamed
KIND_OF: dict[type[Event], str] = {
    Fill: "trade",
    Aggregate: "agg_trade",
    Top: "quote",
    Delta: "book_delta",
    Partial: "book_snapshot",
    Mark: "mark_price",
    Marks: "mark_price",
    Forced: "liquidation",
    Kline: "kline",
    Notice: "contract",
}
KINDS = tuple(dict.fromkeys(KIND_OF.values()))
ALWAYS: tuple[type[Event], ...] = (Fill, Aggregate, Top)
"""What happens without a subscription."""
