"""historical-data.kucoin.com: fills, candles and settled rates, a day of UTC a file, zips beside their MD5. Pure.

Paths spell symbols without dash, and BTC where the API of futures says XBT.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from collectors.adapters.archives import Archive, Dataset, Period, Symbols, always
from market.times import DAY, HOUR, MINUTE, MS

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

FUTURES = ("linear", "inverse")
FOLDERS = {"spot": "data/spot", "linear": "data/futures", "inverse": "data/futures"}
INTERVALS: Mapping[str, int] = {
    "1m": MINUTE, "3m": 3 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE, "1h": HOUR,
    "2h": 2 * HOUR, "4h": 4 * HOUR, "8h": 8 * HOUR, "12h": 12 * HOUR, "1d": DAY,
}  # fmt: skip


def trade(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Fills, in no promised order; sides are the taker's, in whatever case. Of futures quantities are lots."""
    times = of.times(frame, "trade_time")
    of.inside(frame, "trade_time", times)
    of.timed(times)
    side = frame["side"].str.to_lowercase()
    of.all_of(frame, "side", side.is_in(["buy", "sell"]), "neither buy nor sell")
    of.all_of(frame, "trade_id", frame["trade_id"].str.contains(r"^[!-~]{1,64}$"), "no id")
    made = {
        "ts_event": times, "trade_id": frame["trade_id"], "price": of.numbers(frame, "price"),
        "qty": of.numbers(frame, "size"), "side": side, **of.sized(frame.height),
    }  # fmt: skip
    return of.made(frame, made)


def kline(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Candles: of spot with base and quote, of futures with lots, of a day without any volume."""
    series = of.file.series
    frame = frame.with_columns(of.times(frame, "time").alias("#opened")).sort("#opened", maintain_order=True)
    opened = frame["#opened"]
    of.candles(frame, "time", opened, aligned=series.width < DAY)
    made = {
        "ts_event": opened + series.width - MS, "interval": of.constant(frame, series.interval), "open_time": opened,
        **{name: of.numbers(frame, name) for name in ("open", "high", "low", "close")},
    }  # fmt: skip
    if series.market_type == "spot":
        made |= {"volume_base": of.numbers(frame, "volume"), "volume_quote": of.numbers(frame, "turnover")}
    elif "volume" in frame.columns:
        name = "volume_base" if series.market_type == "linear" else "volume_quote"
        made[name] = of.worth(frame, of.numbers(frame, "volume"))
    return of.made(frame, made)


def funding_rate(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Settled rates. How long each held is not in the files."""
    series = of.file.series
    spelt = [series.symbol, series.archive.spelt(series.market_type, series.symbol)]
    of.all_of(frame, "symbol", frame["symbol"].is_in(spelt), f"not {series.symbol}")
    frame = frame.with_columns(of.times(frame, "time").alias("#at")).sort("#at", maintain_order=True)
    times = frame["#at"]
    of.inside(frame, "time", times)
    of.rising(frame, "time", times, of.facts.last if of.facts.rows else None, equal=False)
    of.timed(times)
    made = {
        "ts_event": times, "rate": of.numbers(frame, "fundingRate"), "rate_kind": of.constant(frame, "ratio"),
        "known_at": times,
    }  # fmt: skip
    return of.made(frame, made)


def spelt(market_type: str, symbol: str) -> str:
    """`BTC-USDT` is BTCUSDT there, `XBTUSDTM` BTCUSDTM; dated contracts keep their names."""
    if market_type == "spot":
        return symbol.replace("-", "")
    return f"BTC{symbol[3:]}" if symbol.startswith("XBT") and symbol.endswith("M") else symbol


def _paths(name: str, *markets: str) -> dict[str, dict[Period, str]]:
    middle = "{symbol}/{interval}/{symbol}-{interval}" if name == "klines" else f"{{symbol}}/{{symbol}}-{name}"
    return {market: {"daily": f"{FOLDERS[market]}/daily/{name}/{middle}-{{date}}.zip"} for market in markets}


_INVERSE = "[A-Z0-9]{1,20}USDM|[A-Z0-9]{1,20}M[HMUZ][0-9]{2}"
_SYMBOLS = {
    "linear": Symbols(f"(?!({_INVERSE})$)[A-Z0-9]{{1,40}}", "XBTUSDTM"), "inverse": Symbols(_INVERSE, "XBTUSDM"),
}  # fmt: skip
"""Files of both lie in one place: only the name says which a contract is."""
ARCHIVE = Archive(
    base="https://historical-data.kucoin.com",
    listing="https://historical-data.kucoin.com",
    lists="s3",
    query="prefix={prefix}&max-keys=1000",
    sums="md5",
    symbol="[A-Z0-9]{1,20}(-[A-Z0-9]{1,20})?",
    example="BTC-USDT",
    spelt=spelt,
    first=dt.date(2022, 12, 1),
    roots=("data",),
    datasets=(
        Dataset(
            kind="trade", paths=_paths("trades", "spot", *FUTURES), read=trade, identity=("trade_id",),
            units=always("ms"), sized=FUTURES, streamed=False, alone=True, symbols=_SYMBOLS,
            header=dict.fromkeys(("spot", *FUTURES), "trade_id,trade_time,price,size,side"),
        ),
        Dataset(
            kind="kline", paths=_paths("klines", "spot"), read=kline, identity=("interval", "open_time"),
            units=always("s", "ms"), whole=True, header={"spot": "time,open,close,high,low,volume,turnover"},
            intervals={"spot": INTERVALS},
        ),
        Dataset(
            kind="kline", paths=_paths("klines", *FUTURES), read=kline, identity=("interval", "open_time"),
            units=always("s", "ms"), whole=True, optional=1, sizeable=FUTURES,
            symbols=_SYMBOLS,
            header=dict.fromkeys(FUTURES, "time,open,high,low,close,volume"),
            intervals=dict.fromkeys(FUTURES, INTERVALS),
        ),
        Dataset(
            kind="funding_rate", paths=_paths("fundingRates", *FUTURES), read=funding_rate, identity=("ts_event",),
            units=always("s", "ms"), whole=True, symbols=_SYMBOLS,
            header=dict.fromkeys(FUTURES, "symbol,time,fundingRate"),
        ),
    ),
)  # fmt: skip
