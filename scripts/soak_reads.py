"""Readers of a soak: `dl serve` on the lake that is being written, and a process whose threads ask it for all of it.

    python scripts/soak_reads.py http://127.0.0.1:8572 --threads 8     until stdin is closed; then what came, as JSON

Each thread asks for everything there is of trades, quotes and bars, one format after the other, without a pause; who is
told to come again (429) does so after a tenth of a second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import soak_processes as processes

HEAVY = ("/api/v1/read/trade?format=arrow", "/api/v1/read/quote?format=csv", "/api/v1/read/bar_1s?format=jsonl",
         "/api/v1/read/trade?limit=100000", "/api/v1/bars?interval=1m&format=parquet", "/api/v1/datasets")  # fmt: skip
AGAIN = 0.1
PIECE = 1 << 20


class Readers:
    """Both processes; end them with `stop`."""

    def __init__(self, config: Path, threads: int) -> None:
        pipe, where = subprocess.PIPE, {"cwd": processes.ROOT, "env": processes.environment()}
        serve = [sys.executable, "-m", "cli", "serve", "--config", str(config), "--port", "0", "--json"]
        self.server = subprocess.Popen(serve, stdout=pipe, text=True, **where)  # type: ignore[call-overload]
        assert self.server.stdout is not None
        address = json.loads(self.server.stdout.readline())["serving"]
        self.used = processes.Usage(self.server.pid)
        self._before = self.used.cpu()
        ask = [sys.executable, __file__, address, "--threads", str(threads)]
        self._asking = subprocess.Popen(ask, stdin=pipe, stdout=pipe, text=True, **where)  # type: ignore[call-overload]

    def stop(self, seconds: float) -> dict[str, Any]:
        """What came in so many seconds."""
        used = self.used.cpu() - self._before
        told: dict[str, Any] = json.loads(self._asking.communicate(timeout=processes.PATIENCE)[0])
        alive = self.server.poll() is None
        self.server.terminate()
        self.server.communicate(timeout=processes.PATIENCE)
        return told | {
            "served_all_the_time": alive, "server_cores": round(used / seconds, 3),
            "server_rss_mb": round(self.used.rss_mb, 1),
        }  # fmt: skip


class Asking:
    """Threads that ask, and what they were answered."""

    def __init__(self, address: str) -> None:
        self.address = address.removeprefix("http://")
        self.statuses: Counter[int] = Counter()
        self.bytes = 0
        self.took: list[float] = []
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def ask(self, first: int) -> None:
        """Question after question."""
        turn = first
        while not self.stop.is_set():
            began = time.monotonic()
            status, count = self._one(HEAVY[turn % len(HEAVY)])
            turn += 1
            with self._lock:
                self.statuses[status] += 1
                self.bytes += count
                if status == 200:
                    self.took.append(time.monotonic() - began)
            if status != 200:
                self.stop.wait(AGAIN)

    def _one(self, path: str) -> tuple[int, int]:
        """Status (0: broken off) and bytes of an answer."""
        server = http.client.HTTPConnection(self.address, timeout=processes.PATIENCE)
        count = 0
        try:
            server.request("GET", path)
            answer = server.getresponse()
            while piece := answer.read(PIECE):
                count += len(piece)
        except (OSError, http.client.HTTPException):
            return 0, count
        finally:
            server.close()
        return answer.status, count

    def told(self) -> dict[str, Any]:
        return {
            "answers": self.statuses[200], "told_to_come_again": self.statuses[429],
            "failed": sum(self.statuses.values()) - self.statuses[200] - self.statuses[429],
            "mb": round(self.bytes / 1e6, 1),
            "longest_answer_seconds": round(max(self.took, default=0.0), 2),
        }  # fmt: skip


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("soak_reads.py", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("address")
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    asking = Asking(options.address)
    threads = [threading.Thread(target=asking.ask, args=(n,)) for n in range(options.threads)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    asking.stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(asking.told()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
