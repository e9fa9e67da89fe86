"""Coinbase's words as the hub asks for them: products, messages, and what a subscription begins with."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from simulator.candles import Candle
from simulator.events import Delta, Event, Fill, Kline, Top
from simulator.feeds import Wanted
from simulator.market import Book
from simulator.plain import Plain
from simulator.spoiling import field, replaced, spoiled
from simulator.venues.coinbase.exchange import Feed

PLACE = '"sequence_num":0'
"""Where the number of a message in its connection goes, when it leaves."""
CHANNEL = {"trade": "market_trades", "quote": "ticker", "book_delta": "level2", "kline": "candles"}
SAID = {"level2": "l2_data"}
HISTORY = 100
"""Trades, and candles, that a subscription begins with."""
DEPTH_EVERY, CANDLES_EVERY = 50_000, 1_000_000
_PRICE = {Fill: field("price"), Top: field("best_bid"), Delta: field("price_level"), Kline: field("close")}
_TIME = re.compile(r'("(?:time|event_time|timestamp)":)"([^"]*)"')
TIMES: dict[str, str] = {
    "zero": '"0"',
    "epoch": '"1970-01-02T00:00:00Z"',
    "year_3000": '"3000-01-01T00:00:00Z"',
    "seconds": "1785701708",
    "micro": '"1785701708000000"',
    "nano": '"1785701708000000000"',
    "negative": '"-2026-08-02T20:15:08Z"',
}
"""Form -> JSON text in place of every time."""
_levels = msgspec.json.Decoder(list[tuple[str, str]]).decode


def stamp(us: int) -> str:
    """RFC 3339 with as many digits of the fraction as there are."""
    text = _second(us // 1_000_000)
    part = f"{us % 1_000_000:06d}".rstrip("0")
    return f"{text}.{part}Z" if part else f"{text}Z"


@lru_cache(maxsize=16)
def _second(time: int) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Wire(Plain):
    """The venue as `simulator.hub.Venue` asks for it. A stream is named `<channel>:<product>`."""

    def __init__(self) -> None:
        self.exchange = Feed()
        self._tops: dict[str, tuple[int, int]] = {}
        """Product -> id and time (us) of the newest ticker: no two are of one microsecond."""

    def _ticker(self, what: str, top: Top, published: int) -> str:
        newest, time = self._tops.get(top.book.symbol, (0, 0))
        if newest != top.id:
            time = max(published, time + 1)
            self._tops[top.book.symbol] = top.id, time
        return ticker(what, top, time)

    def stream(self, symbol: str, kind: str) -> str:
        """`market_trades:BTC-USDT`; aggregates are no channel here."""
        return f"{CHANNEL.get(kind, '-')}:{symbol}"

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """`level2:BTC-USDT` and the like."""
        del market
        channel, _, name = stream.partition(":")
        symbol = name.lower()
        if channel == "level2":
            return Wanted("book_delta", symbol, DEPTH_EVERY)
        return Wanted("kline", symbol, CANDLES_EVERY, interval="5m") if channel == "candles" else None

    def wrapped(self, stream: str, payload: str) -> str:
        """The same in the words of the feed Exchange, for connections that speak those."""
        del stream
        return self.exchange.told(payload)

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price or its times in a form that no venue sends."""
        if fault == "bad_time":
            return replaced(payload, _TIME, TIMES[form])
        return spoiled(payload, fault, form, _PRICE.get(type(event)), None)

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The message of an event."""
        del micro
        name = event.book.symbol
        match event:
            case Fill():
                return trades("update", [event], published)
            case Top():
                return self._ticker("update", event, published)
            case Delta():
                return levels("update", name, event.bids, event.asks, event.ts, published)
            case Kline():
                told = _candle(name, event.id, event.high, event.low, event.open, event.close, event.volume)
                return candles("update", [told], published)
        raise ValueError(f"no channel tells {type(event).__name__}")

    def whole(self, book: Book, channel: str, now: int) -> str | None:
        """What a new subscriber is sent at once."""
        name = book.symbol
        match channel:
            case "market_trades":
                newest = list(book.trades)[-HISTORY:]
                return trades("snapshot", newest, now) if newest else None
            case "ticker":
                return None if book.top is None else self._ticker("snapshot", book.top, now)
            case "level2":
                best = book.ladder.bids.best(1000), book.ladder.asks.best(1000)
                return levels("snapshot", name, *best, book.ladder.ts or now, now)
        held = book.candles.read("5m")[-HISTORY:]
        return candles("snapshot", [candle(book, one) for one in held], now) if held else None


def message(channel: str, events: str, published: int) -> str:
    """A message whose number is not known yet."""
    return f'{{"channel":"{channel}","client_id":"","timestamp":"{stamp(published)}",{PLACE},"events":{events}}}'


def trade(fill: Fill) -> str:
    """A trade as WebSocket and REST tell it: `side` is the maker's."""
    return (
        f'{{"product_id":"{fill.book.symbol}","trade_id":"{fill.id}","price":"{fill.price}",'
        f'"size":"{fill.qty}","time":"{stamp(fill.ts)}","side":"{"BUY" if fill.maker else "SELL"}"}}'
    )


def trades(what: str, fills: Iterable[Fill], published: int) -> str:
    """Newest first."""
    told = ",".join([trade(fill) for fill in fills][::-1])
    return message("market_trades", f'[{{"type":"{what}","trades":[{told}]}}]', published)


def ticker(what: str, top: Top, published: int) -> str:
    """The best levels; this twin tells them whenever they change."""
    told = (
        f'{{"type":"ticker","product_id":"{top.book.symbol}","price":"{top.bid}","volume_24_h":"1",'
        f'"best_bid":"{top.bid}","best_ask":"{top.ask}","best_bid_quantity":"{top.bid_qty}",'
        f'"best_ask_quantity":"{top.ask_qty}"}}'
    )
    return message("ticker", f'[{{"type":"{what}","tickers":[{told}]}}]', published)


def levels(what: str, name: str, bids: str, asks: str, ts: int, published: int) -> str:
    """Bids first, each level with the engine's time."""
    at = stamp(ts)
    told = ",".join(
        f'{{"side":"{side}","event_time":"{at}","price_level":"{price}","new_quantity":"{qty}"}}'
        for side, held in (("bid", bids), ("offer", asks))
        for price, qty in _levels(held)
    )
    return message(SAID["level2"], f'[{{"type":"{what}","product_id":"{name}","updates":[{told}]}}]', published)


def candle(book: Book, held: Candle) -> str:
    """A candle as WebSocket tells it."""
    high, low, first, last = (book.price(ticks) for ticks in (held.high, held.low, held.open, held.close))
    return _candle(book.symbol, held.open_time, high, low, first, last, book.qty(held.base))


def _candle(name: str, opened: int, high: str, low: str, first: str, last: str, volume: str) -> str:
    return (
        f'{{"start":"{opened // 1_000_000}","high":"{high}","low":"{low}","open":"{first}","close":"{last}",'
        f'"volume":"{volume}","product_id":"{name}"}}'
    )


def candles(what: str, told: Iterable[str], published: int) -> str:
    """Oldest first."""
    return message("candles", f'[{{"type":"{what}","candles":[{",".join(told)}]}}]', published)


def numbering() -> Callable[[str, int], str]:
    """Gives the messages of one connection their numbers; some before may have been lost on the way."""
    count = 0

    def number(text: str, lost: int) -> str:
        nonlocal count
        count += lost
        if PLACE not in text:
            return text
        text = text.replace(PLACE, f'"sequence_num":{count}', 1)
        count += 1
        return text

    return number
