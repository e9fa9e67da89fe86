"""How the columns of each data set become those of its kind: a function a kind, named as it. Pure.

Each takes lines as texts and the file's `Reading`, which refuses what is not as documented; rows keep the meaning of
the live stream's, so that both are one row to the lake: the same ids, units and rounding of times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from collectors.files.archive.vision import INTERVALS
from lake import scaled
from market.times import DAY, HOUR, MS, SECOND

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

UNITS = {"ms": (10**12, 10**14, 1000), "us": (10**15, 10**17, 1)}
"""Unit -> its times lie in [low, high), and how many us one is."""
METRICS_EVERY = 300 * SECOND
_WEEK = 7 * DAY
_MONDAY = 4 * DAY
"""The first one since the epoch."""


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
        **_sized(of, frame.height), **more,
    }  # fmt: skip
    return _made(frame, of, made)


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
    return _made(frame, of, made)


def kline(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Candles, each of its interval and none twice. COIN-M says contracts, and base in the quote's column."""
    name = of.file.series.interval
    opened, closed = of.times(frame, "open_time"), of.times(frame, "close_time")
    of.inside(frame, "open_time", opened)
    of.rising(frame, "open_time", opened, of.facts.last if of.facts.rows else None, equal=False)
    width, tick = INTERVALS[name], MS if of.facts.unit == "ms" else 1
    of.all_of(frame, "close_time", closed - opened == width - tick, f"not the end of a candle of {name}")
    offset = _MONDAY if width == _WEEK else 0
    if width <= DAY or offset:
        of.all_of(frame, "open_time", (opened - offset) % width == 0, f"no beginning of a candle of {name}", "period")
    of.timed(opened)
    of.covered(opened, width)
    base, quote_, bought, bought_quote = (
        frame["volume"], frame["quote_volume"], frame["taker_buy_volume"], frame["taker_buy_quote_volume"],
    )  # fmt: skip
    if of.file.series.market_type == "inverse":
        contracts, bought_contracts = base, bought
        base, bought = quote_, bought_quote
        quote_, bought_quote = (_times(of, frame, each) for each in (contracts, bought_contracts))
    made = {
        "ts_event": closed - closed % MS, "interval": pl.repeat(name, frame.height, eager=True), "open_time": opened,
        "open": frame["open"], "high": frame["high"], "low": frame["low"], "close": frame["close"],
        "volume_base": base, "volume_quote": quote_, "trade_count": of.integers(frame, "count"),
        "taker_buy_base": bought, "taker_buy_quote": bought_quote,
    }  # fmt: skip
    return _made(frame, of, made)


def _times(of: Reading, frame: pl.DataFrame, contracts: pl.Series) -> pl.Series:
    """Contracts x what one is worth, exactly; unknown where that is not known."""
    size = of.allowed.contract_size
    if size is None:
        return pl.repeat(None, frame.height, dtype=pl.String, eager=True)
    of.all_of(frame, contracts.name, scaled.valid(contracts), "no plain decimal")
    factor = scaled.scale(pl.repeat(size, frame.height, eager=True))
    return scaled.unscale(scaled.product(scaled.scale(contracts), factor))


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
        "ts_event": times, "rate": frame["last_funding_rate"],
        "rate_kind": pl.repeat("ratio", frame.height, eager=True), "interval_s": hours * (HOUR // SECOND),
        "known_at": known,
    }  # fmt: skip
    return _made(frame, of, made)


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
        "oi_unit": pl.repeat("base" if linear else "contract", frame.height, eager=True),
        "sides": pl.repeat(1, frame.height, dtype=pl.Int64, eager=True),
        "oi_quote" if linear else "oi_base": frame["sum_open_interest_value"],
        "period": pl.repeat("5m", frame.height, eager=True),
    }  # fmt: skip
    return _made(frame, of, made)


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
        "avg_price": frame["average_price"], "qty": frame["original_quantity"], **_sized(of, frame.height),
    }  # fmt: skip
    of.facts.repeated += int((~kept).sum())
    return _made(frame, of, made).filter(kept)


def _sized(of: Reading, rows: int) -> dict[str, pl.Series]:
    """What a quantity counts, where the market alone does not say it."""
    if of.file.series.market_type != "inverse":
        return {}
    return {
        "qty_unit": pl.repeat("contract", rows, eager=True),
        "multiplier": pl.repeat(of.allowed.contract_size, rows, dtype=pl.String, eager=True),
    }


def _made(frame: pl.DataFrame, of: Reading, made: dict[str, pl.Series]) -> pl.DataFrame:
    symbol = pl.repeat(of.file.series.symbol, frame.height, eager=True)
    return pl.DataFrame({"symbol": symbol, "frame_no": frame["frame_no"], **made})
