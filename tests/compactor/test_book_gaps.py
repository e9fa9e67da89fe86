"""Which ids of a book's gaps the rows of a day prove to be there, and what is left of them."""

import pyarrow as pa
import pytest

from compactor.book_gaps import Fills
from market.session import Gap
from market.times import SECOND
from tests.support.book_rows import delta, table, whole
from tests.support.market_rows import T0

NOW = T0 + 100 * SECOND


def gap(start: int = 10, end: int = 20, **changed: object) -> Gap:
    """Ids [start, end) of one a second."""
    row = {
        "gap_id": "g", "exchange": "binance", "market_type": "linear", "kind": "book_delta", "symbol": "BTCUSDT",
        "ts_from": T0 + (start - 1) * SECOND, "ts_to": T0 + end * SECOND + 1, "id_from": start, "id_to": end,
        "cause": "jump", "proof": "ids", "state": "open", "session": "n-1-1", "detected_at": T0,
    }  # fmt: skip
    return Gap(**(row | changed))  # type: ignore[arg-type]


def update(last: int, first: int | None = None, **more: object) -> dict:
    """An update that covers ids from `first` up to `last`."""
    return delta(T0 + last * SECOND, last, prev=(first or last) - 1, first=None) | more


def told(gaps: list[Gap], rows: list[dict], pieces: int = 1) -> list[tuple]:
    fills, whole_table = Fills(gaps), table(rows)
    size = -(-whole_table.num_rows // pieces)
    for at in range(0, whole_table.num_rows, size):
        fills.add(pa.Table.from_batches(whole_table.slice(at, size).to_batches(), whole_table.schema))
    return [
        (row.gap_id, row.state, row.id_from, row.id_to, (row.ts_from - T0) // SECOND, ((row.ts_to or 0) - T0) // SECOND)
        for row in fills.changed(NOW)
    ]


def every(*ids: int) -> list[dict]:
    return [update(number) for number in ids]


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("state", ["open", "unrepairable"])
def test_all_ids_close_a_gap_and_some_leave_less_of_it(pieces: int, state: str) -> None:
    rows = every(*range(5, 25))
    assert told([gap(state=state)], rows, pieces) == [("g", "repaired", 10, 20, 9, 20)]
    rows = every(*range(5, 12), 15, 16, *range(20, 25))
    assert told([gap(state=state)], rows, pieces) == [
        ("g", state, 12, 15, 11, 15), ("g.17", state, 17, 20, 16, 20)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [
        every(*range(5, 10), *range(20, 25)),
        [update(number, source="archive") for number in range(5, 25)],
        [update(number, source="import") for number in range(5, 25)],
        [update(number, first=number, prev=None, flags="clear") for number in range(10, 20)],
        [update(number, at=T0 + (number + 50) * SECOND) for number in range(10, 20)],
    ],
)
def test_ids_that_are_not_there_are_another_numbering_or_of_another_time_are_no_proof(rows: list[dict]) -> None:
    assert told([gap()], rows) == []


def test_an_update_covers_all_the_ids_that_it_names() -> None:
    assert told([gap()], [update(14, 8), update(22, 15, at=T0 + 19 * SECOND)]) == [("g", "repaired", 10, 20, 9, 20)]
    spot = [update(14) | {"first": 8, "prev": None}, update(19) | {"first": 15, "prev": None}]
    assert told([gap()], spot) == [("g", "repaired", 10, 20, 9, 20)]
    last_of_its_numbering = update(3, prev=19, at=T0 + 19 * SECOND)
    assert told([gap(10, 21)], [update(19, 10), last_of_its_numbering]) == [("g", "repaired", 10, 21, 9, 21)]


def test_a_whole_book_covers_no_id_the_update_that_it_ends_with_is_missing_all_the_same() -> None:
    rows = [whole(T0 + 15 * SECOND, 15, [], [], source="ws"), whole(T0 + 16 * SECOND, 17, [], [])]
    assert told([gap()], rows) == []
    update = delta(T0 + 15 * SECOND, 15, [], [])
    assert told([gap()], [*rows, update]) == [("g", "open", 10, 15, 9, 15), ("g.16", "open", 16, 20, 15, 20)]


def test_of_ids_that_are_in_several_rows_only_all_are_proof() -> None:
    """A file without ids filled the middle of the time."""
    parts = [gap(ts_to=T0 + 12 * SECOND), gap(gap_id="f", ts_from=T0 + 12 * SECOND, state="repaired")]
    parts.append(gap(gap_id="h", ts_from=T0 + 16 * SECOND))
    assert told(parts, every(*range(10, 15))) == []
    assert [row[:2] for row in told(parts, every(*range(10, 20)))] == [("g", "repaired"), ("h", "repaired")]
    assert told([gap(ts_to=None), gap(id_to=None), gap(state="empty")], every(*range(10, 20))) == []
