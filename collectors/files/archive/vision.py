"""data.binance.vision: what it publishes, and how its files are named. Pure.

One file is one symbol, one data set, and one day or month (UTC):
`data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip`, beside it `….zip.CHECKSUM`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from lake.errors import WrongQuestion
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, day_start

EXCHANGE = "binance"
BASE = "https://data.binance.vision"
LISTING = "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision"
"""Where the folders of BASE are listed (S3 XML)."""
FOLDERS: Mapping[str, str] = {"spot": "data/spot", "linear": "data/futures/um", "inverse": "data/futures/cm"}
"""market_type -> folder."""
Period = Literal["daily", "monthly"]
FUTURES = ("linear", "inverse")
EVERY = ("spot", *FUTURES)

INTERVALS: Mapping[str, int] = {
    "1s": SECOND, "1m": MINUTE, "3m": 3 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE,
    "1h": HOUR, "2h": 2 * HOUR, "4h": 4 * HOUR, "6h": 6 * HOUR, "8h": 8 * HOUR, "12h": 12 * HOUR, "1d": DAY,
    "3d": 3 * DAY, "1w": 7 * DAY,
}  # fmt: skip
"""Candles and how long they are (us). `1s` is of spot; `3d` and `1w` come in monthly files only."""
MONTHLY_ONLY = ("3d", "1w")
_SYMBOL = re.compile(r"[A-Z0-9_]{1,40}")
_NAME = re.compile(r"(\d{4}-\d{2})(-\d{2})?\.zip")


class Dataset(msgspec.Struct, frozen=True):
    """One kind of file. `header` is the line of names that its files may begin with, by market; `headed`: they do."""

    name: str
    kind: str
    periods: tuple[Period, ...]
    header: Mapping[str, str]
    headed: bool = False

    def columns(self, market_type: str) -> tuple[str, ...]:
        return tuple(self.header[market_type].split(","))


_TRADES = "id,price,qty,quote_qty,time,is_buyer_maker"
_AGGREGATES = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
_KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
_METRICS = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)
_QUOTES = "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time"
_FORCED = (
    "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,"
    "accumulated_fill_quantity"
)
_BOTH: tuple[Period, ...] = ("daily", "monthly")

DATASETS: Mapping[str, Dataset] = {
    each.kind: each
    for each in (
        Dataset("trades", "trade", _BOTH, {
            "spot": f"{_TRADES},is_best_match", "linear": _TRADES, "inverse": _TRADES.replace("quote_qty", "base_qty"),
        }),
        Dataset("aggTrades", "agg_trade", _BOTH, {
            "spot": f"{_AGGREGATES},is_best_match", "linear": _AGGREGATES, "inverse": _AGGREGATES,
        }),
        Dataset("klines", "kline", _BOTH, dict.fromkeys(EVERY, _KLINES)),
        Dataset("bookTicker", "quote", _BOTH, dict.fromkeys(FUTURES, _QUOTES), headed=True),
        Dataset("fundingRate", "funding_rate", ("monthly",),
                dict.fromkeys(FUTURES, "calc_time,funding_interval_hours,last_funding_rate"), headed=True),
        Dataset("metrics", "open_interest", ("daily",), dict.fromkeys(FUTURES, _METRICS), headed=True),
        Dataset("liquidationSnapshot", "liquidation", ("daily",), {"inverse": _FORCED}, headed=True),
    )
}  # fmt: skip
"""Kind -> the data set that becomes it."""


class Series(msgspec.Struct, frozen=True):
    """The files of one symbol and kind, of klines of one interval."""

    market_type: str
    kind: str
    symbol: str
    interval: str = ""

    @property
    def dataset(self) -> Dataset:
        return DATASETS[self.kind]

    @property
    def periods(self) -> tuple[Period, ...]:
        """Which files there are of it."""
        return ("monthly",) if self.interval in MONTHLY_ONLY else self.dataset.periods

    def folder(self, period: Period) -> str:
        """Below the archive's base address."""
        tail = f"/{self.interval}" if self.interval else ""
        return f"{FOLDERS[self.market_type]}/{period}/{self.dataset.name}/{self.symbol}{tail}"

    def key(self, period: Period, day: dt.date) -> str:
        """How the names of the file of that day or month begin."""
        date = f"{day:%Y-%m-%d}" if period == "daily" else f"{day:%Y-%m}"
        return f"{self.folder(period)}/{self.symbol}-{self.interval or self.dataset.name}-{date}"


class ArchiveFile(msgspec.Struct, frozen=True, order=True):
    """One file: `date` is YYYY-MM-DD or YYYY-MM."""

    date: str
    series: Series

    @property
    def period(self) -> Period:
        return "daily" if len(self.date) == 10 else "monthly"

    @property
    def name(self) -> str:
        series = self.series
        return f"{series.symbol}-{series.interval or series.dataset.name}-{self.date}.zip"

    @property
    def member(self) -> str:
        """The only file in it."""
        return self.name.removesuffix("zip") + "csv"

    @property
    def path(self) -> str:
        """Below the archive's base address."""
        return f"{self.series.folder(self.period)}/{self.name}"

    @property
    def span(self) -> Interval:
        """[start, end) of the day or month, us."""
        first = dt.date.fromisoformat(self.date if self.period == "daily" else f"{self.date}-01")
        after = first + dt.timedelta(days=1) if self.period == "daily" else next_month(first)
        return Interval(day_start(first), day_start(after))


def series(market_type: str, kind: str, symbol: str, interval: str | None) -> Series:
    """What is asked for. Raises WrongQuestion, with what there is, where the archive has no such thing."""
    if market_type not in FOLDERS:
        raise WrongQuestion(f"the archive has no market {market_type}", f"use one of {', '.join(FOLDERS)}")
    there = [each.kind for each in DATASETS.values() if market_type in each.header]
    if kind not in there:
        raise WrongQuestion(f"the archive of {market_type} has no {kind}", f"use one of {', '.join(there)}")
    if _SYMBOL.fullmatch(symbol) is None:
        raise WrongQuestion(f"{symbol!r} is no symbol of the archive", "capitals, digits and _, e.g. BTCUSDT")
    if kind != "kline" and interval is not None:
        raise WrongQuestion(f"--interval is of klines, not of {kind}", "leave it out")
    if kind != "kline":
        return Series(market_type, kind, symbol)
    known = [name for name in INTERVALS if market_type == "spot" or name != "1s"]
    if interval not in known:
        raise WrongQuestion(f"--interval {interval} is none of {market_type}", f"use one of {', '.join(known)}")
    return Series(market_type, kind, symbol, interval or "")


def dates_of(keys: list[str], of: Series, period: Period) -> set[str]:
    """Which files of a folder are published whole, by date: a zip counts where its CHECKSUM is listed beside it."""
    names = {key.rpartition("/")[2] for key in keys if key.startswith(f"{of.folder(period)}/")}
    stem = f"{of.symbol}-{of.interval or of.dataset.name}-"
    found = set()
    for name in names:
        match = _NAME.fullmatch(name.removeprefix(stem)) if name.startswith(stem) else None
        if match is not None and f"{name}.CHECKSUM" in names and bool(match[2]) == (period == "daily"):
            found.add(match[1] + (match[2] or ""))
    return {date for date in found if _is_date(date)}


def _is_date(date: str) -> bool:
    try:
        dt.date.fromisoformat(date if len(date) == 10 else f"{date}-01")
    except ValueError:
        return False
    return True


def next_month(day: dt.date) -> dt.date:
    """The first day of the month after that of `day`."""
    return dt.date(day.year + day.month // 12, day.month % 12 + 1, 1)
