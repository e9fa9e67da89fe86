"""A zip that holds one file, read as a stream: nothing is unpacked to a disk, and no name in it is believed.

Looked at before a byte is inflated: one entry, of the name that is expected, of a size and a ratio that data have.
The sum at its end (CRC-32) is checked as the last byte is read.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from collectors.files.archive.refused import Refused

BLOCK = 12 * 1024 * 1024
"""Bytes of text that are worked on at once."""
_END = struct.Struct("<4sHHHHIIH")
_AGAIN = "fetch it again; if it stays so, the publisher's file is broken"
OTHER = "take nothing from it: remove it, and fetch the venue's own file"
LARGER = "if it is sound, raise archives.max_unpacked_gb"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_SHOWN = re.compile(r"[^\x20-\x7e]")


class Caps(msgspec.Struct, frozen=True):
    """What a file may be: bytes packed, bytes unpacked, and how many times as much the one may be as the other."""

    packed: int = 16 * 1024**3
    unpacked: int = 64 * 1024**3
    ratio: int = 200
    small: int = 1024 * 1024
    """Bytes up to which the ratio does not matter: a day without a trade packs well."""


def blocks(file: BinaryIO, name: str, member: str | None, caps: Caps) -> Iterator[bytes]:
    """The lines of `member`, the only file in the zip `file`, whole lines a block. `name` is for what is said. None is
    a file of any name, but none in a folder.

    Raises Refused, for a broken end too: what was yielded before is then worth nothing.
    """
    size = file.seek(0, 2)
    _check_end(file, size, name, caps)
    try:
        with zipfile.ZipFile(file) as opened:
            entry = _entry(opened, name, member, caps, size)
            with opened.open(entry) as stream:
                yield from whole_lines(iter(lambda: stream.read(BLOCK), b""), name, entry.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, ValueError) as error:
        raise Refused(name, "zip", f"it cannot be unpacked ({error or 'it ends too soon'})", _AGAIN) from error


def _check_end(file: BinaryIO, size: int, name: str, caps: Caps) -> None:
    """The last record of a zip, before a list of any length is read from it."""
    if size > caps.packed:
        raise Refused(
            name, "size", f"{size:,} bytes, {caps.packed:,} are taken", "if it is sound, raise archives.max_gb"
        )
    file.seek(max(size - _END.size, 0))
    tail = file.read(_END.size)
    if len(tail) < _END.size or not tail.startswith(b"PK\x05\x06"):
        raise Refused(name, "zip", "it does not end as a zip does: it is cut short, or no zip", _AGAIN)
    entries, listed = _END.unpack(tail)[4:6]
    if entries != 1:
        raise Refused(name, "zip", f"it holds {entries} files, one is expected", OTHER)
    if listed > 64 * 1024:
        raise Refused(name, "zip", f"its list of one file has {listed:,} bytes", OTHER)


def _entry(opened: zipfile.ZipFile, name: str, member: str | None, caps: Caps, size: int) -> zipfile.ZipInfo:
    (entry, *others) = opened.infolist()
    if others:
        raise Refused(name, "zip", f"it holds {1 + len(others)} files, one is expected", OTHER)
    held = _SHOWN.sub("?", entry.orig_filename)[:100]
    if entry.orig_filename != member if member is not None else _PLAIN.fullmatch(entry.orig_filename) is None:
        raise Refused(name, "zip", f"it holds {held!r}, {member or 'a plain name'!r} is expected", OTHER)
    member = held
    if entry.flag_bits & 0x1:
        raise Refused(name, "zip", f"{member} is encrypted", OTHER)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(name, "zip", f"{member} is packed by method {entry.compress_type}", "pack it with deflate")
    if entry.file_size > caps.unpacked:
        what = f"{member} would have {entry.file_size:,} bytes, {caps.unpacked:,} are taken"
        raise Refused(name, "size", what, LARGER)
    if entry.file_size > caps.small and entry.file_size > caps.ratio * max(size, 1):
        times = entry.file_size // max(size, 1)
        what = f"{member} would be {times:,} times the zip, {caps.ratio} times is taken: a bomb"
        raise Refused(name, "size", what, OTHER)
    return entry


def whole_lines(pieces: Iterable[bytes], name: str, expected: int | None) -> Iterator[bytes]:
    """Blocks that end where a line does; `expected` bytes in all. Raises Refused."""
    rest = b""
    seen = 0
    for piece in pieces:
        seen += len(piece)
        cut = piece.rfind(b"\n") + 1
        if not cut:
            rest += piece
            if len(rest) > BLOCK:
                raise Refused(name, "columns", f"a line of more than {len(rest):,} bytes", _AGAIN)
            continue
        yield rest + piece[:cut]
        rest = piece[cut:]
    if expected is not None and seen != expected:
        raise Refused(name, "zip", f"it holds {seen:,} bytes and says {expected:,}", _AGAIN)
    if rest:
        raise Refused(name, "columns", "its last line has no end: it is cut short", _AGAIN)
    if not seen:
        raise Refused(name, "columns", "it is empty", _AGAIN)
