"""F49: a daemon that collects from a venue whose clock is ten seconds ahead says so, and shows it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from lake import Lake
from market.times import SECOND
from tests.support.commands import dl, dl_json
from tests.support.live import collecting, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)
AHEAD = 10 * SECOND


def test_f49_a_venue_ten_seconds_ahead_is_an_alarm_and_is_shown_and_what_is_stored_keeps_its_time(
    tmp_path: Path,
) -> None:
    lake, port = tmp_path / "lake", free_port()
    with simulator(
        tmp_path, "--clock-offset-us", str(AHEAD), "--rate", "200", "--symbols", "BTCUSDT", "--markets", "linear"
    ) as exchange:
        source = exchange.source("linear", ["BTCUSDT"], ["trade", "quote"])
        config = write_config(tmp_path / "config.json", lake, [source], port, transformer={"interval_seconds": 0.5})
        with collecting(config, port) as daemon:
            wait_for("the alarm", lambda: "behind that of binance linear" in daemon.said())
            said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]
            assert {"synchronised", "venues"} <= said["clock_record"]["report"].keys()
            assert b"lake_clock_offset_error_seconds" in get(f"http://127.0.0.1:{port}/metrics")[1]
            wait_for("latencies", lambda: list((lake / "clocks").glob("*")) and _streams(port))
        truth = exchange.stop()
    dl("transform", "--config", config)
    found = dl_json("latency", "--config", config, expect=1)
    (venue,) = found["venues"]
    assert venue["skew_us"] == pytest.approx(-AHEAD, rel=0.07)
    trade = next(row for row in found["rows"] if row["kind"] == "trade")
    assert trade["event_to_receive"]["max"] < -AHEAD + 5 * SECOND
    assert "FAR" in dl("latency", "--config", config, expect=1).stdout
    rows = pl.DataFrame(pl.from_arrow(Lake(lake).read("trade", symbol="BTCUSDT")))
    sent = {event.id: event.ts_event for event in truth.sent("trade", "linear", "BTCUSDT").values()}
    stored = dict(zip(rows.get_column("seq"), rows.get_column("ts_event").to_physical(), strict=True))
    assert len(stored) > 20
    assert stored.items() <= sent.items(), "the venue's time, whatever ours is"


def _streams(port: int) -> bool:
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["transformer"]["report"]
    return len(said["latencies"]["streams"]) == 2
