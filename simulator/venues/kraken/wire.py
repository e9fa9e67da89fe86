"""Kraken's words as the hub asks for them: names, messages, and the wholes that a subscription begins with."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

import msgspec

from market.times import MS
from simulator import spoiling
from simulator.events import Delta, Event, Fill, Kline, Mark, Notice, Top
from simulator.feeds import Feed, Wanted
from simulator.market import Book
from simulator.plain import Plain
from simulator.venues.kraken.books import FuturesFeed, SpotFeed

INTERVALS = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "1440": "1d", "10080": "1w"}
_SPELT = {ours: theirs for theirs, ours in INTERVALS.items()}
DEPTHS = frozenset(("10", "25", "100", "500", "1000"))
INSTRUMENT = "instrument"
FORCED_EVERY = 20
"""Of so many fills of a future one is of a forced order."""
PAST = {"spot": 50, "linear": 100, "inverse": 100}
"""Trades that a subscription begins with."""
_PRICE = re.compile(r'("(?:price|bid|markPrice|close)":)[-0-9.]+')
_MILLIS = re.compile(r'("(?:time|timestamp)":)(\d+)')
_STAMP = re.compile(r'("timestamp":)"[^"]*"')
PRICES = spoiling.PRICES | {"exponent": "1e400", "negative": "-1.5", "digits": "1234567890" * 4}
"""Form -> JSON text in place of a price, which is a number here."""


def spelt(market: str, base: str, quote: str) -> str:
    """`BTC/USDT` on spot; futures are of USD and say XBT."""
    if market == "spot":
        return f"{base}/{quote}"
    return f"{'PF' if market == 'linear' else 'PI'}_{'XBT' if base == 'BTC' else base}USD"


def read(symbol: str) -> tuple[str, str] | None:
    """Base and quote of a name of the venue's."""
    base, slash, quote = symbol.partition("/")
    if slash:
        return base, quote
    if symbol[:3] in ("PF_", "PI_") and symbol.endswith("USD"):
        base = symbol[3:-3]
        return ("BTC" if base == "XBT" else base), "USD"
    return None


