"""Deleting closed days of one dataset because somebody wants it: out of the manifest, their bytes later, a gap each.

Files that other datasets share are left: hot ones hold all symbols until their day is closed. What was deleted is told
as gaps with the cause `deleted`, which nothing repairs by itself; samples of books come from other rows, and have none.
Bars that were made of trades stay when the trades are deleted, and are read as before (`lake.bar_holes`). Deleted bars
are a gap of the whole day: that there is none of a minute says that nothing was traded in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from compactor.jobs import day_span
from lake.bar_holes import DELETED, deletion
from lake.errors import CommitConflict, WrongQuestion
from lake.manifest import Manifest
from lake.manifest_reads import Reads, Snapshot
from lake.rows import FileRow
from lake.writer import LakeWriter
from market.kinds import BARS, Contiguous, kind
from market.session import Gap
from market.times import Interval


class Deletion(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One kind of one symbol (None: files of all symbols). `digest` is of the files that its asker was shown."""

    exchange: str
    market_type: str
    kind: str
    symbol: str | None
    digest: str


class Planned(msgspec.Struct, kw_only=True):
    """What a deletion takes away, and how many files of all symbols may hold more rows of it."""

    files: int
    rows: int
    bytes: int
    days: list[str]
    shared: int
    digest: str


class Deleted(msgspec.Struct, kw_only=True):
    """What is gone."""

    files: int
    rows: int
    bytes: int
    gaps: int


def plan(found: Snapshot, exchange: str, market_type: str, name: str, symbol: str | None) -> Planned:
    """What would be deleted, from one snapshot. Raises UnknownKind."""
    mine, shared = _files(found, exchange, market_type, name, symbol)
    return Planned(
        files=len(mine), rows=sum(row.rows for row in mine), bytes=sum(row.bytes for row in mine),
        days=sorted({row.date for row in mine}), shared=shared, digest=_digest(mine),
    )  # fmt: skip


def delete(writer: LakeWriter, asked: Deletion, now: int) -> Deleted:
    """Carry it out, all in one commit. Readers that have begun go on: bytes go after `compactor.grace_seconds`.

    Raises CommitConflict (the files are not those that were shown), WrongQuestion (there are none), Fenced.
    """
    mine, _ = _files(writer.manifest, asked.exchange, asked.market_type, asked.kind, asked.symbol)
    if not mine:
        raise WrongQuestion("there is no closed day of it", "rows of days that are not closed go with them")
    if _digest(mine) != asked.digest:
        raise CommitConflict("the files have changed since they were shown", "ask again what would be deleted")
    told = asked.kind in BARS or not kind(asked.kind).derived
    gaps = [_gap(row, now) for row in mine] if told else []
    writer.publish(remove=[row.path for row in mine], gaps=gaps, now=now)
    return Deleted(
        files=len(mine), rows=sum(row.rows for row in mine), bytes=sum(row.bytes for row in mine), gaps=len(gaps)
    )


def made_again(source: Manifest, made: Iterable[FileRow], now: int) -> list[Gap]:
    """The gaps of deleted bars that these files of bars close."""
    symbols: dict[tuple[str, str, str, str], set[str | None]] = {}
    for row in made:
        if row.kind in BARS:
            symbols.setdefault((row.exchange, row.market_type, row.kind, row.date), set()).add(row.symbol)
    return [
        msgspec.structs.replace(gap, state="repaired", source="derived", closed_at=now)
        for (*stream, date), there in symbols.items()
        for gap in source.gaps(*stream, state="unrepairable", overlapping=day_span(date))
        if gap.cause == DELETED and gap.symbol in there
    ]


def _files(
    source: Reads, exchange: str, market_type: str, name: str, symbol: str | None
) -> tuple[Sequence[FileRow], int]:
    held = source.run(lambda conn: Snapshot(conn).files(kind(name).name, exchange=exchange, market_type=market_type))
    mine = [row for row in held if row.level == "day" and row.symbol == symbol]
    return mine, sum(row.symbol is None and row.level != "day" for row in held)


def _digest(rows: Iterable[FileRow]) -> str:
    return hashlib.sha256("\n".join(sorted(f"{row.path} {row.sha256}" for row in rows)).encode()).hexdigest()


def _gap(row: FileRow, now: int) -> Gap:
    numbered = any(isinstance(check, Contiguous) for check in kind(row.kind).checks)
    known = numbered and row.symbol is not None and row.seq_min is not None and row.seq_max is not None
    gone = day_span(row.date) if row.kind in BARS else Interval(row.ts_min, row.ts_max + 1)
    return Gap(
        gap_id=deletion(row.path),
        exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=row.symbol or "*",
        ts_from=gone.start, ts_to=gone.end,
        id_from=row.seq_min if known else None, id_to=(row.seq_max or 0) + 1 if known else None,
        cause=DELETED, proof="counted", state="unrepairable", session=None, detected_at=now, closed_at=now,
        detail=f"{row.path}: {row.rows} rows were deleted by hand",
    )  # fmt: skip
