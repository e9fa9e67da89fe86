"""The files of an earlier answer: a revision of closed days, or all that was live at some time.

Replaced files stay on the disk for a while only (`compactor.grace_seconds`, and `compactor.versions_days` for daily
ones). What an earlier answer needs and is no longer there, or no longer known, is an error: never a smaller answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lake import layout
from lake.errors import NotHeld
from lake.manifest_reads import Snapshot
from lake.rows import FileRow
from market import times
from market.session import Gap, GapState

Files = Callable[[str | None], list[FileRow]]
"""The wanted files of the manifest in a state, None for all."""
_PUBLISHED = (layout.HOT, layout.VERSIONS, layout.TABLES)
_HINT = "Lake.versions says which are kept; compactor.versions_days keeps more of them"


def of_version(root: Path, files: Files, version: int) -> list[FileRow]:
    """The daily files of one revision, for every day that is closed. Raises NotHeld."""
    daily = [file for file in files(None) if file.level == "day"]
    wanted = {_slot(file): file for file in daily if file.revision == version}
    for slot, file in sorted({_slot(file): file for file in daily if file.state == "live"}.items()):
        if slot not in wanted:
            known = ", ".join(str(n) for n in sorted({one.revision for one in daily if _slot(one) == slot}))
            raise NotHeld(f"{_named(file)} has no revision {version}", f"it has {known}; {_HINT}")
    return [_there(root, file) for file in wanted.values()]


def as_of(root: Path, snapshot: Snapshot, files: Files, at: int) -> list[FileRow]:
    """The files that were live at `at` (us). Raises NotHeld where some of them are gone, or may have been forgotten."""
    then = {
        file.path: file
        for file in files(None)
        if file.created_at <= at and (file.retired_at is None or file.retired_at > at)
    }
    told = {_day(file) for file in then.values()}
    for file in files("live"):
        if file.created_at > at:
            before = _before(snapshot, file, at)
            if before is None or (before and _day(file) not in told):
                raise NotHeld(
                    f"what {_named(file)} was at {times.text(at)} is no longer known",
                    f"it was made again since; {_HINT}",
                )
    return [_there(root, file) for file in then.values()]


def _before(snapshot: Snapshot, file: FileRow, at: int) -> bool | None:
    """Whether something that this file was made from was live at `at` already; None where that is forgotten."""
    queue, seen = [file.path], set[str]()
    while queue:
        held = snapshot.file(queue.pop())
        for path in held.parents if held is not None else ():
            if path in seen or path.split("/", 1)[0] not in _PUBLISHED:
                continue
            seen.add(path)
            parent = snapshot.file(path)
            if parent is None:
                return None
            if parent.date != file.date:  # the book that the day before left
                continue
            if parent.created_at <= at:
                return True
            queue.append(path)
    return False


def gap_at(gap: Gap, at: int, missing: Sequence[GapState]) -> bool:
    """Whether a gap was known, and nothing had closed it, at `at` (us)."""
    return gap.detected_at <= at and (gap.state in missing or (gap.closed_at is not None and gap.closed_at > at))


def _there(root: Path, file: FileRow) -> FileRow:
    if file.state != "live" and not (root / file.path).is_file():
        gone = f"it was replaced at {times.text(file.retired_at)} and is deleted"
        raise NotHeld(f"revision {file.revision} of {_named(file)} is no longer kept: {gone}", _HINT)
    return file


def _slot(file: FileRow) -> tuple[str, str, str, str, int]:
    return file.exchange, file.market_type, file.symbol or "", file.date, -1 if file.hour is None else file.hour


def _day(file: FileRow) -> tuple[str, str, str]:
    return file.exchange, file.market_type, file.date


def _named(file: FileRow) -> str:
    return f"{file.kind} of {file.exchange} {file.market_type} {file.symbol or '(all)'} on {file.date}"
