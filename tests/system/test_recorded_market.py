"""Real trades of a venue, replayed through the very pipeline of live data, against the venue's own candles."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from lake import Lake
from market.times import MINUTE
from tests.support.commands import dl, dl_json, run, sample

KLINES = "binance/klines_um_btcusdt_1m_20240718-19.csv"
FIELDS = {
    "open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume_base",
    "quote_volume": "volume_quote", "count": "trade_count", "taker_buy_volume": "taker_buy_base",
    "taker_buy_quote_volume": "taker_buy_quote",
}  # fmt: skip
"""The candle's nine value fields and our columns."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with both days of the recording, replayed once."""
    days = [sample(f"binance/hft_um_btcusdt_2024071{day}.gz") for day in (8, 9)]
    folder = tmp_path_factory.mktemp("recorded")
    done = run("scripts/frames_from.py", *days, "--out", folder / "frames")
    assert done.returncode == 0, done.stderr
    frames = sorted((folder / "frames").iterdir())
    dl("replay", *frames, "--exchange", "binance", "--market-type", "linear", "--lake", folder / "lake")
    return folder / "lake"


def lines_of(lake: Path, kind: str) -> list[dict[str, object]]:
    done = dl("read", kind, "--lake", lake, "--json", "--limit", "0")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_minute_bars_equal_the_venues_candles_in_all_nine_values_wherever_the_recording_is_whole(
    recorded: Path,
) -> None:
    bars = {
        pd.Timestamp(row["window_start"]).value // 1000: row
        for row in Lake(recorded).read("bar_1m", symbol="BTCUSDT").to_pylist()
    }
    whole = 0
    with sample(KLINES).open() as handle:
        for candle in csv.DictReader(handle):
            bar = bars[int(candle["open_time"]) * 1000]
            equal = all(float(candle[theirs]) == float(bar[ours]) for theirs, ours in FIELDS.items())
            assert equal or bar["partial"], (candle, bar)
            whole += not bar["partial"]
    assert whole == 7
    assert bars[min(bars)]["partial"], "the recording starts inside its first minute"
    assert bars[max(bars)]["partial"], "and ends inside its last"


def test_midnight_divides_the_days_by_event_time_though_the_local_clock_is_behind(recorded: Path) -> None:
    held = dl_json("ls", "--lake", recorded)
    days = {(row["file"]["kind"], row["file"]["date"]) for row in held}
    assert {
        (kind, day) for kind in ("trade", "quote", "bar_1s", "bar_1m") for day in ("2024-07-18", "2024-07-19")
    } <= days
    assert {row["file"]["level"] for row in held} == {"day"}
    assert all(row["certificate"] for row in held)
    trades = pl.from_arrow(Lake(recorded).read("trade"))
    assert (trades["ts_event"].dt.date() == trades["date"]).all()
    early = trades.filter(pl.col("ts_recv") < pl.col("ts_event"))
    assert early.height > 0.9 * trades.height, "the recorder's clock ran behind"


def test_every_trade_is_there_once_with_its_frame(recorded: Path) -> None:
    trades = pl.from_arrow(Lake(recorded).read("trade", columns=["seq", "session", "frame_no", "condition"]))
    assert trades["seq"].n_unique() == trades.height
    assert trades["seq"].max() - trades["seq"].min() + 1 == trades.height
    found = dl_json("trace", "trade", "--id", str(trades["seq"][1000]), "--lake", recorded)
    assert len(found) == 1
    frame = json.loads(found[0]["frame"])
    assert frame["data"]["t"] == trades["seq"][1000]
    assert [step["what"] for step in found[0]["steps"]] == ["day", "frames"] or "segment" in {
        step["what"] for step in found[0]["steps"]
    }


def test_the_lake_verifies_and_has_no_gap(recorded: Path) -> None:
    verdict = dl_json("verify", "--lake", recorded)
    assert verdict["ok"]
    assert verdict["findings"] == []
    assert len(verdict["laws"]) == 2
    assert dl_json("gaps", "--lake", recorded) == []


def test_plain_tools_read_the_tables_and_agree(recorded: Path) -> None:
    tables = recorded / "tables"
    trades = tables / "exchange=binance" / "market_type=linear" / "data_type=trade"
    files = sorted(trades.rglob("*.parquet"))
    expected = Lake(recorded).read("trade").num_rows
    assert sum(pq.ParquetFile(path).metadata.num_rows for path in files) == expected
    assert len(pd.read_parquet(trades)) == expected
    assert pl.scan_parquet(trades / "**/*.parquet").select(pl.len()).collect().item() == expected
    found = duckdb.sql(f"select count(*), count(distinct seq) from read_parquet('{trades}/**/*.parquet')").fetchone()
    assert found == (expected, expected)
    assert pq.read_table(trades).num_rows == expected


def test_running_everything_again_changes_nothing(recorded: Path) -> None:
    before = dl_json("ls", "--lake", recorded)
    dl("transform", "--lake", recorded)
    dl("compact", "--lake", recorded)
    frames = sorted((recorded.parent / "frames").iterdir())
    dl("replay", *frames, "--exchange", "binance", "--market-type", "linear", "--lake", recorded)
    assert dl_json("ls", "--lake", recorded) == before


def test_bars_of_other_widths_fold_on_read(recorded: Path) -> None:
    lake = Lake(recorded)
    five = lake.read("bar_5m", symbol="BTCUSDT").to_pylist()
    ones = lake.read("bar_1m", symbol="BTCUSDT").to_pylist()
    assert sum(row["trade_count"] for row in five) == sum(row["trade_count"] for row in ones)
    assert all((pd.Timestamp(row["window_start"]).value // 1000) % (5 * MINUTE) == 0 for row in five)
    assert lines_of(recorded, "bar_5m")
