"""A test's scenario in a process of its own, with less of something: disk, files, address space, rights.

`run("module:function", folder, ...)` starts `python -m tests.support.narrow module:function folder`, which calls the
function with the folder and prints what it returns as JSON. The disk is a small tmpfs in a mount namespace of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import importlib
import inspect
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import loguru
import pytest

from tests.support.commands import ROOT
from tests.support.engines import quick_engines

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096


@functools.cache
def _no_namespaces() -> str:
    """Why this machine gives no mount namespace; empty where it does."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "mount namespaces need Linux and unshare(1)"
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else f"unshare -rm mount -t tmpfs: {tried.stderr.strip()}"


def need_namespaces() -> None:
    """Skip, saying why, where a small disk cannot be made."""
    why = _no_namespaces()
    if why:
        pytest.skip(why)


def run(
    scenario: str,
    folder: Path,
    *,
    disk: str | None = None,
    limits: Mapping[str, int] | None = None,
    wrapper: Sequence[str] = (),
    seconds: float = 120.0,
    **options: Any,
) -> Any:
    """What the scenario returned. `disk` is the size of a tmpfs at `folder`, `limits` are RLIMIT_ names."""
    command = [sys.executable, "-m", "tests.support.narrow", scenario, str(folder), json.dumps(dict(limits or {}))]
    if disk is not None:
        folder.mkdir(exist_ok=True)
        mount = 'mount -t tmpfs -o size=$0 tmpfs "$1" && shift && exec "$@"'
        command = ["unshare", "-rm", "sh", "-c", mount, disk, str(folder), *command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    done = subprocess.run(
        [*wrapper, *command], cwd=ROOT, capture_output=True, text=True, timeout=seconds, env=environment, check=False,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, f"{scenario} ended with {done.returncode}:\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def shut(folder: Path) -> None:
    """Whatever is opened, made or renamed below `folder` from now on meets a read-only file system.

    A read-only mount of the folder over itself: a plain remount is refused while anything is open for writing, which is
    not what a disk with errors waits for.
    """
    _mount(folder, MS_BIND)
    _mount(folder, MS_BIND | MS_REMOUNT | MS_RDONLY)


def open_again(folder: Path) -> None:
    """Take `shut` back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(folder), 2):  # MNT_DETACH: what was opened for reading meanwhile may still be open
        raise OSError(ctypes.get_errno(), "umount2", str(folder))


def _mount(folder: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(folder), os.fsencode(folder), None, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


def without_override() -> list[str]:
    """A command's beginning that takes from root what it has beyond permissions; empty for any other user."""
    if os.getuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("run as root, permissions hold back nothing, and setpriv(1) is not there to change that")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def fill(folder: Path, *, leave: int = 0, name: str = "filler") -> Path:
    """Take all room of the disk but `leave` bytes; the file that holds it."""
    filler = folder / name
    with filler.open("wb") as file:
        while (free := shutil.disk_usage(folder).free - leave) > 0:
            try:
                file.write(bytes(min(free, 65_536)))
                file.flush()
            except OSError:
                break
    return filler


def main() -> None:
    scenario, folder, limits = sys.argv[1:]
    module, _, name = scenario.partition(":")
    loguru.logger.remove()
    function = getattr(importlib.import_module(module), name)
    for limit, value in json.loads(limits).items():
        number = getattr(resource, f"RLIMIT_{limit}")
        resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
    with quick_engines():
        made = function(Path(folder))
        found = asyncio.run(made) if inspect.iscoroutine(made) else made
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
