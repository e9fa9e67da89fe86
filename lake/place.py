"""Whether a folder may be written as a lake: this user's own, no symbolic link, and nothing in it that leads elsewhere.

Who may write the folder may write the data, and who may read `.lock` may give the daemon jobs; so a lake is one user's.
Where there are no POSIX owners (Windows) the folder's access list is the operator's to set: see deploy/windows.
"""

from __future__ import annotations

import os
from pathlib import Path

from lake.errors import NotALake
from lake.layout import BACKUPS, BALLAST, CLOCKS, LOCK, LOGS, MANIFEST, TREES

_HELD = (*TREES, BACKUPS, BALLAST, CLOCKS, LOGS, MANIFEST, f"{MANIFEST}-wal", f"{MANIFEST}-shm", LOCK)


def check(root: Path) -> None:
    """Raises NotALake where the folder or what lies in it is a symbolic link, or belongs to another user.

    Folders further below are looked at when a start goes through them (`lake.durable.sweep_temps`).
    """
    if root.is_symlink():
        raise NotALake(f"{root} is a symbolic link", f"name the folder itself: {root.resolve()}")
    for name in _HELD:
        if (root / name).is_symlink():
            raise NotALake(f"{root / name} is a symbolic link", "put the real file or folder there, or mount it there")
    getuid = getattr(os, "geteuid", None)
    if getuid is None:
        return
    for held in (root, root / MANIFEST):
        try:
            owner = held.stat().st_uid
        except FileNotFoundError:
            continue
        if owner != getuid():
            raise NotALake(
                f"{held} belongs to another user (uid {owner}, this process runs as {getuid()})",
                "run as the user of the lake, or give the folder to this one",
            )


def keep_private(fd: int, path: Path) -> None:
    """Take from everybody else what they may do with an open file. Raises NotALake where it is not ours to do so."""
    if hasattr(os, "fchmod") and os.fstat(fd).st_mode & 0o077:
        try:
            os.fchmod(fd, 0o600)
        except OSError as error:
            raise NotALake(f"{path} is open to others and cannot be closed to them", "chmod 600 it") from error


def shut_out_others() -> None:
    """What this process and its workers create from now on is not for other users: umask 027 at least."""
    held = os.umask(0o077)
    os.umask(held | 0o027)
