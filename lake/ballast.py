"""Ballast: room that is set aside while there is some, to be given up when there is none.

On a full disk the ledger and the manifest can still say so with it. It is one file, `.ballast` in the lake's root:
never data, never part of a listing, made and removed only here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from lake import durable
from lake.errors import StorageFailed
from lake.layout import BALLAST

START_BYTES = 32 * 1024 * 1024
"""What a start may have to write: its entry in the ledger, what it recovers, the manifest's write-ahead log."""


class Ballast:
    """The reserve of one lake: `size` bytes, 0 for none. Used by one thread at a time."""

    def __init__(self, root: Path, size: int) -> None:
        self._path = root / BALLAST
        self._size = size

    @property
    def held(self) -> int:
        """Bytes that are set aside now."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def reserve(self, spare: int) -> bool:
        """Set it aside where that leaves `spare` bytes free; whether there is all of it now. A refusal waits for the
        next time.
        """
        held = self.held
        if held == self._size:
            return True
        with contextlib.suppress(StorageFailed, FileExistsError, FileNotFoundError):
            if held:  # of another size: the configuration has changed
                self.release()
            if self._size and durable.room(self._path.parent).free >= self._size + spare:
                durable.reserve(self._path, self._size)
        return self.held == self._size

    def release(self) -> bool:
        """Give the room back; whether there was any to give. A disk that takes no removal either keeps it."""
        if not self._path.exists():
            return False
        try:
            return durable.unlink(self._path)
        except StorageFailed:
            return False


def make_room(root: Path, least: int) -> bool:
    """Give up the ballast where less than `least` bytes are free, so that a start can write what it must. The lake's
    lock is held. Whether room was made.
    """
    try:
        free = durable.room(root).free
    except StorageFailed:
        return False
    return free < least and Ballast(root, 0).release()
