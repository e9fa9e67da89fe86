"""A file packed with gzip, read as a stream: nothing is unpacked to a disk, and what it unpacks to is bounded.

gzip says nothing of its size beforehand: what has come out is held against what went in, piece by piece. The sum and
the length at its end are checked as the last byte is read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from collectors.files.archive.refused import Refused
from collectors.files.archive.zips import BLOCK, LARGER, OTHER, Caps, whole_lines

PIECE = 256 * 1024
MOST = 4 * 1024 * 1024
"""Bytes that are unpacked at once."""
_GZIP = 31
_AGAIN = "fetch it again; if it stays so, the publisher's file is broken"


def blocks(file: BinaryIO, name: str, caps: Caps) -> Iterator[bytes]:
    """The lines of a gzip file, whole lines a block. Raises Refused, for a broken end too."""
    yield from whole_lines(pieces(file, name, caps), name, None)


def pieces(file: BinaryIO, name: str, caps: Caps) -> Iterator[bytes]:
    """What it unpacks to, whatever that is. Raises Refused, for a broken end too."""
    size = file.seek(0, 2)
    file.seek(0)
    if size > caps.packed:
        raise Refused(name, "size", f"{size:,} bytes, {caps.packed:,} are taken", "look at what it is")
    yield from _bounded(_unpacked(file, name), name, size, caps)


def _unpacked(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Its bytes in pieces; it may consist of several members, as gzip allows."""
    unpacker = zlib.decompressobj(_GZIP)
    begun = False
    try:
        while piece := file.read(PIECE):
            while piece:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(_GZIP)
                begun = True
                out = unpacker.decompress(piece, MOST)
                if out:
                    yield out
                piece = unpacker.unconsumed_tail or unpacker.unused_data
    except zlib.error as error:
        raise Refused(name, "gz", f"it cannot be unpacked ({error})", _AGAIN) from error
    if not begun or not unpacker.eof:
        raise Refused(name, "gz", "it does not end as a gzip file does: it is cut short, or none", _AGAIN)


def _bounded(pieces: Iterator[bytes], name: str, size: int, caps: Caps) -> Iterator[bytes]:
    """Blocks of a size that is worth working on, as long as they are not too many."""
    seen, held = 0, bytearray()
    for piece in pieces:
        seen += len(piece)
        if seen > caps.unpacked:
            raise Refused(name, "size", f"it unpacks to more than {caps.unpacked:,} bytes", LARGER)
        if seen > caps.small and seen > caps.ratio * max(size, 1):
            what = f"it unpacks to more than {caps.ratio} times its size: a bomb"
            raise Refused(name, "size", what, OTHER)
        held += piece
        if len(held) >= BLOCK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
