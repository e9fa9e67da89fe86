"""Trades of which no bars are made yet are not known to be none: such days are shown as unknown, and not as empty."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import Lake, completeness
from lake.sources import bars_due
from market.times import DAY, HOUR, MINUTE
from tests.support.lakes import STREAM, TestLake, bar_table, date_of
from tests.support.market_rows import T0, trade

SPAN = {"start": T0, "end": T0 + 4 * MINUTE}
LATER = {"start": T0 + DAY, "end": T0 + DAY + 4 * MINUTE}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TestLake]:
    """Two days of A of which all was collected; bars of the first one."""
    lake = TestLake(tmp_path / "lake")
    for start in (T0, T0 + DAY):
        lake.cover(start - HOUR, start + HOUR, symbol="A")
    lake.day("trade", [trade(T0, "1", "1", seq=1, symbol="A")], symbol="A")
    lake.day("bar_1m", bar_table([trade(T0, "1", "1", seq=1, symbol="A")]), symbol="A")
    yield lake
    lake.close()


def volumes(lake: Lake, symbol: str, kind: str = "bar_1m", **span: int) -> list[tuple[float | None, bool]]:
    rows = lake.read(kind, symbol=symbol, fill="empty", **span).to_pylist()
    return [(row["volume_base"], row["partial"]) for row in rows]


def until(lake: Lake, symbol: str, **span: int) -> int | None:
    told = completeness.of(lake.read("bar_1m", symbol=symbol, **span))
    assert told is not None
    return told.complete_until


@pytest.mark.parametrize("level", ["day", "part"])
def test_a_day_without_bars_whose_trades_are_there_is_unknown_until_they_are_made(made: TestLake, level: str) -> None:
    rows = [trade(T0 + DAY + MINUTE, "1", "7", seq=2, symbol="A")]
    if level == "day":
        made.day("trade", rows, symbol="A")
    else:
        made.part("trade", rows)
    midnight = int(dt.datetime.fromisoformat(date_of(T0 + DAY)).replace(tzinfo=dt.UTC).timestamp()) * 1_000_000
    with Lake(made.root) as lake:
        assert volumes(lake, "A", **SPAN)[1:] == [(0.0, False)] * 3, "the first day is known"
        assert volumes(lake, "A", **LATER) == [], "nothing is known behind what is complete"
        assert until(lake, "A", start=T0, end=T0 + 2 * DAY) == midnight
    third = [trade(T0 + 2 * DAY, "1", "3", seq=3, symbol="A")]
    made.cover(T0 + 2 * DAY - HOUR, T0 + 2 * DAY + HOUR, symbol="A")
    made.day("trade", third, symbol="A")
    made.day("bar_1m", bar_table(third), symbol="A")
    with Lake(made.root) as lake:
        for kind in ("bar_1m", "bar_2m"):
            known = volumes(lake, "A", kind, start=T0 + DAY, end=T0 + 2 * DAY + MINUTE)
            assert known[:2] == [(None, True)] * 2, "what lies behind the day is known, and it is not"
            assert known[-1] == (3.0, False)
    made.day("bar_1m", bar_table(rows), symbol="A")
    with Lake(made.root) as lake:
        assert volumes(lake, "A", **LATER) == [(0.0, False), (7.0, False), (0.0, False), (0.0, False)]
        assert until(lake, "A", start=T0, end=T0 + 2 * DAY) == T0 + 2 * DAY


def test_a_closed_day_without_a_counted_trade_is_empty_once_the_compactor_has_looked(made: TestLake) -> None:
    made.day("trade", [trade(T0 + DAY, "1", "1", seq=2, symbol="A", condition="block")], symbol="A")
    with Lake(made.root) as lake:
        assert volumes(lake, "A", **LATER) == []
    name = bars_due(STREAM["exchange"], STREAM["market_type"], date_of(T0 + DAY))
    made.writer.publish(cursors={name: 0}, now=T0)
    with Lake(made.root) as lake:
        assert volumes(lake, "A", **LATER) == [(0.0, False)] * 4


def test_bars_of_another_symbol_do_not_answer_for_one_that_has_none(made: TestLake) -> None:
    made.cover(T0 + DAY - HOUR, T0 + DAY + HOUR, symbol="B")
    for symbol in "AB":
        made.day("trade", [trade(T0 + DAY, "1", "1", seq=9, symbol=symbol)], symbol=symbol)
    made.day("bar_1m", bar_table([trade(T0 + DAY, "1", "1", seq=9, symbol="B")]), symbol="B")
    with Lake(made.root) as lake:
        assert volumes(lake, "A", **LATER) == []
        assert volumes(lake, "B", **LATER) == [(1.0, False), *[(0.0, False)] * 3]
