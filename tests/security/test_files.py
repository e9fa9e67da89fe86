"""Files of a lake are one user's: whose folder it is, who may read what, and names that nobody can guess."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lake import durable, layout, place
from lake.errors import LakeError, NotALake
from lake.lock import LakeLock, read_lock
from lake.rebuild import rebuild
from lake.writer import LakeWriter
from market import times
from tests.support.commands import ROOT

NOW = times.parse("2026-11-20T10:00:00Z")
posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_lake_that_is_a_link_is_refused_by_every_writer(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    LakeWriter.open(real, "n", NOW).close()
    link.symlink_to(real)
    for opening in (lambda: LakeWriter.open(link, "n", NOW), lambda: rebuild(link, "n", NOW)):
        with pytest.raises(NotALake, match=f"is a symbolic link .*{real}"):
            opening()


@pytest.mark.parametrize("name", ["manifest.db", "manifest.db-wal", ".lock", "ledger", "tables", "logs", "raw"])
def test_what_a_lake_holds_is_no_link(tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "lake", tmp_path / "outside"
    LakeWriter.open(root, "n", NOW).close()
    held = root / name
    if held.exists():
        held.rename(outside)
    held.symlink_to(outside)
    with pytest.raises(LakeError, match="symbolic link"):
        LakeWriter.open(root, "n", NOW)


@posix
def test_a_lake_of_another_user_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "lake"
    LakeWriter.open(root, "n", NOW).close()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(NotALake, match="belongs to another user"):
        LakeWriter.open(root, "n", NOW)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@posix
def test_only_the_owner_may_read_the_lock_even_of_a_copied_lake(tmp_path: Path) -> None:
    lock = tmp_path / layout.LOCK
    with LakeLock.acquire(tmp_path):
        assert mode(lock) == 0o600
    lock.chmod(0o644)
    with LakeLock.acquire(tmp_path) as held:
        held.describe(port=1, token="t")
        assert mode(lock) == 0o600
        found = read_lock(tmp_path)
        assert found is not None
        assert (found.port, found.token) == (1, "t")
    assert lock.read_bytes() == b"", "what is released tells no token"


@posix
def test_a_lock_that_cannot_be_closed_to_others_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / layout.LOCK
    lock.touch(0o644)
    lock.chmod(0o644)

    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "not here")

    with monkeypatch.context() as refused:
        refused.setattr(os, "fchmod", refuse)
        with pytest.raises(NotALake, match="chmod 600"):
            LakeLock.acquire(tmp_path)
    assert read_lock(tmp_path) is None, "it was let go of"
    LakeLock.acquire(tmp_path).release()


def test_where_files_have_no_owners_whose_they_are_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "lake"
    LakeWriter.open(root, "n", NOW).close()
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(NotALake, match="another user"):
        place.check(root)
    monkeypatch.delattr(os, "geteuid")  # Windows
    place.check(root)


def test_a_lock_that_is_a_link_is_neither_read_nor_written(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("{}")
    root = tmp_path / "lake"
    root.mkdir()
    (root / layout.LOCK).symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        read_lock(root)
    with pytest.raises(LakeError):
        LakeLock.acquire(root)
    assert elsewhere.read_text() == "{}"


def test_temporary_names_cannot_be_foretold_and_are_taken_from_nobody(tmp_path: Path) -> None:
    made: list[Path] = []

    def watch(op: durable.Op) -> None:
        if op.name == "create":
            made.append(Path(op.path))

    with durable.observe(watch):
        for n in range(3):
            durable.write_file(tmp_path / "x", bytes([n]))
    names = {path.name for path in made}
    assert len(names) == 3
    assert all(len(name.rsplit(".", 2)[1]) >= 17 for name in names), names
    taken = tmp_path / ".y.run.tmp"
    taken.symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        durable.AppendFile(taken)
    assert not (tmp_path / "victim").exists()


WRITES = """
import os, sys
from pathlib import Path
from lake.place import shut_out_others
from lake.writer import LakeWriter
os.umask(int(sys.argv[2], 8))
shut_out_others()
with LakeWriter.open(Path(sys.argv[1]), "n", 1_700_000_000_000_000) as writer:
    pass
"""


@posix
@pytest.mark.parametrize("given, folder, file", [("000", 0o750, 0o640), ("077", 0o700, 0o600)])
def test_what_is_written_is_not_for_others_and_a_stricter_umask_holds(
    tmp_path: Path, given: str, folder: int, file: int
) -> None:
    root = tmp_path / "lake"
    subprocess.run([sys.executable, "-c", WRITES, str(root), given], cwd=ROOT, check=True)
    for path in (root, *root.rglob("*")):
        allowed = folder if path.is_dir() else file
        assert mode(path) & ~allowed == 0, f"{path} {mode(path):o}"


def test_every_process_that_writes_a_lake_shuts_out_others() -> None:
    for path in ("daemon/lifecycle.py", "cli/jobs.py", "cli/commands/replay.py", "cli/commands/rebuild.py"):
        assert "shut_out_others()" in (ROOT / path).read_text(encoding="utf-8"), path
    assert place.shut_out_others.__doc__
