"""Files that came from elsewhere (a venue's archive, bought or own data) as hot parts of the days that they are of.

A file is a session of source `archive` or `import`: its url is the address or path, with the SHA-256 of its bytes and
what it was read as behind `#`. Rows point to it: `frame_no` is the line, `ts_recv` when the file was taken in. The same
file again is told by its SHA-256, wherever it lies, and changes nothing. `begin` and `finish` are the writer's part,
`publish_rows` is work that any process can do: nothing of a file is visible before `finish` commits all of it. A crash
in between leaves a session without its end, which `begin` takes up again, so that every byte comes out the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec
import polars as pl
import pyarrow as pa

from lake import day_rows, durable, layout, lost, merge, overlaps, tables, typed
from lake.checks import DUPLICATE, check_table
from lake.day_rows import Span
from lake.errors import StorageFailed
from lake.publish import Placement, publish
from lake.rows import FILES, CheckRow, FileRow, QuarantineRow, SessionRow
from lake.sortedness import unsorted
from lake.writer import LakeWriter
from market import kinds
from market.session import Coverage, Gap
from market.times import DAY, HOUR, Interval, date_of, floor_to, subtract

BATCH_ROWS = 256 * 1024
"""Rows of a batch, at most, as its readers should cut it: a batch is in memory as texts and as a table."""
DONE = "done"
REFUSED = "refused_file"
"""The causes with which the session of a file ends: it is in the lake as a whole, or nothing of it is."""
MOST_REASONS = 50
SHOWN = 300


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is being taken in as one kind of one market. `recv` (us) is the `ts_recv` of its rows.

    `how` is whatever else decides its rows (dialect, zone, symbol); `sha256` that of the file as it was given.
    """

    exchange: str
    market_type: str
    kind: str
    source: Literal["archive", "import"]
    url: str
    sha256: str
    how: str = ""
    session: str
    recv: int
    lake_id: str
    held: overlaps.Spans = {}
    """What the lake covers already of each symbol: rows without an id that lie there are left out."""
    zone: str = ""
    """Whose days are noted on which there are rows; none where it is empty."""

    @property
    def name(self) -> str:
        """The session's url: place and identity."""
        return f"{self.url}#{identity(self.sha256, self.kind, self.how)}"

    @property
    def origin(self) -> typed.Origin:
        return typed.Origin(self.exchange, self.market_type, self.kind, self.source, self.session, self.recv)


class Published(msgspec.Struct):
    """What was made of a file and waits for `finish`.

    Law: rows read = rows - added + duplicates + covered + quarantined + other.
    """

    files: list[FileRow] = []
    checks: list[CheckRow] = []
    quarantine: list[QuarantineRow] = []
    rows: int = 0
    duplicates: int = 0
    covered: int = 0
    """Rows without an id in times that the lake covers."""
    other: int = 0
    """Rows that tell nothing of the kind, or of a book of which nothing else is told."""
    added: int = 0
    """Rows that are no row of the file: the borders of a book's parts."""
    why: dict[str, int] = {}
    """Reason -> rows that are in quarantine for it, without their values."""
    spans: dict[str, Span] = {}
    """symbol -> from its first row to behind its last one."""
    days: dict[str, set[int]] = {}
    """symbol -> days of the source's zone since 1970 on which it has rows."""

    @property
    def quarantined(self) -> int:
        return sum(row.count for row in self.quarantine)


class Adopted(msgspec.Struct, kw_only=True):
    """What became of a file. `already`: it was there as a whole, and nothing was done."""

    session: str
    already: bool = False
    rows: int = 0
    duplicates: int = 0
    covered: int = 0
    other: int = 0
    added: int = 0
    quarantined: int = 0
    files: int = 0
    symbols: list[str] = []
    ts_from: int | None = None
    ts_to: int | None = None
    reasons: list[str] = []
    """Why rows are in quarantine, the first ones."""
    why: dict[str, int] = {}
    """Reason -> how many of them, most first."""


