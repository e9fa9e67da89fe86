"""The only writer: whatever the product creates, writes, syncs, renames, links, cuts or removes goes through here.

Being the only one, it is also where every failure can be provoked and every operation watched: each operation
(`create write sync fsync fsync_dir mkdir rename link unlink truncate`) is one step of `lake.failpoints`.

Names taken or missing are told as FileExistsError and FileNotFoundError. Anything else that the system refuses is a
StorageFailed with the OSError as its cause: nothing more may be acknowledged.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lake.errors import StorageFailed
from lake.failpoints import Fault, Op, fault_from_env, inject, observe, step, watched
from lake.refused import no_space, patient, storage
from lake.space import Room

__all__ = ["Fault", "Op", "fault_from_env", "inject", "no_space", "observe"]  # from elsewhere, and belong here
COPY_CHUNK: Final = 1 << 20
_RUN = re.compile(r"[A-Za-z0-9_-]+")
_NO_LINKS: Final = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def _flush(fd: int, *, data_only: bool) -> None:
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 # exists on POSIX only

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # plain fsync leaves the bytes in the drive's cache
    elif sys.platform == "win32" or not data_only:
        os.fsync(fd)
    else:
        os.fdatasync(fd)


class AppendFile:
    """A new file that is written at its end only, unbuffered. Creating it also makes its name durable.

    Also a file object for writers that want one (pyarrow): `write`, `tell`, `flush`, `close`, `closed`.
    One thread uses it at a time. A write that fails is undone, so that the file holds whole writes only; after a failed
    sync the file takes nothing more, since the kernel may have forgotten the bytes: write them again elsewhere.
    """

    def __init__(self, path: Path, *, existing: bool = False) -> None:
        """Create `path`, or with `existing` go on at the end of it. Raises FileExistsError, FileNotFoundError."""
        self.path = path
        self.failed = False
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        flags |= 0 if existing else os.O_CREAT | os.O_EXCL
        with storage("opening" if existing else "creating", path):
            if existing:
                self._fd = os.open(path, flags)
            else:
                self._fd = step(Op("create", str(path)), lambda: os.open(path, flags, 0o644))
        self.size = self.synced = os.fstat(self._fd).st_size
        if not existing:
            with _discarding(path), contextlib.ExitStack() as on_failure:
                on_failure.callback(self.close)
                fsync_dir(path.parent)
                on_failure.pop_all()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append all of `data` or nothing of it; its length in bytes. Raises StorageFailed."""
        self._usable()
        whole = memoryview(data).cast("B")
        op = Op("write", str(self.path), data=bytes(whole) if watched() else b"", size=self.size)
        with storage("writing", self.path):
            try:
                step(op, lambda: self._write_all(whole), half=lambda: self._write_all(whole[: len(whole) // 2]))
            except OSError:
                self._undo()
                raise
        self.size += len(whole)
        return len(whole)

    def _write_all(self, left: memoryview) -> None:
        while left:
            left = left[os.write(self._fd, left) :]

    def _undo(self) -> None:
        """Take back what a failed write left behind its last whole predecessor."""
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.failed = True  # the tail is torn: recovery will cut it

    def sync(self) -> None:
        """Make every byte written so far durable (fdatasync). Raises StorageFailed; never tried again then."""
        self._usable()
        size = self.size
        if size == self.synced:
            return
        with storage("syncing", self.path):
            try:
                step(Op("sync", str(self.path), size=size), lambda: _flush(self._fd, data_only=True))
            except OSError:
                self.failed = True
                raise
        self.synced = size

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes, which must not be more than it has."""
        self._usable()
        if not 0 <= size <= self.size:
            raise ValueError(f"cannot cut {self.path} of {self.size} bytes to {size}")
        with storage("cutting", self.path):
            step(Op("truncate", str(self.path), size=size), lambda: os.ftruncate(self._fd, size))
        self.size = size
        self.synced = -1  # the new length is not durable yet either

    def reserve(self, size: int) -> None:
        """Let an empty file have `size` bytes that are taken from the free ones now."""
        self._usable()
        with storage("reserving", self.path):
            step(Op("write", str(self.path), size=size), lambda: self._allocate(size))
        self.size = size

    def _allocate(self, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._fd, 0, size)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return
        for start in range(0, size, COPY_CHUNK):
            self._write_all(memoryview(bytes(min(COPY_CHUNK, size - start))))

    def close(self) -> None:
        """Close without syncing; closing twice is fine."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # whatever close could still report, only a sync may promise
                os.close(fd)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is buffered here; `sync` makes bytes durable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _usable(self) -> None:
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        if self.failed:
            raise StorageFailed(f"{self.path} takes nothing more after a failed write or sync", "open a new file")


def make_dirs(path: Path) -> None:
    """Create a directory and its missing parents, each made durable in its parent."""
    with storage("creating directory", path):
        missing = list(itertools.takewhile(lambda parent: not parent.is_dir(), (path, *path.parents)))
        for new in reversed(missing):
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # the latter where no folder can be (/proc)
                step(Op("mkdir", str(new)), new.mkdir)
            if not new.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(new))
            fsync_dir(new.parent)


def fsync_file(path: Path) -> None:
    """Make the bytes of a file that is closed durable."""
    with storage("syncing", path):
        fd = os.open(path, (os.O_RDWR if sys.platform == "win32" else os.O_RDONLY) | getattr(os, "O_BINARY", 0))
        try:
            step(Op("fsync", str(path)), lambda: _flush(fd, data_only=False))
        finally:
            os.close(fd)


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    with storage("syncing directory", path):
        step(Op("fsync_dir", str(path)), lambda: _flush_dir(path))


def _flush_dir(path: Path) -> None:
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415 # only Windows needs it

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateFileW.restype = ctypes.c_void_p
        # GENERIC_WRITE, share all, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS: the only way to hold a directory.
        handle = kernel.CreateFileW(str(path), 0x40000000, 7, None, 3, 0x02000000, None)
        if handle in (None, ctypes.c_void_p(-1).value):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            if not kernel.FlushFileBuffers(ctypes.c_void_p(handle)):
                raise ctypes.WinError(ctypes.get_last_error())
        finally:
            kernel.CloseHandle(ctypes.c_void_p(handle))
    else:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _flush(fd, data_only=False)
        finally:
            os.close(fd)


def temp_path(target: Path, run: str) -> Path:
    """Where `target` is written before it has its name: beside it, `.<name>.<run>.tmp`. `run` is [A-Za-z0-9_-]+."""
    if not _RUN.fullmatch(run):
        raise ValueError(f"a run is named [A-Za-z0-9_-]+, not {run!r}")
    return target.with_name(f".{target.name}.{run}.tmp")


def _fill_temp(target: Path, data: bytes | Path) -> Path:
    """A synced temporary file beside `target` that holds `data`; nothing stays where that fails."""
    temp = temp_path(target, f"w{secrets.token_hex(8)}")
    with _discarding(temp), AppendFile(temp) as file:
        for chunk in _chunks(data) if isinstance(data, Path) else (data,):
            file.write(chunk)
        file.sync()
    return temp


@contextlib.contextmanager
def _discarding(temp: Path) -> Iterator[None]:
    """Leave no temporary file behind a failure; where even that fails, the next start sweeps it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(StorageFailed):
            unlink(temp)
        raise


def write_file(path: Path, data: bytes | Path) -> None:
    """Make `path` hold exactly `data` (a file's, for a path), all or nothing, durably; what was there is replaced."""
    temp = _fill_temp(path, data)
    with _discarding(temp):
        rename(temp, path, replace=True)


def write_new(path: Path, data: bytes | Path) -> bool:
    """Like `write_file`, but only where nothing has that name: False, and nothing done, where something has."""
    if os.path.lexists(path):
        return False
    temp = _fill_temp(path, data)
    try:
        with storage("linking", path):
            step(Op("link", str(temp), str(path)), lambda: _link_or_rename(temp, path))
    except FileExistsError:
        return False
    finally:
        unlink(temp)
        fsync_dir(path.parent)
    return True


def _link_or_rename(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):  # where there are no links, one writer a lake is what keeps this race away
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)


def rename(source: Path, target: Path, *, replace: bool = False) -> None:
    """Give `source` its durable name. A `target` with the same bytes is that already; another is FileExistsError,
    or with `replace` gives way in the same step.
    """
    with storage("renaming", source):
        if not replace and os.path.lexists(target):
            if source.exists() and not same_bytes(source, target):
                raise FileExistsError(errno.EEXIST, "another file has that name", str(target))
            unlink(source)
        else:
            step(Op("rename", str(source), str(target)), lambda: patient(lambda: source.replace(target)))
    fsync_dir(target.parent)
    if source.parent != target.parent:
        fsync_dir(source.parent)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where links do not exist. A `target` with the same bytes is fine."""
    with storage("linking", target):
        if os.path.lexists(target):
            if not same_bytes(source, target):
                raise FileExistsError(errno.EEXIST, "another file has that name", str(target))
        else:
            try:
                step(Op("link", str(source), str(target)), lambda: os.link(source, target))
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                write_file(target, source)
    fsync_dir(target.parent)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    return one.samefile(other) or all(a == b for a, b in zip(_chunks(one), _chunks(other), strict=True))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(COPY_CHUNK):
            yield chunk


def unlink(path: Path) -> bool:
    """Remove a name; a missing one is fine. False where Windows says that somebody has it open: try again later."""
    with storage("removing", path):
        try:
            step(Op("unlink", str(path)), path.unlink)
        except FileNotFoundError:
            return True
        except PermissionError:
            if sys.platform == "win32":
                return False
            raise
    return True


def truncate_file(path: Path, size: int) -> None:
    """Cut a closed file to `size` bytes, durably."""
    with AppendFile(path, existing=True) as file:
        file.truncate(size)
        file.sync()


def sweep_temps(root: Path, keep_run: str = "") -> int:
    """Remove the temporary files of other runs below `root`; how many there were. Other files are left alone.

    Raises StorageFailed for a folder that is a symbolic link: what is written or removed there would be outside.
    """
    swept = 0
    for folder, folders, names in os.walk(root):
        for linked in filter(os.path.islink, (f"{folder}/{name}" for name in folders)):
            raise StorageFailed(f"{linked} is a symbolic link inside a lake", "move it away, or mount that folder here")
        for name in names:
            if not (name.startswith(".") and name.endswith(".tmp")):
                continue
            target, _, run = name[1:-4].rpartition(".")
            if target and _RUN.fullmatch(run) and run != keep_run:
                swept += unlink(Path(folder, name))
    return swept


def room(path: Path) -> Room:
    """How much room the file system of `path` has."""
    with storage("asking for the room of", path):
        usage = shutil.disk_usage(path)
    return Room(usage.free, usage.used + usage.free)


def reserve(path: Path, size: int) -> None:
    """Make a file whose `size` bytes the file system has set aside; what they say means nothing.

    Raises StorageFailed, and leaves no file behind, where there is no room.
    """
    with _discarding(path), AppendFile(path) as file:
        file.reserve(size)
        file.sync()


def open_private(path: Path) -> int:
    """A read-write descriptor of a file that only its owner may read (0600), created where missing: for locks."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with storage("opening", path):
        return step(Op("create", str(path)), lambda: os.open(path, flags, 0o600))


def overwrite(fd: int, data: bytes, path: Path) -> None:
    """Replace what an `open_private` descriptor holds; not atomic, so only for what may be lost."""
    with storage("writing", path):
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        step(Op("write", str(path), data=data), lambda: os.write(fd, data))
