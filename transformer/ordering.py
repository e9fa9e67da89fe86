"""The rows of a job in the order of their kind, one of each identity.

Rows come in the order of their receipt, which within a symbol is nearly always that of a file too: so they are parted
by symbol, which takes no comparison, and only sorted where a look along the rows finds one out of place.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import merge, tables
from lake.sortedness import unsorted
from market import kinds


def ordered(kind: str, made: list[pa.Table]) -> tuple[pa.Table, Counter[str]]:
    """(all rows in the kind's order, one of each identity; rows left out, by symbol). Empties `made`."""
    table = pa.concat_tables([tables.empty(kind), *made]).unify_dictionaries()
    made.clear()
    table = _taken(table, _places(kind, table))
    losers = merge.duplicates(kind, [functools.partial(_pieces, table)]).get(0)
    if losers is None or losers.is_empty():
        return table, Counter()
    lost = Counter(table.column("symbol").take(losers.to_arrow()).to_pylist())
    kept = pl.int_range(table.num_rows, eager=True)
    return _taken(table, kept.filter(~kept.is_in(losers.implode())).to_arrow()), lost


def _pieces(table: pa.Table, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    yield table if columns is None else table.select(list(columns))


def _places(kind: str, table: pa.Table) -> pa.Array:
    """The rows' numbers in the order of their kind."""
    order = list(tables.sort_columns(kind))
    ranks = _ranks(table.column("symbol"))
    places = pc.array_sort_indices(ranks)  # a stable sort
    if _rising(kind, table, ranks, places):
        return places
    taken = table.select(order).take(places)
    if not unsorted(taken, order):
        return places
    keys = merge.plain_frame(taken)
    again = keys.select(pl.arg_sort_by(order, nulls_last=False, maintain_order=True)).to_series()
    return places.take(again.to_arrow())


def _ranks(symbols: pa.ChunkedArray) -> pa.Array:
    """For each row the place of its symbol among all symbols, sorted by their UTF-8 bytes."""
    column = symbols.combine_chunks()
    names = [name.encode() for name in column.dictionary.to_pylist()]
    rank = {name: place for place, name in enumerate(sorted(names))}
    return pa.array([rank[name] for name in names], pa.int32()).take(column.indices)


def _rising(kind: str, table: pa.Table, ranks: pa.Array, places: pa.Array) -> bool:
    """Whether in each symbol, in this order, times rise, and ids where times are equal: no other column counts then."""
    seq = kinds.kind(kind).seq
    taken = {"rank": ranks, "time": table.column("ts_event").combine_chunks()}
    taken["id"] = table.column(seq).combine_chunks() if seq else pa.nulls(len(ranks), pa.int64())
    frame = pl.DataFrame({name: _series(column.take(places)).to_physical() for name, column in taken.items()})
    rank, time, number = (pl.col(name) for name in taken)
    later = (time > time.shift()) | ((time == time.shift()) & (number > number.shift()))
    follows = (rank != rank.shift()) | later.fill_null(value=False)
    return bool(frame.select_seq(follows.slice(1).all()).item())


def _taken(table: pa.Table, places: pa.Array) -> pa.Table:
    """These rows, each column in one piece. What is the same in every row stays where it is."""
    columns = (column.combine_chunks() for column in table.columns)
    made = [one.slice(0, len(places)) if _one_value(one) else one.take(places) for one in columns]
    return pa.table(made, schema=table.schema)


def _one_value(column: pa.Array) -> bool:
    """Whether all rows certainly have the same: half the columns of a stream do."""
    if column.null_count == len(column):
        return True
    if column.null_count:
        return False
    if pa.types.is_dictionary(column.type):
        return len(column.dictionary) == 1
    if pa.types.is_integer(column.type) or pa.types.is_date(column.type) or pa.types.is_boolean(column.type):
        ends = pc.min_max(column)
        return bool(ends["min"] == ends["max"])
    return False  # of floats too: both zeros are equal, and not the same


def _series(values: pa.Array) -> pl.Series:
    made = pl.from_arrow(values)
    assert isinstance(made, pl.Series)
    return made
