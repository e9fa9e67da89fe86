"""The two processes of a soak, simulator and daemon, and what is measured of them from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
TICKS = os.sysconf("SC_CLK_TCK")
RSS_MB = 350.0
"""What a daemon may take."""


def get(url: str) -> tuple[int, bytes]:
    """Status and body; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """Without asyncio's debug mode, which makes everything slow."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}


class Exchange:
    """A running simulator, or another script that prints its addresses as a JSON line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the simulator did not start (exit code {self.process.wait()})")
        self.address: dict[str, Any] = json.loads(line)

    def ask(self, venue: str, route: str, body: dict[str, Any]) -> None:
        """POST to a venue's control routes."""
        url = f"{self.address['venues'][venue]['control']}/{route}"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def stop(self) -> None:
        """Politely, then not."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


class Daemon:
    """A running daemon."""

    def __init__(self, config: Path, log: Path, port: int) -> None:
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "--config", str(config)],
                cwd=ROOT, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment(),
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Raises SystemExit with what it said."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            if get(f"{self.url}/ready")[0] == 200:
                return
            time.sleep(0.1)
        said = self.log.read_text(errors="replace")[-4000:]
        self.kill()
        raise SystemExit(f"the daemon is not ready:\n{said}")

    def metrics(self) -> str:
        """Its metrics, empty where it does not answer."""
        return get(f"{self.url}/metrics")[1].decode()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def write_config(
    folder: Path, sources: list[dict[str, Any]], port: int, *, short: bool, stop_seconds: float = 10.0
) -> Path:
    """The daemon's configuration; a JSON document is YAML too. A stop that takes longer than `stop_seconds` is broken
    off, and what is then not written is a gap of the next start only, which a soak has none of. What is missing stays
    missing: what streams alone make of it is compared.
    """
    collectors: dict[str, Any] = {"node": "soak", "sources": sources}
    if short:
        collectors["writing"] = {"seal_seconds": 5, "slow_seal_seconds": 10}
        collectors["connections"] = {
            "silent_socket_seconds": 4, "silent_stream_seconds": 5,
            "backoff_first_seconds": 0.2, "backoff_max_seconds": 2,
        }  # fmt: skip
    document = {
        "lake": str(folder / "lake"), "http": {"port": port}, "logs": {"file": False}, "collectors": collectors,
        "shutdown_seconds": stop_seconds, "repair": {"enabled": False},
    }  # fmt: skip
    path = folder / "config.json"
    path.write_text(json.dumps(document, indent=1))
    return path


def transform(config: Path) -> None:
    """What was sealed last, into tables."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "transform", "--config", str(config)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"dl transform failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def total(metrics: str, name: str, **labels: str) -> float:
    """Sum of a metric over its label sets that have `labels`."""
    found = 0.0
    for line in metrics.splitlines():
        if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            found += float(line.rsplit(" ", 1)[1])
    return found


def by_label(metrics: str, name: str, label: str) -> dict[str, float]:
    """A metric's sums by one label."""
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        if line.startswith(name + "{") and (match := re.search(rf'{label}="([^"]*)"', line)) is not None:
            found[match[1]] = found.get(match[1], 0.0) + float(line.rsplit(" ", 1)[1])
    return {name: value for name, value in found.items() if value}


def seconds(metrics: str, name: str) -> dict[float, float]:
    """Upper bound (s) -> how often the histogram `name` was at most that."""
    found = re.findall(rf'^{name}_bucket\{{le="([^"]+)"\}} (\S+)$', metrics, re.MULTILINE)
    return {float(bound): float(count) for bound, count in found}


def delays(metrics: str) -> dict[float, float]:
    """Upper bound (s) -> how often the loop was at most that late."""
    return seconds(metrics, "lake_loop_delay_seconds")


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float | None:
    """What `share` of those in between did not exceed, as the upper bound of its bucket."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    beats = max(counts.values(), default=0.0)
    return next((bound for bound, count in sorted(counts.items()) if count >= share * beats), None) if beats else None


class Usage:
    """Memory and CPU time of a process and of its children, from /proc."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.rss_mb = 0.0
        self.all_rss_mb = 0.0
        self.samples: list[float] = []

    def look(self) -> None:
        """Take one sample."""
        mine = _rss(self.pid)
        if not mine:
            return
        self.samples.append(mine)
        self.rss_mb = max(self.rss_mb, mine)
        self.all_rss_mb = max(self.all_rss_mb, mine + sum(map(_rss, _children(self.pid))))

    def tenths(self) -> list[float]:
        """Memory at the end of each tenth of the samples: whether it grows."""
        count = len(self.samples)
        return [self.samples[max(0, count * n // 10 - 1)] for n in range(1, 11)] if count else []

    def cpu(self) -> float:
        """Seconds so far, without children."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / TICKS


def _rss(pid: int) -> float:
    """Megabytes; 0 where it has ended."""
    try:
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
