"""Bybit's words as the hub asks for them: topics, messages, and the wholes that a subscription begins with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from market.times import MS
from simulator.events import Delta, Event, Fill, Forced, Kline, Mark, Top
from simulator.feeds import MarkFeed, Wanted
from simulator.market import Book
from simulator.plain import Plain
from simulator.spoiling import LEVEL, field, spoiled

INTERVALS = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h", "360": "6h",
    "720": "12h", "D": "1d", "W": "1w", "M": "1M",
}  # fmt: skip
_SPELT = {ours: theirs for theirs, ours in INTERVALS.items()}
DEPTHS = {"50": 50 * MS, "200": 100 * MS, "1000": 200 * MS}
"""Levels -> how often (us) changes are told; the 20 ms of 50 levels are finer than the hub's steps."""
CHANNEL = {"trade": "publicTrade", "quote": "orderbook.1"}
_PRICE = {
    Fill: field("p"), Mark: field("markPrice"), Forced: field("p"), Kline: field("close"), Delta: LEVEL, Top: LEVEL,
}  # fmt: skip
_TIME = re.compile(r'("(?:T|ts|cts)":)(\d+)')


def trade_id(fill: Fill) -> str:
    """A UUID on derivatives; on spot a number, which ascends by leaps."""
    return str(3 * fill.id) if fill.book.market == "spot" else f"{fill.id:08x}-0000-5000-8000-{fill.id:012x}"


class Ticker:
    """Mark prices, told where they have changed. `told` has by (market, topic) what was told last."""

    def __init__(self, book: Book, stream: str, told: Mapping[tuple[str, str], Mark]) -> None:
        self._feed = MarkFeed(book, stream, book.market)
        self._key, self._told = (book.market, stream), told
        self._last: Mark | None = None

    def flush(self, now: int) -> Sequence[Mark]:
        """The mark, or nothing."""
        found = self._feed.flush(now)
        before = self._told.get(self._key)
        if self._last is not None and (before is None or before.ts <= self._last.ts):
            before = self._last
        if not found or (before is not None and _fields(found[0]) == _fields(before)):
            return ()
        if before is not None and found[0].ts // MS == before.ts // MS:  # it has told of this millisecond
            return ()
        self._last = found[0]
        return found


