"""The lake's lock: one process writes a lake, and `.lock` says which, at what epoch, and how to reach it.

The operating system holds the lock (it ends with the process, however that ends); the file's JSON only informs.
It is readable by its owner alone (0600, made so where a copy of a lake has it otherwise) since it holds the control
port's token. It is never removed: a lock on a removed file would let two processes hold "the" lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from lake import ballast, durable, place
from lake.errors import LakeError, LakeLocked, StorageFailed
from lake.layout import LOCK

ATTEMPTS = 20
PAUSE = 0.05
"""Seconds between attempts: who only asks whether the lock is held (`read_lock`) holds it for an instant itself."""
_WINDOWS_BYTE = 1 << 30
"""Windows locks are mandatory: lock a byte far behind the JSON, so that others can read it."""


class LockInfo(msgspec.Struct, frozen=True):
    """Who writes the lake. `port` is the control port on loopback, 0 where there is none (a one-shot command)."""

    pid: int
    epoch: int = 0
    port: int = 0
    token: str = ""


class LakeLock:
    """The held lock; closing it releases. Use `LakeLock.acquire`."""

    def __init__(self, path: Path, fd: int, info: LockInfo) -> None:
        self._path = path
        self._fd = fd
        self._info = info

    @classmethod
    def acquire(cls, root: Path) -> LakeLock:
        """Take the lock of the lake at `root` (an existing folder). Raises LakeLocked, which names the holder, and
        NotALake for a folder that is not this user's own (see `lake.place`).
        """
        place.check(root)
        path = root / LOCK
        fd = durable.open_private(path)
        for _ in range(ATTEMPTS):
            if _try_lock(fd, exclusive=True):
                break
            time.sleep(PAUSE)
        else:
            holder = _read(fd)
            os.close(fd)
            who = f"process {holder.pid}" if holder else "another process"
            raise LakeLocked(f"{root} is being written by {who}", "stop it first, or use another lake folder")
        lock = cls(path, fd, LockInfo(os.getpid()))
        try:
            place.keep_private(fd, path)
            ballast.make_room(root, ballast.START_BYTES)
            lock.describe()
        except LakeError:
            lock.release()
            raise
        return lock

    def describe(self, epoch: int | None = None, port: int | None = None, token: str | None = None) -> None:
        """Write down what others may know; what is None stays as it was."""
        new = {"epoch": epoch, "port": port, "token": token}
        self._info = msgspec.structs.replace(self._info, **{k: v for k, v in new.items() if v is not None})
        durable.overwrite(self._fd, msgspec.json.encode(self._info), self._path)

    def release(self) -> None:
        """Let go; doing it twice is fine."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(LakeError):  # what the file says is for information only
                durable.overwrite(fd, b"", self._path)
            _unlock(fd)
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def read_lock(root: Path) -> LockInfo | None:
    """Who holds the lake now, None where nobody does. Raises StorageFailed where this user may not know."""
    try:
        fd = _open(root / LOCK)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        denied = StorageFailed(f"{root / LOCK} belongs to another user", "run as the user of the lake")
        denied.errno = error.errno
        raise denied from error
    try:
        if _try_lock(fd, exclusive=False):
            _unlock(fd)
            return None
        return _read(fd) or LockInfo(0)
    finally:
        os.close(fd)


def seen_lock(root: Path) -> tuple[LockInfo | None, str]:
    """Who holds the lake now, as `read_lock` says it; where this user may not know, nobody and a sentence why.

    Raises StorageFailed where anything else is wrong.
    """
    try:
        return read_lock(root), ""
    except StorageFailed as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
        return None, str(error)


def _open(path: Path) -> int:
    """To ask who holds it: a lake that is mounted read-only here may be written by a process elsewhere."""
    follow = getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, os.O_RDWR | follow)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | follow)


def _read(fd: int) -> LockInfo | None:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return msgspec.json.decode(os.read(fd, 4096), type=LockInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # its holder has only just begun


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int, *, exclusive: bool) -> bool:
        del exclusive  # Windows knows one kind of lock here
        os.lseek(fd, _WINDOWS_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _WINDOWS_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(fd: int, *, exclusive: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
