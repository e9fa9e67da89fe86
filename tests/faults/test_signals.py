"""F30: asked to end at any step of rotation, publication and compaction; asked twice; and the real daemon so asked."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from compactor.service import compact_once
from lake import durable
from market.times import HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.faults.test_kills import steps_of
from tests.support import invariants, life
from tests.support.commands import dl_json
from tests.support.faults import FULL, SEED, Lives, some
from tests.support.life import NOTHING, Collecting, Promise
from tests.support.live import Daemon, free_port, simulator, write_config
from transformer.service import transform_once

pytestmark = pytest.mark.timeout(3600 if FULL else 600)
SECONDS = 10
"""What a stop may take."""
INTERRUPTED = 130


class Asked:
    """Turns true at the N-th durable step, as the event that a signal sets."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, _op: object = None) -> bool:
        if _op is not None:
            self.left -= 1
        return self.left <= 0


def collecting(root: Path, asked: Asked) -> Promise:
    """As `life.collect`, but the pass after the question is the last."""
    told = [NOTHING]
    with (
        durable.observe(asked),
        life.start(root, life.T0) as writer,
        Collecting(writer, 1, life.T0, told.append) as made,
    ):
        now = life.T0
        for n in range(5):
            if asked():
                break
            now = life.T0 + n * 17 * SECOND
            work = made.batch(now, life.ids_of(n))
            work.sync = n % 2 == 1
            work.gaps = [life.hole(now, made.session)] if n == 3 else []
            made.take(work)
        made.end(now + SECOND)
    return told[-1]


def processing(root: Path, asked: Asked) -> None:
    """As transforming and closing do it, told to stop in the middle."""
    now = life.T0 + 5 * MINUTE
    with durable.observe(asked), life.start(root, now) as writer:
        transform_once(writer, InlineExecutor(), now, life.TRANSFORMER, stopping=asked)
        compact_once(writer, InlineExecutor(), life.MIDNIGHT + HOUR, life.COMPACTOR, stopping=asked)


NEVER = 10**9


def test_f30_whoever_is_asked_while_collecting_ends_in_order_with_all_that_came(lives: Lives, place: Path) -> None:
    steps = steps_of(collecting, lives.before("collect", place / "whole"), Asked(NEVER))
    wrong = []
    for n in some(range(1, len(steps) + 1), 8, "asked"):
        root = lives.before("collect", place / "asked")
        promised = collecting(root, Asked(n))
        ended = invariants.manifest_rows(root)
        left = [row["close_cause"] for row in ended["sessions"]], {row["state"] for row in ended["segments"]}
        if left != (["stopped"], {"sealed"}):
            wrong.append(f"step {n}: {left}")
        wrong += [f"step {n}: {what}" for what in invariants.check(root, promised)]
        wrong += [f"step {n}: {row}" for row in invariants.manifest_rows(root)["gaps"] if row["cause"] == "crash"]
        shutil.rmtree(root)
    assert wrong == []


def test_f30_whoever_is_asked_while_publishing_leaves_the_rest_to_the_next(lives: Lives, place: Path) -> None:
    whole = lives.before("transform", place / "whole")
    steps = steps_of(processing, whole, Asked(NEVER))
    expected = invariants.look(whole, leaving=True).stored
    wrong = []
    for n in some(range(1, len(steps) + 1), 5, "asked"):
        root = lives.before("transform", place / "asked")
        processing(root, Asked(n))
        cut_off = shutil.copytree(root, place / "cut-off")
        wrong += [f"step {n}: {what}" for what in invariants.check(cut_off, lives.promises["transform"])]
        for _ in range(2):
            processing(root, Asked(NEVER))
        if invariants.look(root, leaving=True).stored != expected:
            wrong.append(f"step {n}: the end is another")
        shutil.rmtree(root)
        shutil.rmtree(cut_off)
    assert wrong == []


def gaps_of(lake: Path, *causes: str) -> int:
    with sqlite3.connect(f"file:{lake / 'manifest.db'}?mode=ro", uri=True) as db:
        found = db.execute("SELECT cause, count(*) FROM gaps GROUP BY cause").fetchall()
    return sum(count for cause, count in found if cause in causes)


