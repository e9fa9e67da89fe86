"""Segment files: written while open, sealed with their hash, and brought to order after a crash.

A file is `<path>.open` while it is written. Its seal, `<path>.meta.json`, is durable before it loses that ending, so
that a name without `.open` always has a seal that says what is in it. See docs/format/segment.md.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from lake import durable, layout
from lake.errors import CorruptSegment, StorageFailed
from lake.rows import QuarantineRow, SegmentRow
from lake.segments import Extent, decode_seal, encode_seal, scan, widen

TORN = "torn tail: the writer stopped in the middle of a line"


class OpenFile:
    """What segments and frames files have in common: `.open`, an incremental SHA-256, and the seal.

    `row` is the open row as it was recorded: path, stream and period_start. Nothing is created before the first
    append, so that a silent stream costs no file. One thread uses it at a time.
    """

    def __init__(self, root: Path, row: SegmentRow) -> None:
        self.root = root
        self.row = row
        self.rows = 0
        self.extent: Extent | None = None
        self._file: durable.AppendFile | None = None
        self._hash = hashlib.sha256()

    @property
    def created(self) -> bool:
        """Whether there is a file: to make one waits for the disk."""
        return self._file is not None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.size if self._file else 0

    @property
    def synced(self) -> int:
        """Bytes of the file that are durable."""
        return max(0, self._file.synced) if self._file else 0

    @property
    def failed(self) -> bool:
        """Whether the file takes nothing more: close it, recover it, and write what was not `synced` to another."""
        return self._file is not None and self._file.failed

    def append(self, lines: bytes, rows: int, extent: Extent | None = None) -> None:
        """Append whole lines, `rows` of them; all or nothing. Not durable before `sync`. Raises StorageFailed."""
        self._write(lines, rows, extent)

    def _write(self, data: bytes, rows: int, extent: Extent | None) -> None:
        if self._file is None:
            path = self.root / (self.row.path + layout.OPEN)
            durable.make_dirs(path.parent)
            try:
                self._file = durable.AppendFile(path)
            except FileExistsError as error:  # left by a creation that failed, and could not be undone, a moment ago
                raise StorageFailed(f"{path} is there already", "recovery will remove it") from error
        self._file.write(data)
        self._hash.update(data)
        self.rows += rows
        self.extent = widen(self.extent, extent)

    def sync(self) -> None:
        """Make everything appended durable. Raises StorageFailed, after which this file takes nothing more."""
        if self._file is not None and not self._file.closed:
            self._file.sync()

    def seal(self, period_end: int) -> SegmentRow:
        """Close for ever: sync, seal, rename. `period_end` (us) is the receive time it answers for, exclusive.

        Without rows nothing stays on disk, and the row says so. Raises StorageFailed; it may then be tried again,
        unless it was the sync that failed.
        """
        if self._file is not None and not self._file.closed:
            self._finish()
            self._file.sync()
            self._file.close()
        row = msgspec.structs.replace(self.row, state="sealed", period_end=period_end)
        if self.rows == 0:
            if self._file is not None:
                durable.unlink(self._file.path)
            return row
        row = _stated(row, self.extent, rows=self.rows, size=self.size, sha256=self._hash.hexdigest())
        _settle(self.root, row)
        return row

    def _finish(self) -> None:
        """Write what ends the file."""

    def close(self) -> None:
        """Leave the file as it is, `.open`, for recovery; closing twice is fine."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class SegmentFile(OpenFile):
    """One raw segment being written."""


class Recovered(NamedTuple):
    """What recovery made of one file: its sealed row (None where nothing was worth keeping), and what it set aside."""

    row: SegmentRow | None
    quarantined: list[QuarantineRow]


def read_seal(root: Path, path: str) -> SegmentRow | None:
    """What the seal beside a segment or frames file states, None where there is none.

    Raises CorruptSegment for one that cannot be read, UnknownVersion for one of a newer format.
    """
    try:
        data = (root / layout.meta_path(path)).read_bytes()
    except FileNotFoundError:
        return None
    row = decode_seal(data)
    if row.path != path.removesuffix(layout.OPEN):
        raise CorruptSegment(f"the seal of {path} is that of {row.path}", "was it moved by hand?")
    return row


