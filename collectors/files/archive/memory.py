"""What a lake remembers of each file of an archive that it took in: a small JSON file below `archives/`.

From it a later run knows that a file is there, without fetching it, and that its publisher has changed it since.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from collectors.files.archive.series import ArchiveFile
from lake import durable, layout
from lake.errors import CorruptFile

SUFFIX = ".json"
PART = ".part"
"""Suffix of a zip that is not whole yet; what it is a part of lies in `….part.json`."""


class Stamp(msgspec.Struct, kw_only=True, frozen=True):
    """What a publisher says of a file now: its CHECKSUM where there is one, else what its host says of its version."""

    sum: str = ""
    etag: str | None = None
    modified: str | None = None
    bytes: int | None = None

    def is_of(self, had: Had) -> bool:
        """Whether this is the version that was had. Without a CHECKSUM all that both know has to be the same."""
        if self.sum:
            return self.sum in (had.sum, had.sha256)
        pairs = [(self.etag, had.etag), (self.modified, had.modified), (self.bytes, had.bytes)]
        known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
        return len(known) > 1 and all(ours == theirs for ours, theirs in known)


class Had(msgspec.Struct, kw_only=True, frozen=True):
    """A file as it was had: its bytes, their `sha256`, the CHECKSUM it was proven by, what its host said, when (us)."""

    url: str
    sha256: str
    bytes: int
    sum: str = ""
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
    file: ArchiveFile | None = None
    contract_size: str | None = None

    @property
    def empty(self) -> bool:
        """Whether no line of it is of its symbol."""
        return self.first_id is None and not self.rows and not self.quarantined


def zip_path(root: Path, file: ArchiveFile) -> Path:
    """Where the bytes of a file are kept in a lake, while they are needed."""
    return root / layout.archive_path(file.series.exchange, file.path)


def recall(root: Path, file: ArchiveFile) -> Remembered | None:
    """What is remembered of a file, None where it never was taken in. Raises CorruptFile."""
    try:
        return _read(_memory(root, file))
    except FileNotFoundError:
        return None


def _read(path: Path) -> Remembered:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Remembered)
    except msgspec.MsgspecError as error:
        raise CorruptFile(f"{path}: {error}", "remove it: the file is then looked at anew") from error


def remember(root: Path, file: ArchiveFile, what: Remembered) -> None:
    """Raises StorageFailed."""
    path = _memory(root, file)
    durable.make_dirs(path.parent)
    durable.write_file(path, msgspec.json.encode(msgspec.structs.replace(what, file=file)))


def every(root: Path, exchange: str) -> Iterator[Remembered]:
    """What is remembered of all files of an archive, by path. Raises CorruptFile."""
    for path in sorted((root / layout.ARCHIVES / exchange).rglob(f"*{SUFFIX}")):
        if not path.name.endswith(PART + SUFFIX):
            yield _read(path)


def _memory(root: Path, file: ArchiveFile) -> Path:
    path = zip_path(root, file)
    part = f".{file.series.symbol}" if file.series.family else ""  # a file of many is remembered by each
    return path.with_name(f"{path.name}{part}{SUFFIX}")
