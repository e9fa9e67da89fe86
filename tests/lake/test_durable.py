"""Durable writing: whole writes or none, syncs that are never asked twice, names that are never taken from another."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lake import durable, failpoints
from lake.errors import StorageFailed
from tests.support.crash import at_each_step, needs_fork, quick_folder


@pytest.fixture(name="tmp_path")
def _quick():
    with quick_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _no_fault_stays():
    yield
    durable.inject(None)


def test_a_new_file_grows_at_its_end_and_knows_what_is_durable(tmp_path: Path) -> None:
    with durable.AppendFile(tmp_path / "a") as file:
        assert file.write(b"one\n") == 4
        assert (file.size, file.synced, file.tell()) == (4, 0, 4)
        file.sync()
        file.write(memoryview(b"two\n"))
        assert (file.size, file.synced) == (8, 4)
    assert file.closed
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"


def test_a_new_file_never_takes_an_existing_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        durable.AppendFile(tmp_path / "a")
    with durable.AppendFile(tmp_path / "a", existing=True) as file:
        file.write(b"!")
    assert (tmp_path / "a").read_bytes() == b"mine!"
    with pytest.raises(FileNotFoundError):
        durable.AppendFile(tmp_path / "b", existing=True)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_not_followed_when_a_file_is_opened_for_appending(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        durable.AppendFile(tmp_path / "a", existing=True)


@pytest.mark.parametrize("kind", ["SHORT", "ENOSPC", "EIO"])
def test_a_write_that_fails_is_undone_and_can_be_tried_again(tmp_path: Path, kind) -> None:
    with durable.AppendFile(tmp_path / "a") as file:
        file.write(b"whole\n")
        fault = durable.Fault("write", 1, kind)
        durable.inject(fault)
        with pytest.raises(StorageFailed) as caught:
            file.write(b"twenty bytes or more\n")
        assert fault.struck == 1
        assert durable.no_space(caught.value) == (kind != "EIO")
        assert (tmp_path / "a").read_bytes() == b"whole\n"
        file.write(b"again\n")
        file.sync()
    assert (tmp_path / "a").read_bytes() == b"whole\nagain\n"


def test_a_write_that_the_system_takes_in_pieces_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    with durable.AppendFile(tmp_path / "a") as file:
        file.write(b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_failed_sync_is_never_tried_again_on_the_same_file(tmp_path: Path) -> None:
    with durable.AppendFile(tmp_path / "a") as file:
        file.write(b"x")
        durable.inject(durable.Fault("sync", 1, "EIO"))
        with pytest.raises(StorageFailed, match="syncing"):
            file.sync()
        for again in (file.sync, lambda: file.write(b"y"), lambda: file.truncate(0)):
            with pytest.raises(StorageFailed, match="takes nothing more"):
                again()
    assert file.synced == 0


def test_a_file_whose_failed_write_cannot_be_undone_takes_nothing_more(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with durable.AppendFile(tmp_path / "a") as file:
        monkeypatch.setattr(os, "ftruncate", refuse)
        durable.inject(durable.Fault("write", 1, "SHORT"))
        with pytest.raises(StorageFailed):
            file.write(b"abcdef")
        assert file.failed
        with pytest.raises(StorageFailed, match="open a new file"):
            file.write(b"x")


def test_syncing_what_is_durable_already_costs_no_step(tmp_path: Path) -> None:
    with durable.AppendFile(tmp_path / "a") as file, durable.observe((ops := []).append):
        file.write(b"x")
        file.sync()
        file.sync()
        file.truncate(0)
        file.sync()
        with pytest.raises(ValueError, match="cannot cut"):
            file.truncate(1)
    assert [op.name for op in ops] == ["write", "sync", "truncate", "sync"]
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


def test_write_file_replaces_as_a_whole_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "a", b"1")
    durable.write_file(tmp_path / "a", b"22")
    (tmp_path / "b").write_bytes(b"from a file")
    durable.write_file(tmp_path / "c", tmp_path / "b")
    durable.inject(durable.Fault("sync", 1, "ENOSPC"))
    with pytest.raises(StorageFailed, match="free space"):
        durable.write_file(tmp_path / "a", b"333")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "a": b"22",
        "b": b"from a file",
        "c": b"from a file",
    }


def test_every_step_of_write_file_is_watched_in_the_order_that_makes_it_durable(tmp_path: Path) -> None:
    ops: list[durable.Op] = []
    with durable.observe(ops.append):
        durable.write_file(tmp_path / "a", b"data")
    durable.write_file(tmp_path / "b", b"unwatched")
    assert [op.name for op in ops] == ["create", "fsync_dir", "write", "sync", "rename", "fsync_dir"]
    assert ops[2].data == b"data"
    assert ops[4].target == str(tmp_path / "a")


@needs_fork
def test_write_file_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    seen = set()
    for step, root in at_each_step(
        tmp_path,
        lambda root: durable.write_file(root / "a", b"new"),
        ("KILL", "KILL_AFTER", "TORN"),
        lambda root: (root / "a").write_bytes(b"old"),
    ):
        seen.add((root / "a").read_bytes())
        assert seen <= {b"old", b"new"}, step
        durable.sweep_temps(root)
        assert [p.name for p in root.iterdir()] == ["a"], step
    assert len(seen) == 2


def test_write_new_never_replaces(tmp_path: Path) -> None:
    assert durable.write_new(tmp_path / "a", b"first")
    assert not durable.write_new(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_of_many_that_write_a_new_name_one_succeeds(tmp_path: Path) -> None:
    won: list[bytes] = []

    def race(data: bytes) -> None:
        if durable.write_new(tmp_path / "a", data):
            won.append(data)

    threads = [threading.Thread(target=race, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [(tmp_path / "a").read_bytes()]
    assert len(list(tmp_path.iterdir())) == 1


def test_write_new_where_there_are_no_links_still_takes_only_free_names(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert durable.write_new(tmp_path / "a", b"first")
    assert not durable.write_new(tmp_path / "a", b"second")
    durable.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 2


def test_rename_takes_no_name_from_another_file(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FileExistsError):
        durable.rename(tmp_path / "a", tmp_path / "b")
    durable.rename(tmp_path / "a", tmp_path / "c")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c"]
    durable.rename(tmp_path / "c", tmp_path / "b", replace=True)
    assert (tmp_path / "b").read_bytes() == b"1"
    with pytest.raises(FileNotFoundError):
        durable.rename(tmp_path / "missing", tmp_path / "d")


def test_a_rename_between_folders_makes_both_durable(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "a").write_bytes(b"")
    with durable.observe((ops := []).append):
        durable.rename(tmp_path / "a", tmp_path / "x" / "a")
    assert [(op.name, op.path) for op in ops[1:]] == [("fsync_dir", str(tmp_path / "x")), ("fsync_dir", str(tmp_path))]


def test_link_gives_a_second_name_and_refuses_one_that_says_something_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "other").write_bytes(b"2")
    durable.link(tmp_path / "a", tmp_path / "b")
    durable.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    with pytest.raises(FileExistsError):
        durable.link(tmp_path / "a", tmp_path / "other")


def test_unlink_of_what_is_gone_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert durable.unlink(tmp_path / "a")
    assert durable.unlink(tmp_path / "a")


def test_each_new_folder_is_made_durable_in_its_parent(tmp_path: Path) -> None:
    with durable.observe((ops := []).append):
        durable.make_dirs(tmp_path / "a" / "b")
        durable.make_dirs(tmp_path / "a" / "b")
    names = [(op.name, Path(op.path).name) for op in ops]
    assert names == [("mkdir", "a"), ("fsync_dir", tmp_path.name), ("mkdir", "b"), ("fsync_dir", "a")]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        durable.make_dirs(tmp_path / "file" / "c")


def test_truncate_file_cuts_durably(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    with durable.observe((ops := []).append):
        durable.truncate_file(tmp_path / "a", 2)
    assert (tmp_path / "a").read_bytes() == b"12"
    assert [op.name for op in ops] == ["truncate", "sync"]


def test_sweep_removes_the_temporary_files_of_other_runs_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.parquet"
    target.parent.mkdir()
    mine, theirs = durable.temp_path(target, "run2"), durable.temp_path(target, "run1")
    others = [tmp_path / ".hidden", tmp_path / "b.tmp", tmp_path / ".tmp", target, tmp_path / "..x.tmp"]
    for path in (mine, theirs, *others):
        path.write_bytes(b"")
    assert durable.sweep_temps(tmp_path, "run2") == 1
    assert not theirs.exists()
    assert all(path.exists() for path in (mine, *others))
    with pytest.raises(ValueError, match="run is named"):
        durable.temp_path(target, "a.b")


@pytest.mark.parametrize(
    "text", ["write", "write:0:KILL", "write:1:MELT", "fly:1:KILL", "*:1", "write:1:KILL:2", "write:-1:EIO"]
)
def test_a_failpoint_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"LAKE_FAULT|unknown operation"):
        durable.fault_from_env({"LAKE_FAULT": text})


def test_the_environment_names_the_step_that_fails(tmp_path: Path) -> None:
    assert durable.fault_from_env({}) is None
    fault = durable.fault_from_env({"LAKE_FAULT": "write:2+:ENOSPC"})
    assert fault is not None
    durable.inject(fault)
    with durable.AppendFile(tmp_path / "a") as file:
        file.write(b"1")
        for _ in range(3):
            with pytest.raises(StorageFailed):
                file.write(b"2")
    assert (fault.seen, fault.struck) == (4, 3)
    slow = durable.fault_from_env({"LAKE_FAULT": "*:1:DELAY=0.001"})
    assert slow is not None
    durable.inject(slow)
    durable.write_file(tmp_path / "b", b"")
    assert (slow.struck, slow.delay) == (1, 0.001)


@needs_fork
def test_a_process_that_is_started_with_a_failpoint_dies_at_it(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from lake import durable; durable.write_file(Path({str(tmp_path / 'a')!r}), b'x')"
    )
    for variable, status in (("rename:1:KILL", -9), ("rename:2:KILL", 0), ("melt", 1)):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "LAKE_FAULT": variable}, capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr
    assert b"melt" in done.stderr


STRIKES = [
    ("KILL", "linux", ["signal 9", "whole"]),
    ("KILL_AFTER", "linux", ["whole", "signal 9"]),
    ("TORN", "linux", ["half", "signal 9", "whole"]),
    ("TERM", "linux", ["signal 15", "whole"]),
    ("SEGV", "linux", ["signal 11", "whole"]),
    ("KILL", "win32", ["exit 137", "whole"]),
]
"""What happens in which order, to a process that survives it all."""


@pytest.mark.parametrize("kind,system,happens", STRIKES)
def test_a_failpoint_strikes_before_behind_or_in_the_middle_of_its_step(
    monkeypatch: pytest.MonkeyPatch, kind, system: str, happens: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "kill", lambda process, number: seen.append(f"signal {number:d}"))
    monkeypatch.setattr(os, "_exit", lambda code: seen.append(f"exit {code}"))
    fault = durable.Fault("write", 1, kind)
    durable.inject(fault)
    failpoints.step(durable.Op("write", "a"), lambda: seen.append("whole"), half=lambda: seen.append("half"))
    assert (seen, fault.struck_at) == (happens, ["a"])


@pytest.mark.parametrize("step", ["create", "write", "sync", "rename", "fsync_dir"])
def test_whatever_step_fails_the_caller_hears_of_it(tmp_path: Path, step: str) -> None:
    fault = durable.Fault(step, 1, "EIO")
    durable.inject(fault)
    with pytest.raises(StorageFailed):
        durable.write_file(tmp_path / "a", b"data")
    assert fault.struck == 1


def test_a_lock_file_is_for_its_owner_only(tmp_path: Path) -> None:
    fd = durable.open_private(tmp_path / ".lock")
    try:
        durable.overwrite(fd, b"longer text", tmp_path / ".lock")
        durable.overwrite(fd, b"short", tmp_path / ".lock")
    finally:
        os.close(fd)
    assert (tmp_path / ".lock").read_bytes() == b"short"
    if sys.platform != "win32":
        assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o600
