"""What was published or sealed long ago, read again from the disk: which files are due, and what each of them is.

Finding only; `compactor.bitrot` sets right what is found. A disk that loses a bit does not say so, and of Parquet a
reader notices one flipped bit in ten: only the SHA-256 that was written down tells.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal, Self

import msgspec
from sqlalchemy import Connection, Subquery, and_, func, inspect, literal, or_, select, union_all

from lake import layout, schema, segment_files
from lake.errors import LakeError
from lake.manifest_reads import Reads
from lake.rows import FRAMES

CHUNK = 1 << 20
Verdict = Literal["whole", "missing", "altered", "misnamed"]
"""`altered`: other bytes than were written. `misnamed`: what its own name or seal says, and not what the manifest does,
so that the manifest is what is damaged.
"""


class Target(msgspec.Struct, frozen=True):
    """A file to be read again: `last` is when its bytes were last known to be right (us)."""

    path: str
    bytes: int
    sha256: str
    last: int


class Summary(msgspec.Struct, frozen=True):
    """Everything that is read again: files, bytes, the longest time ago that one of them was (us; None: no file)."""

    files: int
    bytes: int
    oldest: int | None


def _targets(*, scrubbed: bool) -> Subquery:
    """Everything that is read again; without `scrubbed` of a manifest of before version 3, by who may not write."""
    f, s, t = schema.files, schema.segments, schema.scrubs
    # a segment that waits for the transformer is hashed by it; what is altered there has a way of its own
    wanted = or_(s.c.state == "transformed", and_(s.c.kind == literal(FRAMES), s.c.state == "sealed"))
    chosen = []
    for table, first, where in (
        (f, f.c.created_at, f.c.state == "live"),
        (s, s.c.recorded_at, and_(wanted, s.c.rows > 0)),
    ):
        last = func.coalesce(t.c.at, first) if scrubbed else first
        columns = select(table.c.path, table.c.bytes, table.c.sha256, last.label("last")).where(where)
        chosen.append(columns.select_from(table.outerjoin(t, t.c.path == table.c.path)) if scrubbed else columns)
    return union_all(*chosen).subquery()


_ALL = _targets(scrubbed=True)
_EVER = _targets(scrubbed=False)


def due(manifest: Reads, before: int | None = None, limit: int | None = None) -> list[Target]:
    """Files that were last known to be right before `before` (us; None: all), the longest ago first."""

    def read(conn: Connection) -> list[Target]:
        all_ = _ALL if inspect(conn).has_table(schema.scrubs.name) else _EVER
        wanted = select(all_).order_by(all_.c.last, all_.c.path).limit(limit)
        if before is not None:
            wanted = wanted.where(all_.c.last < before)
        return [Target(row.path, row.bytes, row.sha256, row.last) for row in conn.execute(wanted)]

    return manifest.run(read)


def summary(manifest: Reads) -> Summary:
    """How much there is to read again, and how long ago the oldest of it was read."""
    wanted = select(func.count(), func.coalesce(func.sum(_ALL.c.bytes), 0), func.min(_ALL.c.last))
    return manifest.run(lambda conn: Summary(*conn.execute(wanted).one()))


class Reading:
    """One file read from the disk piece by piece, past what the kernel remembers of it where it can be asked to."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError, OSError."""
        self._file = path.open("rb", buffering=0)
        self._hash = hashlib.sha256()
        self._forget()

    def read(self) -> int:
        """Read the next piece; its bytes, 0 at the end. Raises OSError."""
        data = self._file.read(CHUNK)
        self._hash.update(data)
        if not data:
            self._forget()  # nor does what is read once push out what is read often
        return len(data)

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()

    def _forget(self) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()


def examine(root: Path, target: Target) -> Verdict:
    """Read one file at full speed. Raises OSError where the disk cannot."""
    try:
        with Reading(root / target.path) as reading:
            while reading.read():
                pass
            return judge(root, target, reading.sha256)
    except FileNotFoundError:
        return "missing"


def judge(root: Path, target: Target, sha256: str) -> Verdict:
    """What a file is whose bytes have this SHA-256."""
    if sha256 == target.sha256:
        return "whole"
    return "misnamed" if _says_so_itself(root, target.path, sha256) else "altered"


def _says_so_itself(root: Path, path: str, sha256: str) -> bool:
    """Whether the file's own name, or the seal beside it, has that hash."""
    if path.endswith(".parquet"):
        return layout.parse_parquet(path).sha8 == sha256[:8]
    try:
        seal = segment_files.read_seal(root, path)
    except LakeError:
        return False
    return seal is not None and seal.sha256 == sha256
