"""data.binance.vision: what it publishes, how its files are named, and how their columns become rows. Pure.

`data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip`, beside it `….zip.CHECKSUM`. Rows keep the meaning of the
live stream's, so that both are one row to the lake: the same ids, units and rounding of times.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from collectors.adapters.archives import BOTH, LINES, Archive, Dataset, Period, unchanged
from market.times import DAY, HOUR, MINUTE, MS, SECOND

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

FOLDERS = {"spot": "data/spot", "linear": "data/futures/um", "inverse": "data/futures/cm"}
FUTURES = ("linear", "inverse")
EVERY = ("spot", *FUTURES)
MICROSECONDS_FROM = 1_735_689_600_000_000
"""2025-01-01: spot files of this day and later say microseconds, all others milliseconds."""
INTERVALS: Mapping[str, int] = {
    "1m": MINUTE, "3m": 3 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE,
    "1h": HOUR, "2h": 2 * HOUR, "4h": 4 * HOUR, "6h": 6 * HOUR, "8h": 8 * HOUR, "12h": 12 * HOUR, "1d": DAY,
    "3d": 3 * DAY, "1w": 7 * DAY,
}  # fmt: skip
METRICS_EVERY = 300 * SECOND
_WEEK = 7 * DAY
_MONDAY = 4 * DAY
"""The first one since the epoch."""
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


def trade(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Every fill. What `X` says on the futures' streams is not in the archive: all count as of the market."""
    return _trades(frame, of, "id", "price", "qty", "time", {})


