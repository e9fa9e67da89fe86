"""F28, F29, F59, F60 and safe mode: processes that race, sleep, crash, stand still and fail to start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from collectors import exchanges
from lake.ledger import read_ledger
from lake.lock import read_lock
from lake.writer import LakeWriter
from market.times import MINUTE
from runtime.service import Fatal
from runtime.supervisor import Supervisor
from runtime.workers import InlineExecutor, Workers
from tests.collectors.test_connection import Bench, endings, ids
from tests.collectors.test_service import collect, service
from tests.support import life, toy
from tests.support.clock import ManualClock
from tests.support.commands import ROOT, dl, dl_json, run
from tests.support.faults import FULL, Lives
from tests.support.leash import watched
from tests.support.live import (
    PATIENCE,
    Daemon,
    free_port,
    get,
    lines,
    plain_environment,
    simulator,
    wait_for,
    write_config,
)
from tests.support.toy import T0, q, t
from tests.support.transport import HANG, ScriptedTransport
from transformer import service as transforming
from transformer.config import TransformerConfig
from transformer.plan import TransformJob
from transformer.run import TransformResult, run_transform
from transformer.service import transform_once

resource = pytest.importorskip("resource", reason="signals are sent as on POSIX")
pytestmark = [
    pytest.mark.timeout(3600 if FULL else 600),
    pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX"),
]
NOW = life.T0 + 5 * MINUTE
LOCKED = 73


# --- F28: many daemons, one lake ---

RACES = 100 if FULL else 5
QUICK = 2.0
"""Seconds of CPU: on a machine that is busy with other tests a clock would say nothing of the daemon."""


def starts_of(lake: Path) -> int:
    return sum(entry.type == "start" for entry in read_ledger(lake, lambda _: None))


def cpu_of_ended() -> float:
    """Seconds of CPU that children have taken which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def epoch_of(lake: Path) -> int:
    with sqlite3.connect(f"file:{lake / 'manifest.db'}?mode=ro", uri=True) as db:
        return int(db.execute("SELECT epoch FROM meta").fetchone()[0])


