"""Rows of a backfill in one form, for `scripts/prove_backfill.py`: as a simulated venue had them, and as a lake has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lake import Lake
from simulator.market import Book


def had(span: tuple[int, int], kind: str, book: Book) -> list[tuple[Any, ...]]:
    """What the venue had of the period."""
    start, end = span
    if kind == "kline":
        texts = [(one.open_time, *(book.price(ticks) for ticks in (one.open, one.high, one.low, one.close)))
                 for one in book.candles.read("1m") if start <= one.open_time < end]  # fmt: skip
        return [(at, *map(float, prices)) for at, *prices in texts]
    rows = book.trades if kind == "trade" else book.aggregates
    return [
        (one.id, one.ts, float(one.price), float(one.qty), "sell" if one.maker else "buy")
        for one in rows
        if start <= one.ts < end
    ]


def held(root: Path, exchange: str, kind: str, book: Book) -> list[tuple[Any, ...]]:
    """The same, as the lake has it."""
    with Lake(root) as lake:
        table = lake.read(kind, exchange=exchange, market_type=book.market, symbol=book.symbol)
    names = (
        ("open_time", "open", "high", "low", "close")
        if kind == "kline"
        else ("seq", "ts_event", "price", "qty", "side")
    )
    columns = [table.column(name) for name in names]
    found = list(zip(*(_values(column) for column in columns), strict=True))
    if kind != "kline":
        return found
    traded = _values(table.column("volume_base"))
    return [row for row, volume in zip(found, traded, strict=True) if volume != 0]


def _values(column: Any) -> list[Any]:
    """Times as us."""
    if str(column.type).startswith("timestamp"):
        return list(column.cast("int64").to_pylist())
    return list(column.to_pylist())
