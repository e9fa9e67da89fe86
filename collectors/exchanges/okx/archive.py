"""static.okx.com: every fill, a day or a month of UTC+8 a file, zips without list and without CHECKSUM. Pure.

Each date is asked for; what its host says of a file (size, ETag, time of change) tells its versions apart.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl

from collectors.adapters.archives import Archive, Dataset, Period, always, unchanged
from market.times import HOUR

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

FUTURES = ("linear", "inverse")
_FOLDER = "okex/traderecords/trades"
_PATHS: dict[Period, str] = {
    "daily": f"{_FOLDER}/daily/{{day}}/{{symbol}}-trades-{{date}}.zip",
    "monthly": f"{_FOLDER}/monthly/{{day}}/{{symbol}}-trades-{{date}}.zip",
}


def trade(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Fills, in no promised order; ids follow by one, as the stream's. Of contracts quantities count these."""
    symbol = of.file.series.symbol
    of.all_of(frame, "instrument_name", frame["instrument_name"] == symbol, f"not {symbol}")
    ids, times = of.integers(frame, "trade_id"), of.times(frame, "created_time")
    of.inside(frame, "created_time", times)
    of.numbered(frame, "trade_id", ids, times)
    of.timed(times)
    of.all_of(frame, "side", frame["side"].is_in(["buy", "sell"]), "neither buy nor sell")
    made = {
        "ts_event": times, "seq": ids, "price": of.numbers(frame, "price"), "qty": of.numbers(frame, "size"),
        "side": frame["side"], **of.sized(frame.height),
    }  # fmt: skip
    return of.made(frame, made)


ARCHIVE = Archive(
    base="https://static.okx.com/cdn",
    listing=None,
    symbol="[A-Z0-9]{1,20}-[A-Z0-9_]{1,20}(-SWAP)?",
    example="BTC-USDT",
    spelt=unchanged,
    shift=8 * HOUR,
    days_late=2,
    first=dt.date(2021, 10, 1),
    root="okex",
    datasets=(
        Dataset(
            kind="trade", paths=dict.fromkeys(("spot", *FUTURES), _PATHS), read=trade, identity=("seq",),
            numbered=True, units=always("ms"), sized=FUTURES,
            header=dict.fromkeys(("spot", *FUTURES), "instrument_name,trade_id,side,price,size,created_time"),
        ),
    ),
)  # fmt: skip
