"""Hard links in tables/ to the current revision of every daily file, whose own place is versions/.

After a commit the old revision's link is removed and then the new one's made: a plain glob over tables/ may miss a
replaced day for milliseconds, but never sees it twice. A start makes the links again from the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lake import durable
from lake.layout import TABLES, VERSIONS
from lake.rows import FileRow


def link_of(path: str) -> str | None:
    """Where in tables/ the file of versions/ shows itself; None for files of other folders."""
    prefix = VERSIONS + "/"
    return f"{TABLES}/{path.removeprefix(prefix)}" if path.startswith(prefix) else None


def replace(root: Path, removed: Sequence[str], added: Sequence[str]) -> None:
    """Links of removed files go first, then those of added files come."""
    folders = set()
    for path in removed:
        link = link_of(path)
        if link is not None and path not in added:
            durable.unlink(root / link)
            folders.add((root / link).parent)
    for folder in sorted(folders):
        if folder.is_dir():
            durable.fsync_dir(folder)
    for path in added:
        _make(root, path)


def relink(root: Path, files: Iterable[FileRow]) -> int:
    """Remove links of files that are not live, make missing ones; returns how many were touched.

    `files` are all that the manifest names. A file of tables/ that is neither among them nor under versions/ is left
    alone: it may be somebody's only copy.
    """
    shown = [(link, row) for row in files if (link := link_of(row.path)) is not None]
    live = {link: row.path for link, row in shown if row.state == "live"}
    retired = {link for link, row in shown if row.state == "retired"}
    touched = 0
    for link in _found(root):
        if link in live:
            continue
        twin = root / VERSIONS / link.removeprefix(TABLES + "/")
        if link in retired or twin.exists():
            durable.unlink(root / link)
            touched += 1
    for link, path in sorted(live.items()):
        if not _same(root / link, root / path):
            touched += _make(root, path)
    return touched


def _found(root: Path) -> Iterable[str]:
    base = str(root / TABLES)
    found = ((TABLES + folder[len(base) :].replace(os.sep, "/"), names) for folder, _, names in os.walk(base))
    return sorted(f"{folder}/{name}" for folder, names in found for name in names if name.endswith(".parquet"))


def _same(link: Path, path: Path) -> bool:
    """Whether the link is there. Names carry their file's hash, so equal sizes mean the copy was finished."""
    try:
        return link.samefile(path) or link.stat().st_size == path.stat().st_size
    except FileNotFoundError:
        return False


def _make(root: Path, path: str) -> bool:
    link = link_of(path)
    if link is None or not (root / path).exists():
        return False
    durable.make_dirs((root / link).parent)
    try:
        durable.link(root / path, root / link)
    except FileExistsError:  # a torn copy of an earlier start
        durable.unlink(root / link)
        durable.link(root / path, root / link)
    return True
