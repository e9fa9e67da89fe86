"""What a venue tells of the time before its symbols were collected: the same in bars of minutes, hours and days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import beginnings, parquet
from lake.rows import SegmentRow
from market.times import DAY, HOUR, MINUTE
from runtime.workers import InlineExecutor
from tests.support.lakes import STREAM, TestLake
from tests.support.market_rows import T0, trade
from transformer.config import TransformerConfig
from transformer.service import transform_once

TOLD, LIVE = T0 + 5 * MINUTE, T0 + 12 * MINUTE
"""A trade of the past that is told on subscribing, and one after it."""


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[TestLake]:
    made = TestLake(tmp_path)
    made.part(
        "trade",
        [trade(TOLD, "10", "1", 1, condition="history", ts_recv=LIVE), trade(LIVE, "10", "1", 2, frame_no=2)],
    )
    made.cover(T0 + 10 * MINUTE, T0 + HOUR)
    seal = SegmentRow(
        **STREAM, path="raw/none.jsonl", kind="trade", state="sealed", period_start=T0, period_end=T0 + HOUR, rows=0,
        bytes=0, sha256="",
    )  # fmt: skip
    made.writer.record(segments=[seal])
    yield made
    made.close()


def minutes(lake: TestLake) -> list[int]:
    """The minutes of the day that have a bar, by what is read now."""
    tables = [parquet.read(lake.root / row.path) for row in lake.writer.manifest.files("bar_1m")]
    times = [pl.Series(table.column("window_start")).to_physical() for table in tables]
    return sorted((at - T0) // MINUTE for at in pl.concat(times)) if times else []


def each(lake: TestLake) -> list[list[int]]:
    """The bars as the transformer makes them, as the merge of their hour does, and as the close of their day does."""
    transform_once(lake.writer, InlineExecutor(), T0 + HOUR, TransformerConfig())
    found = [minutes(lake)]
    late = trade(LIVE + 1, "10", "1", 3, frame_no=3)
    lake.part("trade", [late])
    for now in (T0 + 3 * HOUR, T0 + DAY + HOUR):
        done = compact_once(lake.writer, InlineExecutor(), now, CompactorConfig(), final=now > T0 + DAY)
        assert not done.failures
        found.append(minutes(lake))
    levels = {row.level for row in lake.writer.manifest.files("bar_1m")}
    assert levels == {"day"}
    return found


@pytest.mark.parametrize("before", [MINUTE, HOUR, DAY - MINUTE, DAY + HOUR, 400 * DAY])
def test_what_was_told_after_the_first_coverage_counts_however_long_ago_that_was(lake: TestLake, before: int) -> None:
    lake.cover(T0 - before, T0 - before + 1)
    assert each(lake) == [[5, 12]] * 3


def test_what_was_told_of_the_time_before_the_first_coverage_counts_nowhere(lake: TestLake) -> None:
    lake.cover(T0 - DAY, T0, symbol="ETHUSDT")
    assert each(lake) == [[12]] * 3


def test_the_first_coverage_of_a_symbol_is_that_of_either_kind_of_trades(lake: TestLake) -> None:
    lake.cover(T0 - DAY, T0, kind="agg_trade")
    lake.cover(T0 - 2 * DAY, T0, kind="quote")
    lake.cover(T0 - HOUR, T0, symbol="ETHUSDT")
    held = beginnings.begun(lake.writer.manifest, STREAM["exchange"], STREAM["market_type"])
    assert held == {"BTCUSDT": T0 - DAY, "ETHUSDT": T0 - HOUR}
    assert beginnings.begun(lake.writer.manifest, "kraken", "spot") == {}
