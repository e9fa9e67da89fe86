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
        aside = layout.quarantine_path(row.path, "parquet")
        held = writer.root / row.path
        size = held.stat().st_size if held.is_file() else 0
        if held.is_file():
            # away first: the same rows make the same name, which must be free for them
            durable.make_dirs((writer.root / aside).parent)
            durable.unlink(writer.root / aside)
            durable.rename(held, writer.root / aside)
        found = QuarantineRow(
            path=aside, origin=row.path, reason="its bytes changed on disk", count=row.rows, bytes=size, at=now
        )
        try:
            writer.publish(remove=[row.path], segments=dict.fromkeys(segments, "sealed"), quarantine=[found], now=now)
        except CommitConflict as error:
            telemetry.commit_conflict(job=f"heal {row.path}", detail=error.message)
            continue
        telemetry.quarantined(origin=row.path, reason=found.reason, count=found.count, nbytes=size, path=aside)
        healed.append(row.path)
    return healed


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
