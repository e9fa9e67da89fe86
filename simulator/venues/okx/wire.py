"""OKX's words as the hub asks for them: channels, messages, and what a subscription begins with.

A stream is named `<channel>:<instrument>`, or `<channel>:<type>` where it tells of all instruments of a type.
"""

from __future__ import annotations

import re
from decimal import Decimal

from market.times import MS, SECOND
from simulator import funding
from simulator.connection import Connection
from simulator.events import Aggregate, Delta, Event, Fill, Forced, Kline, Mark, Top
from simulator.feeds import MarkFeed, Wanted
from simulator.market import Book
from simulator.plain import Plain
from simulator.spoiling import LEVEL, field, spoiled

INTERVALS = {
    "1s": "1s", "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "2H": "2h", "4H": "4h",
    "6Hutc": "6h", "12Hutc": "12h", "1Dutc": "1d", "1Wutc": "1w", "1Mutc": "1M",
}  # fmt: skip
CHANNEL = {"trade": "trades-all", "agg_trade": "trades", "quote": "bbo-tbt"}
DEPTH = 400
STEP = 3
"""Between the ids of a book's changes: they are not contiguous."""
WORTH = Decimal("0.01")
"""Coins that a linear contract is worth."""
INTEREST, FUNDING = "open-interest", "funding-rate"
MILLIS = 100 * MS
_PRICE = {
    Fill: field("px"), Aggregate: field("px"), Mark: field("markPx"), Forced: field("bkPx"), Delta: LEVEL, Top: LEVEL,
    Kline: re.compile(r'(\[\["[0-9]+",)"[^"]*"'),
}  # fmt: skip
_TIME = re.compile(r'("ts":")(\d+)(?=")')


def size(book: Book) -> str:
    """What one contract is worth."""
    return str(book.instrument.contract_size) if book.market == "inverse" else str(WORTH)


def seq(number: int) -> int:
    """The id of a book's change, by its number."""
    return STEP * number


def levels(side: str) -> str:
    """Levels as the venue writes them: price, quantity, a zero, the number of orders."""
    return side.replace('"]', '","0","1"]')


