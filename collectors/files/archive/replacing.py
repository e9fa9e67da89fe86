"""A file that its publisher has changed, against the rows of its earlier version: what is otherwise, and the days.

Work of any process, an hour of rows at a time; nothing in the lake is touched. Rows of other sources stay as they are,
and so does what both versions have: only what differs comes from the new one. A candle that changed is a new revision
beside the old one, which is never taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from collectors.adapters.archives import LINES
from collectors.files.archive.facts import Allowed, Facts
from collectors.files.archive.refused import Refused
from collectors.files.archive.rows import Reading
from collectors.files.archive.series import ArchiveFile
from collectors.files.archive.unpacking import blocks
from collectors.files.archive.zips import Caps
from lake import adopting, merge, parquet, tables
from lake.adopting import FileSource
from lake.digest import canonical_lines
from lake.publish import Placement, publish
from lake.rows import FileRow
from market import kinds
from market.times import DAY, HOUR, Interval, parse

NEW, PARTS = "new", "parts"
"""Folders below a job's own: the rows of the new version, and the days as they are to be."""
EXAMPLES = 5
_LINE, _ROW = "#line", "#row"


class Job(msgspec.Struct, frozen=True):
    """`days` are the daily files that there are (date -> file), `sessions` those of the earlier versions."""

    root: str
    folder: str
    source: FileSource
    file: ArchiveFile
    path: str
    allowed: Allowed
    caps: Caps
    days: dict[str, FileRow]
    sessions: tuple[str, ...]
    now: int


class DayChange(msgspec.Struct):
    """One date: how many rows are otherwise, and the files below PARTS with all rows as they would be."""

    date: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    parts: list[FileRow] = []


class Changes(msgspec.Struct):
    """What a new version changes, with some of the rows in words."""

    days: list[DayChange]
    facts: Facts
    coverage: list[Interval]
    rows: int = 0
    examples: list[str] = []


def compare(job: Job) -> Changes:
    """Raises Refused, CorruptFile, StorageFailed."""
    reading = Reading(job.file, job.allowed)
    new = Path(job.folder) / NEW
    with Path(job.path).open("rb") as opened:
        lines = blocks(opened, job.file, job.caps)
        made = adopting.publish_rows(new, job.source, reading.batches(lines), run="archive", now=job.now)
    if made.quarantine:
        what = f"{made.quarantined:,} of its lines cannot be rows ({made.quarantine[0].reason})"
        raise Refused(job.file.name, "value", what, "the version before it stays; ask its publisher")
    found = Changes([], reading.facts, reading.coverage, made.rows, examples=[])
    for date in sorted({*job.days, *(row.date for row in made.files)}):
        parts = [new / row.path for row in made.files if row.date == date]
        day = _Day(job, date, parts, found.examples).compared()
        if day.removed and not day.parts:
            what = f"it has no row of {date} any more, and its version before had {day.removed:,}"
            raise Refused(job.file.name, "changed", what, "the version before it stays; ask its publisher")
        if day.added or day.changed or day.removed:
            found.days.append(day)
    return found


