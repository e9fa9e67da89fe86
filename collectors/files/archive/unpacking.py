"""The lines of a file of an archive, however it is packed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from collectors.files.archive import gzips, tars, zips
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.zips import Caps


def blocks(opened: BinaryIO, file: ArchiveFile, caps: Caps) -> Iterator[bytes]:
    """Whole lines a block. Raises Refused, for a broken end too: what was yielded before is then worth nothing."""
    packing = file.series.dataset.packing
    if packing == "gz":
        return gzips.blocks(opened, file.name, caps)
    if packing == "tar.gz":
        return tars.blocks(opened, file.name, caps)
    return zips.blocks(opened, file.name, file.member, caps)
