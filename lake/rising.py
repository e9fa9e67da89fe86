"""Whether the ids of each symbol only rise: then every identity comes once, and nothing has to be looked up. Pure."""

from __future__ import annotations

from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from lake import tables
from market import kinds


@cache
def rising_column(kind: str) -> str:
    """A column of the key that grows along the order: the id, or the time that identifies."""
    declared = kinds.kind(kind)
    if declared.seq is not None and declared.seq in declared.key:
        return declared.seq
    required = {held.name for held in tables.columns(kind) if held.type == "time" and held.required}
    return next(name for name in declared.key if name in required)


class Rising:
    """Whether every identity certainly comes once, from ids (or times) alone: in each symbol they only rise."""

    def __init__(self, kind: str) -> None:
        self.rising = rising_column(kind)
        self.columns = ["symbol", self.rising]
        self.certain = True
        self._highest: dict[str, int] = {}

    def add(self, table: pa.Table) -> None:
        """One more piece of any source."""
        for batch in table.to_batches():
            if self.certain and batch.num_rows:
                self.certain = self._rises(batch)

    def _rises(self, batch: pa.RecordBatch) -> bool:
        # pyarrow's functions, since pieces can be small and a call of polars costs ten times as much
        values = batch.column(self.rising).cast(pa.int64())
        if values.null_count:
            return False
        symbols, starts, ends = symbol_runs(batch)
        above = pc.greater(values.slice(1), values.slice(0, len(values) - 1))
        if above.false_count:
            falls = pc.indices_nonzero(pc.invert(above))
            if not {place + 1 for place in falls.to_pylist()} <= set(starts):
                return False
        firsts, lasts = (values.take(pa.array(places)).to_pylist() for places in (starts, [end - 1 for end in ends]))
        for symbol, first, last in zip(symbols, firsts, lasts, strict=True):
            highest = self._highest.get(symbol)
            if highest is not None and first <= highest:
                return False
            self._highest[symbol] = last
        return True


def symbol_runs(batch: pa.RecordBatch) -> tuple[list[str], list[int], list[int]]:
    """Symbols, starts and ends of the runs of equal symbols."""
    names = batch.column("symbol")
    if len(names.dictionary) == 1 and len(names) and not names.null_count:
        return names.dictionary.to_pylist(), [0], [len(names)]
    runs = pc.run_end_encode(names.indices)
    ends = runs.run_ends.to_pylist()
    return names.dictionary.take(runs.values).to_pylist(), [0, *ends[:-1]], ends
