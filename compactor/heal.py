"""A hot file whose bytes changed on disk is set aside, and the raw segments it was made from are transformed again.

Possible as long as all those segments are still there. Their other rows then come a second time and are left out as
duplicates by the next merge. What cannot be made again stays parked and is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from lake import durable, layout, parquet
from lake.errors import CommitConflict, CorruptFile
from lake.manifest import Manifest
from lake.rows import FileRow, QuarantineRow
from lake.writer import LakeWriter
from runtime import telemetry


def heal(writer: LakeWriter, inputs: Sequence[FileRow], now: int) -> list[str]:
    """Sets aside each hot file among `inputs` that is not what the manifest says and can be made again.

    Returns their paths. Raises StorageFailed, Fenced.
    """
    healed: list[str] = []
    for row in inputs:
        if row.level == "day" or _whole(writer, row):
            continue
        segments = segments_of(writer.manifest, row.path)
        if not segments or not all((writer.root / path).is_file() for path in segments):
            continue
        found = aside(writer, row.path, row.rows, "its bytes changed on disk", now)
        try:
            writer.publish(remove=[row.path], segments=dict.fromkeys(segments, "sealed"), quarantine=[found], now=now)
        except CommitConflict as error:
            telemetry.commit_conflict(job=f"heal {row.path}", detail=error.message)
            continue
        told(found)
        healed.append(row.path)
    return healed


def aside(writer: LakeWriter, path: str, rows: int, reason: str, now: int) -> QuarantineRow:
    """Moves a file to quarantine/, where it is there at all; the row that says so, for the commit that follows.

    Away first: the same rows make the same name, which must be free for them. Raises StorageFailed.
    """
    place = layout.quarantine_path(path, "parquet" if path.endswith(".parquet") else "segment")
    held = writer.root / path
    size = held.stat().st_size if held.is_file() else 0
    if held.is_file():
        durable.make_dirs((writer.root / place).parent)
        durable.unlink(writer.root / place)
        durable.rename(held, writer.root / place)
    return QuarantineRow(path=place, origin=path, reason=reason, count=rows, bytes=size, at=now)


def told(found: QuarantineRow) -> None:
    """Says that a file was set aside."""
    telemetry.quarantined(
        origin=found.origin, reason=found.reason, count=found.count, nbytes=found.bytes, path=found.path
    )


def _whole(writer: LakeWriter, row: FileRow) -> bool:
    try:
        parquet.check_sha256(writer.root / row.path, row.sha256)
    except CorruptFile:
        return False
    return True


def segments_of(manifest: Manifest, path: str) -> list[str]:
    """The transformed segments that a file goes back to, through all its ancestors; empty where one is unknown."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = [path]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        segment = manifest.segment(name)
        if segment is not None:
            if segment.state != "transformed":
                return []
            found.add(name)
            continue
        file = manifest.file(name)
        if file is None or not file.parents:
            return []
        ahead += file.parents
    return sorted(found)
