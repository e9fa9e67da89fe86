"""Binance's words as the hub asks for them: stream names, payloads, and which path of the futures serves what."""

from __future__ import annotations

import re

from simulator.connection import Connection
from simulator.events import Aggregate, Delta, Event, Fill, Forced, Kline, Mark, Partial, Streamed, Top
from simulator.feeds import Wanted
from simulator.spoiling import LEVEL, field, spoiled
from simulator.venues.binance import names, payloads
from simulator.venues.binance.payloads import ST

_PRICE = {
    Fill: field("p"), Aggregate: field("p"), Top: field("b"), Mark: field("p"), Forced: field("p"), Kline: field("c"),
    Delta: LEVEL, Partial: LEVEL,
}  # fmt: skip
_TIME = dict.fromkeys((Fill, Aggregate, Top, Delta, Forced), re.compile(r'("[ET]":)(\d+)'))
CHANNEL = {"trade": "trade", "agg_trade": "aggTrade", "quote": "bookTicker"}


class Wire:
    """The venue as `simulator.hub.Venue` asks for it."""

    def stream(self, symbol: str, kind: str) -> str:
        """`btcusdt@aggTrade`."""
        return f"{symbol.lower()}@{CHANNEL[kind]}"

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """`btcusdt@depth20@100ms` and the like."""
        return names.wanted(market, stream)

    def notices(self, market: str) -> str | None:
        """`!contractInfo` tells both futures markets' contracts on both hosts."""
        return None if market == "spot" else names.NOTICES

    def wrapped(self, stream: str, payload: str) -> str:
        """The combined form."""
        return f'{{"stream":"{stream}","data":{payload}}}'

    def serves(self, market: str, route: str, stream: str) -> bool:
        """Spot has one path. Futures serve books and `@trade` on public, the rest on market, unrouted as public."""
        if market == "spot":
            return True
        return names.public(stream) == (route != "market") and route != "private"

    def announces(self, market: str) -> bool:
        """Spot does, since 2026-05."""
        return market == "spot"

    def farewell(self, connection: Connection, now: int) -> str | None:
        """Spot announces a shutdown since 2026-05; futures have no such words."""
        if connection.market != "spot":
            return None
        payload = f'{{"e":"serverShutdown","E":{now if connection.micro else now // 1000}}}'
        return self.wrapped("!serverShutdown", payload) if connection.combined else payload

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price or its times in a form that no venue sends."""
        return spoiled(payload, fault, form, _PRICE.get(type(event)), _TIME.get(type(event)))

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The bare message."""
        unit = 1 if micro else 1000
        if isinstance(event, Streamed):
            return payloads.payload(event, published, unit)
        sent, ts, symbol = published // unit, event.ts // unit, event.book.symbol
        if event.book.market == "spot":
            return _spot(event, sent, ts, symbol)
        return _futures(event, sent, ts, symbol)


def _spot(event: Fill | Aggregate | Top, sent: int, ts: int, symbol: str) -> str:
    if isinstance(event, Fill):
        return (
            f'{{"e":"trade","E":{sent},"s":"{symbol}","t":{event.id},"p":"{event.price}","q":"{event.qty}",'
            f'"T":{ts},"m":{"true" if event.maker else "false"},"M":true}}'
        )
    if isinstance(event, Aggregate):
        return (
            f'{{"e":"aggTrade","E":{sent},"s":"{symbol}","a":{event.id},"p":"{event.price}","q":"{event.qty}",'
            f'"f":{event.first_id},"l":{event.last_id},"T":{ts},"m":{"true" if event.maker else "false"},"M":true}}'
        )
    return (
        f'{{"u":{event.id},"s":"{symbol}","b":"{event.bid}","B":"{event.bid_qty}",'
        f'"a":"{event.ask}","A":"{event.ask_qty}"}}'
    )


def _futures(event: Fill | Aggregate | Top, sent: int, ts: int, symbol: str) -> str:
    st = ST[event.book.market]
    if isinstance(event, Fill):
        return (
            f'{{"e":"trade","E":{sent},"T":{ts},"s":"{symbol}","t":{event.id},"p":"{event.price}","q":"{event.qty}",'
            f'"X":"{event.condition}","m":{"true" if event.maker else "false"},"st":{st}}}'
        )
    if isinstance(event, Aggregate):
        net = f'"nq":"{event.qty}",' if st == 1 else ""
        return (
            f'{{"e":"aggTrade","E":{sent},"s":"{symbol}","a":{event.id},"p":"{event.price}","q":"{event.qty}",'
            f'{net}"f":{event.first_id},"l":{event.last_id},"T":{ts},'
            f'"m":{"true" if event.maker else "false"},"st":{st}}}'
        )
    return (
        f'{{"e":"bookTicker","u":{event.id},"E":{sent},"T":{ts},"s":"{symbol}","ps":"{payloads.pair(event.book)}",'
        f'"b":"{event.bid}","B":"{event.bid_qty}","a":"{event.ask}","A":"{event.ask_qty}","st":{st}}}'
    )
