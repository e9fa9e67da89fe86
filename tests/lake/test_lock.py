"""The lake's lock: one holder, named to whoever comes second, and free again however the holder ended."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lake import lock as lock_module
from lake.errors import LakeLocked
from lake.lock import LakeLock, read_lock

HOLD = """
import sys
from pathlib import Path
from lake.lock import LakeLock
lock = LakeLock.acquire(Path(sys.argv[1]))
lock.describe(epoch=7, port=8123, token="secret")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock_module, "ATTEMPTS", 2)
    monkeypatch.setattr(lock_module, "PAUSE", 0.001)


@pytest.fixture
def holder(tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("quick")
def test_a_second_writer_is_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(LakeLocked, match=f"process {holder.pid}"):
        LakeLock.acquire(tmp_path)
    info = read_lock(tmp_path)
    assert (info.pid, info.epoch, info.port, info.token) == (holder.pid, 7, 8123, "secret")


@pytest.mark.usefixtures("quick")
def test_the_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert read_lock(tmp_path) is None
    with LakeLock.acquire(tmp_path):
        assert read_lock(tmp_path).pid == os.getpid()


@pytest.mark.usefixtures("quick")
def test_one_process_cannot_take_it_twice_and_can_take_it_again(tmp_path):
    first = LakeLock.acquire(tmp_path)
    with pytest.raises(LakeLocked):
        LakeLock.acquire(tmp_path)
    first.release()
    first.release()
    LakeLock.acquire(tmp_path).release()


def test_only_its_owner_may_read_the_token(tmp_path):
    with LakeLock.acquire(tmp_path):
        assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == 0o600


def test_nobody_holds_a_lake_that_was_never_written(tmp_path):
    assert read_lock(tmp_path) is None
    assert not (tmp_path / ".lock").exists()


@pytest.mark.usefixtures("quick")
def test_asking_who_holds_it_does_not_take_it_away(tmp_path):
    held = LakeLock.acquire(tmp_path)
    assert read_lock(tmp_path).pid == os.getpid()
    with pytest.raises(LakeLocked):
        LakeLock.acquire(tmp_path)
    held.release()


def test_a_release_leaves_no_token_behind(tmp_path):
    held = LakeLock.acquire(tmp_path)
    held.describe(port=1, token="secret")
    held.release()
    assert (tmp_path / ".lock").read_bytes() == b""
