"""Reads published files again from the disk and holds them against their hashes; runs in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lake import parquet
from lake.errors import LakeError
from lake.rows import FileRow


def rehash(root: str, files: Sequence[FileRow]) -> dict[str, str]:
    """Path -> what is wrong with it, for every file that is not what the manifest says; empty where all are whole."""
    broken: dict[str, str] = {}
    for row in files:
        try:
            parquet.check_sha256(Path(root) / row.path, row.sha256)
        except LakeError as error:
            broken[row.path] = error.message
    return broken
