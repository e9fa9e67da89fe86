"""What a start must do before anything is collected: bring to order whatever the last writer left half done.

Temporary files go; open and unrecorded segments are sealed and recorded; Parquet files that were never committed go
where they can be made again; tables/ gets its links back. Doing it twice is doing it once, and dying in the middle
of it is no different from dying before it. Sessions that nobody closed are reported, not closed: who starts the
collectors writes their gaps and their end down together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lake import durable, feature_care, frames, layout, links, parquet, segment_files
from lake.errors import CorruptSegment, LakeError
from lake.manifest_reads import Snapshot
from lake.resume import FrameRange, StreamKey, asked_beside, resume_points, unwritten_frames
from lake.rows import FRAMES, FileRow, QuarantineRow, SegmentRow, SessionRow
from market.errors import MarketError
from market.session import Resume

if TYPE_CHECKING:
    from lake.writer import LakeWriter


class Recovery(msgspec.Struct, kw_only=True, frozen=True):
    """What was found and done. Paths are relative to the lake's root."""

    temps: int
    """Temporary files removed."""
    segments: tuple[SegmentRow, ...]
    """Segments and frames files that were open, or sealed but unknown to the manifest, as they are recorded now."""
    quarantined: tuple[QuarantineRow, ...]
    orphans: tuple[str, ...]
    """Parquet files that were never committed and could be made again: removed."""
    strangers: tuple[str, ...]
    """Files that the manifest does not know and that were left alone."""
    missing: tuple[str, ...]
    """Live files that are not on disk: run `dl verify`."""
    links: int
    """Links in tables/ that were made or removed."""
    unclosed: tuple[SessionRow, ...]
    """Sessions without an end: what a crash interrupted."""
    interrupted: tuple[SegmentRow, ...]
    """Segments that may hold lines of those sessions beyond what is recorded of them: `segments`, and any that was
    recorded when the crash, or the death of an earlier recovery, came too soon for coverage and gaps.
    """
    last: dict[StreamKey, dict[str, Resume]]
    """Where each symbol of each (exchange, market_type, kind) stopped: what seeds the mergers."""
    beside: dict[StreamKey, dict[str, Resume]] = {}
    """The whole books that were asked for beside the streams, which nothing interrupts: they seed the mergers too."""
    unwritten: tuple[FrameRange, ...]
    """Frames of unclosed sessions that have no line: named in the crash's gap rows."""
    heard: dict[str, int]
    """Unclosed session -> when (us) the newest of its frames that are kept was received."""

    @property
    def crashed(self) -> bool:
        """Whether the last writer did not stop by itself."""
        return bool(self.unclosed) or any(not row.clean for row in self.segments)


def recover(writer: LakeWriter, now: int) -> Recovery:
    """Bring the lake of `writer` to order; `now` us. Raises StorageFailed; what was done so far stays done."""
    root = writer.root
    temps = durable.sweep_temps(root)
    rows, quarantined, strangers = _segments(writer, now)
    if rows or quarantined:
        writer.record(segments=rows, quarantine=quarantined, now=now)
    with writer.manifest.snapshot() as snapshot:
        files = snapshot.files(state=None)
        orphans, unknown = _orphans(root, files)
        live = [row for row in files if row.state == "live"]
        missing = [row.path for row in live if not (root / row.path).is_file()]
        lost, unnamed = feature_care.settle(root, snapshot, list(files_below(root, layout.FEATURES)))
        unclosed = snapshot.sessions(unclosed=True)
        interrupted = _interrupted(snapshot, unclosed, rows)
        last = resume_points(root, snapshot, unclosed, live)
        beside = asked_beside(root, snapshot, live)
        unwritten, heard = unwritten_frames(root, snapshot, unclosed)
    for path in orphans:
        durable.unlink(root / path)
    return Recovery(
        temps=temps,
        segments=tuple(rows),
        quarantined=tuple(quarantined),
        orphans=tuple(orphans),
        strangers=tuple(sorted(strangers + unknown + unnamed)),
        missing=tuple(missing + lost),
        links=links.relink(root, files),
        unclosed=tuple(unclosed),
        interrupted=tuple(interrupted),
        last=last,
        beside=beside,
        unwritten=tuple(unwritten),
        heard=heard,
    )


