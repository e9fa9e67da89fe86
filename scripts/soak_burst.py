"""F44: 60,000 frames a second for ten seconds, or another load, into one connection; part of `scripts/soak.py`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import soak_processes as processes

from lake import Lake
from lake.manifest import Manifest

QUEUE_MB = 64.0
"""What may wait of a burst."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured, and what breaks a promise."""
    frames = round(options.burst_rate * options.burst_seconds)
    load = processes.Exchange(
        [str(processes.ROOT / "scripts" / "blast.py"), "--frames", str(frames), "--pace", str(options.burst_rate),
         "--symbols", "20", "--mix", "tb", "--hold", "2"]
    )  # fmt: skip
    measured: dict[str, Any] = {"rate": options.burst_rate, "sent": frames}
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
    beats, begun, waiting, cpu = processes.delays(daemon.metrics()), 0.0, 0.0, 0.0
    lags: list[float] = []
    got, last = 0, time.monotonic()
    while True:
        metrics = daemon.metrics()
        used.look()
        waiting = max(waiting, processes.total(metrics, "lake_queue_bytes"))
        taken = int(processes.total(metrics, "lake_received_frames_total"))
        lags.append(processes.total(metrics, "lake_durable_lag_seconds"))
        if taken > got:
            cpu = cpu or used.cpu()
            begun, got, last = begun or time.monotonic(), taken, time.monotonic()
        if got >= frames or time.monotonic() - last > 15:
            break
        time.sleep(0.1)
    time.sleep(3)  # what waits is written, which is part of what it costs
    metrics = daemon.metrics()
    beaten = processes.delays(metrics)
    return {
        "frames": got,
        "seconds": round(last - begun, 1),
        "received": int(processes.total(metrics, "lake_received_events_total")),
        "shed": int(processes.total(metrics, "lake_shed_events_total")),
        "rss_mb": round(used.rss_mb, 1),
        "queue_mb": round(waiting / 1e6, 2),
        "cores": round((used.cpu() - cpu) / max(last - begun, 1e-9), 3),
        "durable_lag_p99_seconds": round(sorted(lags)[int(0.99 * (len(lags) - 1))], 3),
        "loop_delay_p99_seconds": processes.quantile(beats, beaten, 0.99),
        "loop_delay_most_seconds": processes.quantile(beats, beaten, 1.0),
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
    if measured["queue_mb"] > QUEUE_MB:
        found.append(f"{measured['queue_mb']} MB waited in queues, promised {QUEUE_MB:g}")
    if measured["exit_code"]:
        found.append(f"the daemon ended with exit code {measured['exit_code']}")
    if measured["rss_mb"] > processes.RSS_MB:
        found.append(f"memory {measured['rss_mb']} MB, promised {processes.RSS_MB:g}")
    return found
