"""historical-data.kucoin.com: trades, candles and settled rates, a day a file, zips with MD5, lists as of S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from market.times import MS
from simulator import funding
from simulator.archives import Day, days, fills, text, zipped
from simulator.events import Fill
from simulator.hub import Hub
from simulator.market import Book
from simulator.venues.kucoin.wire import plain, trade_id

LISTS, SUMS = "s3", "md5"
CANDLES = ("1m", "1d")
_TRADES = "trade_id,trade_time,price,size,side"
_SIDES = (("buy", "BUY"), ("sell", "SELL"))


def files(hub: Hub) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file there is."""
    for book in hub.market.books:
        far, symbol = book.market != "spot", spelt(book)
        folder = "data/futures/daily" if far else "data/spot/daily"
        for day in days(book, hub.clock.now()):
            path = f"{folder}/trades/{symbol}/{symbol}-trades-{day.date}"
            yield f"{path}.zip", partial(_zip, path, _trades, book, day)
            for width in CANDLES:
                path = f"{folder}/klines/{symbol}/{width}/{symbol}-{width}-{day.date}"
                yield f"{path}.zip", partial(_zip, path, partial(_klines, width), book, day)
            if far:
                path = f"{folder}/fundingRates/{symbol}/{symbol}-fundingRates-{day.date}"
                yield f"{path}.zip", partial(_zip, path, _rates, book, day)


def spelt(book: Book) -> str:
    """`BTCUSDT`, `BTCUSDTM`: paths know no dash and no XBT."""
    name = book.symbol.replace("-", "")
    return f"BTC{name[3:]}" if book.market != "spot" and name.startswith("XBT") else name


def _zip(path: str, lines: Callable[[Book, Day], list[str]], book: Book, day: Day) -> bytes:
    return zipped(f"{path.rpartition('/')[2]}.csv", text(lines(book, day)))


def _trades(book: Book, day: Day) -> list[str]:
    return [_TRADES, *(_trade(one) for one in fills(book, day))]


def _trade(one: Fill) -> str:
    """Sides in small and in capital letters."""
    side = _SIDES[one.maker][one.id % 2]
    return f"{trade_id(one)},{one.ts // MS},{plain(one.price)},{plain(one.qty)},{side}"


def _klines(width: str, book: Book, day: Day) -> list[str]:
    """Of spot open, close, high, low, volume and turnover; of futures open, high, low, close and lots, which candles of
    a day name and do not have.
    """
    spot = book.market == "spot"
    made = ["time,open,close,high,low,volume,turnover" if spot else "time,open,high,low,close,volume"]
    held = made[0].count(",") - (not spot and width == "1d")
    for one in book.candles.read(width):
        if day.start <= one.open_time < day.end:
            first, high, low, close = (plain(book.price(each)) for each in (one.open, one.high, one.low, one.close))
            lots = plain(book.qty(one.base))
            row = [first, close, high, low, lots, book.amount(one.quote)] if spot else [first, high, low, close, lots]
            made.append(",".join([str(one.open_time // MS), *row[:held]]))
    return made


def _rates(book: Book, day: Day) -> list[str]:
    times = sorted(funding.settlements(day.end - 1, day.start - 1))
    lines = (f"{book.symbol},{at // MS},{funding.text(funding.settled(book.seed, at))}" for at in times)
    return ["symbol,time,fundingRate", *lines]
