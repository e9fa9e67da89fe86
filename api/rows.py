"""From a question in plain values to rows in pieces, all from one snapshot of the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from api.reading import Rows
from lake import completeness
from lake.asking import Duration
from lake.errors import WrongQuestion
from lake.feature_reads import At
from lake.fills import Fill
from lake.reader import Lake
from lake.reading import MinState
from market import times

_DIGITS = re.compile(r"-?[0-9]+")
PIECE = 65_536
"""Rows of a piece."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is read: a kind, or bars of any `interval`, whose windows begin `shift` later. Times us."""

    kind: str = ""
    interval: Duration | None = None
    shift: Duration = 0
    exchange: str | None = None
    market_type: str | None = None
    symbol: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    columns: tuple[str, ...] | None = None
    fill: Fill = "none"
    min_state: MinState = "provisional"
    version: int | None = None
    as_of: int | None = None
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
    return times.parse(said(text))


def read(lake: Lake, asked: Asked) -> Rows:
    """The rows, in pieces, in the order of `Lake.batches`. Raises what `Lake` raises."""
    how: Mapping[str, Any] = {
        **asked.market(), "columns": asked.columns, "min_state": asked.min_state, "version": asked.version,
        "as_of": asked.as_of, "across_listings": asked.across_listings, "fill": asked.fill,
    }  # fmt: skip
    reader = (
        lake.batches(asked.kind, **how) if asked.interval is None
        else lake.bar_batches(asked.interval, offset=asked.shift, **how)
    )  # fmt: skip
    return reader.schema, _cut(_tables(reader), asked.skip, asked.limit), _told(reader)


def joined(lake: Lake, sets: list[str], asked: Asked, at: At, max_age: Duration | None) -> Rows:
    """Rows of one symbol with what was known of feature sets at each. Raises what `Lake.features.join` raises."""
    if len(asked.symbol) != 1:
        raise WrongQuestion(f"a join is onto the rows of one symbol, not of {len(asked.symbol)}", "say which: symbol=")
    whole = lake.features.join(
        sets, asked.kind, exchange=asked.exchange, market_type=asked.market_type, symbol=asked.symbol[0],
        start=asked.start, end=asked.end, columns=asked.columns, at=at, max_age=max_age, fill=asked.fill,
        min_state=asked.min_state, version=asked.version, as_of=asked.as_of, across_listings=asked.across_listings,
    )  # fmt: skip
    return whole.schema, _cut(_pieces(whole), asked.skip, asked.limit), _told(whole)


def said(text: str) -> int | str:
    """A time or a width of a question: digits are microseconds, anything else is told by its words."""
    stripped = text.strip()
    return int(stripped) if _DIGITS.fullmatch(stripped) else stripped


def _told(answer: pa.Table | pa.RecordBatchReader) -> dict[str, Any]:
    """How complete an answer is, in few words."""
    told = completeness.of(answer)
    if told is None:
        return {}
    until = None if told.complete_until is None else times.text(told.complete_until)
    said = {"manifest_version": told.manifest_version, "complete_until": until, "gap_count": told.gap_count}
    return {**said, "unknown": told.unknown} if told.unknown else said


def _tables(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    for batch in reader:
        yield pa.Table.from_batches([batch], reader.schema)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, PIECE):
        yield table.slice(start, PIECE)


def _cut(tables: Iterable[pa.Table], skip: int, limit: int | None) -> Iterator[pa.Table]:
    """`limit` rows after the first `skip`; no more is read than that takes."""
    left = 2**62 if limit is None else limit
    for table in tables if left else ():
        part = table.slice(skip, left)
        skip = max(0, skip - table.num_rows)
        left -= part.num_rows
        if part.num_rows:
            yield part
        if not left:
            return


def named(columns: str | None) -> tuple[str, ...]:
    """Names parted by commas."""
    return tuple(name.strip() for name in columns.split(",") if name.strip()) if columns else ()
