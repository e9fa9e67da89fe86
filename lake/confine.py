"""A process that gives up what it does not need: files, sockets and memory, for good.

What the operating system offers is used and what it lacks is told by the answer: on Linux from 5.13 Landlock (files;
sockets from 6.7, signals from 6.12), on any Unix limits of size, memory and time. On other systems nothing is given up.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # one number on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights of files each version of Landlock knows."""
_TCP = 0b11
_SCOPES = 0b11
_NO_NEW_PRIVILEGES = 38


def only_read(folders: Iterable[Path]) -> int:
    """From here on this thread and those it starts open files below `folders` only, to read, and no sockets.

    Gives the version of Landlock that does so, 0 where there is none.
    """
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION))
    if version < 1:
        return 0
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    held = struct.pack("QQQ", rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = int(libc.syscall(_CREATE, held, ctypes.c_size_t(size), 0))
    if rules < 0:
        return 0
    try:
        for folder in folders:
            _allow(libc, rules, folder)
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(_RESTRICT, rules, 0):
            return 0
    finally:
        os.close(rules)
    return version


def _allow(libc: ctypes.CDLL, rules: int, folder: Path) -> None:
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # nothing was published yet
    try:
        libc.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", _READ_FILE | _READ_DIR, opened), 0)
    finally:
        os.close(opened)


def limited(memory: int, seconds: int) -> None:
    """At most `memory` bytes more than now, `seconds` of CPU, and no file written, no core dumped."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 # Unix only

    def limit(what: int, most: int) -> None:
        hard = resource.getrlimit(what)[1]
        kept = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (kept, kept))

    limit(resource.RLIMIT_FSIZE, 0)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_CPU, seconds)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
