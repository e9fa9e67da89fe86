"""Which rows were received live: only of these does the receive time say how long they were under way.

Pure. What an archive, an import or a later question brought was received when it was taken in, which may be years after
it happened. Mostly a table has rows of one source: then the texts that it holds tell, and no row is looked at.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from lake.merge import plain_frame
from market.times import MINUTE

STREAMED, ASKED, HISTORY = "ws", "rest", "history"
COLUMNS = ("ts_event", "ts_recv", "source", "condition")
"""What tells it; not every kind has all of them."""


def heard() -> pl.Expr:
    """Which rows were received live: from a stream, or from a poll within a minute of their time."""
    late = pl.col("ts_recv").cast(pl.Int64) - pl.col("ts_event").cast(pl.Int64)
    source = pl.col("source").cast(pl.String)
    polled = (source == ASKED) & late.is_between(-MINUTE, MINUTE)
    return pl.col("ts_recv").is_not_null() & ((source == STREAMED) | polled)


def live(table: pa.Table) -> pl.Series | None:
    """Which rows of a table of ours were received live, and are no past that the venue sent on subscribing; None where
    all of them are.
    """
    names = [name for name in COLUMNS if name in table.column_names]
    past = HISTORY in _texts(table, "condition") if "condition" in names else False
    sources = _texts(table, "source")
    if not past and sources == {STREAMED}:
        return None
    if not sources & {STREAMED, ASKED}:
        return pl.repeat(value=False, n=table.num_rows, eager=True)
    is_live = heard() & (pl.col("condition").ne_missing(HISTORY) if past else True)
    return plain_frame(table.select(names)).select(is_live.fill_null(value=False)).to_series()


def _texts(table: pa.Table, name: str) -> set[str | None]:
    """What a column may say: the texts of its dictionaries, and None where it says nothing somewhere."""
    column = table.column(name)
    texts: set[str | None] = {text for chunk in column.chunks for text in chunk.dictionary.to_pylist()}
    return texts | {None} if column.null_count else texts
