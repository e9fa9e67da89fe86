"""KuCoin's words as the hub asks for them: topics and messages. Spot pads nothing either: a price has one spelling."""

from __future__ import annotations

import re

import msgspec

from market.times import MS
from simulator import spoiling
from simulator.events import Delta, Event, Fill, Kline, Mark, Top
from simulator.feeds import Wanted
from simulator.plain import Plain
from simulator.venues.kucoin.levels import LevelFeed

INTERVALS = {
    "1min": "1m", "3min": "3m", "5min": "5m", "15min": "15m", "30min": "30m", "1hour": "1h", "2hour": "2h",
    "4hour": "4h", "6hour": "6h", "8hour": "8h", "12hour": "12h", "1day": "1d", "1week": "1w",
}  # fmt: skip
TOPICS = {
    "spot": {"trade": "/market/match", "quote": "/spotMarket/level1", "book": "/market/level2"},
    "futures": {
        "trade": "/contractMarket/execution", "quote": "/contractMarket/tickerV2", "book": "/contractMarket/level2"
    },
}  # fmt: skip
CANDLES, INSTRUMENT = "/market/candles", "/contract/instrument"
KNOWN = frozenset({*TOPICS["spot"].values(), *TOPICS["futures"].values(), CANDLES, INSTRUMENT})
_PRICE = re.compile(r'("(?:price|bestBidPrice|change|markPrice)":)("[^",]*|[0-9.]+)|("(?:bids|asks)":\[+)("[^"]*")')
_TIME = re.compile(r'("(?:time|ts|timestamp)":"?)(\d+)')
PRICES = {form: text.strip('"') for form, text in spoiling.PRICES.items()}
"""Form -> text in place of a price, which is a number in some messages."""
TIMES = spoiling.TIMES | {"year_3000": lambda time: 18 * time}
"""Form -> what becomes of a time, whose unit is not the same in all messages."""
_pairs = msgspec.json.Decoder(list[tuple[str, str]]).decode


def plain(text: str) -> str:
    """A number without zeros behind the point."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def levels(side: str) -> list[tuple[str, str]]:
    """The levels of a JSON list, in the venue's spelling."""
    return [(plain(price), plain(qty)) for price, qty in _pairs(side)]


def trade_id(fill: Fill) -> str:
    """An id that ascends by leaps."""
    return str(1_000_000_000 + 3 * fill.id)


def futures(market: str) -> bool:
    """Whether a market is one of the futures host."""
    return market != "spot"


class Wire(Plain):
    """The venue as `simulator.hub.Venue` asks for it. Streams are named by symbol only, so both hosts' names differ."""

    def stream(self, symbol: str, kind: str) -> str:
        """`/market/match:BTC-USDT`; aggregates are no topic here."""
        topics = TOPICS["spot" if "-" in symbol else "futures"]
        return f"{topics.get(kind, '-')}:{symbol}"

    def wanted(self, market: str, stream: str) -> Wanted | None:
        """`/market/level2:BTC-USDT` and the like."""
        prefix, _, rest = stream.partition(":")
        if futures(market):
            if prefix == TOPICS["futures"]["book"]:
                return Wanted("book_delta", rest.lower(), 50 * MS, feed=LevelFeed)
            return Wanted("mark_price", rest.lower(), 1000 * MS) if prefix == INSTRUMENT else None
        if prefix == TOPICS["spot"]["book"]:
            return Wanted("book_delta", rest.lower(), 50 * MS)
        symbol, _, interval = rest.rpartition("_")
        if prefix == CANDLES and interval in INTERVALS:
            return Wanted("kline", symbol.lower(), 1000 * MS, interval=INTERVALS[interval])
        return None

    def spoiled(self, event: Event, payload: str, fault: str, form: str) -> str | None:
        """The message with a price or its times in a form that no venue sends."""
        del event
        if fault == "bad_time":
            return spoiling.retimed(payload, _TIME, TIMES[form])

        def spoil(found: re.Match[str]) -> str:
            head, old = (found[1], found[2]) if found[1] else (found[3], found[4])
            if not old.startswith('"') or form == "bare_nan":
                return head + PRICES[form] + ("," if old.startswith('"') and not old.endswith('"') else "")
            return f'{head}"{PRICES[form]}' + ('"' if old.endswith('"') and len(old) > 1 else "")

        found, count = _PRICE.subn(spoil, payload, count=1)
        return found if count and found != payload else None

    def payload(self, event: Event, published: int, micro: bool) -> str:
        """The message of an event."""
        del micro
        symbol, far = event.book.symbol, futures(event.book.market)
        match event:
            case Fill():
                return _execution(event) if far else _match(event)
            case Top():
                return _ticker(event) if far else _level1(event)
            case Delta():
                return _change(event) if far else _level2(event)
            case Mark():
                topic = f"{INSTRUMENT}:{symbol}"
                if event.id // 1000 % 60 == 0:
                    said = f'"granularity":60000,"fundingRate":{plain(event.rate)},"timestamp":{event.id}'
                    return _message(topic, "funding.rate", said)
                prices = f'"markPrice":{plain(event.mark)},"indexPrice":{plain(event.index)}'
                return _message(topic, "mark.index.price", f'{prices},"granularity":1000,"timestamp":{event.id}')
            case Kline():
                return _candle(event, published)
        raise ValueError(f"no topic tells {type(event).__name__}")


