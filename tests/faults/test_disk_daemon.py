"""F09 with everything real: `python -m daemon` and a simulator, and the lake on a small disk that fills up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import narrow
from tests.support.commands import run
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

THIS = "tests.faults.test_disk_daemon"
DISK = {"low_percent": 0, "low_mb": 16, "critical_mb": 8, "full_mb": 2, "ballast_mb": 2, "check_seconds": 0.2}


def filling_up(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    outside = folder.parent
    with simulator(outside, "--symbols", "BTCUSDT,ETHUSDT", "--markets", "spot", "--rate", "100") as venue:
        port = free_port()
        source = venue.source("spot", ["BTCUSDT", "ETHUSDT"], ["trade", "quote"])
        config = write_config(outside / "config.yml", folder / "lake", [source], port, disk=DISK)
        daemon = Daemon(config, _touched(outside / "daemon.log"))
        url = f"http://127.0.0.1:{port}"

        def space() -> dict[str, Any]:
            status, body = get(f"{url}/status")
            return json.loads(body)["services"]["space"]["report"] if status == 200 else {}

        def seen(level: str) -> Any:
            return (report := space()).get("level") == level and report

        try:
            daemon.wait_until_ready(port)
            found["before"] = seen("ok")
            half = narrow.fill(folder, leave=5 << 20)
            found["critical"] = wait_for("critical", lambda: seen("critical"))
            found["ready_critical"] = get(f"{url}/ready")[0]
            filler = narrow.fill(folder, leave=300_000, name="rest")
            found["full"] = wait_for("full", lambda: seen("full"))

            def refused() -> Any:
                code, body = get(f"{url}/ready")
                return code == 503 and "collectors" in json.loads(body)["waiting"] and (code, body)

            code, body = wait_for("not ready, nor the collectors", refused)
            found["ready_full"], found["waiting"] = code, json.loads(body)["waiting"]
            metrics = get(f"{url}/metrics")[1].decode()
            found["metrics"] = [
                line for line in metrics.splitlines() if line.startswith(("lake_disk_level ", "lake_storage_outage{"))
            ]
            filler.unlink()
            half.unlink()
            wait_for("ready again", lambda: get(f"{url}/ready")[0] == 200)
            found["after"] = wait_for("ok", lambda: seen("ok"))
        finally:
            found["exit"] = daemon.stop()
            found["said"] = daemon.said()[-3000:]
    verified = run("-m", "cli", "verify", "--lake", folder / "lake", "--json")
    found["verify"] = [verified.returncode, verified.stdout[-2000:]]
    listed = json.loads(run("-m", "cli", "gaps", "--lake", folder / "lake", "--json").stdout)
    found["causes"] = [gap["cause"] for gap in listed]
    return found


def _touched(path: Path) -> Path:
    path.touch()
    return path


def test_f09_a_real_daemon_meets_a_disk_that_fills_up_in_steps_and_comes_back(place: Path) -> None:
    narrow.need_namespaces()
    found = narrow.run(f"{THIS}:filling_up", place / "small", disk="64m", seconds=200)
    assert found["before"]["ballast_bytes"] == 2 << 20
    assert "quote" in found["critical"]["stopped_kinds"] or "book_delta" in found["critical"]["stopped_kinds"]
    assert found["ready_critical"] == 200
    assert found["full"]["ballast_bytes"] == 0
    assert (found["ready_full"], found["waiting"]["space"]) == (503, "disk_full")
    assert found["waiting"]["collectors"] == "disk_full"
    assert "lake_disk_level 3.0" in found["metrics"]
    assert found["after"]["outage"] is None
    assert found["after"]["stopped_kinds"] == []
    assert found["after"]["ballast_bytes"] == 2 << 20
    assert found["exit"] == 0, found["said"]
    assert found["verify"][0] == 0, found["verify"]
    assert "disk_full" in found["causes"], found["causes"]
