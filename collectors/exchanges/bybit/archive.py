"""public.bybit.com: every fill, a day a file (of spot also a month), packed with gzip, without CHECKSUM. Pure.

What its host says of a file (size, ETag, time of change) tells its versions apart; gzip's own sum proves its bytes.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl

from collectors.adapters.archives import LINES, Archive, Dataset, always, unchanged

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

FUTURES = ("linear", "inverse")
_RPI = {"0": "market", "1": "rpi"}


def trade(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Fills of futures: seconds with a fraction, in no promised order. Ids are the stream's, sides the taker's."""
    symbol = of.file.series.symbol
    of.all_of(frame, "symbol", frame["symbol"] == symbol, f"not {symbol}")
    times = of.times(frame, "timestamp")
    of.inside(frame, "timestamp", times)
    of.timed(times)
    of.all_of(frame, "side", frame["side"].is_in(["Buy", "Sell"]), "neither Buy nor Sell")
    of.all_of(frame, "trdMatchID", frame["trdMatchID"].str.contains(r"^[!-~]{1,64}$"), "no id")
    made = {
        "ts_event": times, "trade_id": frame["trdMatchID"], "price": of.numbers(frame, "price"),
        "qty": of.numbers(frame, "size"), "side": frame["side"].str.to_lowercase(), **_condition(frame, of, "RPI"),
    }  # fmt: skip
    return of.made(frame, made)


def spot_trade(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Fills of spot, numbered from 1 in each file: the numbers prove that none is missing, and are no ids."""
    times, numbers = of.times(frame, "timestamp"), of.integers(frame, "id")
    of.inside(frame, "timestamp", times)
    of.numbered(frame, "id", numbers, times)
    of.timed(times)
    of.all_of(frame, "side", frame["side"].is_in(["buy", "sell"]), "neither buy nor sell")
    made = {
        "ts_event": times, "price": of.numbers(frame, "price"), "qty": of.numbers(frame, "volume"),
        "side": frame["side"], **_condition(frame, of, "rpi"),
    }  # fmt: skip
    return of.made(frame, made)


def _condition(frame: pl.DataFrame, of: Reading, name: str) -> dict[str, pl.Series]:
    """Older files do not say it: all of theirs count as of the market."""
    if name not in frame.columns:
        return {}
    of.all_of(frame, name, frame[name].is_in(list(_RPI)), "neither 0 nor 1")
    return {"condition": frame[name].replace(_RPI)}


ARCHIVE = Archive(
    base="https://public.bybit.com",
    listing="https://public.bybit.com",
    lists="html",
    symbol="[A-Z0-9-]{1,40}",
    example="BTCUSDT",
    spelt=unchanged,
    first=dt.date(2019, 1, 1),
    datasets=(
        Dataset(
            kind="trade", read=trade, identity=("trade_id",), units=always("s"), packing="gz", optional=1,
            paths={each: {"daily": "trading/{symbol}/{symbol}{date}.csv.gz"} for each in FUTURES},
            header=dict.fromkeys(
                FUTURES,
                "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional,RPI",
            ),
        ),
        Dataset(
            kind="trade", read=spot_trade, identity=LINES, units=always("ms"), packing="gz", optional=1,
            streamed=False, lines_numbered=True, alone=True,
            paths={
                "spot": {
                    "daily": "spot/{symbol}/{symbol}_{date}.csv.gz", "monthly": "spot/{symbol}/{symbol}-{date}.csv.gz",
                }
            },
            header={"spot": "id,timestamp,price,volume,side,rpi"},
        ),
    ),
)  # fmt: skip
