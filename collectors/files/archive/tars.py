"""A tar of one file, packed with gzip, read as a stream: nothing is unpacked to a disk, no name in it is believed.

gzip bounds what comes out and proves it (`gzips`). Of the tar one record is looked at: a plain file, named as the
archive's, of a size that data have. Behind it there is its end, and nothing else.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from collectors.files.archive import gzips
from collectors.files.archive.refused import Refused
from collectors.files.archive.zips import LARGER, OTHER, Caps, whole_lines

SUFFIX = ".tar.gz"
RECORD = 512
"""Bytes of a record; a file ends where one does."""
MOST_SAID = 64 * 1024
"""Bytes in which a tar may say more of a file than its record has room for. They are not looked at."""
_MORE = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_NAMES = ("utf-8", "surrogateescape")
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_AGAIN = "fetch it again; if it stays so, the publisher's file is broken"
_SHOWN = re.compile(r"[^\x20-\x7e]")


class _Tape:
    """Bytes that come in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, b""

    def run(self, size: int | None = None) -> Iterator[bytes]:
        """The next `size` bytes in pieces, or all that are left; fewer where the tape ends."""
        while size is None or size > 0:
            piece = self._held or next(self._pieces, b"")
            if not piece:
                return
            given = piece[:size]
            self._held = piece[len(given) :]
            size = None if size is None else size - len(given)
            yield given

    def take(self, size: int) -> bytes:
        return b"".join(self.run(size))


def blocks(file: BinaryIO, name: str, caps: Caps) -> Iterator[bytes]:
    """The lines of the only file in it, whole lines a block. Raises Refused, for a broken end too: what was yielded
    before is then worth nothing.
    """
    packed = file.seek(0, 2)
    yield from whole_lines(_member(_Tape(gzips.pieces(file, name, caps)), name, packed, caps), name, None)


def _member(tape: _Tape, name: str, packed: int, caps: Caps) -> Iterator[bytes]:
    entry = _first(tape, name)
    if entry.size > caps.unpacked:
        what = f"{entry.name} would have {entry.size:,} bytes, {caps.unpacked:,} are taken"
        raise Refused(name, "size", what, LARGER)
    if entry.size > caps.small and entry.size > caps.ratio * max(packed, 1):
        what = f"{entry.name} would be {entry.size // max(packed, 1):,} times the file, {caps.ratio} times is taken"
        raise Refused(name, "size", f"{what}: a bomb", OTHER)
    seen = 0
    for piece in tape.run(entry.size):
        seen += len(piece)
        yield piece
    if seen < entry.size:
        raise Refused(name, "tar", f"it holds {seen:,} bytes of {entry.name} and says {entry.size:,}", _AGAIN)
    _ended(tape, name, entry)


def _first(tape: _Tape, name: str) -> tarfile.TarInfo:
    """What its file is, which has to be the one that is expected."""
    try:
        entry = tarfile.TarInfo.frombuf(tape.take(RECORD), *_NAMES)
        for _ in _MORE:  # one of each, before the file they are of
            if entry.type in _MORE and 0 <= entry.size <= MOST_SAID:
                tape.take(entry.size + -entry.size % RECORD)
                entry = tarfile.TarInfo.frombuf(tape.take(RECORD), *_NAMES)
    except tarfile.HeaderError as error:
        raise Refused(name, "tar", f"what is in it is no tar, or an empty one ({error})", _AGAIN) from error
    held, stem = _shown(entry), name.removesuffix(SUFFIX)
    if re.fullmatch(rf"{re.escape(stem)}(\.[a-z]{{1,8}})?", entry.name) is None:
        raise Refused(name, "tar", f"it holds {held!r}, {f'{stem}.data'!r} is expected", OTHER)
    if entry.type not in _PLAIN or entry.size < 0:
        raise Refused(name, "tar", f"{held} is no plain file in it", OTHER)
    return entry


def _ended(tape: _Tape, name: str, entry: tarfile.TarInfo) -> None:
    """Behind the file there are zeros: at least one record of them."""
    padding = tape.take(-entry.size % RECORD)
    after = tape.take(RECORD)
    if len(after) < RECORD:
        raise Refused(name, "tar", "it does not end as a tar does: it is cut short", _AGAIN)
    if any(after):
        with contextlib.suppress(tarfile.HeaderError):
            other = _shown(tarfile.TarInfo.frombuf(after, *_NAMES))
            raise Refused(name, "tar", f"it holds {other!r} too, one file is expected", OTHER)
    if any(after) or any(padding) or any(piece.count(0) != len(piece) for piece in tape.run()):
        raise Refused(name, "tar", f"there is something behind the end of {entry.name}", OTHER)


def _shown(entry: tarfile.TarInfo) -> str:
    return _SHOWN.sub("?", entry.name)[:100]
