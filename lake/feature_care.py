"""Files of feature sets held against the manifest: for `dl verify`, `dl rebuild` and what a start puts in order.

Nobody can make such a file again from the lake, so nothing of them is removed but what was deleted on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lake import feature_files, feature_table, layout
from lake.commits import Commit
from lake.errors import CorruptFile, LakeError
from lake.feature_rows import FeatureRow, version_key
from lake.finding import Finding
from lake.manifest_reads import Reads, Snapshot
from lake.parquet import check_sha256

if TYPE_CHECKING:
    from lake.history import History
    from lake.survey import Survey

Report = Callable[[int, int, str], None]
PUT_AGAIN = "put the same values in again (dl features put), or bring the file back from a copy"
UNFINISHED = "left by a put that did not end: put it in again, or move it away"
DELETED = "of a version that was deleted: the next start removes it"
NOT_OURS = "nothing of the lake reads it: move it away"


class Held(msgspec.Struct):
    """What was read back."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    findings: list[Finding] = []


def verify(root: Path, snapshot: Snapshot, report: Report) -> Held:
    """Every live version: its hash, its pages, its order, its content digest and what its footer says."""
    held = Held()
    for row in feature_table.features(snapshot):
        report(held.files, 0, row.path)
        held.files += 1
        held.rows += row.rows
        held.bytes += row.bytes
        wrong = problem(root, row)
        if wrong:
            held.findings.append(Finding("error", row.path, wrong, PUT_AGAIN))
    return held


def problem(root: Path, row: FeatureRow) -> str:
    """What is wrong with the file of a live version; "" for nothing."""
    path = root / row.path
    try:
        check_sha256(path, row.sha256)
        footer = feature_files.verify(path)
    except LakeError as error:
        return error.message.removeprefix(f"{path} ").removeprefix(f"{path.name} ")
    said = (footer.content_digest, footer.rows, footer.columns, footer.known)
    same = said == (row.content_digest, row.rows, row.columns, row.known)
    return "" if same else "is not what the manifest says of it"


def strangers(paths: Iterable[str], rows: Sequence[FeatureRow]) -> list[Finding]:
    """Of the files under features/ those that no live version names. `rows` are all versions."""
    state = {row.path: row.state for row in rows}
    found = []
    for path in paths:
        if state.get(path) == "deleted":
            found.append(Finding("warning", path, "is named by no live row of the manifest", DELETED))
        elif path not in state:
            hint = UNFINISHED if layout.is_feature(path) else NOT_OURS
            found.append(Finding("warning", path, "is named by no row of the manifest", hint))
    return found


def settle(root: Path, source: Reads, paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove what deleted versions left; paths of live ones that are missing, and of files that no row names.

    Raises StorageFailed.
    """
    rows = feature_table.features(source, state=None)
    live = {row.path for row in rows if row.state == "live"}
    gone = [row for row in rows if row.state == "deleted" and row.path not in live]
    feature_files.clear(root, gone)
    known = live | {row.path for row in gone}
    return sorted(live - set(paths)), [path for path in paths if path not in known]


def survey(
    root: Path, source: Reads, history: History, found: Survey, paths: Sequence[str], now: int, *, thorough: bool
) -> None:
    """The part of `lake.survey.survey`: takes in what no entry of the ledger told where that has lost lines."""
    rows = feature_table.features(source, state=None)
    named = {row.path: row for row in rows}
    unknown: list[FeatureRow] = []
    for path in paths:
        found.files += 1
        found.bytes += (root / path).stat().st_size
        row = named.get(path)
        if row is None:
            unknown += _candidate(root, path, found)
        elif row.state == "live":
            wrong = problem(root, row) if thorough else _size(root, row)
            found.findings += [Finding("error", path, wrong, PUT_AGAIN)] if wrong else []
    missing = sorted({row.path for row in rows if row.state == "live"} - set(paths))
    found.findings += [Finding("error", path, "is missing", PUT_AGAIN) for path in missing]
    ids = {row.feature_id for row in rows}
    taken = [row for row in unknown if not history.whole and row.feature_id not in ids]
    found.left += [row.path for row in unknown if row not in taken]
    for row in sorted(taken, key=lambda one: version_key(one.version)):
        others = [one for one in rows if one.owner == row.owner and one.state == "live"]
        newest = max((one.latest_at for one in others), default=0)
        if all(version_key(one.version) < version_key(row.version) for one in others):
            row.latest_at = max(now, newest + 1)
        row.created_at = now
        rows.append(row)
    if taken:
        history.adopt(Commit(now=now, features=tuple(taken)))
        found.adopted += sorted(row.path for row in taken)


def _candidate(root: Path, path: str, found: Survey) -> list[FeatureRow]:
    try:
        if not layout.is_feature(path):
            raise CorruptFile(f"{path} has no name of a feature set")
        row, lake_id = feature_files.row_of(root, path)
    except LakeError as error:
        wrong = error.message.removeprefix(f"{root / path} ").removeprefix(f"{path} ")
        found.findings.append(Finding("warning", path, wrong, "no row names it: look at it, then move it away"))
        return []
    if found.lake_id and lake_id != found.lake_id:
        found.findings.append(Finding("warning", path, f"is of another lake ({lake_id or 'unnamed'})", "move it away"))
        return []
    found.lake_id = found.lake_id or lake_id
    return [row]


def _size(root: Path, row: FeatureRow) -> str:
    held = (root / row.path).stat().st_size
    return f"has {held} bytes, {row.bytes} were published" if held != row.bytes else ""
