"""F47 on real processes whose clocks run a hundred times as fast: hours and a midnight of the daemon in minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lake.manifest import Manifest
from tests.support.commands import dl_json, run
from tests.support.faults import FIGURE, FULL
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config
from tests.support.moved import FAKE, moved

SPEED = 100
SINCE = "2026-11-20 22:30:00"
"""What begins takes some of the time to midnight, at this speed."""
HOURS = 5.0 if FULL else 2.5
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
COLLECTED = {"spot": ["trade"], "linear": ["trade", "quote"]}
"""Not quotes of spot, which have no time of the venue: their estimate is off by what this machine stands still."""
PATIENT = {
    "connect_timeout_seconds": 120, "silent_socket_seconds": 1800, "silent_stream_seconds": 1800,
    "backoff_first_seconds": 30, "backoff_max_seconds": 300,
}  # fmt: skip
"""Seconds of the fast clock, a hundredth of which the machine may take: it is as quick as before."""
PATIENCE = 300.0
"""Seconds for its end, on a machine so busy that the fast clock has run out long before."""
NEVER = ("unknown", "changed", "twice", "unexplained_loss", "wrong_ids", "never_stored")
"""What not even a machine that stands still for a moment, which is a minute of that clock, is a reason for."""
wrapped = pytest.mark.skipif(shutil.which("faketime") is None, reason="the program faketime is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), moved, wrapped]


@contextmanager
def fast(patch: pytest.MonkeyPatch, since: str) -> Iterator[None]:
    """Whatever is started meanwhile lives at one clock, `SPEED` times as fast, which was at `since` when this began."""
    command = ["faketime", "-m", "-f", f"@{since} x{SPEED}", "sh", "-c", "echo $FAKETIME_SHARED; exec cat"]
    environment = os.environ | {"TZ": "UTC", "FAKETIME_DONT_RESET": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as holder, patch.context() as within:  # fmt: skip
        assert holder.stdout is not None
        shared = holder.stdout.readline().strip()
        assert shared, "faketime shares no clock"
        within.setenv("TZ", "UTC")
        within.setenv("LD_PRELOAD", str(FAKE))
        within.setenv("FAKETIME_SHARED", shared)
        within.setenv("FAKETIME_DONT_RESET", "1")
        within.setenv("FAKETIME", f"@{since} x{SPEED}")
        yield
        assert holder.stdin is not None
        holder.stdin.close()


def test_f47_a_real_daemon_lives_through_hours_and_a_midnight_at_a_hundred_times_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    lake, port = tmp_path / "lake", free_port()
    with (
        fast(monkeypatch, SINCE),
        simulator(tmp_path, "--symbols", ",".join(SYMBOLS), "--rate", "4") as exchange,
    ):
        sources = [exchange.source(market, SYMBOLS, kinds) for market, kinds in COLLECTED.items()]
        config = write_config(
            tmp_path / "config.json", lake, sources, port, shutdown_seconds=600, repair={"enabled": False},
            collectors={"node": "test", "sources": sources, "connections": PATIENT},
        )  # fmt: skip
        daemon = Daemon(config, tmp_path / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            began = time.monotonic()
            while time.monotonic() - began < HOURS * 3600 / SPEED:
                time.sleep(0.5)
                assert daemon.process.poll() is None, daemon.said()[-4000:]
            wait_for("the day to be closed", lambda: "day" in levels(lake))
            lived = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["uptime_seconds"]
        finally:
            code = daemon.stop(PATIENCE)
        assert code == 0, daemon.said()[-4000:]
        exchange.stop()
    assert lived > 0.95 * HOURS * 3600, "the daemon's own clock was no faster"
    dl_json("transform", "--lake", lake)
    judged = run("scripts/truth.py", lake, "--truth", tmp_path / "truth.jsonl", "--json")
    found = json.loads(judged.stdout)["binance"]
    assert [one for one in found["findings"] if one["rule"] in NEVER] == []
    assert found["stored"] > HOURS * 360, "it hardly collected"
    verdict = dl_json("verify", "--frames", "--lake", lake)
    assert verdict["ok"], verdict["findings"]
    record_property(FIGURE + "hours of a real daemon at 100 times the speed", (round(lived / 3600, 1), "hours"))


def levels(lake: Path) -> set[str]:
    """The levels of the files of the first day."""
    manifest = Manifest.read_only(lake)
    try:
        return {row.level for row in manifest.files(date_to="2026-11-20")}
    finally:
        manifest.close()
