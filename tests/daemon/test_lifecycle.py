"""The process from outside: one daemon a lake, signals, bounded stops, exit codes, and what is left behind."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cli.jobs import ask
from daemon import lifecycle, simulate, wiring
from daemon.arguments import Options
from daemon.config import load_config
from daemon.stopping import Guard, Stopper
from daemon.watch import Beat, Timer, Watch
from lake.errors import LakeError
from lake.lock import read_lock
from lake.manifest import Manifest
from lake.rows import SegmentRow
from lake.writer import LakeWriter
from market import times
from runtime import metrics
from runtime.clock import SystemClock
from runtime.supervisor import Supervisor
from tests.support.clock import ManualClock
from tests.support.commands import logged
from tests.support.leash import watched

ROOT = Path(__file__).resolve().parents[2]
NEVER = 300
"""Seconds, beyond the patience of any test here."""
IDLE = "collectors: {sources: []}\nhttp: {port: 0}\nshutdown_seconds: 120\n"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "config.yml").write_text(IDLE)
    return tmp_path


def start(place, *arguments):
    return watched(subprocess.Popen(
        [sys.executable, "-m", "daemon", "--config", str(place / "config.yml"), *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ))  # fmt: skip


def said(place):
    """Events of the daemon's JSON log so far."""
    return logged(place / "data")


def wait_event(process, place, event):
    for _ in range(2400):
        if any(line["event"] == event for line in said(place)):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.025)
    raise AssertionError(f"never {event}")


def end(process, seconds=240):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out + err


def tree(folder):
    """What lies there, but for what the daemon that runs may be writing meanwhile, after a minute too."""
    its_own = {"logs", "backups", "clocks", ".starts.json"}
    found = (path for path in sorted(folder.rglob("*")) if not its_own & set(path.parts))
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def refused(place, holder):
    """Seconds of the processor that a daemon takes to say that process `holder` has the lake: what passes meanwhile on
    a busy machine is not its own (`scripts/bench_restart.py` measures that on a quiet one).
    """
    began = spent()
    code, output = end(start(place))
    assert (code, f"process {holder}" in output) == (73, True), output
    return spent() - began


def checked(place):
    """Seconds of the processor that the interpreter, its imports and the configuration take here and now."""
    began = spent()
    code, output = end(start(place, "--check"))
    assert code == 0, output
    return spent() - began


def spent():
    """Processor seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")
def test_one_daemon_a_lake_and_a_clean_stop(place):
    first = start(place)
    try:
        wait_event(first, place, "ready")
        while not (info := read_lock(place / "data")).port:
            time.sleep(0.02)
        before = tree(place / "data")
        # a second of a processor is not the same second everywhere: nothing is done but what --check does too
        tries = [(refused(place, first.pid), checked(place)) for _ in range(3)]
        assert any(took <= 1.5 * least for took, least in tries), tries
        assert tree(place / "data") == before
        assert (info.pid, info.port > 0, len(info.token) > 30) == (first.pid, True, True)
        assert ask(info, "transform", {}, lambda *_: None)["segments"] == 0
        assert ask(info, "compact", {"final": True}, lambda *_: None)["days"] == 0
        first.send_signal(signal.SIGINT)
        code, output = end(first)
        assert code == 0, output
    finally:
        first.kill()
        first.communicate()
    beside = {"asyncio", "ballast_reserved"}  # its debug mode says what is slow; the disk is looked at before all else
    events = [line["event"] for line in said(place) if line["event"] not in beside]
    assert events[:3] == ["starting", "recovered", "ready"]
    assert events[-1] == "stopped"
    assert read_lock(place / "data") is None


def test_the_control_port_can_stop_it_and_names_what_it_does_not_know(place):
    process = start(place, "--only", "transformer")
    try:
        while (info := read_lock(place / "data")) is None or not info.port:
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(LakeError, match=r"unknown job 'drop'; jobs: .*compact, .*stop, transform"):
            ask(info, "drop", {}, lambda *_: None)
        assert ask(info, "stop", {}, lambda *_: None) == {"stopping": True}
        code, output = end(process)
        assert (code, "asked through the control port" in output) == (0, True), output
    finally:
        process.kill()
        process.communicate()


def test_duration_ends_it_with_exit_code_0(place):
    code, output = end(start(place, "--duration", "0.5", "--lake", str(place / "other")))
    assert code == 0, output
    assert "ran for 0.5 s as asked" in output
    assert Manifest.read_only(place / "other").meta().simulated is False


def test_a_lake_of_another_world_is_refused(place):
    LakeWriter.open(place / "data", "node", 1, simulated=True).close()
    code, output = end(start(place))
    assert code == 78
    assert "simulated" in output


@pytest.mark.parametrize("name", ["config.yml", "config.yml/below"])
def test_a_lake_that_is_no_folder_is_a_sentence(place, name):
    code, output = end(start(place, "--lake", str(place / name)))
    assert (code, "cannot hold a lake" in output, "Traceback" in output) == (66, True, False), output


def test_a_newer_manifest_is_refused(place):
    import sqlite3

    LakeWriter.open(place / "data", "node", 1).close()
    with sqlite3.connect(place / "data" / "manifest.db") as db:
        db.execute("UPDATE meta SET schema_version = 9999")
    db.close()
    code, output = end(start(place))
    assert code == 78, output


def test_a_taken_port_is_a_sentence_and_leaves_the_lake_unlocked(place):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (place / "config.yml").write_text(IDLE.replace("port: 0", f"port: {port}"))
        code, output = end(start(place))
    assert code == 70
    assert f"cannot listen on 127.0.0.1:{port}" in output
    assert "http.port" in output
    assert "Traceback" not in output
    assert read_lock(place / "data") is None


STUBBORN = """
import asyncio, sys, threading, time
from daemon import lifecycle, stopping, wiring
from daemon.__main__ import main

