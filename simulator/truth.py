"""Reads the simulator's log: what happened on the venue, what was sent to whom, and what which fault took away.

The log is JSON Lines; each line is an array whose first item says what it is. Times are us of the simulator's clock.

    ["start", format, {seed, rate, offset, markets, symbols}, time]
    ["open", conn, market, path, time]             a WebSocket connection, numbered from 1
    ["subscribe" | "unsubscribe", conn, [stream, ...], time]
    ["trade", market, symbol, id, price, qty, buyer_is_maker, condition, ts_event, ts_publish, [conn], {conn: fault}]
    ["agg_trade", market, symbol, id, price, qty, buyer_is_maker, first_id, last_id, ts_event, ts_publish, [...], {...}]
    ["quote", market, symbol, update_id, bid, bid_qty, ask, ask_qty, ts_event, ts_publish, [...], {...}]
    ["book_delta", market, symbol, u, stream, U, pu, [[price, qty], ...], [...], ts_event, ts_publish, ...]
    ["book_snapshot", market, symbol, u, stream, [bids], [asks], ts_event, ts_publish, [conn, ...], {conn: fault}]
    ["mark_price", market, symbol, ms, stream, host, mark, index, predicted_rate, next_funding, ts_event, ...]
    ["liquidation", market, symbol, number, stream, host, side, price, avg_price, qty, ts_event, ts_publish, ...]
    ["kline", market, symbol, open_time, stream, interval, open, high, low, close, volume, amount, trades,
        taker_volume, taker_amount, closed, ts_event, ts_publish, [...], {...}]
    ["contract", market, symbol, number, stream, host, status, delivery, ts_event, ts_publish, ...]
    ["depth", market, symbol, last_update_id, levels asked for, time]    a book was given by REST
    ["status", market, symbol, status, delivery, time]   a symbol was listed, halted or ended
    ["fault", id, name, {its parameters}, "begin" | "applied" | "end", detail, time]
    ["close", conn, cause, unsent bytes, time]
    ["http", market, method, target, status, time]   answered; the time is when it came
    ["stop", time]

An event's list names the connections whose socket it was written to, its map those that were to have it and the fault
that took it. `unsent bytes` is what the socket still held at the close: the last events of that connection may be lost.
Events that name a stream are in the log from its first subscription on, also while nobody is connected. `host` is the
market on whose stream an event was told: the all-market streams of each futures market tell the other's events too.
`amount` is in the quote, on inverse markets in the base.
The log is written before the sockets are, and synced twice a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

FORMAT = 1
FIELDS: dict[str, tuple[str, ...]] = {
    "trade": ("price", "qty", "buyer_is_maker", "condition"),
    "agg_trade": ("price", "qty", "buyer_is_maker", "first_id", "last_id"),
    "quote": ("bid", "bid_qty", "ask", "ask_qty"),
    "book_delta": ("stream", "first_id", "previous_id", "bids", "asks"),
    "book_snapshot": ("stream", "bids", "asks"),
    "mark_price": ("stream", "host", "mark", "index", "predicted_rate", "next_funding"),
    "liquidation": ("stream", "host", "side", "price", "avg_price", "qty"),
    "kline": (
        "stream", "interval", "open", "high", "low", "close", "volume", "amount", "count", "taker_volume",
        "taker_amount", "closed",
    ),
    "contract": ("stream", "host", "status", "delivery"),
}  # fmt: skip
"""What stands between the id and the times of an event's line."""


class Happened(msgspec.Struct, frozen=True):
    """One event of the venue. What its kind does not have is empty."""

    kind: str
    market: str
    symbol: str
    id: int
    ts_event: int
    ts_publish: int
    sent: tuple[int, ...]
    """Connections that were sent it, one entry a copy."""
    dropped: dict[int, str]
    price: str = ""
    qty: str = ""
    buyer_is_maker: bool = False
    condition: str = "MARKET"
    first_id: int = 0
    last_id: int = 0
    bid: str = ""
    bid_qty: str = ""
    ask: str = ""
    ask_qty: str = ""
    stream: str = ""
    """Name of its stream; empty for trades, aggregates and quotes, which have one a symbol."""
    previous_id: int = 0
    """`pu` of a book_delta: the id of the event before in its stream."""
    bids: tuple[tuple[str, str], ...] = ()
    asks: tuple[tuple[str, str], ...] = ()
    mark: str = ""
    index: str = ""
    predicted_rate: str = ""
    next_funding: int = 0
    side: str = ""
    """Of a forced order: BUY or SELL."""
    avg_price: str = ""
    interval: str = ""
    open: str = ""
    high: str = ""
    low: str = ""
    close: str = ""
    volume: str = ""
    amount: str = ""
    count: int = 0
    taker_volume: str = ""
    taker_amount: str = ""
    closed: bool = False
    host: str = ""
    """The market on whose stream it was told, where that may be another than its own."""
    status: str = ""
    delivery: int = 0


