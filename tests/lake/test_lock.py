"""The lake's lock: one holder, named to whoever comes second, and free again however the holder ended."""

import errno
import importlib.util
import os
import stat
import subprocess
import sys
import types
from pathlib import Path

import pytest

from lake import lock as lock_module
from lake.errors import LakeLocked, StorageFailed
from lake.lock import LakeLock, read_lock, seen_lock

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


@pytest.mark.usefixtures("quick")
def test_a_holder_that_has_only_just_begun_is_somebody_without_a_name(tmp_path):
    with LakeLock.acquire(tmp_path):
        (tmp_path / ".lock").write_bytes(b'{"pid":')
        assert read_lock(tmp_path) == lock_module.LockInfo(0)
        with pytest.raises(LakeLocked, match="another process"):
            LakeLock.acquire(tmp_path)
        assert seen_lock(tmp_path) == (lock_module.LockInfo(0), "")


@pytest.mark.usefixtures("quick")
def test_who_holds_it_is_told_where_the_lake_is_mounted_read_only(tmp_path, monkeypatch):
    really = os.open

    def read_only(path, flags, *more):
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, "Read-only file system")
        return really(path, flags, *more)

    held = LakeLock.acquire(tmp_path)
    monkeypatch.setattr(lock_module.os, "open", read_only)
    assert seen_lock(tmp_path)[0].pid == os.getpid()
    held.release()
    assert seen_lock(tmp_path) == (None, "")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_who_may_not_know_is_told_so(tmp_path, monkeypatch, number):
    def refuse(*_arguments):
        raise PermissionError(number, "no")

    monkeypatch.setattr(lock_module.os, "open", refuse)
    with pytest.raises(StorageFailed, match="belongs to another user"):
        read_lock(tmp_path)
    holder, why = seen_lock(tmp_path)
    assert holder is None
    assert "belongs to another user" in why


def test_a_disk_that_fails_is_no_lack_of_a_permission(tmp_path, monkeypatch):
    def fails(_root):
        failed = StorageFailed("reading .lock failed: input/output error")
        failed.errno = errno.EIO
        raise failed

    monkeypatch.setattr(lock_module, "read_lock", fails)
    with pytest.raises(StorageFailed, match="input/output"):
        seen_lock(tmp_path)


class Locking:
    """As much of msvcrt as the lock needs: bytes of one file that somebody holds."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self):
        self.held = set()

    def locking(self, fd, mode, count):
        place = (os.lseek(fd, 0, os.SEEK_CUR), count)
        if mode == self.LK_UNLCK:
            self.held.remove(place)
        elif place in self.held:
            raise OSError(errno.EACCES, "held")
        else:
            self.held.add(place)


def test_windows_locks_a_byte_far_behind_what_the_file_says(tmp_path, monkeypatch):
    """Locks of Windows are mandatory: whoever wants to know who holds the lake has to be able to read it."""
    windows = Locking()
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(
        locking=windows.locking, LK_NBLCK=windows.LK_NBLCK, LK_UNLCK=windows.LK_UNLCK
    ))  # fmt: skip
    spec = importlib.util.spec_from_file_location("lock_of_windows", lock_module.__file__)
    of_windows = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lock_of_windows", of_windows)
    with monkeypatch.context() as pretended:
        pretended.setattr(sys, "platform", "win32")
        spec.loader.exec_module(of_windows)
    monkeypatch.setattr(of_windows, "ATTEMPTS", 2)
    monkeypatch.setattr(of_windows, "PAUSE", 0)
    assert of_windows.read_lock(tmp_path) is None
    with of_windows.LakeLock.acquire(tmp_path) as held:
        held.describe(port=7)
        ((place, count),) = windows.held
        assert (count, place > 4096) == (1, True)
        assert of_windows.read_lock(tmp_path).port == 7
        with pytest.raises(LakeLocked, match=f"process {os.getpid()}"):
            of_windows.LakeLock.acquire(tmp_path)
    assert windows.held == set()
    assert of_windows.read_lock(tmp_path) is None
    assert windows.held == set()