lifecycle.CLOSING_SHARE, stopping.HURRY_SECONDS = 0.99, {hurry}

class Part:
    name, phase = "stubborn", 0

    async def run(self, stop):
        await stop.wait()
        if "{how}" == "blocks":
            time.sleep(1000)
        if "{how}" == "threads":
            await asyncio.to_thread(threading.Event().wait, 1000)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if "{how}" == "waits":
                    raise

async def build(*_):
    return wiring.Parts([Part()], {{}})

wiring.build = build
sys.exit(main(["--config", {config!r}]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")
@pytest.mark.parametrize(
    "how, signals, expected, shutdown, hurry",
    [
        ("waits", 1, 0, NEVER, NEVER),  # it is cancelled after 1 % of that time
        ("waits", 2, 130, NEVER, NEVER),
        ("refuses", 1, 70, 2, NEVER),
        ("refuses", 2, 130, NEVER, 1),
        ("blocks", 2, 130, NEVER, 1),
        ("threads", 2, 130, NEVER, 1),
    ],
)
def test_a_part_that_will_not_stop_is_stopped(place, how, signals, expected, shutdown, hurry):
    """By what is to stop it: whatever else would do so later comes after the patience of `end`."""
    (place / "config.yml").write_text(IDLE.replace("shutdown_seconds: 120", f"shutdown_seconds: {shutdown}"))
    script = STUBBORN.format(how=how, hurry=hurry, config=str(place / "config.yml"))
    process = watched(
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    )
    try:
        wait_event(process, place, "ready")
        process.send_signal(signal.SIGINT)
        if signals == 2:
            wait_event(process, place, "stopping")
            process.send_signal(signal.SIGINT)
        code, output = end(process)
        assert code == expected, output
    finally:
        process.kill()
        process.wait()
    assert read_lock(place / "data") is None
    assert how != "waits" or ("stubborn" in output and "did not stop" in output)


async def test_the_first_signal_stops_and_the_second_hurries():
    ended = []
    with Stopper(10, ended.append) as stopper:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(stopper.stop.wait(), 60)
        assert stopper.reason == "Ctrl-C"
        assert not stopper.hurry.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(stopper.hurry.wait(), 60)
        stopper.done()
    assert ended == []
    assert signal.getsignal(signal.SIGINT) is not None


async def test_the_clock_of_the_last_resort_starts_where_no_time_is_left_to_be_told_of_a_stop():
    limits = []
    with Stopper(10, limits.append) as stopper:
        stopper.limit = lambda *told: limits.append(told)
        stopper.ask("Ctrl-C")
        await Supervisor([Guard(stopper)], ManualClock(0), deadline_seconds=0).run(stopper.stop)
    assert limits == [(10, 70)]


async def test_what_never_ends_is_ended(capsys):
    ended = []
    stopper = Stopper(10, ended.append)
    stopper.limit(0.01, 70)
    while not ended:
        await asyncio.sleep(0.001)  # a thread ends it
    assert ended == [70]
    assert "did not stop in time" in capsys.readouterr().err


def manifest_with_a_stream(folder, now):
    with LakeWriter.open(folder, "node", now, simulated=True) as writer:
        writer.record(segments=[
            SegmentRow(
                path="raw/x.jsonl", exchange="binance", market_type="spot", kind="trade", state="sealed",
                period_start=now, period_end=now + 60_000_000,
            )
        ])  # fmt: skip
    return Manifest.read_only(folder)


@pytest.fixture
def events():
    from loguru import logger

    lines = []
    sink = logger.add(lambda message: lines.append(message.record), level="DEBUG", format="{message}")
    yield lambda: [(r["extra"].get("event"), r["message"]) for r in lines]
    logger.remove(sink)


async def test_midnight_is_noticed_once_and_watermarks_are_read(tmp_path, events):
    start_us = times.parse("2026-11-19T23:59:50Z")
    manifest = manifest_with_a_stream(tmp_path / "lake", start_us)
    clock, stop = ManualClock(start_us), asyncio.Event()

    async def scenario():
        watching = asyncio.ensure_future(Watch(clock, manifest, 900).run(stop))
        await clock.sleep(28)
        stop.set()
        await watching

    await clock.run(scenario())
    manifest.close()
    found = dict(events())
    assert found["midnight_crossed"] == "00:00 UTC: 2026-11-19 has ended, its daily files follow in about 900 s"
    assert [name for name, _ in events()].count("midnight_crossed") == 1


async def test_how_late_the_loop_is_is_asked_ten_times_a_second():
    def count():
        return metrics.REGISTRY.get_sample_value("lake_loop_delay_seconds_count") or 0

    clock, stop, before = ManualClock(times.parse("2026-11-19T12:00:00Z")), asyncio.Event(), count()

    async def scenario():
        beating = asyncio.ensure_future(Beat(clock).run(stop))
        await clock.sleep(1.05)
        stop.set()
        await beating

    await clock.run(scenario())
    assert count() - before == 11


def test_what_a_start_found_is_one_sentence(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", 1) as writer:
        found = writer.recover(2)
    assert wiring.summary_of(found) == "a new lake; checked"
    torn = SegmentRow(
        path="x", exchange="b", market_type="spot", kind="trade", state="sealed", period_start=1, clean=False
    )
    crashed = msgspec.structs.replace(found, segments=(torn, torn))
    assert wiring.summary_of(crashed) == "the last run did not stop by itself: 2 segments sealed late; put in order"
    lost = msgspec.structs.replace(found, missing=("a", "b"))
    assert wiring.summary_of(lost) == (
        "2 files of the manifest are not on disk (dl verify says which); the last run stopped cleanly; checked"
    )


async def test_the_timer_asks_once_its_time_is_over():
    clock, asked = ManualClock(), []
    await clock.run(Timer(clock, 120, asked.append).run(asyncio.Event()))
    assert asked == ["ran for 120 s as asked"]
    assert clock.monotonic() == 120


async def test_the_simulated_clock_starts_yesterday_evening(place):
    config = load_config(place / "config.yml", {})
    before = SystemClock().now()
    clock = simulate.clock(config)
    after = SystemClock().now()
    starts = {times.floor_to(at, times.DAY) - 45 * times.SECOND for at in (before, after)}
    assert any(before <= start - clock.offset_us <= after for start in starts)


def test_a_simulated_lake_that_lives_later_is_refused(place, capsys):
    config = load_config(place / "config.yml", {}).model_copy(update={"lake": place / "sim"})
    manifest_with_a_stream(place / "sim", SystemClock().now() + times.DAY).close()
    code = lifecycle.run(config, Options(simulate=True))
    assert code == 78
    assert "already holds simulated data" in capsys.readouterr().err
