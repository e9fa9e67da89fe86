"""The venue's candles of a test: what it would say of some trades, told as rows of `kline`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from lake.audit_bars import PRICES, VALUES
from market.times import MINUTE, MS
from tests.support.lakes import bar_table
from tests.support.market_rows import table


def candle(at: int, told: int | None = None, **values: object) -> dict[str, Any]:
    """One row, received at `told` (default: a second after its end); `values` are texts, the count a number."""
    row = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT", "ts_event": at + MINUTE - MS,
           "ts_estimated": False, "ts_recv": told or at + MINUTE + 1_000_000, "session": "n-1-1", "frame_no": 1,
           "item": 0, "source": "ws", "interval": "1m", "open_time": at, "revision": 0}  # fmt: skip
    row["date"] = pl.Series([at]).cast(pl.Datetime("us")).dt.date()[0]
    return row | values


def candles_of(trades: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A candle of each minute with a trade, as a venue that counts all of these in the minute of their time says it."""
    bars = pl.from_arrow(bar_table(list(trades)))
    assert isinstance(bars, pl.DataFrame)
    made = []
    for bar in bars.iter_rows(named=True):
        at = round(bar["window_start"].timestamp() * 1_000_000)
        texts = {name: bar.get(f"{name}_text") or _text(bar[name]) for name in VALUES if name != "trade_count"}
        made.append(candle(at, trade_count=bar["trade_count"], **texts))
    return made


def _text(value: float) -> str:
    return pl.select(pl.lit(value).cast(pl.String)).item() if value % 1 else str(int(value))


def empty(at: int, price: str) -> dict[str, Any]:
    """A minute in which nothing was traded."""
    sums = dict.fromkeys((name for name in VALUES if name not in (*PRICES, "trade_count")), "0")
    return candle(at, trade_count=0, **dict.fromkeys(PRICES, price), **sums)


def klines(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return table("kline", list(rows))