@pytest.mark.slow
def test_f28_of_two_daemons_that_start_together_exactly_one_runs(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    config = write_config(tmp_path / "config.json", lake, [], 0, http={"enabled": False})
    command = [sys.executable, "-m", "daemon", "--config", str(config)]
    LakeWriter.open(lake, "test", 1).close()
    epoch, starts, took = epoch_of(lake), starts_of(lake), []
    for race in range(1, RACES + 1):
        before = cpu_of_ended()
        both = [
            watched(
                subprocess.Popen(
                    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment()
                )
            )
            for _ in range(2)
        ]
        try:
            refused = wait_for("one of them to end", lambda both=both: [p for p in both if p.poll() is not None])
            took.append(cpu_of_ended() - before)
            (loser,) = refused
            (winner,) = (process for process in both if process is not loser)
            said = loser.communicate()[1].decode()
            assert loser.returncode == LOCKED, said
            assert f"is being written by process {winner.pid}" in said
            wait_for("the other to run", lambda: (held := read_lock(lake)) is not None and held.port)
            assert read_lock(lake).pid == winner.pid
            assert (epoch_of(lake), starts_of(lake)) == (epoch + race, starts + race), "who lost has touched nothing"
            winner.terminate()
            assert winner.wait(30) == 0, winner.communicate()[1].decode()[-3000:]
        finally:
            for process in both:
                process.kill()
                process.communicate()
    assert max(took) <= QUICK, took


# --- F29: a zombie ---


def stopped_between(daemon: Daemon, lake: Path) -> bool:
    """Stop it, unless it is in the middle of a transaction: nobody could take the lake from it then."""
    daemon.process.send_signal(signal.SIGSTOP)
    with contextlib.closing(sqlite3.connect(lake / "manifest.db", timeout=0.1)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            daemon.process.send_signal(signal.SIGCONT)
            return False
        db.rollback()
    return True


def test_f29_a_stopped_daemon_whose_lake_was_taken_writes_nothing_when_it_wakes_and_ends(tmp_path: Path) -> None:
    """Its lock is lost without its knowing, as on a shared disk whose server forgot it."""
    lake, ports = tmp_path / "lake", [free_port(), free_port()]
    with simulator(tmp_path, "--symbols", "BTCUSDT", "--rate", "300") as exchange:
        sources = [exchange.source("linear", ["BTCUSDT"], ["trade", "quote"])]
        # segments of an hour: what the first writes next belongs into those that the second has sealed meanwhile
        collectors = {"node": "test", "sources": sources, "writing": {"seal_seconds": 3600}}
        configs = [
            write_config(tmp_path / f"{port}.json", lake, sources, port, collectors=collectors) for port in ports
        ]
        first = Daemon(configs[0], tmp_path / "first.log")
        first.wait_until_ready(ports[0])
        wait_for("lines", lambda: any(lines(lake)))
        wait_for("a moment between two transactions", lambda: stopped_between(first, lake))
        (lake / ".lock").unlink()
        second = Daemon(configs[1], tmp_path / "second.log")
        try:
            second.wait_until_ready(ports[1])
            time.sleep(2.5)
            sealed = {p: p.read_bytes() for p in (*lake.glob("raw/**/*.jsonl"), *lake.glob("frames/**/*.zst"))}
            assert sealed, "the second has sealed what the first had open"
            epoch = epoch_of(lake)
            first.process.send_signal(signal.SIGCONT)
            code = first.process.wait(PATIENCE)
            assert (code, "another took it over" in first.said()) == (LOCKED, True), first.said()[-3000:]
            assert {path: path.read_bytes() for path in sealed} == sealed, "not a byte behind a seal"
            assert epoch_of(lake) == epoch
            assert read_lock(lake).pid == second.process.pid
            wait_for("the second to be ready", lambda: get(f"http://127.0.0.1:{ports[1]}/ready")[0] == 200)
        finally:
            first.kill()
            assert second.stop() == 0, second.said()[-3000:]
    dl("transform", "--lake", lake)
    verdict = dl_json("verify", "--lake", lake)
    assert verdict["ok"], verdict["findings"]


async def test_f29_the_first_pass_after_a_pause_asks_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but lines waits, so that no row is refused before they would be written."""
    monkeypatch.setattr(exchanges, "load", lambda _name: toy)
    clock, root = ManualClock(T0), tmp_path / "lake"
    steps: list[object] = []
    for n in range(1, 60):
        steps += [[t(n, n * 1000), q(n, n * 1000)], 1.0]
    sealed: dict[Path, bytes] = {}

    def taken() -> None:
        (root / ".lock").unlink()
        with LakeWriter.open(root, "second", clock.now()) as second:
            second.recover(clock.now())
        sealed.update((path, path.read_bytes()) for path in (*root.rglob("*.jsonl"), *root.rglob("*.zst")))
        clock.jump(10.0)

    with LakeWriter.open(root, "n", T0) as first:
        made = service(monkeypatch, first, clock, steps, seal_seconds=3600)

        async def act() -> None:
            await clock.sleep(5.2)
            taken()

        acting = asyncio.ensure_future(act())
        with pytest.raises(Fatal) as failed:
            await collect(made, clock, 40.0)
        await acting
    assert failed.value.exit_code == LOCKED
    held = {path: data for path, data in sealed.items() if "raw" in path.parts or "frames" in path.parts}
    assert len(held) >= 2, "the second has sealed what the first had open"
    assert {path: path.read_bytes() for path in held} == held, "not a byte behind a seal"


# --- F59: transform code that fails, and workers that crash ---


def states(lake: Path) -> dict[str, str]:
    with sqlite3.connect(f"file:{lake / 'manifest.db'}?mode=ro", uri=True) as db:
        return dict(db.execute("SELECT path, state FROM segments WHERE rows > 0 AND kind <> 'frames'"))


def test_f59_code_that_fails_on_one_record_parks_its_segment_and_nothing_else(
    lives: Lives, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = lives.before("transform", place / "lake")
    poisoned = min(path for path in states(root) if "data_type=trade" in path)

    def fails_on_one(folder: str, job: TransformJob) -> TransformResult:
        if any(row.path == poisoned for row in job.segments):
            raise ZeroDivisionError("this record")
        return run_transform(folder, job)

    monkeypatch.setattr(transforming, "run_transform", fails_on_one)
    with LakeWriter.open(root, life.NODE, NOW) as writer:
        done = [transform_once(writer, InlineExecutor(), NOW + n, TransformerConfig()) for n in range(6)]
        gaps = [gap for gap in writer.manifest.gaps(state="open") if gap.cause == "unreadable_segment"]
    found = states(root)
    assert found.pop(poisoned) == "quarantined"
    assert set(found.values()) == {"transformed"}
    assert sum(summary.parked for summary in done) == 1
    assert sum(summary.failed for summary in done) >= 2, "it was tried again"
    assert gaps, "its time is a gap of every symbol that it held"
    assert not list(root.rglob("*.tmp")), "what failed left nothing"


def test_f59_a_worker_that_crashes_is_replaced_and_its_job_done_again(
    lives: Lives, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSEGV in the middle of a file: once in each worker's life, which no job survives and every job outlives."""
    root = lives.before("transform", place / "lake")
    monkeypatch.setenv("LAKE_FAULT", "fsync:2:SEGV")  # this process has looked already: it strikes in workers only
    workers = Workers(1)
    died: list[int] = []
    monkeypatch.setattr("runtime.telemetry.worker_died", lambda *, job, attempt: died.append(attempt))
    try:
        with LakeWriter.open(root, life.NODE, NOW) as writer:
            for n in range(4):
                summary = transform_once(writer, workers, NOW + n, TransformerConfig())
    finally:
        workers.kill()
    assert died, "the fault struck"
    assert summary.parked == 0
    assert set(states(root).values()) == {"transformed"}
    assert not [path for path in root.rglob("*.parquet") if path.stat().st_size == 0]


POISON = """
import os, signal
import transformer.run as run
real = run.run_transform

def run_transform(root, job):
    if any(row.path == {path!r} for row in job.segments):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(root, job)

run_transform.__module__ = "transformer.run"
run.run_transform = run_transform
"""


@pytest.mark.slow
def test_f59_a_segment_that_crashes_every_worker_is_parked(
    lives: Lives, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = lives.before("transform", place / "lake")
    poisoned = min(path for path in states(root) if "data_type=trade" in path)
    (tmp_path / "sitecustomize.py").write_text(POISON.format(path=poisoned))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    workers = Workers(1)
    try:
        with LakeWriter.open(root, life.NODE, NOW) as writer:
            for n in range(20):
                transform_once(writer, workers, NOW + n, TransformerConfig(max_failures=1))
                if "sealed" not in states(root).values():
                    break
    finally:
        workers.kill()
    found = states(root)
    assert found.pop(poisoned) == "quarantined"
    assert set(found.values()) == {"transformed"}


# --- F60: tasks that end as nobody asked, and a loop that stands still ---


class Part:
    phase = 0

    def __init__(self, name: str, error: BaseException | None = None, times: int = 2) -> None:
        self.name = name
        self.runs = 0
        self._error = error
        self._times = times

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        if self._error is not None and self.runs <= self._times:
            raise self._error
        await stop.wait()


@pytest.mark.parametrize("error", [ZeroDivisionError("swallowed"), asyncio.CancelledError(), TimeoutError()])
async def test_f60_a_service_that_raises_or_is_cancelled_from_within_is_started_again(error: BaseException) -> None:
    clock, stop = ManualClock(), asyncio.Event()
    part, other = Part("fails", error), Part("other")
    supervisor = Supervisor([part, other], clock)

    async def scenario() -> int:
        running = asyncio.ensure_future(supervisor.run(stop))
        await clock.sleep(60)
        assert supervisor.states() == {"fails": "running", "other": "running"}
        stop.set()
        return await running

    assert await clock.run(scenario()) == 0
    assert (part.runs, other.runs) == (3, 1)
    assert supervisor.status()["fails"]["restarts"] == 2


async def test_f60_a_connection_s_task_that_is_cancelled_from_within_is_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench([[t(1, 0), q(1, 0)], HANG], [[t(2, 5), q(2, 5)], HANG])
    real, calls = ScriptedTransport.receive, []

    async def receive(transport: ScriptedTransport) -> Any:
        calls.append(transport)
        if len(calls) == 2:
            raise asyncio.CancelledError
        return await real(transport)

    monkeypatch.setattr(ScriptedTransport, "receive", receive)
    work = await bench.run(*[1.0] * 5)
    assert endings(work)[0] == "internal_error: cancelled from within"
    assert ids(work) == [1, 2]


BLOCKED = 10.0 if FULL else 3.0
STANDS_STILL = """
import asyncio, socket, sys, time
from daemon import wiring
from daemon.__main__ import main

class Part:
    name, phase = "still", 0

    async def run(self, stop):
        await asyncio.sleep(1.5)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect({manager!r})
            manager.send(b"STILL")
            time.sleep({seconds})
            manager.send(b"MOVES")
        await stop.wait()

async def build(*_):
    return wiring.Parts([Part()], {{}})

wiring.build = build
sys.exit(main(["--config", {config!r}]))
"""


def test_f60_while_the_loop_stands_still_the_watchdog_is_not_fed_and_afterwards_it_is_said(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.json", tmp_path / "lake", [], 0)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    script = STANDS_STILL.format(seconds=BLOCKED, manager=environment["NOTIFY_SOCKET"], config=str(config))
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(environment["NOTIFY_SOCKET"])
        manager.settimeout(60)
        process = watched(subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, env=plain_environment(environment), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
        try:
            while heard[-3:] != [b"WATCHDOG=1"] * 3 or b"MOVES" not in heard:
                heard.append(manager.recv(4096))
        finally:
            process.terminate()
            said = process.communicate(timeout=60)[0]
    assert heard[0] == b"READY=1\nSTATUS=collecting"
    assert heard[heard.index(b"STILL") + 1] == b"MOVES", "a manager that waits 0.6 s has ended it by then"
    assert set(heard[1:]) == {b"WATCHDOG=1", b"STILL", b"MOVES"}
    assert process.returncode == 0, said
    assert "loop_lag" in said
    assert "the event loop was blocked for" in said


# --- P29: safe mode ---


def ready(port: int) -> dict[str, Any]:
    return dict(json.loads(get(f"http://127.0.0.1:{port}/ready")[1]))


def status(port: int) -> dict[str, Any]:
    return dict(json.loads(get(f"http://127.0.0.1:{port}/status")[1]))


def market(report: dict[str, Any]) -> dict[str, Any]:
    return dict(report["services"]["collectors"]["report"]["binance/linear"])


@pytest.mark.slow
def test_p29_after_three_failed_starts_raw_data_are_collected_and_nothing_else(tmp_path: Path) -> None:
    lake, port = tmp_path / "lake", free_port()
    with simulator(tmp_path, "--symbols", "BTCUSDT", "--rate", "300") as exchange:
        source = exchange.source("linear", ["BTCUSDT"], ["trade", "quote", "open_interest"])
        source["polls"] = {"open_interest_seconds": 1, "server_time_seconds": 1}
        config = write_config(
            tmp_path / "config.json", lake, [source], port, transformer={"interval_seconds": 0.5},
            safe_mode={"failed_starts": 3},
        )  # fmt: skip
        for _ in range(3):
            daemon = Daemon(config, tmp_path / "daemon.log")
            daemon.wait_until_ready(port)
            assert "safe_mode" not in ready(port)
            daemon.kill()
        daemon = Daemon(config, tmp_path / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            assert "safe mode after 3 failed starts" in ready(port)["safe_mode"]
            assert "safe_mode_entered" in daemon.said()
            wait_for("sealed segments", lambda: sum("trade" in path for path in states(lake)) >= 2)
            time.sleep(1.5)
            seen = status(port)
            assert seen["safe_mode"] | {"leaves_in_seconds": 0} == {
                "active": True, "failed_starts": 3, "leaves_in_seconds": 0,
            }  # fmt: skip
            assert seen["services"]["transformer"]["report"]["waits_for"] == "the end of safe mode"
            assert {state for path, state in states(lake).items()} == {"sealed"}
            assert not any("open_interest" in path for path in states(lake))
            assert b"lake_safe_mode 1.0" in get(f"http://127.0.0.1:{port}/metrics")[1]
            assert dl_json("resume", "--lake", lake) == {"safe_mode_left": True}
            wait_for("the transformer", lambda: "transformed" in states(lake).values())
            wait_for("polls", lambda: market(status(port))["events"].get("open_interest"))
            assert "safe_mode" not in ready(port)
            assert "safe_mode_left" in daemon.said()
            assert dl_json("resume", "--lake", lake) == {"safe_mode_left": False}
        finally:
            assert daemon.stop() == 0, daemon.said()[-3000:]
    assert run("-m", "cli", "resume", "--lake", lake).returncode == 69, "no daemon writes it"
    assert json.loads((lake / ".starts.json").read_text())["failed"] == 0
