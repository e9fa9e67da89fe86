"""What the values of a row must be, whatever it comes from: lines of a segment, or rows of a file.

Pure: each rule is an expression over columns named as the kind's.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import polars as pl

from lake import scaled, tables
from market import kinds
from market.kinds import CONDITIONS
from market.numbers import DECIMAL_PATTERN
from market.times import DAY

EARLIEST = 365 * DAY
LATEST = 230 * 365 * DAY
"""Times outside [1971, 2199) are no times in us: seconds, ms and ns taken for us all fall out of it."""
SOURCES = ("ws", "rest", "archive", "import", "derived")
SIDES = ("buy", "sell")
SIGNED = ("rate", "predicted_rate")
"""Numbers that may be below zero."""
_TIMES = ("ts_event", "ts_publish", "ts_recv")
_NO_TIME = "no time in microseconds"
_ONE_OF = {"source": SOURCES, "side": SIDES, "condition": CONDITIONS, "qty_unit": ("base", "quote", "contract")}


def number_pattern(name: str) -> str:
    """What the text of a decimal column must be."""
    return DECIMAL_PATTERN if name in SIGNED else DECIMAL_PATTERN.removeprefix("-?")


class Rule(NamedTuple):
    """`broken` is true for the rows that break it; a null value breaks no rule but those of its struct."""

    broken: pl.Expr
    name: str
    what: str

    def reason(self) -> pl.Expr:
        """What is wrong with the row, null where nothing is."""
        shown = pl.col(self.name).cast(pl.String).str.head(60)
        return pl.when(self.broken).then(pl.concat_str(pl.lit(f"{self.name}: {self.what}: "), shown)).otherwise(None)


@cache
def rules(kind: str, names: tuple[str, ...], *, numbers: bool) -> list[Rule]:
    """What rows with these columns must not be; `numbers`: the texts of numbers are not proven yet."""
    found: list[Rule] = []
    bounds = dict.fromkeys(_TIMES, (EARLIEST, LATEST)) | {
        column.name: (0, LATEST) for column in kinds.kind(kind).columns if column.type == "time"
    }
    for name, (low, high) in bounds.items():
        found.append(Rule(~pl.col(name).is_between(low, high), name, _NO_TIME))
    found.append(Rule(~pl.col("skew_us").is_between(-DAY, DAY), "skew_us", "more than a day"))
    for name in tables.decimal_columns(kind) if numbers else ():
        found.append(Rule(~pl.col(name).str.contains(scaled.STRICT), name, "no plain decimal"))
        if name not in SIGNED:
            found.append(Rule(pl.col(name).str.starts_with("-"), name, "below zero"))
    found.append(Rule(pl.col("symbol") == "", "symbol", "empty"))
    found += [Rule(~pl.col(name).is_in(allowed), name, "unknown") for name, allowed in _ONE_OF.items()]
    return [rule for rule in found if rule.name in names]
