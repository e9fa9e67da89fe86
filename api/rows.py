"""From a question in plain values to rows in pieces, all from one snapshot of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from api.reading import Rows
from lake.answers import arrow, names_of
from lake.asking import bar_kind
from lake.fills import Fill
from lake.reader import Lake
from lake.reading import MinState
from market import times

PIECE = 65_536
"""Rows of a piece."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is read: a kind, or bars of any `interval`. Times us."""

    kind: str = ""
    interval: str | None = None
    exchange: str | None = None
    market_type: str | None = None
    symbol: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    columns: tuple[str, ...] = ()
    fill: Fill = "none"
    min_state: MinState = "provisional"
    across_listings: bool = False
    limit: int | None = None
    skip: int = 0

    def market(self) -> dict[str, Any]:
        """The arguments that all verbs of `Lake` share."""
        symbol = list(self.symbol) or None
        return {"exchange": self.exchange, "market_type": self.market_type, "symbol": symbol,
                "start": self.start, "end": self.end}  # fmt: skip


def time_of(text: str | None) -> int | None:
    """A time of a question: ISO 8601, or digits as microseconds. Raises Malformed."""
    if text is None or not text.strip():
        return None
    stripped = text.strip()
    return times.parse(int(stripped) if stripped.lstrip("-").isascii() and stripped.lstrip("-").isdigit() else stripped)


def read(lake: Lake, asked: Asked) -> Rows:
    """The rows, in the order of `Lake.read`. Raises what that raises."""
    columns = list(asked.columns) or None
    states: Mapping[str, Any] = {"min_state": asked.min_state, "across_listings": asked.across_listings}
    whole: pa.Table | None = None
    if asked.interval is not None:
        whole = lake.bars(asked.interval, **asked.market(), columns=columns, fill=asked.fill, **states)
    elif asked.fill != "none" or bar_kind(asked.kind) is not None:
        whole = lake.read(asked.kind, **asked.market(), columns=columns, fill=asked.fill, **states)
    if whole is not None:
        return whole.schema, _pieces(whole.slice(asked.skip, asked.limit)), {}
    frame = lake.scan(asked.kind, **asked.market(), **states)
    frame = frame.select(names_of(frame.collect_schema().names(), columns, asked.kind))
    schema = arrow(frame.collect_schema().to_frame(), asked.kind).schema
    return schema, _collected(frame.slice(asked.skip, asked.limit), asked.kind, schema), {}


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, PIECE):
        yield table.slice(start, PIECE)


def _collected(frame: pl.LazyFrame, kind: str, schema: pa.Schema) -> Iterator[pa.Table]:
    for piece in frame.collect_batches(chunk_size=PIECE, maintain_order=True):
        yield arrow(piece, kind).cast(schema)


def named(columns: str | None) -> tuple[str, ...]:
    """Names parted by commas."""
    return tuple(name.strip() for name in columns.split(",") if name.strip()) if columns else ()


def span(rows: Sequence[Mapping[str, Any]]) -> tuple[int | None, int | None]:
    """The first and the last time of rows that name `ts_min` and `ts_max`."""
    low = [row["ts_min"] for row in rows if row["ts_min"] is not None]
    high = [row["ts_max"] for row in rows if row["ts_max"] is not None]
    return (min(low) if low else None, max(high) if high else None)
