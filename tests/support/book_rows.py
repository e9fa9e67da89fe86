"""Rows of `book_delta` written by hand, and the slow, plain book that they must come to."""

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal

import polars as pl
import pyarrow as pa

from lake import scaled, tables

Levels = Sequence[tuple[str, str]]


def delta(at: int, last: int, bids: Levels = (), asks: Levels = (), **more) -> dict:
    """One update; futures by default (`prev`), spot with `first` and `prev=None`."""
    held = {"at": at, "last": last, "bids": bids, "asks": asks, "first": last, "prev": last - 1, "flags": ""}
    return held | {"source": "ws", "symbol": "BTCUSDT", "frame_no": last, "estimated": False} | more


def whole(at: int, last: int, bids: Levels, asks: Levels, **more) -> dict:
    """A snapshot."""
    return delta(at, last, bids, asks, **({"first": None, "prev": None, "flags": "snapshot", "source": "rest"} | more))


def table(rows: Iterable[dict], market_type: str = "linear") -> pa.Table:
    """The rows as a file holds them, in its order."""
    held = sorted(rows, key=lambda row: (row["symbol"], row["at"], row["last"], row["frame_no"]))
    data = {
        "exchange": ["binance"] * len(held),
        "market_type": [market_type] * len(held),
        "symbol": [row["symbol"] for row in held],
        "date": [dt.date(1970, 1, 1) + dt.timedelta(microseconds=row["at"]) for row in held],
        "ts_event": [row["at"] for row in held],
        "ts_estimated": [row["estimated"] for row in held],
        "ts_recv": [row["at"] for row in held],
        "session": ["n-1-1"] * len(held),
        "frame_no": [row["frame_no"] for row in held],
        "item": [0] * len(held),
        "source": [row["source"] for row in held],
        "first_id": pa.array([row["first"] for row in held], pa.int64()),
        "last_id": pa.array([row["last"] for row in held], pa.int64()),
        "prev_id": pa.array([row["prev"] for row in held], pa.int64()),
        "flags": [row["flags"] for row in held],
    }
    for side in ("bids", "asks"):
        data[side], data[f"{side}_text"] = levels([row[side] for row in held])
    return tables.conform(pa.table(data), "book_delta") if held else tables.empty("book_delta")


def levels(held: Sequence[Levels]) -> tuple[pa.Array, pa.Array]:
    """Levels of every row as floats, and as texts where a float is not the number."""
    numbers, texts = [], []
    for row in held:
        split = [scaled.split(pl.Series([one[n] for one in row], dtype=pl.String)) for n in (0, 1)]
        numbers.append([{"price": p, "qty": q} for p, q in zip(split[0][0], split[1][0], strict=True)])
        spelt = [{"price": p, "qty": q} for p, q in zip(split[0][1], split[1][1], strict=True)]
        texts.append(spelt if any(one["price"] or one["qty"] for one in spelt) else None)
    return pa.array(numbers, tables.LEVELS), pa.array(texts, tables.LEVELS_TEXT)


def plain(side: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Levels without trailing zeros, as readers spell them."""
    return [(scaled_text(price), scaled_text(qty)) for price, qty in side]


def scaled_text(text: str) -> str:
    short = format(Decimal(text).normalize(), "f")
    return "0" if short == "-0" else short
