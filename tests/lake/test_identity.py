"""What tells that two rows are one event: ids, and the venue's time where a numbering may begin anew."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lake import Lake, identity, merge
from market.times import SECOND
from tests.support import book_rows
from tests.support.lakes import TestLake
from tests.support.market_rows import T0, quote, table, trade


def kept(kind: str, rows: list[dict]) -> int:
    """How many rows a merge of files of one row each leaves."""
    counts = merge.Merged()
    parts = [table(kind, [row]) for row in rows]
    sources = [lambda columns, part=part: iter([part.select(columns or part.column_names)]) for part in parts]
    assert sum(one.num_rows for one in merge.merge(kind, sources, counts)) == counts.rows_out
    assert counts.duplicates == len(rows) - counts.rows_out
    return counts.rows_out


def again(row: dict, later: int, **more: object) -> dict:
    return row | {"ts_event": row["ts_event"] + later, "ts_recv": row["ts_recv"] + later, "session": "n-2-1"} | more


@pytest.mark.parametrize(
    "kind, row, estimated, rows",
    [
        ("quote", quote(T0, "1", "2"), False, 2),
        ("quote", quote(T0, "1", "2"), True, 1),
        ("trade", trade(T0, "1", "1", seq=7), False, 1),
    ],
)
def test_an_id_that_comes_again_at_another_time_of_the_venue_is_another_event_of_what_is_renumbered(
    kind: str, row: dict, estimated: bool, rows: int, tmp_path: Path
) -> None:
    """A merge, a read of what is hot and SQL say the same; a copy at the same time is none."""
    held = [row | {"ts_estimated": estimated}]
    held += [again(held[0], 0, ts_recv=T0 + 5), again(held[0], 1)]
    assert kept(kind, held) == rows
    made = TestLake(tmp_path)
    for one in held:
        made.part(kind, [one])
    made.close()
    with Lake(tmp_path) as lake:
        assert lake.read(kind).num_rows == rows
        assert lake.sql(f"SELECT * FROM {kind}").num_rows == rows


@pytest.mark.parametrize("first", [0, 1], ids=["whole first", "update first"])
def test_an_update_and_a_whole_book_of_one_id_and_time_are_two_events_and_each_is_one_once(
    tmp_path: Path, first: int
) -> None:
    """A merge, a read of what is hot and SQL say the same, whichever was received first."""
    rows = [book_rows.whole(T0, 7, [("1", "2")], [], source="ws"), book_rows.delta(T0, 7, [("1", "2")])]
    order = [rows[first], rows[1 - first], *rows]
    parts = [book_rows.table([row | {"frame_no": n}]) for n, row in enumerate(order)]
    sources = [lambda columns, part=part: iter([part.select(columns or part.column_names)]) for part in parts]
    merged = pa.concat_tables(merge.merge("book_delta", sources, counts := merge.Merged())).to_pylist()
    assert {(row["flags"], row["frame_no"]) for row in merged} == {("snapshot", first), ("", 1 - first)}
    assert counts.duplicates == 2
    made = TestLake(tmp_path)
    for part in parts:
        made.part("book_delta", part)
    made.close()
    with Lake(tmp_path) as lake:
        assert sorted(row["flags"] for row in lake.read("book_delta").to_pylist()) == ["", "snapshot"]
        assert lake.sql("SELECT flags FROM book_delta ORDER BY flags").column("flags").to_pylist() == ["", "snapshot"]


def told(rows: list[dict]) -> pl.DataFrame:
    frame = merge.plain_frame(table("quote", rows))
    return frame.with_columns(identity.hashed("quote"))


def test_an_event_whose_time_is_read_otherwise_is_the_row_with_its_id() -> None:
    old = told([quote(T0, "1", "2", 1), quote(T0 + SECOND, "1", "2", 2), quote(T0 + 60 * SECOND, "3", "4", 1)])
    new = told([quote(T0 + 7, "1", "2", 1), quote(T0 + SECOND, "1", "2", 2), quote(T0 + 60 * SECOND, "3", "4", 1),
                quote(T0 + SECOND, "5", "6", 3)])  # fmt: skip
    assert new.join(old, on=identity.HASH, how="anti").get_column("update_id").to_list() == [1, 3]
    found = identity.matched("quote", old, new)
    both = found.join(old, on=identity.HASH).sort("ts_event")
    assert both.select("update_id", "ts_event", "ts_event_right").cast(pl.Int64).rows() == [
        (1, T0 + 7, T0), (2, T0 + SECOND, T0 + SECOND), (1, T0 + 60 * SECOND, T0 + 60 * SECOND)
    ]  # fmt: skip
    assert found.height == new.height
    assert identity.matched("trade", old, new) is new, "their ids are enough"
