"""Revisions of closed days: which there are, what proves them, and the files that each was made from.

Every function answers from one snapshot of the manifest and opens no data file.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import msgspec

from lake.asking import dates, number
from lake.bars import EVERY_SYMBOL
from lake.errors import NotHeld, WrongQuestion
from lake.inventory import Filter
from lake.manifest_reads import Snapshot
from lake.reading import Wanted
from lake.rows import FRAMES, CertificateRow, FileRow, SegmentRow
from lake.sources import TRADES
from market import times
from market.kinds import BARS
from market.times import DAY, Interval


class Revision(msgspec.Struct, kw_only=True):
    """One revision of one day. `state`: current (what a read gives), replaced (its bytes are still there), gone.

    `rows` and `sha256` are known of all; `bytes`, `created_at` and `replaced_at` (us) of those that the manifest still
    names (`compactor.forget_days`).
    """

    exchange: str
    market_type: str
    kind: str
    symbol: str | None
    date: str
    revision: int
    state: Literal["current", "replaced", "gone"]
    path: str
    sha256: str
    rows: int
    content_digest: str | None = None
    bytes: int | None = None
    created_at: int | None = None
    replaced_at: int | None = None
    certificate: CertificateRow | None = None


class Ancestor(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a daily file was made from, directly (`depth` 1) or through others.

    `what`: part, hour, day, segment, or `forgotten` where only its hash is still known. `child` is what it went into,
    `present` whether its bytes are still there.
    """

    what: str
    path: str
    sha256: str
    depth: int
    child: str
    present: bool
    rows: int | None = None


class Lineage(msgspec.Struct, kw_only=True):
    """A daily file, and everything that it was made from down to the raw segments; `sessions` opened those."""

    file: Revision
    ancestors: list[Ancestor]
    sessions: list[str]


def versions(root: Path, snapshot: Snapshot, asked: Filter) -> list[Revision]:
    """Every revision of every closed day, oldest day first, the current one of a day last."""
    first, last = dates(asked.span)
    made: dict[str, Revision] = {}
    for row in snapshot.certificates(
        exchange=asked.exchange, market_type=asked.market_type, kind=asked.kind, date_from=first, date_to=last
    ):
        if any(_certifies(one, row) for one in asked.wanted):
            made[row.path] = _certified(row)
    for file in asked.files(snapshot, state=None):
        if file.level != "day":
            continue
        one = made.setdefault(file.path, _filed(file))
        one.bytes, one.created_at, one.replaced_at = file.bytes, file.created_at, file.retired_at
        one.content_digest = one.content_digest or file.content_digest
        if file.state == "live":
            one.state = "current"
        elif (root / file.path).is_file():
            one.state = "replaced"
    return sorted(made.values(), key=lambda r: (r.exchange, r.market_type, r.kind, r.symbol or "", r.date, r.revision))


def _certifies(wanted: Wanted, row: CertificateRow) -> bool:
    return (
        wanted.exchange in (None, row.exchange)
        and wanted.market_type in (None, row.market_type)
        and (wanted.symbol is None or row.symbol in (None, wanted.symbol))
    )


def _certified(row: CertificateRow) -> Revision:
    return Revision(
        exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol=row.symbol, date=row.date,
        revision=row.revision, state="gone", path=row.path, sha256=row.sha256, rows=row.rows,
        content_digest=row.content_digest, certificate=row,
    )  # fmt: skip


def _filed(file: FileRow) -> Revision:
    return Revision(
        exchange=file.exchange, market_type=file.market_type, kind=file.kind, symbol=file.symbol, date=file.date,
        revision=file.revision, state="gone", path=file.path, sha256=file.sha256, rows=file.rows,
    )  # fmt: skip


def revision_of(root: Path, snapshot: Snapshot, asked: Filter, revision: int | None) -> Revision:
    """One revision of one day, the current one by default. Raises NotHeld, WrongQuestion (several days answer)."""
    number("revision", revision, 0)
    found = versions(root, snapshot, asked)
    told = f"{asked.kind} of {_named(asked)}"
    chosen = [one for one in found if (one.state == "current" if revision is None else one.revision == revision)]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        which = ", ".join(sorted({f"{one.exchange} {one.market_type} {one.symbol or '(all)'}" for one in chosen})[:9])
        raise WrongQuestion(f"{told} has {len(chosen)} daily files: {which}", "name exchange, market type and symbol")
    if found:
        held = ", ".join(str(one.revision) for one in found)
        raise NotHeld(f"{told} has no {'current revision' if revision is None else f'revision {revision}'}",
                      f"it has {held}")  # fmt: skip
    raise NotHeld(f"there is no daily file of {told}", "a day gets one when it is closed")


def _named(asked: Filter) -> str:
    symbols = ", ".join(sorted({one.symbol or "any symbol" for one in asked.wanted}))
    where = " ".join(name for name in (asked.exchange, asked.market_type) if name)
    return f"{where} {symbols} {times.date_of(asked.span.start).isoformat()}".strip()


def lineage(root: Path, snapshot: Snapshot, revision: Revision) -> Lineage:
    """What a daily file was made from, breadth first, each file once."""
    inputs = {} if revision.certificate is None else revision.certificate.inputs
    found: list[Ancestor] = []
    sessions: set[str] = set()
    file = snapshot.file(revision.path)
    queue = [(path, 1, revision.path) for path in (sorted(inputs) if file is None else file.parents)]
    seen: set[str] = set()
    while queue:
        path, depth, child = queue.pop(0)
        if path in seen:
            continue
        seen.add(path)
        held = snapshot.file(path)
        if held is not None:
            found.append(_step(root, held.level, held, depth, child))
            queue += [(parent, depth + 1, path) for parent in held.parents]
        elif (segment := snapshot.segment(path)) is not None and segment.kind != FRAMES:
            found.append(_step(root, "segment", segment, depth, child))
        else:
            sha256 = inputs.get(path, "")
            present = (root / path).is_file()
            found.append(
                Ancestor(what="forgotten", path=path, sha256=sha256, depth=depth, child=child, present=present)
            )
    sessions.update(_sessions(snapshot, revision))
    return Lineage(file=revision, ancestors=found, sessions=sorted(sessions))


def _step(root: Path, what: str, row: FileRow | SegmentRow, depth: int, child: str) -> Ancestor:
    present = (root / row.path).is_file()
    return Ancestor(
        what=what, path=row.path, sha256=row.sha256, depth=depth, child=child, present=present, rows=row.rows
    )


def _sessions(snapshot: Snapshot, revision: Revision) -> Collection[str]:
    """Sessions that covered the symbol on that day."""
    start = times.parse(revision.date)
    day = Interval(start, start + DAY)
    kinds = TRADES if revision.kind in BARS else (revision.kind,)
    names = None if revision.symbol is None else [revision.symbol, EVERY_SYMBOL]
    rows = (
        row
        for kind in kinds
        for row in snapshot.coverage(revision.exchange, revision.market_type, kind, names, overlapping=day)
    )
    return {row.session for row in rows}
