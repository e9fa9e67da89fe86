"""Reads published files again from the disk, not from memory, and says what they are; runs in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lake.rows import FileRow
from lake.scrub import Target, Verdict, examine


def rehash(root: str, files: Sequence[FileRow]) -> dict[str, Verdict]:
    """Path -> what is wrong with it, for every file that is not what the manifest says; empty where all are whole.

    Raises OSError where the disk cannot read one.
    """
    found = {row.path: examine(Path(root), Target(row.path, row.bytes, row.sha256, row.created_at)) for row in files}
    return {path: verdict for path, verdict in found.items() if verdict != "whole"}
