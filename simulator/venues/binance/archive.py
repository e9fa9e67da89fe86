"""data.binance.vision: trades, aggregates, candles and settled rates as zips with CHECKSUM, listed as S3 lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from market.times import MINUTE, MS
from simulator import funding
from simulator.archives import Day, days, fills, months, text, zipped
from simulator.candles import INTERVALS, Candle
from simulator.events import Aggregate, Fill
from simulator.hub import Hub
from simulator.market import Book

LISTS, SUMS = "s3", "sha256"
FOLDERS = {"spot": "data/spot", "linear": "data/futures/um", "inverse": "data/futures/cm"}
CANDLES = ("1m", "1h")
_TRADES = "id,price,qty,quote_qty,time,is_buyer_maker"
_AGGREGATES = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
_KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
_RATES = "calc_time,funding_interval_hours,last_funding_rate"


def files(hub: Hub) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file there is: daily ones of what is over, monthly ones of settled rates."""
    for book in hub.market.books:
        folder, symbol = FOLDERS[book.market], book.symbol
        for day in days(book, hub.clock.now()):
            for name, lines in (("trades", _trades), ("aggTrades", _aggregates)):
                path = f"{folder}/daily/{name}/{symbol}/{symbol}-{name}-{day.date}"
                yield f"{path}.zip", partial(_zip, path, lines, book, day)
            for width in CANDLES:
                path = f"{folder}/daily/klines/{symbol}/{width}/{symbol}-{width}-{day.date}"
                yield f"{path}.zip", partial(_zip, path, partial(_klines, width), book, day)
        for month in months(book, hub.clock.now()) if book.market != "spot" else ():
            path = f"{folder}/monthly/fundingRate/{symbol}/{symbol}-fundingRate-{month.date}"
            yield f"{path}.zip", partial(_zip, path, _rates, book, month)


def _zip(path: str, lines: Callable[[Book, Day], list[str]], book: Book, day: Day) -> bytes:
    return zipped(f"{path.rpartition('/')[2]}.csv", text(lines(book, day)))


def _head(book: Book, names: str) -> list[str]:
    """Files of futures begin with their columns' names, those of spot never."""
    return [] if book.market == "spot" else [names]


def _time(book: Book, at: int) -> int:
    return at if book.market == "spot" else at // MS


def _maker(book: Book, maker: bool) -> str:
    return f"{maker},True" if book.market == "spot" else str(maker).lower()


def _trades(book: Book, day: Day) -> list[str]:
    names = _TRADES.replace("quote_qty", "base_qty") if book.market == "inverse" else _TRADES
    return [*_head(book, names), *(_trade(book, one) for one in fills(book, day))]


def _trade(book: Book, one: Fill) -> str:
    value = book.amount(book.candles.amount(one.ticks, one.lots))
    return f"{one.id},{one.price},{one.qty},{value},{_time(book, one.ts)},{_maker(book, one.maker)}"


def _aggregates(book: Book, day: Day) -> list[str]:
    held = [one for one in book.aggregates if day.start <= one.ts < day.end]
    return [*_head(book, _AGGREGATES), *(_aggregate(book, one) for one in held)]


def _aggregate(book: Book, one: Aggregate) -> str:
    ids = f"{one.first_id},{one.last_id}"
    return f"{one.id},{one.price},{one.qty},{ids},{_time(book, one.ts)},{_maker(book, one.maker)}"


def _klines(width: str, book: Book, day: Day) -> list[str]:
    held = [one for one in book.candles.read(width) if day.start <= one.open_time < day.end]
    return [*_head(book, _KLINES), *(_kline(book, one, width) for one in held)]


def _kline(book: Book, one: Candle, width: str) -> str:
    end = one.open_time + INTERVALS[width]
    closed = end - 1 if book.market == "spot" else end // MS - 1
    prices = ",".join(book.price(ticks) for ticks in (one.open, one.high, one.low, one.close))
    taken = f"{book.qty(one.taker_base)},{book.amount(one.taker_quote)}"
    sums = f"{book.qty(one.base)},{closed},{book.amount(one.quote)},{one.count},{taken},0"
    return f"{_time(book, one.open_time)},{prices},{sums}"


def _rates(book: Book, day: Day) -> list[str]:
    """Some ms after the second that they are of."""
    times = sorted(funding.settlements(day.end - 1, day.start - 1))
    lines = (f"{at // MS + at // MINUTE % 9},8,{funding.text(funding.settled(book.seed, at))}" for at in times)
    return [_RATES, *lines]
