"""Hot rows of one symbol, some hours at a time: the order and the rows of `read`, and no more is read than is asked."""

import itertools
from pathlib import Path

import polars as pl
import pytest

from lake import Lake, reading
from market.times import DAY, HOUR, MINUTE
from tests.lake.test_batches import mixed
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, trade


@pytest.fixture
def made(tmp_path):
    lake = TestLake(tmp_path / "lake")
    yield lake
    lake.close()


@pytest.mark.parametrize("rows", [1, 40, 10**9])
def test_rows_are_those_of_all_parts_put_in_order_at_once(made, monkeypatch, rows):
    monkeypatch.setattr(reading, "_TURN_ROWS", rows)
    mixed(made)
    quotes = [
        quote(T0 + 4 * DAY + n * 10 * MINUTE, "1", "2", n, symbol=s) for s in ("AUSDT", "BUSDT") for n in range(99)
    ]
    for part in range(3):
        made.part("quote", quotes[part::3])
    made.part("quote", quotes[5:50])
    with Lake(made.root) as lake:
        for kind in ("trade", "quote"):
            everything = pl.from_arrow(lake.read(kind))
            for symbol, (low, high) in itertools.product(
                ("AUSDT", "CUSDT"), ((None, None), (T0 + HOUR, T0 + 4 * DAY + 90 * MINUTE), (T0 + 30 * DAY, None))
            ):
                at = pl.col("ts_event").cast(pl.Int64)
                wanted = everything.filter(pl.col("symbol") == symbol, at >= (low or 0), at < (high or 2**62))
                asked = {"symbol": symbol, "start": low, "end": high}
                assert pl.from_arrow(lake.read(kind, **asked)).equals(wanted)
                scan = lake.scan(kind, **asked)
                assert scan.collect_schema() == everything.schema
                assert scan.collect().equals(wanted)
                for count in (1, 7):
                    assert scan.head(count).collect().equals(wanted.head(count))
                assert scan.filter(pl.col("frame_no") % 3 == 0).select("frame_no").head(2).collect().equals(
                    wanted.filter(pl.col("frame_no") % 3 == 0).select("frame_no").head(2)
                )  # fmt: skip
                assert scan.select(pl.len()).collect().item() == wanted.height


def test_the_first_rows_are_given_without_a_look_at_later_parts(made, monkeypatch):
    monkeypatch.setattr(reading, "_TURN_ROWS", 10)
    parts = [
        made.part("trade", [trade(T0 + hour * HOUR + n * MINUTE, "1", "1", hour * 100 + n) for n in range(20)])
        for hour in range(5)
    ]
    with Lake(made.root) as lake:
        scan = lake.scan("trade", symbol="BTCUSDT")
        for part in parts[2:]:  # the next is looked at for copies of the last minute
            Path(made.root / part.path).unlink()
        assert scan.head(3).collect()["seq"].to_list() == [0, 1, 2]


def test_hot_bars_behind_closed_days_come_in_order(made, monkeypatch):
    monkeypatch.setattr(reading, "_TURN_ROWS", 10)
    for day in range(2):
        made.day("bar_1m", bar_table([trade(T0 + day * DAY + n * HOUR, "10", "1", 100 * day + n) for n in range(24)]))
    for first in (0, 12):
        rows = [trade(T0 + 2 * DAY + n * HOUR, "10", "1", 200 + n) for n in range(first, first + 12)]
        made.part("bar_1m", bar_table(rows))
    with Lake(made.root) as lake:
        found = lake.read("bar_1m", symbol="BTCUSDT")
        starts = found.column("window_start").to_pylist()
        assert starts == sorted(starts)
        assert len(starts) == 72
        assert found.column("close").equals(lake.read("bar_1m").column("close"))
