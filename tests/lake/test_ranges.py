"""Groups that are ranges of rows say what a `group_by` says."""

import polars as pl
import pytest

from lake.ranges import Ranges

KEYS = pl.DataFrame({"symbol": list("AAABBBB"), "window": [1, 1, 2, 2, 2, 2, 5]})
"""Groups of 2, 1, 3 and 1 rows: the window alone does not tell them apart."""
VALUES = {
    "whole": pl.Series([3, 1, 2, 9, -7, 8, 5]),
    "floats": pl.Series([0.5, None, None, 2.5, 1.5, None, 4.0]),
    "later": pl.Series([None, 1, 2, None, None, 8, 5]),
    "none": pl.Series([None] * 7, dtype=pl.Int64),
    "flags": pl.Series([True, None, None, False, True, False, False]),
}


def grouped(column: pl.Series, wanted: pl.Expr) -> list[object]:
    rows = KEYS.with_columns(column.alias("value"))
    return rows.group_by("symbol", "window", maintain_order=True).agg(wanted.alias("made"))["made"].to_list()


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("begin", [0, 2])
def test_lists_are_aggregated_as_groups_are(values, begin):
    held = pl.concat([values.head(begin), values]).alias("value").slice(begin)  # somewhere in its memory
    lists = Ranges.of(*KEYS).lists([held])
    for name in ("min", "max", "sum"):
        made = lists.select(getattr(pl.col("value").list, name)()).to_series()
        assert made.to_list() == grouped(values, getattr(pl.col("value"), name)())


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_first_and_last_are_rows_that_are_not_null(values):
    groups = Ranges.of(*KEYS)
    there = pl.col("value").drop_nulls()
    assert values.gather(groups.first(values)).to_list() == grouped(values, there.first())
    assert values.gather(groups.last(values)).to_list() == grouped(values, there.last())


@pytest.mark.parametrize("to", [pl.Int64, pl.Int128])
def test_sums_of_integers_are_exact(to):
    large = 2**53 if to == pl.Int64 else 2**120
    values = pl.Series([large, 1, None, large, -1, -large, 3], dtype=to)
    assert Ranges.of(*KEYS).sums(values).to_list() == [large + 1, 0, -1, 3]


def test_borders_and_the_longest():
    groups = Ranges.of(*KEYS)
    assert (groups.starts.to_list(), groups.ends.to_list()) == ([0, 2, 3, 6], [2, 3, 6, 7])
    assert (len(groups), groups.longest) == (4, 3)


def test_no_rows_are_no_groups():
    groups = Ranges.of(*KEYS.clear())
    assert (len(groups), groups.longest) == (0, 0)
    assert groups.lists([pl.Series("value", [], dtype=pl.Float64)]).select(pl.col("value").list.max()).is_empty()