def identity(sha256: str, kind: str, how: str) -> str:
    """What tells a file, taken in as this: the same text is the same rows."""
    return f"sha256={sha256}&kind={kind}" + (f"&as={quote(how, safe='=,:/ ')}" if how else "")


def earlier(writer: LakeWriter, exchange: str, market_type: str, sha256: str) -> list[SessionRow]:
    """Sessions of this market that took in a file of these bytes, or began to."""
    rows = writer.manifest.sessions(exchange=exchange, market_type=market_type)
    return [row for row in rows if row.source in FILES and f"#sha256={sha256}&" in row.url]


def begin(
    writer: LakeWriter,
    node: str,
    *,
    exchange: str,
    market_type: str,
    kind: str,
    source: Literal["archive", "import"],
    url: str,
    sha256: str,
    how: str = "",
    now: int,
) -> FileSource | Adopted:
    """The file as what its rows are made with, its session recorded; or that all of it is in the lake already.

    Sessions are numbered by who calls: no two at once. Raises UnknownKind, StorageFailed, Fenced.
    """
    kinds.kind(kind)
    mark = f"#{identity(sha256, kind, how)}"
    same = [row for row in earlier(writer, exchange, market_type, sha256) if row.url.endswith(mark)]
    if done := next((row for row in same if row.close_cause == DONE), None):
        places = lost.covered(writer.manifest, done, kind)
        gap = lost.since(writer.manifest, (exchange, market_type, kind), places, done.opened_at)
        if gap is None:
            return Adopted(session=done.session, already=True, rows=done.events)
        told = {"exchange": exchange, "market_type": market_type, "kind": kind, "url": url, "sha256": sha256}
        return begin(writer, node, source=source, how=f"{how}{lost.AGAIN}{gap.gap_id}", now=now, **told)
    session, recv = (same[0].session, same[0].opened_at) if same else (_unused(writer, node, now), now)
    made = FileSource(
        exchange=exchange, market_type=market_type, kind=kind, source=source, url=url, sha256=sha256, how=how,
        session=session, recv=recv, lake_id=writer.lake_id,
    )  # fmt: skip
    writer.record_sessions([_row(made)])
    return made


def publish_rows(
    root: Path,
    source: FileSource,
    batches: Iterable[pl.DataFrame],
    *,
    run: str,
    now: int,
) -> Published:
    """Every batch (`lake.typed`: texts of numbers, BATCH_ROWS at most) as parts under their durable names.

    `run` names temporary files, `now` (us) tells which days are not over: their parts hold an hour each. Raises
    whatever `batches` raises, VerifyFailed, StorageFailed; nothing of the file is left then.
    """
    made = Published()
    try:
        for batch in batches:
            _publish_batch(root, source, batch, made, run, now)
    except BaseException:
        discard(root, made)
        raise
    return made


def rehearse(source: FileSource, batches: Iterable[pl.DataFrame], report: Callable[[int], None]) -> Published:
    """What `publish_rows` would make of the batches, without a file. Raises whatever `batches` raises."""
    made = Published()
    for batch in batches:
        found = typed.typed(source.origin, batch)
        if found.bad.height:
            made.quarantine.append(_told(source, found.bad, 0)[0])
            _tally(made.why, _reasons(found.bad))
        _ordered_rows(source, found.table, made)
        report(made.rows + made.quarantined)
    return made


def join(made: Published, more: Published) -> None:
    """What was made of another piece of the same file, beside what was made before."""
    made.files += more.files
    made.checks += more.checks
    made.quarantine += more.quarantine
    made.rows += more.rows
    made.duplicates += more.duplicates
    made.covered += more.covered
    made.other += more.other
    made.added += more.added
    _tally(made.why, more.why)
    for symbol, (start, end) in more.spans.items():
        low, high = made.spans.get(symbol, (start, end))
        made.spans[symbol] = (min(low, start), max(high, end))
    for symbol, days in more.days.items():
        made.days.setdefault(symbol, set()).update(days)


