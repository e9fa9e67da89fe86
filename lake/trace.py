"""`dl trace`: from a published row back to the frame that the venue sent, file by file.

A row names its session, frame and item; the manifest names the files it came through. Nothing is guessed: what is
not found (frames past their retention, a segment already deleted) is said so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake import parquet
from lake.errors import WrongQuestion
from lake.frames import read_frames
from lake.manifest_reads import Snapshot
from lake.reading import check
from lake.rows import FRAMES, FileRow, SegmentRow, SessionRow
from market.kinds import PROVENANCE, kind
from market.times import from_datetime

SLACK = 60_000_000
"""us around a row's receive time in which its frames file and segment may have been open."""


class Wanted(msgspec.Struct, frozen=True):
    """Which row: by the kind's id, or by its provenance. `item` None takes every item of the frame."""

    kind: str
    exchange: str | None = None
    market_type: str | None = None
    symbol: str | None = None
    seq: int | None = None
    session: str | None = None
    frame_no: int | None = None
    item: int | None = None


class Step(msgspec.Struct, frozen=True):
    """One file on the way: what it is, where, its SHA-256, and whether its bytes are still there."""

    what: str
    path: str
    sha256: str
    present: bool


class Trace(msgspec.Struct):
    """One row, the files it came through (daily file first), its line, and the frame as it was received."""

    row: dict[str, Any]
    steps: list[Step]
    session: SessionRow | None = None
    line: str | None = None
    frame: str | None = None


def trace(root: Path, snapshot: Snapshot, wanted: Wanted) -> list[Trace]:
    """Every published row that is wanted, traced. Raises UnknownKind; WrongQuestion (an id of a kind without ids)."""
    declared = kind(wanted.kind)
    if wanted.seq is not None and declared.seq is None:
        raise WrongQuestion(f"{wanted.kind} rows have no id", "name the row by --session and --frame")
    files = snapshot.files(
        wanted.kind, exchange=wanted.exchange, market_type=wanted.market_type, symbol=wanted.symbol, parents=True
    )
    return [_follow(root, snapshot, file, row) for file in files for row in _rows(root, file, wanted, declared.seq)]


def _rows(root: Path, file: FileRow, wanted: Wanted, seq: str | None) -> Iterator[dict[str, Any]]:
    if wanted.seq is not None and not (file.seq_min or 0) <= wanted.seq <= (file.seq_max or 2**63):
        return
    symbols = None if wanted.symbol is None else frozenset([wanted.symbol])
    asked = {"symbol": wanted.symbol, "session": wanted.session, "frame_no": wanted.frame_no, "item": wanted.item}
    if seq is not None:
        asked[seq] = wanted.seq
    check(root, [file])
    for table in parquet.iterate(root / file.path, symbols=symbols):
        mask: Any = pa.nulls(table.num_rows, pa.bool_()).fill_null(fill_value=True)
        for name, value in asked.items():
            if value is not None:
                column = table.column(name)
                plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
                mask = pc.and_(mask, pc.equal(plain, value))
        yield from table.filter(pc.fill_null(mask, fill_value=False)).to_pylist()


def _follow(root: Path, snapshot: Snapshot, file: FileRow, row: dict[str, Any]) -> Trace:
    made = Trace(row, [])
    segments: list[SegmentRow] = []
    queue = [file.path]
    seen: set[str] = set()
    while queue:
        path = queue.pop(0)
        if path in seen:
            continue
        seen.add(path)
        held = snapshot.file(path)
        if held is not None:
            if _may_hold(held, row):
                made.steps.append(Step(held.level, path, held.sha256, (root / path).is_file()))
                queue += held.parents
        elif (segment := snapshot.segment(path)) is not None and segment.kind != FRAMES and _was_open(segment, row):
            segments.append(segment)
    sessions = snapshot.sessions(session=row["session"]) if row.get("session") else []
    made.session = sessions[0] if sessions else None
    for segment in segments:
        line = _line(root / segment.path, row)
        if line is not None:
            made.steps.append(Step("segment", segment.path, segment.sha256, present=True))
            made.line = line
            break
    _find_frame(root, snapshot, file, made)
    return made


def _us(value: Any) -> int | None:
    """Microseconds of an Arrow time as Python gives it."""
    return None if value is None else from_datetime(value)


def _may_hold(file: FileRow, row: dict[str, Any]) -> bool:
    time = _us(row["ts_event"])
    return file.symbol in (None, row["symbol"]) and time is not None and file.ts_min <= time <= file.ts_max


def _was_open(segment: SegmentRow, row: dict[str, Any]) -> bool:
    time = _us(row.get("ts_recv"))
    end = segment.period_end if segment.period_end is not None else 2**62
    return time is None or segment.period_start - SLACK <= time <= end + SLACK


def _line(path: Path, row: dict[str, Any]) -> str | None:
    if not path.is_file():
        return None
    needle = f'"{row["session"]}"'.encode()
    with path.open("rb") as handle:
        for raw in handle:
            if needle in raw:
                held = msgspec.json.decode(raw)
                if all(held[name] == row[name] for name in PROVENANCE):
                    return raw.decode().rstrip("\n")
    return None


def _find_frame(root: Path, snapshot: Snapshot, file: FileRow, made: Trace) -> None:
    for segment in snapshot.segments(file.exchange, file.market_type, FRAMES):
        path = root / segment.path
        if not _was_open(segment, made.row) or not path.is_file():
            continue
        for held in read_frames(path):
            if held.n == made.row["frame_no"] and held.conn == made.row["session"] and held.dir in ("recv", "http"):
                made.frame = held.frame if held.frame is not None else held.frame_b64
                made.steps.append(Step("frames", segment.path, segment.sha256, present=True))
                return
