"""What becomes of a file that is not what was published: set aside, then made again from raw, or told to be lost.

Hot files and days of observed kinds come from their raw segments as long as every one of these is there; bars and
samples come from the days beside them. What cannot be made again is a gap with the cause `bitrot`, and no reader meets
the broken file any more; so is the time of rows that raw never had, as those of files that were taken in. A raw segment
or frames file whose rows are in the tables is a copy that was lost: no gap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from compactor import retention, view
from compactor.heal import aside, heal, told
from compactor.jobs import SAMPLES
from lake import durable, sources
from lake.checks import REPARSES
from lake.errors import CommitConflict
from lake.layout import meta_path
from lake.links import link_of
from lake.lost import ROTTEN
from lake.rows import FILES, CheckRow, FileRow, SegmentRow
from lake.scrub import Target, Verdict, examine
from lake.writer import LakeWriter
from market.kinds import BARS, Contiguous, kind
from market.session import EVERY_SYMBOL, Gap
from market.times import Interval, union
from runtime import caring, telemetry

Outcome = Literal["remade", "restored", "lost", "dropped", "left", "held", "settled"]
"""`remade`: the next passes make it again. `restored`: its twin in tables/ took its place. `lost`: a gap says so.
`dropped`: a copy less. `left`: the manifest is what is wrong. `settled`: it is not live any more, so nobody cares.
`held`: too many at once.
"""
MANY = 32
"""Files that one look at the lake sets right. More at once are no rotten bits but a disk that is not mounted, or memory
that fails: then nothing is changed, and it is said.
"""
REASON = {"missing": "it is not on the disk any more", "altered": "its bytes changed on disk"}


def set_right(writer: LakeWriter, target: Target, verdict: Verdict, now: int) -> Outcome:
    """Do what can be done about one file; says it. `now` us. Raises StorageFailed, Fenced."""
    outcome = _set_right(writer, target, verdict, now)
    if outcome != "settled":
        caring.bitrot(path=target.path, verdict=verdict, outcome=outcome)
    return outcome


def set_right_missing(writer: LakeWriter, paths: Sequence[str], now: int) -> None:
    """What a start has found to be gone, unless it is so much that something else is wrong."""
    for path in paths:
        row = writer.manifest.file(path)
        if row is not None:
            target = Target(path, row.bytes, row.sha256, now)
            if len(paths) > MANY:
                caring.bitrot(path=path, verdict="missing", outcome="held")
            else:
                set_right(writer, target, "missing", now)


def _set_right(writer: LakeWriter, target: Target, verdict: Verdict, now: int) -> Outcome:
    segment = writer.manifest.segment(target.path)
    row = writer.manifest.file(target.path)
    if segment is not None:
        if segment.state not in ("sealed", "transformed") or segment.sha256 != target.sha256:
            return "settled"
        return "left" if verdict == "misnamed" else _drop(writer, segment, verdict, now)
    if row is None or row.state != "live" or row.sha256 != target.sha256:
        return "settled"
    if verdict == "misnamed":
        return "left"
    if verdict == "altered" and examine(writer.root, target) != "altered":
        return "settled"  # the disk, or memory, gave other bytes the second time
    if row.level != "day" and heal(writer, [row], now):
        return "remade"
    try:
        return _day(writer, row, verdict, now)
    except CommitConflict as error:  # another commit took its place meanwhile
        telemetry.commit_conflict(job=f"scrub {row.path}", detail=error.message)
        return "settled"


def _drop(writer: LakeWriter, segment: SegmentRow, verdict: Verdict, now: int) -> Outcome:
    """A raw segment or frames file: what was made of it is in the tables."""
    found = aside(writer, segment.path, segment.rows, REASON[verdict], now)
    writer.publish(
        segments={segment.path: "deleted"}, quarantine=[found], checks=[_check(segment.path, verdict)], now=now
    )
    durable.unlink(writer.root / meta_path(segment.path))
    told(found)
    return "dropped"


def _check(path: str, verdict: Verdict) -> CheckRow:
    return CheckRow(path=path, check="bitrot", symbol="", count=1, detail=REASON[verdict])


def _day(writer: LakeWriter, row: FileRow, verdict: Verdict, now: int) -> Outcome:
    """A daily file, or a hot one that its lineage does not lead to raw."""
    if _restored(writer, row, verdict, now):
        return "restored"
    segments: Sequence[str] | None = None
    cursors: dict[str, int] = {}
    if row.level == "day" and row.kind in BARS:
        cursors[sources.bars_due(row.exchange, row.market_type, row.date)] = 1
    elif row.level == "day" and row.kind == SAMPLES:
        cursors[view.samples_due(row.exchange, row.market_type, row.date)] = 1
    else:
        segments = _segments(writer, row)
    # hot bars that are gone leave nothing out: the day's close makes its bars from the trades
    again = bool(cursors) or segments is not None or row.kind in BARS
    gaps = [_gap(row, verdict, now)] if not again else [] if segments is None else _beyond_raw(writer, row, now)
    found = aside(writer, row.path, row.rows, REASON[verdict], now)
    writer.publish(
        remove=[row.path], segments=dict.fromkeys(segments or (), "sealed"), cursors=cursors, quarantine=[found],
        checks=[_check(row.path, verdict)], gaps=gaps, now=now,
    )  # fmt: skip
    told(found)
    for gap in gaps:
        telemetry.gap_opened(
            exchange=gap.exchange, market_type=gap.market_type, kind=gap.kind, symbol=gap.symbol, cause=gap.cause,
            ts_from=gap.ts_from, ts_to=gap.ts_to, missing=gap.missing,
        )  # fmt: skip
    return "lost" if gaps else "remade"


def _restored(writer: LakeWriter, row: FileRow, verdict: Verdict, now: int) -> bool:
    """Whether the file in tables/ was whole and is the one in versions/ now: two names, or two copies, of one file."""
    name = link_of(row.path)
    if name is None:
        return False
    twin = writer.root / name
    try:
        if examine(writer.root, Target(name, row.bytes, row.sha256, now)) != "whole":
            return False
    except OSError:
        return False
    found = aside(writer, row.path, row.rows, REASON[verdict], now)
    durable.make_dirs((writer.root / row.path).parent)
    durable.link(twin, writer.root / row.path)
    writer.quarantine([found])
    told(found)
    return True


def _segments(writer: LakeWriter, row: FileRow) -> list[str] | None:
    """Every transformed segment with rows of that stream and date; None where one of them is gone."""
    mine = [
        segment
        for segment in writer.manifest.segments(row.exchange, row.market_type, row.kind)
        if segment.rows and row.date in retention.dates(segment)
    ]
    if not mine or any(segment.state in ("deleting", "deleted") for segment in mine):
        return None
    made = [segment.path for segment in mine if segment.state == "transformed"]
    return made if all((writer.root / path).is_file() for path in made) else None


def _beyond_raw(writer: LakeWriter, row: FileRow, now: int) -> list[Gap]:
    """Where the file may have had rows that no line in raw/ tells: of files that were taken in, or of frames that were
    read again. What they are is not known any more.
    """
    mine, manifest = Interval(row.ts_min, row.ts_max + 1), writer.manifest
    files = {one.session for one in manifest.sessions(row.exchange, row.market_type) if one.source in FILES}
    symbols = None if row.symbol is None else [row.symbol, EVERY_SYMBOL]
    told = manifest.coverage(row.exchange, row.market_type, row.kind, symbols, overlapping=mine)
    spans = union(Interval(one.ts_from, one.ts_to).clip(mine) for one in told if one.session in files)
    if any(check.check in REPARSES and check.count for check in manifest.checks(row.path)):
        spans = [mine]
    return [
        Gap(
            gap_id=f"{_name(row)}-{span.start}",
            exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=row.symbol or EVERY_SYMBOL,
            ts_from=span.start, ts_to=span.end, id_from=None, id_to=None,
            cause=ROTTEN, proof="checksum", state="open", session=None, detected_at=now,
            detail=f"{row.path} is made again from raw segments, which do not have all of it",
        )
        for span in spans
    ]  # fmt: skip


def _name(row: FileRow) -> str:
    return f"bitrot-{hashlib.sha256(row.path.encode()).hexdigest()[:24]}"


def _gap(row: FileRow, verdict: Verdict, now: int) -> Gap:
    numbered = any(isinstance(check, Contiguous) for check in kind(row.kind).checks)
    known = numbered and row.symbol is not None and row.seq_min is not None and row.seq_max is not None
    return Gap(
        gap_id=_name(row),
        exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=row.symbol or EVERY_SYMBOL,
        ts_from=row.ts_min, ts_to=row.ts_max + 1,
        id_from=row.seq_min if known else None, id_to=(row.seq_max or 0) + 1 if known else None,
        cause=ROTTEN, proof="checksum", state="open", session=None, detected_at=now,
        detail=f"{row.path}: {REASON[verdict]}; {row.rows} rows; its raw segments are gone, frames may be replayed",
    )  # fmt: skip
