"""What a lake remembers of each file of an archive that it took in: a small JSON file below `archives/`.

From it a later run knows that a file is there, without fetching it, and that its publisher has changed it since.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from collectors.files.archive.vision import EXCHANGE, ArchiveFile
from lake import durable, layout
from lake.errors import CorruptFile

SUFFIX = ".json"
PART = ".part"
"""Suffix of a zip that is not whole yet; what it is a part of lies in `….part.json`."""


class Had(msgspec.Struct, kw_only=True, frozen=True):
    """A file as it was had: `sha256` and `bytes` of the zip, what its host said of its version, when (us)."""

    url: str
    sha256: str
    bytes: int
    etag: str | None = None
    modified: str | None = None
    at: int = 0


class Remembered(msgspec.Struct, kw_only=True, frozen=True):
    """A file that is in the lake: its session, and what its lines were. `earlier` are versions that it had before."""

    had: Had
    session: str
    """The newest of its sessions; rows that a new version did not change are still of `before`."""
    rows: int
    before: tuple[str, ...] = ()
    quarantined: int = 0
    first_id: int | None = None
    last_id: int | None = None
    first: int = 0
    last: int = 0
    earlier: tuple[Had, ...] = ()


def zip_path(root: Path, file: ArchiveFile) -> Path:
    """Where the bytes of a file are kept in a lake, while they are needed."""
    return root / layout.archive_path(EXCHANGE, file.path)


def recall(root: Path, file: ArchiveFile) -> Remembered | None:
    """What is remembered of a file, None where it never was taken in. Raises CorruptFile."""
    path = _memory(root, file)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Remembered)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise CorruptFile(f"{path}: {error}", "remove it: the file is then looked at anew") from error


def remember(root: Path, file: ArchiveFile, what: Remembered) -> None:
    """Raises StorageFailed."""
    path = _memory(root, file)
    durable.make_dirs(path.parent)
    durable.write_file(path, msgspec.json.encode(what))


def _memory(root: Path, file: ArchiveFile) -> Path:
    path = zip_path(root, file)
    return path.with_name(path.name + SUFFIX)
