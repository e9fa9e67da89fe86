"""A ban outlives the process: banned, killed, started again, and not one request before its end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lake.manifest import Manifest
from lake.rows import BanRow
from market.times import SECOND
from tests.support.live import Daemon, Simulator, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(900)
RETRY_AFTER = (12, 200)
"""Seconds: a machine that is busy elsewhere may take longer to start a daemon than the first of them."""


def bans(lake: Path) -> list[BanRow]:
    manifest = Manifest.read_only(lake)
    try:
        return manifest.bans()
    finally:
        manifest.close()


def asked(sim: Simulator) -> list[tuple[int, int]]:
    """(time, status) of every REST request that the simulator has answered so far."""
    lines = [json.loads(line) for line in sim.log.read_bytes().split(b"\n")[:-1]]
    return [(line[-1], line[-2]) for line in lines if line[0] == "http"]


def test_a_ban_is_kept_over_a_restart_by_every_market_of_its_pool(tmp_path: Path) -> None:
    for seconds in RETRY_AFTER:
        (tmp_path / str(seconds)).mkdir()
        if outlived := outlives(tmp_path / str(seconds), seconds):
            break
    assert outlived, f"no daemon was there again within {seconds} s"


def outlives(folder: Path, retry_after: int) -> bool:
    """Whether the second daemon was there before the ban ended; then nothing was asked for until it did."""
    lake, log, port = folder / "lake", folder / "daemon.log", free_port()
    options = ("--port", "0", "--seed", "5", "--symbols", "3", "--rate", "50", "--markets", "linear,inverse")
    with simulator(folder, *options) as sim:
        sim.fault("http_status", market="linear", status=418, retry_after=retry_after, count=1)
        sources = [
            sim.source("linear", ["BTCUSDT", "ETHUSDT"], ["trade", "book_delta"]),
            sim.source("inverse", ["BTCUSD_PERP"], ["trade", "book_delta"]),
        ]
        config = write_config(folder / "config.yml", lake, sources, port)
        first = Daemon(config, log)
        first.wait_until_ready(port)
        (ban,) = wait_for("the ban in the manifest", lambda: bans(lake))
        known = json.loads(get(f"{sim.address['control']}/state")[1])["now"]  # what came before it is answered
        first.kill()
        assert (ban.exchange, ban.status, ban.pool) == ("binance", 418, "binance-futures")
        assert ban.until - ban.at == retry_after * SECOND * 11 // 10
        second = Daemon(config, log)
        second.wait_until_ready(port)
        markets = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
        if time.time_ns() // 1000 >= ban.until:
            assert second.stop() == 0
            return False
        assert markets.keys() == {"binance/linear", "binance/inverse"}
        assert all(0 < report["rest"]["silent_seconds"] <= 1.1 * retry_after for report in markets.values())
        wait_for("a request after the ban", lambda: [at for at, code in asked(sim) if code == 200 and at > ban.until])
        assert "to an earlier run: no request for" in second.said()
        assert second.stop() == 0
        times = asked(sim)
    assert 418 in [code for _, code in times]
    assert [at for at, _ in times if known < at < ban.until - SECOND // 10] == []
    assert bans(lake) == [ban]
    return True
