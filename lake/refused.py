"""What the operating system refused, in words and by sort: full, read-only, or failing.

The sort decides what a daemon does: a full disk and a read-only one are waited for, and so is one that fails, but at
a growing distance. `errno` of a StorageFailed survives the way back from a worker process; its cause does not.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

from lake.errors import StorageFailed

T = TypeVar("T")
Sort = Literal["disk_full", "read_only", "storage_failed"]
"""Also the causes of the gaps that come of it."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHUT: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
PERMIT: Final = "let this user at it and at the folders above it (chmod, chown), or run this as the user who owns it"
_HINTS: Final = {
    errno.ENOSPC: "free space on this disk; writing resumes by itself",
    errno.EDQUOT: "this user's quota is used up; writing resumes by itself once there is room",
    errno.EFBIG: "no file of this process may grow so large: raise its limit (ulimit -f)",
    errno.EMFILE: "this process has too many files open: raise its limit (ulimit -n)",
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "make it writable for this user",
    errno.EIO: "the disk reports errors: check its health before anything else",
}


def number_of(error: BaseException) -> int | None:
    """The errno of a StorageFailed or OSError, where it has one."""
    if isinstance(error, StorageFailed):
        return error.errno
    return error.errno if isinstance(error, OSError) else None


def no_space(error: BaseException) -> bool:
    """Whether a StorageFailed (or OSError) says that the disk or the quota is full."""
    return number_of(error) in (errno.ENOSPC, errno.EDQUOT)


def of_one_place(error: BaseException) -> bool:
    """Whether a StorageFailed may be of one folder only, and another write succeed: a permission that is missing."""
    return number_of(error) in (errno.EACCES, errno.EPERM)


def cure(error: BaseException, otherwise: str = "") -> str:
    """What its user can do where a permission is missing; `otherwise` where something else is the matter."""
    return PERMIT if of_one_place(error) else otherwise


def sort_of(error: BaseException) -> Sort:
    """What a StorageFailed says of the storage as a whole."""
    number = number_of(error)
    if number in FULL:
        return "disk_full"
    return "read_only" if number in SHUT else "storage_failed"


@contextlib.contextmanager
def storage(doing: str, path: Path) -> Iterator[None]:
    """Tell what the system refuses as StorageFailed; names that are taken or missing stay what they are."""
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        failed = StorageFailed(f"{doing} {path} failed: {reason}", _HINTS.get(error.errno or 0, ""))
        failed.errno = error.errno
        raise failed from error


def patient(action: Callable[[], T]) -> T:
    """Windows refuses what a scanner or reader holds open for a moment: try again for up to ten seconds."""
    if sys.platform == "win32":
        for delay in (0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 3.0, 3.0):
            try:
                return action()
            except PermissionError as error:
                if error.winerror not in (5, 32):
                    raise
                time.sleep(delay)
    return action()
