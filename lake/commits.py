"""What the ledger says of the manifest's own life: its starts, its commits, and commits that were taken back.

A commit stands in the ledger before the manifest has it, so an entry alone does not prove that it took place. Each
names the epoch of its writer and the version that it makes; a `void` entry right behind it, or a start of a manifest
that has not come so far, says that it did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lake import layout
from lake.feature_rows import FeatureRow
from lake.ledger import Entry, entries_of
from lake.rows import CertificateRow, CheckRow, FileRow, QuarantineRow, SegmentState
from market.errors import Malformed
from market.session import Gap


class Start(msgspec.Struct, kw_only=True, frozen=True):
    """A writer took the lake: what its manifest said of itself then. `created_at` us."""

    lake_id: str
    simulated: bool
    created_at: int
    epoch: int
    version: int


class Added(FileRow, kw_only=True, omit_defaults=True):
    """A file's row as a commit adds it; what has its default is left out."""


class Commit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One transaction of the manifest; `now` us is the time that it writes into rows.

    `failed` are segments with the error of one more failed attempt, `unlinked` replaced files whose bytes are gone,
    `forget` the time before which replaced files lost their rows.
    """

    epoch: int = 0
    version: int = 0
    now: int
    add: tuple[Added, ...] = ()
    remove: tuple[str, ...] = ()
    segments: dict[str, SegmentState] = {}
    cursors: dict[str, int] = {}
    certificates: tuple[CertificateRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    quarantine: tuple[QuarantineRow, ...] = ()
    gaps: tuple[Gap, ...] = ()
    features: tuple[FeatureRow, ...] = ()
    failed: dict[str, str] = {}
    unlinked: tuple[str, ...] = ()
    forget: int | None = None


class Void(msgspec.Struct, frozen=True):
    """The commit in front of this entry did not take place: nothing of it is in the manifest."""

    epoch: int
    version: int


def commit_of(
    *,
    now: int,
    add: Sequence[FileRow] = (),
    remove: Sequence[str] = (),
    segments: Mapping[str, SegmentState] | None = None,
    cursors: Mapping[str, int] | None = None,
    certificates: Sequence[CertificateRow] = (),
    checks: Sequence[CheckRow] = (),
    quarantine: Sequence[QuarantineRow] = (),
    gaps: Sequence[Gap] = (),
    features: Sequence[FeatureRow] = (),
) -> Commit:
    """The entry of `Manifest.commit` with these arguments; the writer numbers it."""
    return Commit(
        now=now, add=tuple(_added(row) for row in add), remove=tuple(remove),
        segments=dict(segments or {}), cursors=dict(cursors or {}), certificates=tuple(certificates),
        checks=tuple(checks), quarantine=tuple(quarantine), gaps=tuple(gaps),
        features=tuple(features),
    )  # fmt: skip


def _added(row: FileRow) -> Added:
    held: dict[str, Any] = {name: getattr(row, name) for name in row.__struct_fields__}
    return Added(**held)


class Newest(msgspec.Struct, frozen=True):
    """How far the manifest had come when the ledger was last written: 0 where the ledger does not say."""

    epoch: int = 0
    version: int = 0


def newest(root: Path) -> Newest:
    """The last start's epoch and the version that was certainly reached, from the ledger's newest day that has any.

    The last commit itself may not have taken place: the version in front of it is what is certain.
    """
    folder = root / layout.LEDGER
    names = sorted((place.name for place in folder.glob("*.jsonl")), reverse=True) if folder.is_dir() else []
    epoch = version = 0
    day = ""
    for name in names:
        if day and not name.startswith(day):
            break
        for entry in entries_of(root, f"{layout.LEDGER}/{name}", lambda _: None):
            found = _reached(entry)
            if found is not None:
                day = name[:10]
                epoch, version = max(epoch, found.epoch), max(version, found.version)
    return Newest(epoch, version)


def _reached(entry: Entry) -> Newest | None:
    try:
        if entry.type == "start":
            start = entry.read(Start)
            return Newest(start.epoch, start.version)
        if entry.type == "commit":
            commit = entry.read(_Numbered)
            return Newest(commit.epoch, commit.version - 1)
    except Malformed:
        return None
    return None


class _Numbered(msgspec.Struct):
    epoch: int
    version: int