def iso(time: int) -> str:
    """RFC 3339 with microseconds."""
    return dt.datetime.fromtimestamp(time // 1_000_000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time % 10**6:06d}Z"


def bare(text: str) -> str:
    """A JSON number as the venue writes it: without trailing zeros."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def forced(fill: Fill) -> bool:
    """Whether a fill of a future is of a forced order."""
    return fill.id % FORCED_EVERY == 0


def uid(fill: Fill) -> str:
    """What a future's fill is called."""
    return f"{fill.id:08x}-0000-4000-8000-{fill.id:012x}"


def _object(text: str) -> str:
    """A JSON list of [price, quantity] as the venue's objects."""
    levels = msgspec.json.decode(text, type=list[tuple[str, str]])
    return "[" + ",".join(f'{{"price":{bare(price)},"qty":{bare(qty)}}}' for price, qty in levels) + "]"


def _data(channel: str, what: str, items: Iterable[str]) -> str:
    return f'{{"channel":"{channel}","type":"{what}","data":[{",".join(items)}]}}'


class Wire(Plain):
    """The venue as `simulator.hub.Venue` asks for it."""

    def __init__(self) -> None:
        self.books: dict[str, SpotFeed] = {}
        """Stream -> the feed of a spot book."""
        self._tops: dict[str, tuple[int, int]] = {}
        """Symbol -> id and time (us) of the newest ticker: no two are of one microsecond."""

    def stream(self, symbol: str, kind: str) -> str:
        """`trade.BTC/USDT`, `ticker.BTC/USDT`; of futures the best levels are no stream of their own."""
        if kind == "quote":
            return f"{'ticker' if '/' in symbol else '-'}.{symbol}"
        return f"{'trade' if kind == 'trade' else '-'}.{symbol}"

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """`book.100.BTC/USDT`, `ohlc.5.BTC/USDT`, `book.PF_XBTUSD`, `ticker.PF_XBTUSD`."""
        channel, _, rest = stream.partition(".")
        if market != "spot":
            if channel == "book":
                return Wanted("book_delta", rest.lower(), 100 * MS, feed=FuturesFeed)
            return Wanted("mark_price", rest.lower(), 1000 * MS) if channel == "ticker" else None
        parameter, _, symbol = rest.partition(".")
        if channel == "book" and parameter in DEPTHS:

            def feed(book: Book, name: str) -> Feed:
                self.books[name] = made = SpotFeed(book, name, int(parameter))
                return made

            return Wanted("book_delta", symbol.lower(), 100 * MS, feed=feed)
        if channel == "ohlc" and parameter in INTERVALS:
            return Wanted("kline", symbol.lower(), 1000 * MS, interval=INTERVALS[parameter])
        return None

    def notices(self, market: str) -> str | None:
        """Changes of pairs are told on spot."""
        return INSTRUMENT if market == "spot" else None

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price or its times in a form that no venue sends."""
        if fault == "bad_price":
            return spoiling.replaced(payload, _PRICE, PRICES[form], once=True)
        if event.book.market == "spot":
            return spoiling.replaced(payload, _STAMP, f'"{form}"')
        return spoiling.retimed(payload, _MILLIS, spoiling.TIMES[form])

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The message of an event."""
        del published, micro
        spot = event.book.market == "spot"
        match event:
            case Fill():
                return _data("trade", "update", [spot_trade(event)]) if spot else futures_trade(event)
            case Top():
                return self.ticker(event, "update")
            case Delta():
                return _spot_book(event) if spot else _level(event)
            case Kline():
                return _data("ohlc", "update", [_candle(event)])
            case Mark():
                return mark(event)
            case Notice():
                return pairs([event.book], "update")
        raise ValueError(f"no channel tells {type(event).__name__}")

    def ticker(self, top: Top, what: str) -> str:
        """The best levels."""
        symbol = top.book.symbol
        newest, time = self._tops.get(symbol, (0, 0))
        if newest != top.id:
            self._tops[symbol] = top.id, (time := max(top.ts, time + 1))
        said = (
            f'{{"symbol":"{symbol}","bid":{bare(top.bid)},"bid_qty":{bare(top.bid_qty)},"ask":{bare(top.ask)},'
            f'"ask_qty":{bare(top.ask_qty)},"last":{bare(top.bid)},"volume":1.5,"timestamp":"{iso(time)}"}}'
        )
        return _data("ticker", what, [said])

    def whole(self, book: Book, stream: str, now: int) -> str | None:
        """What a new subscriber is sent at once."""
        channel = stream.partition(".")[0]
        past = list(book.prints)[-PAST[book.market] :]
        if book.market != "spot":
            if channel == "trade":
                items = ",".join(futures_trade(fill) for fill in reversed(past))
                return f'{{"feed":"trade_snapshot","product_id":"{book.symbol}","trades":[{items}]}}'
            return whole_book(book, stream, now) if channel == "book" else None
        if channel == "trade":
            return _data("trade", "snapshot", map(spot_trade, past))
        if channel == "ticker":
            return None if book.top is None else self.ticker(book.top, "snapshot")
        if channel != "book":
            return None
        feed = self.books[stream]
        bids, asks = (_object(msgspec.json.encode(list(side.items())).decode()) for side in (feed.bids, feed.asks))
        return _said_book(book.symbol, "snapshot", bids, asks, feed.checksum(), feed.ts or now)


def spot_trade(fill: Fill) -> str:
    """One item of the channel `trade`."""
    return (
        f'{{"symbol":"{fill.book.symbol}","side":"{"sell" if fill.maker else "buy"}","price":{bare(fill.price)},'
        f'"qty":{bare(fill.qty)},"ord_type":"limit","trade_id":{fill.id},"timestamp":"{iso(fill.ts)}"}}'
    )


def futures_trade(fill: Fill) -> str:
    """One message of the feed `trade`."""
    kind = "liquidation" if forced(fill) else "fill"
    return (
        f'{{"feed":"trade","product_id":"{fill.book.symbol}","uid":"{uid(fill)}",'
        f'"side":"{"sell" if fill.maker else "buy"}","type":"{kind}","seq":{fill.id},"time":{fill.ts // MS},'
        f'"qty":{bare(fill.qty)},"price":{bare(fill.price)}}}'
    )


def _said_book(symbol: str, what: str, bids: str, asks: str, checksum: int, ts: int) -> str:
    said = f'"symbol":"{symbol}","bids":{bids},"asks":{asks},"checksum":{checksum},"timestamp":"{iso(ts)}"'
    return _data("book", what, [f"{{{said}}}"])


def _spot_book(delta: Delta) -> str:
    bids, asks = _object(delta.bids), _object(delta.asks)
    return _said_book(delta.book.symbol, "update", bids, asks, delta.previous_id, delta.ts)


def _level(delta: Delta) -> str:
    bought = delta.bids != "[]"
    ((price, qty),) = msgspec.json.decode(delta.bids if bought else delta.asks)
    return (
        f'{{"feed":"book","product_id":"{delta.book.symbol}","side":"{"buy" if bought else "sell"}","seq":{delta.id},'
        f'"price":{bare(price)},"qty":{bare(qty)},"timestamp":{delta.ts // MS}}}'
    )


def whole_book(book: Book, stream: str, now: int) -> str:
    """All levels of a future."""
    ladder = book.ladder
    sides = _object(ladder.bids.best(1 << 20)), _object(ladder.asks.best(1 << 20))
    return (
        f'{{"feed":"book_snapshot","product_id":"{book.symbol}","timestamp":{(ladder.ts or now) // MS},'
        f'"seq":{book.told[stream]},"tickSize":null,"bids":{sides[0]},"asks":{sides[1]}}}'
    )


def mark(event: Mark) -> str:
    """The feed `ticker`."""
    book = event.book
    sides = f'"bid":{bare(book.price(book.bid))},'
    if (top := book.top) is not None:
        told = {"bid": top.bid, "ask": top.ask, "bid_size": top.bid_qty, "ask_size": top.ask_qty}
        sides = "".join(f'"{name}":{bare(text)},' for name, text in told.items())
    rate = "" if not event.rate.strip("-0.") else f'"relative_funding_rate_prediction":{bare(event.rate)},'
    return (
        f'{{"time":{event.id},"product_id":"{book.symbol}",{rate}"next_funding_rate_time":{event.next_funding // MS},'
        f'"feed":"ticker",{sides}"index":{bare(event.index)},"tag":"perpetual",'
        f'"openInterest":1.0,"markPrice":{bare(event.mark)},"maturityTime":0}}'
    )


def _candle(event: Kline) -> str:
    return (
        f'{{"symbol":"{event.book.symbol}","interval":{_SPELT[event.interval]},"interval_begin":"{iso(event.id)}",'
        f'"open":{bare(event.open)},"high":{bare(event.high)},"low":{bare(event.low)},"close":{bare(event.close)},'
        f'"volume":{bare(event.volume)},"vwap":{bare(event.close)},"trades":{event.count}}}'
    )


def pairs(books: Iterable[Book], what: str) -> str:
    """The channel `instrument`."""
    rows = [
        {
            "symbol": book.symbol, "base": book.instrument.base, "quote": book.instrument.quote,
            "status": "online" if book.status == "TRADING" else "cancel_only",
            "qty_precision": book.instrument.qty_decimals, "price_precision": book.instrument.price_decimals,
            "qty_increment": msgspec.Raw(bare(book.qty(1)).encode()),
            "price_increment": msgspec.Raw(bare(book.price(1)).encode()),
        }
        for book in books
    ]  # fmt: skip
    return msgspec.json.encode({"channel": INSTRUMENT, "type": what, "data": {"assets": [], "pairs": rows}}).decode()