class Wire(Plain):
    """The venue as `simulator.hub.Venue` asks for it."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], Mark] = {}
        """(market, topic) -> the ticker as it was told last."""

    def stream(self, symbol: str, kind: str) -> str:
        """`publicTrade.BTCUSDT`; aggregates are no topic here."""
        return f"{CHANNEL.get(kind, '-')}.{symbol}"

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """`orderbook.200.BTCUSDT` and the like."""
        channel, _, symbol = stream.rpartition(".")
        name, _, rest = channel.partition(".")
        if name == "orderbook" and rest in DEPTHS:
            return Wanted("book_delta", symbol.lower(), DEPTHS[rest], counted=True)
        if name == "kline" and rest in INTERVALS:
            return Wanted("kline", symbol.lower(), 1000 * MS, interval=INTERVALS[rest])
        if market == "spot":
            return None
        if channel == "tickers":
            return Wanted("mark_price", symbol.lower(), 100 * MS, feed=partial(Ticker, told=self._marks))
        return Wanted("liquidation", symbol.lower(), 500 * MS) if channel == "allLiquidation" else None

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price or its times in a form that no venue sends."""
        return spoiled(payload, fault, form, _PRICE.get(type(event)), _TIME)

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The message of an event."""
        del micro
        sent, symbol = published // MS, event.book.symbol
        match event:
            case Fill():
                return _trade(event, sent)
            case Top():
                return best(event, sent)
            case Delta():
                ids = f'"u":{event.id},"seq":{event.book.ladder.update_id}'
                return _book(event.stream, "delta", symbol, event.bids, event.asks, ids, sent, event.ts)
            case Mark():
                return self._ticker(event)
            case Forced():
                side = "Buy" if event.side == "SELL" else "Sell"
                return (
                    f'{{"topic":"{event.stream}","type":"snapshot","ts":{sent},"data":[{{"T":{event.ts // MS},'
                    f'"s":"{symbol}","S":"{side}","v":"{event.qty}","p":"{event.price}"}}]}}'
                )
            case Kline():
                return _kline(event, sent)
        raise ValueError(f"no topic tells {type(event).__name__}")

    def _ticker(self, event: Mark) -> str:
        """What has changed since it was told last; the whole where it never was."""
        key = (event.book.market, event.stream)
        before, self._marks[key] = self._marks.get(key), event
        now = _fields(event)
        if before is not None:
            held = _fields(before)
            now = {name: value for name, value in now.items() if held[name] != value}
        return _ticker(event, "snapshot" if before is None else "delta", now)

    def told(self, book: Book, stream: str, now: int, *, alone: bool) -> Mark | None:
        """The ticker of a symbol as it was told last; anew where nobody was (`alone`). None for other topics."""
        if not stream.startswith("tickers."):
            return None
        key, time = (book.market, stream), now - now % MS
        if alone or key not in self._marks:
            self._marks[key] = MarkFeed(book, stream, book.market).mark(time)
        self._marks[key] = mark = msgspec.structs.replace(self._marks[key], id=time // MS, ts=time)
        return mark

    def whole(self, book: Book, stream: str, now: int) -> str | None:
        """What a new subscriber is sent at once; of a ticker what was `told`."""
        channel, _, symbol = stream.rpartition(".")
        sent = now // MS
        if channel == CHANNEL["quote"]:
            return None if book.top is None else best(book.top, sent)
        if channel.startswith("orderbook."):
            depth, ladder = int(channel.partition(".")[2]), book.ladder
            ids = f'"u":{book.told[stream]},"seq":{ladder.update_id}'
            sides = ladder.bids.best(depth), ladder.asks.best(depth)
            return _book(stream, "snapshot", symbol, *sides, ids, sent, ladder.ts or now)
        if channel == "tickers":
            mark = self._marks[book.market, stream]
            return _ticker(mark, "snapshot", _fields(mark))
        return None


def _trade(fill: Fill, sent: int) -> str:
    symbol, tick = fill.book.symbol, "" if fill.book.market == "spot" else '"L":"PlusTick",'
    return (
        f'{{"topic":"publicTrade.{symbol}","type":"snapshot","ts":{sent},"data":[{{"T":{fill.ts // MS},"s":"{symbol}",'
        f'"S":"{"Sell" if fill.maker else "Buy"}","v":"{fill.qty}","p":"{fill.price}",{tick}"i":"{trade_id(fill)}",'
        f'"BT":false,"RPI":false,"seq":{fill.id}}}]}}'
    )


def best(top: Top, sent: int) -> str:
    """The whole that `orderbook.1` tells."""
    symbol = top.book.symbol
    sides = f'[["{top.bid}","{top.bid_qty}"]]', f'[["{top.ask}","{top.ask_qty}"]]'
    return _book(f"orderbook.1.{symbol}", "snapshot", symbol, *sides, f'"u":{top.id},"seq":{top.id}', sent, top.ts)


def _book(topic: str, what: str, symbol: str, bids: str, asks: str, ids: str, sent: int, ts: int) -> str:
    data = f'{{"s":"{symbol}","b":{bids},"a":{asks},{ids}}}'
    return f'{{"topic":"{topic}","type":"{what}","ts":{sent},"data":{data},"cts":{ts // MS}}}'


def _fields(mark: Mark) -> dict[str, str]:
    return {
        "markPrice": mark.mark,
        "indexPrice": mark.index,
        "fundingRate": mark.rate,
        "nextFundingTime": str(mark.next_funding // MS),
    }


def _ticker(mark: Mark, what: str, fields: dict[str, str]) -> str:
    said = "".join(f',"{name}":"{value}"' for name, value in fields.items())
    data = f'{{"symbol":"{mark.book.symbol}"{said},"bid1Price":"{mark.book.price(mark.book.bid)}"}}'
    return f'{{"topic":"{mark.stream}","type":"{what}","data":{data},"cs":{mark.id},"ts":{mark.id}}}'


def _kline(event: Kline, sent: int) -> str:
    return (
        f'{{"topic":"{event.stream}","data":[{{"start":{event.id // MS},"end":{event.end // MS - 1},'
        f'"interval":"{_SPELT[event.interval]}","open":"{event.open}","close":"{event.close}","high":"{event.high}",'
        f'"low":"{event.low}","volume":"{event.volume}","turnover":"{event.amount}",'
        f'"confirm":{"true" if event.closed else "false"},"timestamp":{sent}}}],"ts":{sent},"type":"snapshot"}}'
    )
