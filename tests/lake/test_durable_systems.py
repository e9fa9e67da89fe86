"""What `lake.durable` does on other systems and file systems, with their answers made up here."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lake import durable, refused
from lake.durable import Fault
from lake.errors import StorageFailed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems are pretended on a POSIX one")


class Kernel:
    """As much of kernel32 as a directory's flush needs."""

    def __init__(self, handle: int | None, flushed: int) -> None:
        self.calls: list[str] = []
        self.CreateFileW = self._Create(self, handle)
        self._flushed = flushed
        self.FlushFileBuffers, self.CloseHandle = self._flush, self._close

    class _Create:
        restype: Any = None

        def __init__(self, kernel: Kernel, handle: int | None) -> None:
            self._kernel, self._handle = kernel, handle

        def __call__(self, *_arguments: object) -> int | None:
            self._kernel.calls.append("create")
            return self._handle

    def _flush(self, _handle: object) -> int:
        self.calls.append("flush")
        return self._flushed

    def _close(self, _handle: object) -> int:
        self.calls.append("close")
        return 1


def windows(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> Kernel:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
    monkeypatch.setattr(ctypes, "WinError", lambda code: OSError(errno.EACCES, f"code {code}"), raising=False)
    return kernel


def test_windows_flushes_a_folder_by_its_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = windows(monkeypatch, Kernel(handle=7, flushed=1))
    durable.fsync_dir(tmp_path)
    assert kernel.calls == ["create", "flush", "close"]


@pytest.mark.parametrize("handle,calls", [(None, ["create"]), (7, ["create", "flush", "close"])])
def test_windows_tells_a_folder_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handle: int | None, calls: list[str]
) -> None:
    kernel = windows(monkeypatch, Kernel(handle, flushed=0))
    with pytest.raises(StorageFailed, match="code 5"):
        durable.fsync_dir(tmp_path)
    assert kernel.calls == calls


def test_windows_syncs_data_whole_and_opens_what_it_syncs_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a"
    windows(monkeypatch, Kernel(handle=7, flushed=1))
    monkeypatch.setattr(os, "fdatasync", None)
    with durable.AppendFile(place) as file:
        file.write(b"x")
        file.sync()
    durable.fsync_file(place)
    assert place.read_bytes() == b"x"


def test_windows_leaves_a_file_that_somebody_has_open_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(_path: Path) -> None:
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(Path, "unlink", held)
    with pytest.raises(StorageFailed, match="in use"):
        durable.unlink(tmp_path / "a")
    monkeypatch.setattr(sys, "platform", "win32")
    assert durable.unlink(tmp_path / "a") is False


def test_windows_tries_a_refused_rename_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    waits: list[float] = []
    monkeypatch.setattr(refused.time, "sleep", waits.append)

    def refusing(code: int, times: int) -> Any:
        def action() -> str:
            if len(waits) < times:
                error = PermissionError(errno.EACCES, "in use")
                error.winerror = code
                raise error
            return "done"

        return action

    assert refused.patient(refusing(32, 3)) == "done"
    assert len(waits) == 3
    with pytest.raises(PermissionError):
        refused.patient(refusing(1, 99))
    with pytest.raises(PermissionError):
        refused.patient(refusing(5, 99))
    assert sum(waits[3:]) < 10


def test_macos_empties_the_drives_cache_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    fcntl = types.SimpleNamespace(F_FULLFSYNC=51, fcntl=lambda fd, what: asked.append(what))
    monkeypatch.setitem(sys.modules, "fcntl", fcntl)
    monkeypatch.setattr(sys, "platform", "darwin")
    durable.fsync_dir(tmp_path)
    assert asked == [51]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, None])
def test_room_is_set_aside_by_writing_where_it_cannot_be_by_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(number, "not here")

    if number is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    durable.reserve(tmp_path / "room", durable.COPY_CHUNK + 5)
    assert (tmp_path / "room").stat().st_size == durable.COPY_CHUNK + 5


