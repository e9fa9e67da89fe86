"""static.okx.com: every fill, a day or a month of UTC+8 a file, as zips; books, a day of UTC a file, as tar.gz. Pure.

Fills of dated futures are in one file of all expiries of a family, a day each: the lines of one are taken out of it.
There is no list and no CHECKSUM: each date is asked for, what its host says of a file (size, ETag, time of change)
tells its versions apart, and the sums in zip and gzip prove its bytes.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import polars as pl

from collectors.adapters.archives import Archive, Dataset, Period, Symbols, always, unchanged
from market.times import HOUR

if TYPE_CHECKING:
    from collectors.files.archive.rows import Reading

FUTURES = ("linear", "inverse")
_FILLS = "instrument_name,trade_id,side,price,size,created_time"
_FOLDER = "okex/traderecords/trades"
_PATHS: dict[Period, str] = {
    "daily": f"{_FOLDER}/daily/{{day}}/{{symbol}}-trades-{{date}}.zip",
    "monthly": f"{_FOLDER}/monthly/{{day}}/{{symbol}}-trades-{{date}}.zip",
}
_CHAIN: dict[Period, str] = {"daily": f"{_FOLDER}/daily/{{day}}/{{family}}-futureschain-trades-{{date}}.zip"}
"""`<family>-trades-…`, without `futureschain`, is something else."""
_BOOKS: dict[Period, str] = {
    "daily": "okx/match/orderbook/pro/L2/400lv/daily/{day}/{symbol}-L2orderbook-400lv-{date}.tar.gz"
}
_PAIR, _EXPIRY = "[A-Z0-9]{1,20}-[A-Z0-9_]{1,20}", "-[0-9]{6}"
_LINEAR, _INVERSE = "[A-Z0-9]{1,20}-(?!USD-)[A-Z0-9_]{1,20}", "[A-Z0-9]{1,20}-USD"
"""Files of both lie in one place: only the name says which a contract is."""
_SYMBOLS = {
    "spot": Symbols(_PAIR, "BTC-USDT"),
    "linear": Symbols(f"{_LINEAR}-SWAP", "BTC-USDT-SWAP"),
    "inverse": Symbols(f"{_INVERSE}-SWAP", "BTC-USD-SWAP"),
}
_DATED = {
    "linear": Symbols(_LINEAR + _EXPIRY, "BTC-USDT-261225"),
    "inverse": Symbols(_INVERSE + _EXPIRY, "BTC-USD-261225"),
}
_SIDE = pl.List(pl.List(pl.String))
_LINE = pl.Struct({"instId": pl.String, "action": pl.String, "ts": pl.String, "bids": _SIDE, "asks": _SIDE})
_BARE = r"\[\s*(?:\"[^\"]*\"\s*,\s*)?[-0-9]"
"""A price or a quantity that is a number of JSON: its digits would have been a float's."""


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


def family_of(symbol: str) -> str:
    """The family of a dated future: its name without the expiry."""
    return symbol.rpartition("-")[0]


def trade_of_chain(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """The fills of one dated future, as `trade`. Each line proves by its name and time that the file is the family's
    of that day, so that no line of the future means that it was not traded.
    """
    family, names = of.file.series.family, frame["instrument_name"]
    of.all_of(frame, "instrument_name", names.str.contains(f"^{re.escape(family)}{_EXPIRY}$"), f"no future of {family}")
    of.inside(frame, "created_time", of.times(frame, "created_time"))
    mine = frame.filter(names == of.file.series.symbol)
    of.facts.others += frame.height - mine.height
    return trade(mine, of) if mine.height else mine


def book_delta(frame: pl.DataFrame, of: Reading) -> pl.DataFrame:
    """Whole books, at the begin and every quarter of an hour, and changes, in the order of their times.

    Lines have no ids: a row's is its time, as that of the stream's books from before they had some.
    """
    of.all_of(frame, "line", ~frame["line"].str.contains(_BARE), "a book with numbers that are no texts")
    frame = frame.with_columns(of.objects(frame, _LINE))
    symbol, first = of.file.series.symbol, of.facts.last_id is None
    of.all_of(frame, "instId", frame["instId"] == symbol, f"not {symbol}")
    of.all_of(frame, "action", frame["action"].is_in(["snapshot", "update"]), "neither snapshot nor update")
    for name in ("ts", "bids", "asks"):
        of.all_of(frame, name, frame[name].is_not_null(), "not there")
    times, whole = of.times(frame, "ts"), frame["action"] == "snapshot"
    of.inside(frame, "ts", times)
    if first:
        of.all_of(frame.head(1), "action", whole.head(1), "no whole book, which a file begins with", "order")
    of.rising(frame, "ts", times, None if first else of.facts.last, equal=True)
    ids, before = of.placed(times)
    of.timed(times)
    told = pl.DataFrame({"w": whole, "b": before}).select(
        pl.when("w").then(pl.lit("snapshot")).otherwise(pl.lit("")).alias("flags"),
        pl.when("w").then(None).otherwise("b").alias("prev_id"),
    )
    made = {
        "ts_event": times, "last_id": ids, "prev_id": told["prev_id"], "flags": told["flags"],
        "bids": of.levels(frame["bids"]), "asks": of.levels(frame["asks"]),
    }  # fmt: skip
    return of.made(frame, made)


ARCHIVE = Archive(
    base="https://static.okx.com/cdn",
    listing=None,
    symbol=_PAIR,
    example="BTC-USDT",
    spelt=unchanged,
    shift=8 * HOUR,
    days_late=2,
    first=dt.date(2021, 10, 1),
    roots=("okex", "okx"),
    datasets=(
        Dataset(
            kind="trade", paths=dict.fromkeys(("spot", *FUTURES), _PATHS), symbols=_SYMBOLS, read=trade,
            identity=("seq",), numbered=True, units=always("ms"), sized=FUTURES,
            header=dict.fromkeys(("spot", *FUTURES), _FILLS),
        ),
        Dataset(
            kind="trade", paths=dict.fromkeys(FUTURES, _CHAIN), symbols=_DATED, family=family_of, read=trade_of_chain,
            identity=("seq",), numbered=True, units=always("ms"), sized=FUTURES,
            header=dict.fromkeys(FUTURES, _FILLS),
        ),
        Dataset(
            kind="book_delta", paths=dict.fromkeys(("spot", *FUTURES), _BOOKS), symbols=_SYMBOLS, read=book_delta,
            identity=("last_id",), units=always("ms"), lines="json", packing="tar.gz",
            header=dict.fromkeys(("spot", *FUTURES), "line"), moved=("/pro/", "/"), shift=0, days_late=3,
            first=dt.date(2023, 3, 1), streamed=False, alone=True,
        ),
    ),
)  # fmt: skip
