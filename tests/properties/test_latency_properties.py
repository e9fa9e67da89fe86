"""Histograms of latencies: any way of adding them up is one way, and percentiles are as right as their buckets."""

from __future__ import annotations

import bisect

import polars as pl
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from lake import latency
from lake.latency import MEASURES, Histogram, bounds, bucket, histogram, merged, of_table
from market.times import MINUTE

VALUES = st.integers(-(2**50), 2**50)
LISTS = st.lists(st.one_of(VALUES, st.integers(-40, 40), st.integers(500, 90_000)), max_size=60)


@given(VALUES)
@example(0)
@example(15)
@example(16)
@example(-16)
@example(2**40 - 1)
def test_a_value_lies_in_its_bucket_whose_width_is_an_eighth_of_it_at_most(value: int) -> None:
    first, last = bounds(bucket(value))
    assert first <= value <= last
    assert last - first <= abs(value) // 8
    assert bucket(first) == bucket(last) == bucket(value)


@given(st.integers(-400, 400))
def test_buckets_lie_side_by_side(number: int) -> None:
    assert bounds(number)[1] + 1 == bounds(number + 1)[0]


@given(LISTS, LISTS, LISTS)
def test_adding_up_is_the_same_in_any_order_and_as_counting_all_at_once(
    one: list[int], two: list[int], three: list[int]
) -> None:
    a, b, c = histogram(one), histogram(two), histogram(three)
    assert merged([merged([a, b]), c]) == merged([a, merged([b, c])]) == merged([c, b, a])
    assert merged([a, b, c]) == histogram(one + two + three)
    assert merged([a, None]) == a


@given(st.lists(VALUES, min_size=1, max_size=80), st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_within_a_sixteenth_of_the_value_that_it_names(values: list[int], share: float) -> None:
    found = histogram(values)
    assert found is not None
    assert (found.count, found.low, found.high) == (len(values), min(values), max(values))
    said, exact = found.quantile(share), sorted(values)
    rank = min(len(values), max(1, -(-len(values) * round(share * 10_000) // 10_000)))
    truth = exact[rank - 1]
    assert abs(said - truth) <= abs(truth) / 16 + 1
    assert found.low <= said <= found.high
    assert bisect.bisect_right(exact, bounds(bucket(said))[1]) >= rank


@given(st.lists(VALUES, min_size=1, max_size=40))
def test_the_vectorised_buckets_are_the_same(values: list[int]) -> None:
    assert latency._buckets(pl.Series(values, dtype=pl.Int64)).to_list() == [bucket(value) for value in values]


ROW = st.fixed_dictionaries(
    {
        "session": st.sampled_from(["n-1-1", "n-1-2"]),
        "source": st.sampled_from(["ws", "ws", "ws", "rest"]),
        "condition": st.sampled_from(["market", "history", None]),
        "ts_recv": st.integers(1_763_646_300_000_000, 1_763_646_300_000_000 + 3 * MINUTE),
        "delay": st.integers(-3_000_000, 3_000_000),
        "publish": st.one_of(st.none(), st.integers(-1000, 1000)),
        "ts_estimated": st.booleans(),
    }
)


def counted(rows: list[dict[str, object]]) -> dict[tuple[str, int], dict[str, Histogram | None]]:
    """The same, counted one by one."""
    found: dict[tuple[str, int], dict[str, list[int]]] = {}
    for row in rows:
        if row["source"] != "ws" or row["condition"] == "history":
            continue
        recv, delay, publish = (row[name] for name in ("ts_recv", "delay", "publish"))
        held = found.setdefault((row["session"], recv - recv % MINUTE), {measure: [] for measure in MEASURES})
        sent = None if publish is None else recv - delay + publish
        if sent is not None:
            held["publish_to_receive"].append(recv - sent)
        if not row["ts_estimated"]:
            held["event_to_receive"].append(delay)
            if sent is not None:
                held["event_to_publish"].append(publish)
    return {key: {measure: histogram(values) for measure, values in held.items()} for key, held in found.items()}


@given(st.lists(ROW, max_size=30), st.integers(1, 7))
def test_a_table_tells_what_its_rows_tell_one_by_one(rows: list[dict[str, object]], at_once: int) -> None:
    def column(name: str) -> pa.Array:
        values = {
            "ts_event": lambda row: row["ts_recv"] - row["delay"],
            "ts_publish": lambda row: (
                None if row["publish"] is None else row["ts_recv"] - row["delay"] + row["publish"]
            ),
        }.get(name, lambda row: row[name])
        kind = pa.timestamp("us", "UTC") if name.startswith("ts_") and name != "ts_estimated" else None
        made = pa.array([values(row) for row in rows], kind or (pa.bool_() if name == "ts_estimated" else pa.string()))
        return made.dictionary_encode() if name in ("session", "source", "condition") else made

    names = ("session", "source", "ts_event", "ts_estimated", "ts_publish", "ts_recv", "condition")
    table = pa.table({name: column(name) for name in names})
    held, latency._ROWS_AT_ONCE = latency._ROWS_AT_ONCE, at_once
    try:
        found = of_table(table)
    finally:
        latency._ROWS_AT_ONCE = held
    told = {(one.session, one.minute): {measure: one.of(measure) for measure in MEASURES} for one in found}
    assert told == counted(rows)
    assert sum(one.rows for one in found) == sum(r["source"] == "ws" and r["condition"] != "history" for r in rows)
    assert found == sorted(found, key=lambda one: (one.session, one.minute))
