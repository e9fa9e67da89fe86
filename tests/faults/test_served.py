"""F57: many heavy questions over HTTP, readers that stop reading, processes of queries that are killed.

What is answered is whole, the rest is refused in words, and collection notices nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from api import tokens
from api.config import ServeConfig
from market.times import SECOND
from scripts import soak_processes as measured
from tests.support.commands import dl_json
from tests.support.five_ways import served_here
from tests.support.lakes import TestLake
from tests.support.live import PATIENCE, collecting, free_port, get, simulator, wait_for, write_config
from tests.support.market_rows import T0, trade

ASKING = 50
"""At the same time."""
ROWS = 3_000
HUGE = "symbol=BTCUSDT&start=1970-01-02&end=2099-01-01"
"""Every day there is, and many more."""
HEAVY = (f"/api/v1/read/trade?{HUGE}&limit=100000", f"/api/v1/read/trade?{HUGE}&format=csv",
         f"/api/v1/read/trade?{HUGE}&format=jsonl")  # fmt: skip
CUT = 0
LAG = 0.25
"""Seconds by which the collecting loop may be late, p99."""


def made(root: Path, rows: int = ROWS) -> Path:
    lake = TestLake(root)
    lake.day("trade", [trade(T0 + n * SECOND, f"{100 + n % 7}.5", "0.5", n + 1) for n in range(rows)])
    lake.close()
    return root


class Asked:
    """What came of many questions."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: list[Any] = []

    def ask(self, address: str, path: str, rows: int) -> None:
        """One question; an answer of rows is whole, a refusal says why."""
        server = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
        try:
            server.request("GET", path)
            answer = server.getresponse()
            body = answer.read()
        except (OSError, ValueError, http.client.HTTPException):
            self.statuses[CUT] += 1  # it took too long, and ended so that nobody takes it for whole
            return
        finally:
            server.close()
        self.statuses[answer.status] += 1
        if answer.status == 200:
            got = seqs(path, body)
            if got != list(range(1, rows + 1)):
                self.wrong.append((path, len(got), got[:3], got[-3:]))
        elif answer.status not in (429, 503) or "detail" not in json.loads(body):
            self.wrong.append((path, answer.status, body[:200]))
        elif answer.status == 429 and answer.getheader("Retry-After") is None:
            self.wrong.append((path, "does not say when to come again"))


def seqs(path: str, body: bytes) -> list[int]:
    """The ids of the trades of an answer."""
    if "format=csv" in path:
        names, *lines = body.decode().splitlines()
        place = names.split(",").index("seq")
        return [int(line.split(",")[place]) for line in lines]
    if "format=jsonl" in path:
        return [json.loads(line)["seq"] for line in body.splitlines()]
    return [row["seq"] for row in json.loads(body)["rows"]]


def deaf(address: str, path: str) -> socket.socket:
    """Somebody who asks, and does not read the answer."""
    host, port = address.removeprefix("http://").split(":")
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    held.connect((host, int(port)))
    held.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return held


def test_f57_fifty_heavy_questions_at_once_are_answered_whole_or_told_to_come_again(place: Path) -> None:
    root, asked = made(place / "lake"), Asked()
    with served_here(root) as address, ThreadPoolExecutor(ASKING) as pool:
        together = threading.Barrier(ASKING)

        def ask(n: int) -> None:
            together.wait(60)
            asked.ask(address, HEAVY[n % len(HEAVY)], ROWS)

        done = [pool.submit(ask, n) for n in range(ASKING)]
        health = [get(f"{address}/health")]
        while not all(one.done() for one in done):
            health.append(get(f"{address}/health"))
        for one in done:
            one.result()
        assert set(health) == {(200, b'{"status":"ok"}')}
        assert asked.wrong == []
        assert set(asked.statuses) == {200, 429}, "some were answered, and there were too many"
        asked.ask(address, HEAVY[0], ROWS)
        assert asked.wrong == []
    assert asked.statuses[200] >= 2


def test_f57_readers_that_stop_reading_lose_their_place_in_the_end(place: Path) -> None:
    root = made(place / "lake")
    silent: list[socket.socket] = []
    with served_here(root, ServeConfig(reads_at_once=2, answer_seconds=1)) as address:

        def asked() -> int:
            return get(f"{address}/api/v1/read/trade?{HUGE}&limit=10")[0]  # short: a second is enough on any machine

        def refused() -> bool:
            silent.extend(deaf(address, HEAVY[2]) for _ in range(2))  # again: a place is held for a second only
            return asked() == 429

        try:
            wait_for("both places taken", refused)
            wait_for("a place again", lambda: asked() == 200)
        finally:
            for one in silent:
                one.close()


def cut(client: socket.socket) -> bool:
    """Whether the other side gave a connection up: what is there to be read is not looked at."""
    look = select.poll()
    look.register(client, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in look.poll(0))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no poll")
def test_f57_readers_that_stop_reading_lose_their_sockets_too(place: Path) -> None:
    """An answer in pieces, and one that was written whole before anybody saw that it is not read."""
    root = made(place / "lake")
    with served_here(root, ServeConfig(answer_seconds=1), kernel=4096) as address:
        silent = [deaf(address, path) for path in (HEAVY[1], "/openapi.json")]
        try:
            for one in silent:
                wait_for("the end of a connection", lambda one=one: cut(one))
            assert get(f"{address}/health")[0] == 200
        finally:
            for one in silent:
                one.close()