def test_room_is_set_aside_as_this_system_does_it(tmp_path: Path) -> None:
    durable.reserve(tmp_path / "room", 70_000)
    assert (tmp_path / "room").stat().st_size == 70_000


def test_room_that_is_not_there_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(StorageFailed) as failed:
        durable.reserve(tmp_path / "room", 5)
    assert durable.no_space(failed.value)
    assert list(tmp_path.iterdir()) == []


def without_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuse)


def test_without_links_a_second_name_is_a_copy_and_a_new_name_is_a_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    (tmp_path / "a").write_bytes(b"x")
    durable.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x"
    assert durable.write_new(tmp_path / "c", b"y")
    assert not durable.write_new(tmp_path / "c", b"z")
    assert (tmp_path / "c").read_bytes() == b"y"


def test_without_links_a_name_that_is_taken_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "c"

    def refuse(*_arguments: object, **_options: object) -> None:
        target.write_bytes(b"first")
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert not durable.write_new(target, b"y")
    assert target.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_name_that_somebody_else_linked_first_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"first")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert not durable.write_new(tmp_path / "c", b"y")
    assert (tmp_path / "c").read_bytes() == b"first"


def test_a_link_that_fails_for_another_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch, errno.EIO)
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StorageFailed):
        durable.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StorageFailed):
        durable.write_new(tmp_path / "c", b"y")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_that_have_other_bytes_are_told_apart_by_size_and_by_content(tmp_path: Path) -> None:
    for name, data in (("a", b"xy"), ("b", b"xy"), ("c", b"xz"), ("d", b"x")):
        (tmp_path / name).write_bytes(data)
    assert [durable.same_bytes(tmp_path / "a", tmp_path / name) for name in "abcd"] == [True, True, False, False]
    durable.rename(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "a").exists()
    for taken in ("c", "d"):
        with pytest.raises(FileExistsError):
            durable.rename(tmp_path / "b", tmp_path / taken)
        with pytest.raises(FileExistsError):
            durable.link(tmp_path / "b", tmp_path / taken)


def test_a_folder_that_leads_out_of_the_lake_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "raw").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(StorageFailed, match="symbolic link"):
        durable.sweep_temps(tmp_path / "lake")


def test_a_place_where_no_folder_can_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        durable.make_dirs(tmp_path / "file" / "below")
    monkeypatch.setattr(Path, "mkdir", lambda *_: None)
    with pytest.raises(StorageFailed):
        durable.make_dirs(tmp_path / "new")


def test_a_file_that_is_closed_is_not_used_and_closing_twice_is_fine(tmp_path: Path) -> None:
    file = durable.AppendFile(tmp_path / "a")
    assert (file.closed, file.tell()) == (False, 0)
    file.flush()
    file.close()
    file.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")
    with pytest.raises(ValueError, match="a run is named"):
        durable.temp_path(tmp_path / "a", "not a run!")


def test_a_file_is_cut_within_what_it_has(tmp_path: Path) -> None:
    with durable.AppendFile(tmp_path / "a") as file:
        file.write(b"xyz")
        with pytest.raises(ValueError, match="cannot cut"):
            file.truncate(4)
        durable.inject(Fault("truncate", 1, "EIO"))
        try:
            with pytest.raises(StorageFailed):
                file.truncate(1)
        finally:
            durable.inject(None)
        file.truncate(1)
        file.sync()
    assert (tmp_path / "a").read_bytes() == b"x"


def test_the_room_of_a_place_is_what_may_be_written_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = durable.room(tmp_path)
    assert 0 < room.free <= room.total
    monkeypatch.setattr(durable.shutil, "disk_usage", _refuse)
    with pytest.raises(StorageFailed):
        durable.room(tmp_path)


def _refuse(*_arguments: object) -> None:
    raise OSError(errno.EIO, "no answer")