def recover_segment(root: Path, path: str, now: int, keep: int | None = None) -> Recovered:
    """Bring one segment to order after a crash; doing it again changes nothing. `path` with or without `.open`.

    A file that agrees with its seal is what its writer meant. One that nobody sealed is read: the torn tail behind its
    last good line goes to quarantine and is cut off, the rest is sealed as not `clean`; a file without a good line goes
    away. `keep`: only so many bytes are known to be durable, and what follows was written again elsewhere.
    Raises CorruptSegment for a file that lost its `.open` and no longer agrees with its seal.
    """
    sealed = path.removesuffix(layout.OPEN)
    named = layout.parse_raw(sealed)
    row = finish_sealed(root, sealed)
    place = place_of(root, sealed)
    if row is not None or place is None:
        return Recovered(row, set_aside(root, sealed, now))
    data = place.read_bytes()[:keep]
    found = scan(named.kind, data)
    if found.size < len(data):
        quarantine(root, sealed, f"tail-{found.size}", data[found.size :])
    if place.stat().st_size != found.size and found.rows:
        durable.truncate_file(place, found.size)
    row = seal_recovered(root, place, sealed, found.rows, found.extent)
    return Recovered(row, set_aside(root, sealed, now))


def place_of(root: Path, sealed: str) -> Path | None:
    """Where a file is now: under its open name, else under its final one, else None."""
    return next((root / name for name in (sealed + layout.OPEN, sealed) if (root / name).exists()), None)


def finish_sealed(root: Path, sealed: str) -> SegmentRow | None:
    """The row of a file that agrees with its seal, now under its final name; None for one that has no seal.

    Raises CorruptSegment where the final name is there and does not agree.
    """
    still_open, final = root / (sealed + layout.OPEN), root / sealed
    try:
        row = read_seal(root, sealed)
    except CorruptSegment:
        row = None  # a seal is written whole or not at all, so this one was damaged: as good as none
    if row is None:
        return None
    if final.exists():
        if not _agrees(final, row):
            raise CorruptSegment(f"{sealed} is not what its seal says: {row.bytes} bytes, SHA-256 {row.sha256}")
        if still_open.exists():  # nothing of ours leaves both: keep it, but where it is no segment any more
            quarantine(root, sealed, "second", still_open.read_bytes())
            durable.unlink(still_open)
        return row
    if not still_open.exists() or not _agrees(still_open, row):
        return None
    durable.fsync_file(still_open)
    durable.rename(still_open, final)
    return row


def _agrees(place: Path, row: SegmentRow) -> bool:
    return place.stat().st_size == row.bytes and sha256_of(place) == row.sha256


def seal_recovered(root: Path, place: Path, sealed: str, rows: int, extent: Extent | None) -> SegmentRow | None:
    """Seal a file that nobody sealed, as not clean: it answers for its name's second up to the last line it holds.

    None where it has no lines: it goes away.
    """
    if rows == 0 or extent is None:
        for name in (sealed + layout.OPEN, sealed, layout.meta_path(sealed)):
            durable.unlink(root / name)
        durable.fsync_dir(place.parent)
        return None
    durable.fsync_file(place)
    named = layout.parse_frames(sealed) if sealed.startswith(layout.FRAMES) else layout.parse_raw(sealed)
    row = SegmentRow(
        path=sealed, exchange=named.exchange, market_type=named.market_type, kind=named.kind, state="sealed",
        period_start=min(named.opened_at, extent.recv_min), period_end=max(named.opened_at, extent.recv_max) + 1,
        clean=False,
    )  # fmt: skip
    row = _stated(row, extent, rows=rows, size=place.stat().st_size, sha256=sha256_of(place))
    _settle(root, row)
    return row


def _stated(row: SegmentRow, extent: Extent | None, *, rows: int, size: int, sha256: str) -> SegmentRow:
    ends = extent._asdict() if extent else {}
    return msgspec.structs.replace(row, rows=rows, bytes=size, sha256=sha256, **ends)


def _settle(root: Path, row: SegmentRow) -> None:
    """The seal first, the name second."""
    durable.write_file(root / layout.meta_path(row.path), encode_seal(row))
    still_open, final = root / (row.path + layout.OPEN), root / row.path
    if still_open.exists() or not final.exists():
        durable.rename(still_open, final)


def quarantine(root: Path, origin: str, what: str, data: bytes) -> str:
    """Set bytes aside, durably; the path they have now. The same origin and `what` overwrite each other."""
    path = layout.quarantine_path(origin, what)
    durable.make_dirs((root / path).parent)
    durable.write_file(root / path, data)
    return path


def set_aside(root: Path, origin: str, now: int) -> list[QuarantineRow]:
    """Rows for everything that was set aside of `origin`, this time or by a recovery that did not live to tell."""
    found = []
    folder = (root / layout.quarantine_path(origin, "tail")).parent
    prefix = Path(origin).name + "."
    for place in sorted(folder.glob("*")) if folder.is_dir() else ():
        if place.name.startswith(prefix) and not place.name.startswith("."):
            data = place.read_bytes()
            count = data.count(b"\n") + (not data.endswith(b"\n"))
            found.append(
                QuarantineRow(
                    path=place.relative_to(root).as_posix(), origin=origin, reason=TORN, count=count,
                    bytes=len(data), at=now,
                )
            )  # fmt: skip
    return found


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