class Wire(Plain):
    """The venue as `simulator.hub.Venue` asks for it."""

    def stream(self, symbol: str, kind: str) -> str:
        """`trades-all:BTC-USDT`."""
        return f"{CHANNEL.get(kind, '-')}:{symbol}"

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """`books:BTC-USDT` and the like."""
        channel, _, whom = stream.partition(":")
        symbol = whom.lower()
        if channel == "books":
            return Wanted("book_delta", symbol, MILLIS, counted=True)
        if channel.startswith("candle") and channel[6:] in INTERVALS:
            return Wanted("kline", symbol, SECOND, interval=INTERVALS[channel[6:]])
        if market == "spot":
            return None
        if channel == "liquidation-orders":
            return Wanted("liquidation", "", MILLIS) if whom == "SWAP" else None
        periods = {"mark-price": 2 * MILLIS, INTEREST: 3 * SECOND, FUNDING: 30 * SECOND}
        return Wanted("mark_price", symbol, periods[channel]) if channel in periods else None

    def serves(self, market: str, route: str, stream: str) -> bool:
        """Fills by themselves and candles are on the business address."""
        del market
        return (route == "business") == stream.startswith(("trades-all:", "candle"))

    def announces(self, market: str) -> bool:
        """By a notice."""
        del market
        return True

    def farewell(self, connection: Connection, now: int) -> str | None:
        """The notice of an upgrade."""
        del now
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        return f'{{"event":"notice","code":"64008","msg":"{text}","connId":"twin{connection.number}"}}'

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price or its times in a form that no venue sends."""
        return spoiled(payload, fault, form, _PRICE.get(type(event)), _TIME)

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The message of an event."""
        del published, micro
        symbol, time = event.book.symbol, event.ts // MS
        match event:
            case Fill():
                return _trade(CHANNEL["trade"], event, event.id, "")
            case Aggregate():
                count = event.last_id - event.first_id + 1
                return _trade(CHANNEL["agg_trade"], event, event.last_id, f',"count":"{count}","seqId":{event.id}')
            case Top():
                return best(event)
            case Delta():
                ids = f'"seqId":{seq(event.id)},"prevSeqId":{seq(event.previous_id)}'
                return _book(symbol, "update", event.bids, event.asks, time, ids)
            case Mark():
                return {INTEREST: _interest, FUNDING: _funding}.get(event.stream.partition(":")[0], _mark)(event)
            case Forced():
                return _forced(event)
            case Kline():
                return _kline(event)
        raise ValueError(f"no channel tells {type(event).__name__}")

    def whole(self, book: Book, stream: str, now: int) -> str | None:
        """What a new subscriber is sent at once."""
        channel = stream.partition(":")[0]
        if channel == CHANNEL["quote"]:
            return None if book.top is None else best(book.top)
        if channel == FUNDING:
            return _funding(MarkFeed(book, stream, book.market).mark(now - now % MS))
        if channel == CHANNEL["trade"]:
            return None if not book.prints else self.payload(book.prints[-1], 0, False)
        if channel == "books":
            ladder = book.ladder
            sides = ladder.bids.best(DEPTH), ladder.asks.best(DEPTH)
            ids = f'"seqId":{seq(book.told[stream])},"prevSeqId":-1'
            return _book(book.symbol, "snapshot", *sides, (ladder.ts or now) // MS, ids)
        return None


def _push(channel: str, symbol: str, data: str, action: str = "") -> str:
    return f'{{"arg":{{"channel":"{channel}","instId":"{symbol}"}},{action}"data":[{data}]}}'


def _trade(channel: str, event: Fill | Aggregate, last: int, more: str) -> str:
    symbol, side = event.book.symbol, "sell" if event.maker else "buy"
    return _push(
        channel, symbol,
        f'{{"instId":"{symbol}","tradeId":"{last}","px":"{event.price}","sz":"{event.qty}","side":"{side}",'
        f'"source":"0","ts":"{event.ts // MS}"{more}}}',
    )  # fmt: skip


def best(top: Top) -> str:
    """What `bbo-tbt` tells."""
    return _push(
        CHANNEL["quote"], top.book.symbol,
        f'{{"asks":[["{top.ask}","{top.ask_qty}","0","1"]],"bids":[["{top.bid}","{top.bid_qty}","0","1"]],'
        f'"ts":"{top.ts // MS}","seqId":{top.id}}}',
    )  # fmt: skip


def _book(symbol: str, action: str, bids: str, asks: str, time: int, ids: str) -> str:
    data = f'{{"asks":{levels(asks)},"bids":{levels(bids)},"ts":"{time}",{ids}}}'
    return _push("books", symbol, data, f'"action":"{action}",')


def _mark(mark: Mark) -> str:
    symbol = mark.book.symbol
    data = f'{{"instType":"SWAP","instId":"{symbol}","markPx":"{mark.mark}","ts":"{mark.ts // MS}"}}'
    return _push("mark-price", symbol, data)


def _funding(mark: Mark) -> str:
    """The estimate that will be settled at `fundingTime`."""
    symbol, due = mark.book.symbol, mark.next_funding
    settled = funding.text(funding.settled(mark.book.seed, due - funding.INTERVAL))
    after = (due + funding.INTERVAL) // MS
    data = (
        f'{{"formulaType":"noRate","fundingRate":"{mark.rate}","fundingTime":"{due // MS}","instId":"{symbol}",'
        f'"instType":"SWAP","method":"current_period","nextFundingRate":"","nextFundingTime":"{after}",'
        f'"settFundingRate":"{settled}","settState":"settled","ts":"{mark.ts // MS}"}}'
    )
    return _push(FUNDING, symbol, data)


def worths(book: Book, now: int) -> tuple[str, str, str]:
    """Open contracts of a symbol, in the coin, and in USD."""
    held = Decimal(book.qty(funding.open_interest(book.seed, now)))
    return f"{held:f}", f"{held * WORTH:f}", "1000.5"


def interest(book: Book, now: int) -> str:
    """Open contracts of a symbol, as channel and route tell them."""
    held, coins, money = worths(book, now)
    return (
        f'{{"instId":"{book.symbol}","instType":"SWAP","oi":"{held}","oiCcy":"{coins}","oiUsd":"{money}",'
        f'"ts":"{now // MS}"}}'
    )


def _interest(mark: Mark) -> str:
    return _push(INTEREST, mark.book.symbol, interest(mark.book, mark.ts))


def _forced(event: Forced) -> str:
    symbol, side = event.book.symbol, event.side.lower()
    family = symbol.removesuffix("-SWAP")
    detail = (
        f'{{"bkLoss":"0","bkPx":"{event.price}","ccy":"","posSide":"{"long" if side == "sell" else "short"}",'
        f'"side":"{side}","sz":"{event.qty}","ts":"{event.ts // MS}"}}'
    )
    row = f'{{"details":[{detail}],"instFamily":"{family}","instId":"{symbol}","instType":"SWAP","uly":"{family}"}}'
    return f'{{"arg":{{"channel":"liquidation-orders","instType":"SWAP"}},"data":[{row}]}}'


def sums(book: Book, base: str, quote: str) -> list[str]:
    """Spot: base, quote, quote; contracts: contracts, base, quote. (An inverse contract's amount is in base.)"""
    volume, amount = Decimal(base), Decimal(quote)
    if book.market == "spot":
        found = (volume, amount, amount)
    elif book.market == "inverse":
        found = (volume, amount, volume * book.instrument.contract_size)
    else:
        found = (volume, volume * WORTH, amount * WORTH)
    return [f"{value:f}" for value in found]


def _kline(event: Kline) -> str:
    texts = ",".join(f'"{text}"' for text in sums(event.book, event.volume, event.amount))
    prices = f'"{event.open}","{event.high}","{event.low}","{event.close}"'
    channel, _, symbol = event.stream.partition(":")
    return _push(channel, symbol, f'["{event.id // MS}",{prices},{texts},"{"1" if event.closed else "0"}"]')
