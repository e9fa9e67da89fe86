"""F45, F46: numbers and times that are none, through the live path to the rows of a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lake import Lake
from market.times import DAY, HOUR, MINUTE, MS, SECOND
from tests.support.feeding import Feed, finished, missing, stored, told
from tests.support.written import T0, combined, trade


@pytest.fixture
def root(place: Path) -> Path:
    return place / "lake"


REFUSED = [
    "NaN", "nan", "inf", "-inf", "Infinity", "1_000", "\u0661\u0662\u0663", "\uff11", "1e400", "1e5", "-1", "-0.5", "",
    " 1", "1 ", "1\n", ".5", "1.", "+1", "00", "01", "0x10", "1,5", "9" * 40, "0." + "1" * 40,
    1, 1.5, None, True, [], {},
]  # fmt: skip


@pytest.mark.parametrize("field", ["p", "q"])
def test_f45_texts_that_are_no_strict_decimal_are_set_aside_one_by_one(root: Path, field: str) -> None:
    feed = Feed(root, T0)
    frames = [frame for n, text in enumerate(REFUSED, 1) for frame in (trade(n), trade(1_000 + n, **{field: text}))]
    frames += [trade(n) for n in range(len(REFUSED) + 1, len(REFUSED) + 3)]
    feed.receive(frames, T0)
    finished(feed)
    assert stored(root) == list(range(1, len(REFUSED) + 3))
    assert told(root)[1] == len(REFUSED), "each of them was set aside"


@pytest.mark.parametrize(
    "field, text, condition",
    [("p", "0", "void"), ("q", "0.000", "void"), ("p", "9" * 30, "market"), ("q", "0." + "0" * 29 + "1", "market")],
)
def test_f45_zeros_are_void_and_the_longest_numbers_are_kept_digit_by_digit(
    root: Path, field: str, text: str, condition: str
) -> None:
    feed = Feed(root, T0)
    feed.receive([trade(1, **{field: text})], T0)
    finished(feed)
    with Lake(root) as lake:
        (row,) = lake.read("trade").to_pylist()
    assert row["condition"] == condition
    name = {"p": "price", "q": "qty"}[field]
    assert row[f"{name}_text"] == text or float(text) == row[name]


MILLIS = T0 // MS
IMPOSSIBLE = {
    "zero": 0, "1970": 86_400_000, "year 3000": 32_503_680_000_000, "seconds": MILLIS // 1_000,
    "microseconds": MILLIS * 1_000, "nanoseconds": MILLIS * 1_000_000, "negative": -MILLIS, "text": str(MILLIS),
    "a fraction": MILLIS + 0.5, "null": None, "eight days ago": MILLIS - 8 * DAY // MS, "in six minutes":
    MILLIS + 6 * MINUTE // MS, "beyond 64 bits": 2**70,
}  # fmt: skip


@pytest.mark.parametrize("field", ["T", "E"])
def test_f46_impossible_times_are_set_aside_and_make_no_partition(root: Path, field: str) -> None:
    feed = Feed(root, T0)
    for n, (what, time) in enumerate(IMPOSSIBLE.items()):
        feed.receive([trade(2 * n), trade(2 * n + 1, **{field: time})], T0 + n)
        assert sum(feed.pipeline.totals.rejected.values()) == n + 1, f"{what} struck"
    feed.receive([trade(2 * len(IMPOSSIBLE))], T0 + SECOND)
    finished(feed)
    assert stored(root) == list(range(0, 2 * len(IMPOSSIBLE) + 1, 2))
    assert told(root)[1] == len(IMPOSSIBLE)
    assert missing(root) == set(range(1, 2 * len(IMPOSSIBLE), 2))
    assert {path.name for path in root.rglob("year=*")} == {"year=2025"}
    assert {path.name for path in root.rglob("date=*")} == {"date=2025-11-20"}


@pytest.mark.parametrize("late", [7 * DAY - SECOND, -5 * MINUTE + SECOND, HOUR, 0])
def test_f46_a_time_at_the_edge_of_what_is_possible_is_kept(root: Path, late: int) -> None:
    feed = Feed(root, T0)
    feed.receive([trade(1, at=T0 - late)], T0)
    finished(feed)
    assert stored(root) == [1]
    assert told(root)[1] == 0


@pytest.mark.parametrize(
    "name, body, changed",
    [
        ("!contractInfo", {"e": "contractInfo", "s": "X", "cs": "TRADING"}, {"ot": 32_503_680_000_000}),
        ("btcusdt@markPrice@1s", {"e": "markPriceUpdate", "s": "BTCUSDT", "p": "1", "i": "1", "r": "-0.1"},
         {"T": 32_503_680_000_000}),
        ("btcusdt@markPrice@1s", {"e": "markPriceUpdate", "s": "BTCUSDT", "p": "1", "T": MILLIS}, {"i": "-1"}),
    ],
)  # fmt: skip
def test_f46_what_no_table_would_take_is_rejected_as_a_frame(
    root: Path, name: str, body: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Fuzzing found them: they became lines, and only the transformer set them aside."""
    good = body | {"E": MILLIS}
    feed = Feed(root, T0)
    feed.receive([combined(name, good | changed), combined(name, good)], T0)
    assert sum(feed.pipeline.totals.rejected.values()) == 1
    finished(feed)
    assert told(root)[1] == 1
