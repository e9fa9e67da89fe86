"""One lake has one writer: who comes second is told so at once, and what needs the writer goes through it."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lake.lock import read_lock
from lake.manifest import Manifest
from lake.writer import LakeWriter
from tests.support import written
from tests.support.commands import dl, dl_json, run
from tests.support.crash import quick_folder
from tests.support.live import Daemon, free_port, get, wait_for, write_config
from tests.support.written import T0

pytestmark = pytest.mark.timeout(600)

REPLAY = ("--exchange", "binance", "--market-type", "linear")


class Running(NamedTuple):
    """A daemon that writes a lake with a certified day and collects nothing."""

    daemon: Daemon
    config: Path
    lake: Path
    port: int
    frames: Path


@pytest.fixture(scope="module")
def first() -> Iterator[Running]:
    with quick_folder() as folder:
        lake = folder / "lake"
        frames = written.write(folder / "frames.jsonl", written.good_session())
        dl("replay", frames, *REPLAY, "--lake", lake)
        port = free_port()
        config = write_config(folder / "config.json", lake, [], port)
        daemon = Daemon(config, folder / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("the control port", lambda: (holder := read_lock(lake)) is not None and holder.port)
            yield Running(daemon, config, lake, port, frames)
        finally:
            assert daemon.stop() == 0


@pytest.fixture(autouse=True)
def undisturbed(first: Running) -> Iterator[None]:
    """Whatever a test does beside it, the first daemon goes on, with the same lock and the same ports."""
    before = read_lock(first.lake)
    yield
    assert first.daemon.process.poll() is None
    assert read_lock(first.lake) == before
    assert get(f"http://127.0.0.1:{first.port}/ready")[0] == 200


def test_a_second_daemon_ends_with_73_at_once_and_names_the_first(first: Running) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("-m", "daemon", "--config", first.config)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 73
    assert f"is being written by process {first.daemon.process.pid}" in done.stderr
    assert "stop it first" in done.stderr
    assert "Traceback" not in done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2, "of the processor: it may be busy"


def test_replay_is_refused_with_73_and_a_way_out(first: Running) -> None:
    before = dl_json("ls", "--lake", first.lake)
    said = dl("replay", first.frames, *REPLAY, "--lake", first.lake, expect=73).stderr
    assert str(first.daemon.process.pid) in said
    assert "replay into a lake of its own" in said
    assert dl_json("ls", "--lake", first.lake) == before


@pytest.mark.parametrize("job, counts", [("transform", "segments"), ("compact", "days")])
def test_jobs_are_done_by_the_daemon(first: Running, job: str, counts: str) -> None:
    assert dl_json(job, "--lake", first.lake)[counts] == 0
    said = first.daemon.said()
    assert job in said
    dl(job, "--config", first.config)


def test_readers_work_beside_the_writer(first: Running) -> None:
    assert dl_json("status", "--lake", first.lake)["writer"]["pid"] == first.daemon.process.pid
    assert len(dl("read", "trade", "--lake", first.lake, "--json", "--limit", "0").stdout.splitlines()) == 30
    assert dl_json("verify", "--lake", first.lake)["ok"]
    assert dl_json("gaps", "--lake", first.lake) == []
    assert len(dl_json("trace", "trade", "--id", "1005", "--lake", first.lake)) == 1


def test_a_writer_inside_another_program_is_refused_too(first: Running) -> None:
    from lake.errors import LakeLocked

    with pytest.raises(LakeLocked, match=str(first.daemon.process.pid)):
        LakeWriter.open(first.lake, "other", T0)


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_and_real_data_do_not_meet(first: Running, simulated: bool) -> None:
    lake = first.lake.with_name(f"world-{simulated}")
    LakeWriter.open(lake, "n", T0, simulated=simulated).close()
    flags = () if simulated else ("--simulate",)
    done = run("-m", "daemon", "--config", first.config, "--lake", lake, "--duration", "1", *flags)
    assert done.returncode == 78, done.stderr
    kinds = ("simulated", "real") if simulated else ("real", "simulated")
    assert f"holds {kinds[0]} data, this run would add {kinds[1]} data" in done.stderr
    assert "Traceback" not in done.stderr
    manifest = Manifest.read_only(lake)
    assert manifest.meta().simulated is simulated
    manifest.close()
    assert read_lock(lake) is None
    shutil.rmtree(lake)


def test_a_lock_that_a_killed_process_left_stops_nobody(first: Running) -> None:
    lake = first.lake.with_name("left")
    LakeWriter.open(lake, "n", T0).close()
    (lake / ".lock").write_text(json.dumps({"pid": 1, "epoch": 1, "port": 1, "token": "x"}))
    assert dl_json("transform", "--lake", lake)["segments"] == 0
    (lake / ".lock").write_bytes(b"\xff not json")
    assert dl_json("transform", "--lake", lake)["segments"] == 0
    assert "nobody writes it" in dl("status", "--lake", lake).stdout
    shutil.rmtree(lake)
