"""Binance's words: stream names, payloads, and which path of USD-M serves which stream."""

from __future__ import annotations

import re

from simulator.connection import Connection
from simulator.market import Aggregate, Event, Fill

CHANNEL = {"trade": "trade", "agg_trade": "aggTrade", "quote": "bookTicker"}
_INTERVAL = r"(?:1s|1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|1M)"
_WELL_FORMED = re.compile(
    r"[^@/\s!]+@(?:trade|aggTrade|blockTrade|bookTicker|miniTicker|ticker|ticker_(?:1h|4h|1d)|avgPrice|referencePrice"
    rf"|kline_{_INTERVAL}(?:@\+08:00)?|continuousKline_{_INTERVAL}|indexPriceKline_{_INTERVAL}|markPriceKline_{_INTERVAL}"
    r"|depth(?:5|10|20)?(?:@(?:0|100|500)ms)?|rpiDepth@500ms|markPrice(?:@1s)?|indexPrice(?:@1s)?|forceOrder"
    r"|compositeIndex|assetIndex)"
    r"|!(?:bookTicker|miniTicker@arr|ticker@arr|markPrice@arr(?:@1s)?|forceOrder@arr|contractInfo|assetIndex@arr)"
    r"|tradingSession"
)
_PUBLIC = re.compile(r"!bookTicker|.*@(?:bookTicker|trade|depth.*|rpiDepth.*)")


def well_formed(stream: str) -> bool:
    """Whether the venue knows this form of stream name; that its symbol exists is not asked."""
    return _WELL_FORMED.fullmatch(stream) is not None


class Wire:
    """The venue as `simulator.hub.Venue` asks for it."""

    def stream(self, symbol: str, kind: str) -> str:
        """`btcusdt@aggTrade`."""
        return f"{symbol.lower()}@{CHANNEL[kind]}"

    def wrapped(self, stream: str, payload: str) -> str:
        """The combined form."""
        return f'{{"stream":"{stream}","data":{payload}}}'

    def serves(self, market: str, route: str, stream: str) -> bool:
        """Spot has one path. USD-M serves books and `@trade` on public, the rest on market, unrouted as public."""
        if market == "spot":
            return True
        return bool(_PUBLIC.fullmatch(stream)) == (route != "market") and route != "private"

    def farewell(self, connection: Connection, now: int) -> str | None:
        """Spot announces a shutdown since 2026-05; USD-M has no such words."""
        if connection.market != "spot":
            return None
        payload = f'{{"e":"serverShutdown","E":{now if connection.micro else now // 1000}}}'
        return self.wrapped("!serverShutdown", payload) if connection.combined else payload

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The bare message."""
        unit = 1 if micro else 1000
        sent, ts, symbol = published // unit, event.ts // unit, event.book.symbol
        if event.book.market == "spot":
            return _spot(event, sent, ts, symbol)
        return _linear(event, sent, ts, symbol)


def _spot(event: Event, sent: int, ts: int, symbol: str) -> str:
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


def _linear(event: Event, sent: int, ts: int, symbol: str) -> str:
    if isinstance(event, Fill):
        return (
            f'{{"e":"trade","E":{sent},"T":{ts},"s":"{symbol}","t":{event.id},"p":"{event.price}","q":"{event.qty}",'
            f'"X":"{event.condition}","m":{"true" if event.maker else "false"},"st":1}}'
        )
    if isinstance(event, Aggregate):
        return (
            f'{{"e":"aggTrade","E":{sent},"s":"{symbol}","a":{event.id},"p":"{event.price}","q":"{event.qty}",'
            f'"nq":"{event.qty}","f":{event.first_id},"l":{event.last_id},"T":{ts},'
            f'"m":{"true" if event.maker else "false"},"st":1}}'
        )
    return (
        f'{{"e":"bookTicker","u":{event.id},"E":{sent},"T":{ts},"s":"{symbol}","ps":"{symbol}","b":"{event.bid}",'
        f'"B":"{event.bid_qty}","a":"{event.ask}","A":"{event.ask_qty}","st":1}}'
    )
