"""public.bybit.com: every fill, a day a file (of spot also a month), packed with gzip, without CHECKSUM. Pure.

quote-saver.bycsi.com: books, the frames of the stream as lines of JSON in a zip. What a host says of a file (size,
ETag, time of change) tells its versions apart; the sums in gzip and zip prove its bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from collectors.adapters.archives import LINES, Archive, Dataset, Symbols, always, unchanged
from market.times import MS

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

FUTURES = ("linear", "inverse")
BOOKS = "https://quote-saver.bycsi.com"
DEEP_UNTIL = "2025-08-21"
_SIDE = pl.List(pl.List(pl.String))
_FRAME = pl.Struct(
    {"type": pl.String, "ts": pl.Int64, "cts": pl.Int64,
     "data": pl.Struct({"s": pl.String, "b": _SIDE, "a": _SIDE, "u": pl.Int64})}
)  # fmt: skip
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


def book_delta(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Frames of `orderbook`: whole books and changes, each with the next `u`; what does not follow is a hole.

    `ts_event` is the engine's `cts`, where there is one and it is of the file's day: the day's first frame may tell a
    book that changed last on the day before.
    """
    found = of.objects(frame, _FRAME)
    data, symbol = found["data"].struct.unnest(), of.file.series.symbol
    start, end = of.file.span.start // MS, of.file.span.end // MS
    engine = pl.when(pl.col("cts").is_between(start, end, closed="left")).then("cts")
    frame = frame.with_columns(
        found["type"], data["s"], data["u"], found["ts"],
        at=found.select(pl.coalesce(engine, "ts") * MS).to_series(),
    )  # fmt: skip
    of.all_of(frame, "s", frame["s"] == symbol, f"not {symbol}")
    of.all_of(frame, "type", frame["type"].is_in(["snapshot", "delta"]), "neither snapshot nor delta")
    of.all_of(frame, "u", frame["u"] > 0, "no id")
    of.all_of(frame, "ts", frame["ts"].is_not_null(), "no time")
    of.all_of(frame, "ts", frame["ts"].is_between(10**12, 10**14), "no time in ms", "unit")
    of.facts.unit = "ms"
    publish = frame["ts"] * MS
    of.inside(frame, "ts", publish)
    whole, times = frame["type"] == "snapshot", frame["at"]
    follows = of.chained(frame, "u", frame["u"], times, begins=whole)
    of.timed(times)
    told = pl.DataFrame({"w": whole, "f": follows, "u": frame["u"]}).select(
        pl.when("w").then(pl.lit("snapshot")).when("f").then(pl.lit("")).otherwise(pl.lit("gap_before")).alias("flags"),
        pl.when("w").then(None).otherwise("u").alias("first_id"),
    )
    made = {
        "ts_event": times, "ts_publish": publish, "last_id": frame["u"], "first_id": told["first_id"],
        "flags": told["flags"],
        **{name: of.levels(data[side]) for name, side in (("bids", "b"), ("asks", "a"))},
    }  # fmt: skip
    return of.made(frame, made)


def _depth(date: str) -> Mapping[str, str]:
    """Files had 500 levels until 2025-08-20, and have 200 since."""
    return {"levels": "500" if date < DEEP_UNTIL else "200"}


def _condition(frame: pl.DataFrame, of: Reading, name: str) -> dict[str, pl.Series]:
    """Older files do not say it: all of theirs count as of the market."""
    if name not in frame.columns:
        return {}
    of.all_of(frame, name, frame[name].is_in(list(_RPI)), "neither 0 nor 1")
    return {"condition": frame[name].replace(_RPI)}


_INVERSE = "[A-Z0-9]{1,30}USD([HMUZ][0-9]{2})?"
_SYMBOLS = {
    "linear": Symbols(f"(?!{_INVERSE}$)[A-Z0-9-]{{1,40}}", "BTCUSDT"), "inverse": Symbols(_INVERSE, "BTCUSD"),
}  # fmt: skip
"""Files of both lie in one place: only the name says which a contract is."""
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
            symbols=_SYMBOLS, paths={each: {"daily": "trading/{symbol}/{symbol}{date}.csv.gz"} for each in FUTURES},
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
        Dataset(
            kind="book_delta", read=book_delta, identity=("last_id",), units=always("ms"), base=BOOKS, lines="json",
            symbols=_SYMBOLS, streamed=False, alone=True, varies=_depth,
            header=dict.fromkeys(("spot", *FUTURES), "line"),
            paths={
                each: {"daily": f"orderbook/{each}/{{symbol}}/{{date}}_{{symbol}}_ob{{levels}}.data.zip"}
                for each in ("spot", *FUTURES)
            },
        ),
    ),
)  # fmt: skip