def finish(
    writer: LakeWriter,
    source: FileSource,
    published: Published,
    *,
    now: int,
    coverage: Mapping[str, Interval] | None = None,
    holes: Mapping[str, Sequence[Interval]] | None = None,
    checks: Sequence[CheckRow] = (),
    gaps: Sequence[Gap] = (),
) -> Adopted:
    """All of the file becomes visible at once, then its session ends and covers `coverage` (symbol -> us), and `gaps`
    are what it says of them.

    None is what the rows themselves prove: each symbol from its first row to behind its last, without its `holes`.
    Raises CommitConflict, StorageFailed, Fenced: then nothing of it is visible, or all of it, and taking it in again
    ends it.
    """
    if published.files or published.quarantine:
        writer.publish(
            add=published.files, checks=[*published.checks, *checks], quarantine=published.quarantine, now=now
        )
    if coverage is None:
        coverage = {symbol: Interval(*span) for symbol, span in published.spans.items()}
    covered = [
        Coverage(source.exchange, source.market_type, source.kind, symbol, source.session, span.start, span.end)
        for symbol, whole in sorted(coverage.items())
        for span in subtract([whole], (holes or {}).get(symbol, ()))
    ]
    lines = published.rows - published.added + published.duplicates + published.covered + published.quarantined
    ended = _row(source, closed_at=max(now, source.recv), cause=DONE, frames=lines, events=published.rows)
    writer.record(sessions=[ended], coverage=covered, gaps=gaps, now=now)
    return told(source, published)


def told(source: FileSource, published: Published) -> Adopted:
    """What was made of a file, in numbers."""
    spans = published.spans.values()
    return Adopted(
        session=source.session, rows=published.rows, duplicates=published.duplicates,
        covered=published.covered, other=published.other, added=published.added,
        quarantined=published.quarantined, files=len(published.files), symbols=sorted(published.spans),
        ts_from=min((start for start, _ in spans), default=None), ts_to=max((end for _, end in spans), default=None),
        reasons=[row.reason for row in published.quarantine][:5],
        why=dict(sorted(published.why.items(), key=lambda each: -each[1])),
    )  # fmt: skip


def abandon(writer: LakeWriter, source: FileSource, published: Published | None, why: str, *, now: int) -> None:
    """The file is not taken in: what was made of it goes, its session ends with the reason. Raises StorageFailed."""
    if published is not None:
        discard(writer.root, published)
    writer.record_sessions([_row(source, closed_at=max(now, source.recv), cause=f"{REFUSED}: {why[:200]}")])


def discard(root: Path, published: Published) -> None:
    """Removes parts and lines that nothing names yet."""
    for path in (*(row.path for row in published.files), *(row.path for row in published.quarantine)):
        with contextlib.suppress(StorageFailed):
            durable.unlink(root / path)
    published.files, published.quarantine = [], []


def _unused(writer: LakeWriter, node: str, now: int) -> str:
    number = 0
    while writer.manifest.sessions(session=f"{node}-{now}-{number}"):
        number += 1
    return f"{layout.check_node(node)}-{now}-{number}"


def _row(
    source: FileSource, *, closed_at: int | None = None, cause: str | None = None, frames: int = 0, events: int = 0
) -> SessionRow:
    return SessionRow(
        session=source.session, exchange=source.exchange, market_type=source.market_type, source=source.source,
        url=source.name, opened_at=source.recv, closed_at=closed_at, close_cause=cause, frames=frames, events=events,
    )  # fmt: skip


