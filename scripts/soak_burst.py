"""F44: 60,000 frames a second for ten seconds into one connection of a daemon; part of `scripts/soak.py`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import soak_processes as processes

from lake import Lake
from lake.manifest import Manifest

SECONDS = 10


def run(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured, and what breaks a promise."""
    frames = round(options.burst_rate * SECONDS)
    load = processes.Exchange(
        [str(processes.ROOT / "scripts" / "blast.py"), "--frames", str(frames), "--pace", str(options.burst_rate),
         "--symbols", "20", "--mix", "tb", "--hold", "2"]
    )  # fmt: skip
    measured: dict[str, Any] = {"sent": frames}
    try:
        sources = [
            {
                "exchange": "binance", "market_type": "spot", "symbols": load.address["symbols"],
                "kinds": ["trade", "quote"],
                "endpoint": {"rest": load.address["rest"], "ws": {"stream": load.address["ws"]}},
            }
        ]  # fmt: skip
        port = processes.free_port()
        config = processes.write_config(options.out, sources, port, short=False)
        daemon = processes.Daemon(config, options.out / "daemon.log", port)
        try:
            daemon.wait_until_ready()
            measured |= _take_in(daemon, frames)
            measured["exit_code"] = daemon.stop()
        finally:
            daemon.kill()
    finally:
        load.stop()
    processes.transform(config)
    return {"measured": measured, "violations": violations(options.out / "lake", measured, load.address)}


def _take_in(daemon: processes.Daemon, frames: int) -> dict[str, Any]:
    """Until all has come in, or nothing has for 15 seconds."""
    used = processes.Usage(daemon.process.pid)
    beats, begun, waiting = processes.delays(daemon.metrics()), 0.0, 0.0
    got, last = 0, time.monotonic()
    while True:
        metrics = daemon.metrics()
        used.look()
        waiting = max(waiting, processes.total(metrics, "lake_queue_bytes"))
        taken = int(processes.total(metrics, "lake_received_frames_total"))
        if taken > got:
            begun, got, last = begun or time.monotonic(), taken, time.monotonic()
        if got >= frames or time.monotonic() - last > 15:
            break
        time.sleep(0.1)
    time.sleep(3)
    metrics = daemon.metrics()
    return {
        "frames": got,
        "seconds": round(last - begun, 1),
        "received": int(processes.total(metrics, "lake_received_events_total")),
        "shed": int(processes.total(metrics, "lake_shed_events_total")),
        "rss_mb": round(used.rss_mb, 1),
        "queue_mb": round(waiting / 1e6, 2),
        "loop_delay_p99_seconds": processes.quantile(beats, processes.delays(metrics), 0.99),
    }


def violations(root: Path, measured: dict[str, Any], sent: dict[str, Any]) -> list[str]:
    """Trades are never shed; what was shed of quotes is counted and in gaps."""
    lake, manifest = Lake(root), Manifest.read_only(root)
    gaps = [gap for gap in manifest.gaps() if gap.state == "open"]
    manifest.close()
    measured["stored"] = {kind: lake.read(kind, columns=["symbol"]).num_rows for kind in ("trade", "quote")}
    measured["gaps"] = len(gaps)
    missing = {kind: sent[f"{kind}s"] - measured["stored"][kind] for kind in ("trade", "quote")}
    found = []
    if missing["trade"]:
        found.append(f"{missing['trade']} trades are not stored")
    if missing["quote"] != measured["shed"]:
        found.append(f"{missing['quote']} quotes are not stored, {measured['shed']} were counted as shed")
    if measured["shed"] and not gaps:
        found.append("quotes were shed, and no gap says so")
    if measured["exit_code"]:
        found.append(f"the daemon ended with exit code {measured['exit_code']}")
    if measured["rss_mb"] > processes.RSS_MB:
        found.append(f"memory {measured['rss_mb']} MB, promised {processes.RSS_MB:g}")
    return found
