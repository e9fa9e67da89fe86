"""A ban outlives the process: banned, killed, started again, and not one request before its end."""

from __future__ import annotations

import json
from pathlib import Path

from lake.manifest import Manifest
from lake.rows import BanRow
from market.times import SECOND
from tests.support.live import Daemon, Simulator, free_port, get, simulator, wait_for, write_config

RETRY_AFTER = 12
UNDER_WAY = SECOND // 2
"""Requests that were sent before the answer with the ban came."""


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
    lake, log, port = tmp_path / "lake", tmp_path / "daemon.log", free_port()
    options = ("--port", "0", "--seed", "5", "--symbols", "3", "--rate", "50", "--markets", "linear,inverse")
    with simulator(tmp_path, *options) as sim:
        sim.fault("http_status", market="linear", status=418, retry_after=RETRY_AFTER, count=1)
        sources = [
            sim.source("linear", ["BTCUSDT", "ETHUSDT"], ["trade", "book_delta"]),
            sim.source("inverse", ["BTCUSD_PERP"], ["trade", "book_delta"]),
        ]
        config = write_config(tmp_path / "config.yml", lake, sources, port)
        first = Daemon(config, log)
        first.wait_until_ready(port)
        (ban,) = wait_for("the ban in the manifest", lambda: bans(lake))
        first.kill()
        assert (ban.exchange, ban.status, ban.pool) == ("binance", 418, "binance-futures")
        assert ban.until - ban.at == RETRY_AFTER * SECOND * 11 // 10
        second = Daemon(config, log)
        second.wait_until_ready(port)
        status = json.loads(get(f"http://127.0.0.1:{port}/status")[1])
        markets = status["services"]["collectors"]
        assert all(0 < markets[name]["rest"]["silent_seconds"] < 14 for name in markets if name.startswith("binance"))
        wait_for("a request after the ban", lambda: [at for at, code in asked(sim) if code == 200 and at > ban.until])
        assert "to an earlier run: no request for" in second.said()
        assert second.stop() == 0
        times = asked(sim)
    banned_at = next(at for at, code in times if code == 418)
    assert [at for at, _ in times if banned_at + UNDER_WAY < at < ban.until - UNDER_WAY // 5] == []
    assert bans(lake) == [ban]
