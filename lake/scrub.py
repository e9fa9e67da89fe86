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


_RAW = and_(
    or_(
        schema.segments.c.state == "transformed",
        and_(schema.segments.c.kind == literal(FRAMES), schema.segments.c.state == "sealed"),
    ),
    schema.segments.c.rows > 0,
)
"""Segments that are read again: one that waits for the transformer is hashed by it; what is altered there has a way of
its own.
"""


def _targets(*, scrubbed: bool) -> Subquery:
    """Everything that is read again; without `scrubbed` of a manifest of before version 3, by who may not write."""
    f, s, t = schema.files, schema.segments, schema.scrubs
    chosen = []
    for table, first, where in (
        (f, f.c.created_at, f.c.state == "live"),
        (s, s.c.recorded_at, _RAW),
    ):
        last = func.coalesce(t.c.at, first) if scrubbed else first
        columns = select(table.c.path, table.c.bytes, table.c.sha256, last.label("last")).where(where)
        chosen.append(columns.select_from(table.outerjoin(t, t.c.path == table.c.path)) if scrubbed else columns)
    return union_all(*chosen).subquery()


_ALL = _targets(scrubbed=True)
_EVER = _targets(scrubbed=False)


def due(manifest: Reads) -> list[Target]:
    """Everything, that of which the bytes were known to be right the longest ago first."""

    def read(conn: Connection) -> list[Target]:
        all_ = _ALL if inspect(conn).has_table(schema.scrubs.name) else _EVER
        wanted = select(all_).order_by(all_.c.last, all_.c.path)
        return [Target(row.path, row.bytes, row.sha256, row.last) for row in conn.execute(wanted)]

    return manifest.run(read)


def overdue(manifest: Reads, before: int, limit: int) -> list[Target]:
    """The first `limit` of those that were last known to be right before `before` (us). Of a manifest that is written:
    all that is read again has a row in `scrubs`, which is asked in its order.
    """
    f, s, t = schema.files, schema.segments, schema.scrubs
    size, sha256 = (func.coalesce(f.c[name], s.c[name]) for name in ("bytes", "sha256"))
    there = or_(f.c.state == "live", s.c.state.in_(("sealed", "transformed")))
    both = t.outerjoin(f, f.c.path == t.c.path).outerjoin(s, s.c.path == t.c.path)
    wanted = select(t.c.path, size, sha256, t.c.at).select_from(both).where(t.c.at < before, there)
    wanted = wanted.order_by(t.c.at, t.c.path).limit(limit)
    return manifest.run(lambda conn: [Target(*row) for row in conn.execute(wanted)])


def summary(manifest: Reads) -> Summary:
    """How much there is to read again, and how long ago the oldest of it was read; of a manifest that is written."""
    s, t = schema.segments, schema.totals
    files = select(func.coalesce(func.sum(t.c.files), 0), func.coalesce(func.sum(t.c.bytes), 0))
    raw = select(func.count(), func.coalesce(func.sum(s.c.bytes), 0)).where(_RAW)

    def read(conn: Connection) -> Summary:
        (count, size), (more, bytes_) = conn.execute(files).one(), conn.execute(raw).one()
        return Summary(count + more, size + bytes_, conn.execute(select(func.min(schema.scrubs.c.at))).scalar_one())

    return manifest.run(read)


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
