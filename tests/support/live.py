"""A real daemon against a real simulator, each in its own process, as the system tests use them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simulator.truth import Truth, load
from tests.support.commands import ROOT
from tests.support.leash import watched

PATIENCE = 240.0
"""Seconds that a machine under load may take for what is instant on an idle one: little less than a test has."""


def plain_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what only tests need (asyncio's debug mode makes a daemon slow)."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    return kept | dict(extra or {})


def get(url: str, timeout: float = PATIENCE) -> tuple[int, bytes]:
    """Status and body; 0 where nobody answers, which whoever is busy does late, or not to the end."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


def wait_for(what: str, reached: Any, seconds: float = PATIENCE) -> Any:
    """Poll until `reached()` is true; its value is returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = reached()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


def told(*given: str) -> list[str]:
    """Options of the simulator, of those that take one value the last: what a test says goes before what is usual."""
    pieces: list[list[str]] = []
    for word in given:
        if word.startswith("--"):
            pieces.append([])
        pieces[-1].append(word)
    names = [piece[0].partition("=")[0] for piece in pieces]
    often = {"--symbols", "--markets", "--fault"}
    kept = (one for place, one in enumerate(pieces) if names[place] in often or names[place] not in names[place + 1 :])
    return [word for piece in kept for word in piece]


class Simulator:
    """A running simulator of one venue; `address` is what it printed of it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / "truth.jsonl"
        options = options if "--venue" in options else ("--venue", "binance", *options)
        self.venue = options[options.index("--venue") + 1]
        self.process = watched(subprocess.Popen(
            [sys.executable, "-m", "simulator", *told("--log", str(self.log), *options)],
            cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=plain_environment(),
        ))  # fmt: skip
        assert self.process.stdout is not None
        self.address: dict[str, Any] = json.loads(self.process.stdout.readline())["venues"][self.venue]

    def fault(self, name: str, **fields: Any) -> None:
        """Ask for a fault."""
        body = json.dumps({"fault": name, **fields}).encode()
        request = urllib.request.Request(
            f"{self.address['control']}/faults", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert answer.status == 200, answer.read()

    def stop(self) -> Truth:
        """End it and read its ground truth."""
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        return load(self.log)

    def source(self, market_type: str, symbols: list[str], kinds: list[str]) -> dict[str, Any]:
        """A source of the configuration that collects from here."""
        ws = self.address["ws"][market_type]
        return {
            "exchange": self.venue, "market_type": market_type, "symbols": symbols, "kinds": kinds,
            "endpoint": {"rest": self.address["rest"][market_type], "ws": ws},
        }  # fmt: skip


@contextmanager
def simulator(folder: Path, *options: str) -> Iterator[Simulator]:
    """A simulator that ends with the block."""
    running = Simulator(folder, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


class Daemon:
    """A running daemon; `config` is a JSON document, which is YAML too."""

    def __init__(self, config: Path, log: Path, *options: str) -> None:
        self.port = 0
        self._log = log.open("ab")
        self._seen = log.stat().st_size
        self.log = log
        self.process = watched(subprocess.Popen(
            [sys.executable, "-m", "daemon", "--config", str(config), *options],
            cwd=ROOT, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL, env=plain_environment(),
        ))  # fmt: skip

    def said(self) -> str:
        """What it has printed since it was started."""
        return self.log.read_bytes()[self._seen :].decode(errors="replace")

    def wait_until_ready(self, port: int) -> None:
        """Return when /ready says so; what it has printed is in the error otherwise."""

        def ready() -> bool:
            assert self.process.poll() is None, f"the daemon ended:\n{self.said()}"
            return get(f"http://127.0.0.1:{port}/ready")[0] == 200

        try:
            wait_for("the daemon to be ready", ready)
        except AssertionError as error:
            status = get(f"http://127.0.0.1:{port}/ready")
            self.kill()
            raise AssertionError(f"{error}: /ready says {status}, the daemon said:\n{self.said()[-6000:]}") from None

    def kill(self) -> None:
        """SIGKILL to it and to the workers it leaves behind."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()

    def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=patience)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._log.close()


@contextmanager
def collecting(config: Path, port: int) -> Iterator[Daemon]:
    """A daemon that is ready, stopped when the block ends; it has ended well."""
    daemon = Daemon(config, config.with_name("daemon.log"))
    try:
        daemon.wait_until_ready(port)
        yield daemon
    finally:
        code = daemon.stop()
    assert code == 0, daemon.log.read_text()[-4000:]


def write_config(path: Path, lake: Path, sources: list[dict[str, Any]], port: int, **sections: Any) -> Path:
    """A configuration for tests: short seals, loopback, no log files; what is missing stays so, for they look at it."""
    document = {
        "lake": str(lake),
        "shutdown_seconds": 120,
        "http": {"port": port},
        "logs": {"file": False},
        "disk": {"low_percent": 0, "ballast_mb": 1},
        "safe_mode": {"failed_starts": 0},
        "repair": {"enabled": False},
        "collectors": {
            "node": "test", "sources": sources, "writing": {"seal_seconds": 5},
            "connections": {"backoff_first_seconds": 0.2, "backoff_max_seconds": 1},
        },
        **sections,
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=1))
    return path


def lines(lake: Path, kind: str = "*") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(market, kind, event) of every whole line that is on disk, sealed or not, as one looks while a daemon writes."""
    for path in lake.glob(f"raw/exchange=*/market_type=*/data_type={kind}/**/*"):
        if not path.name.endswith((".jsonl", ".jsonl.open")):
            continue  # a folder, a seal, or what becomes one
        market, told = (part.partition("=")[2] for part in path.relative_to(lake).parts[2:4])
        with contextlib.suppress(FileNotFoundError):  # sealed meanwhile: it has another name
            for line in path.read_bytes().split(b"\n")[:-1]:
                yield market, told, json.loads(line)


def free_port() -> int:
    """A port that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