class Link(msgspec.Struct):
    """One WebSocket connection; `closed` is 0 while it was open at the end of the log."""

    conn: int
    market: str
    path: str
    opened: int
    closed: int = 0
    cause: str = ""
    unsent: int = 0
    streams: dict[str, int] = {}
    """Stream name -> time of the subscription."""


class FaultLine(msgspec.Struct, frozen=True):
    """A fault that began, was applied to something, or ended."""

    id: int
    name: str
    parameters: dict[str, Any]
    phase: str
    detail: dict[str, Any]
    time: int


class Request(msgspec.Struct, frozen=True):
    """One answered REST request."""

    market: str
    method: str
    target: str
    status: int
    time: int


class Depth(msgspec.Struct, frozen=True):
    """One book given by REST."""

    market: str
    symbol: str
    last_update_id: int
    limit: int
    time: int


class Status(msgspec.Struct, frozen=True):
    """A symbol's new status; `delivery` in us, 0 for never."""

    market: str
    symbol: str
    status: str
    delivery: int
    time: int


class Truth(msgspec.Struct):
    """A whole log."""

    header: dict[str, Any]
    events: list[Happened]
    links: dict[int, Link]
    faults: list[FaultLine]
    requests: list[Request]
    started: int
    stopped: int
    depths: list[Depth] = []
    statuses: list[Status] = []

    def of(self, kind: str, market: str, symbol: str) -> dict[int, Happened]:
        """Events of one stream by id."""
        return {e.id: e for e in self.events if (e.kind, e.market, e.symbol) == (kind, market, symbol)}

    def stream(self, market: str, name: str) -> list[Happened]:
        """Events of one stream that has a name of its own, in their order; `market` is the host of all-market ones."""
        return [e for e in self.events if (e.stream, e.host or e.market) == (name, market)]

    def sent(self, kind: str, market: str, symbol: str) -> dict[int, Happened]:
        """Those of `of` that went to at least one connection."""
        return {id_: event for id_, event in self.of(kind, market, symbol).items() if event.sent}


class TornLog(Exception):
    """A line in the middle of the log is not what the format says."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}")


def lines(path: Path) -> Iterator[list[Any]]:
    """Decoded lines; a last line without a line feed (the simulator was killed) is left out. Raises TornLog."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield msgspec.json.decode(line, type=list[Any])
            except msgspec.DecodeError as error:
                raise TornLog(path, number, str(error)) from error


def load(path: str | Path) -> Truth:
    """The whole log in memory (about 0.5 KB an event). Raises TornLog, or ValueError for another format."""
    truth = Truth({}, [], {}, [], [], 0, 0)
    for row in lines(Path(path)):
        _take(truth, row)
    return truth


def _take(truth: Truth, row: list[Any]) -> None:
    match row[0]:
        case str(kind) if kind in FIELDS:
            truth.events.append(_event(row))
        case "start":
            if row[1] != FORMAT:
                raise ValueError(f"log format {row[1]}, this loader reads {FORMAT}")
            truth.header, truth.started = row[2], row[3]
        case "open":
            truth.links[row[1]] = Link(row[1], row[2], row[3], row[4])
        case "subscribe":
            truth.links[row[1]].streams.update(dict.fromkeys(row[2], row[3]))
        case "unsubscribe":
            for name in row[2]:
                truth.links[row[1]].streams.pop(name, None)
        case "close":
            link = truth.links[row[1]]
            link.cause, link.unsent, link.closed = row[2], row[3], row[4]
        case "fault":
            truth.faults.append(FaultLine(*row[1:]))
        case "status":
            truth.statuses.append(Status(*row[1:]))
        case "depth":
            truth.depths.append(Depth(*row[1:]))
        case "http":
            truth.requests.append(Request(*row[1:]))
        case "stop":
            truth.stopped = row[1]
        case other:
            raise ValueError(f"unknown line {other!r}")


def _event(row: list[Any]) -> Happened:
    kind, market, symbol, number = row[:4]
    ts_event, ts_publish, sent, dropped = row[-4:]
    values = (tuple(map(tuple, value)) if isinstance(value, list) else value for value in row[4:-4])
    fields: dict[str, Any] = dict(zip(FIELDS[kind], values, strict=True))
    return Happened(
        kind,
        market,
        symbol,
        number,
        ts_event,
        ts_publish,
        tuple(sent),
        {int(conn): fault for conn, fault in dropped.items()},
        **fields,
    )