def _publish_batch(root: Path, source: FileSource, batch: pl.DataFrame, made: Published, run: str, now: int) -> None:
    found = typed.typed(source.origin, batch)
    if found.bad.height:
        made.quarantine.append(_set_aside(root, source, found.bad, now))
        _tally(made.why, _reasons(found.bad))
    table, doubled = _ordered_rows(source, found.table, made)
    for start, part in day_rows.cut(table, floor_to(now, DAY)):
        placement = Placement(
            kind=source.kind, exchange=source.exchange, market_type=source.market_type, level="part",
            date=date_of(start).isoformat(), hour=start % DAY // HOUR, lake_id=source.lake_id,
            parents=(tables.Parent(source.url, source.sha256),),
        )  # fmt: skip
        file = publish(root, placement, [part], run=run, now=now)
        made.files.append(file)
        made.checks += [
            CheckRow(path=file.path, check=one.check, symbol=one.symbol, count=one.count, detail=one.detail)
            for one in check_table(part, source.kind)
        ]
        present = set(part.column("symbol").unique().to_pylist()) if doubled else set()
        made.checks += [
            CheckRow(path=file.path, check=DUPLICATE, symbol=symbol, count=doubled.pop(symbol))
            for symbol in sorted(present & doubled.keys())
        ]


def _ordered_rows(source: FileSource, table: pa.Table, made: Published) -> tuple[pa.Table, Counter[str]]:
    table, covered = overlaps.without(source.kind, table, source.held)
    table, doubled = _ordered(source.kind, table)
    spans = day_rows.spans(source.kind, table)
    days = day_rows.days(source.kind, table, source.zone) if source.zone else {}
    join(made, Published(rows=table.num_rows, duplicates=doubled.total(), covered=covered, spans=spans, days=days))
    return table, doubled


def _ordered(kind: str, table: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """(the rows in the kind's order, one of each identity; rows left out, by symbol)."""
    table = table.unify_dictionaries().combine_chunks()
    if unsorted(table, tables.sort_columns(kind)):
        table = merge.in_order(kind, table)
    losers = merge.duplicates(kind, [functools.partial(_pieces, table)]).get(0)
    if losers is None or losers.is_empty():
        return table, Counter()
    lost = Counter(table.column("symbol").take(losers.to_arrow()).to_pylist())
    kept = pl.int_range(table.num_rows, eager=True)
    return table.take(kept.filter(~kept.is_in(losers.implode())).to_arrow()), lost


def _pieces(table: pa.Table, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    yield table if columns is None else table.select(list(columns))


class _SetAside(msgspec.Struct):
    """One line of a quarantine file."""

    number: int
    reason: str
    line: str | None


def _set_aside(root: Path, source: FileSource, bad: pl.DataFrame, now: int) -> QuarantineRow:
    """Writes refused rows with their line and reason; the same rows are always the same file."""
    row, data = _told(source, bad, now)
    durable.make_dirs((root / row.path).parent)
    durable.write_file(root / row.path, data)
    return row


def _told(source: FileSource, bad: pl.DataFrame, now: int) -> tuple[QuarantineRow, bytes]:
    rows = [_SetAside(number, reason, line) for number, reason, line in bad.iter_rows()]
    data = msgspec.json.Encoder().encode_lines(rows)
    path = layout.quarantine_path(source.session, f"lines-{hashlib.sha256(data).hexdigest()[:8]}")
    more = f" (and {len(rows) - 1} more lines)" if len(rows) > 1 else ""
    reason = f"line {rows[0].number}: {rows[0].reason}"[:SHOWN] + more
    row = QuarantineRow(path=path, origin=source.session, reason=reason, count=len(rows), bytes=len(data), at=now)
    return row, data


def _reasons(bad: pl.DataFrame) -> Counter[str]:
    """Refused rows by reason, of which `name: what: value` is told without the value."""
    whole = Counter(str(reason) for reason in bad[typed.BAD])
    told: Counter[str] = Counter()
    for reason, count in whole.items():
        name, *what = reason.split(": ")
        told[f"{name}: {what[0]}" if what and " " not in name else name] += count
    return told


def _tally(total: dict[str, int], more: Mapping[str, int]) -> None:
    for reason, count in more.items():
        known = reason in total or len(total) < MOST_REASONS
        total[reason if known else "else"] = total.get(reason if known else "else", 0) + count
