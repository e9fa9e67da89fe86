"""F16, F61: a worker without memory, and logs that cannot be written. Collecting goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compactor.service import compact_once
from lake.writer import LakeWriter
from runtime import logs, telemetry
from runtime.workers import InlineExecutor
from tests.support import invariants, life, narrow
from tests.support.commands import ROOT
from tests.support.faults import Lives
from tests.support.leash import watched
from tests.support.life import NODE
from tests.support.live import free_port, write_config
from tests.support.starved import Starved
from tests.support.station import Station, ticks

THIS = "tests.faults.test_memory_short"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS as Linux keeps it")


@pytest.fixture
def starved_workers() -> Iterator[Starved]:
    workers = Starved(1)
    yield workers
    workers.kill()


def test_f16_a_job_without_memory_is_parked_after_three_failures_and_collecting_goes_on(
    lives: Lives, place: Path, starved_workers: Starved
) -> None:
    root = lives.before("close", place / "lake")
    now = life.MIDNIGHT + 20 * life.MINUTE
    promised = lives.promises["close"]
    with LakeWriter.open(root, NODE, now) as writer:
        writer.recover(now)
        files = {row.path for row in writer.manifest.files()}
        for _ in range(3):
            failed = compact_once(writer, starved_workers, now, life.COMPACTOR)
            assert failed.failures
            assert all("MemoryError" in text for text in failed.failures)
        parked = compact_once(writer, starved_workers, now, life.COMPACTOR)
        assert parked.failures == []
        assert parked.parked
        assert {row.path for row in writer.manifest.files()} == files, "the inputs stay"
        collecting = life.Collecting(writer, 90, now + 1_000_000, lambda _promise: None, promised)
        collecting.take(collecting.batch(now + 2_000_000, [("quote", "BTCUSDT", 900_001)]))
        collecting.end(now + 3_000_000)
        promised = collecting.promise
        again = compact_once(writer, InlineExecutor(), now, life.COMPACTOR, again=True)
        assert again.days
        assert again.parked == []
    assert invariants.check(root, promised) == []


# --- F61 -----------------------------------------------------------------------------------------------------------


async def logs_are_full(folder: Path) -> dict[str, Any]:
    """The disk of the logs is full and stderr is a pipe that nobody reads any more; the lake is elsewhere."""
    narrow.fill(folder)
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 2)
    logs.setup(folder=folder / "logs")
    script, sent = ticks(20)
    with Station(folder.parent / "lake", script) as station:
        for n in range(50):
            telemetry.control_job(job=f"job {n}", state="x" * 500)
        await station.run(25)
        said = (folder / "logs" / logs.FILE_NAME).stat().st_size
        return {"stored": station.stored() == sent, "lost": station.lost(), "said": said, "wrong": station.wrong(sent)}


def test_f61_logs_that_cannot_be_written_cost_no_data(place: Path) -> None:
    narrow.need_namespaces()
    found = narrow.run(f"{THIS}:logs_are_full", place / "logs", disk="1m")
    assert found == {"stored": True, "lost": [], "said": 0, "wrong": []}


def test_f61_a_daemon_without_standard_streams_runs_and_gives_their_numbers_to_no_file(place: Path) -> None:
    config = write_config(place / "config.yml", place / "lake", [], free_port())
    script = 'exec 0<&- 1>&- 2>&-; exec "$0" -m daemon --config "$1" --only collectors --duration 3'
    running = watched(subprocess.Popen(["sh", "-c", script, sys.executable, str(config)], cwd=ROOT))
    try:
        opened: dict[str, str] = {}
        while running.poll() is None:
            time.sleep(0.05)
            for number in ("0", "1", "2"):
                try:
                    opened[number] = os.readlink(f"/proc/{running.pid}/fd/{number}")
                except OSError:
                    continue
        assert running.returncode == 0
        assert opened == dict.fromkeys("012", "/dev/null")
    finally:
        running.kill()
        running.wait()