class _Day:
    def __init__(self, job: Job, date: str, parts: Sequence[Path], examples: list[str]) -> None:
        self.job = job
        self.kind = job.source.kind
        dataset = job.file.series.dataset
        self.counted = dataset.identity == LINES
        """Whether its rows have no ids: equal ones are counted."""
        self.keys = ["symbol", *dataset.identity]
        self.symbol = job.file.series.symbol
        self.parts = parts
        self.base = job.days.get(date)
        self.found = DayChange(date, parts=[])
        self.examples = examples

    def compared(self) -> DayChange:
        start = parse(self.found.date)
        held = [Path(self.job.root) / self.base.path] if self.base is not None else []
        if self.base is not None:
            parquet.check_sha256(held[0], self.base.sha256)
        for hour in range(DAY // HOUR):
            span = Interval(start + hour * HOUR, start + (hour + 1) * HOUR)
            self._hour(hour, self._rows(held, span), self._rows(self.parts, span))
        return self.found

    def _rows(self, paths: Sequence[Path], span: Interval) -> pa.Table:
        pieces = [tables.empty(self.kind)]
        for path in paths:
            pieces += parquet.iterate(path, between=(span.start, span.end - 1))
        table = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
        at = table.column("ts_event").cast(pa.int64())
        return table.filter(pc.and_(pc.greater_equal(at, span.start), pc.less(at, span.end)))

    def _hour(self, hour: int, lake: pa.Table, mine: pa.Table) -> None:
        if not lake.num_rows and not mine.num_rows:
            return
        ours = pc.and_(
            pc.is_in(lake.column("session").cast(pa.string()), pa.array(self.job.sessions, pa.string())),
            pc.equal(lake.column("symbol").cast(pa.string()), self.symbol),
        )
        kept, old_table = lake.filter(pc.invert(ours)), lake.filter(ours)
        old, new = self._keyed(old_table), self._keyed(mine)
        if self.kind != "kline" and not self.counted:  # elsewhere what came first is the row, whatever its source
            new = new.join(self._keyed(kept), on=self.keys, how="anti")
        if self.kind == "kline":
            old = old.sort("revision").unique(self.keys, keep="last", maintain_order=True)
        both = old.join(new, on=self.keys, suffix="_new")
        changed = both.head(0) if self.counted else both.filter(pl.col(_LINE) != pl.col(f"{_LINE}_new"))
        added = new.join(old, on=self.keys, how="anti")
        removed = old.join(new, on=self.keys, how="anti")
        self._say(changed, added, removed)
        self.found.changed += changed.height
        self.found.added += added.height
        self.found.removed += removed.height if self.kind != "kline" else 0
        gone = [] if self.kind == "kline" else [*changed[_ROW], *removed[_ROW]]
        come = mine.take(pa.array([*changed[f"{_ROW}_new"], *added[_ROW]], pa.int64()))
        if self.kind == "kline":
            numbers = pa.array([*(n + 1 for n in changed["revision"]), *([0] * added.height)], pa.int64())
            come = come.set_column(come.column_names.index("revision"), "revision", numbers)
        stays = pl.int_range(old_table.num_rows, eager=True).is_in(gone).not_()
        rows = pa.concat_tables([kept, old_table.filter(stays.to_arrow()), come])
        self._write(hour, rows.unify_dictionaries().combine_chunks())

    def _keyed(self, table: pa.Table) -> pl.DataFrame:
        """The keys of some rows, their numbers, and what they say (of candles without their revision)."""
        content = table
        if self.kind == "kline":
            none = pa.array([0] * table.num_rows, pa.int64())
            content = table.set_column(table.column_names.index("revision"), "revision", none)
        lines = canonical_lines(content, self.kind) if table.num_rows else pl.Series([], dtype=pl.String)
        names = [name for name in (*self.keys, "revision") if name in table.column_names]
        frame = merge.plain_frame(table.select(names)).with_columns(
            pl.int_range(table.num_rows, eager=True).alias(_ROW), lines.alias(_LINE)
        )
        return frame.with_columns(pl.int_range(pl.len()).over(_LINE).alias("#nth"))

    def _say(self, changed: pl.DataFrame, added: pl.DataFrame, removed: pl.DataFrame) -> None:
        for word, rows in (("changed", changed), ("added", added), ("removed", removed)):
            shown = sum(text.startswith(word) for text in self.examples)
            for row in rows.head(max(0, EXAMPLES - shown)).iter_rows(named=True):
                after = f" -> {_plain(row[f'{_LINE}_new'])}" if word == "changed" else ""
                self.examples.append(f"{word}: {_plain(row[_LINE])}{after}")

    def _write(self, hour: int, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        source = self.job.source
        symbol = self.symbol if kinds.kind(self.kind).grain == "symbol" else None
        place = Placement(
            kind=self.kind, exchange=source.exchange, market_type=source.market_type, level="part",
            date=self.found.date, hour=hour, symbol=symbol,
        )  # fmt: skip
        out = Path(self.job.folder) / PARTS
        self.found.parts.append(publish(out, place, [merge.in_order(self.kind, rows)], run="archive", now=0))


def _plain(line: str) -> str:
    """A canonical line for people: nothing as `-`."""
    return " ".join(value or "-" for value in line.rstrip("\n").split("\t"))