def _segments(writer: LakeWriter, now: int) -> tuple[list[SegmentRow], list[QuarantineRow], list[str]]:
    """Rows for every segment that is not settled, what was set aside of them, and files that are no segments."""
    root = writer.root
    known = {row.path: row for row in writer.manifest.segments()}
    unsettled = {path for path, row in known.items() if row.state == "open"}
    strangers: list[str] = []
    for path in files_below(root, layout.RAW, layout.FRAMES):
        if path.endswith(layout.META):
            continue
        sealed = path.removesuffix(layout.OPEN)
        if path != sealed or sealed not in known:
            if _named(sealed):
                unsettled.add(sealed)
            else:
                strangers.append(path)
    rows: list[SegmentRow] = []
    quarantined: list[QuarantineRow] = []
    for path in sorted(unsettled):
        recover_one = frames.recover_frames if path.startswith(layout.FRAMES + "/") else segment_files.recover_segment
        try:
            found = recover_one(root, path, now)
        except CorruptSegment as error:
            rows.append(_corrupt(root, path, known.get(path), error))
            continue
        quarantined += found.quarantined
        row = _settled(known.get(path), found.row)
        if row is not None:
            rows.append(row)
    return rows, quarantined, strangers


def _corrupt(root: Path, path: str, held: SegmentRow | None, error: CorruptSegment) -> SegmentRow:
    """The row of a file that lost its `.open` and is not what its seal says: nobody reads it before it is looked at."""
    sealed = segment_files.read_seal(root, path)
    assert sealed is not None, "only a file with a seal can contradict it"
    start = min(sealed.period_start, held.period_start) if held is not None else sealed.period_start
    return msgspec.structs.replace(sealed, state="quarantined", period_start=start, error=error.message)


def _named(path: str) -> bool:
    try:
        if path.startswith(layout.FRAMES + "/"):
            layout.parse_frames(path)
        else:
            layout.parse_raw(path)
    except MarketError:
        return False
    return True


def _settled(held: SegmentRow | None, found: SegmentRow | None) -> SegmentRow | None:
    """The row to record: what is on disk, with the start that was recorded when it was opened.

    An open row without a good line becomes an empty segment that answers for no time at all: what was desired then
    and did not come is for the crash's gap rows to say.
    """
    if held is None or held.state != "open":
        return found
    if found is None:
        return msgspec.structs.replace(held, state="sealed", period_end=held.period_start, clean=False)
    return msgspec.structs.replace(found, period_start=min(held.period_start, found.period_start))


def _interrupted(snapshot: Snapshot, unclosed: Sequence[SessionRow], rows: Sequence[SegmentRow]) -> list[SegmentRow]:
    """`rows`, and the segments of interrupted sessions that go beyond the coverage that is recorded of them."""
    found = {row.path: row for row in rows}
    for session in unclosed:
        market = (session.exchange, session.market_type)
        covered: dict[str, int] = {}
        for span in snapshot.coverage(*market):
            if span.session == session.session:
                covered[span.kind] = max(span.ts_to, covered.get(span.kind, 0))
        for row in snapshot.segments(*market):
            if row.kind == FRAMES or row.recv_max is None or row.recv_max < session.opened_at:
                continue
            newest = row.recv_max if row.event_max is None else row.event_max
            if row.state in ("sealed", "transformed") and newest > covered.get(row.kind, 0):
                found.setdefault(row.path, row)
    return list(found.values())


def _orphans(root: Path, files: Sequence[FileRow]) -> tuple[list[str], list[str]]:
    """Parquet files that no row names: those whose every parent is on disk (so they can be made again), and the rest.

    A file newer than a manifest that was restored from a copy may be all that is left of its parents: it stays, and so
    does one that is not what its name says, since nothing it says of its parents can be believed.
    """
    known = {row.path for row in files}
    orphans: list[str] = []
    strangers: list[str] = []
    for path in files_below(root, layout.HOT, layout.VERSIONS):
        if path in known:
            continue
        try:
            named = layout.parse_parquet(path)
            whole = parquet.file_sha256(root / path).startswith(named.sha8)
            parents = parquet.read_footer(root / path).parents if whole else ()
        except (MarketError, LakeError):
            strangers.append(path)
            continue
        remade = bool(parents) and all((root / parent.path).is_file() for parent in parents)
        (orphans if remade else strangers).append(path)
    return orphans, strangers


def files_below(root: Path, *trees: str) -> Iterator[str]:
    """Paths of all files below these folders, without hidden ones, sorted."""
    for tree in trees:
        base = str(root / tree)
        for folder, folders, names in os.walk(base):
            folders.sort()
            where = tree + folder[len(base) :].replace(os.sep, "/")
            yield from (f"{where}/{name}" for name in sorted(names) if not name.startswith("."))