def _message(topic: str, subject: str, data: str, more: str = "") -> str:
    return f'{{"topic":"{topic}","type":"message","subject":"{subject}",{more}"data":{{{data}}}}}'


def _match(fill: Fill) -> str:
    symbol, number = fill.book.symbol, trade_id(fill)
    data = (
        f'"makerOrderId":"671b5007389355000701b1d3","price":"{plain(fill.price)}","sequence":"{number}",'
        f'"side":"{"sell" if fill.maker else "buy"}","size":"{plain(fill.qty)}","symbol":"{symbol}",'
        f'"takerOrderId":"671b50161777ff00074c168d","time":"{fill.ts * 1000}","tradeId":"{number}","type":"match"'
    )
    return _message(f"/market/match:{symbol}", "trade.l3match", data)


def _execution(fill: Fill) -> str:
    symbol, number = fill.book.symbol, trade_id(fill)
    data = (
        f'"symbol":"{symbol}","sequence":{number},"side":"{"sell" if fill.maker else "buy"}","size":{fill.qty},'
        f'"price":"{plain(fill.price)}","takerOrderId":"1","makerOrderId":"2","tradeId":"{number}",'
        f'"ts":{fill.ts * 1000}'
    )
    return _message(f"/contractMarket/execution:{symbol}", "match", data, f'"sn":{number},')


def _level1(top: Top) -> str:
    ask, bid = (f'["{plain(price)}","{plain(qty)}"]' for price, qty in ((top.ask, top.ask_qty), (top.bid, top.bid_qty)))
    data = f'"asks":{ask},"bids":{bid},"timestamp":{top.ts // MS}'
    return _message(f"/spotMarket/level1:{top.book.symbol}", "level1", data)


def _ticker(top: Top) -> str:
    symbol = top.book.symbol
    data = (
        f'"symbol":"{symbol}","sequence":{top.id},"bestBidSize":{top.bid_qty},"bestBidPrice":"{plain(top.bid)}",'
        f'"bestAskPrice":"{plain(top.ask)}","bestAskSize":{top.ask_qty},"ts":{top.ts * 1000}'
    )
    return _message(f"/contractMarket/tickerV2:{symbol}", "tickerV2", data, f'"sn":{top.id},')


def _level2(event: Delta) -> str:
    """Every change as [price, size, sequence]."""
    symbol = event.book.symbol

    def side(text: str) -> str:
        return ",".join(f'["{price}","{qty}","{event.id}"]' for price, qty in levels(text))

    data = (
        f'"changes":{{"asks":[{side(event.asks)}],"bids":[{side(event.bids)}]}},"sequenceEnd":{event.id},'
        f'"sequenceStart":{event.first_id},"symbol":"{symbol}","time":{event.ts // MS}'
    )
    return _message(f"/market/level2:{symbol}", "trade.l2update", data)


def _change(event: Delta) -> str:
    """One level."""
    symbol, buys = event.book.symbol, levels(event.bids)
    ((price, qty),) = buys or levels(event.asks)
    change = f"{price},{'buy' if buys else 'sell'},{qty}"
    data = f'"sequence":{event.id},"change":"{change}","timestamp":{event.ts // MS}'
    return _message(f"/contractMarket/level2:{symbol}", "level2", data, f'"sn":{event.id},')


def _candle(event: Kline, published: int) -> str:
    """The candle so far; nothing says that it is closed."""
    fields = (event.open, event.close, event.high, event.low, event.volume, event.amount)
    values = ",".join(f'"{plain(text)}"' for text in fields)
    data = f'"symbol":"{event.book.symbol}","candles":["{event.id // 1_000_000}",{values}],"time":{published * 1000}'
    return _message(event.stream, "trade.candles.update", data)