ASKED = [
    f"{op}:{n}{more}:TERM"
    for op, most, more in itertools.product(("write", "sync", "rename", "fsync_dir", "create"), (40,), ("", "+"))
    for n in (random.Random(f"{SEED}-{op}").randrange(25, 25 + most),)
]


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(len(ASKED) if FULL else 1))
def test_f30_the_real_daemon_ends_at_any_step_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Asked once it ends in order and loses nothing; asked again at every further step it is gone at once."""
    fault = ASKED[turn] if FULL else random.Random(SEED).choice(ASKED)
    print(fault)
    lake = tmp_path / "lake"
    port = free_port()
    with simulator(tmp_path, "--symbols", "BTCUSDT,ETHUSDT", "--rate", "500") as exchange:
        sources = [exchange.source("linear", ["BTCUSDT", "ETHUSDT"], ["trade", "quote"])]
        config = write_config(
            tmp_path / "config.json", lake, sources, port, transformer={"interval_seconds": 0.5},
            compactor={"interval_seconds": 1},
        )  # fmt: skip
        monkeypatch.setenv("LAKE_FAULT", fault)
        daemon = Daemon(config, tmp_path / "daemon.log")
        monkeypatch.delenv("LAKE_FAULT")
        try:
            deadline = time.monotonic() + 60
            while "stopping" not in daemon.said() and daemon.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            began = time.monotonic()
            code = daemon.process.wait(timeout=60)
        finally:
            daemon.kill()
        took = time.monotonic() - began
        said = (tmp_path / "daemon.log").read_text()
        assert took < SECONDS, said[-3000:]
        again = "+" in fault
        assert code in ((0, INTERRUPTED) if again else (0,)), said[-3000:]
        if code == 0:
            assert not list(lake.rglob("*.open"))
            assert gaps_of(lake, "crash") == 0
        daemon = Daemon(config, tmp_path / "daemon.log")
        daemon.wait_until_ready(port)
        assert daemon.stop() == 0
    assert gaps_of(lake, "crash", "stopped") > 0, "the time between the two runs is a gap, however the first one ended"
    verdict = dl_json("verify", "--lake", lake)
    assert verdict["ok"], verdict["findings"]


@pytest.mark.slow
@pytest.mark.parametrize("signals", ["INT", "TERM", "TERM TERM", "INT INT", "INT TERM"])
def test_f30_the_real_daemon_under_load_ends_in_time_whoever_asks(tmp_path: Path, signals: str) -> None:
    """One signal ends it in order and without loss, a second one at once; what that left is put right by the next."""
    lake, port = tmp_path / "lake", free_port()
    with simulator(tmp_path, "--symbols", "BTCUSDT,ETHUSDT", "--rate", "2000") as exchange:
        sources = [exchange.source("linear", ["BTCUSDT", "ETHUSDT"], ["trade", "quote"])]
        config = write_config(
            tmp_path / "config.json", lake, sources, port, transformer={"interval_seconds": 0.5},
            compactor={"interval_seconds": 1},
        )  # fmt: skip
        daemon = Daemon(config, tmp_path / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            time.sleep(random.Random(f"{SEED}-{signals}").uniform(1.0, 6.0))
            began = time.monotonic()
            for name in signals.split():
                daemon.process.send_signal(getattr(signal, f"SIG{name}"))
                time.sleep(0.02)
            code = daemon.process.wait(timeout=60)
        finally:
            daemon.kill()
        took = time.monotonic() - began
        said = (tmp_path / "daemon.log").read_text()
        assert took < SECONDS, said[-3000:]
        assert code in ((0, INTERRUPTED) if " " in signals else (0,)), said[-3000:]
        if code == 0:
            assert not list(lake.rglob("*.open"))
            assert gaps_of(lake, "crash") == 0
        daemon = Daemon(config, tmp_path / "daemon.log")
        daemon.wait_until_ready(port)
        assert daemon.stop() == 0
    verdict = dl_json("verify", "--lake", lake)
    assert verdict["ok"], verdict["findings"]
