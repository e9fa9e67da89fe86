"""One question, asked five ways: `Lake`, SQL, `dl read`, REST and the client; each gives the rows as JSON values."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from api.config import ServeConfig
from api.formats import plain_rows
from api.serving import server_of
from api.state import Served
from cli.app import app
from client import DatalakeClient
from lake import Lake
from market import times
from runtime.clock import SystemClock
from tests.support import commands
from tests.support.leash import watched

Rows = list[dict[str, Any]]


class Ways:
    """Five ways to the trades of a lake that is served at `address`, and `dl` as a process of its own beside."""

    def __init__(self, root: Path, address: str) -> None:
        self.root = root
        self.lake = Lake(root)
        self.client = DatalakeClient(address)
        self.server = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        self.runner, self.command = CliRunner(), get_command(app)  # typer makes the latter at each call: 80 ms
        self.each: dict[str, Callable[[int, int], Rows]] = {
            "Lake": self.by_lake, "SQL": self.by_sql, "CLI": self.by_cli, "REST": self.by_rest,
            "client": self.by_client,
        }  # fmt: skip

    def close(self) -> None:
        self.server.close()
        self.client.close()
        self.lake.close()

    def by_lake(self, start: int, end: int) -> Rows:
        return in_text(self.lake.read("trade", symbol="BTCUSDT", start=start, end=end))

    def by_sql(self, start: int, end: int) -> Rows:
        when = f"ts_event >= us({start}) AND ts_event < us({end})"
        query = f"SELECT * FROM trade WHERE symbol = 'BTCUSDT' AND {when} ORDER BY ts_event, seq"
        return in_text(self.lake.sql(query))

    def by_cli(self, start: int, end: int) -> Rows:
        """The command in this process, from its arguments to its output."""
        with self.runner.isolation() as (out, *others):
            with pytest.raises(SystemExit) as ended:
                self.command.main(args=self._command(start, end), prog_name="dl")
            said = out.getvalue()
        assert ended.value.code == 0, [said, *(other.getvalue() for other in others)]
        return [json.loads(line) for line in said.splitlines()]

    def by_dl(self, start: int, end: int) -> Rows:
        """The same as a process."""
        return [json.loads(line) for line in commands.dl(*self._command(start, end)).stdout.splitlines()]

    def by_rest(self, start: int, end: int) -> Rows:
        query = urlencode({"symbol": "BTCUSDT", "start": start, "end": end, "limit": 100_000})
        self.server.request("GET", f"/api/v1/read/trade?{query}")
        answer = self.server.getresponse()
        body = answer.read()
        self.server.close()  # one that is kept ends after half a minute without a question
        assert answer.status == 200, body
        rows: Rows = json.loads(body)["rows"]
        return rows

    def by_client(self, start: int, end: int) -> Rows:
        return in_text(self.client.read("trade", symbol="BTCUSDT", start=start, end=end))

    def _command(self, start: int, end: int) -> list[str]:
        span = ["--start", times.text(start), "--end", times.text(end)]
        return ["read", "trade", "--symbol", "BTCUSDT", *span, "--json", "--limit", "0", "--lake", str(self.root)]


def in_text(table: pa.Table) -> Rows:
    """Rows of a table as the ways that answer in JSON give them."""
    return plain_rows(table)


@contextmanager
def served(root: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`dl serve` as a process: its address, and the process."""
    command = [sys.executable, "-m", "cli", "serve", "--lake", str(root), "--port", "0", "--json", *options]
    with watched(subprocess.Popen(command, cwd=commands.ROOT, stdout=subprocess.PIPE, text=True)) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["serving"], process
        finally:
            process.terminate()


@contextmanager
def served_here(root: Path, config: ServeConfig | None = None, kernel: int | None = None) -> Iterator[str]:
    """A server in a thread of this process, which starts sooner: its address.

    `kernel`: bytes of an answer that the system keeps for a client that does not read; its own choice, of MBs, if None.
    """
    held = Served(root, config or ServeConfig(), SystemClock())
    server = server_of(held)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if kernel is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