# --- the same of real processes: a daemon that collects, its own server, and everybody asking ---

ALONE, SECONDS = 8.0, 20.0
"""Without readers, which says how busy the machine is with others; and with them."""
RATE = 1_000
BOMB = {"query": "SELECT count(*) FROM range(100000000) a, range(100000) b"}


class Hammer:
    """Threads that ask all the time, each the next of the heavy questions."""

    def __init__(self, address: str, token: str) -> None:
        self.address, self.asked, self.told = address, Asked(), Counter[str]()
        self._token = token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(ASKING)]
        self._threads += [threading.Thread(target=self._sql) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, n: int) -> None:
        while not self._stop.is_set():
            self.asked.ask(self.address, HEAVY[n % len(HEAVY)], ROWS)
            n += 1
            self._stop.wait(0.05)

    def _sql(self) -> None:
        """A query that would never end; what is said of each."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        while not self._stop.is_set():
            request = urllib.request.Request(f"{self.address}/api/v1/sql", json.dumps(BOMB).encode(), headers)
            try:
                urllib.request.urlopen(request, timeout=120).close()
                self.told["answered"] += 1
            except urllib.error.HTTPError as error:
                self.told[f"{error.code} {json.loads(error.read())['error']}"] += 1
                self._stop.wait(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.timeout(600)
def test_f57_collection_and_health_go_on_beside_fifty_heavy_readers_and_killed_queries(place: Path) -> None:
    root = made(place / "lake")
    token = tokens.make(root, "f57", "read", 0)
    port, symbols = free_port(), [f"SYM{n}USDT" for n in range(8)]
    serve = {"enabled": True, "port": 0, "sql": True, "answer_seconds": 60}
    with simulator(place, "--symbols", ",".join(symbols), "--markets", "spot", "--rate", str(RATE)) as venue:
        source = venue.source("spot", symbols, ["trade", "quote"])
        config = write_config(place / "config.yml", root, [source], port, serve=serve)
        with collecting(config, port) as daemon:
            told = Told(f"http://127.0.0.1:{port}")
            server, address = told.served()
            alone = told.metrics()
            time.sleep(ALONE)
            before, began, killed = told.metrics(), time.monotonic(), 0
            with contextlib.ExitStack() as asking:
                hammer = asking.enter_context(Hammer(address, token))
                for _ in range(2):
                    asking.enter_context(deaf(address, HEAVY[2]))
                while time.monotonic() - began < SECONDS:
                    answers = [get(f"{address}/health", PATIENCE), get(f"{told.url}/health", PATIENCE)]
                    assert [status for status, _ in answers] == [200, 200]
                    killed += kill_a_query(server)
                    time.sleep(0.2)
            after, took = told.metrics(), time.monotonic() - began
            wait_for("its sockets to be closed", lambda: len(server.net_connections("tcp")) == 1)
            server.kill()  # by itself it would not end; the daemon starts it again
            again, address = told.served(but=server.pid)
            hammer.asked.ask(address, HEAVY[0], ROWS)
            assert again.pid != server.pid
            assert daemon.process.poll() is None
    assert hammer.asked.wrong == []
    assert hammer.asked.statuses[200] > 1
    assert hammer.asked.statuses[429] > 0, "there were never too many"
    assert killed > 0
    assert "answered" not in hammer.told
    assert sum(hammer.told.values()) > 0
    assert set(hammer.told) <= {"400 TooMuch", "429 TooMuch", "429 Busy", "503 TooMuch", "503 TooSlow"}, hammer.told
    assert lag(before, after) <= max(LAG, 2 * lag(alone, before)), "later than 250 ms, and than without readers"
    name = "lake_received_events_total"
    assert measured.total(after, name) - measured.total(before, name) > 0.5 * RATE * took, "it goes on collecting"
    assert measured.total(after, "lake_shed_events_total") == 0
    assert [gap for gap in dl_json("gaps", "--lake", root) if gap["cause"] != "shutdown"] == []


def lag(before: str, after: str) -> float:
    """By how many seconds the daemon's loop was late between two looks at its metrics, p99."""
    found = measured.quantile(measured.delays(before), measured.delays(after), 0.99)
    assert found is not None, "beyond every bound"
    return found


class Told:
    """What a daemon tells of itself."""

    def __init__(self, url: str) -> None:
        self.url = url

    def metrics(self) -> str:
        return get(f"{self.url}/metrics", PATIENCE)[1].decode()

    def served(self, but: int = 0) -> Any:
        """The process of its server, which is not `but`, and the address."""

        def found() -> Any:
            status, body = get(f"{self.url}/status", PATIENCE)
            report = json.loads(body)["services"]["serve"]["report"] if status == 200 else {"address": None}
            if report["address"] is None or report["pid"] == but or get(f"{report['address']}/health")[0] != 200:
                return None
            return psutil.Process(report["pid"]), report["address"]

        return wait_for("the server", found, 4 * PATIENCE)


def kill_a_query(server: psutil.Process) -> int:
    """SIGKILL to a process that answers a query in SQL; whether there was one that worked on it."""
    for child in server.children():
        try:
            if child.cpu_times().user > 0.7:  # beyond its start
                child.kill()
                return 1
        except psutil.NoSuchProcess:
            continue
    return 0