def agg_trade(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Fills of one order at one price, with the trade ids inside."""
    ids = {"first_id": of.integers(frame, "first_trade_id"), "last_id": of.integers(frame, "last_trade_id")}
    good = ids["first_id"] <= ids["last_id"]
    of.all_of(frame, "first_trade_id", good, "after last_trade_id")
    return _trades(frame, of, "agg_trade_id", "price", "quantity", "transact_time", ids)


def _trades(
    frame: pl.DataFrame, of: Reading, key: str, price: str, qty: str, when: str, more: dict[str, pl.Series]
) -> pl.DataFrame:
    ids, times = of.integers(frame, key), of.times(frame, when)
    of.inside(frame, when, times)
    of.contiguous(frame, key, ids, times)
    of.timed(times)
    sold = of.truths(frame, "is_buyer_maker")
    side = pl.DataFrame({"m": sold}).select(pl.when("m").then(pl.lit("sell")).otherwise(pl.lit("buy"))).to_series()
    made = {
        "ts_event": times, "seq": ids, "price": frame[price], "qty": frame[qty], "side": side,
        **of.sized(frame.height), **more,
    }  # fmt: skip
    return of.made(frame, made)


def quote(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Best bid and ask, each change, with both of the venue's clocks."""
    ids, times, publish = (
        of.integers(frame, "update_id"), of.times(frame, "transaction_time"), of.times(frame, "event_time"),
    )  # fmt: skip
    of.inside(frame, "event_time", publish)
    of.rising(frame, "update_id", ids, of.facts.last_id, equal=True)
    of.identified(ids)
    of.timed(times)
    made = {
        "ts_event": times, "ts_publish": publish, "update_id": ids,
        "bid": frame["best_bid_price"], "bid_qty": frame["best_bid_qty"],
        "ask": frame["best_ask_price"], "ask_qty": frame["best_ask_qty"],
    }  # fmt: skip
    return of.made(frame, made)


def kline(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Candles, each of its interval and none twice. COIN-M says contracts, and base in the quote's column."""
    width = of.file.series.width
    opened, closed = of.times(frame, "open_time"), of.times(frame, "close_time")
    tick = MS if of.facts.unit == "ms" else 1
    of.all_of(
        frame, "close_time", closed - opened == width - tick, f"not the end of a candle of {of.file.series.interval}"
    )
    of.candles(
        frame, "open_time", opened, offset=_MONDAY if width == _WEEK else 0, aligned=width <= DAY or width == _WEEK
    )
    base, quote_, bought, bought_quote = (
        frame["volume"], frame["quote_volume"], frame["taker_buy_volume"], frame["taker_buy_quote_volume"],
    )  # fmt: skip
    if of.file.series.market_type == "inverse":
        contracts, bought_contracts = base, bought
        base, bought = quote_, bought_quote
        quote_, bought_quote = (of.worth(frame, each) for each in (contracts, bought_contracts))
    made = {
        "ts_event": closed - closed % MS, "interval": of.constant(frame, of.file.series.interval), "open_time": opened,
        "open": frame["open"], "high": frame["high"], "low": frame["low"], "close": frame["close"],
        "volume_base": base, "volume_quote": quote_, "trade_count": of.integers(frame, "count"),
        "taker_buy_base": bought, "taker_buy_quote": bought_quote,
    }  # fmt: skip
    return of.made(frame, made)


def funding_rate(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Settled rates; the venue writes some ms after the second that they are of."""
    said, hours = of.times(frame, "calc_time"), of.integers(frame, "funding_interval_hours")
    of.all_of(frame, "funding_interval_hours", hours.is_between(1, 24), "no number of hours")
    times = (said + SECOND // 2) // SECOND * SECOND
    of.inside(frame, "calc_time", times)
    of.rising(frame, "calc_time", times, of.facts.last if of.facts.rows else None, equal=False)
    of.timed(times)
    of.covered(times, hours * HOUR)
    known = pl.DataFrame({"a": times, "b": said}).select(pl.max_horizontal("a", "b")).to_series()
    made = {
        "ts_event": times, "rate": frame["last_funding_rate"], "rate_kind": of.constant(frame, "ratio"),
        "interval_s": hours * (HOUR // SECOND), "known_at": known,
    }  # fmt: skip
    return of.made(frame, made)


def open_interest(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Every five minutes; some days begin at 00:00, some at 00:05 and end with the next day's first."""
    symbol = of.file.series.symbol
    of.all_of(frame, "symbol", frame["symbol"] == symbol, f"not {symbol}")
    parsed = frame["create_time"].str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    of.all_of(frame, "create_time", parsed.is_not_null(), "no time")
    times = parsed.cast(pl.Int64)
    of.facts.unit = "seconds"
    of.inside(frame, "create_time", times, late=1)
    of.rising(frame, "create_time", times, of.facts.last if of.facts.rows else None, equal=False)
    of.timed(times)
    of.covered(times, METRICS_EVERY)
    linear = of.file.series.market_type == "linear"
    made = {
        "ts_event": times, "oi": frame["sum_open_interest"],
        "oi_unit": of.constant(frame, "base" if linear else "contract"),
        "sides": pl.repeat(1, frame.height, dtype=pl.Int64, eager=True),
        "oi_quote" if linear else "oi_base": frame["sum_open_interest_value"], "period": of.constant(frame, "5m"),
    }  # fmt: skip
    return of.made(frame, made)


def liquidation(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Forced orders. The archive has every line twice: of equal ones every second is left out, and counted."""
    times = of.times(frame, "time")
    of.inside(frame, "time", times)
    of.all_of(frame, "side", frame["side"].is_in(["BUY", "SELL"]), "neither BUY nor SELL")
    of.timed(times)
    names = [name for name in frame.columns if name != "frame_no"]
    nth = frame.select(pl.int_range(pl.len()).over(names)).to_series()
    kept = nth % 2 == 0
    made = {
        "ts_event": times, "side": frame["side"].str.to_lowercase(), "price": frame["price"],
        "avg_price": frame["average_price"], "qty": frame["original_quantity"], **of.sized(frame.height),
    }  # fmt: skip
    of.facts.repeated += int((~kept).sum())
    return of.made(frame, made).filter(kept)


def _units(market_type: str, start: int) -> tuple[str, ...]:
    return ("us",) if market_type == "spot" and start >= MICROSECONDS_FROM else ("ms",)


def _paths(name: str, markets: tuple[str, ...], periods: tuple[Period, ...]) -> dict[str, dict[Period, str]]:
    middle = "{symbol}/{interval}/{symbol}-{interval}" if name == "klines" else f"{{symbol}}/{{symbol}}-{name}"
    return {
        market: {period: f"{FOLDERS[market]}/{period}/{name}/{middle}-{{date}}.zip" for period in periods}
        for market in markets
    }


ARCHIVE = Archive(
    base="https://data.binance.vision",
    listing="https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
    lists="s3",
    sums="sha256",
    member_named=True,
    symbol="[A-Z0-9_]{1,40}",
    example="BTCUSDT",
    spelt=unchanged,
    first=dt.date(2017, 1, 1),
    roots=("data",),
    datasets=(
        Dataset(
            kind="trade", paths=_paths("trades", EVERY, BOTH), read=trade, identity=("seq",), numbered=True,
            units=_units, sized=("inverse",),
            header={
                "spot": f"{_TRADES},is_best_match", "linear": _TRADES,
                "inverse": _TRADES.replace("quote_qty", "base_qty"),
            },
            decimals=("price", "qty"), unread=("quote_qty", "base_qty", "is_best_match"),
        ),
        Dataset(
            kind="agg_trade", paths=_paths("aggTrades", EVERY, BOTH), read=agg_trade, identity=("seq",), numbered=True,
            units=_units, sized=("inverse",),
            header={"spot": f"{_AGGREGATES},is_best_match", "linear": _AGGREGATES, "inverse": _AGGREGATES},
            decimals=("price", "quantity"), unread=("is_best_match",),
        ),
        Dataset(
            kind="kline", paths=_paths("klines", EVERY, BOTH), read=kline, identity=("interval", "open_time"),
            units=_units, sizeable=("inverse",), header=dict.fromkeys(EVERY, _KLINES),
            intervals={"spot": {"1s": SECOND, **INTERVALS}, "linear": INTERVALS, "inverse": INTERVALS},
            monthly_only=("3d", "1w"),
        ),
        Dataset(
            kind="quote", paths=_paths("bookTicker", FUTURES, BOTH), read=quote, identity=("update_id",), units=_units,
            header=dict.fromkeys(FUTURES, _QUOTES), headed=True,
            decimals=("best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"),
        ),
        Dataset(
            kind="funding_rate", paths=_paths("fundingRate", FUTURES, ("monthly",)), read=funding_rate,
            identity=("ts_event",), units=_units, headed=True,
            header=dict.fromkeys(FUTURES, "calc_time,funding_interval_hours,last_funding_rate"),
        ),
        Dataset(
            kind="open_interest", paths=_paths("metrics", FUTURES, ("daily",)), read=open_interest,
            identity=("period", "ts_event"), units=_units, header=dict.fromkeys(FUTURES, _METRICS), headed=True,
            streamed=False,
        ),
        Dataset(
            kind="liquidation", paths=_paths("liquidationSnapshot", ("inverse",), ("daily",)), read=liquidation,
            identity=LINES, units=_units, sized=("inverse",), header={"inverse": _FORCED}, headed=True, whole=True,
            streamed=False,
        ),
    ),
)  # fmt: skip
