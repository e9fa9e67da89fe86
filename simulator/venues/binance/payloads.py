"""Binance's payloads of the streams that are made on request: books, mark prices, forced orders, candles, contracts.

`unit` is the width of the message's times in us: 1000, or 1 where spot was asked for microseconds.
"""

from __future__ import annotations

from simulator.events import Delta, Forced, Kline, Mark, Marks, Notice, Partial, Streamed
from simulator.market import Book

NEVER = 4133404800000
"""Delivery time of a perpetual, ms."""
ONBOARD = 1569398400000
ST = {"linear": 1, "inverse": 2}
"""Which of the two futures markets a message is of, as they carry each other's."""


def pair(book: Book) -> str:
    """BTCUSDT, and BTCUSD of BTCUSD_PERP."""
    return book.symbol.partition("_")[0]


def payload(event: Streamed, published: int, unit: int) -> str:
    """The bare message of an event; `published` in us."""
    match event:
        case Delta():
            return _delta(event, published // unit, unit)
        case Partial():
            return _partial(event, published // unit)
        case Mark():
            return _mark(event)
        case Marks():
            return f"[{','.join(map(_mark, event.items))}]"
        case Forced():
            return _forced(event, published // unit)
        case Kline():
            return _kline(event, published // unit, unit)
        case Notice():
            return _notice(event, published // unit)


def _delta(event: Delta, sent: int, unit: int) -> str:
    if event.book.market == "spot":
        return (
            f'{{"e":"depthUpdate","E":{sent},"s":"{event.book.symbol}","U":{event.first_id},"u":{event.id},'
            f'"b":{event.bids},"a":{event.asks}}}'
        )
    return _futures_book(event, sent, event.ts // unit)


def _partial(event: Partial, sent: int) -> str:
    if event.book.market == "spot":
        return f'{{"lastUpdateId":{event.id},"bids":{event.bids},"asks":{event.asks}}}'
    return _futures_book(event, sent, event.ts // 1000)


def _futures_book(event: Delta | Partial, sent: int, ts: int) -> str:
    return (
        f'{{"e":"depthUpdate","E":{sent},"T":{ts},"s":"{event.book.symbol}","U":{event.first_id},"u":{event.id},'
        f'"pu":{event.previous_id},"b":{event.bids},"a":{event.asks},"ps":"{pair(event.book)}",'
        f'"st":{ST[event.book.market]}}}'
    )


def _mark(event: Mark) -> str:
    return (
        f'{{"e":"markPriceUpdate","E":{event.ts // 1000},"s":"{event.book.symbol}","p":"{event.mark}",'
        f'"ap":"{event.mark}","P":"{event.index}","i":"{event.index}","r":"{event.rate}",'
        f'"T":{event.next_funding // 1000},"st":{ST[event.book.market]}}}'
    )


def _forced(event: Forced, sent: int) -> str:
    paired, st = f'"ps":"{pair(event.book)}"', f'"st":{ST[event.book.market]}'
    if event.book.market == "inverse":
        inside, after = f"{paired},", f",{st}"
    else:  # USD-M says neither on the stream of one symbol
        inside, after = "", f",{paired},{st}" if event.stream.startswith("!") else ""
    return (
        f'{{"e":"forceOrder","E":{sent},"o":{{"s":"{event.book.symbol}",{inside}"S":"{event.side}","o":"LIMIT",'
        f'"f":"IOC","q":"{event.qty}","p":"{event.price}","ap":"{event.average}","X":"FILLED","l":"{event.qty}",'
        f'"z":"{event.qty}","T":{event.ts // 1000}}}{after}}}'
    )


def _kline(event: Kline, sent: int, unit: int) -> str:
    symbol = event.book.symbol
    return (
        f'{{"e":"kline","E":{sent},"s":"{symbol}","k":{{"t":{event.id // unit},"T":{event.end // unit - 1},'
        f'"s":"{symbol}","i":"{event.interval}","f":{event.first_id},"L":{event.last_id},"o":"{event.open}",'
        f'"c":"{event.close}","h":"{event.high}","l":"{event.low}","v":"{event.volume}","n":{event.count},'
        f'"x":{"true" if event.closed else "false"},"q":"{event.amount}","V":"{event.bought}",'
        f'"Q":"{event.bought_amount}","B":"0"}}}}'
    )


def _notice(event: Notice, sent: int) -> str:
    return (
        f'{{"e":"contractInfo","E":{sent},"s":"{event.book.symbol}","ps":"{pair(event.book)}","ct":"PERPETUAL",'
        f'"dt":{event.delivery // 1000 or NEVER},"ot":{ONBOARD},"cs":"{event.status}",'
        '"bks":[{"bs":1,"bnf":0,"bnc":5000,"mmr":0.01,"cf":0,"mi":21,"ma":50}],'
        f'"st":{ST.get(event.book.market, 1)}}}'
    )
