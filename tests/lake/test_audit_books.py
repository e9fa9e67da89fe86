"""lake.audit_books: rebuilt order books against those that the venue told of, at equal update ids."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.audit import AuditService, look, silent
from compactor.config import AuditConfig, CompactorConfig
from compactor.service import compact_once
from lake import tables
from lake.audit_books import Run, Said, compare, runs, told
from lake.audit_words import Difference
from lake.audits import Wanted
from market.times import DAY, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.book_rows import delta, levels, table, whole
from tests.support.clock import ManualClock
from tests.support.lakes import TestLake
from tests.support.market_rows import T0

Row = dict[str, Any]
Book = dict[str, dict[str, str]]
BIDS, ASKS = [("100", "1"), ("99", "2"), ("98", "3")], [("101", "1"), ("102", "2"), ("103", "3")]


def snapshots(rows: Sequence[Row]) -> pa.Table:
    """Rows as `book_snapshot` holds them."""
    data: dict[str, Any] = {
        "date": [dt.date(1970, 1, 1) + dt.timedelta(microseconds=row["at"]) for row in rows],
        "ts_event": [row["at"] for row in rows], "ts_recv": [row["at"] for row in rows],
        "last_id": [row["last"] for row in rows], "frame_no": [row["last"] for row in rows],
        "depth": [len(row["bids"]) for row in rows],
    }  # fmt: skip
    for side in ("bids", "asks"):
        data[side], data[f"{side}_text"] = levels([row[side] for row in rows])
    constants = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT", "ts_estimated": False,
                 "session": "n-1-1", "item": 0, "source": "rest"}  # fmt: skip
    return tables.conform(pa.table(data), "book_snapshot", constants)


def audit(rows: Sequence[Row], said: Sequence[Row]) -> tuple[list[Run], list[Difference | None]]:
    held = table(rows)

    def pieces(columns: Sequence[str], start: int, end: int) -> Iterator[pa.Table]:
        for place in range(0, held.num_rows, 3):
            yield held.slice(place, 3).select(list(columns))

    found = runs(pieces(tables.schema("book_delta").names, 0, 2**62))
    others: list[Said] = told([snapshots(said)]) if said else []
    return found, [one for run in found for one in compare(pieces, run, others)]


def updates(count: int, first: int = 11) -> list[Row]:
    """Each takes the best bid to another quantity."""
    return [delta(T0 + (n + 1) * SECOND, first + n, [("100", f"1.{n + 1}")]) for n in range(count)]


def test_a_book_that_is_told_while_updates_go_on_is_compared_at_its_id() -> None:
    rows = [whole(T0, 10, BIDS, ASKS), *updates(9)]
    right = whole(T0 + MINUTE, 15, [("100", "1.5"), *BIDS[1:]], ASKS)
    found, made = audit(rows, [right])
    assert [(run.base.last, run.end) for run in found] == [(10, 19)]
    assert made == [None]
    wrong = whole(T0 + MINUTE, 15, [("100", "1.6"), ("99", "2")], ASKS[:2])
    (other,) = audit(rows, [wrong])[1]
    assert other is not None
    assert other.what == "unexplained"
    assert other.detail == "book at id 15: 1 of 4 levels differ: bid 100 has 1.5, the venue says 1.6"


def test_levels_that_one_side_does_not_have_differ_and_those_behind_what_was_shown_do_not() -> None:
    rows = [whole(T0, 10, BIDS, ASKS), *updates(3), delta(T0 + 9 * SECOND, 14, [("90", "7")], [("102", "0")])]
    told_ = whole(T0 + MINUTE, 14, [("100", "1.3"), ("99", "2")], [("101", "1"), ("101.5", "4")])
    (other,) = audit(rows, [told_])[1]
    assert other is not None
    assert "1 of 4 levels differ: ask 101.5 has nothing, the venue says 4" in other.detail


def test_the_update_that_the_id_lies_inside_of_is_left_out_with_its_prices() -> None:
    over = delta(T0 + 20 * SECOND, 25, [("100", "9"), ("99", "8")], first=20, prev=19)
    rows = [whole(T0, 10, BIDS, ASKS), *updates(9), over, delta(T0 + 30 * SECOND, 26, [("98", "5")])]
    inside = whole(T0 + MINUTE, 22, [("100", "9"), ("99", "2"), ("98", "3")], ASKS)
    assert audit(rows, [inside])[1] == [None]
    after = whole(T0 + MINUTE, 25, [("100", "9"), ("99", "2"), ("98", "3")], ASKS)
    (other,) = audit(rows, [after])[1]
    assert other is not None
    assert "bid 99 has 8, the venue says 2" in other.detail


def test_whole_books_among_the_updates_are_compared_where_the_run_goes_on_over_them() -> None:
    again = whole(T0 + 5 * SECOND + 1, 15, [("100", "1.5"), *BIDS[1:]], ASKS, frame_no=99)
    found, made = audit([whole(T0, 10, BIDS, ASKS), *updates(9), again], [])
    assert len(found) == 1
    assert made == [None]


def test_a_book_behind_a_hole_begins_a_run_and_proves_nothing() -> None:
    rows = [whole(T0, 10, BIDS, ASKS), *updates(3), whole(T0 + 9 * SECOND, 40, BIDS, ASKS),
            *(delta(T0 + n * SECOND, 30 + n) for n in range(11, 15))]  # fmt: skip
    in_hole = whole(T0 + MINUTE, 30, [("50", "1")], [("51", "1")])
    found, made = audit(rows, [in_hole])
    assert [(run.base.last, run.end) for run in found] == [(10, 13), (40, 44)]
    assert made == []


def test_of_what_is_told_all_the_time_the_last_of_five_minutes_is_looked_at() -> None:
    rows = [whole(T0 + n * MINUTE, 10 + n, BIDS, ASKS) for n in range(12)]
    found = told([snapshots(rows[:7]), snapshots(rows[7:])])
    assert [(one.id, (one.at - T0) // MINUTE) for one in found] == [(14, 4), (19, 9), (21, 11)]
    assert [one.row.num_rows for one in found] == [1, 1, 1]


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_a_plain_book_says_the_same_and_any_other_quantity_is_seen(data: st.DataObject) -> None:
    book: Book = {"bids": dict(BIDS), "asks": dict(ASKS)}
    rows = [whole(T0, 10, BIDS, ASKS)]
    states: dict[int, Book] = {}
    for n in range(data.draw(st.integers(4, 20))):
        side = data.draw(st.sampled_from(["bids", "asks"]))
        price = str(data.draw(st.integers(98, 100) if side == "bids" else st.integers(101, 103)))
        qty = str(data.draw(st.integers(0, 3)))
        book[side] = {p: q for p, q in {**book[side], price: qty}.items() if q != "0"}
        rows.append(delta(T0 + (n + 1) * SECOND, 11 + n, **{side: [(price, qty)]}))
        states[11 + n] = {name: dict(held) for name, held in book.items()}
    at = data.draw(st.sampled_from(sorted(states)))
    state = states[at]
    bids = sorted(state["bids"].items(), reverse=True)
    asks = sorted(state["asks"].items())
    if not (bids and asks):
        return
    assert audit(rows, [whole(T0 + MINUTE, at, bids, asks)])[1] == [None]
    bids[0] = (bids[0][0], "77")
    (other,) = audit(rows, [whole(T0 + MINUTE, at, bids, asks)])[1]
    assert other is not None
    assert "the venue says 77" in other.detail


def test_a_day_of_a_book_is_verified_by_what_was_told_of_it(tmp_path: Path) -> None:
    held = TestLake(tmp_path / "lake")
    held.cover(T0, T0 + DAY, kind="book_delta")
    held.part("book_delta", table([whole(T0, 10, BIDS, ASKS), *updates(9)]))
    config = CompactorConfig()
    compact_once(held.writer, InlineExecutor(), T0 + 2 * DAY, config, final=True, retention=False)
    (audit_,) = look(str(held.root), Wanted(), books=True)
    assert (audit_.total, audit_.hint) == (0, "polls.depth_seconds of a source asks for books to compare with")
    held.part("book_snapshot", snapshots([whole(T0 + MINUTE, 15, [("100", "1.5"), *BIDS[1:]], ASKS)]))
    compact_once(held.writer, InlineExecutor(), T0 + 2 * DAY, config, final=True, retention=False)
    clock = ManualClock(T0 + 2 * DAY)
    service = AuditService(held.writer, InlineExecutor(), clock, AuditConfig.model_validate({}))
    done = asyncio.run(service.once(Wanted(day="2024-07-19"), silent, books=True))
    assert ([one.kind for one in done.audits], done.written, done.ok) == (["book_delta"], 1, True)
    assert held.writer.manifest.certificates(kind="book_delta")[-1].verified == "books: 1 of 1 the same"
    held.close()
