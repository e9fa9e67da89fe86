"""lake.audit_ids: our trades against a venue's list, by id both ways, each sort of difference by its name."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.audit_ids import Explaining, IdsCompared, by_id, rows_of, within
from market.times import DAY, HOUR, SECOND, Interval
from tests.support.market_rows import T0, table, trade

Row = dict[str, Any]
ALWAYS = Explaining((), (), [Interval(T0, T0 + DAY)])


def rows(count: int, step: int = SECOND) -> list[Row]:
    return [trade(T0 + n * step, f"1{n % 10}.5", f"0.{n + 1}", 100 + n) for n in range(count)]


def pieces(given_: list[Row], size: int) -> list[pl.DataFrame]:
    return [rows_of(table("trade", given_[start : start + size])) for start in range(0, len(given_), size)]


def compared(ours: list[Row], theirs: list[Row], known: Explaining = ALWAYS) -> IdsCompared:
    return by_id(pieces(ours, len(ours) // 5 + 1), pieces(theirs, len(theirs) // 7 + 1), known)


def test_the_same_ids_with_the_same_values_are_the_same_to_the_millisecond() -> None:
    theirs = [row | {"ts_event": row["ts_event"] + 999, "source": "archive"} for row in rows(40)]
    found = compared(rows(40), theirs)
    assert (found.theirs, found.same, found.counts) == (40, 40, {})


def test_what_the_list_itself_has_brought_in_is_counted() -> None:
    ours = rows(40)
    ours[3] |= {"source": "archive"}
    assert compared(ours, rows(40)).counts == {"filled": 1}


def test_each_sort_of_difference_has_its_name() -> None:
    theirs = rows(900)
    ours = [dict(row) for row in theirs if row["seq"] not in (105, 300, 801, 802)]
    ours[50]["qty"] = "77"
    ours.insert(60, trade(ours[60]["ts_event"], "10.5", "1", 5000))
    ours.insert(61, trade(ours[61]["ts_event"], "10.5", "1", 5001, condition="insurance_fund"))
    light = [Interval(T0, T0 + 700 * SECOND)]
    found = compared(ours, theirs, Explaining([Interval(105, 106)], (), light))
    assert found.counts == {
        "changed": 1, "extra_id": 1, "missing_id": 1, "not_collected": 2, "off_book": 1, "unnoticed_id": 1,
    }  # fmt: skip
    assert found.same == 900 - 4 - 1
    told = {one.what: one.detail for one in found.examples}
    assert told["changed"] == "id 151 has qty 77.0, the venue's list says 0.52"
    assert told["unnoticed_id"] == "id 300 is missing, and no gap says so"
    assert [one.detail for one in found.examples if one.what == "not_collected"][1].startswith("id 802 ")


def test_a_list_of_nothing_of_ours_and_nothing_at_all() -> None:
    assert compared([], rows(3)).counts == {"unnoticed_id": 3}
    assert compared(rows(3), []).counts == {"extra_id": 3}
    assert compared([], []) == IdsCompared(counts={}, examples=[])


def test_gaps_of_time_explain_too() -> None:
    dark = Explaining((), [Interval(T0, T0 + HOUR)], [Interval(T0, T0 + DAY)])
    assert compared([], rows(3), dark).counts == {"missing_id": 3}


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_counts_are_those_of_sets(data: st.DataObject) -> None:
    ids = st.sets(st.integers(0, 60))
    mine, theirs = data.draw(ids), data.draw(ids)
    every = rows(61, 40 * SECOND)
    found = compared(*([row for n, row in enumerate(every) if n in side] for side in (mine, theirs)))
    assert (found.same, found.counts.get("extra_id", 0), found.counts.get("unnoticed_id", 0)) == (
        len(mine & theirs), len(mine - theirs), len(theirs - mine),
    )  # fmt: skip


def test_within() -> None:
    spans = [Interval(5, 7), Interval(1, 2)]
    assert within(pl.Series([0, 1, 2, 5, 6, 7]), spans).to_list() == [False, True, False, True, True, False]
    assert within(pl.Series([1]), []).to_list() == [False]
